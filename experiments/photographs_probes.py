"""What a trained network does on changed photographs: what the study of photographs asks of its base recipe.

Each function takes a `Subject`, a run with its images, and returns rows of numbers; no pixel, and no name of an image.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from method_table import First, shown
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import mannwhitneyu, pearsonr
from torch.nn import functional

from torchvice import assess
from torchvice.assessment.region import region_of
from torchvice.commands.tables import load_samples
from torchvice.data.filling import InterventionChoices, dilated, filled
from torchvice.errors import ViceError
from torchvice.explain import upsample
from torchvice.measures import Pairs, true_pairs
from torchvice.metrics import pair_vice
from torchvice.runs import Run
from torchvice.samples import Samples

LEAST = 15  # images of a group, below which nothing is said of it
ON_OBJECT = 0.3  # IoU, as in the verdict
BATCH = 64
VOID = 255
# The photographs of the test set that carry the web address of an archive of horses, found by eye, and where it stands:
# left, top, right and bottom as shares of the image.
CAPTIONS = {
    "2007_005114": (0.06, 0.85, 0.40, 0.98),
    "2007_007748": (0.12, 0.85, 0.83, 0.95),
    "2007_009841": (0.06, 0.85, 0.40, 0.98),
}
CAPTION = "C:   Lothar Lenz\nwww.pferdefotoarchiv.de"
PLACE, LETTERS = (0.075, 0.865), 8  # of a written caption: its corner as shares of the image, its letters in pixels
FURNITURE = ("sofa", "chair")
MASKS = {"shrunk by 4 pixels": -4, "shrunk by 2": -2, "as drawn": 0, "grown by 2": 2, "grown by 4": 4}
BOXES = "the object's bounding box"

Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A run of the base recipe, whose table holds the interventions of the verdict."""

    run: Run

    @functools.cached_property
    def network(self) -> torch.nn.Module:
        """The trained network."""
        return self.run.model().eval()

    @functools.cached_property
    def data(self) -> Any:
        """The test set."""
        return self.run.dataset()

    @functools.cached_property
    def names(self) -> list[str]:
        """(N,) the names of the images."""
        return [record.image_id for record in self.data.records]

    @functools.cached_property
    def targets(self) -> np.ndarray:
        """(N, C) bool."""
        return np.asarray(self.data.targets) > 0

    @functools.cached_property
    def images(self) -> torch.Tensor:
        """(N, 3, side, side) as the network sees them."""
        return shown(self.run, First(self.data, len(self.names)))

    @functools.cached_property
    def logits(self) -> np.ndarray:
        """(N, C) of the images as they are."""
        return self.of(self.images)

    @functools.cached_property
    def table(self) -> Samples:
        """The assessment."""
        return load_samples(self.run.folder, Path(self.run.settings.data.eval_split).name)

    @functools.cached_property
    def pairs(self) -> Pairs:
        """The true pairs of the headline's maps."""
        return true_pairs(self.table)

    @functools.cached_property
    def quality(self) -> dict[tuple[str, int], float]:
        """The IoU of each image and class with pixels in the mask."""
        pairs = self.pairs
        return {(i, c): q for i, c, q in zip(pairs.image_id, pairs.class_index, pairs.quality, strict=True)}

    @functools.cached_property
    def maps(self) -> dict[tuple[str, int], np.ndarray]:
        """The headline's map of each image and class, in the layer's resolution, its negative values 0."""
        kept, headline = self.table.maps, self.table.of_protocol("strict").explanation
        rows = np.flatnonzero(kept.explanation == headline)
        return {(kept.image_id[i], int(kept.label[i]) - 1): np.maximum(np.asarray(kept.map[i]), 0) for i in rows}

    def of(self, images: torch.Tensor) -> np.ndarray:
        """(N, C) logits of images as the network sees them."""
        with torch.no_grad():
            return np.concatenate([self.network(part).numpy() for part in images.split(BATCH)])

    def object_of(self, i: int, c: int) -> torch.Tensor:
        """(side, side) bool, where the mask of image i shows some of class c."""
        return self._seen(np.asarray(self.data.mask(i)) == c + 1)

    def _seen(self, plane: np.ndarray) -> torch.Tensor:
        """(side, side) bool, where the network sees some of a plane (H, W)."""
        cells = functional.adaptive_max_pool2d(torch.from_numpy(plane)[None].float(), self.images.shape[-2:])
        return cells[0] > 0

    def without(self, rows: Sequence[tuple[int, tuple[int, ...]]]) -> np.ndarray:
        """(R, C) logits of images without the objects of some classes, replaced as by `vice assess`, void included."""
        if not rows:
            return np.zeros((0, len(self.data.classes)))
        gone, how = [], InterventionChoices()
        for i, classes in rows:
            region = region_of(self.data, i)
            assert region is not None
            gone.append(self._seen(np.logical_or.reduce([region.object_of(c) for c in classes])))
        enlarged = dilated(torch.stack(gone)[:, None], how.dilation)
        return self.of(filled(self.images[[i for i, _ in rows]], enlarged, how.filling))


def by_class(subject: Subject) -> list[Row]:
    """For each class, what the verdict's interventions say of its found labels."""
    pairs, rows = subject.pairs, []
    assert pairs.regions is not None
    for c, name in enumerate(subject.data.classes):
        own = pairs.class_index == c
        found = own & pairs.predicted
        hole = np.asarray(pairs.regions.with_hole, float)[found]
        rows.append(
            {
                "class": name,
                "pairs": int(own.sum()),
                "found": int(found.sum()),
                "on_object": mean(pairs.quality[found] >= ON_OBJECT),
                "without_object": mean(np.asarray(pairs.regions.without_object)[found] > 0),
                "without_background": mean(np.asarray(pairs.regions.without_background)[found] > 0),
                "holes": int((~np.isnan(hole)).sum()),
                "with_hole": mean(hole[~np.isnan(hole)] > 0),
                "vice": vice_of(pairs.where(own)),
            }
        )
    return rows


def together(subject: Subject) -> list[Row]:
    """Two labels in one image, and either alone: where the map lies, and what is found without which object."""
    classes, targets = subject.data.classes, subject.targets
    rows = []
    for a, first in enumerate(classes):
        alone = np.flatnonzero(targets[:, a] & (targets.sum(1) == 1))
        groups = [(None, alone)]
        groups += [(b, np.flatnonzero(targets[:, a] & targets[:, b])) for b in range(len(classes)) if b != a]
        for b, images in groups:
            if len(images) >= LEAST:
                rows.append(
                    {"class": first, "with": None if b is None else classes[b], **beside(subject, images, a, b)}
                )
    return rows


def beside(subject: Subject, images: np.ndarray, a: int, b: int | None) -> Row:
    """The row of a class in some images, beside class b or alone."""
    found = images[subject.logits[images, a] > 0]
    row: Row = {"images": len(images), "found": len(found)}
    known = [subject.quality[key] for i in found if (key := (subject.names[i], a)) in subject.quality]
    row["on_object"] = mean(np.array(known) >= ON_OBJECT)
    row["map_on_own"] = mean([mass(subject, i, a, a) for i in found])
    row["without_own"] = mean(subject.without([(i, (a,)) for i in found])[:, a] > 0)
    if b is not None:
        row["map_on_other"] = mean([mass(subject, i, a, b) for i in found])
        row["without_other"] = mean(subject.without([(i, (b,)) for i in found])[:, a] > 0)
        row["without_both"] = mean(subject.without([(i, (a, b)) for i in found])[:, a] > 0)
    return row


def mass(subject: Subject, i: int, label: int, where: int) -> float | None:
    """The share of a label's map that lies on the object of a class; None for a map of zeros."""
    map_ = subject.maps.get((subject.names[i], label))
    if map_ is None or not map_.any():
        return None
    large = upsample(torch.from_numpy(map_.astype(np.float32))[None], subject.images.shape[-2:])[0]
    return float(large[subject.object_of(i, where)].sum() / large.sum())


def furniture(subject: Subject) -> list[Row]:
    """Whether sofas and chairs are told apart: how often the logit is higher on an image with one than on another."""
    classes, rows = list(subject.data.classes), []
    for name, other in (FURNITURE, FURNITURE[::-1]):
        a, b = classes.index(name), classes.index(other)
        own, others = subject.targets[:, a], subject.targets[:, b]
        neither, logits = ~own & ~others, subject.logits[:, a]
        gone = subject.without([(i, (a,)) for i in np.flatnonzero(own)])[:, a]
        rows.append(
            {
                "class": name,
                "images": int(own.sum()),
                "over_neither": above(logits[own], logits[neither]),
                "over_other": above(logits[own & ~others], logits[others & ~own]),
                "other_over_neither": above(logits[others & ~own], logits[neither]),
                "gone_over_neither": above(gone, logits[neither]),
                "correlation": float(pearsonr(logits, subject.logits[:, b]).statistic),
            }
        )
    return rows


def captions(subject: Subject) -> Row | None:
    """Whether the web address of an archive of horses matters: covered where it is, and written where there is none.

    None where the photographs that have it are not all there.
    """
    if not set(CAPTIONS) <= set(subject.names):
        return None
    horse = list(subject.data.classes).index("horse")
    here = [subject.names.index(name) for name in CAPTIONS]
    covered, beside_it = [], []
    side = subject.images.shape[-1]
    for left, top, right, bottom in CAPTIONS.values():
        for found, (first, last) in ((covered, (left, right)), (beside_it, (1 - right, 1 - left))):
            gone = torch.zeros((side, side), dtype=torch.bool)
            gone[int(top * side) : int(bottom * side), int(first * side) : int(last * side)] = True
            found.append(gone)
    before = subject.logits[here, horse]
    falls = {
        name: before - subject.of(filled(subject.images[here], torch.stack(gone)[:, None]))[:, horse]
        for name, gone in (("covered", covered), ("beside", beside_it))
    }
    none = np.flatnonzero(~subject.targets[:, horse])
    written = subject.of(shown(subject.run, _Written(subject.data, none)))
    rise = written - subject.logits[none]
    others = [c for c in range(rise.shape[1]) if c != horse]
    return {
        "images": len(here),
        "found": int((before > 0).sum()),
        "found_covered": int((before - falls["covered"] > 0).sum()),
        "fall_covered": mean(falls["covered"]),
        "fall_beside": mean(falls["beside"]),
        "without_horse": len(none),
        "horse_before": int((subject.logits[none, horse] > 0).sum()),
        "horse_written": int((written[:, horse] > 0).sum()),
        "rise": mean(rise[:, horse]),
        "rise_of_others": mean(rise[:, others].ravel()),
    }


class _Written:
    """Some images of a dataset, with the caption written on them."""

    def __init__(self, dataset: Any, chosen: np.ndarray) -> None:
        self.dataset, self.chosen, self.classes = dataset, chosen, dataset.classes
        self.records = [dataset.records[i] for i in chosen]

    def image(self, i: int) -> np.ndarray:
        """The image with the caption."""
        picture = Image.fromarray(np.asarray(self.dataset.image(int(self.chosen[i]))))
        corner = tuple(share_ * length for share_, length in zip(PLACE, picture.size, strict=True))
        ImageDraw.Draw(picture).multiline_text(corner, CAPTION, (225, 225, 225), ImageFont.load_default(LETTERS))
        return np.asarray(picture)


def mask_quality(subject: Subject) -> list[Row]:
    """VICE and the JI score of the same network against masks that are drawn too small, too large, or as boxes."""
    rows: list[Row] = []
    for name, pixels in {**MASKS, BOXES: None}.items():
        with tempfile.TemporaryDirectory() as folder:
            how = subject.run.settings.transform
            options = {"mean": how.mean, "std": how.std, "view_size": how.crop, "interpolation": how.interpolation}
            data = _Redrawn(subject.data, pixels)
            samples = assess(subject.network, data, out=folder, protocols=("strict",), progress=False, **options)
            pairs = true_pairs(samples)
        rows.append({"masks": name, "pairs": len(pairs), "vice": vice_of(pairs), "ji": mean(pairs.quality)})
    return rows


class _Redrawn:
    """A dataset whose objects are grown or shrunk by some pixels; None: as bounding boxes."""

    def __init__(self, dataset: Any, pixels: int | None) -> None:
        self.dataset, self.pixels = dataset, pixels
        self.classes, self.records, self.targets, self.image = (
            dataset.classes,
            dataset.records,
            dataset.targets,
            dataset.image,
        )

    def mask(self, i: int) -> np.ndarray:
        """The mask with each object changed; what it gains was background or void, what it loses becomes background."""
        mask = np.asarray(self.dataset.mask(i))
        changed = mask.copy()
        for value in (value for value in np.unique(mask).tolist() if value not in (0, VOID)):
            own = mask == value
            wanted = bounding_box(own) if self.pixels is None else resized(own, self.pixels)
            if wanted.any():  # an object that would be gone stays as it is
                changed[own & ~wanted] = 0
                changed[wanted & np.isin(mask, (0, VOID))] = value
        return changed


def bounding_box(plane: np.ndarray) -> np.ndarray:
    """(H, W) bool, the box of what is true in a plane that is not empty."""
    rows, columns = (np.flatnonzero(plane.any(axis)) for axis in (1, 0))
    box = np.zeros_like(plane)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def resized(plane: np.ndarray, pixels: int) -> np.ndarray:
    """(H, W) bool, a plane grown by some pixels, or shrunk where they are negative."""
    outside = pixels < 0
    grown = dilated(torch.from_numpy(plane ^ outside)[None, None], abs(pixels))[0, 0].numpy()
    return np.asarray(grown ^ outside)


def above(first: np.ndarray, second: np.ndarray) -> float | None:
    """How often a number of the first is above one of the second, ties counted half: the area under the ROC curve."""
    if not (len(first) and len(second)):
        return None
    return float(mannwhitneyu(first, second).statistic / (len(first) * len(second)))


def vice_of(pairs: Pairs) -> float | None:
    """VICE of some pairs; None where it is undefined."""
    try:
        return float(pair_vice(pairs.logit, pairs.quality).value)
    except ViceError:
        return None


def mean(values: Any) -> float | None:
    """Mean of the values that are not None, of events their share; None without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


PROBES = {
    "classes": by_class,
    "together": together,
    "furniture": furniture,
    "captions": captions,
    "masks": mask_quality,
}


def probed(runs: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The numbers of each run."""
    for folder in runs:
        subject = Subject(Run(folder))
        yield {"seed": subject.run.settings.seed, **{name: probe(subject) for name, probe in PROBES.items()}}
