"""The table in memory: numpy columns of images, regions and maps, beside a manifest that says what made them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.errors import ViceError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FAITHFULNESS", "HISTOGRAM_BINS", "STATUSES", "Images", "Maps", "Regions", "Samples"]

HISTOGRAM_BINS = 256
# `none`: a label that was not explained (the background, or an object beyond the asked labels).
STATUSES = ("ok", "zero", "constant", "nan", "none")


class _Columns:
    """What the three parts have in common: equal-length columns, picked by row and joined end to end."""

    def __len__(self) -> int:
        return len(self.image_id)  # type: ignore[attr-defined]

    def where(self, rows: np.ndarray) -> Any:
        """The rows of a boolean mask or an index array."""
        return type(self)(**{name: column[rows] for name, column in vars(self).items()})

    @classmethod
    def join(cls, parts: Sequence[Any]) -> Any:
        """The parts end to end."""
        names = cls.__dataclass_fields__  # type: ignore[attr-defined]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True)
class Images(_Columns):
    """One row per image and view: what the model said.

    `image_id`, `view` (R,) str; `height`, `width` (R,) pixels of the stored image; `has_mask` (R,) bool; `targets`
    (R, C) uint8; `logits` (R, C) float32. For readers, derived: `loss` (nats), `confidence`, `accuracy`, and `ji` (the
    published per-image JI at threshold 0.1 of the explanation that belongs to the view), NaN where undefined. On the
    view of `strict` of exclusive targets the first three are cross-entropy, top probability and top-1.
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


# What insertion, deletion and ROAD leave of a map; see `torchvice.explain.Faithfulness`.
FAITHFULNESS = (
    *("insertion", "deletion", "road", "insertion_random", "deletion_random", "road_random"),
    *("p_full", "p_canvas", "p_blank"),
)
_COUNTED = (
    *("image_id", "explanation", "label", "status", "mask_pixels"),
    *("predicted", "intersection", "inside", "outside", "box_iou"),
)


@dataclass(frozen=True)
class Regions(_Columns):
    """One row per image, explanation and label: what needed pixels.

    `image_id`, `explanation`, `status` (R,) str; `label` (R,) 0 for the background, c + 1 for class c; `mask_pixels`
    (R,); `predicted` and `intersection` (R, T) pixels under the competing label set, void left out (of a control, whose
    maps do not compete, those of the class's own map); `inside` and `outside` (R, 256) histograms on [0, 1] of the
    class's own normalised map inside and outside its mask (zeros without a map).

    The rest is float, NaN where there is no map or nobody asked. Of the class's own map, see
    `torchvice.metrics.own_map.OwnMaps`: `energy_inside`, `energy_outside`, `pointing`, `otsu_predicted`,
    `otsu_intersection`. `box_iou` (R, T) float32, with boxes. Faithfulness: `insertion`, `deletion`, `road` and, in a
    random order of the pixels, `insertion_random`, `deletion_random`, `road_random`; `p_full`, `p_canvas`, `p_blank`,
    the probability of the class on the image, on what insertion begins with and on what deletion ends with.
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

    @classmethod
    def of(cls, **columns: np.ndarray) -> Regions:
        """The rows of these columns; the float columns that are left out are NaN."""
        rows = len(columns["image_id"])
        absent = {name: np.full(rows, np.nan) for name in _MEASURED if name not in columns}
        if "box_iou" not in columns:
            absent["box_iou"] = np.full(columns["predicted"].shape, np.nan, np.float32)
        return cls(**columns, **absent)


# The float columns of Regions, one number a row.
_MEASURED = [column.name for column in fields(Regions) if column.name not in _COUNTED]


@dataclass(frozen=True)
class Maps(_Columns):
    """The low-resolution maps before ReLU and normalisation: `map` (R,) of (h, w) float16 arrays, and their keys."""

    image_id: np.ndarray
    explanation: np.ndarray
    label: np.ndarray
    map: np.ndarray


@dataclass(frozen=True)
class Samples:
    """The table of one assessment: what `vice assess` writes and `vice measure` reads.

    Args:
        manifest: what made it. `classes` their names; `targets` "multilabel" or "exclusive"; `thresholds` (T,);
            `explanations` {id: settings}, `role` among them; `protocols` {"paper" | "strict": {"view", "explanation"}},
            the headline explanations; model, dataset and versions.
        images, regions, maps: the three parts.
    """

    manifest: Mapping[str, Any]
    images: Images
    regions: Regions
    maps: Maps

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the C object classes."""
        return tuple(self.manifest["classes"])

    @property
    def exclusive(self) -> bool:
        """Whether every image has exactly one label."""
        return bool(self.manifest["targets"] == "exclusive")

    @property
    def thresholds(self) -> np.ndarray:
        """(T,) the thresholds of the counts."""
        return np.asarray(self.manifest["thresholds"], dtype=float)

    def of_view(self, view: str) -> Images:
        """The image rows of one view, ordered by image id.

        Raises:
            ViceError: the table has no such view.
        """
        rows = np.flatnonzero(self.images.view == view)
        if not len(rows):
            known = ", ".join(sorted(set(self.images.view.tolist()))) or "none"
            raise ViceError(f"`view` must be one of the table's ({known}), but is {view!r}.")
        return self.images.where(rows[np.argsort(self.images.image_id[rows], kind="stable")])

    def of_explanation(self, explanation: str) -> Regions:
        """The region rows of one explanation, ordered by image id and label.

        Raises:
            ViceError: the table has no such explanation.
        """
        if explanation not in self.manifest["explanations"]:
            known = ", ".join(self.manifest["explanations"])
            raise ViceError(f"`explanation` must be one of the table's ({known}), but is {explanation!r}.")
        rows = np.flatnonzero(self.regions.explanation == explanation)
        order = np.lexsort((self.regions.label[rows], self.regions.image_id[rows].astype(str)))
        return self.regions.where(rows[order])

    def to_pandas(self) -> pd.DataFrame:
        """One row per image and view with the columns that a notebook wants; needs pandas."""
        import pandas as pd

        images = self.images
        frame = {name: getattr(images, name) for name in ("image_id", "view", "height", "width", "has_mask")}
        frame |= {name: getattr(images, name) for name in ("loss", "confidence", "accuracy", "ji")}
        frame["targets"] = [np.flatnonzero(row).tolist() for row in images.targets]
        frame["logits"] = list(images.logits)
        return pd.DataFrame(frame)

    def __repr__(self) -> str:
        explanations = len(self.manifest["explanations"])
        rows = f"{len(self.images)} rows of images, {len(self.regions)} of regions"
        return f"Samples({rows}, {len(self.classes)} classes, {explanations} explanations)"

    def _repr_html_(self) -> str:
        """A notebook shows what the table holds."""
        # By name, and only when a notebook asks: the report stands above this room.
        html: str = import_module("torchvice.report.notebook").samples_html(self)
        return html

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> Samples:
        """Read the shards of a folder that `vice assess` wrote.

        Raises:
            ViceError: no manifest, another schema, a damaged shard, or no shard yet.
        """
        from torchvice.samples.shards import ShardFolder

        return ShardFolder(folder).read()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the table as one shard and its manifest; the folder must not hold a table yet."""
        from torchvice.samples.shards import ShardFolder

        shards = ShardFolder(folder)
        if shards.manifest_path.exists():
            raise ViceError(f"The folder must be free for a new table, but {folder} holds one.")
        shards.start(self.manifest)
        shards.append(self.images, self.regions, self.maps)
        return shards.folder
