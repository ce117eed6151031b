"""Tables of a study: one row per run, one row per comparison of two levels, and the findings as sentences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.files import atomic
from torchvice.measures.catalogue import compared_label
from torchvice.measures.wording import decimals, decimals_between, interval_text, p_text
from torchvice.report.study.text import is_established
from torchvice.study.checkpoints import ORIGIN
from torchvice.study.job import finished
from torchvice.study.plan import PlannedRun, Study
from torchvice.study.subject import data_of_split

if TYPE_CHECKING:
    from torchvice.config.sections import DataSettings
    from torchvice.samples import Samples

__all__ = ["compare_levels", "contrasts", "remove_table", "sentences_of", "table_rows", "write_table"]


def table_rows(study: Study, failed: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Build a row for every finished or failed run, in the order of the study: axes, seed, status, measures.

    All rows have the same columns, with None for missing values. If a checkpoint is given, they have `origin`,
    "trained" or "given", and `checkpoint_path`, a path or "pretrained". `reason` says why a run failed, or why its VICE
    is undefined.
    """
    failed = failed or {}
    rows = []
    some_given = any(run.given for run in study.runs)
    for run in study.runs:
        row, reason = finished(run, study.request), failed.get(run.folder.name)
        if row is not None or reason is not None:
            status = "failed" if row is None else "finished"
            origin = _origin(run) if some_given else {}
            rows.append({"run": run.folder.name, **run.levels, "seed": run.seed, "status": status, **origin})
            rows[-1] |= row or {}
            rows[-1]["reason"] = reason if row is None else row.get("reason")
    columns = dict.fromkeys(name for row in rows for name in row if name != "reason")
    return [{name: row.get(name) for name in (*columns, "reason")} for row in rows]


def _origin(run: PlannedRun) -> dict[str, str | None]:
    """The columns ORIGIN: where the weights of a run come from."""
    given = run.given
    return dict(zip(ORIGIN, ("trained", None) if given is None else ("given", given.checkpoint), strict=True))


def write_table(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> list[Path]:
    """Write rows to PATH.csv and PATH.parquet, each atomically; returns the files, none without rows."""
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


def remove_table(path: str | os.PathLike[str]) -> None:
    """Remove PATH.csv and PATH.parquet, if they are there."""
    for suffix in ("csv", "parquet"):
        Path(f"{path}.{suffix}").unlink(missing_ok=True)


def _schema(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Choose the type of each column: string, int64, bool, otherwise float64, also if every value is None."""
    import pyarrow as pa

    fields = []
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        kinds = {type(value) for value in values}
        text = kinds == {str} or (not values and name in ("reason", "controls", "status", *ORIGIN))
        number = {frozenset({bool}): pa.bool_(), frozenset({int}): pa.int64()}.get(frozenset(kinds), pa.float64())
        fields.append((name, pa.string() if text else number))
    return pa.schema(fields)


def compare_levels(study: Study) -> list[dict[str, Any]]:
    """Compute the paired differences between the levels of each axis, over seeds and images.

    The other axes are at the base. In a grid, and for the axes of `across`, each of their combinations is compared
    separately and named in `others`. Holm's correction covers the compared pairs of levels of one axis, combination and
    measure.

    Returns:
        Rows with `axis`, `others`, `first`, `second`, `measure`, `difference` (first - second), `low`, `high`, `p`,
        `p_holm`, `seeds_first`, `seeds_second` and `reason`; `reason` is None if there is a result.
    """
    done = [run for run in study.runs if finished(run, study.request) is not None]
    rows = []
    for axis in study.axes:
        against = study.base[axis] if study.against_base else None
        for others, levels in contrasts(study, axis, done):
            if against is None or against in levels:
                rows += [{"axis": axis, "others": others, **row} for row in _compare(study, levels, against)]
    return rows


def contrasts(study: Study, axis: str, done: Sequence[PlannedRun]) -> list[tuple[str, dict[str, list[PlannedRun]]]]:
    """Group the runs by the levels of an axis, {level: runs}, for every combination of the other axes."""
    contrasts: dict[str, dict[str, list[PlannedRun]]] = {}
    for run in done:
        others = {name: level for name, level in run.levels.items() if name != axis}
        away = [name for name, level in others.items() if study.base and level != study.base[name]]
        if axis not in study.across and not set(away) <= set(study.across):
            continue
        name_of_others = ", ".join(f"{name} {level}" for name, level in others.items())
        contrasts.setdefault(name_of_others, {}).setdefault(run.levels[axis], []).append(run)
    return [(others, levels) for others, levels in contrasts.items() if len(levels) > 1]


def _compare(study: Study, levels: Mapping[str, Sequence[PlannedRun]], against: str | None) -> list[dict[str, Any]]:
    """Compare the levels pairwise; if that fails, return rows with the reason."""
    from torchvice.commands.tables import load_samples
    from torchvice.measures.compare import compare_groups, group_pairs

    groups = {level: [run.folder.name for run in runs] for level, runs in levels.items()}
    folders = {run.folder.name: run for runs in levels.values() for run in runs}
    try:
        models = {
            name: load_samples(run.folder, Path(run.settings.data.eval_split).name) for name, run in folders.items()
        }
        _check_same_files(models, folders)
        rows = compare_groups(
            models, groups, against=against, quality=study.request.quality, replicates=study.request.replicates
        )
        return [{**row, "reason": row.get("reason")} for row in rows]
    except ViceError as error:
        missing = {**dict.fromkeys(("difference", "low", "high", "p", "p_holm")), "p_at_floor": False}
        return [
            {"first": a, "second": b, "measure": "vice", "seeds_first": len(groups[a]), "seeds_second": len(groups[b])}
            | {**missing, "reason": error.message}
            for a, b in group_pairs(groups, against)
        ]


def _check_same_files(models: Mapping[str, Samples], runs: Mapping[str, PlannedRun]) -> None:
    """Check that runs with the same settings of the data were assessed on the same files.

    Raises:
        ViceError: the data changed after one of them was assessed.
    """
    from torchvice.measures.contents import different_contents

    read_alike: dict[DataSettings, list[str]] = {}
    for name, run in runs.items():
        data = run.settings.data
        read_alike.setdefault(data_of_split(data, data.eval_split), []).append(name)
    for data, names in read_alike.items():
        for name in names[1:]:
            if different_contents(models[names[0]], models[name]):
                raise ViceError(
                    f"The data in {data.root} have changed: {names[0]} and {name} were assessed on other files.",
                    "Delete the folders of the runs that were assessed before the change.",
                )


def sentences_of(
    study: Study,
    comparisons: Sequence[Mapping[str, Any]],
    failed: Mapping[str, str] | None = None,
    undefined: Mapping[str, str] | None = None,
) -> list[str]:
    """Say of each axis which differences are established and which are not, and why runs failed or have no VICE."""
    sentences = []
    for axis in study.axes:
        rows = [row for row in comparisons if row["axis"] == axis]
        sentences += [f"{axis}{at}: {text}" for at, text in _differences(rows, study.request.quality)]
        sentences += [] if rows else [f"{axis}: {_why_none(study, axis)}"]
    reasons = dict.fromkeys(row["reason"] for row in comparisons if row["reason"])
    sentences += [f"No claim, because: {reason}" for reason in reasons]
    sentences += [f"{name}: {reason}" for name, reason in (undefined or {}).items()]
    return sentences + [f"{name} failed: {reason}" for name, reason in (failed or {}).items()]


def _why_none(study: Study, axis: str) -> str:
    if study.against_base:
        return f"no comparison with the base's level, {study.base[axis]}: it and another level must be finished."
    return "no two levels are finished."


def _at(row: Mapping[str, Any]) -> str:
    return f" ({row['others']})" if row["others"] else ""


def _differences(rows: Sequence[Mapping[str, Any]], quality: str) -> list[tuple[str, str]]:
    """Where, and what is said of each difference; one sentence of two levels of which nothing is known."""
    pairs: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        pairs.setdefault((row["others"], row["first"], row["second"]), []).append(row)
    found = []
    for same in pairs.values():
        if len(same) > 1 and all(row["difference"] is None for row in same):
            one = same[0]
            seeds = f"{one['seeds_first']} and {one['seeds_second']} seeds"
            found.append((_at(one), f"no claim about {one['first']} - {one['second']} ({seeds})."))
        else:
            found += [(_at(row), _difference(row, quality)) for row in same]
    return found


def _difference(row: Mapping[str, Any], quality: str) -> str:
    pair = f"{compared_label(row['measure'], quality)} of {row['first']} - {row['second']}"
    seeds = f"{row['seeds_first']} and {row['seeds_second']} seeds"
    if row["p_holm"] is None:
        value = "" if row["difference"] is None else f" = {decimals(row['difference'], sign='+')}"
        return f"no claim about {pair}{value} ({seeds})."
    word = "established" if is_established(row) else "not established"
    return (
        f"{word}, {pair} = {decimals(row['difference'], decimals_between(row['low'], row['high']), '+')} "
        f"({interval_text(row['low'], row['high'], sign='+')}, p {p_text(row['p_holm'])} after Holm, {seeds})."
    )
