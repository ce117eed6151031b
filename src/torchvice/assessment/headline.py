"""The headline explanations of some images: as rows of a shard, or as a table in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, TypeVar

from torchvice.assessment.faithfulness import ByClass, joined, with_faithfulness
from torchvice.assessment.images import Batch, Dataset, kind_of_targets, read_ahead
from torchvice.assessment.manifest import manifest_of
from torchvice.assessment.rows import Rows
from torchvice.errors import ViceError
from torchvice.samples import Samples

if TYPE_CHECKING:
    from torchvice.assessment.device_counts import Counts, Made
    from torchvice.assessment.interventions import Interventions
    from torchvice.assessment.views import View, ViewOutput
    from torchvice.explain.faithfulness import FaithfulnessChoices

__all__ = ["count_headlines", "samples_of"]

BEHIND = 64  # images whose maps wait to be counted
Item = TypeVar("Item")


def count_headlines(
    views: Mapping[str, View],
    batch: Batch,
    rows: Rows,
    exclusive: bool,
    advance: Callable[[], None],
    faithfulness: FaithfulnessChoices | None = None,
    interventions: Interventions | None = None,
) -> dict[int, ViewOutput]:
    """Add images and headline explanations of every protocol; returns the output of `strict`, by position.

    Args:
        views: by protocol.
        batch: the images.
        rows: where their rows go.
        exclusive: whether every image has exactly one label.
        advance: called after each image and protocol.
        faithfulness: how that of the maps of `strict` is measured; None: not at all.
        interventions: what is replaced for the outputs of `strict`; None: nothing.
    """
    from torchvice.assessment.device_counts import with_counts

    images = batch.images
    of_strict: dict[int, ViewOutput] = {}
    for protocol, view in views.items():
        choices = faithfulness if protocol == "strict" else None
        outputs = view.of_batch(batch, batch.masked)
        further: Mapping[int, ByClass] = {}
        if protocol == "strict" and interventions is not None:
            by_position = dict(outputs)
            outputs, further = iter(by_position.items()), interventions.columns_of(batch, view, by_position)
        made = with_counts(with_faithfulness(view, images, outputs, choices), batch.reads)

        def count(one: tuple[Made, Counts | None], view: View = view, further: Mapping[int, ByClass] = further) -> None:
            (position, output, columns), counts = one
            read, image_id = batch.reads[position], batch.image_ids[position]
            measured, ji = joined(columns, further.get(position, {})), None
            if read.region is not None:
                ji = rows.count(image_id, view.explanation, output, read.region, measured, counts)
            size = (read.image.shape[0], read.image.shape[1])
            competing = view.protocol == "strict" and exclusive
            truth = batch.targets[position]
            rows.add_image(image_id, view.name, size, truth, output.logits, ji, competing, read.digests)

        for (position, output, _), _ in _each_done(made, count):
            if protocol == "strict":
                of_strict[position] = output
            advance()
    return of_strict


def _each_done(items: Iterable[Item], work: Callable[[Item], None]) -> Iterator[Item]:
    """The items in their order, each once its work is done; one thread does it while the next items are made.

    numpy counts outside of Python's lock: a network on a CPU leaves a core free, or on a GPU all of them.
    """
    waiting: deque[tuple[Item, Future[None]]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            while waiting and (waiting[0][1].done() or len(waiting) > BEHIND):
                done, future = waiting.popleft()
                future.result()
                yield done
        for done, future in waiting:
            future.result()
            yield done


def samples_of(
    views: Mapping[str, View],
    dataset: Dataset,
    places: Sequence[int],
    *,
    targets: Literal["multilabel", "exclusive"] | None = None,
    workers: int = 2,
    chunk: int = 128,
    check_outputs: bool = True,
) -> Samples:
    """The table of some images in memory: the rows that `assess` writes, without controls and further explanations.

    Args:
        views: from `torchvice.assessment.views.views_of`.
        dataset: see `Dataset`.
        places: of one or more images in the dataset.
        targets, workers: as for `assess`.
        chunk: number of images that are read ahead.
        check_outputs: whether outputs that look like probabilities are refused, unless the views were told what they
            are; False where the caller checks those of more images.

    Raises:
        ViceError: no places; outputs that look like probabilities; or as `assess`.
    """
    if not len(places):
        raise ViceError("An assessment needs images, but `places` is empty.")
    kind, rows = kind_of_targets(dataset, targets), Rows()
    parts = [places[start : start + chunk] for start in range(0, len(places), chunk)]
    for batch in read_ahead(dataset, parts, workers):
        count_headlines(views, batch, rows, kind == "exclusive", lambda: None)
    images = rows.images()
    if check_outputs and any(view.map_settings.outputs is None for view in views.values()):
        from torchvice.assessment.outputs import refuse_probabilities

        refuse_probabilities(images.logits, kind == "exclusive")
    manifest = {**manifest_of(dataset, views, (), kind, {}), "finished": True}
    return Samples(manifest, images, rows.regions(), rows.maps())
