"""The three parts of the table as numpy columns: images, regions and maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

__all__ = [
    "FAITHFULNESS",
    "FEATURES",
    "FILLINGS",
    "HISTOGRAM_BINS",
    "INTERVENTIONS",
    "OPTIONAL",
    "STATUSES",
    "Images",
    "Maps",
    "Regions",
]

HISTOGRAM_BINS = 256
DIGESTS = ("image_digest", "mask_digest")
FEATURES = 64  # numbers that describe what a map peaks on
# `none`: a label without an explanation (the background, or an object whose label was not explained).
STATUSES = ("ok", "zero", "constant", "nan", "none")


def narrowed(name: str, column: np.ndarray) -> np.ndarray:
    """The column `name` in 32 bits if it holds counts of an image's pixels: half the memory; sums are made in 64."""
    if name not in COUNTS or column.dtype.kind not in "iu" or column.dtype == np.int32:
        return column
    return column.astype(np.int32) if column.max(initial=0) < 1 << 31 else column


class _Columns:
    """Columns of equal length: the base of the three parts."""

    def __len__(self) -> int:
        return len(self.image_id)  # type: ignore[attr-defined]

    def where(self, rows: np.ndarray) -> Any:
        """Select rows by a boolean mask or an index array."""
        return type(self)(**{name: column[rows] for name, column in self.columns().items()})

    def columns(self) -> dict[str, np.ndarray]:
        """All columns by name."""
        return {column.name: getattr(self, column.name) for column in fields(self)}  # type: ignore[arg-type]

    def release(self, *names: str) -> None:
        """Let go of columns that can be read again; those of a table in memory stay."""

    def emptied(self, *names: str) -> Any:
        """The same rows with columns of width 0 in place of these wide ones."""
        return replace(self, **{name: getattr(self, name)[:, :0] for name in names})  # type: ignore[type-var]

    @classmethod
    def join(cls, parts: Sequence[Any]) -> Any:
        """Concatenate parts."""
        names = cls.__dataclass_fields__  # type: ignore[attr-defined]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True)
class Images(_Columns):
    """One row per image and view: the model's outputs.

    `image_id`, `view` (R,) str; `height`, `width` (R,) pixels of the stored image; `has_mask` (R,) bool; `targets`
    (R, C) uint8; `logits` (R, C) float32. Derived, for readers: `loss` (nats), `confidence`, `accuracy`, and `ji` (the
    published per-image JI at threshold 0.1 of the explanation that belongs to the view), NaN where undefined. On the
    view of `strict` of exclusive targets the first three are cross-entropy, top probability and top-1.

    `image_digest`, `mask_digest` (R,) str: 16 hexadecimal digits of the SHA-256 of the file of the image, and of its
    mask (or of its boxes); `pixels:` and the CRC-32 of the pixels where no file is known; empty in tables of earlier
    versions, and without a mask.
    """

    image_id: np.ndarray
    view: np.ndarray
    height: np.ndarray
    width: np.ndarray
    has_mask: np.ndarray
    targets: np.ndarray
    logits: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ji: np.ndarray
    image_digest: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=object))
    mask_digest: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=object))

    def __post_init__(self) -> None:
        for name in DIGESTS:
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.image_id), "", dtype=object))

    def digests(self) -> dict[str, tuple[str, str]]:
        """The digests of image and mask, by image id."""
        both = zip(self.image_digest.tolist(), self.mask_digest.tolist(), strict=True)
        return dict(zip(self.image_id.tolist(), both, strict=True))


# The columns of insertion, deletion and ROAD; see `torchvice.explain.Faithfulness`.
FAITHFULNESS = (
    *("insertion", "deletion", "road", "insertion_random", "deletion_random", "road_random"),
    *("p_full", "p_canvas", "p_blank"),
)
# What removed pixels are replaced by; see `torchvice.data.filling`.
FILLINGS = ("blur", "mean", "noise", "background")
# What the settings of interventions mean in tables of earlier versions, which do not say it.
UNSAID_OF_INTERVENTIONS = {"void": "touching"}
# The columns of interventions on the image; see `torchvice.assessment.interventions`.
INTERVENTIONS = (
    *("without_object", "without_background", "with_hole", *(f"object_by_{name}" for name in FILLINGS)),
    *("answer_without_object", "answer_margin"),
    *("noisy_object", "noisy_background"),
    *("peak_y", "peak_x", "peak_side", "peak_height", "peak_covered", "elsewhere_covered"),
)
COUNTS = ("predicted", "intersection", "inside", "outside")  # several pixel counts a row, as int32
_COUNTED = (
    *("image_id", "explanation", "label", "status", "mask_pixels"),
    *(*COUNTS, "box_iou", "peak_features"),
)


@dataclass(frozen=True)
class Regions(_Columns):
    """One row per image, explanation and label: everything counted in pixels.

    `image_id`, `explanation`, `status` (R,) str; `label` (R,) 0 for the background, c + 1 for class c; `mask_pixels`
    (R,); `predicted` and `intersection` (R, T) int32, pixels under the competing label set, without void (of a control,
    whose maps do not compete, those of the class's own map); `inside` and `outside` (R, 256) int32, histograms on
    [0, 1] of the class's own normalised map inside and outside its mask (zeros without a map).

    All other columns are float, NaN without a map or if not requested. Of the class's own map, see
    `torchvice.metrics.own_map.OwnMaps`: `energy_inside`, `energy_outside`, `pointing`, `otsu_predicted`,
    `otsu_intersection`. `box_iou` (R, T) float32, with boxes. Faithfulness: `insertion`, `deletion`, `road` and, in a
    random order of the pixels, `insertion_random`, `deletion_random`, `road_random`; `p_full`, `p_canvas`, `p_blank`,
    the probability of the class on the image, on what insertion begins with and on what deletion ends with.

    Interventions give the margin of the class on a changed image: its logit, or, of exclusive targets, its logit minus
    the highest other one; the class is found where it is above 0. `without_object` and `without_background`: with the
    object, or all but the object, replaced; `with_hole`: with as large a hole elsewhere; `object_by_FILLING`: the
    object replaced in another way; `noisy_object` and `noisy_background`: with noise added there. Of exclusive targets
    `answer_without_object` is the class that is likeliest without the object, 0 to C - 1, and `answer_margin` its logit
    minus the next. Of the patch outside the object on which the map is highest: `peak_y` and `peak_x`, its centre in
    [0, 1] from the top left; `peak_side`, its side as a share of the image's sides (their geometric mean, where the
    view is no warp); `peak_covered` and `elsewhere_covered`, margins with it, or one somewhere else, replaced;
    `peak_features` (R, FEATURES) float32, what the network's layer holds there. `peak_height`, the highest value of the
    map outside the object, in [0, 1].
    """

    image_id: np.ndarray
    explanation: np.ndarray
    label: np.ndarray
    status: np.ndarray
    mask_pixels: np.ndarray
    predicted: np.ndarray
    intersection: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    energy_inside: np.ndarray
    energy_outside: np.ndarray
    pointing: np.ndarray
    otsu_predicted: np.ndarray
    otsu_intersection: np.ndarray
    box_iou: np.ndarray
    insertion: np.ndarray
    deletion: np.ndarray
    insertion_random: np.ndarray
    deletion_random: np.ndarray
    p_full: np.ndarray
    p_canvas: np.ndarray
    p_blank: np.ndarray
    road: np.ndarray
    road_random: np.ndarray
    without_object: np.ndarray
    without_background: np.ndarray
    with_hole: np.ndarray
    object_by_blur: np.ndarray
    object_by_mean: np.ndarray
    object_by_noise: np.ndarray
    object_by_background: np.ndarray
    answer_without_object: np.ndarray
    answer_margin: np.ndarray
    noisy_object: np.ndarray
    noisy_background: np.ndarray
    peak_y: np.ndarray
    peak_x: np.ndarray
    peak_side: np.ndarray
    peak_height: np.ndarray
    peak_covered: np.ndarray
    elsewhere_covered: np.ndarray
    peak_features: np.ndarray

    def __post_init__(self) -> None:
        for name in COUNTS:
            object.__setattr__(self, name, narrowed(name, getattr(self, name)))

    @classmethod
    def of(cls, **columns: np.ndarray) -> Regions:
        """Make regions of these columns; float columns that are missing become NaN."""
        rows = len(columns["image_id"])
        absent = {name: np.full(rows, np.nan) for name in _MEASURED if name not in columns}
        if "box_iou" not in columns:
            absent["box_iou"] = np.full(columns["predicted"].shape, np.nan, np.float32)
        if "peak_features" not in columns:
            absent["peak_features"] = np.full((rows, FEATURES), np.nan, np.float32)
        return cls(**columns, **absent)


# The float columns of Regions, one number per row.
_MEASURED = [column.name for column in fields(Regions) if column.name not in _COUNTED]
# The columns that tables of earlier versions lack.
OPTIONAL = (*INTERVENTIONS, "peak_features", *DIGESTS)


@dataclass(frozen=True)
class Maps(_Columns):
    """Low-resolution maps before ReLU and normalisation: `map` (R,) of (h, w) float16 arrays, and their keys.

    A map that float16 does not hold is stored times a power of two.
    """

    image_id: np.ndarray
    explanation: np.ndarray
    label: np.ndarray
    map: np.ndarray
