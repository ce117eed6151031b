"""Explainer: logits and the maps of all asked labels from one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.capture import capture
from torchvice.explain.maps import map_status
from torchvice.explain.methods import Method, method_named
from torchvice.models.families import MapSite, linear_head, locate, module_at, token_grid

__all__ = ["Explainer", "Explanation"]


@dataclass(frozen=True)
class Explanation:
    """What one pass gave.

    `logits` (N, C); `pairs` (P, 2) int64 of image index and class; `maps` (P, h, w) float32, signed, before ReLU and
    normalisation, on the model's device; `status` (P,) "ok", "zero", "constant" or "nan", of the map after ReLU.
    """

    logits: torch.Tensor
    pairs: torch.Tensor
    maps: torch.Tensor
    status: tuple[str, ...]


class Explainer:
    """Class activation maps of any timm network, several labels an image, in one forward pass.

    Args:
        model: the network; it comes back as it was (hooks, modes, gradients), also after an error.
        method: "cam" (class activation mapping: for networks that end in mean pooling and a linear layer), "gradcam",
            or "auto", which is "cam" where that is exact and "gradcam" elsewhere.
        layer: a module's name, if not the one that is resolved from the network's family; its output is taken.
        site: the same with its layout, for networks whose layer gives no (N, D, h, w).
        class_map: for every class of the data the model's outputs that mean it; the logit is the largest of theirs.
            None: the model's outputs are the classes.

    Attributes:
        method: the method's name. site: the layer in use.

    Raises:
        ViceError: an unknown method or layer, or "cam" for a network that it does not fit.

    Example:
        >>> import timm, torch
        >>> explainer = Explainer(timm.create_model("test_resnet", num_classes=3))
        >>> found = explainer(torch.zeros(1, 3, 64, 64), [[0, 2]])
        >>> explainer.method, tuple(found.logits.shape), tuple(found.maps.shape)
        ('cam', (1, 3), (2, 2, 2))
    """

    def __init__(
        self,
        model: nn.Module,
        method: str = "auto",
        *,
        layer: str | None = None,
        site: MapSite | None = None,
        class_map: Sequence[Sequence[int]] | None = None,
    ) -> None:
        if layer is not None and site is not None:
            raise ViceError("A layer is named once, but both `layer` and `site` are given.", "`site` names it too.")
        self.model = model
        self.site = site or self._site_of(layer)
        module_at(model, self.site.layer)
        self._head = linear_head(model, self.site) if method in ("auto", "cam") else None
        if method == "cam" and self._head is None:
            raise ViceError(
                f"'cam' must have a network that ends in mean pooling and one linear layer, but "
                f"{type(model).__name__} does not at `{self.site.layer}`.",
                "Use method='gradcam', which fits every network.",
            )
        self._method: Method = method_named(
            ("cam" if self._head is not None else "gradcam") if method == "auto" else method
        )
        self.class_map = None if class_map is None else [list(outputs) for outputs in class_map]

    @property
    def method(self) -> str:
        """The name of the method in use."""
        return self._method.name

    def _site_of(self, layer: str | None) -> MapSite:
        if layer is None:
            return locate(self.model)
        module_at(self.model, layer)
        try:
            known = locate(self.model)
        except ViceError:
            return MapSite(layer)
        # Another layer of a transformer has the layout of the one that its family names.
        return MapSite(layer, "output", known.layout, known.prefix_tokens)

    def __call__(self, images: torch.Tensor, labels: Sequence[Sequence[int]] | torch.Tensor) -> Explanation:
        """Explain.

        Args:
            images: (N, 3, H, W), normalised as the model wants it, on the model's device.
            labels: for every image its class indices, or a (N, C) tensor of 0 and 1.

        Returns:
            Explanation; its pairs are in the order of images, then of the labels as given.

        Raises:
            ViceError: shapes that do not fit, a class beyond the logits, or a layer that the pass does not reach.
        """
        if images.ndim != 4:
            raise ViceError(f"`images` must be (N, 3, H, W), but has shape {tuple(images.shape)}.")
        asked = _pairs(labels, len(images))
        needs_gradient = self._method.needs == "gradients" and len(asked) > 0
        with capture(self.model, self.site, needs_gradient) as captured:
            images = images.clone() if images.is_inference() else images
            outputs = self._forward(images)
            if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
                raise ViceError("The model must give logits (N, C), but gives something else.", "Explain a classifier.")
            if captured.leaf is None:
                raise ViceError(f"`{self.site.layer}` must take part in the forward pass, but was not reached.")
            logits, source = self._classes_of(outputs)
            pairs = torch.tensor(asked, dtype=torch.int64).reshape(-1, 2).to(logits.device)
            if len(asked) and int(pairs[:, 1].max()) >= logits.shape[1]:
                raise ViceError(f"A label must be below {logits.shape[1]}, but is {int(pairs[:, 1].max())}.")
            wanted = source[pairs[:, 0], pairs[:, 1]]
            grid = token_grid(self.model, images) if self.site.layout == "tokens" else None
            # The model runs in the caller's precision, maps are made in float32, whatever autocast says.
            with torch.autocast(images.device.type, enabled=False):
                activations = self.site.to_maps(captured.leaf.detach(), grid).float()
                if self._method.needs == "weights":
                    maps = self._weighted(activations, pairs[:, 0], wanted)
                else:
                    maps = self._graded(outputs, captured.leaf, activations, pairs[:, 0], wanted, grid)
        maps = maps.detach().float()
        return Explanation(logits.detach(), pairs, maps, map_status(maps))

    def _forward(self, images: torch.Tensor) -> Any:
        try:
            return self.model(images)
        except AssertionError as error:  # timm's networks of one size say so this way
            reason = str(error).rstrip(".") or "an assertion of its own"
            size = f"{images.shape[2]} x {images.shape[3]}"
            raise ViceError(
                f"{type(self.model).__name__} must accept images of {size}, but says: {reason}.",
                "Give them at the network's own size.",
            ) from None

    def _classes_of(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The data's logits (N, C) and the model's output (N, C) that each comes from."""
        if self.class_map is None:
            return outputs, torch.arange(outputs.shape[1], device=outputs.device).expand(outputs.shape)
        logits, source = [], []
        for group in self.class_map:
            if not group or max(group) >= outputs.shape[1] or min(group) < 0:
                raise ViceError(f"`class_map` must name outputs 0 to {outputs.shape[1] - 1}, but holds {group}.")
            index = torch.tensor(group, device=outputs.device)
            best = outputs[:, index].max(dim=1)
            logits.append(best.values)
            source.append(index[best.indices])
        return torch.stack(logits, 1), torch.stack(source, 1)

    def _weighted(self, activations: torch.Tensor, image: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """CAM: the classifier's weights of a class weigh the channels; its bias is not used."""
        assert self._head is not None  # checked when the explainer was made
        weights = self._head.weight.detach().float()
        # All labels at once for each image: the maps are small, a gather of activations per pair would not be.
        return torch.einsum("pd,pdhw->phw", weights[output], activations[image])

    def _graded(
        self,
        outputs: torch.Tensor,
        leaf: torch.Tensor,
        activations: torch.Tensor,
        image: torch.Tensor,
        output: torch.Tensor,
        grid: tuple[int, int] | None,
    ) -> torch.Tensor:
        """Gradient methods: the k-th label of every image in one backward pass, from the logits to the site."""
        maps = activations.new_zeros((len(image), *activations.shape[2:]))
        turns = _turns(image.tolist())
        for k in range(max(turns, default=-1) + 1):
            rows = torch.tensor([row for row, turn in enumerate(turns) if turn == k], device=image.device)
            with torch.enable_grad():
                score = outputs[image[rows], output[rows]].sum()
                (slope,) = torch.autograd.grad(score, leaf, retain_graph=k < max(turns))
            gradients = self.site.to_maps(slope, grid).float()[image[rows]]
            if not bool(gradients.any()) and bool(activations.any()):
                raise ViceError(
                    f"The gradient at `{self.site.layer}` must not vanish, but is zero for every place.",
                    "Name an earlier layer: behind this one the head does not look at the map.",
                )
            maps[rows] = self._combined(activations[image[rows]], gradients)
        return maps

    def _combined(self, activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        assert self._method.combine is not None
        return self._method.combine(activations, gradients)


def _pairs(labels: Sequence[Sequence[int]] | torch.Tensor, n: int) -> list[tuple[int, int]]:
    """(image, class) for every asked label."""
    if isinstance(labels, torch.Tensor):
        if labels.ndim != 2:
            raise ViceError(f"`labels` must be (N, C) of 0 and 1, but has shape {tuple(labels.shape)}.")
        labels = [row.nonzero().flatten().tolist() for row in labels]
    if len(labels) != n:
        raise ViceError(f"`labels` must hold one list for each of the {n} images, but holds {len(labels)}.")
    pairs = [(i, int(c)) for i, row in enumerate(labels) for c in row]
    if any(c < 0 for _, c in pairs):
        raise ViceError(f"A label must be a class index from 0 on, but is {min(c for _, c in pairs)}.")
    return pairs


def _turns(images: Sequence[Any]) -> list[int]:
    """How often each image came before: the backward pass in which its pair is served."""
    seen: dict[Any, int] = {}
    turns = []
    for image in images:
        turns.append(seen.get(image, 0))
        seen[image] = turns[-1] + 1
    return turns
