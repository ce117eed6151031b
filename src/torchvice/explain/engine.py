"""Explainer: logits and the maps of all requested labels from one forward pass."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from torchvice.errors import ViceError, as_whole, brief, to_numpy
from torchvice.explain.averaging import Grid, MapAverage, Scaled
from torchvice.explain.capture import eval_mode
from torchvice.explain.gradient import no_linear_head
from torchvice.explain.maps import map_status
from torchvice.explain.methods import method_named
from torchvice.explain.precision import Precision, autocast, check_precision, laid_out
from torchvice.explain.scene import Scene
from torchvice.explain.softmax import Given
from torchvice.models.adapt import taking_rgb, with_output
from torchvice.models.bare import bare, input_like
from torchvice.models.families import MapSite, linear_head, locate, located, module_at

__all__ = ["Explainer", "Explanation", "check_layer"]

Fixed = Sequence[Sequence[int]] | torch.Tensor | np.ndarray
Labels = Fixed | Callable[[torch.Tensor], Fixed] | Literal["predicted"]


@dataclass(frozen=True)
class Explanation:
    """Logits and maps of a batch.

    `logits` (N, C); `pairs` (P, 2) int64 of image index and class; `maps` (P, h, w) float32, signed, before ReLU and
    normalisation, on the model's device; `status` (P,) "ok", "zero", "constant" or "nan" of every map after its ReLU.
    """

    logits: torch.Tensor
    pairs: torch.Tensor
    maps: torch.Tensor
    status: tuple[str, ...]


class Explainer:
    """Class activation maps of any classifier, several labels an image, in one forward pass.

    Args:
        model: the network; its hooks, modes and gradients are restored, also after an error. It runs
            without the wrappers of torch.compile, DataParallel and DDP, since compiled code skips hooks. A network of
            one channel is shown the grey of RGB images.
        method: one of `torchvice.explain.METHODS` (docs/explanations.md), or "auto": "cam" if the network ends in mean
            pooling and a linear layer, where it is exact, else "gradcam".
        layer: name of the module whose output is explained; None: the one that the network's family determines.
        site: the same with its layout, for layers whose output is not (N, D, h, w). Methods of attention read its grid
            of patches, methods of pixels nothing.
        seed: seed of random methods.
        batch_size: images per pass, for methods that need many passes.
        progress: called with (passes done, total) by these methods.
        eigen_smooth: take the first principal component of the weighted channels instead of their sum, with a fixed
            sign (see `gradient.eigen_smooth`); for methods that sum weighted channels.
        layers: names of several modules instead of one; the map is the mean of theirs, not negative.
        aug_smooth: average over six copies: the image and its mirror image, each times 0.9, 1 and 1.1, as in
            pytorch-grad-cam. It takes six passes per layer.
        scaled: "minmax" scales each map to [0, 1] before such a mean; "none" does not. See `averaging.MapAverage`.
        grid: size at which several layers are averaged: the "finest" of their grids, or the "image".
        class_map: for every class of the data its outputs of the model; the largest is the class's logit. None: the
            model's outputs are the classes.
        output: which of several outputs of the model are the logits: key of a dict, field of an object, or number in a
            tuple. None: see `torchvice.models.bare.logits_in`.
        outputs: "logits"; "softmax": the logit of a class is the log-odds of its softmax probability, see
            `torchvice.explain.softmax.softmax_logits`; "log_softmax": the logarithm of that probability. The map of a
            class explains its largest output of the model in each case.
        precision: "bfloat16" or "float16" run the network under torch.autocast; logits and maps stay float32, and so do
            the products of methods that need them exact, such as transformer_attribution. None, or "float32": the
            precision of the weights.
        channels_last: whether images have their channels last in memory, which convolutions on GPUs prefer.

    Attributes:
        method: the method's name. site: the layer in use, the first of several.
        average: how several maps are averaged; None for a single map.
        probed: the model's outputs (1, M) for `torchvice.models.probe.probe_image`; None where no pass was needed to
            find the layer.

    Raises:
        ViceError: an unknown method or layer, "cam" for a network without a pooled linear head, `eigen_smooth` with a
            method that does not sum channels, or a layer with a method whose map is not of a layer.

    Example:
        >>> import timm, torch
        >>> explainer = Explainer(timm.create_model("test_resnet", num_classes=3))
        >>> explanation = explainer(torch.zeros(1, 3, 64, 64), [[0, 2]])
        >>> explainer.method, tuple(explanation.logits.shape), tuple(explanation.maps.shape)
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
        layers: str | Sequence[str] | None = None,
        aug_smooth: bool = False,
        scaled: Scaled = "minmax",
        grid: Grid = "finest",
        output: str | None = None,
        outputs: Given = "logits",
        precision: Precision | None = None,
        channels_last: bool = False,
    ) -> None:
        if (given := sum(value is not None for value in (layer, site, layers))) > 1:
            raise ViceError(f"Only one of `layer`, `site` and `layers` may be given, but {given} are.")
        batch_size = as_whole("batch_size", batch_size, 1, "images")
        if outputs not in get_args(Given):
            raise ViceError(f"`outputs` must be one of {', '.join(get_args(Given))}, but is {outputs!r}.")
        layers = [layers] if isinstance(layers, str) else layers
        model = bare(model)
        self.model = model = taking_rgb(model if output is None else with_output(model, output))
        self.probed: torch.Tensor | None = None
        check_precision(precision, model)
        self.precision, self.channels_last = precision, channels_last
        with eval_mode(model):  # finding a layer may take a pass
            sites = (site or self._site_of(layer),) if layers is None else tuple(map(self._site_of, layers))
        average = MapAverage(sites, aug_smooth, scaled, grid)  # checks its arguments even for a single map
        self.average = average if aug_smooth or layers is not None else None
        self.site = sites[0]
        module_at(model, self.site.layer)
        with eval_mode(model):
            self._head = linear_head(model, self.site) if method in ("auto", "cam") else None
        if method == "auto":
            method = "cam" if self._head is not None else "gradcam"
        self._method = method_named(method)
        if method == "cam" and self._head is None:
            raise no_linear_head(model, self.site)
        self._method.check(eigen_smooth, len(layers or ()))
        if layer is not None:
            check_layer(model, method, "layer")
        self.class_map = None if class_map is None else [list(outputs) for outputs in class_map]
        self.outputs: Given = outputs
        self.seed, self.batch_size, self.progress = seed, batch_size, progress
        self.eigen_smooth = eigen_smooth

    def __repr__(self) -> str:
        layers = [self.site] if self.average is None else self.average.sites
        parts = [repr(self.method), type(self.model).__name__, f"layer {'+'.join(repr(site.layer) for site in layers)}"]
        parts += ["eigen_smooth"] if self.eigen_smooth else []
        if self.average is not None:
            parts += ["aug_smooth"] if self.average.aug_smooth else []
            parts += [f"scaled={self.average.scaled!r}", f"grid={self.average.grid!r}"]
        parts += [] if self.outputs == "logits" else [f"outputs={self.outputs!r}"]
        parts += [f"precision={self.precision!r}"] if self.precision else []
        parts += ["channels_last"] if self.channels_last else []
        parts += [] if self.class_map is None else [f"{len(self.class_map)} classes of its outputs"]
        return f"Explainer({', '.join(parts)})"

    @property
    def method(self) -> str:
        """The name of the method in use."""
        return self._method.name

    @property
    def plugin(self) -> dict[str, str] | None:
        """The `file` and `sha256` that registered the method; None for the methods of torchvice."""
        return self._method.plugin

    def halve_batch(self) -> int:
        """Halve `batch_size`, where a pass needs too much memory; returns it, or 0 where it is 1 already."""
        if self.batch_size == 1:
            return 0
        self.batch_size = (self.batch_size + 1) // 2
        return self.batch_size

    def _site_of(self, layer: str | None) -> MapSite:
        if layer is not None:
            module_at(self.model, layer)
        try:
            site, self.probed = located(self.model, layer)
        except ViceError:
            if layer is None:
                raise
            return MapSite(layer)  # the probe is not the user's image, which may still work
        return site

    def __call__(self, images: torch.Tensor, labels: Labels) -> Explanation:
        """Explain a batch.

        Args:
            images: (N, 3, H, W), normalised as the model expects, on the model's device; cast to its precision.
            labels: class indices of every image; or a (N, C) tensor or array of 0 and 1; or a function from the logits
                (N, C) to either; or "predicted", the classes whose logit is above 0.

        Returns:
            Explanation; its pairs are in the order of images, then of the labels as given.

        Raises:
            ViceError: wrong shapes, a class beyond the logits, or a layer that the pass does not reach.
        """
        if not isinstance(images, torch.Tensor) or not images.is_floating_point():
            came = f"dtype {images.dtype}" if isinstance(images, torch.Tensor) else type(images).__name__
            way_out = "Normalise them as the model expects, with torchvision's transforms."
            raise ViceError(f"`images` must be a tensor of floating-point numbers, but is {came}.", way_out)
        if images.ndim != 4:
            raise ViceError(f"`images` must be (N, 3, H, W), but has shape {tuple(images.shape)}.")
        if isinstance(labels, str) and labels != "predicted":
            raise ViceError(f"`labels` must be class indices or 'predicted', but is {labels!r}.")
        requested: Fixed | Callable[[torch.Tensor], Fixed] = _predicted if isinstance(labels, str) else labels
        # The caller's inference mode allows no gradients, nor do tensors that were created in it.
        with torch.inference_mode(False), torch.no_grad(), eval_mode(self.model):
            images = self._taken(images.clone() if images.is_inference() else images)
            logits, pairs, maps = self._explain(images, self.site, requested)
            if self.average is not None:
                same = [[c for image, c in pairs if image == row] for row in range(len(images))]
                maps = self.average.mean(images, maps, lambda copies, site: self._explain(copies, site, same)[2])
            indices = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).to(logits.device)
            return Explanation(logits, indices, maps, map_status(maps))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Compute logits (N, C) of the data's classes for images (N, 3, H, W), without maps and gradients.

        Raises:
            ViceError: as `Scene.forward` and `Scene.logits_of`.
        """
        with torch.no_grad(), eval_mode(self.model):
            images = self._taken(images)
            scene = Scene(self.model, images, self.site, None, [], class_map=self.class_map, given=self.outputs)
            with autocast(self.precision, images.device.type):
                outputs = scene.forward(images)
            return scene.logits_of(self._given(outputs))[0].detach()

    def activations(self, images: torch.Tensor) -> torch.Tensor:
        """Compute what the explained layer holds for images (N, 3, H, W): (N, D, h, w) float32.

        Raises:
            ViceError: as `Scene.run_network`.
        """
        with torch.no_grad(), eval_mode(self.model):
            images = self._taken(images)
            with autocast(self.precision, images.device.type):
                return Scene(self.model, images, self.site, None, []).run_network(False).activations

    def _taken(self, images: torch.Tensor) -> torch.Tensor:
        """Images in the type of the weights, and in the chosen layout."""
        return laid_out(images.to(input_like(self.model).dtype), self.channels_last)

    def _given(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits in the type of the weights, also where the network ran in another."""
        return logits if self.precision is None else logits.float()

    def _explain(
        self, images: torch.Tensor, site: MapSite, labels: Fixed | Callable[[torch.Tensor], Fixed]
    ) -> tuple[torch.Tensor, list[tuple[int, int]], torch.Tensor]:
        """Compute logits (N, C), the pairs, and their signed maps (P, h, w) at one layer."""
        n = len(images)
        scene = Scene(
            model=self.model,
            images=images,
            site=site,
            head=self._head,
            pairs=[] if callable(labels) else _pairs(labels, n),
            pairs_from=(lambda logits: _pairs(labels(logits), n)) if callable(labels) else None,
            class_map=self.class_map,
            given=self.outputs,
            seed=self.seed,
            batch_size=self.batch_size,
            progress=self.progress,
            eigen_smooth=self.eigen_smooth,
        )
        with autocast(self.precision, images.device.type):
            outputs, maps = self._method.maps_of(scene)
        if maps.ndim != 3 or len(maps) != len(scene.pairs):
            raise ViceError(
                f"The method {self.method!r} must return maps ({len(scene.pairs)}, h, w), one for each pair, but "
                f"returns shape {tuple(maps.shape)}."
            )
        logits = scene.logits_of(self._given(outputs.detach()))[0]
        if isinstance(labels, torch.Tensor | np.ndarray) and labels.shape[1] != logits.shape[1]:
            message = f"`labels` must be (N, {logits.shape[1]}) of 0 and 1, but has shape {tuple(labels.shape)}."
            raise ViceError(message, "If it holds class indices: labels.tolist().")
        return logits, scene.pairs, maps.detach().float()


def check_layer(model: nn.Module, method: str, given: str) -> None:
    """Check that a layer that the user names is one that the map depends on.

    A network whose own layer is not found needs a named one for every method: it is not refused there, nor where the
    patches of attention may need its grid.

    Args:
        model: the network; a pass may be needed to find its own layer.
        method: one of METHODS, or "auto".
        given: the name of the user's argument, for the message.

    Raises:
        ViceError: the method's map is not of a layer.
    """
    if method == "auto" or (known := method_named(method)).reads == "layer":
        return
    try:
        with eval_mode(bare(model)):
            own = locate(bare(model))
    except ViceError:
        return
    if known.reads == "pixels" or own.layout == "tokens":
        raise known.without_layer(given)


def _predicted(logits: torch.Tensor) -> torch.Tensor:
    return logits > 0


def _pairs(labels: Fixed, n: int) -> list[tuple[int, int]]:
    """List (image, class) of every label."""
    if isinstance(labels, torch.Tensor | np.ndarray):
        if labels.ndim != 2:
            way_out = "One class an image: labels[:, None].tolist()." if labels.ndim == 1 else ""
            raise ViceError(f"`labels` must be (N, C) of 0 and 1, but has shape {tuple(labels.shape)}.", way_out)
        if not bool(((labels == 0) | (labels == 1)).all()):
            message = "`labels` must be (N, C) of 0 and 1, but holds other numbers."
            raise ViceError(message, "If it holds class indices: labels.tolist().")
        labels = [np.flatnonzero(row).tolist() for row in to_numpy(labels)]
    try:
        if len(labels) != n:
            raise ViceError(f"`labels` must hold one list for each of the {n} images, but holds {len(labels)}.")
        if any(getattr(c, "dtype", type(c)) in (bool, torch.bool) for row in labels for c in row):
            way_out = "Of True and False for every class: numpy.array(labels)."
            raise ViceError(f"`labels` must be class indices, but holds truth values: {brief(labels)}.", way_out)
        pairs = [(i, operator.index(c)) for i, row in enumerate(labels) for c in row]
    except TypeError:  # no list, or a row that is no list, or a label of another kind
        message = (
            f"`labels` must be a list of class indices for each image, such as [[3], [0, 5]], but is {brief(labels)}."
        )
        raise ViceError(message, "One class an image: [[c] for c in labels].") from None
    if any(c < 0 for _, c in pairs):
        raise ViceError(f"A label must be a class index of at least 0, but is {min(c for _, c in pairs)}.")
    return pairs
