"""The tables of a study: a row a run, a row a comparison of two levels, and what is established in words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError
from torchvice.files import atomic
from torchvice.report.study.text import is_established
from torchvice.study.job import finished
from torchvice.study.plan import Planned, Study

__all__ = ["compared", "sentences_of", "table_rows", "write_table"]

NAMES = {"vice": "VICE", "quality": "map quality", "mean_average_precision": "mAP", "loss": "loss", "ece_ml": "ECE-ML"}


def table_rows(study: Study, failed: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """A row for every run that is finished or has failed, in the order of the study: axes, seed, status, measures.

    All rows have the same columns; None where a run has no value.
    """
    failed = failed or {}
    rows = []
    for run in study.runs:
        found, reason = finished(run, study.asked), failed.get(run.folder.name)
        if found is not None or reason is not None:
            status = "failed" if found is None else "finished"
            rows.append({"run": run.folder.name, **run.levels, "seed": run.seed, "status": status} | (found or {}))
            rows[-1]["reason"] = None if found is not None else reason
    columns = dict.fromkeys(name for row in rows for name in row if name != "reason")
    return [{name: row.get(name) for name in (*columns, "reason")} for row in rows]


def write_table(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> list[Path]:
    """Rows as PATH.csv and PATH.parquet, each whole or not at all; returns the files, none for no rows."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    if not rows:
        return []
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=_schema(rows))
    csv, parquet = Path(f"{path}.csv"), Path(f"{path}.parquet")
    with atomic(csv) as part:
        pa_csv.write_csv(table, part)
    with atomic(parquet) as part:
        pq.write_table(table, part)
    return [csv, parquet]


def _schema(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A type for each column: text, whole numbers, truth, else float64, also where every value is None."""
    import pyarrow as pa

    fields = []
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        kinds = {type(value) for value in values}
        text = kinds == {str} or (not values and name in ("reason", "controls", "status"))
        plain = {frozenset({bool}): pa.bool_(), frozenset({int}): pa.int64()}.get(frozenset(kinds), pa.float64())
        fields.append((name, pa.string() if text else plain))
    return pa.schema(fields)


def compared(study: Study) -> list[dict[str, Any]]:
    """The paired differences between the levels of each axis, over seeds and images.

    The other axes are at the base, or, in a grid and of a study's `across`, matched: every combination of them is a
    comparison of its own, named in `others`. p-values are Holm's over the pairs of levels that are compared, of each
    axis, combination and measure.

    Returns:
        Rows with `axis`, `others`, `first`, `second`, `measure`, `difference` (first - second), `low`, `high`, `p`,
        `p_holm`, `seeds_first`, `seeds_second` and `reason`, None where there is a result.
    """
    done = [run for run in study.runs if finished(run, study.asked) is not None]
    rows = []
    for axis in study.axes:
        against = study.base[axis] if study.against_base else None
        for others, levels in _contrasts(study, axis, done):
            if against is None or against in levels:
                rows += [{"axis": axis, "others": others, **row} for row in _compared(study, levels, against)]
    return rows


def _contrasts(study: Study, axis: str, done: Sequence[Planned]) -> list[tuple[str, dict[str, list[Planned]]]]:
    """What of an axis can be compared: {level: runs} for every combination of the other axes."""
    found: dict[str, dict[str, list[Planned]]] = {}
    for run in done:
        others = {name: level for name, level in run.levels.items() if name != axis}
        away = [name for name, level in others.items() if study.base and level != study.base[name]]
        if axis not in study.across and not set(away) <= set(study.across):
            continue
        said = ", ".join(f"{name} {level}" for name, level in others.items())
        found.setdefault(said, {}).setdefault(run.levels[axis], []).append(run)
    return [(said, levels) for said, levels in found.items() if len(levels) > 1]


def _compared(study: Study, levels: Mapping[str, Sequence[Planned]], against: str | None) -> list[dict[str, Any]]:
    from torchvice.commands.tables import load_samples
    from torchvice.measures.compare import compare_groups, group_pairs

    groups = {level: [run.folder.name for run in runs] for level, runs in levels.items()}
    folders = {run.folder.name: run for runs in levels.values() for run in runs}
    try:
        models = {
            name: load_samples(run.folder, Path(run.settings.data.eval_split).name) for name, run in folders.items()
        }
        found = compare_groups(
            models, groups, against=against, quality=study.asked.quality, replicates=study.asked.replicates
        )
        return [{**row, "reason": row.get("reason")} for row in found]
    except ViceError as error:
        nothing = dict.fromkeys(("difference", "low", "high", "p", "p_holm"))
        return [
            {"first": a, "second": b, "measure": "vice", "seeds_first": len(groups[a]), "seeds_second": len(groups[b])}
            | {**nothing, "reason": error.message}
            for a, b in group_pairs(groups, against)
        ]


def sentences_of(
    study: Study, comparisons: Sequence[Mapping[str, Any]], failed: Mapping[str, str] | None = None
) -> list[str]:
    """What is established about each axis, what is not, and what no claim can be made about."""
    said = []
    for axis in study.axes:
        mine = [row for row in comparisons if row["axis"] == axis]
        if not mine:
            said.append(f"{axis}: no two levels are finished.")
        for row in mine:
            said.append(f"{axis}{_at(row)}: {_difference(row)}")
    if any(row["reason"] for row in comparisons):
        reasons = dict.fromkeys(row["reason"] for row in comparisons if row["reason"])
        said += [f"No claim, because: {reason}" for reason in reasons]
    for name, reason in (failed or {}).items():
        said.append(f"{name} failed: {reason}")
    return said


def _at(row: Mapping[str, Any]) -> str:
    return f" ({row['others']})" if row["others"] else ""


def _difference(row: Mapping[str, Any]) -> str:
    pair = f"{NAMES[row['measure']]} of {row['first']} - {row['second']}"
    seeds = f"{row['seeds_first']} and {row['seeds_second']} seeds"
    if row["p_holm"] is None:
        value = "" if row["difference"] is None else f" = {row['difference']:+.3f}"
        return f"no claim about {pair}{value} ({seeds})."
    word = "established" if is_established(row) else "not established"
    return (
        f"{word}, {pair} = {row['difference']:+.3f} "
        f"({row['low']:+.3f} to {row['high']:+.3f}, p {row['p_holm']:.3f} after Holm, {seeds})."
    )
