"""Run the missing runs of a study, and write its tables, findings and figure."""

from __future__ import annotations

import itertools
import shutil
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.files import read_json
from torchvice.files.lock import locked
from torchvice.measures.catalogue import compared_label
from torchvice.measures.qualities import QUALITIES, check_quality
from torchvice.measures.wording import decimals
from torchvice.report.study.recipes import DESCRIPTION
from torchvice.study.description import write_description
from torchvice.study.job import failure, finished, prepare, resumed
from torchvice.study.launch import lacking_launcher, run_jobs
from torchvice.study.plan import AssessmentRequest, PlannedRun, Study
from torchvice.study.subject import check_checkpoint, check_network, data_of_split, eval_dataset
from torchvice.study.table import compare_levels, contrasts, remove_table, sentences_of, table_rows, write_table

if TYPE_CHECKING:
    from torchvice.config.sections import DataSettings
    from torchvice.study.file_digests import FileDigests

__all__ = ["Estimate", "StudyResult", "check_study", "estimate", "run_study", "study_result"]


@dataclass(frozen=True)
class Estimate:
    """Work left in a study: the `missing` runs, and the `seconds` and `bytes` they will take, None if unknown.

    Both come from finished runs of this study, with the same levels if possible. Before a run is finished, `bytes`
    counts the checkpoints only, and `least` is true.
    """

    finished: tuple[PlannedRun, ...]
    missing: tuple[PlannedRun, ...]
    seconds: float | None
    bytes: int | None
    least: bool = False


@dataclass(frozen=True)
class StudyResult:
    """Results of a study: table `rows`, `comparisons`, findings as `sentences`, `failed` {run: reason}, `files`."""

    rows: list[dict[str, Any]]
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def estimate(study: Study, parameters: Mapping[str, int] | None = None) -> Estimate:
    """Estimate the time and the disk space of the missing runs from the finished ones.

    Args:
        study: see `load_study`.
        parameters: number of parameters of every network, from `check_study`; gives the size of the checkpoints before
            a run is finished.
    """
    rows = {run.key: finished(run, study.request) for run in study.runs}
    done = [run for run in study.runs if rows[run.key] is not None]
    missing = [run for run in study.runs if rows[run.key] is None]
    seconds: list[float] = []
    disk: list[float] = []
    of_kind = {trained: [run for run in done if (run.given is None) == trained] for trained in (True, False)}
    times = {run.key: _seconds(rows[run.key] or {}, run) for run in done}
    sizes = {run.key: _size(run.folder) for run in done}
    for run in missing:
        alike = of_kind[run.given is None]
        alike = [other for other in alike if other.recipe == run.recipe] or alike
        known = [value for other in alike if (value := times[other.key]) is not None]
        seconds += [statistics.median(known)] if known else []
        disk += [statistics.median(sizes[other.key] for other in alike)] if alike else []
    trained = [run for run in missing if run.given is None]
    least = not done and bool(trained) and parameters is not None
    if least and parameters is not None:
        disk = [_checkpoints(run, parameters[_network(run)]) if run in trained else 0.0 for run in missing]
    return Estimate(
        tuple(done),
        tuple(missing),
        max([*seconds, sum(seconds) / study.where.jobs]) if len(seconds) == len(missing) else None,
        round(sum(disk)) if len(disk) == len(missing) else None,
        least,
    )


def _network(run: PlannedRun) -> str:
    """Identify the network of a run."""
    return f"{run.settings.model.name} {run.settings.model.arguments}"


def _checkpoints(run: PlannedRun, parameters: int) -> float:
    """Bytes of best.ckpt and last.ckpt: weights, optimiser state, and the moving average, if any."""
    states = 0 if run.settings.model.linear_probe else {"sgd": 1, "adamw": 2}[run.settings.optimizer.name]
    states += run.settings.regularisation.ema > 0
    return 2.0 * 4 * parameters * (1 + states)


def _seconds(row: dict[str, Any], run: PlannedRun) -> float | None:
    """Seconds of a run; None if it was resumed, because only its last part was timed."""
    parts = [row.get("train_seconds") if run.given is None else 0.0, row.get("assess_seconds")]
    return None if resumed(run) or None in parts else float(sum(filter(None, parts)))


def check_disk(study: Study, work: Estimate) -> None:
    """Check that the disk has room for the missing runs, if their size is known."""
    free = shutil.disk_usage(study.folder).free
    if work.bytes is not None and free < work.bytes:
        raise ViceError(
            f"{len(work.missing)} runs need about {_megabytes(work.bytes)}, but the disk of {study.folder} has "
            f"{_megabytes(free)} left.",
            "Free some space, or choose another --folder.",
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_study(study: Study, files: bool = True) -> dict[str, int]:
    """Check, before anything runs, that every run can: networks, methods, data and weights.

    Args:
        study: see `load_study`.
        files: also check the launcher, data, weights, checkpoints that are not assessed, and the packages that the
            methods need.

    Returns:
        The number of parameters of every network that is trained, for `estimate`.

    Raises:
        ViceError: the first mistake.
    """
    from torchvice.assessment import MapSettings
    from torchvice.assessment.request import check_request
    from torchvice.explain import METHODS
    from torchvice.explain.attribution import captum_attr
    from torchvice.models.build import build_model
    from torchvice.models.pretraining import check_weights

    if files and (lacking := lacking_launcher(study.where)):
        raise lacking
    request = study.request
    MapSettings(method=request.method)
    check_request(request.protocols, request.extras)
    _check_quality(request)
    parameters = {}
    trained = [run for run in study.runs if run.given is None]
    for key, runs in itertools.groupby(sorted(trained, key=_network), key=_network):
        models = [run.settings.model for run in runs]
        network = build_model(models[0].name, 1, arguments=models[0].arguments)
        parameters[key] = sum(p.numel() for p in network.parameters())
        for weights, scheme in {(model.weights, model.scheme) for model in models if model.weights and files}:
            check_weights(network, weights, scheme)
    if files:
        if any("captum" in METHODS[name].needs for name in (request.method, *request.also) if name in METHODS):
            captum_attr()
        for data in dict.fromkeys(data_of_split(run.settings.data, s) for run in study.runs for s in _splits(run)):
            eval_dataset(data)
    for run in study.runs:
        if run.given is not None:
            check_network(run)
            if files and finished(run, request) is None:
                check_checkpoint(run, request)
    return parameters


def _check_quality(request: AssessmentRequest) -> None:
    """Check that the tables will hold the quality that VICE is measured with."""
    check_quality(request.quality)
    if request.quality == "ji":
        return
    if "strict" not in request.protocols:
        raise ViceError(
            f"`measure.quality` needs the view of `strict`, but is {request.quality} and `strict` is not assessed.",
            "Add strict to measure.protocols, or leave out measure.quality.",
        )
    taken = request.extras.faithfulness.measures if request.extras.faithfulness else ()
    if not QUALITIES[request.quality].says_where and request.quality not in taken:
        raise ViceError(
            f"`measure.quality` {request.quality} must be among measure.faithfulness, but it is not.",
            f"Add it: faithfulness: [{request.quality}].",
        )


def _splits(run: PlannedRun) -> tuple[str, ...]:
    data = run.settings.data
    return (data.eval_split,) if run.given else (data.train_split, data.selection_split, data.eval_split)


def not_comparable(study: Study) -> list[str]:
    """Say which axes have levels that are assessed on different images, so that no difference can be tested."""
    images: dict[DataSettings, set[str]] = {}
    found = []
    for axis in study.axes:
        for _, levels in contrasts(study, axis, study.runs):
            settings = [run.settings.data for runs in levels.values() for run in runs]
            data = list(dict.fromkeys(data_of_split(one, one.eval_split) for one in settings))
            for one in data if len(data) > 1 else ():
                if one not in images:
                    images[one] = {record.image_id for record in eval_dataset(one).records}
            if len(data) > 1 and not set.intersection(*(images[one] for one in data)):
                places = " and ".join(sorted({f"{one.eval_split} of {one.root}" for one in data}))
                found.append(f"Levels of {axis} will not be compared: {places} have no image in common.")
    return list(dict.fromkeys(found))


def run_study(
    study: Study, *, say: Callable[[str], None] = print, progress: Callable[[int, int], None] | None = None
) -> StudyResult:
    """Run the missing runs of a study, and write its tables, findings and figure into its folder.

    Checkpoints that the study names are assessed and not trained; one whose file has changed is another run.
    A killed study resumes; with a further axis or seed only the new runs run. A failed run is reported and does not
    stop the others; the next start tries it again.

    Args:
        study: see `load_study`.
        say: called with a line for each run that ends.
        progress: called with (runs ended, all runs).

    Raises:
        ViceError: as `check_study`, another process runs the study, or a file of weights has changed after runs were
            trained from it.
    """
    study.folder.mkdir(parents=True, exist_ok=True)
    with locked(study.folder / "lock", f"The study {study.folder}"):
        missing = [run for run in study.runs if finished(run, study.request) is None]
        check_disk(study, estimate(study, check_study(study, files=bool(missing))))
        if study.digests is not None:
            _check_weights(study, study.digests)
            trained_from = {run.settings.model.weights for run in study.runs if run.given is None}
            for file in (file for file in study.digests.changed if file not in trained_from):
                say(f"{file} has changed since the last start: what it gives is assessed again, as another run.")
            study.digests.write()
        _remove_comparisons_of_another_quality(study)
        write_description(study)  # first, so that the page can be written while the study runs
        ended = len(study.runs) - len(missing)
        failed: dict[str, str] = {}
        progress = progress or (lambda ended, total: None)
        progress(ended, len(study.runs))
        by_folder = {prepare(run, study.request): run for run in missing}
        if missing:
            for sentence in not_comparable(study):
                say(sentence)
            say(f"Starting {len(missing)} of {len(study.runs)} runs (launcher: {study.where.launcher}).")
        for folder, ending in run_jobs(list(by_folder), study.where) if missing else ():
            run, ended = by_folder[folder], ended + 1
            row = finished(run, study.request)
            seed = [] if run.seed is None else [f"seed {run.seed}"]
            name = f"{ended}/{len(study.runs)} {', '.join([*run.levels.values(), *seed])}"
            if row is None:
                failed[folder.name] = failure(folder) or ending or "it ended without a result"
                say(f"{name}: failed, {failed[folder.name]} ({folder}/job/log.txt)")
            else:
                say(f"{name}: {_summary(row, study.request.quality)}")
            write_table(table_rows(study, failed), study.folder / "table")
            progress(ended, len(study.runs))
        return study_result(study, failed)


def _check_weights(study: Study, digests: FileDigests) -> None:
    """Check that no file of weights, from which runs were trained, has changed: their name holds its path alone.

    Raises:
        ViceError: one has.
    """
    runs = [run for run in study.runs if run.given is None and run.settings.model.weights is not None]
    for run in runs:
        file = str(run.settings.model.weights)
        digests.of_file(file)
        if file in digests.changed and (run.folder / "config.yaml").is_file():
            raise ViceError(
                f"{file} has changed since the last start, but the training of {run.folder} started from it.",
                "Restore it, give the new file another name, or delete the folders of the runs that started from it.",
            )


def _remove_comparisons_of_another_quality(study: Study) -> None:
    """Remove comparisons of an earlier start whose VICE is another than the one that the description now names."""
    before = read_json(study.folder / DESCRIPTION) if (study.folder / DESCRIPTION).is_file() else {}
    if before.get("quality", "ji") != study.request.quality:
        remove_table(study.folder / "comparisons")


def _summary(row: dict[str, Any], quality: str) -> str:
    vice = "undefined" if row["vice"] is None else decimals(row["vice"])
    seconds = (row["train_seconds"] or 0.0) + row["assess_seconds"]
    return f"{compared_label('vice', quality)} {vice}, {seconds:.0f} s"


def study_result(study: Study, failed: dict[str, str] | None = None) -> StudyResult:
    """Write the tables, findings and figure of the finished runs; nothing is run.

    Args:
        study: see `load_study`.
        failed: reasons {run: reason} of failed runs.
    """
    from torchvice.files import write_text
    from torchvice.report.figures import save_figure
    from torchvice.report.study.figure import study_figure

    failed = failed or {}
    rows = table_rows(study, failed)
    comparisons = compare_levels(study)
    done = [row for row in rows if row["status"] == "finished"]
    undefined = {row["run"]: row["reason"] for row in done if row["reason"]}
    sentences = sentences_of(study, comparisons, failed, undefined)
    files = write_table(rows, study.folder / "table")
    files += write_table(comparisons, study.folder / "comparisons")
    if not comparisons:  # those of an earlier start do not belong to these rows
        remove_table(study.folder / "comparisons")
    files.append(write_text(study.folder / "findings.txt", "\n".join(sentences) + "\n"))
    if any(row["vice"] is not None for row in done):
        figure = study_figure(done, list(study.axes), base=study.base, quality=study.request.quality)
        files += save_figure(figure, study.folder / "study")
    return StudyResult(rows, comparisons, sentences, failed, files)
