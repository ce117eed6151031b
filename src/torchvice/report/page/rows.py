"""Rows: the columns of a table that the page carries, one row per image and one per entry of its case browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures import quality_of, true_pairs
from torchvice.measures.quadrants import PROBABILITY_CUTOFF, QUADRANTS, quadrants_by
from torchvice.measures.qualities import IOU_CUTOFF
from torchvice.metrics import pair_log_likelihood, sample_accuracy, sigmoid
from torchvice.samples import Samples, confidences

__all__ = ["NO_QUADRANT", "Cases", "cases_of", "common_cases", "disagreement", "strongest_first"]

NO_QUADRANT = len(QUADRANTS)  # no true pair (no mask, no label, assessed under `paper` only), or of undefined quality


@dataclass(frozen=True)
class Cases:
    """What the page shows of one table. N images ordered by id; E entries ordered by image and class.

    Of images: `image_id` (N,); `height`, `width` (N,) pixels; `has_mask` (N,) bool; `targets`, `predicted` (N, C) bool;
    `probability` (N, C); `loss` (N,) nats; `ji`, `confidence`, `accuracy` (N,), NaN where undefined.

    Of entries, the true pairs and one more for every image that has none: `entry_image` (E,) a row of the images;
    `entry_class` (E,), -1 without a pair; `likely` (E,) the probability of the pair's class and `pair_loss` (E,) its
    -ln, nats; `quality` (E,) that of the pair's map; `area` (E,) the object's share of the image; `quadrant` (E,) a
    place in QUADRANTS or NO_QUADRANT; `strength` (E,) in [0, 1].

    `named` the quality shown, one of `torchvice.measures.QUALITIES`, and `by` the one that decides on the quadrants;
    `classes` (C,) names; `cutoffs` of the quadrants; `made_by` what the manifest says of the run; `explanation` the id
    of the maps shown, with its `settings`; `maps` {row of the images: {class: (map, status)}}.
    """

    classes: tuple[str, ...]
    image_id: np.ndarray
    height: np.ndarray
    width: np.ndarray
    has_mask: np.ndarray
    targets: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    loss: np.ndarray
    ji: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    entry_image: np.ndarray
    entry_class: np.ndarray
    likely: np.ndarray
    pair_loss: np.ndarray
    quality: np.ndarray
    area: np.ndarray
    quadrant: np.ndarray
    strength: np.ndarray
    cutoffs: dict[str, float]
    named: str
    by: str
    protocol: str
    explanation: str
    settings: dict[str, Any]
    made_by: dict[str, Any]
    maps: dict[int, dict[int, tuple[np.ndarray, str]]]

    def __len__(self) -> int:
        return len(self.image_id)

    @property
    def pairs(self) -> int:
        """How many entries are true pairs."""
        return int((self.entry_class >= 0).sum())

    def counts(self) -> dict[str, int]:
        """How many pairs each quadrant holds."""
        return {name: int((self.quadrant == place).sum()) for place, name in enumerate(QUADRANTS)}


def cases_of(samples: Samples, quality: str = "ji") -> Cases:
    """The page's columns of a table: of `strict` where it was assessed for it, else of `paper`.

    Under `paper` alone there are no true pairs and no quadrants: an entry is an image.

    Args:
        samples: the table.
        quality: in what sense a map is good, one of `torchvice.measures.QUALITIES`.

    Raises:
        ViceError: a table that was assessed under no protocol, a quality that it does not hold, or one other than `ji`
            without `strict`.
    """
    protocols = samples.protocols
    if not protocols:
        raise ViceError("A page needs a table that was assessed under `paper` or `strict`, but it names neither.")
    protocol = "strict" if "strict" in protocols else "paper"
    if quality != "ji" and protocol == "paper":
        raise ViceError(
            f"The pairs of `strict` have other qualities than the IoU, but {quality!r} is asked of a table of `paper`."
        )
    part = samples.of_protocol(protocol)
    images, targets = part.images, part.images.targets == 1
    row_of = {image_id: row for row, image_id in enumerate(images.image_id.tolist())}
    regions, maps = _maps_of(samples, part.explanation, row_of, len(samples.classes))
    entries = _entries(samples, protocol, quality, row_of, regions, images.height * images.width)
    return Cases(
        classes=samples.classes,
        image_id=images.image_id,
        height=images.height,
        width=images.width,
        has_mask=images.has_mask,
        targets=targets,
        predicted=part.predicted,
        probability=part.probabilities,
        loss=part.losses,
        ji=images.ji,
        confidence=confidences(part.probabilities, part.exclusive),
        accuracy=sample_accuracy(part.predicted, targets),
        named=quality,
        protocol=protocol,
        explanation=part.explanation,
        made_by=dict(samples.manifest.get("made_by") or {}),
        settings=dict(part.settings),
        maps=maps,
        **entries,
    )


def _maps_of(
    samples: Samples, explanation: str, row_of: dict[str, int], classes: int
) -> tuple[dict[int, int], dict[int, dict[int, tuple[np.ndarray, str]]]]:
    """{row * C + class: mask pixels} and the maps of every image. The histograms are not copied for it."""
    table, planes = samples.regions, samples.maps
    pixels: dict[int, int] = {}
    status: dict[int, str] = {}
    for at in np.flatnonzero((table.explanation == explanation) & (table.label > 0)).tolist():
        row = row_of.get(table.image_id[at])
        if row is not None:
            key = row * classes + int(table.label[at]) - 1
            pixels[key], status[key] = int(table.mask_pixels[at]), str(table.status[at])
    maps: dict[int, dict[int, tuple[np.ndarray, str]]] = {}
    for at in np.flatnonzero(planes.explanation == explanation).tolist():
        row = row_of.get(planes.image_id[at])
        if row is not None:
            c = int(planes.label[at]) - 1
            maps.setdefault(row, {})[c] = (planes.map[at], status.get(row * classes + c, "ok"))
    return pixels, maps


def _entries(
    samples: Samples, protocol: str, name: str, row_of: dict[str, int], mask_pixels: dict[int, int], pixels: np.ndarray
) -> dict[str, Any]:
    """The columns of the entries: true pairs, and the images that have none."""
    count, classes = len(row_of), len(samples.classes)
    row, index = np.zeros(0, np.int64), np.zeros(0, np.int64)
    logit, quality, strength, quadrant = np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, np.int64)
    cutoffs, by = {"probability": PROBABILITY_CUTOFF, "iou": IOU_CUTOFF}, name
    if protocol == "strict":
        pairs = true_pairs(samples)
        quality = quality_of(pairs, name)
        found = quadrants_by(pairs, name, quality)
        row = np.array([row_of[image_id] for image_id in pairs.image_id.tolist()], dtype=np.int64)
        logit = pairs.logit.astype(float)
        index, strength = pairs.class_index.astype(np.int64), found.strength
        place = {"": NO_QUADRANT, **{key: at for at, key in enumerate(QUADRANTS)}}
        quadrant = np.array([place[key] for key in found.name.tolist()], dtype=np.int64)
        cutoffs, by = {"probability": found.probability, "iou": found.iou}, found.by
    rest = np.setdiff1d(np.arange(count), row)
    row, index = np.concatenate([row, rest]), np.concatenate([index, np.full(len(rest), -1)])
    keys = np.where(index >= 0, row * classes + index, -1).tolist()
    area = np.array([mask_pixels.get(key, 0) if key >= 0 else np.nan for key in keys])
    none = np.full(len(rest), np.nan)
    order = np.lexsort((index, row))
    columns = {
        "entry_image": row,
        "entry_class": index,
        "likely": np.concatenate([sigmoid(logit), none]),
        "pair_loss": np.concatenate([-pair_log_likelihood(logit), none]),
        "quality": np.concatenate([quality, none]),
        "area": area / pixels[row] if len(row) else area,
        "quadrant": np.concatenate([quadrant, np.full(len(rest), NO_QUADRANT)]),
        "strength": np.concatenate([strength, np.zeros(len(rest))]),
    }
    return {**{key: column[order] for key, column in columns.items()}, "cutoffs": cutoffs, "by": by}


def common_cases(cases: Sequence[Cases]) -> list[Cases]:
    """The same tables on the images and pairs that all of them have, in one order.

    Raises:
        ViceError: other classes, other labels of an image, or no image in common.
    """
    first = cases[0]
    shared = set(first.image_id.tolist()).intersection(*(other.image_id.tolist() for other in cases[1:]))
    for other in cases:
        if other.classes != first.classes:
            raise ViceError("Models are compared on the same classes, but the tables name different ones.")
        if (other.protocol == "strict") != (first.protocol == "strict"):
            raise ViceError("Models are compared under one protocol, but a table was assessed under `paper` only.")
    if not shared:
        raise ViceError("Models are compared on the same images, but the tables have none in common.")
    kept = [_on_images(table, shared) for table in cases]
    for other in kept[1:]:
        differs = np.flatnonzero((other.targets != kept[0].targets).any(axis=1))
        if len(differs):
            raise ViceError(
                f"Models are compared on the same labels, but those of {other.image_id[differs[0]]} differ "
                f"({len(differs)} of {len(other)} images)."
            )
    classes = len(first.classes) + 1
    keys = [table.entry_image * classes + table.entry_class for table in kept]
    common = keys[0][np.logical_and.reduce([np.isin(keys[0], other) for other in keys])]
    return [_on_entries(table, np.isin(key, common)) for table, key in zip(kept, keys, strict=True)]


_OF_IMAGES = (
    *("image_id", "height", "width", "has_mask", "targets", "predicted", "probability"),
    *("loss", "ji", "confidence", "accuracy"),
)
_OF_ENTRIES = ("entry_image", "entry_class", "likely", "pair_loss", "quality", "area", "quadrant", "strength")


def _on_images(table: Cases, shared: set[str]) -> Cases:
    rows = np.array([row for row, image_id in enumerate(table.image_id.tolist()) if image_id in shared])
    place = np.full(len(table), -1)
    place[rows] = np.arange(len(rows))
    entries = place[table.entry_image] >= 0
    moved = _on_entries(table, entries)
    return replace(
        moved,
        **{name: getattr(table, name)[rows] for name in _OF_IMAGES},
        entry_image=place[moved.entry_image],
        maps={int(place[row]): maps for row, maps in table.maps.items() if place[row] >= 0},
    )


def _on_entries(table: Cases, kept: np.ndarray) -> Cases:
    return replace(table, **{name: getattr(table, name)[kept] for name in _OF_ENTRIES})


def disagreement(cases: Sequence[Cases]) -> np.ndarray:
    """(E,) how far models part on a pair: the range of their probabilities plus that of their qualities.

    With qualities in [0, 1] it is in [0, 2]. An entry without a pair has none, 0.
    """
    first = cases[0]
    pair = first.entry_class >= 0
    range_of_p = np.ptp([table.likely for table in cases], axis=0)
    range_of_quality = np.ptp([table.quality for table in cases], axis=0)
    return np.where(pair, range_of_p + np.nan_to_num(range_of_quality), 0.0)


def strongest_first(cases: Sequence[Cases]) -> Iterator[int]:
    """The images, those that show most at the front: the quadrants' strongest in turn; of several models, where they
    part most."""
    first = cases[0]
    if len(cases) > 1:
        order = np.argsort(-disagreement(cases), kind="stable")
    else:
        rank = np.empty(len(first.entry_image), np.int64)
        for quadrant in range(NO_QUADRANT + 1):
            rows = np.flatnonzero(first.quadrant == quadrant)
            rank[rows[np.argsort(-first.strength[rows], kind="stable")]] = np.arange(len(rows))
        order = np.lexsort((first.quadrant, rank))
    seen: set[int] = set()
    for row in first.entry_image[order].tolist():
        if row not in seen:
            seen.add(row)
            yield row
