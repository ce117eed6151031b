"""The recipes of the study of photographs that are finished, kept in the project one by one.

A night of two cores is not always at hand: a recipe whose seeds are all finished is kept in records/photographs/STUDY
with its rows and its differences from the base, and is not trained again, also on another machine. Of the base, whose
images the others are compared on, the tables of `strict` are kept as well, without maps, controls and histograms. No
pixel of a photograph is among it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.commands.tables import table_folder
from torchvice.files import read_json, write_json
from torchvice.samples import Regions, Samples, ShardFolder
from torchvice.study import Study
from torchvice.study.job import STATE, failure, finished
from torchvice.study.plan import PlannedRun

SHELF = Path("records/photographs")
NOT_NEEDED = ("inside", "outside", "box_iou", "peak_features")  # of the regions, where models are compared


@dataclass(frozen=True)
class Recipe:
    """A level of one axis, or the base: its name, its runs, and the study of these and the base alone."""

    name: str
    runs: tuple[PlannedRun, ...]
    part: Study

    def ended(self) -> bool:
        """Whether each run is finished or has failed, and so has the base, without which nothing is compared."""
        return all(finished(run, self.part.request) or failure(run.folder) for run in self.part.runs)


def recipes_of(study: Study) -> Iterator[Recipe]:
    """The base, then each level that differs from it in one axis."""
    base = tuple(run for run in study.runs if run.levels == study.base)
    yield Recipe("base", base, replace(study, axes={}, runs=base))
    for axis, levels in study.axes.items():
        for level in levels:
            if level != study.base[axis]:
                own = tuple(run for run in study.runs if run.levels[axis] == level)
                part = replace(study, axes={axis: (study.base[axis], level)}, runs=(*base, *own))
                yield Recipe(f"{axis}={level}", own, part)


@dataclass(frozen=True)
class Shelf:
    """The kept recipes of a study, in a folder."""

    folder: Path

    def held(self, recipe: Recipe) -> dict[str, Any] | None:
        """The numbers of a recipe; None if there are none, or if they are of other settings, seeds or data."""
        path = self._file(recipe)
        found: dict[str, Any] = read_json(path) if path.is_file() else {}
        return found["numbers"] if found.get("runs") == _names(recipe) else None

    def keep(self, recipe: Recipe, numbers: Mapping[str, Any]) -> None:
        """Keep the numbers of a recipe that has ended, and with the base its tables."""
        if recipe.name == "base":
            for run in recipe.runs:
                if finished(run, recipe.part.request):
                    _keep_table(run, self.folder / "base" / run.folder.name)
        write_json(self._file(recipe), {"runs": _names(recipe), "numbers": numbers})

    def restore(self, recipe: Recipe) -> None:
        """Put the kept base where its runs would be, so that other recipes are compared with it."""
        for run in recipe.runs:
            kept = self.folder / "base" / run.folder.name
            if kept.is_dir() and not run.folder.exists():
                shutil.copytree(kept, run.folder)

    def _file(self, recipe: Recipe) -> Path:
        return self.folder / f"{recipe.name}.json"


def _names(recipe: Recipe) -> list[str]:
    """The names of all runs that the numbers depend on; they end with a digest of the settings."""
    return [run.folder.name for run in recipe.part.runs]


def _keep_table(run: PlannedRun, kept: Path) -> None:
    """Keep what `finished` and a comparison read of a run."""
    folder = table_folder(run.folder, Path(run.settings.data.eval_split).name)
    samples = Samples.load(folder)
    headline = samples.manifest["protocols"]["strict"]
    images = samples.images.where(samples.images.view == headline["view"])
    columns = vars(samples.regions.where(samples.regions.explanation == headline["explanation"]))
    regions = Regions(**{name: np.zeros_like(one) if name in NOT_NEEDED else one for name, one in columns.items()})
    maps = samples.maps.where(np.zeros(len(samples.maps), bool))
    explanations = {headline["explanation"]: samples.manifest["explanations"][headline["explanation"]]}
    manifest = {**samples.manifest, "protocols": {"strict": headline}, "explanations": explanations, "added": []}
    manifest["dataset"] = {**manifest["dataset"], "root": ""}  # the machine's
    shutil.rmtree(kept, ignore_errors=True)
    shards = ShardFolder(kept / folder.relative_to(run.folder))
    shards.start({**manifest, "files": {}})
    shards.append(images, regions, maps)
    shards.start({**manifest, "files": shards.digests()})
    shutil.copyfile(run.folder / STATE, kept / STATE)


def left_of(study: Study, shelf: Shelf) -> list[PlannedRun]:
    """The runs that are to be made: neither finished nor kept."""
    recipes = [recipe for recipe in recipes_of(study) if shelf.held(recipe) is None]
    return [run for recipe in recipes for run in recipe.runs if finished(run, study.request) is None]


def together(parts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The lists of several recipes as one."""
    return {name: [row for part in parts for row in part[name]] for name in parts[0]}
