"""Nested rows: all rows of an image in one row, so that engines that go by images can carry a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.samples.arrow import arrow_of, columns_of, flat_maps
from torchvice.samples.checks import check_columns
from torchvice.samples.columns import Images, Maps, Regions

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PARTS", "nested", "unnested"]

PARTS = ("images", "regions", "maps")


def nested(images: Images, regions: Regions, maps: Maps, image_ids: Sequence[str]) -> dict[str, pa.Array]:
    """Put the rows of a table into one row for each image.

    Args:
        images, regions, maps: the parts of the table.
        image_ids: N ids; each becomes a row.

    Returns:
        {part: (N,) lists of structures} for Arrow: the columns of a part are the fields of its structures. The rows of
        an image keep their order.
    """
    columns: Mapping[str, Any] = {
        "images": images.columns(),
        "regions": regions.columns(),
        "maps": flat_maps(maps),
    }
    return {part: _lists(columns[part], image_ids) for part in PARTS}


def unnested(table: pa.Table) -> tuple[Images, Regions, Maps]:
    """Restore the parts from the columns of `nested`: the rows of the first image first.

    Raises:
        ValueError: columns that are missing, or of other types.
    """
    images, regions, maps = (_flattened(table, part) for part in PARTS)
    return Images(**columns_of(images)), Regions.of(**columns_of(regions)), Maps(**columns_of(maps))


def _lists(columns: Mapping[str, Any], image_ids: Sequence[str]) -> pa.Array:
    """Lists of structures, one for each image."""
    import pyarrow as pa

    place = {image_id: row for row, image_id in enumerate(image_ids)}
    of_row = np.array([place[image_id] for image_id in columns["image_id"].tolist()], dtype=np.int64)
    order = np.argsort(of_row, kind="stable")
    table = pa.table({name: arrow_of(column) for name, column in columns.items()}).take(order)
    ends = np.cumsum(np.bincount(of_row, minlength=len(image_ids)))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, table.to_struct_array().combine_chunks())


def _flattened(table: pa.Table, part: str) -> pa.Table:
    import pyarrow as pa

    column = table[part]
    if not (pa.types.is_list(column.type) and pa.types.is_struct(column.type.value_type)):
        raise ValueError(f"its column `{part}` is of type {column.type}")
    rows = pa.Table.from_struct_array(pa.chunked_array([chunk.flatten() for chunk in column.chunks]))
    check_columns(rows)
    return rows
