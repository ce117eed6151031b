"""Interventions: whether the model still finds a label when its object, the background or a patch is replaced."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch.nn import functional

from torchvice.assessment.faithfulness import ByClass
from torchvice.assessment.images import Batch, Dataset
from torchvice.assessment.region import Region, image_of
from torchvice.data.filling import Filling, InterventionChoices, dilated, filled
from torchvice.data.transforms import uncrop
from torchvice.explain.memory import halve_on_oom
from torchvice.samples import FEATURES, Regions
from torchvice.samples.placing import box_of

if TYPE_CHECKING:
    from torchvice.assessment.views import View, ViewOutput

__all__ = ["Interventions", "lacks_answers", "lacks_interventions"]

OTHER_FILLINGS = 1 / 8  # share of the found pairs whose object is replaced in every other way as well
PATCHES = 100  # pairs of a class whose patch is covered, about
PATCH = 8  # a patch is this part of the shorter side, or a cell of the map: no map tells its place more exactly
ROOM = 0.5  # share of a hole that must lie off the object


@dataclass(eq=False)
class _Pair:
    """A true (image, class) pair whose object the view shows: what is shown, where it is, and what is found out.

    `image` (D, h, w) what the network is shown; `inside` (h, w) bool, where that is the image and not padding; `object`
    (h, w) bool, enlarged within the image; `found`, whether the class is found on the whole image; `chance`, numbers in
    [0, 1) that depend only on the image's id and the class.
    """

    position: int
    label: int
    image: torch.Tensor
    inside: torch.Tensor
    object: torch.Tensor
    found: bool
    chance: np.ndarray
    columns: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def background(self) -> torch.Tensor:
        """(h, w) bool, the pixels of the image without the object."""
        return self.inside & ~self.object

    @functools.cached_property
    def frame(self) -> tuple[slice, slice]:
        """The rows and columns of the view that show the image."""
        return _frame(self.inside)


class Interventions:
    """Replaces parts of the images of a dataset; made once for an assessment.

    Args:
        choices: what is replaced, and how.
        dataset: where images of other classes are read, for the filling "background".

    Attributes:
        partners: whether images must be read with their partners, whose objects give holes their shape.
    """

    def __init__(self, choices: InterventionChoices, dataset: Dataset) -> None:
        self.choices, self.dataset = choices, dataset
        self.partners = "object" in choices.treatments
        self.images_of = np.asarray(dataset.targets).sum(0)  # (C,) of each class

    def columns_of(self, batch: Batch, view: View, outputs: Mapping[int, ViewOutput]) -> dict[int, ByClass]:
        """By position and class, the columns of the true pairs of images, see `torchvice.samples.Regions`.

        Args:
            batch: the images; those without a region have no columns.
            view: the view that gave the logits and maps.
            outputs: the view's outputs by position in `batch`.
        """
        masked = [position for position in outputs if batch.masked[position]]
        columns: dict[int, ByClass] = {}
        for size, group, most in view.shown_groups(batch.images, masked):
            columns |= _Group(self, view, batch, outputs, group, size, most).columns()
        return columns


class _Group:
    """The pairs of a few images that are shown at one size; `most` of them pass the network at once."""

    def __init__(
        self,
        plan: Interventions,
        view: View,
        batch: Batch,
        outputs: Mapping[int, ViewOutput],
        group: Sequence[int],
        size: tuple[int, int],
        most: int,
    ) -> None:
        self.plan, self.choices, self.dataset = plan, plan.choices, plan.dataset
        self.view, self.batch, self.outputs = view, batch, outputs
        self.group, self.size, self.most = group, size, most
        self.side = self._patch_side()
        self.pairs = [pair for position in group for pair in self._pairs(position)]

    def _patch_side(self) -> int:
        grids = [self.outputs[position].maps[0].shape for position in self.group if self.outputs[position].maps]
        cell = max(-(-length // cells) for length, cells in zip(self.size, grids[0], strict=True)) if grids else 1
        return max(1, min(max(min(self.size) // PATCH, cell), min(self.size) // 2))

    def _pairs(self, position: int) -> Iterator[_Pair]:
        read, region = self.batch.reads[position], self.batch.reads[position].region
        assert region is not None
        image = self.view.pixels(read.image)
        inside = self._shown(np.ones(region.size, bool))
        logits = self.outputs[position].logits[None]
        for c in np.flatnonzero(self.batch.targets[position]).tolist():
            if region.holds(c) and (shown := self._enlarged(region, c)).any():
                found = bool(margins(logits, np.array([c]), self.view.exclusive)[0] > 0)
                yield _Pair(position, c, image, inside, shown & inside, found, self._chance(position, c))

    def _chance(self, position: int, c: int) -> np.ndarray:
        return np.random.default_rng(self._seed(position, c, 0)).random(2)

    def _seed(self, position: int, c: int, stream: int) -> int:
        text = f"{self.choices.seed} {stream} {c} {self.batch.image_ids[position]}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def _enlarged(self, region: Region, c: int) -> torch.Tensor:
        """(h, w) bool, the object of a class as the view shows it, enlarged."""
        shown = self._shown(region.object_of(c, self.choices.void))
        return dilated(shown[None, None], self.choices.dilation)[0, 0]

    def _shown(self, mask: np.ndarray, size: tuple[int, int] | None = None) -> torch.Tensor:
        """(h, w) bool, a mask (H, W) as the view shows it: every pixel that shows some of it.

        `size`: (h, w), None: that of the group.
        """
        plane = torch.from_numpy(np.ascontiguousarray(mask)).float()[None]
        box = box_of(str(self.view.settings["view"]), (mask.shape[0], mask.shape[1]))
        if box is not None:
            plane = uncrop(plane, box[2:], (-box[0], -box[1]))
        shown: torch.Tensor = functional.adaptive_max_pool2d(plane, size or self.size)[0] > 0
        return shown.flip(-1) if self.view.flipped else shown

    def columns(self) -> dict[int, ByClass]:
        """By position and class, what was measured."""
        treatments, filling = self.choices.treatments, self.choices.filling
        found = [pair for pair in self.pairs if pair.found]
        if "object" in treatments:
            self._measure("without_object", self.pairs, lambda pair: pair.object, filling)
            holes = {pair: hole for pair in found if (hole := self._hole(pair)) is not None}
            self._measure("with_hole", list(holes), holes.__getitem__, filling)
            some = [pair for pair in found if pair.chance[0] < OTHER_FILLINGS]
            for other in get_args(Filling):
                if other != filling:
                    self._measure(f"object_by_{other}", some, lambda pair: pair.object, other)
        if "background" in treatments:
            self._measure("without_background", self.pairs, lambda pair: pair.background, filling)
        if "noise" in treatments:
            self._measure("noisy_object", self.pairs, lambda pair: pair.object, None)
            self._measure("noisy_background", self.pairs, lambda pair: pair.background, None)
        if "patch" in treatments:
            self._patches(found)
        by_position: dict[int, ByClass] = {position: {} for position in self.group}
        for pair in self.pairs:
            by_position[pair.position][pair.label] = pair.columns
        return by_position

    def _measure(
        self, column: str, pairs: Sequence[_Pair], where: Callable[[_Pair], torch.Tensor], how: Filling | None
    ) -> None:
        """Put the margin of each pair's class with the pixels `where` replaced, or noisy where `how` is None."""
        for start in range(0, len(pairs), self.most):
            part = pairs[start : start + self.most]
            images = self._stacked([pair.image for pair in part])
            gone = self._stacked([where(pair) for pair in part])[:, None]
            if how is None:
                sigma = images.new_tensor(self.view.std)[:, None, None].reciprocal() * self.choices.sigma
                changed = torch.where(gone, images + sigma * self._stacked(self._noise(part)), images)
            else:
                noise = self._stacked(self._noise(part)) if how == "noise" else None
                other = self._stacked([self._stranger(pair) for pair in part]) if how == "background" else None
                inside = self._stacked([pair.inside for pair in part])[:, None]
                changed = filled(images, gone, how, noise=noise, other=other, shown=inside)
            logits, exclusive = self._logits(part, changed), self.view.exclusive
            own = margins(logits, np.array([pair.label for pair in part]), exclusive)
            for pair, margin in zip(part, own, strict=True):
                pair.columns[column] = float(margin)
            if column == "without_object" and exclusive:
                answers = logits.argmax(axis=1)
                for pair, answer, margin in zip(part, answers, margins(logits, answers, exclusive), strict=True):
                    pair.columns |= {"answer_without_object": float(answer), "answer_margin": float(margin)}

    def _stacked(self, planes: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack(list(planes)).to(self.view.device)

    def _logits(self, part: Sequence[_Pair], images: torch.Tensor) -> np.ndarray:
        def run(rows: Sequence[int]) -> list[np.ndarray]:
            logits = self.view.explainer.logits(images[list(rows)])
            return list(logits.float().cpu().numpy())

        return np.array(halve_on_oom(range(len(part)), run, lambda size: None))

    def _noise(self, part: Sequence[_Pair]) -> list[torch.Tensor]:
        """Standard normal numbers for each pair, the same in any batch, and for its object and its background."""
        planes = []
        for pair in part:
            generator = torch.Generator().manual_seed(self._seed(pair.position, pair.label, 1) >> 1)
            planes.append(torch.randn(pair.image.shape, generator=generator, dtype=pair.image.dtype))
        return planes

    def _stranger(self, pair: _Pair) -> torch.Tensor:
        """What is shown of another image, in the place of this one; it lacks the class, or is this one if none does."""
        targets = np.asarray(self.dataset.targets)
        others = np.flatnonzero(targets[:, pair.label] == 0)
        if not len(others):
            return pair.image
        chosen = int(others[self._seed(pair.position, pair.label, 2) % len(others)])
        other = image_of(self.dataset, chosen)
        image = self.view.pixels(other)
        rows, columns = _frame(self._shown(np.ones(other.shape[:2], bool), (image.shape[1], image.shape[2])))
        place = pair.frame
        size = [part.stop - part.start for part in place]
        moved = torch.zeros_like(pair.image)
        moved[:, place[0], place[1]] = functional.interpolate(
            image[None, :, rows, columns], size, mode="bilinear", antialias=True
        )[0]
        return moved

    def _hole(self, pair: _Pair) -> torch.Tensor | None:
        """The object of another image of the class, moved off this one; None where most of it does not fit."""
        partner = self.batch.reads[pair.position].partners.get(pair.label)
        own = self.batch.reads[pair.position].region
        assert own is not None
        shape = self._enlarged(partner or own, pair.label)
        ways = [shape, shape.flip(-1), shape.flip(-2), shape.flip(-1, -2)]
        free = [way & pair.background for way in ways]
        best = max(free, key=lambda way: int(way.sum()))
        return best if best.any() and best.sum() >= ROOM * shape.sum() else None

    def _patches(self, found: Sequence[_Pair]) -> None:
        """Put the patch outside the object with the highest mean of the map, what the layer holds there, and what
        covering it does, where the map is highest outside the object or the class is found without it."""
        peaks: dict[_Pair, tuple[int, int]] = {}
        for pair in found:
            output = self.outputs[pair.position]
            if pair.label not in output.classes or not pair.background.any():
                continue
            full = torch.from_numpy(output.full(self.size, False)[output.classes.index(pair.label)])
            full = full.flip(-1) if self.view.flipped else full
            full = torch.where(pair.inside, full, 0.0)
            highest = float(full.max())
            if not highest > 0:
                continue
            outside = torch.where(pair.object, 0.0, full)
            y, x = self._peak(pair, outside)
            pair.columns |= self._place(pair, y, x) | {"peak_height": float(outside.max()) / highest}
            pair.columns["peak_side"] = self._share(pair)
            looks_elsewhere = bool(outside.max() >= highest) or pair.columns.get("without_object", -1.0) > 0
            if looks_elsewhere and pair.chance[1] * self.plan.images_of[pair.label] < PATCHES:
                peaks[pair] = y, x
        covered, filling = list(peaks), self.choices.filling
        self._measure("peak_covered", covered, lambda pair: self._patch(pair, *peaks[pair]), filling)
        self._measure("elsewhere_covered", covered, lambda pair: self._elsewhere(pair, *peaks[pair]), filling)
        self._features(peaks)

    def _sides(self, pair: _Pair) -> tuple[int, int]:
        """Height and width of a patch: smaller where the view shows less of the image."""
        height, width = (min(self.side, part.stop - part.start) for part in pair.frame)
        return height, width

    def _peak(self, pair: _Pair, outside: torch.Tensor) -> tuple[int, int]:
        """The centre of the patch within the image that has the highest mean."""
        (rows, columns), sides = pair.frame, self._sides(pair)
        means = functional.avg_pool2d(outside[None, rows, columns], sides, stride=1)[0]
        y, x = divmod(int(means.argmax()), means.shape[1])
        return rows.start + y + sides[0] // 2, columns.start + x + sides[1] // 2

    def _place(self, pair: _Pair, y: int, x: int) -> dict[str, float]:
        """The place of a pixel of the view in the stored image, as shares of its sides."""
        height, width = self.batch.images[pair.position].shape[:2]
        if self.view.flipped:
            x = self.size[1] - 1 - x
        box = box_of(str(self.view.settings["view"]), (height, width))
        if box is None:
            return {"peak_y": (y + 0.5) / self.size[0], "peak_x": (x + 0.5) / self.size[1]}
        top, left, rows, columns = box
        row, column = (y + 0.5) * (rows / self.size[0]) + top, (x + 0.5) * (columns / self.size[1]) + left
        places = {"peak_y": row / height, "peak_x": column / width}
        return {name: min(1.0, max(0.0, place)) for name, place in places.items()}

    def _share(self, pair: _Pair) -> float:
        """The side of a patch as a share of those of the stored image: of two shares, their geometric mean."""
        share = self.side / math.sqrt(self.size[0] * self.size[1])
        height, width = self.batch.images[pair.position].shape[:2]
        box = box_of(str(self.view.settings["view"]), (height, width))
        return share if box is None else share * math.sqrt(box[2] * box[3] / (height * width))

    def _patch(self, pair: _Pair, y: int, x: int) -> torch.Tensor:
        """(h, w) bool, a square around a place, within the image and without the object."""
        patch = torch.zeros(self.size, dtype=torch.bool)
        spans = []
        for at, part, side in zip((y, x), pair.frame, self._sides(pair), strict=True):
            start = min(max(part.start, at - side // 2), part.stop - side)
            spans.append(slice(start, start + side))
        patch[tuple(spans)] = True
        return patch & ~pair.object

    def _elsewhere(self, pair: _Pair, y: int, x: int) -> torch.Tensor:
        """A patch at a random place: of 20, the one with the most pixels off the object and off the other patch."""
        random = np.random.default_rng(self._seed(pair.position, pair.label, 3))
        taken, frame = self._patch(pair, y, x), pair.frame
        places = [
            [part.start + int(share * (part.stop - part.start)) for share, part in zip(shares, frame, strict=True)]
            for shares in random.random((20, 2)).tolist()
        ]
        tries = [self._patch(pair, row, column) for row, column in places]
        return max(tries, key=lambda patch: int((patch & ~taken).sum())) & ~taken

    def _features(self, peaks: Mapping[_Pair, tuple[int, int]]) -> None:
        """Put a projection of the layer's activations at each pair's place."""
        pairs = list(peaks)
        for start in range(0, len(pairs), self.most):
            part = pairs[start : start + self.most]
            images = self._stacked([pair.image for pair in part])
            activations = self.view.explainer.activations(images)
            for pair, planes in zip(part, activations, strict=True):
                y, x = peaks[pair]
                row, column = y * planes.shape[1] // self.size[0], x * planes.shape[2] // self.size[1]
                pair.columns["peak_features"] = projected(planes[:, row, column].float().cpu().numpy())


def _frame(inside: torch.Tensor) -> tuple[slice, slice]:
    """The rows and columns of (h, w) bool that are not empty."""
    rows, columns = (inside.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def margins(logits: np.ndarray, classes: np.ndarray, exclusive: bool) -> np.ndarray:
    """(P,) the logit of each row's class, or, where classes exclude each other, minus the highest other logit.

    Args:
        logits: (P, C).
        classes: (P,).
        exclusive: whether an image has exactly one label.

    Example:
        >>> margins(np.array([[2.0, 0.5, 1.0]]), np.array([2]), exclusive=True).tolist()
        [-1.0]
    """
    rows = np.arange(len(classes))
    own = logits[rows, classes].astype(float)
    if not exclusive:
        return own
    others = logits.astype(float)
    others[rows, classes] = -np.inf
    return own - others.max(axis=1)


def projected(vector: np.ndarray) -> np.ndarray:
    """(FEATURES,) float32, a random projection of a vector (D,) of unit length: inner products are kept, about.

    The projection depends only on D. NaN for a vector that is 0 or not finite.
    """
    length = float(np.linalg.norm(vector))
    if not (np.isfinite(length) and length > 0):
        return np.full(FEATURES, np.nan, np.float32)
    if len(vector) not in _PROJECTIONS:
        random = np.random.default_rng([FEATURES, len(vector)])
        _PROJECTIONS[len(vector)] = random.standard_normal((FEATURES, len(vector))) / np.sqrt(FEATURES)
    return (_PROJECTIONS[len(vector)] @ (vector / length)).astype(np.float32)


_PROJECTIONS: dict[int, np.ndarray] = {}


def lacks_interventions(regions: Regions, explanation: str) -> bool:
    """Whether an explanation has maps of objects, and nothing was replaced for any of them."""
    mine = (regions.explanation == explanation) & (regions.status != "none") & (regions.mask_pixels > 0)
    columns = ("without_object", "without_background", "peak_height", "noisy_object")
    return bool(mine.any() and all(np.isnan(getattr(regions, name)[mine]).all() for name in columns))


def lacks_answers(regions: Regions, explanation: str) -> bool:
    """Whether objects were removed, but not what is answered then: of exclusive tables of earlier versions."""
    mine = regions.explanation == explanation
    return bool((~np.isnan(regions.without_object[mine])).any() and np.isnan(regions.answer_without_object[mine]).all())
