"""`vice measure --log`: numbers and diagrams for the loggers of Lightning."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from torchvice.commands.measure import Measured
from torchvice.errors import ViceError

__all__ = ["check_log", "log_measured"]


def check_log(path: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Check, before anything is measured, that loggers of these names can take the numbers of a path.

    Raises:
        ViceError: a CSV of the original, an unknown name, or a package that is not installed.
    """
    from torchvice.training.loggers import check_loggers

    if names and Path(path).is_file():
        raise ViceError(f"--log needs a RUN or a table, but {path} is a file.", "Leave it out.")
    check_loggers(names)


def log_measured(measured: Measured, names: Sequence[str]) -> None:
    """Give every defined number, the ends of its interval (`PATH/low`, `PATH/high`) and the diagrams to loggers.

    Args:
        measured: of `measure_path`.
        names: of the loggers, see `torchvice.training.loggers.loggers_of`; their files lie in `logs` of its home.

    Raises:
        ViceError: a logger does not start.
    """
    from torchvice.measures.catalogue import SECTIONS
    from torchvice.report.diagrams import diagrams_of
    from torchvice.training.loggers import log_once, loggers_of

    found = measured.measures
    numbers = {f"{part}/{name}": value for part in SECTIONS for name, value in _numbers(getattr(found, part)).items()}
    for path, limits in found.intervals.items():
        ends = _numbers({end: limits.get(end) for end in ("low", "high")})
        numbers |= {f"{path.replace('.', '/')}/{end}": value for end, value in ends.items()}
    figures = {f"figures/{name}": figure for name, figure in diagrams_of(found, measured.title).items()}
    log_once(loggers_of(names, measured.home), numbers, figures)


def _numbers(values: dict[str, object]) -> dict[str, float]:
    """The values that are numbers and defined."""
    return {name: value for name, value in values.items() if isinstance(value, int | float) and math.isfinite(value)}
