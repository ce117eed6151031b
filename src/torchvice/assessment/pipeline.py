"""assess: every image through the model once, its maps counted, a shard at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack

from torchvice.assessment.extras import Extra, count_extras
from torchvice.assessment.faithfulness import ByClass, faithfulness_of, with_columns
from torchvice.assessment.headline import count_headlines
from torchvice.assessment.images import (
    Batch,
    Dataset,
    Partners,
    Read,
    check_dataset,
    kind_of_targets,
    read_ahead,
)
from torchvice.assessment.interventions import Interventions
from torchvice.assessment.ledger import MEASURED, Ledger, common_of
from torchvice.assessment.manifest import manifest_of
from torchvice.assessment.map_settings import MapSettings, Protocols, as_protocols
from torchvice.assessment.opened import opened, opened_or_temporary, tell
from torchvice.assessment.parts import WHOLE, Part, locked_part
from torchvice.assessment.request import AssessKeywords, Extras, check_request, extras_of, packed_with_extras
from torchvice.assessment.rows import Rows
from torchvice.data.digests import digests_of
from torchvice.data.open import FOLDERS
from torchvice.data.pixels import almost_black
from torchvice.errors import as_whole, check_kind
from torchvice.files.progress import shown_progress
from torchvice.samples import Digests, Samples, ShardFolder

if TYPE_CHECKING:
    from torch import nn

    from torchvice.assessment.reads import Reads
    from torchvice.assessment.views import View, ViewOutput

__all__ = ["Pipeline", "Progress", "assess", "request_of"]

Progress = Callable[[int, int], None]


def assess(
    model: nn.Module,
    dataset: Dataset | str | os.PathLike[str] | Any = None,
    *,
    out: str | os.PathLike[str] | None = None,
    protocols: Protocols = ("paper", "strict"),
    settings: MapSettings | None = None,
    extras: Extras | None = None,
    targets: Literal["multilabel", "exclusive"] | None = None,
    workers: int = 2,
    shard_size: int = 128,
    made_by: Mapping[str, Any] | None = None,
    part: Part = WHOLE,
    progress: Progress | bool | None = None,
    passes: Progress | None = None,
    **keywords: Unpack[AssessKeywords],
) -> Samples:
    """Run a model over a dataset in one pass: its logits for every image, and how well its maps cover the objects.

    Maps are counted at 60 thresholds and kept in low resolution. A killed run resumes; a later call adds to a table.

    Args:
        model: gives logits (N, C); moved to `device`, otherwise unchanged.
        dataset: see `Dataset`, whose images without a mask have no regions; a folder; or what `from_items` takes.
        out: folder of the table, created if missing; None: a temporary folder, which is printed.
        protocols: which are assessed, one or both; each has its own views, see docs/definitions.md.
        settings, extras: how maps are made, and what is made in addition to them, as records.
        targets: "exclusive" (one label per image: `strict` applies a softmax); None: as the dataset says.
        workers, shard_size: threads that read ahead; images per shard, the most that a kill can lose.
        made_by: further entries of the manifest, such as a run; they must be the same when a run resumes.
        part: this process's share, if several make one table; see `torchvice.assessment.Part`.
        progress: called with (done, total) images and explanations; None: a bar, if somebody sees it; False: none.
        passes: called with (done, total) by methods that need many passes per batch.
        keywords: fields of `MapSettings` and of `Extras` (see `Extras.of`); for the data, arguments of `open_images`.

    Returns:
        Samples, read back from `out`; without rows while another part is unfinished.

    Raises:
        ViceError: a dataset that cannot be used, an unknown name, a method that does not fit the network, classes that
            are not the model's outputs, or an `out` with the table of another assessment or other things, or in use by
            another process.
    """
    shard_size = as_whole("shard_size", shard_size, 1, "images", "Leave it out: 128 images.")
    workers = as_whole("workers", workers, 0, "threads", "Leave it out: two threads.")
    check_kind("made_by", made_by or {}, Mapping, "a dictionary")
    settings, extras = packed_with_extras(keywords, settings, extras)
    dataset = opened(dataset, {k: v for k, v in keywords.items() if k in FOLDERS})
    with opened_or_temporary(out) as folder, shown_progress("views", progress, passes) as (step, passes):
        pipeline = Pipeline(dataset, ShardFolder(folder), workers, part)
        kind = kind_of_targets(dataset, targets)
        request = request_of(pipeline, model, protocols, settings, extras, kind, made_by or {}, passes)
        if out is None:
            tell(f"The table is in a temporary folder: {folder}. To keep it, give out='DIR'.")
        with locked_part(folder, part, common_of(request) | {"shard_size": shard_size}):
            return pipeline.run(request, shard_size, step)


def request_of(
    pipeline: Pipeline,
    model: nn.Module,
    protocols: str | Sequence[str],
    settings: MapSettings,
    extras: Extras,
    kind: str,
    made_by: Mapping[str, Any],
    passes: Progress | None,
) -> dict[str, Any]:
    """Check what is requested and build the views of the model; returns the manifest of the requested table."""
    from torchvice.assessment.behaviour import say_doubts
    from torchvice.assessment.outputs import check_number
    from torchvice.assessment.views import views_of

    protocols = as_protocols(protocols)
    extras = extras.for_table(pipeline.folder.folder) if "strict" in protocols else extras
    check_request(protocols, extras)
    settings = replace(settings, device=pipeline.part.device(settings.device))
    if settings.transform is not None and pipeline.folder.shards() and not settings.transform.is_known:
        pipeline.say(
            f"The transform {settings.transform.name} has no code that can be compared with that of the table: only "
            "its name, view, mean and std are."
        )
    say = None if "run" in made_by or _of_logits(pipeline.folder) else pipeline.say
    views = views_of(model, protocols, settings, exclusive=kind == "exclusive", passes=passes, say=say)
    view = next(iter(views.values()))
    check_number(view.explainer, len(pipeline.dataset.classes), kind == "exclusive")
    say_doubts(view.explainer, view.side, pipeline.say)
    check_outputs = all(view.map_settings.outputs is None for view in views.values())
    return pipeline.request(views, extras, kind, made_by, check_outputs=check_outputs)


def _of_logits(folder: ShardFolder) -> bool:
    """Whether a folder holds a table of outputs that were taken as they are; then further rows are, too."""
    if not (folder.manifest_path.is_file() and folder.shards()):
        return False
    return folder.manifest(resumed=True).get("map_settings", {}).get("outputs") != "softmax"


class Pipeline:
    """The views of a model on a dataset, and the table that is made with them.

    Args:
        dataset, workers, part: as for `assess`.
        folder: of the table.
        reads: what models on the same dataset share; it has checked the dataset. None: nothing.
        tell: called with what the caller must know; None: the logger `torchvice`.
    """

    def __init__(
        self,
        dataset: Dataset,
        folder: ShardFolder,
        workers: int,
        part: Part,
        reads: Reads | None = None,
        tell: Callable[[str], None] = tell,
    ) -> None:
        if reads is None:
            check_dataset(dataset)
        self.dataset, self.folder, self.workers, self.part = dataset, folder, workers, part
        self.reads, self.tell = reads, tell
        self.begun = bool(folder.shards())
        self.steps = _Steps(0, 0, None)
        self.place = {record.image_id: i for i, record in enumerate(dataset.records)}

    def say(self, sentence: str) -> None:
        """Tell the caller, once where several processes make the table."""
        if self.part.index == 0:
            self.tell(sentence)

    def request(
        self,
        views: Mapping[str, View],
        extras: Extras,
        kind: str,
        made_by: Mapping[str, Any],
        check_outputs: bool = True,
    ) -> dict[str, Any]:
        """Build what is requested in addition to the views; returns the manifest of the requested table.

        Args:
            views: by protocol.
            extras: complete, see `Extras.for_table`.
            kind: of the targets.
            made_by: further entries of the manifest.
            check_outputs: whether the first outputs are refused if they look like probabilities.
        """
        assert extras.without != "auto" or "strict" not in views  # `for_table` settled it
        without = None if extras.without == "auto" else extras.without
        self.interventions = None if without is None else Interventions(without, self.dataset)
        self.exclusive, self.faithfulness, self.views = kind == "exclusive", extras.faithfulness, views
        self.extras = extras_of(views["strict"], extras) if "strict" in views else []
        # Those of a RUN are logits: its loss took them as such.
        self.unchecked = check_outputs and "run" not in made_by and not self.folder.shards()
        amended = extras.faithfulness, without
        manifest = manifest_of(self.dataset, views, self.extras, kind, made_by, *amended)
        manifest["contents"], self.digests = self._digested()
        if self.reads is not None:
            for one in (*views.values(), *(extra.view for extra in self.extras if extra.view is not None)):
                one.warp_all = self.reads.warp_all
        return manifest

    def _digested(self) -> tuple[dict[str, str], Sequence[Digests]]:
        """The digests of the dataset, and of every image."""
        if self.reads is None:
            return digests_of(self.dataset)
        return dict(self.reads.contents), self.reads.digests

    def run(
        self, request: dict[str, Any], shard_size: int, progress: Progress | None, block: range | None = None
    ) -> Samples:
        """Make the missing shards, then what finished shards lack; the last part to end finishes the table.

        `block`: the images that are assessed now, whole shards of them; None: all.
        """
        ids = [record.image_id for record in self.dataset.records]
        self.ledger = ledger = Ledger.open(self.folder, request, dict(zip(ids, self.digests, strict=True)))
        new, total = self._new(shard_size, block)
        absent = self._lacking(ledger.absent)
        unmeasured = {what: self._lacking(partial(ledger.unmeasured, what)) for what in MEASURED}
        in_shards, beside = ledger.of_shards(), ledger.beside()
        needed = set().union(in_shards | beside if new else (), *absent.values())
        ledger.need(needed)
        for what, lacking in unmeasured.items():
            ledger.need_measured(what, (needed & ledger.measured(what)).union(*lacking.values()))
        left = sum(map(len, new)) * len(in_shards | beside)
        shards = [*absent.items(), *(item for lacking in unmeasured.values() for item in lacking.items())]
        left += sum(len(self.folder.image_ids(number)) * len(names) for number, names in shards)
        total = max(left, total * len(ledger.requested["explanations"]))
        self.steps = _Steps(total - left, total, progress)
        if left:
            ledger.begin()
        self._append(new, in_shards)
        self._add(self._lacking(ledger.absent))  # new shards lack what lies beside the others
        for what, lacking in unmeasured.items():
            self._amend(what, lacking)
        whole = block is None or len(block) == len(ids)
        if (self.part == WHOLE and whole) or ledger.complete(len(ids)):
            return ledger.finish()
        rows = Rows()  # other parts are still writing: their shards cannot be read yet
        return Samples(self.folder.manifest(), rows.images(), rows.regions(), rows.maps())

    def _new(self, shard_size: int, block: range | None = None) -> tuple[list[list[int]], int]:
        """This part's images that no shard holds, shard by shard, and the number of all its images."""
        records, finished = self.dataset.records, self.folder.finished_images()
        runs = self.part.images(len(records), shard_size)
        if block is not None:
            runs = [[i for i in run if i in block] for run in runs]
        left = [i for run in runs for i in run if records[i].image_id not in finished]
        length = self.part.length(len(records), shard_size)
        return [left[start : start + length] for start in range(0, len(left), length)], sum(map(len, runs))

    def _lacking(self, of_shard: Callable[[int], set[str]]) -> dict[int, set[str]]:
        """The explanations that this part's finished shards lack, by shard; `of_shard` gives those of one."""
        lacking = {number: of_shard(number) for number in self.part.shards(self.folder.shards())}
        return {number: names for number, names in lacking.items() if names}

    def _append(self, new: list[list[int]], names: set[str]) -> None:
        """Append a shard for each group of new images, with the explanations that lie in the shards themselves."""
        extras = self._extras(names)
        for batch in self._read(new, extras, self.interventions):
            rows = self._rows(batch, extras)
            measured = self.ledger.to_measure(names)
            self.folder.append(rows.images(), rows.regions(), rows.maps(), self.part.shards, measured)

    def rows_of(self, places: Sequence[int]) -> Rows:
        """The rows of some images of the dataset, with all that is requested."""
        (batch,) = self._read([places], self.extras, self.interventions)
        return self._rows(batch, self.extras)

    def _rows(self, batch: Batch, extras: Sequence[Extra]) -> Rows:
        """The rows of a batch: its headlines and these extras."""
        self._say_black(batch)
        rows = Rows()
        amended = self.faithfulness, self.interventions
        headline = count_headlines(self.views, batch, rows, self.exclusive, self.steps.advance, *amended)
        if self.unchecked:
            from torchvice.assessment.outputs import none_found, refuse_probabilities

            refuse_probabilities(rows.images().logits, self.exclusive)
            for sentence in none_found(rows.images().logits, self.exclusive):
                self.say(sentence)
            self.unchecked = False
        count_extras(extras, {extra.explanation: rows for extra in extras}, batch, headline, self.steps.advance)
        return rows

    def _say_black(self, batch: Batch) -> None:
        """Say of the first images of a table that they are almost black."""
        if not self.begun and (sentence := almost_black(batch.images)):
            self.say(sentence)
        self.begun = True

    def _add(self, lacking: dict[int, set[str]]) -> None:
        """Write the explanations that finished shards lack next to them."""
        extras = self._extras(set().union(*lacking.values()))
        for (number, names), batch in self._read_shards(lacking, extras):
            mine = [extra for extra in extras if extra.explanation in names]
            headline: dict[int, ViewOutput] = {}
            if any(extra.view is None for extra in mine):
                headline = dict(self.views["strict"].of_batch(batch))
            rows = {extra.explanation: Rows() for extra in mine}
            count_extras(mine, rows, batch, headline, self.steps.advance)
            for name, own in rows.items():
                self.folder.add(number, name, own.regions(), own.maps(), self.ledger.to_measure([name]))

    def _amend(self, what: str, lacking: dict[int, set[str]]) -> None:
        """Measure `what`, a key of MEASURED, of maps in finished shards."""
        views = {view.explanation: view for name, view in self.views.items() if name == "strict"}
        views |= {extra.explanation: extra.view for extra in self.extras if extra.faithfulness and extra.view}
        interventions = self.interventions if what == "interventions" else None
        for (number, names), batch in self._read_shards(lacking, (), interventions):
            for name in sorted(names):
                view = views[name]
                measured: dict[int, ByClass] = {}
                outputs = dict(view.run(batch.images, batch.targets, batch.masked))
                if interventions is not None:
                    measured = interventions.columns_of(batch, view, outputs)
                    self.steps.advance(len(batch.images))
                else:
                    assert self.faithfulness is not None  # `need_measured` saw to it
                    for position, columns in faithfulness_of(view, batch.images, outputs, self.faithfulness):
                        measured[position] = columns
                        self.steps.advance()
                rows = with_columns(self.ledger.regions(number, name), name, batch.image_ids, measured)
                self.ledger.amend(number, name, rows, what)

    def _extras(self, names: set[str]) -> list[Extra]:
        return [extra for extra in self.extras if extra.explanation in names]

    def _read(
        self, groups: Sequence[Sequence[int]], extras: Sequence[Extra], interventions: Interventions | None
    ) -> Iterator[Batch]:
        """The images of each group, with the regions of their partners if an extra or the interventions need them."""
        needed = any(extra.partners for extra in extras) or (interventions is not None and interventions.partners)
        region = None if self.reads is None else self.reads.region
        partners = Partners(self.dataset, region=region) if needed else None
        return read_ahead(self.dataset, groups, self.workers, partners, self.digests, self.reads)

    def _read_shards(
        self, lacking: dict[int, set[str]], extras: Sequence[Extra], interventions: Interventions | None = None
    ) -> Iterator[tuple[tuple[int, set[str]], Batch]]:
        """The shards that lack explanations, with their images, which must be those of the shard's rows.

        Raises:
            ViceError: pixels that have changed, of images without files.
        """
        groups = [[self.place[image_id] for image_id in self.folder.image_ids(number)] for number in lacking]
        batches = self._read(groups, extras, interventions)
        for (number, names), batch in zip(lacking.items(), batches, strict=True):
            self.ledger.check_unchanged(number, {self.id_of(read): read.digests for read in batch.reads})
            yield (number, names), batch

    def id_of(self, read: Read) -> str:
        """The id of an image that was read."""
        return str(self.dataset.records[read.index].image_id)


class _Steps:
    """Counts finished work, one step per image and explanation, and reports it to the caller."""

    def __init__(self, done: int, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = done, total, progress
        self.advance(0)

    def advance(self, by: int = 1) -> None:
        self.done += by
        if self.progress:
            self.progress(self.done, self.total)
