"""`vice explain`: the maps of a RUN, or of weights from elsewhere, as files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError, did_you_mean

if TYPE_CHECKING:
    from torchvice.assessment import MapSettings
    from torchvice.data import FolderDataset
    from torchvice.runs.subject import Subject

__all__ = ["explain_subject"]


def explain_subject(
    subject: Subject,
    folder: str | os.PathLike[str],
    *,
    labels: str | None = None,
    targets: str | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> int:
    """Write the maps of a subject as files, see `torchvice.assessment.map_files.write_map_files`.

    Args:
        subject: what is explained.
        folder: where the files go.
        labels: whose maps are written: "true", "predicted", "both" or names of classes, separated by commas; None: as
            the subject's choices say, and the predicted ones of images without labels.
        targets: as for `torchvice.assess`.
        say: called with one sentence if labels are chosen for the user.
        options: `protocol`, `file_format`, `progress` and `passes` of `write_map_files`.

    Returns:
        The number of files written.

    Raises:
        ViceError: labels that are named twice, or that are no classes; true labels of images that have none; before
            the first image, files of the dataset that cannot be used; or as `write_map_files`.
    """
    from torchvice.assessment.map_files import write_map_files
    from torchvice.data.check import check_files

    check_files(subject.dataset)
    settings = _with_labels(subject.settings, labels, subject.dataset)
    if getattr(subject.dataset, "unlabelled", False):
        settings = _of_unlabelled(settings, labels, targets, say)
    return write_map_files(subject.model, subject.dataset, folder, settings=settings, targets=targets, **options)  # type: ignore[arg-type]


def _with_labels(settings: MapSettings, labels: str | None, dataset: FolderDataset) -> MapSettings:
    """The settings with the labels that the user names."""
    if labels is None:
        return settings
    if settings.choices.labels != "true":
        raise ViceError("Labels are named once, but --labels and --choice labels are both given.", "Remove one.")
    if labels in ("true", "predicted", "both"):
        return _asking_for(settings, labels)
    names = [name.strip() for name in labels.split(",")]
    for name in names:
        if name in dataset.classes:
            continue
        way_out = did_you_mean(name, ["true", "predicted", "both", *dataset.classes])
        if getattr(dataset, "numbered", False) and way_out != "Did you mean `predicted`?":
            way_out = "Name the outputs of the network, in their order: --classes NAME,NAME,..."
        raise ViceError(
            f"`--labels` must be true, predicted, both or classes of the data, but is {labels!r}: `{name}` is no "
            "class.",
            way_out,
        )
    return _asking_for(settings, tuple(dataset.classes.index(name) for name in dict.fromkeys(names)))


def _asking_for(settings: MapSettings, labels: Any) -> MapSettings:
    return replace(settings, choices=replace(settings.choices, labels=labels))


def _of_unlabelled(
    settings: MapSettings, labels: str | None, targets: str | None, say: Callable[[str], None]
) -> MapSettings:
    """The settings for images without labels: the predicted ones, unless the user names others."""
    if labels in ("true", "both") or settings.choices.labels == "both":
        raise ViceError(
            "Images without labels have no true ones, but their maps are requested.",
            "Give --labels predicted or the names of classes, or the labels: --masks DIR, --coco FILE.",
        )
    if settings.choices.labels != "true":
        return settings
    if targets == "multilabel":
        say("The images have no labels: maps are those of all classes with a logit above 0.")
    else:
        say("The images have no labels: the map is that of the likeliest class. All above 0: --targets multilabel.")
    return _asking_for(settings, "predicted")
