"""The river: every image through the model once, its maps counted, a shard at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from torchvice.assessment.checks import check_asked
from torchvice.assessment.extras import Extra, count_extras, extras_of
from torchvice.assessment.faithfulness import faithful_maps, filled
from torchvice.assessment.headline import count_headlines, keys
from torchvice.assessment.images import Dataset, Partners, Read, check_dataset, kind_of_targets, read_ahead
from torchvice.assessment.ledger import Ledger, manifest_of
from torchvice.assessment.parts import WHOLE, Part
from torchvice.assessment.rows import Rows
from torchvice.samples import Samples, ShardFolder

if TYPE_CHECKING:
    from torch import nn

    from torchvice.assessment.views import View, ViewOutput
    from torchvice.explain import Choices, FaithfulnessChoices

__all__ = ["assess"]


def assess(
    model: nn.Module,
    dataset: Dataset,
    *,
    out: str | os.PathLike[str],
    protocols: Sequence[Literal["paper", "strict"]] = ("paper", "strict"),
    method: str = "auto",
    layer: str | None = None,
    class_map: Sequence[Sequence[int]] | None = None,
    choices: Choices | None = None,
    controls: bool | Sequence[str] = False,
    also: Sequence[str] = (),
    faithfulness: Sequence[str] | FaithfulnessChoices = (),
    view_size: int | None = None,
    crop: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_size: int = 32,
    workers: int = 2,
    device: str = "auto",
    shard_size: int = 128,
    targets: Literal["multilabel", "exclusive"] | None = None,
    made_by: dict[str, Any] | None = None,
    part: Part = WHOLE,
    progress: Callable[[int, int], None] | None = None,
    passes: Callable[[int, int], None] | None = None,
) -> Samples:
    """Steps 2 to 4 in one pass: what the model says of every image, and how well its maps cover the objects.

    Nothing is kept per pixel: every map is upsampled, normalised, counted against the mask at 60 thresholds at once,
    and dropped; its low-resolution form stays. A killed run goes on with the first image that is not in a finished
    shard. Called again with further `controls`, `also` or `faithfulness`, it adds them to a finished table, and makes
    nothing twice.

    Args:
        model: gives logits (N, C); moved to `device`, back as it was otherwise.
        dataset: see `Dataset`. Images without a mask have logits and no regions.
        out: the folder of the table; made if absent.
        protocols: which of the two are assessed; each has its own views, see docs/definitions.md.
        method, layer, class_map: as for `torchvice.Explainer`.
        choices: how `strict` makes its maps, see `torchvice.explain.Choices`; others than the default are a labelled
            sensitivity. `paper` is as published.
        controls: True for all, or names: "random", "center", "foreground", "shuffled", "random_weights", of the view
            of `strict`, see docs/definitions.md. None unless asked for; the command `vice assess` asks for all.
        also: further explanations of that view: names of methods; "mirror" and "scaleFACTOR" (the headline's method on
            the mirror image, or on one of FACTOR the size); "predicted" (the maps of the predicted labels).
        faithfulness: "insertion", "deletion" and "road" of the maps of `strict` and of the methods in `also`, see
            docs/definitions.md; or `torchvice.explain.FaithfulnessChoices`, which say how. Costs 100 passes and more
            an image; may be asked for later.
        view_size: pixels, the side to which `strict` resizes the whole image; None: the network's input size.
        crop: pixels, the side of the centre crop on which `paper` takes the loss; None: the network's input size.
        mean, std: of the normalisation, per channel, for images on [0, 1]; None: those that timm names for the network,
            ImageNet's for any other.
        batch_size: images a forward pass; fewer where whole images go through at their own size.
        workers: threads that read images ahead.
        device: "auto" (CUDA where there is one, else the CPU), or a torch device.
        shard_size: images a shard, the most that a kill can lose.
        targets: "exclusive" where every image has exactly one label: loss, confidence and accuracy of `strict` are then
            those of a softmax. None: as the dataset's `exclusive` says, else "multilabel".
        made_by: what else the manifest shall say (a run, a checkpoint); it must be the same when a run goes on.
        part: of several processes that make one table at the same time, this one; see `torchvice.assessment.Part`.
        progress: called with (done, in all): one an image and explanation.
        passes: called with (done, in all) by methods that need many passes for a batch.

    Returns:
        Samples, read back from `out`; of a part, no rows where others are not done yet. The process that ends last
        finishes the table; where one was killed, the next start does.

    Raises:
        ViceError: an empty dataset, an image id twice, a damaged image, an unknown control, a method that does not fit,
            classes that are not the model's outputs, or an `out` that holds the table of another assessment.
    """
    from torchvice.assessment.views import views_of

    check_dataset(dataset)
    device = part.device(device)
    faithful = _faithful(faithfulness)
    how_asked: dict[str, Any] = {"method": method, "layer": layer, "choices": choices, "device": device}
    check_asked(protocols, controls=controls, also=also, faithful=faithful, **how_asked)
    kind = kind_of_targets(dataset, targets)
    how: dict[str, Any] = {
        "view_size": view_size,
        "crop": crop,
        "mean": mean,
        "std": std,
        "batch_size": batch_size,
        "exclusive": kind == "exclusive",
        "passes": passes,
    }
    order = [name for name in ("paper", "strict") if name in protocols]
    views = views_of(model, order, class_map=class_map, **how_asked, **how)
    extras = extras_of(views["strict"], controls, also, faithful) if "strict" in views else []
    asked = manifest_of(dataset, views, extras, kind, made_by or {}, faithful)
    ledger = Ledger.open(ShardFolder(out), asked)
    river = _River(dataset, views, extras, ledger, workers, faithful, part)
    river.run(shard_size, progress)
    if part == WHOLE or ledger.complete(len(dataset.records)):
        return ledger.finish()
    rows = Rows()  # others are still writing: their shards cannot be read yet
    return Samples(ledger.folder.manifest(), rows.images(), rows.regions(), rows.maps())


def _faithful(faithfulness: Sequence[str] | FaithfulnessChoices) -> FaithfulnessChoices | None:
    """What is asked for, with the default settings where only names are given; None where nothing is."""
    from torchvice.explain import FaithfulnessChoices

    if isinstance(faithfulness, FaithfulnessChoices):
        return faithfulness
    names = [faithfulness] if isinstance(faithfulness, str) else list(faithfulness)
    return FaithfulnessChoices(tuple(dict.fromkeys(names))) if names else None


@dataclass
class _River:
    """A model's views of a dataset, on their way into a table."""

    dataset: Dataset
    views: dict[str, View]
    extras: list[Extra]
    ledger: Ledger
    workers: int
    faithful: FaithfulnessChoices | None = None
    part: Part = WHOLE

    def run(self, shard_size: int, progress: Callable[[int, int], None] | None) -> None:
        """Make the shards that are not there yet, then what is added to those that are."""
        folder, todo, count = self.ledger.folder, *self._todo(shard_size)
        mine, beside = self.ledger.of_shards(), self.ledger.beside()
        numbers = self.part.shards(folder.shards())
        absent = {number: self.ledger.absent(number) for number in numbers}
        unfaithful = {number: self.ledger.unfaithful(number) for number in numbers}
        new = set().union(mine | beside if todo else (), *absent.values())
        self.ledger.need(new)
        self.ledger.need_faithfulness((new & self.ledger.faithful()).union(*unfaithful.values()))
        left = sum(map(len, todo)) * len(mine | beside)
        jobs = [*absent.items(), *unfaithful.items()]
        left += sum(len(folder.image_ids(number)) * len(names) for number, names in jobs)
        total = max(left, count * len(self.ledger.asked["explanations"]))
        steps = _Steps(max(0, total - left), total, progress)
        self._make(todo, mine, steps)
        self._add(steps)
        self._amend({number: names for number, names in unfaithful.items() if names}, steps)

    def _todo(self, shard_size: int) -> tuple[list[list[int]], int]:
        """The images of this part that no shard holds, shard by shard, and how many images it has."""
        records, finished = self.dataset.records, self.ledger.folder.finished_images()
        runs = self.part.images(len(records), shard_size)
        left = [i for run in runs for i in run if records[i].image_id not in finished]
        length = self.part.length(len(records), shard_size)
        return [left[start : start + length] for start in range(0, len(left), length)], sum(map(len, runs))

    def _make(self, parts: list[list[int]], names: set[str], steps: _Steps) -> None:
        """One more shard for each part: the images and the explanations that lie in shards."""
        extras = [extra for extra in self.extras if extra.explanation in names]
        for part in read_ahead(self.dataset, parts, self.workers, self._partners(extras)):
            rows = Rows()
            rows_of = dict.fromkeys(names, rows)
            count_extras(extras, rows_of, part, *self._keys(part), self._headlines(part, rows, steps), steps.advance)
            self.ledger.folder.append(rows.images(), rows.regions(), rows.maps(), self.part.shards)

    def _headlines(self, part: list[Read], rows: Rows, steps: _Steps) -> dict[int, ViewOutput]:
        """Images and headline explanations of every protocol; returns what `strict` saw, by position."""
        exclusive = self.ledger.asked["targets"] == "exclusive"
        image_ids, targets = self._keys(part)
        return count_headlines(self.views, part, image_ids, targets, rows, exclusive, steps.advance, self.faithful)

    def _add(self, steps: _Steps) -> None:
        """Lay beside every shard the explanations that it lacks."""
        folder, place = self.ledger.folder, {record.image_id: i for i, record in enumerate(self.dataset.records)}
        jobs = {number: self.ledger.absent(number) for number in self.part.shards(folder.shards())}
        jobs = {number: names for number, names in jobs.items() if names}
        parts = [[place[image_id] for image_id in folder.image_ids(number)] for number in jobs]
        wanted = [extra for extra in self.extras if any(extra.explanation in names for names in jobs.values())]
        reads = read_ahead(self.dataset, parts, self.workers, self._partners(wanted))
        for (number, names), part in zip(jobs.items(), reads, strict=True):
            extras = [extra for extra in wanted if extra.explanation in names]
            image_ids, targets = self._keys(part)
            found: dict[int, ViewOutput] = {}
            if any(extra.view is None for extra in extras):
                found = dict(self.views["strict"].look([read.image for read in part], targets))
            rows = {extra.explanation: Rows() for extra in extras}
            count_extras(extras, rows, part, image_ids, targets, found, steps.advance)
            for name, mine in rows.items():
                folder.add(number, name, mine.regions(), mine.maps())

    def _amend(self, jobs: dict[int, set[str]], steps: _Steps) -> None:
        """Give the maps of finished shards the faithfulness that is asked for now."""
        folder, place = self.ledger.folder, {record.image_id: i for i, record in enumerate(self.dataset.records)}
        parts = [[place[image_id] for image_id in folder.image_ids(number)] for number in jobs]
        views = {self.views["strict"].explanation: self.views["strict"]} if jobs else {}
        views |= {extra.explanation: extra.view for extra in self.extras if extra.faithful and extra.view}
        for (number, names), part in zip(jobs.items(), read_ahead(self.dataset, parts, self.workers), strict=True):
            image_ids, targets = self._keys(part)
            images, masked = [read.image for read in part], [read.region is not None for read in part]
            for name in sorted(names):
                assert self.faithful is not None  # `need_faithfulness` saw to it
                seen = dict(views[name].look(images, targets, masked))
                found = {}
                for position, mine in faithful_maps(views[name], images, seen, self.faithful):
                    found[position] = mine
                    steps.advance()
                self.ledger.amend(number, name, filled(self.ledger.regions(number, name), name, image_ids, found))

    def _keys(self, part: list[Read]) -> tuple[list[str], np.ndarray]:
        """The ids and the targets (N, C) of some images."""
        return keys(self.dataset, part)

    def _partners(self, extras: Sequence[Extra]) -> Partners | None:
        """Where the regions of other images come from, if one of the extras asks for them."""
        return Partners(self.dataset) if any(extra.partners for extra in extras) else None


class _Steps:
    """Counts what is done, one an image and explanation, and tells the caller's progress function."""

    def __init__(self, done: int, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.progress = done, total, progress
        self.advance(0)

    def advance(self, by: int = 1) -> None:
        self.done += by
        if self.progress:
            self.progress(self.done, self.total)
