"""`vice rank`: many models on the same images, with confidence sets of their ranks."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from torchvice.commands.tables import table_folder
from torchvice.errors import ViceError, as_path, as_vice_error, brief, check_kind, near_path
from torchvice.files.process import in_processes
from torchvice.measures.contents import check_same_classes, check_same_kind, check_same_truth
from torchvice.measures.rank import BY, check_by, linear_measures, ranked
from torchvice.measures.reduced import Reduced, read_headline, reduced, replicates_of
from torchvice.metrics.parallel import processors
from torchvice.metrics.resampling import Resampling
from torchvice.samples import Samples, changed_images

if TYPE_CHECKING:
    from torchvice.files.progress import Step
    from torchvice.measures.rank import Ranking

__all__ = ["rank", "tables_of"]

CHUNK = 8  # tables whose means and linear replicates are one product
FEW = 16  # tables; with fewer no process is started
Table = str | os.PathLike[str] | Samples


def rank(
    tables: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Table],
    split: str | None = None,
    *,
    protocol: str = "strict",
    by: str = "vice",
    top: int | None = None,
    replicates: int = 2000,
    seed: int = 0,
    bootstrap: str = "auto",
    processes: int | None = None,
    progress: Step | None = None,
) -> Ranking:
    """Rank many models on the same images, with 95 % confidence sets of their ranks from one joint bootstrap.

    docs/definitions.md has the methods. Every number is that of `torchvice.measure`.

    Args:
        tables: RUNs, tables, folders that hold them at any depth, and wildcards; or {name: one of these, or Samples}.
        split: split of the RUNs.
        protocol: "strict" or "paper"; they are never mixed.
        by: the measure that ranks: vice, ji, ml_accuracy, mean_average_precision or loss.
        top: also say which models cannot be excluded from the best `top`.
        replicates: of the bootstrap over images, at least 100.
        seed: of the bootstrap.
        bootstrap: "exact": VICE and mAP are computed again in every replicate; "linear": their replicates follow from
            derivatives; "auto": linear where exact ones would take minutes. `Ranking.bootstrap` says which was used.
        processes: that read the tables; None: one for each processor for 16 or more tables on disk.
        progress: called with (done, total) tables.

    Returns:
        Ranking. A table that cannot be read, or is not finished, is in its `left_out`, with the reason.

    Raises:
        ViceError: an argument that is not known, a path with nothing there, fewer than two models, or tables of other
            images, classes, targets or masks.
    """
    _check_settings(protocol, by, replicates)
    sources = dict(tables) if isinstance(tables, Mapping) else tables_of(tables)
    first, reference, broken = _reference(sources, split, protocol)
    linear = _linear(bootstrap, reference, protocol, models=len(sources), replicates=replicates)
    job = _Job(split, protocol, by, linear, replicates, seed)
    gathered = _gathered(job, sources, first, reference, broken, processes, progress)
    if len(gathered.models) < 2:
        left_out = gathered.left_out
        reasons = f" {left_out[0]['name']}: {left_out[0]['reason']}" if left_out else ""
        raise ViceError(
            f"Ranks need two models or more, but {len(gathered.models)} of {len(sources)} could be read.{reasons}",
            "Name more RUNs or tables, or folders that hold them.",
        )
    return ranked(
        gathered.models,
        np.stack(gathered.replicates),
        protocol=protocol,
        by=by,
        top=top,
        seed=seed,
        linear=linear,
        paths={name: _path(source) for name, source in sources.items()},
        left_out=gathered.left_out,
    )


def _check_settings(protocol: str, by: str, replicates: int) -> None:
    """Check what is said of a ranking before a table is read.

    Raises:
        ViceError: another protocol or measure, or too few replicates.
    """
    check_by(by)
    if protocol not in ("strict", "paper"):
        raise ViceError(f"`protocol` must be 'strict' or 'paper', but is {protocol!r}.", "Give 'strict'.")
    if replicates < 100:
        raise ViceError(f"`replicates` must be at least 100 for a ranking, but is {replicates}.", "Give 2000.")


def _linear(bootstrap: str, reference: Samples, protocol: str, *, models: int, replicates: int) -> tuple[str, ...]:
    """The measures whose replicates are linear, by the size of the first table."""
    images = reference.of_protocol(protocol).images
    return linear_measures(
        bootstrap,
        protocol,
        models=models,
        pairs=int(images.targets[images.has_mask].sum()),
        images=len(images),
        classes=len(reference.classes),
        replicates=replicates,
    )


@dataclass(frozen=True)
class _Job:
    split: str | None
    protocol: str
    by: str
    linear: tuple[str, ...]
    replicates: int
    seed: int


@dataclass(frozen=True)
class _Read:
    """A table that was read: the `model`, without the columns that its `replicates` were made of; or the `reason`."""

    name: str
    model: Reduced | None = None
    replicates: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    exclusive: bool = False
    reason: str = ""


@dataclass
class _Gathered:
    """What was read: the models by name, their replicates in that order, and the tables that are left out."""

    models: dict[str, Reduced] = field(default_factory=dict)
    replicates: list[np.ndarray] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)


def _gathered(
    job: _Job,
    sources: Mapping[str, Table],
    first: str,
    reference: Samples,
    broken: Mapping[str, str],
    processes: int | None,
    progress: Step | None,
) -> _Gathered:
    """Read all tables but the broken ones, and check each against the reference, which is called `first`.

    Raises:
        ViceError: a table is of other images, classes, targets or masks.
    """
    one = reduced(reference, job.protocol, job.by, job.linear).numbers()
    found = _Gathered()
    for name, reason in broken.items():
        found.left_out.append(_left_out(name, sources, reason))
    chunks = _chunks([(name, source) for name, source in sources.items() if name not in broken])
    done = len(broken)
    for part in _read(job, chunks, processes):
        for read in part:
            if read.model is None:
                found.left_out.append(_left_out(read.name, sources, read.reason))
                continue
            found.models[read.name] = read.model
            _check_same(one, read, reference, first, sources[read.name], job)
            if read.replicates is not None:
                found.replicates.append(read.replicates)
        done += len(part)
        if progress is not None:
            progress(done, len(sources))
    return found


def _left_out(name: str, sources: Mapping[str, Table], reason: str) -> dict[str, str]:
    return {"name": name, "path": _path(sources[name]), "reason": reason}


def _path(source: Table) -> str:
    return "" if isinstance(source, Samples) else str(source)


def _load(source: Table, split: str | None, protocol: str) -> Samples:
    """The part of a table that is ranked.

    Raises:
        ViceError: it cannot be read, or its assessment is not finished.
    """
    samples = source if isinstance(source, Samples) else read_headline(table_folder(Path(source), split), protocol)
    count = len(samples.of_protocol(protocol).images)
    if samples.manifest.get("finished") is False:
        total = samples.manifest["dataset"].get("images", "?")
        raise ViceError(f"The assessment is not finished: it has {count} of {total} images.", "Run vice assess again.")
    return samples


def _sentence(error: Exception) -> str:
    """Why a table could not be read, as one sentence."""
    found = as_vice_error(error)
    if found is None:
        raise error
    return found.message


def _reference(sources: Mapping[str, Table], split: str | None, protocol: str) -> tuple[str, Samples, dict[str, str]]:
    """The first table that can be read, which the others are held against, and the reasons of those before it."""
    broken: dict[str, str] = {}
    for name, source in sources.items():
        try:
            return name, _load(source, split, protocol), broken
        except (ViceError, OSError) as error:
            broken[name] = _sentence(error)
    first, reason = next(iter(broken.items()), ("", "none is given."))
    raise ViceError(
        f"Ranks need two models or more, but none of {len(sources)} could be read. {first}: {reason}",
        "Give RUNs that were assessed, tables, or folders that hold them.",
    )


def _chunks(sources: Sequence[tuple[str, Table]]) -> list[list[tuple[str, Table]]]:
    return [list(sources[at : at + CHUNK]) for at in range(0, len(sources), CHUNK)]


def _read(job: _Job, chunks: Sequence[Sequence[tuple[str, Table]]], processes: int | None) -> Iterator[list[_Read]]:
    """Read the chunks in their order, in this process or in several."""
    tables = sum(map(len, chunks))
    if processes is None:  # tables in memory would be copied to the processes
        in_memory = any(isinstance(source, Samples) for chunk in chunks for _, source in chunk)
        processes = 1 if tables < FEW or in_memory else processors()
    elif processes < 1:
        raise ViceError(f"`processes` must be at least 1, but is {processes}.", "Give 1: this process alone.")
    way_out = "Use --processes 1 (processes=1), which reads in this process."
    yield from in_processes(_chunk, job, chunks, processes, way_out)


def _chunk(job: _Job, sources: Sequence[tuple[str, Table]]) -> list[_Read]:
    """Read some tables, and make the replicates of all by one product."""
    done: list[_Read] = []
    for name, source in sources:
        try:
            samples = _load(source, job.split, job.protocol)
            model = reduced(samples, job.protocol, job.by, job.linear)
            done.append(_Read(name, model, classes=samples.classes, exclusive=samples.exclusive))
        except (ViceError, OSError) as error:
            done.append(_Read(name, reason=_sentence(error)))
    for count in {read.model.images for read in done if read.model is not None}:
        places = [at for at, read in enumerate(done) if read.model is not None and read.model.images == count]
        models = [read.model for read in done if read.model is not None and read.model.images == count]
        drawn = replicates_of(models, BY, _resampling(count, job))
        for at, model, part in zip(places, models, drawn, strict=True):
            done[at] = replace(done[at], model=model.numbers(), replicates=part)
    return done


_drawn: dict[tuple[int, int, int], Resampling] = {}  # of this process: the draws of the last number of images


def _resampling(images: int, job: _Job) -> Resampling:
    key = images, job.replicates, job.seed
    if key not in _drawn:
        _drawn.clear()
        _drawn[key] = Resampling(*key)
    return _drawn[key]


def _check_same(one: Reduced, read: _Read, reference: Samples, first: str, source: Table, job: _Job) -> None:
    """Check that a table is of the images, classes, targets and masks of the reference.

    Raises:
        ViceError: it is not; the sentence names both.
    """
    other = read.model
    assert other is not None
    same = read.classes == reference.classes and read.exclusive == reference.exclusive
    if same and one.truth == other.truth:
        return
    both = {first: reference, read.name: _load(source, job.split, job.protocol)}
    check_same_classes(both)
    check_same_kind(both)
    only = {name: set(samples.of_protocol(job.protocol).images.image_id.tolist()) for name, samples in both.items()}
    if only[first] != only[read.name]:
        parts = [
            f"only {name} has {len(ids - rest)} of its {len(ids)} images ({brief(min(ids - rest))} ...)"
            for (name, ids), rest in zip(only.items(), reversed(only.values()), strict=True)
            if ids - rest
        ]
        raise ViceError(
            f"Models are ranked on the same images, but those of {first} and {read.name} differ: "
            f"{' and '.join(parts)}.",
            f"Leave {read.name} out, or assess both on the same split.",
        )
    if job.protocol == "strict":
        check_same_truth(both)
        return
    targets, others = (samples.of_protocol("paper").images.targets for samples in both.values())
    parts = [] if np.array_equal(targets, others) else ["targets"]
    parts += [
        part for part in changed_images(*(samples.images.digests() for samples in both.values())) if part == "masks"
    ]
    if parts:
        raise ViceError(
            f"Models are ranked on the same images, but the {' and '.join(parts)} of {first} and {read.name} differ.",
            "Assess both on the same dataset.",
        )


def tables_of(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> dict[str, str]:
    """RUNs and tables by name: wildcards and folders that hold tables are expanded.

    A model is called like its folder; where names repeat, by the part of the path in which they differ.

    Raises:
        ViceError: tables in memory, nothing at a path, a wildcard without a match, or a table that is named twice.
    """
    found: list[str] = []
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    check_kind("tables", several, Iterable, "paths of RUNs or tables")
    if any(isinstance(one, Samples) for one in several):
        raise ViceError("Tables in memory need names, but a list gives none.", "Give {'NAME': samples, ...}.")
    for path in (os.fspath(as_path("tables", one)) for one in several):
        if os.path.exists(path):
            found += _below(path)
        elif glob.has_magic(path):
            matches = [one for match in sorted(glob.glob(path, recursive=True)) for one in _below(match)]
            if not matches:
                raise ViceError(f"The wildcard {path} must match RUNs or tables, but matches nothing.", "Try ls first.")
            found += matches
        else:
            raise ViceError(
                f"RUNs or tables must be given, but there is nothing at {path}.",
                near_path(Path(path)) or "Give a RUN, a table, or a folder that holds them.",
            )
    whole = [os.path.realpath(path) for path in found]
    twice = next((path for path, real in zip(found, whole, strict=True) if whole.count(real) > 1), None)
    if twice is not None:
        raise ViceError(f"Ranked models must be different, but {twice} is named twice.", "Remove one.")
    return dict(zip(_names(found), found, strict=True))


def _below(path: str) -> list[str]:
    """The path, or, where it is neither a RUN nor a table, those that lie in it at any depth."""
    if not os.path.isdir(path):
        return [path]
    found = []
    for folder, folders, files in os.walk(path):
        own = "manifest.json" in files or "config.yaml" in files or _assessed(folder)
        if own:
            found.append(folder)
            folders.clear()
        folders.sort()
    return found or [path]


def _assessed(folder: str) -> bool:
    return any(True for _ in glob.iglob(os.path.join(glob.escape(folder), "assess", "*", "manifest.json")))


def _names(paths: Sequence[str]) -> list[str]:
    """Names of paths: the last part, or the parts between what all begin and all end with.

    Example:
        >>> _names(["runs/a", "runs/b"]), _names(["x/a/assess/val", "x/b/assess/val"]), _names(["x/a", "y/a", "y/b"])
        (['a', 'b'], ['a', 'b'], ['x/a', 'y/a', 'y/b'])
    """
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    last = [one[-1] for one in parts]
    if len(set(last)) == len(last):
        return last
    while len({one[-1] for one in parts}) == 1 and len(parts) > 1:
        parts = [one[:-1] for one in parts]
    if len({one[-1] for one in parts}) == len(parts):
        return [one[-1] for one in parts]
    while len({one[0] for one in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [one[1:] for one in parts]
    return ["/".join(one) for one in parts]
