"""Explainer: logits and the maps of all asked labels from one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.capture import evaluating
from torchvice.explain.gradient import no_head
from torchvice.explain.maps import map_status
from torchvice.explain.methods import method_named
from torchvice.explain.scene import Scene
from torchvice.models.families import MapSite, linear_head, locate, module_at

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
        seed: of methods that draw.
        batch_size: images a pass of methods that need many passes.
        progress: told (passes done, passes in all) by those methods.
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
        seed: int = 0,
        batch_size: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if layer is not None and site is not None:
            raise ViceError("A layer is named once, but both `layer` and `site` are given.", "`site` names it too.")
        self.model = model
        self.site = site or self._site_of(layer)
        module_at(model, self.site.layer)
        self._head = linear_head(model, self.site) if method in ("auto", "cam") else None
        if method == "auto":
            method = "cam" if self._head is not None else "gradcam"
        self._method = method_named(method)
        if method == "cam" and self._head is None:
            raise no_head(model, self.site)
        self.class_map = None if class_map is None else [list(outputs) for outputs in class_map]
        self.seed, self.batch_size, self.progress = seed, batch_size, progress

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
        # Gradients do not exist under the caller's inference mode, nor for tensors that were made in it.
        with torch.inference_mode(False), torch.no_grad(), evaluating(self.model):
            scene = Scene(
                self.model,
                images.clone() if images.is_inference() else images,
                self.site,
                self._head,
                asked,
                self.class_map,
                self.seed,
                self.batch_size,
                self.progress,
            )
            outputs, maps = self._method.run(scene)
            logits, _ = scene.logits_of(outputs.detach())
            maps = maps.detach().float()
            pairs = torch.tensor(asked, dtype=torch.int64).reshape(-1, 2).to(logits.device)
            return Explanation(logits, pairs, maps, map_status(maps))


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
