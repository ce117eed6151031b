"""Description of a study next to its table, so that the folder can be read without the study's file."""

from __future__ import annotations

from pathlib import Path

from torchvice.files import write_json
from torchvice.report.study.recipes import DESCRIPTION
from torchvice.study.plan import Study

__all__ = ["write_description"]


def write_description(study: Study) -> Path:
    """Write study.json: `name`, `axes` {name: levels}, `base` {axis: level} (empty in a grid), `one_at_a_time`,
    `across`, `seeds`, and `planned`, the number of runs; `given`, how many of them are checkpoints, if any; and
    `quality`, if it is another than the IoU."""
    content = {
        "schema": 1,
        "name": study.name,
        "axes": {axis: list(levels) for axis, levels in study.axes.items()},
        "base": study.base,
        "one_at_a_time": study.one_at_a_time,
        "across": list(study.across),
        "seeds": list(study.seeds),
        "planned": len(study.runs),
    }
    given = sum(run.given is not None for run in study.runs)
    if given:
        content["given"] = given
    if study.request.quality != "ji":
        content["quality"] = study.request.quality
    return write_json(study.folder / DESCRIPTION, content)
