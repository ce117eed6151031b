"""Samples, the table: one row per image and view, and one per image, explanation and label.

It holds what the model said and what needed pixels; every measure is derived from it. On disk it is Parquet in shards,
each put in place by a rename, beside a manifest that says what made it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.files import atomic, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["HISTOGRAM_BINS", "SCHEMA", "STATUSES", "Images", "Maps", "Regions", "Samples", "ShardFolder"]

SCHEMA = 2
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
    random order of the pixels, `insertion_random`, `deletion_random`, `road_random`; `p_full` and `p_blank`, the
    probability of the class on the image and on the blank one.
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

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> Samples:
        """Read the shards of a folder that `vice assess` wrote.

        Raises:
            ViceError: no manifest, another schema, a damaged shard, or no shard yet.
        """
        return ShardFolder(folder).read()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the table as one shard and its manifest; the folder must not hold a table yet."""
        shards = ShardFolder(folder)
        if shards.manifest_path.exists():
            raise ViceError(f"The folder must be free for a new table, but {folder} holds one.")
        shards.start(self.manifest)
        shards.append(self.images, self.regions, self.maps)
        return shards.folder


_NAMES = {
    "images": [column.name for column in fields(Images)],
    "regions": [column.name for column in fields(Regions)],
    "maps": [*(column.name for column in fields(Maps)), "map_shape"],
}


class ShardFolder:
    """A folder of shards: `manifest.json`, and for every shard `regions-`, `maps-` and `images-NNNNN.parquet`.

    The images' file is written last: it is what makes a shard count, so that a run killed in between leaves nothing
    half-written, and the next one writes the same shard again.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.manifest_path = self.folder / "manifest.json"

    def start(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, before the first shard and again when the counts are known."""
        write_json(self.manifest_path, {"schema": SCHEMA, **manifest})

    def manifest(self) -> dict[str, Any]:
        """The manifest.

        Raises:
            ViceError: there is none, or it is of another schema.
        """
        if not self.manifest_path.is_file():
            raise ViceError(f"{self.folder} must hold a table, but has no manifest.json.", "Run vice assess first.")
        manifest = read_json(self.manifest_path, "The manifest")
        if manifest.get("schema") != SCHEMA:
            raise ViceError(
                f"The table must be of schema {SCHEMA}, but {self.folder} is of schema {manifest.get('schema')}.",
                "Assess the model again with this version of torchvice.",
            )
        return manifest

    def shards(self) -> list[int]:
        """The numbers of the finished shards, in order."""
        found = (re.fullmatch(r"images-(\d{5})\.parquet", path.name) for path in self.folder.glob("images-*"))
        return sorted(int(match[1]) for match in found if match)

    def finished_images(self) -> set[str]:
        """The ids of the images that finished shards hold."""
        return {
            image_id
            for shard in self.shards()
            for image_id in self._read("images", shard, ["image_id"])["image_id"].to_pylist()
        }

    def append(self, images: Images, regions: Regions, maps: Maps) -> None:
        """Write one more shard."""
        number = max(self.shards(), default=-1) + 1
        for part, columns in (("regions", vars(regions)), ("maps", _flat(maps)), ("images", vars(images))):
            self._write(part, number, columns)

    def read(self) -> Samples:
        """The whole table.

        Raises:
            ViceError: as `manifest`, or no shard is finished, or one is damaged.
        """
        manifest, shards = self.manifest(), self.shards()
        if not shards:
            raise ViceError(
                f"{self.folder} must hold a table, but no shard of it is finished.", "Run vice assess again."
            )
        tables = {part: [self._read(part, shard) for shard in shards] for part in ("images", "regions", "maps")}
        images = Images.join([Images(**_columns(table)) for table in tables["images"]])
        regions = Regions.join([Regions(**_columns(table)) for table in tables["regions"]])
        maps = Maps.join([_maps(table) for table in tables["maps"]])
        return Samples(manifest, images, regions, maps)

    def _write(self, part: str, number: int, columns: Mapping[str, Any]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({name: _arrow(column) for name, column in columns.items()})
        with atomic(self.folder / f"{part}-{number:05d}.parquet") as path:
            pq.write_table(table, path, compression="zstd", write_page_checksum=True)

    def _read(self, part: str, number: int, columns: list[str] | None = None) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / f"{part}-{number:05d}.parquet"
        try:
            # Without the checksums a flipped bit would be another number, and nobody would know.
            table = pq.ParquetFile(path, page_checksum_verification=True).read(columns)
            absent = set(columns or _NAMES[part]) ^ set(table.column_names)
            if absent:
                raise pa.ArrowInvalid(f"its columns differ in {', '.join(sorted(absent))}")
            return table
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise ViceError(
                f"The shard {path} must be readable, but is not: {str(error).partition(chr(10))[0]}",
                f"Delete images-{number:05d}.parquet and run vice assess again: only this shard is made anew.",
            ) from None


def _arrow(column: Any) -> pa.Array:
    """A column for Parquet: (R, n) arrays as lists of fixed length, everything else as it is."""
    import pyarrow as pa

    if isinstance(column, pa.Array):
        return column
    if column.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])
    # Typed, because a shard without rows must have the schema of the others.
    return pa.array(column.tolist(), pa.string()) if column.dtype.kind in "OU" else pa.array(column)


def _flat(maps: Maps) -> dict[str, Any]:
    """The maps as columns: each a list of its numbers, and its shape beside it."""
    import pyarrow as pa

    return {
        **vars(maps),
        "map": pa.array([np.asarray(a, np.float16).ravel() for a in maps.map], pa.list_(pa.float16())),
        "map_shape": pa.array([list(a.shape) for a in maps.map], pa.list_(pa.int32())),
    }


def _columns(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns of a shard as numpy arrays."""
    import pyarrow as pa

    result = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        whole = column.combine_chunks()
        if pa.types.is_fixed_size_list(whole.type):
            result[name] = _numpy(whole.flatten()).reshape(len(whole), whole.type.list_size)
        elif pa.types.is_string(whole.type):
            result[name] = np.array(whole.to_pylist(), dtype=object)
        elif pa.types.is_boolean(whole.type):
            result[name] = _numpy(whole.cast(pa.uint8())).astype(bool)
        else:
            result[name] = _numpy(whole)
    return result


def _numpy(array: pa.Array) -> np.ndarray:
    """Numbers without nulls as numpy, by DLPack: pyarrow's own to_numpy imports pandas, which takes half a second."""
    return np.from_dlpack(array) if len(array) else np.zeros(0, array.type.to_pandas_dtype())


def _maps(table: pa.Table) -> Maps:
    """The maps of a shard, each in its own shape."""
    keys = _columns(table.drop_columns(["map", "map_shape"]))
    maps = np.empty(len(table), dtype=object)
    shapes = table["map_shape"].to_pylist()
    for row, (values, shape) in enumerate(zip(table["map"], shapes, strict=True)):
        maps[row] = _numpy(values.values).reshape(shape)
    return Maps(**keys, map=maps)
