"""Explainer: logits and the maps of all asked labels from one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.capture import as_written, evaluating
from torchvice.explain.gradient import no_head
from torchvice.explain.maps import map_status
from torchvice.explain.methods import method_named
from torchvice.explain.scene import Scene
from torchvice.explain.several import Grid, Scaled, Several
from torchvice.models.families import MapSite, linear_head, locate, module_at

__all__ = ["Explainer", "Explanation"]


Fixed = Sequence[Sequence[int]] | torch.Tensor
Labels = Fixed | Callable[[torch.Tensor], Fixed] | Literal["predicted"]


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
        model: the network; it comes back as it was (hooks, modes, gradients), also after an error. A compiled one is
            explained as it was written: compiled code passes hooks by.
        method: one of `torchvice.explain.METHODS` (docs/explanations.md), or "auto": "cam" where the network ends in
            mean pooling and a linear layer, so that it is exact, and "gradcam" elsewhere.
        layer: a module's name, if not the one that is resolved from the network's family; its output is taken.
        site: the same with its layout, for networks whose layer gives no (N, D, h, w).
        seed: of methods that draw.
        batch_size: images a pass of methods that need many passes.
        progress: told (passes done, passes in all) by those methods.
        eigen_smooth: the first principal component of the weighted channels in place of their sum, its sign fixed (see
            `gradient.eigen_smooth`); for the methods that sum weighted channels.
        layers: several modules' names in place of one; the map is the mean of theirs, not negative.
        aug_smooth: the mean over six looks: the image and its mirror image, each times 0.9, 1 and 1.1, as published by
            pytorch-grad-cam. It takes six passes for each layer.
        scaled: "minmax" brings each map to [0, 1] before such a mean; "none" does not. See `several.Several`.
        grid: where maps of several layers meet: the "finest" of theirs, or the "image".
        class_map: for every class of the data the model's outputs that mean it; the logit is the largest of theirs.
            None: the model's outputs are the classes.

    Attributes:
        method: the method's name. site: the layer in use, the first of several.
        several: how several maps become one; None where there is one.

    Raises:
        ViceError: an unknown method or layer, "cam" for a network that it does not fit, `eigen_smooth` with a method
            that sums no channels, or several layers for one that is of none.

    Example:
        >>> import timm, torch
        >>> explainer = Explainer(timm.create_model("test_resnet", num_classes=3))
        >>> found = explainer(torch.zeros(1, 3, 64, 64), [[0, 2]])
        >>> explainer.method, tuple(found.logits.shape), tuple(found.maps.shape)
        ('cam', (1, 3), (2, 2, 2))
        >>> explainer
        Explainer('cam', ResNet, layer 'global_pool')
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
        eigen_smooth: bool = False,
        layers: Sequence[str] | None = None,
        aug_smooth: bool = False,
        scaled: Scaled = "minmax",
        grid: Grid = "finest",
    ) -> None:
        if sum(given is not None for given in (layer, site, layers)) > 1:
            way_out = "`site` names it too, `layers` names several."
            raise ViceError("A layer is named once, but two of `layer`, `site` and `layers` are given.", way_out)
        if batch_size < 1:
            raise ViceError(f"`batch_size` must be at least 1, but is {batch_size}.")
        self.model = model = as_written(model)
        with evaluating(self.model):  # to find a layer may take a pass
            sites = (site or self._site_of(layer),) if layers is None else tuple(map(self._site_of, layers))
        # Without layers or looks the choices of their mean are checked all the same.
        several = Several(sites, aug_smooth, scaled, grid)
        self.several = several if aug_smooth or layers is not None else None
        self.site = sites[0]
        module_at(model, self.site.layer)
        with evaluating(self.model):
            self._head = linear_head(model, self.site) if method in ("auto", "cam") else None
        if method == "auto":
            method = "cam" if self._head is not None else "gradcam"
        self._method = method_named(method)
        if method == "cam" and self._head is None:
            raise no_head(model, self.site)
        self._method.check(eigen_smooth, len(sites))
        self.class_map = None if class_map is None else [list(outputs) for outputs in class_map]
        self.seed, self.batch_size, self.progress = seed, batch_size, progress
        self.eigen_smooth = eigen_smooth

    def __repr__(self) -> str:
        layers = [self.site] if self.several is None else self.several.sites
        said = [repr(self.method), type(self.model).__name__, f"layer {'+'.join(repr(site.layer) for site in layers)}"]
        said += ["eigen_smooth"] if self.eigen_smooth else []
        if self.several is not None:
            said += ["aug_smooth"] if self.several.aug_smooth else []
            said += [f"scaled={self.several.scaled!r}", f"grid={self.several.grid!r}"]
        said += [] if self.class_map is None else [f"{len(self.class_map)} classes of its outputs"]
        return f"Explainer({', '.join(said)})"

    @property
    def method(self) -> str:
        """The name of the method in use."""
        return self._method.name

    def _site_of(self, layer: str | None) -> MapSite:
        if layer is None:
            return locate(self.model)
        module_at(self.model, layer)
        try:
            return locate(self.model, layer)
        except ViceError:  # the probe is not the user's image; what does not fit is said when it comes
            return MapSite(layer)

    def __call__(self, images: torch.Tensor, labels: Labels) -> Explanation:
        """Explain.

        Args:
            images: (N, 3, H, W), normalised as the model wants it, on the model's device.
            labels: for every image its class indices; or a (N, C) tensor of 0 and 1; or a function from the logits
                (N, C) to either; or "predicted", the classes whose logit is above 0.

        Returns:
            Explanation; its pairs are in the order of images, then of the labels as given.

        Raises:
            ViceError: shapes that do not fit, a class beyond the logits, or a layer that the pass does not reach.
        """
        if not isinstance(images, torch.Tensor) or not images.is_floating_point():
            came = f"dtype {images.dtype}" if isinstance(images, torch.Tensor) else type(images).__name__
            way_out = "Normalise them as the model wants it, with torchvision's transforms."
            raise ViceError(f"`images` must be a tensor of floating-point numbers, but is {came}.", way_out)
        if images.ndim != 4:
            raise ViceError(f"`images` must be (N, 3, H, W), but has shape {tuple(images.shape)}.")
        if isinstance(labels, str) and labels != "predicted":
            raise ViceError(f"`labels` must be class indices or 'predicted', but is {labels!r}.")
        asks: Fixed | Callable[[torch.Tensor], Fixed] = _predicted if isinstance(labels, str) else labels
        # Gradients do not exist under the caller's inference mode, nor for tensors that were made in it.
        with torch.inference_mode(False), torch.no_grad(), evaluating(self.model):
            images = images.clone() if images.is_inference() else images
            logits, asked, maps = self._pass(images, self.site, asks)
            if self.several is not None:
                again = [[c for image, c in asked if image == row] for row in range(len(images))]
                maps = self.several.mean(images, maps, lambda shown, site: self._pass(shown, site, again)[2])
            pairs = torch.tensor(asked, dtype=torch.int64).reshape(-1, 2).to(logits.device)
            return Explanation(logits, pairs, maps, map_status(maps))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C) the data's logits of images (N, 3, H, W), without maps and gradients.

        Raises:
            ViceError: as `Scene.forward` and `Scene.logits_of`.
        """
        with torch.no_grad(), evaluating(self.model):
            scene = Scene(self.model, images, self.site, None, [], class_map=self.class_map)
            return scene.logits_of(scene.forward(images))[0].detach()

    def _pass(
        self, images: torch.Tensor, site: MapSite, labels: Fixed | Callable[[torch.Tensor], Fixed]
    ) -> tuple[torch.Tensor, list[tuple[int, int]], torch.Tensor]:
        """Logits (N, C), the pairs, and their signed maps (P, h, w) at one layer."""
        n = len(images)
        scene = Scene(
            model=self.model,
            images=images,
            site=site,
            head=self._head,
            asked=[] if callable(labels) else _pairs(labels, n),
            ask=(lambda logits: _pairs(labels(logits), n)) if callable(labels) else None,
            class_map=self.class_map,
            seed=self.seed,
            batch_size=self.batch_size,
            progress=self.progress,
            eigen_smooth=self.eigen_smooth,
        )
        outputs, maps = self._method.run(scene)
        return scene.logits_of(outputs.detach())[0], scene.asked, maps.detach().float()


def _predicted(logits: torch.Tensor) -> torch.Tensor:
    return logits > 0


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
