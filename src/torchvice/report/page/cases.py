"""The cases of a table: what the page shows of every image, and of every entry of its case browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures import quality_of, true_pairs
from torchvice.measures.contents import ASSESS_STRICT
from torchvice.measures.quadrants import PROBABILITY_CUTOFF, QUADRANTS, quadrants_by
from torchvice.measures.qualities import IOU_CUTOFF
from torchvice.metrics import pair_log_likelihood, sample_accuracy, sigmoid
from torchvice.samples import ProtocolSamples, Samples, confidences
from torchvice.samples.placing import whole_map

__all__ = ["NO_QUADRANT", "Cases", "cases_of", "common_cases", "model_disagreement", "order_by_strength"]

NO_QUADRANT = len(QUADRANTS)  # no true pair (no mask, no label, only `paper` assessed), or an undefined quality


@dataclass(frozen=True)
class Cases:
    """What the page shows of one table: N images ordered by id, and E entries ordered by image and class.

    Columns of the images: `image_id` (N,); `height`, `width` (N,) pixels; `has_mask` (N,) bool; `targets`, `predicted`
    (N, C) bool; `probability` (N, C); `loss` (N,) nats; `ji`, `confidence`, `accuracy` (N,), NaN if undefined.

    The entries are the true (image, class) pairs, and one entry for every image without a pair. Their columns:
    `entry_image` (E,) row of the image; `entry_class` (E,), -1 without a pair; `pair_probability` (E,) of the class and
    `pair_loss` (E,) its -ln, nats; `quality` (E,) of the map; `area` (E,) of the object as a fraction of the image;
    `quadrant` (E,) index into QUADRANTS, or NO_QUADRANT; `strength` (E,) in [0, 1].

    Of the whole table: `classes` (C,) names; `exclusive`, whether of an image the likeliest one is predicted, and not
    each above one half, see `torchvice.samples.ProtocolSamples`; `quality_name`, the quality shown, and
    `quadrant_quality`, the one that decides on the quadrants, both of `torchvice.measures.QUALITIES`; `cutoffs` of the
    quadrants; `explanation`, the id of the maps shown, and its `settings`; `made_by` of the manifest; `maps` {row of
    the image: {class: (map, status)}}.
    """

    classes: tuple[str, ...]
    exclusive: bool
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
    pair_probability: np.ndarray
    pair_loss: np.ndarray
    quality: np.ndarray
    area: np.ndarray
    quadrant: np.ndarray
    strength: np.ndarray
    cutoffs: dict[str, float | None]
    quality_name: str
    quadrant_quality: str
    protocol: str
    explanation: str
    settings: dict[str, Any]
    made_by: dict[str, Any]
    maps: dict[int, dict[int, tuple[np.ndarray, str]]]

    def __len__(self) -> int:
        return len(self.image_id)

    @property
    def pairs(self) -> int:
        """Number of entries that are true pairs."""
        return int((self.entry_class >= 0).sum())

    def counts(self) -> dict[str, int]:
        """Number of pairs in each quadrant."""
        return {name: int((self.quadrant == place).sum()) for place, name in enumerate(QUADRANTS)}


def cases_of(samples: Samples, quality: str = "ji") -> Cases:
    """The cases of a table under `strict` if it was assessed, else under `paper`.

    With `paper` alone there are no true pairs and no quadrants: every entry is an image.

    Args:
        samples: the table.
        quality: quality of a map, one of `torchvice.measures.QUALITIES`.

    Raises:
        ViceError: a table without a protocol, a quality that it does not hold, or another quality than `ji` without
            `strict`.
    """
    protocols = samples.protocols
    if not protocols:
        raise ViceError(
            "The table must be assessed under `paper` or `strict`, but its manifest names neither protocol."
        )
    protocol = "strict" if "strict" in protocols else "paper"
    if quality != "ji" and protocol == "paper":
        raise ViceError(
            f"The quality {quality!r} needs the pairs of `strict`, but the table was assessed under `paper` only.",
            f"{ASSESS_STRICT} Or leave the quality out.",
        )
    part = samples.of_protocol(protocol)
    images, targets = part.images, part.images.targets == 1
    row_of = {image_id: row for row, image_id in enumerate(images.image_id.tolist())}
    mask_pixels, maps = _maps_of(samples, part, row_of)
    entries = _entries(samples, protocol, quality, row_of, mask_pixels, images.height * images.width)
    return Cases(
        classes=samples.classes,
        exclusive=part.exclusive,
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
        quality_name=quality,
        protocol=protocol,
        explanation=part.explanation,
        made_by=dict(samples.manifest.get("made_by") or {}),
        settings=dict(part.settings),
        maps=maps,
        **entries,
    )


def _maps_of(
    samples: Samples, part: ProtocolSamples, row_of: dict[str, int]
) -> tuple[dict[int, int], dict[int, dict[int, tuple[np.ndarray, str]]]]:
    """{row * C + class: mask pixels}, and {row: {class: (map, status)}}. The histograms are not copied."""
    table, planes, images, classes = samples.regions, samples.maps, part.images, len(samples.classes)
    explanation, view = part.explanation, str(part.settings.get("view", ""))
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
            plane = whole_map(planes.map[at], view, (int(images.height[row]), int(images.width[row])))
            maps.setdefault(row, {})[c] = (plane, status.get(row * classes + c, "ok"))
    return pixels, maps


def _entries(
    samples: Samples, protocol: str, name: str, row_of: dict[str, int], mask_pixels: dict[int, int], pixels: np.ndarray
) -> dict[str, Any]:
    """The columns of the entries: the true pairs, and the images without one."""
    count, classes = len(row_of), len(samples.classes)
    row, index = np.zeros(0, np.int64), np.zeros(0, np.int64)
    logit, quality, strength, quadrant = np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, np.int64)
    cutoffs: dict[str, float | None] = {"probability": PROBABILITY_CUTOFF, "iou": IOU_CUTOFF}
    quadrant_quality = name
    if protocol == "strict":
        pairs = true_pairs(samples)
        quality = quality_of(pairs, name)
        quadrants = quadrants_by(pairs, name, quality)
        row = np.array([row_of[image_id] for image_id in pairs.image_id.tolist()], dtype=np.int64)
        logit = pairs.logit.astype(float)
        index, strength = pairs.class_index.astype(np.int64), quadrants.strength
        index_of = {"": NO_QUADRANT, **{name: place for place, name in enumerate(QUADRANTS)}}
        quadrant = np.array([index_of[name] for name in quadrants.name.tolist()], dtype=np.int64)
        cutoffs, quadrant_quality = {"probability": quadrants.probability, "iou": quadrants.iou}, quadrants.by
    without = np.setdiff1d(np.arange(count), row)  # images without a pair
    row, index = np.concatenate([row, without]), np.concatenate([index, np.full(len(without), -1)])
    keys = np.where(index >= 0, row * classes + index, -1).tolist()
    area = np.array([mask_pixels.get(key, 0) if key >= 0 else np.nan for key in keys])
    undefined = np.full(len(without), np.nan)
    order = np.lexsort((index, row))
    columns = {
        "entry_image": row,
        "entry_class": index,
        "pair_probability": np.concatenate([sigmoid(logit), undefined]),
        "pair_loss": np.concatenate([-pair_log_likelihood(logit), undefined]),
        "quality": np.concatenate([quality, undefined]),
        "area": area / pixels[row] if len(row) else area,
        "quadrant": np.concatenate([quadrant, np.full(len(without), NO_QUADRANT)]),
        "strength": np.concatenate([strength, np.zeros(len(without))]),
    }
    sorted_columns = {name: column[order] for name, column in columns.items()}
    return {**sorted_columns, "cutoffs": cutoffs, "quadrant_quality": quadrant_quality}


def common_cases(cases: Sequence[Cases]) -> list[Cases]:
    """Restrict tables to the images and pairs that all of them have, in one order.

    Raises:
        ViceError: different classes, protocols or labels of an image, or no image in common.
    """
    first = cases[0]
    shared = set(first.image_id.tolist()).intersection(*(other.image_id.tolist() for other in cases[1:]))
    for other in cases:
        if other.classes != first.classes:
            raise ViceError("Compared models must have the same classes, but the tables name different ones.")
        if (other.protocol == "strict") != (first.protocol == "strict"):
            raise ViceError(
                "Compared models must share one protocol, but a table was assessed under `paper` only.", ASSESS_STRICT
            )
    if not shared:
        raise ViceError("Compared models must share images, but the tables have none in common.")
    kept = [_select_images(table, shared) for table in cases]
    for other in kept[1:]:
        differs = np.flatnonzero((other.targets != kept[0].targets).any(axis=1))
        if len(differs):
            raise ViceError(
                f"Compared models must have the same labels, but those of {len(differs)} of {len(other)} images "
                f"differ, such as {other.image_id[differs[0]]}."
            )
    classes = len(first.classes) + 1
    keys = [table.entry_image * classes + table.entry_class for table in kept]
    common = keys[0][np.logical_and.reduce([np.isin(keys[0], other) for other in keys])]
    return [_select_entries(table, np.isin(key, common)) for table, key in zip(kept, keys, strict=True)]


_IMAGE_COLUMNS = (
    *("image_id", "height", "width", "has_mask", "targets", "predicted", "probability"),
    *("loss", "ji", "confidence", "accuracy"),
)
_ENTRY_COLUMNS = (
    "entry_image",
    "entry_class",
    "pair_probability",
    "pair_loss",
    "quality",
    "area",
    "quadrant",
    "strength",
)


def _select_images(table: Cases, shared: set[str]) -> Cases:
    rows = np.array([row for row, image_id in enumerate(table.image_id.tolist()) if image_id in shared])
    place = np.full(len(table), -1)
    place[rows] = np.arange(len(rows))
    entries = place[table.entry_image] >= 0
    moved = _select_entries(table, entries)
    return replace(
        moved,
        **{name: getattr(table, name)[rows] for name in _IMAGE_COLUMNS},
        entry_image=place[moved.entry_image],
        maps={int(place[row]): maps for row, maps in table.maps.items() if place[row] >= 0},
    )


def _select_entries(table: Cases, kept: np.ndarray) -> Cases:
    return replace(table, **{name: getattr(table, name)[kept] for name in _ENTRY_COLUMNS})


def model_disagreement(cases: Sequence[Cases]) -> np.ndarray:
    """(E,) range of the models' probabilities of a pair plus the range of their qualities; 0 without a pair.

    With qualities in [0, 1] it is in [0, 2].
    """
    first = cases[0]
    pair = first.entry_class >= 0
    range_of_p = np.ptp([table.pair_probability for table in cases], axis=0)
    range_of_quality = np.ptp([table.quality for table in cases], axis=0)
    return np.where(pair, range_of_p + np.nan_to_num(range_of_quality), 0.0)


def order_by_strength(cases: Sequence[Cases]) -> Iterator[int]:
    """The rows of the images, most telling first: the strongest pair of each quadrant in turn, then the second, and so
    on; with several models, the pairs with the largest disagreement first."""
    first = cases[0]
    if len(cases) > 1:
        order = np.argsort(-model_disagreement(cases), kind="stable")
    else:
        rank = np.empty(len(first.entry_image), np.int64)
        for quadrant in range(NO_QUADRANT + 1):
            rows = np.flatnonzero(first.quadrant == quadrant)
            rank[rows[np.argsort(-first.strength[rows], kind="stable")]] = np.arange(len(rows))
        order = np.lexsort((first.quadrant, rank))
    yield from dict.fromkeys(first.entry_image[order].tolist())
