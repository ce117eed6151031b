"""Job: one run of a study from training to its table row, in a separate process; finished steps are not repeated."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.config import Settings, dump_settings, load_settings
from torchvice.errors import as_vice_error
from torchvice.files import read_json, write_json, write_text
from torchvice.files.lock import locked
from torchvice.files.process import end_with_parent, keep_freed_memory
from torchvice.measures.catalogue import compared_label, measure_of
from torchvice.study.checkpoints import Given
from torchvice.study.plan import AssessmentRequest, PlannedRun

if TYPE_CHECKING:
    from torchvice.measures import Measures
    from torchvice.samples import Samples

__all__ = ["failure", "finished", "prepare", "resumed", "run_job"]

STATE = "study.json"  # in a RUN: its finished steps and its table row
FAILED = "failed.json"
GIVEN = "checkpoint.json"  # in job/, of a run that is not trained


def prepare(run: PlannedRun, request: AssessmentRequest) -> Path:
    """Write the files that a job reads into the RUN's folder; returns the folder."""
    folder = run.folder / "job"
    write_text(folder / "settings.yaml", dump_settings(run.settings))
    write_json(folder / "asked.json", request.model_dump(mode="json"))
    if run.given is not None:
        write_json(folder / GIVEN, asdict(run.given))
    (run.folder / FAILED).unlink(missing_ok=True)
    return run.folder


def finished(run: PlannedRun, request: AssessmentRequest) -> dict[str, Any] | None:
    """Return the row of a run that is finished with this request, else None."""
    return _row_of_state(_state(run.folder), request)


def _row_of_state(state: Mapping[str, Any], request: AssessmentRequest) -> dict[str, Any] | None:
    """The row of a state that answers this request, else None."""
    row: dict[str, Any] = state.get("row", {})
    # Rows of earlier versions mix two qualities where one was chosen; they are measured again.
    whole = row and (request.quality == "ji" or "quality" in row)
    if row.get("controls") == "none":  # of earlier versions, where no controls were assessed
        row = {**row, "controls": None}
    return row if whole and state.get("asked") == request.model_dump(mode="json") else None


def resumed(run: PlannedRun) -> bool:
    """Whether the training of a run was resumed, so that only its last part was timed."""
    return bool(_state(run.folder).get("resumed"))


def failure(folder: Path) -> str | None:
    """Return the sentence why a run failed; None if it did not fail."""
    path = folder / FAILED
    return str(read_json(path)["reason"]) if path.is_file() else None


def run_job(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Train, assess and measure a RUN that `prepare` set up; returns its row. A checkpoint is not trained.

    If it was killed, it resumes: training after the last finished epoch, the assessment after the last shard.

    Raises:
        ViceError: as `train`, `assess` and `measure`, or a checkpoint that has changed since it was planned.
    """
    folder = Path(folder)
    settings = load_settings(folder / "job" / "settings.yaml")
    request = AssessmentRequest.model_validate(read_json(folder / "job" / "asked.json"))
    with locked(folder / "job" / "lock", f"The run {folder}", wait=True):
        state = _state(folder)
        if _row_of_state(state, request) is None:
            path = folder / "job" / GIVEN
            given = Given(**read_json(path)) if path.is_file() else None
            if given is None and "train_seconds" not in state:
                state = _train(settings, folder)
            state = _assess(folder, settings, request, given, state)
        row: dict[str, Any] = state["row"]
        return row


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    return read_json(path) if path.is_file() else {}


def _train(settings: Any, folder: Path) -> dict[str, Any]:
    from torchvice.training.run import train

    resume = (folder / "config.yaml").is_file()
    started = any((folder / "checkpoints").glob("*.ckpt"))
    start = time.monotonic()
    train(settings, resume=resume, progress=True)
    # Only the last part of a resumed training is timed, so `estimate` skips it.
    state = {"train_seconds": time.monotonic() - start, "resumed": started}
    write_json(folder / STATE, state)
    return state


def _assess(
    folder: Path, settings: Settings, request: AssessmentRequest, given: Given | None, state: dict[str, Any]
) -> dict[str, Any]:
    from torchvice.commands.assess import assess_subject
    from torchvice.commands.measure import measure_path, measures_file, write_measures
    from torchvice.study.subject import subject_of

    start = time.monotonic()
    subject = subject_of(folder, settings, request, given)
    samples = assess_subject(subject, protocols=request.protocols, extras=request.extras)
    split = None if given is None else subject.out.name
    measures = measure_path(folder, split, quality=request.quality, replicates=request.replicates).measures
    write_measures(measures, measures_file(folder, request.quality))
    seconds = {"train": state.get("train_seconds"), "assess": time.monotonic() - start}
    row = row_of(measures, samples, seconds)
    state = {**state, "asked": request.model_dump(mode="json"), "row": row, "assess_seconds": seconds["assess"]}
    write_json(folder / STATE, state)
    return state


def row_of(measures: Measures, samples: Samples, seconds: Mapping[str, float | None]) -> dict[str, Any]:
    """Build the values of a run's table row, each a number or None; `controls` is text, or None without
    controls, and `reason` is text where VICE is undefined.

    With another quality than the IoU, `vice` is VICE with it, and `quality` its mean, in place of `ji`; so are those of
    further explanations, and `controls` are compared by that VICE.
    """
    row: dict[str, Any] = {"images": measures.images}
    own = measures.quality.get("name", "ji") == "ji"
    mean = "ji" if own else "quality"
    for column, path in (
        ("vice", "strict.vice" if own else "quality.vice"),
        ("paper_vice", "paper.vice"),
        (mean, "strict.ji" if own else "quality.mean"),
        ("mean_average_precision", "strict.mean_average_precision"),
        ("ece_ml", "strict.ece_ml"),
        ("paper_ece_ml", "paper.ece_ml"),
    ):
        row[column] = _number(measures.value(path))
        limits = measures.intervals.get(path)
        if column in ("vice", "paper_vice", "mean_average_precision"):
            row |= {f"{column}_{end}": limits[end] if limits else None for end in ("low", "high")}
    row["loss"] = _loss(samples)
    unbeaten = [name for name, control in measures.controls.items() if control.beaten is False]
    undefined = [name for name, control in measures.controls.items() if control.beaten is None]
    above = f"above all but {', '.join(undefined)}, undefined" if undefined else "above all"
    row["controls"] = f"not above {', '.join(unbeaten)}" if unbeaten else above if measures.controls else None
    for name, other in measures.methods.items():
        short = name.partition(":")[2] or name
        row |= {f"vice_{short}": _number(other.vice), f"{mean}_{short}": _number(other.quality)}
    row |= {f"{name}_seconds": _number(value) for name, value in seconds.items()}
    headline = "paper.vice" if "strict" not in samples.protocols else "strict.vice" if own else "quality.vice"
    reason = measures.undefined.get(headline)
    label = measure_of(headline).full_label if own else compared_label("vice", measures.quality["name"])
    return row | {"reason": f"{label} is undefined: {reason}" if reason else None}


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)


def _loss(samples: Samples) -> float:
    """Mean loss in nats on the view of `strict`, or of `paper` if `strict` was not assessed."""
    return float(samples.of_protocol("strict" if "strict" in samples.protocols else "paper").losses.mean())


def main() -> None:
    """Run `python -m torchvice.study.job RUN`: status 0, or 1 with the reason in the RUN's failed.json."""
    folder = Path(sys.argv[1])
    keep_freed_memory()
    if "--with-parent" in sys.argv:
        end_with_parent()
    try:
        run_job(folder)
    except Exception as error:  # no error of a run may stop the others
        sentence = as_vice_error(error)
        reason = " ".join(str(sentence or f"{type(error).__name__}: {error}").split())
        write_json(folder / FAILED, {"reason": reason[:1000]})
        if sentence is None:
            raise
        print(f"vice: {sentence}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
