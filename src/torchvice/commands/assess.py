"""`vice assess`: a RUN, or weights from elsewhere, over a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import os

    from torchvice.assessment import Extras, Part
    from torchvice.assessment.map_settings import Protocols
    from torchvice.data import FolderDataset
    from torchvice.runs.subject import Subject
    from torchvice.samples import Samples

__all__ = ["Progress", "assess_map_files", "assess_subject"]


Progress = Callable[[int, int], None]


def assess_subject(
    subject: Subject,
    *,
    protocols: Protocols = ("paper", "strict"),
    extras: Extras | None = None,
    targets: Literal["multilabel", "exclusive"] | None = None,
    workers: int = 2,
    part: Part | None = None,
    progress: Progress | None = None,
    passes: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Samples:
    """Assess a subject, see `torchvice.assess`. `extras` None: the controls and interventions of the
    table, all of both in a new table. `tell` is called with the sentences of `torchvice.data.check_files`.

    Raises:
        ViceError: see `torchvice.assess`; before the first image, files of the dataset that cannot be used, see
            `torchvice.data.check_files`.
    """
    from torchvice.assessment import WHOLE, Extras, assess
    from torchvice.data.check import check_files

    for note in check_files(subject.dataset):
        if tell is not None:
            tell(note)
    return assess(
        subject.model,
        subject.dataset,
        out=subject.out,
        protocols=protocols,
        settings=subject.settings,
        extras=Extras(controls=None, without="auto") if extras is None else extras,
        targets=targets,
        workers=workers,
        made_by=subject.made_by,
        part=part or WHOLE,
        progress=progress or False,
        passes=passes,
    )


def assess_map_files(
    maps: str | os.PathLike[str], scores: str | os.PathLike[str], dataset: FolderDataset, **options: Any
) -> Samples:
    """Assess the maps and logits of another tool, see `torchvice.assess_maps`.

    Raises:
        ViceError: see `torchvice.assess_maps`; before the first image, files of the dataset that cannot be used.
    """
    from torchvice.assessment import assess_maps
    from torchvice.data.check import check_files

    check_files(dataset)
    return assess_maps(maps, scores, dataset, **options)
