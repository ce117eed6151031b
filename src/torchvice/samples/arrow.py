"""Columns of the table as Arrow, which is what Parquet holds, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.samples.columns import Maps

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["arrow_of", "columns_of", "flat_maps"]


def arrow_of(column: Any) -> pa.Array:
    """Convert a column for Parquet: (R, n) arrays to lists of fixed length."""
    import pyarrow as pa

    if isinstance(column, pa.Array):
        return column
    if column.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])
    # With a type, because a shard without rows must have the same schema.
    return pa.array(column.tolist(), pa.string()) if column.dtype.kind in "OU" else pa.array(column)


def flat_maps(maps: Maps) -> dict[str, Any]:
    """Convert maps to columns: a list of numbers and a shape for each."""
    import pyarrow as pa

    return {
        **maps.columns(),
        "map": pa.array([np.asarray(a, np.float16).ravel() for a in maps.map], pa.list_(pa.float16())),
        "map_shape": pa.array([list(a.shape) for a in maps.map], pa.list_(pa.int32())),
    }


def columns_of(table: pa.Table) -> dict[str, np.ndarray]:
    """Convert columns that were read to numpy arrays; maps get their shapes."""
    import pyarrow as pa

    result = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in ("map", "map_shape"):
            continue
        whole = column.combine_chunks()
        if pa.types.is_fixed_size_list(whole.type):
            result[name] = _numpy(whole.flatten()).reshape(len(whole), whole.type.list_size)
        elif pa.types.is_string(whole.type):
            result[name] = _texts(whole)
        elif pa.types.is_boolean(whole.type):
            result[name] = _numpy(whole.cast(pa.uint8())).astype(bool)
        else:
            result[name] = _numpy(whole)
    if "map" in table.column_names:
        result["map"] = _shaped(table)
    return result


def _texts(column: pa.Array) -> np.ndarray:
    """(R,) str; equal texts are one object, since most stand in many rows."""
    coded = column.dictionary_encode()
    different = np.empty(len(coded.dictionary), dtype=object)
    different[:] = coded.dictionary.to_pylist()
    return different[_numpy(coded.indices)] if len(coded) else np.zeros(0, dtype=object)


def _numpy(array: pa.Array) -> np.ndarray:
    """Convert numbers without nulls by DLPack: pyarrow's to_numpy imports pandas, which takes half a second."""
    return np.from_dlpack(array) if len(array) else np.zeros(0, array.type.to_pandas_dtype())


def _shaped(table: pa.Table) -> np.ndarray:
    """(R,) the maps of a shard, each in its shape."""
    maps = np.empty(len(table), dtype=object)
    shapes = table["map_shape"].to_pylist()
    for row, (values, shape) in enumerate(zip(table["map"], shapes, strict=True)):
        maps[row] = _numpy(values.values).reshape(shape)
    return maps
