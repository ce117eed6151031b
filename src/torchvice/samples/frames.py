"""Columns as a data frame of pandas or polars, which are imported only then."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.errors import ViceError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["pandas_frame", "polars_frame"]

Columns = Mapping[str, Any]


def pandas_frame(columns: Columns) -> pd.DataFrame:
    """A pandas.DataFrame of columns.

    Raises:
        ViceError: pandas is not installed.
    """
    frame: pd.DataFrame = _package("pandas").DataFrame(dict(columns))
    return frame


def polars_frame(columns: Columns) -> pl.DataFrame:
    """A polars.DataFrame of columns; numbers that are undefined stay NaN.

    Raises:
        ViceError: polars is not installed.
    """
    plain = {name: _plain(values) for name, values in columns.items()}
    frame: pl.DataFrame = _package("polars").DataFrame(plain, strict=False)
    return frame


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ViceError(f"A data frame needs {name}, which is not installed.", f"pip install {name}") from None


def _plain(values: Any) -> Any:
    """Texts, and arrays in a column, as lists: polars would keep Python objects as they are."""
    if isinstance(values, np.ndarray):
        return values.tolist() if values.dtype == object else values
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
