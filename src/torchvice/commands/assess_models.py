"""`vice assess --models`: many networks on one dataset, in one process, each with an ordinary table of its own."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from torchvice.commands.model_states import ListedModel, ModelRow, ModelStates
from torchvice.errors import ViceError, as_vice_error, raised_by
from torchvice.files.lock import locked
from torchvice.files.process import give_back_memory

if TYPE_CHECKING:
    from pathlib import Path

    from torchvice.assessment import Extras, Part
    from torchvice.assessment.many import Assessed
    from torchvice.assessment.map_settings import Protocols
    from torchvice.assessment.reads import Reads
    from torchvice.commands.assess import Progress
    from torchvice.data import FolderDataset
    from torchvice.runs.subject import Subject

__all__ = ["ManyModels", "ModelRow", "assess_models", "default_memory"]

# What the ways out of one model's arguments leave out.
FOR_ALL = "Of a list, --argument goes to every model: one with arguments of its own is a function, FILE.py:FUNCTION."
MOST_USUAL = 224  # pixels of an input whose size is not known before the network is built
Build = Callable[[ListedModel, "Path"], "Subject"]
Unit = tuple[ListedModel, range]  # a model and the images that it is shown now


def default_memory() -> int:
    """The most bytes of images that are kept: a quarter of the machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, OSError, ValueError):  # Windows
        return 1 << 31


@dataclass(frozen=True)
class ManyModels:
    """What is assessed, and how; see `torchvice.assess`.

    Attributes:
        models: each once.
        build: the subject of a model whose table is to lie in a folder; called in a thread, one model ahead.
        dataset: the data, before a class map chooses among their classes.
        out: folder of `models.csv` and of one folder a model.
        request: what tells these tables from those of other options, as JSON, with `extras` apart.
        memory: the most bytes of images that are kept.
        part: of several processes that share the models; a process begins with its own share.
        retry: whether models that failed before are tried again.
    """

    models: Sequence[ListedModel]
    build: Build
    dataset: FolderDataset
    out: Path
    request: Mapping[str, Any]
    protocols: Protocols
    extras: Extras
    targets: Literal["multilabel", "exclusive"] | None
    workers: int
    part: Part
    memory: int
    retry: bool = True


def assess_models(
    many: ManyModels, tell: Callable[[str], None], progress: Progress | None = None, passes: Progress | None = None
) -> list[ModelRow]:
    """Assess every model that is not finished; a model that fails has its reason, and the others go on.

    Args:
        many: what is assessed.
        tell: called with sentences.
        progress: called with (done, total) images.
        passes: as for `torchvice.assess`.

    Returns:
        The rows of `models.csv`, in the order of the models.

    Raises:
        ViceError: data that cannot be read, a folder of other options, a full disk, or a device that failed.
    """
    return _Runner(many, tell, progress, passes).run()


class _Runner:
    """One process that takes model after model."""

    def __init__(
        self, many: ManyModels, tell: Callable[[str], None], progress: Progress | None, passes: Progress | None
    ) -> None:
        from torchvice.assessment.reads import Reads
        from torchvice.data.check import check_files

        self.many, self.tell, self.progress, self.passes = many, tell, progress, passes
        for note in check_files(many.dataset):
            tell(note)
        reads = Reads(many.dataset, many.memory)
        self.reads: dict[tuple[str, ...], Reads] = {tuple(many.dataset.classes): reads}
        self.states = ModelStates(many.out, many.models, {**many.request, "contents": reads.contents})
        self.folders = {
            model.label: many.out / row.folder for model, row in zip(many.models, self.states.rows(), strict=True)
        }
        self.left: set[str] = set()  # models that failed, or that another process has
        self.told: set[str] = set()

    def run(self) -> list[ModelRow]:
        """Take the models in turn, while the next one is built."""
        units = deque(self._units())
        self.total, self.done = sum(len(block) for _, block in units), 0
        with ThreadPoolExecutor(1) as loader:
            ahead: Future[Subject] | None = None
            while units:
                model, block = units.popleft()
                built = loader.submit(self._build, model) if ahead is None else ahead
                built.exception()  # waits for it
                ahead = loader.submit(self._build, units[0][0]) if units else None
                self._take(model, block, built)
                del built
                gc.collect()  # hooks tie networks into rings
                give_back_memory()
        return self.states.rows()

    def _units(self) -> list[Unit]:
        """Models of one input size follow each other; where not all images fit into memory, block by block."""
        from torchvice.assessment.many import SHARD_SIZE

        index, count = self.many.part.index, self.many.part.count
        place = {model.label: number for number, model in enumerate(self.many.models)}
        reads, units = next(iter(self.reads.values())), list[Unit]()
        waiting, failed = self.states.unfinished()
        self._clear_locks({model.label for model in (*waiting, *failed)})
        for left in (waiting, failed if self.many.retry else []):
            shares = sorted(left, key=lambda model: ((place[model.label] - index) % count, model.side))
            for side, group in groupby(shares, key=lambda model: model.side):
                together = list(group)
                blocks = reads.blocks(SHARD_SIZE, side or MOST_USUAL)
                units += [(model, block) for block in blocks for model in together]
        return units

    def _clear_locks(self, left: Collection[str]) -> None:
        """Remove the locks of models that are done: a process killed right after its last row leaves one for good."""
        for model in self.many.models:
            lock = self._lock_of(model)
            if model.label not in left and lock.exists():
                with contextlib.suppress(ViceError), locked(lock, model.label, keep=False):
                    pass  # nobody holds it

    def _lock_of(self, model: ListedModel) -> Path:
        folder = self.folders[model.label]
        return folder.with_name(f"{folder.name}.lock")

    def _build(self, model: ListedModel) -> Subject:
        return self.many.build(model, self.folders[model.label])

    def _take(self, model: ListedModel, block: range, built: Future[Subject]) -> None:
        """Assess a model, and write its row, unless another process has it."""
        before = self.done
        with contextlib.ExitStack() as held:
            if model.label not in self.left:
                try:
                    held.enter_context(locked(self._lock_of(model), f"The assessment of {model.label}", keep=False))
                except ViceError:
                    self.left.add(model.label)
                    self._say(model, "is at work in another process.")
            if model.label not in self.left and not self.states.is_done(model):
                self._take_alone(model, block, built)
        self._count(before + len(block) - self.done)

    def _take_alone(self, model: ListedModel, block: range, built: Future[Subject]) -> None:
        start = time.perf_counter()
        try:
            subject = built.result()
        except Exception as error:
            self._put_failed(model, start, error)
            return
        try:
            made = self._assessed(model, block, subject)
        except Exception as error:
            self._raise_general(error)
            self._put_failed(model, start, error)
            if "CUDA error" in str(error):  # no later pass of this process will succeed
                raise ViceError("The GPU failed, and the other models wait.", "Run the same command again.") from error
            return
        state = "done" if made.finished else "waiting"
        values = {"state": state, "reason": "", "images": made.images, "batch_size": made.batch_size}
        row = self.states.put(model, time.perf_counter() - start, **values)
        if made.finished:
            self._say(model, f"{made.images} images, {row.seconds:.1f} s, batches of {made.batch_size}.")

    def _put_failed(self, model: ListedModel, start: float, error: Exception) -> None:
        self.left.add(model.label)
        reason = _reason(error)
        self.states.put(model, time.perf_counter() - start, state="failed", reason=reason)
        self._say(model, f"failed. {reason}")

    def _assessed(self, model: ListedModel, block: range, subject: Subject) -> Assessed:
        from torchvice.assessment.many import assess_with

        for note in subject.notes:
            if note not in self.told:  # such as that weights are random: once, and not for each of a thousand
                self.told.add(note)
                self.tell(note)
        reads = self._reads_of(subject.dataset)
        reads.start(block)
        many, before = self.many, self.done

        def step(done: int, total: int) -> None:
            if self.progress is not None:
                self.progress(before + int(len(block) * done / max(total, 1)), self.total)

        return assess_with(
            reads,
            subject.model,
            subject.out,
            block=block,
            protocols=many.protocols,
            settings=replace(subject.settings, device=many.part.device(subject.settings.device)),
            extras=many.extras,
            targets=many.targets,
            workers=many.workers,
            made_by=subject.made_by,
            progress=step,
            passes=self.passes,
            tell=lambda sentence: self._say(model, sentence),
        )

    def _reads_of(self, dataset: FolderDataset) -> Reads:
        """What models on the same classes share: a class map may leave some out. The last two are kept."""
        from torchvice.assessment.reads import Reads

        key = tuple(dataset.classes)
        if key not in self.reads:
            self.reads = {**dict(list(self.reads.items())[:1]), key: Reads(dataset, self.many.memory)}
        return self.reads[key]

    def _raise_general(self, error: Exception) -> None:
        """Raise what is no fault of the model: the next one would fail in the same way."""
        unreadable = any(reads.error is not None for reads in self.reads.values())
        unwritable = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
        if unreadable or unwritable or "No space left" in str(error):
            raise error

    def _count(self, images: int) -> None:
        self.done += images
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _say(self, model: ListedModel, sentence: str) -> None:
        self.tell(f"{model.label}: {sentence}")


def _reason(error: Exception) -> str:
    """Why a model failed, in one line."""
    known = as_vice_error(error)
    if known is not None:
        more = FOR_ALL if "--argument" in known.way_out else ""
        return " ".join(f"{known.message} {known.way_out} {more}".split())
    return f"{raised_by(error)}."
