"""Job: one run of a study from training to its row, in a process of its own; what is done is not done again."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.config import dump_settings, load_settings
from torchvice.errors import as_vice_error
from torchvice.files import read_json, write_json, write_text
from torchvice.files.lock import locked
from torchvice.study.plan import Asked, Planned

if TYPE_CHECKING:
    from torchvice.measures import Measures
    from torchvice.samples import Samples

__all__ = ["failure", "finished", "prepare", "run_job"]

STATE = "study.json"  # of a RUN: what of it is done, and its row
FAILED = "failed.json"


def prepare(run: Planned, asked: Asked) -> Path:
    """Write what a job needs into the RUN's folder; returns it."""
    folder = run.folder / "job"
    write_text(folder / "settings.yaml", dump_settings(run.settings))
    write_json(folder / "asked.json", asked.model_dump(mode="json"))
    (run.folder / FAILED).unlink(missing_ok=True)
    return run.folder


def finished(run: Planned, asked: Asked) -> dict[str, Any] | None:
    """The row of a run that is finished as it is asked for now, else None."""
    state = _state(run.folder)
    row: dict[str, Any] | None = state.get("row")
    return row if row is not None and state.get("asked") == asked.model_dump(mode="json") else None


def failure(folder: Path) -> str | None:
    """Why a run failed, one sentence; None where it did not."""
    path = folder / FAILED
    return str(read_json(path)["reason"]) if path.is_file() else None


def run_job(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Train, assess and measure a RUN that `prepare` prepared; returns its row.

    Killed at any moment and called again it goes on: training from the last epoch, the table from the last shard.

    Raises:
        ViceError: what `train`, `assess` and `measure` raise.
    """
    folder = Path(folder)
    settings = load_settings(folder / "job" / "settings.yaml")
    content = read_json(folder / "job" / "asked.json")
    asked = Asked.model_validate(content)
    with locked(folder / "job" / "lock", f"The run {folder}", wait=True):
        state = _state(folder)
        if state.get("asked") == content and "row" in state:
            row: dict[str, Any] = state["row"]
            return row
        if "train_seconds" not in state:
            state = _train(settings, folder)
        state = _assess(folder, asked, state)
        row = state["row"]
        return row


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    return read_json(path) if path.is_file() else {}


def _train(settings: Any, folder: Path) -> dict[str, Any]:
    from torchvice.training.run import train

    resume = (folder / "config.yaml").is_file()
    begun = any((folder / "checkpoints").glob("*.ckpt"))
    start = time.monotonic()
    train(settings, resume=resume, progress=True)
    # Of a training that was resumed only the last part was timed: it is no basis for an estimate.
    state = {"train_seconds": time.monotonic() - start, "resumed": begun}
    write_json(folder / STATE, state)
    return state


def _assess(folder: Path, asked: Asked, state: dict[str, Any]) -> dict[str, Any]:
    from torchvice.commands.assess import assess_subject
    from torchvice.commands.measure import measure_path, write_measures
    from torchvice.runs import Run
    from torchvice.runs.subject import run_subject

    start = time.monotonic()
    run = Run(folder)
    subject = run_subject(run)
    samples = assess_subject(
        subject,
        protocols=asked.protocols,
        method=asked.method,
        also=asked.also,
        controls=asked.controls_of_strict,
        faithfulness=asked.faithfulness,
    )
    found = measure_path(folder, quality=asked.quality, replicates=asked.replicates)
    write_measures(found.measures, run.measures_json)
    seconds = {"train": state["train_seconds"], "assess": time.monotonic() - start}
    row = row_of(found.measures, samples, seconds)
    state = {**state, "asked": asked.model_dump(mode="json"), "row": row, "assess_seconds": seconds["assess"]}
    write_json(folder / STATE, state)
    return state


def row_of(measures: Measures, samples: Samples, seconds: Mapping[str, float]) -> dict[str, Any]:
    """What the table says of a run: a number or None each."""
    row: dict[str, Any] = {"images": measures.images}
    for column, path in (
        ("vice", "strict.vice"),
        ("paper_vice", "paper.vice"),
        ("ji", "strict.ji"),
        ("mean_average_precision", "strict.mean_average_precision"),
        ("ece_ml", "strict.ece_ml"),
        ("paper_ece_ml", "paper.ece_ml"),
    ):
        row[column] = _number(measures.value(path))
        limits = measures.intervals.get(path)
        if column in ("vice", "paper_vice", "mean_average_precision"):
            row |= {f"{column}_{end}": limits[end] if limits else None for end in ("low", "high")}
    row["loss"] = _loss(samples)
    lost = [name for name, control in measures.controls.items() if control["beaten"] is False]
    row["controls"] = f"not above {', '.join(lost)}" if lost else "above all" if measures.controls else "none"
    for name, other in measures.methods.items():
        short = name.partition(":")[2] or name
        row |= {f"vice_{short}": _number(other["vice"]), f"ji_{short}": _number(other["ji"])}
    return row | {f"{name}_seconds": float(value) for name, value in seconds.items()}


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)


def _loss(samples: Samples) -> float:
    """The mean loss, nats, on the view of `strict`, or of `paper` where that is all there is."""
    return float(samples.of_protocol("strict" if "strict" in samples.protocols else "paper").losses.mean())


def _end_with_parent() -> None:
    """End when the standard input closes: a study that was killed leaves no run behind that nobody waits for."""
    while os.read(0, 4096):  # sys.stdin would hold a lock that the interpreter wants at its end
        pass
    os._exit(1)


def main() -> None:
    """`python -m torchvice.study.job RUN`: status 0, or 1 and the reason in the RUN's failed.json."""
    folder = Path(sys.argv[1])
    if "--with-parent" in sys.argv:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run_job(folder)
    except Exception as error:  # whatever a run raises must not stop the others
        sentence = as_vice_error(error)
        reason = " ".join(str(sentence or f"{type(error).__name__}: {error}").split())
        write_json(folder / FAILED, {"reason": reason[:1000]})
        if sentence is None:
            raise
        print(f"vice: {sentence}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
