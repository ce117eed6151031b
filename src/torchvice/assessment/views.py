"""Views: what the model is shown of an image under each protocol, and how its maps come back to the image's size.

`strict` resizes the whole image once: one forward pass gives logits and map. `paper` shows three views: a centre crop
for the loss, the whole image and its mirror image for a convolutional network's map, a square warp for a transformer's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from torchvice.data.transforms import center_crop, normalise, uncrop, warp
from torchvice.errors import ViceError
from torchvice.explain import Choices, Explainer, map_status, paper_choices, upsample
from torchvice.explain import normalise as normalise_maps
from torchvice.explain.kind import is_convolutional
from torchvice.explain.maps import Normalisation
from torchvice.explain.memory import halve_on_oom
from torchvice.models.build import preprocessing
from torchvice.models.families import input_size

__all__ = [
    "View",
    "ViewOutput",
    "check_layers",
    "is_convolutional",
    "paper_view",
    "resolve_device",
    "strict_view",
    "views_of",
]


@dataclass(frozen=True)
class ViewOutput:
    """What one view of one image gave.

    `logits` (C,) float32; `classes` the explained ones; `maps` one low-resolution array for each, signed where the view
    is one pass, else summed or averaged over the passes after their ReLU; `status` of each; `full(size)` the normalised
    maps (M, H, W) float32 at that size, made when asked for.
    """

    logits: np.ndarray
    classes: list[int]
    maps: list[np.ndarray]
    status: list[str]
    full: Callable[[tuple[int, int]], np.ndarray]


class View:
    """A way of looking at images.

    Args:
        protocol: `paper` or `strict`.
        explainer: gives logits and maps.
        side: pixels of a square view and of the centre crop.
        choices: how the maps are made.
        logits_from: "view": the first pass of the maps gives the logits too; "crop": the centre crop does.
        batch_size: images a pass.
        mean, std, device: how pixels become a tensor, and where.
        flipped: the mirror image is shown in the image's place, and its maps are mirrored back.
        exclusive: the predicted label is the likeliest one, rather than all whose logit is above 0.
        explanation: the id of its maps; None: the protocol and the method.

    Attributes:
        name: of the view that the logits belong to. explanation: the id of its maps. settings: what the manifest says.
    """

    def __init__(
        self,
        protocol: str,
        explainer: Explainer,
        side: int,
        choices: Choices,
        logits_from: str,
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        flipped: bool = False,
        exclusive: bool = False,
        explanation: str | None = None,
    ) -> None:
        self.flipped, self.exclusive = flipped, exclusive
        self._given: dict[str, Any] = {"protocol": protocol, "logits_from": logits_from}
        self.explainer, self.side, self.choices, self.batch_size = explainer, side, choices, batch_size
        self.mean, self.std, self.device = mean, std, device
        self.apart = logits_from == "crop" and choices.view != "crop"
        shown = "whole" if choices.view == "whole" else f"{choices.view}{side}"
        self.name = f"crop{side}" if self.apart else shown
        self.explanation = explanation or f"{protocol}:{explainer.method}"
        self.settings: dict[str, Any] = {
            "protocol": protocol,
            "method": explainer.method,
            "site": explainer.site.to_dict(),
            "seed": explainer.seed,
            **choices.to_dict(),
            "view": shown,
            "eigen_smooth": explainer.eigen_smooth,
            "flipped": flipped,
        }

    def __repr__(self) -> str:
        chosen = [f"{name}={value!r}" for name, value in self.choices.differing().items() if name != "view"]
        chosen += ["flipped"] if self.flipped else []
        said = [self.explanation, f"logits on {self.name}", f"maps on {self.settings['view']}", *chosen]
        return f"View({', '.join(said)}, {self.explainer!r})"

    def variant(
        self, explanation: str, explainer: Explainer | None = None, flipped: bool = False, **choices: Any
    ) -> View:
        """The same view with another explainer, with the mirror image or with other choices, under an id of its own."""
        return View(
            explainer=explainer or self.explainer,
            side=self.side,
            choices=replace(self.choices, **choices),
            batch_size=self.batch_size,
            mean=self.mean,
            std=self.std,
            device=self.device,
            flipped=flipped,
            exclusive=self.exclusive,
            explanation=explanation,
            **self._given,
        )

    def look(
        self, images: Sequence[np.ndarray], targets: np.ndarray, explained: Sequence[bool] | None = None
    ) -> Iterator[tuple[int, ViewOutput]]:
        """Show images and yield (position, ViewOutput), in an order of its own.

        Args:
            images: (H, W, 3) uint8 each.
            targets: (N, C), 0 or 1, the true labels.
            explained: whether the maps of an image are wanted; None: of all.
        """
        wanted = [True] * len(images) if explained is None else list(explained)
        logits: dict[int, np.ndarray] = {}
        if self.apart:
            for part in _chunks(range(len(images)), self.batch_size):
                logits.update(zip(part, self._halving(part, lambda some: self._crop_logits(images, some)), strict=True))
        for part in self._groups(images, [i for i in range(len(images)) if wanted[i] or not self.apart]):
            found = self._halving(part, lambda some: self._explained(images, targets, wanted, some))
            for position, seen in zip(part, found, strict=True):
                yield position, replace(seen, logits=logits[position]) if self.apart else seen
        for i in (i for i in range(len(images)) if self.apart and not wanted[i]):
            yield i, ViewOutput(logits[i], [], [], [], _nothing)

    def _halving(self, part: Sequence[int], work: Callable[[Sequence[int]], list[Any]]) -> list[Any]:
        return halve_on_oom(part, work, self._shrink)

    def _shrink(self, size: int) -> None:
        self.batch_size = min(self.batch_size, size)
        self.explainer.batch_size = min(self.explainer.batch_size, size)

    def _crop_logits(self, images: Sequence[np.ndarray], part: Sequence[int]) -> list[np.ndarray]:
        crops = torch.stack([center_crop(self._tensor(images[i]), self.side) for i in part]).to(self.device)
        return list(self.explainer(crops, [[]] * len(part)).logits.float().cpu().numpy())

    def _tensor(self, image: np.ndarray) -> torch.Tensor:
        return normalise(image, self.mean, self.std)

    def _groups(self, images: Sequence[np.ndarray], members: list[int]) -> Iterator[Sequence[int]]:
        """Batches that can go through together: of one size, and no more pixels than a batch of square views."""
        if self.choices.view != "whole":
            yield from _chunks(members, self.batch_size)
            return
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i in members:
            by_size[images[i].shape[:2]].append(i)
        passes = 2 if self.choices.mirror else 1
        for (height, width), same in by_size.items():
            yield from _chunks(same, max(1, self.batch_size * self.side**2 // (passes * height * width)))

    def pixels(self, image: np.ndarray) -> torch.Tensor:
        """(3, H, W) what the first pass of a map shows of an image (H, W, 3) uint8, normalised, on the CPU."""
        shown = self._shown(image, self.choices.scales[0])
        return shown.flip(-1) if self.flipped else shown

    def shown_size(self, image: np.ndarray, scale: float | None = None) -> tuple[int, int]:
        """(H, W) of what is shown of an image; None: of the first pass."""
        if self.choices.view == "crop":
            return self.side, self.side
        scale = self.choices.scales[0] if scale is None else scale
        sides = (self.side, self.side) if self.choices.view == "warp" else image.shape[:2]
        return max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale))

    def _shown(self, image: np.ndarray, scale: float) -> torch.Tensor:
        if self.choices.view == "crop":
            return center_crop(self._tensor(image), self.side)
        size = self.shown_size(image, scale)
        return self._tensor(image if size == image.shape[:2] else warp(image, size))

    def _labels(self, targets: np.ndarray, wanted: list[bool]) -> Any:
        """What the explainer is asked for: fixed labels, or a function of the logits."""
        if self.choices.labels == "true":
            return [np.flatnonzero(row).tolist() for row in targets]
        if isinstance(self.choices.labels, tuple):
            return [list(self.choices.labels) if want else [] for want in wanted]
        true = torch.as_tensor(targets, dtype=torch.bool) & (self.choices.labels == "both")
        keep = torch.as_tensor(wanted)[:, None]
        predicted = _likeliest if self.exclusive else _above_zero
        return lambda logits: (predicted(logits).cpu() | true) & keep

    def _explained(
        self, images: Sequence[np.ndarray], targets: np.ndarray, wanted: Sequence[bool], part: Sequence[int]
    ) -> list[ViewOutput]:
        """Logits and maps of some images, over all scales and mirrorings; the first pass gives logits and labels."""
        labels = self._labels(np.array([targets[i] * wanted[i] for i in part]), [wanted[i] for i in part])
        passes: list[torch.Tensor] = []
        for turn, scale in enumerate(self.choices.scales):
            batch = torch.stack([self._shown(images[i], scale) for i in part]).to(self.device)
            if self.flipped:
                batch = batch.flip(-1)
            if self.choices.mirror:
                batch = torch.cat([batch, batch.flip(-1)])
                labels = _twice(labels)
            found = self.explainer(batch, labels)
            if turn == 0:
                logits = found.logits[: len(part)].float().cpu().numpy()
                pairs = found.pairs[found.pairs[:, 0] < len(part)].tolist()
                labels = [[c for i, c in pairs if i == row] for row in range(len(part))]
            halves = found.maps.split(len(pairs)) if len(pairs) else ()
            passes += [half.flip(-1) if (number == 1) != self.flipped else half for number, half in enumerate(halves)]
        seen = []
        for row in range(len(part)):
            mine = [p for p, (i, _) in enumerate(pairs) if i == row]
            seen.append(self._seen(logits[row], labels[row], [maps[mine] for maps in passes] if mine else []))
        return seen

    def _seen(self, logits: np.ndarray, classes: list[int], low: list[torch.Tensor]) -> ViewOutput:
        if not low:
            return ViewOutput(logits, [], [], [], _nothing)
        kept = low[0] if len(low) == 1 else self._combined(low, _finest(low))
        return ViewOutput(
            logits, classes, list(kept.cpu().numpy()), list(map_status(kept)), lambda size: self.finished(low, size)
        )

    def _combined(self, low: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        """The passes' maps after ReLU, resized and summed or averaged."""
        total = sum(upsample(maps.clamp(min=0), size) for maps in low[1:]) + upsample(low[0].clamp(min=0), size)
        return total / len(low) if self.choices.combine == "mean" else total

    def finished(self, low: list[torch.Tensor], size: tuple[int, int], how: Normalisation | None = None) -> np.ndarray:
        """The normalised maps (M, H, W) at the image's size, from those (M, h, w) of every pass; `how`: another way."""
        chosen = self.choices if how is None else replace(self.choices, normalisation=how)
        if chosen.normalisation != "paper":
            # A map that is not finite explains nothing: it counts as a miss, and its status says so.
            usable = torch.stack([torch.isfinite(maps).all(2).all(1) for maps in low]).all(0)[:, None, None]
            low = [torch.where(usable, maps, torch.zeros_like(maps)) for maps in low]
        target = (self.side, self.side) if chosen.view == "crop" else size
        if chosen.order == "resize-first":
            full = normalise_maps(self._combined(low, target), chosen.normalisation)
        else:
            small = [normalise_maps(maps.clamp(min=0), chosen.normalisation) for maps in low]
            if chosen.order == "normalise-first-via-view":
                small = [upsample(maps, (self.side, self.side)) for maps in small]
            full = self._combined(small, target)
        if chosen.view == "crop":
            full = uncrop(full, size)
        return full.cpu().numpy()


def _above_zero(logits: torch.Tensor) -> torch.Tensor:
    return logits > 0


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).bool()


def _twice(labels: Any) -> Any:
    """The labels of a batch for the batch and its mirror images."""
    if callable(labels):
        # What is asked of a mirror image is asked of the image, and that is what its own logits say.
        return lambda logits: torch.cat([labels(logits[: len(logits) // 2])] * 2)
    return list(labels) * 2


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _finest(low: list[torch.Tensor]) -> tuple[int, int]:
    best = max(low, key=lambda maps: maps.shape[1] * maps.shape[2])
    return int(best.shape[1]), int(best.shape[2])


def _nothing(size: tuple[int, int]) -> np.ndarray:
    return np.zeros((0, *size), np.float32)


def _side(explainer: Explainer, size: int | None, name: str) -> int:
    """The side of a square view: as asked, else the network's own."""
    if size is None:
        return max(input_size(explainer.model))
    if size < 1:
        raise ViceError(f"`{name}` must be a number of pixels from 1 on, but is {size}.")
    return size


def strict_view(
    explainer: Explainer, size: int | None, batch_size: int, choices: Choices | None = None, **pixels: Any
) -> View:
    """The view of `strict`: the whole image resized to `size` x `size` pixels (None: the network's input size).

    `choices` other than the default make it a labelled sensitivity; `pixels` are `mean`, `std` and `device` of a View.
    """
    side = _side(explainer, size, "view_size")
    return View("strict", explainer, side, choices or Choices(), "view", batch_size, **pixels)


def paper_view(explainer: Explainer, crop: int | None, batch_size: int, **pixels: Any) -> View:
    """The views of `paper`: logits on the centre crop of `crop` pixels, maps as published for the kind of network.

    `pixels` are `mean`, `std` and `device` of a View.
    """
    side = _side(explainer, crop, "crop")
    return View("paper", explainer, side, paper_choices(is_convolutional(explainer)), "crop", batch_size, **pixels)


def views_of(
    model: nn.Module,
    protocols: Sequence[str],
    *,
    method: str,
    layer: str | None,
    class_map: Sequence[Sequence[int]] | None,
    choices: Choices | None,
    view_size: int | None,
    crop: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    batch_size: int,
    device: str,
    exclusive: bool = False,
    passes: Callable[[int, int], None] | None = None,
) -> dict[str, View]:
    """The view of each protocol, the model moved to the device; arguments as for `torchvice.assess` and `View`.

    Raises:
        ViceError: a device that is not there; or as `Explainer`, `strict_view` and `paper_view`.
    """
    chosen = choices or Choices()
    check_layers(layer, chosen)
    place = resolve_device(device)
    model.to(place)
    common: dict[str, Any] = {"class_map": class_map, "eigen_smooth": chosen.eigen_smooth, "progress": passes}
    explainer = Explainer(model, method, layer=layer, **common)
    several = explainer
    if chosen.layers or chosen.aug_smooth:  # of `strict` alone: `paper` is as published
        how: dict[str, Any] = {"aug_smooth": chosen.aug_smooth, "scaled": chosen.scaled, "grid": chosen.grid}
        where: dict[str, Any] = {"layers": chosen.layers} if chosen.layers else {"layer": layer}
        several = Explainer(model, method, **where, **how, **common)
    expected = preprocessing(model)  # of a network that timm does not know: ImageNet's
    pixels: dict[str, Any] = {
        "mean": list(expected.mean if mean is None else mean),
        "std": list(expected.std if std is None else std),
        "device": place,
        "exclusive": exclusive,
    }
    views = {}
    for protocol in protocols:
        if protocol not in ("paper", "strict"):
            raise ViceError(f"`protocol` must be 'paper' or 'strict', but is {protocol!r}.")
        if protocol == "paper":
            views[protocol] = paper_view(explainer, crop, batch_size, **pixels)
        else:
            views[protocol] = strict_view(several, view_size, batch_size, choices, **pixels)
    return views


def check_layers(layer: str | None, choices: Choices | None) -> None:
    """Raise a ViceError where layers are named twice, as `layer` and among the choices."""
    if layer is not None and choices is not None and choices.layers:
        raise ViceError("A layer is named once, but both `layer` and the choice `layers` are given.")


def resolve_device(device: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        ViceError: it is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ViceError(f"The device {device!r} must be there, but is not: {reason}.", "Take --device cpu.") from None
    return place
