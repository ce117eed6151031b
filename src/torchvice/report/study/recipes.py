"""Read the files of a study; group its runs by recipe, with means over seeds and their Pareto front."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError
from torchvice.files import read_json
from torchvice.measures.qualities import check_quality

__all__ = ["DESCRIPTION", "Recipe", "RecipeMean", "StudyTable", "is_study", "pareto_front", "read_study", "recipe_name"]

DESCRIPTION = "study.json"
TABLE = "table.parquet"
COMPARISONS = "comparisons.parquet"
# Required columns of the comparisons.
NEEDED = ("axis", "others", "first", "second", "measure", "difference", "low", "high", "p_holm", "reason")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RecipeMean:
    """The mean `value` of a recipe's runs, their standard deviation `sd`, and `n`, the number of runs with a value.

    `value` is None without a run, `sd` with fewer than two.
    """

    value: float | None
    sd: float | None
    n: int


@dataclass(frozen=True)
class Recipe:
    """The runs with the same levels: `name`, `levels` {axis: level}, and `rows`, the indices of the runs."""

    name: str
    levels: dict[str, str]
    rows: tuple[int, ...]


@dataclass(frozen=True)
class StudyTable:
    """The contents of a study's folder: `rows`, one per run; `axes` {name: levels}; `comparisons`, or None.

    If the folder has a description, also the `base` {axis: level}, whether axes vary `one_at_a_time` (None: unknown),
    the axes `across`, at each of whose levels they do so, the number of `planned` runs, and the `quality` of maps that
    VICE is of.
    """

    name: str
    folder: Path
    axes: dict[str, tuple[str, ...]]
    rows: list[dict[str, Any]]
    comparisons: list[dict[str, Any]] | None = None
    base: dict[str, str] = field(default_factory=dict)
    one_at_a_time: bool | None = None
    planned: int | None = None
    across: tuple[str, ...] = ()
    quality: str = "ji"

    @property
    def seeds(self) -> tuple[Any, ...]:
        """The distinct seeds of the rows; a checkpoint may have none."""
        return tuple(dict.fromkeys(row["seed"] for row in self.rows if row["seed"] is not None))

    @property
    def given(self) -> list[dict[str, Any]]:
        """The rows of checkpoints that were given and not trained."""
        return [row for row in self.rows if row.get("origin") == "given"]

    @property
    def finished(self) -> list[dict[str, Any]]:
        """The rows of the runs that are finished."""
        return [row for row in self.rows if row["status"] == "finished"]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns other than run, axes, seed, status and reason."""
        others = {"run", *self.axes, "seed", "status", "reason"}
        return tuple(name for name in (self.rows[0] if self.rows else ()) if name not in others)

    @property
    def measured(self) -> tuple[str, ...]:
        """The columns of numbers, without limits of intervals and columns without a value."""
        return tuple(name for name in self.columns if name not in self.limits and _numeric(self.rows, name))

    @property
    def limits(self) -> frozenset[str]:
        """The columns that are a limit of the interval of another column."""
        limits = {f"{name}_{end}" for name in self.columns for end in ("low", "high")}
        return frozenset(limits & set(self.columns))

    def recipes(self) -> list[Recipe]:
        """The recipes of all runs in the order of the table; without a base, named by the axes with several levels."""
        base = self.base if self.one_at_a_time else {}
        varied = [axis for axis, levels in self.axes.items() if len(levels) > 1]
        naming = list(self.axes) if base else varied or list(self.axes)
        places_of: dict[tuple[str, ...], list[int]] = {}
        for place, row in enumerate(self.rows):
            places_of.setdefault(tuple(str(row[axis]) for axis in self.axes), []).append(place)
        return [
            Recipe(
                recipe_name(self.rows[places[0]], naming, base),
                dict(zip(self.axes, levels, strict=True)),
                tuple(places),
            )
            for levels, places in places_of.items()
        ]

    def mean(self, recipe: Recipe, column: str) -> RecipeMean:
        """The mean of a column over the runs of a recipe that have a value.

        Example:
            >>> rows = [
            ...     {"run": "a", "net": "x", "seed": 1, "status": "finished", "vice": 1.0},
            ...     {"run": "b", "net": "x", "seed": 2, "status": "finished", "vice": 3.0},
            ... ]
            >>> table = StudyTable("s", Path(), {"net": ("x",)}, rows)
            >>> table.mean(table.recipes()[0], "vice")
            RecipeMean(value=2.0, sd=1.4142135623730951, n=2)
        """
        cells = (self.rows[place].get(column) for place in recipe.rows)
        values = [float(value) for value in cells if value is not None and math.isfinite(value)]
        if not values:
            return RecipeMean(None, None, 0)
        spread = statistics.stdev(values) if len(values) > 1 else None
        return RecipeMean(statistics.fmean(values), spread, len(values))


def _numeric(rows: Sequence[Row], name: str) -> bool:
    known = [row[name] for row in rows if row[name] is not None]
    return bool(known) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)


def recipe_name(row: Row, axes: Sequence[str], base: Mapping[str, str]) -> str:
    """The name of a recipe: its levels that differ from the base, or without a base all its levels.

    Example:
        >>> recipe_name({"net": "vit", "decay": "0.0"}, ["net", "decay"], {"net": "resnet18", "decay": "0.0"})
        'net vit'
        >>> recipe_name({"net": "vit", "decay": "0.0"}, ["net", "decay"], {})
        'vit, 0.0'
    """
    if not base:
        return ", ".join(str(row[axis]) for axis in axes) or "base"
    return ", ".join(f"{axis} {row[axis]}" for axis in axes if row[axis] != base.get(axis)) or "base"


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other point beats, which is as high in both numbers and higher in one.

    Args:
        points: N pairs of finite numbers, higher is better; negate a number if lower is better.

    Returns:
        Indices of the points, first number ascending and second descending; equal points are all included.

    Example:
        >>> pareto_front([(1, 1), (3, 0), (2, 2), (2, 1), (0, 2)])
        [2, 1]
    """
    front: list[int] = []
    best = -math.inf
    for place in sorted(range(len(points)), key=lambda at: (-points[at][0], -points[at][1])):
        if points[place][1] > best or (front and points[place] == points[front[-1]]):
            front.append(place)
            best = points[place][1]
    return front[::-1]


def is_study(path: str | os.PathLike[str]) -> bool:
    """Whether a folder belongs to a study: it has a table or description of one, and no file of a RUN or table."""
    folder = Path(path)
    other = any((folder / name).is_file() for name in ("config.yaml", "manifest.json"))
    return not other and any((folder / name).is_file() for name in (TABLE, DESCRIPTION))


def read_study(folder: str | os.PathLike[str]) -> StudyTable:
    """Read the files of a study: its table, and its comparisons and description if they exist.

    Without a description the axes are the columns of the table between `run` and `seed`, and the base is unknown.

    Raises:
        ViceError: no run has ended yet, or a file is damaged or does not belong to a study.
    """
    folder = Path(folder)
    description = (
        read_json(folder / DESCRIPTION, "The description of a study") if (folder / DESCRIPTION).is_file() else {}
    )
    if not (folder / TABLE).is_file():
        raise ViceError(
            f"The page of a study needs a run, but none has ended in {folder}.", "Wait until the first run has ended."
        )
    rows = _read(folder / TABLE)
    for row in rows:
        if row.get("controls") == "none":  # of earlier versions, where no controls were assessed
            row["controls"] = None
    names = list(rows[0]) if rows else []
    if names[:1] != ["run"] or "seed" not in names or "status" not in names:
        raise ViceError(f"A study's table must have the columns run, seed and status, but {folder / TABLE} has not.")
    axes = names[1 : names.index("seed")]
    known, base = description.get("axes", {}), description.get("base", {})
    if not isinstance(known, dict) or not isinstance(base, dict):
        raise ViceError(f"`axes` and `base` of {folder / DESCRIPTION} must be objects, but one is not.")
    quality = str(description.get("quality", "ji"))
    check_quality(quality)
    comparisons = _read(folder / COMPARISONS) if (folder / COMPARISONS).is_file() else None
    missing = [name for name in NEEDED if comparisons and name not in comparisons[0]]
    if missing:
        raise ViceError(f"The comparisons of a study must have `{missing[0]}`, but {folder / COMPARISONS} has not.")
    return StudyTable(
        name=str(description.get("name") or folder.absolute().name),
        folder=folder,
        axes={axis: _levels(axis, known.get(axis, ()), rows) for axis in axes},
        rows=rows,
        comparisons=comparisons,
        base={axis: str(level) for axis, level in base.items() if axis in axes},
        one_at_a_time=description.get("one_at_a_time"),
        planned=description.get("planned"),
        across=tuple(axis for axis in axes if axis in description.get("across", ())),
        quality=quality,
    )


def _levels(axis: str, known: Sequence[str], rows: Sequence[Row]) -> tuple[str, ...]:
    """The levels of the description, in its order, and further levels of the table."""
    return tuple(dict.fromkeys([*map(str, known), *(str(row[axis]) for row in rows)]))


def _read(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file, with None for NaN."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise ViceError(f"A table of a study must be Parquet, but {path} cannot be read: {reason}") from None
    return [{n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in row.items()} for row in rows]
