"""The model and data of a study's run: of the RUN that was trained here, or of a checkpoint that is given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from torchvice.config import Settings
from torchvice.errors import ViceError
from torchvice.files import sha256
from torchvice.study.checkpoints import Given
from torchvice.study.plan import AssessmentRequest, PlannedRun

if TYPE_CHECKING:
    from torchvice.config.sections import DataSettings
    from torchvice.data import FolderDataset
    from torchvice.runs import Run
    from torchvice.runs.subject import Subject

__all__ = ["check_checkpoint", "check_network", "data_of_split", "eval_dataset", "subject_of"]

# Options of `vice assess` that a sentence on weights names, as the file of a study writes them.
_IN_FILE = (
    (r"--weights-key (\S+) in vice assess, `key` in load_weights", r"weights_key: \1 beside checkpoint"),
    (r"--weights-key", "weights_key"),
    (r"--class-map ([\w-]+(?:\.\w+)*)", r"class_map: \1 beside checkpoint"),
    (
        r"(?:Check the network's name\. )?Check the network's arguments: --argument (\w+)=(\w+) in vice assess, "
        r"-o model\.arguments\.\w+=\w+ in vice train",
        r"Check model.name and the network's arguments, model.arguments.\1: \2",
    ),
    (r"--argument (\w+)=(\w+)", r"model.arguments.\1: \2"),
    (r"--view-size (\w+)", r"assess.view_size: \1"),
    (r"--(mean|std)\b", r"transform.\1"),
    (r"--weights FILE", "checkpoint: FILE"),
    (r"--weights", "checkpoint"),
    (r"--pretrained", "checkpoint: pretrained"),
    (r"--model ", "model.name: "),
)


def subject_of(folder: Path, settings: Settings, request: AssessmentRequest, given: Given | None) -> Subject:
    """The subject of a run: its network and weights, and the data of the study.

    Args:
        folder: of the run.
        settings: of the run; those of a RUN that is given hold its network and input.
        request: how it is assessed.
        given: the checkpoint; None: the run was trained in `folder`.

    Raises:
        ViceError: a checkpoint that has changed since it was planned, that does not fit the network, or whose outputs
            are not the classes of the data.
    """
    from torchvice.assessment import MapSettings
    from torchvice.runs import Run
    from torchvice.runs.subject import subject_from_run

    if given is None:
        return subject_from_run(Run(folder), settings=MapSettings(method=request.method))
    if given.file is not None and sha256(given.file) != given.digest:
        raise ViceError(
            f"The checkpoint {given.checkpoint} has changed since the study was started.",
            "Start the study again: the present one is assessed.",
        )
    return _given_subject(folder, settings, request, given)


def _given_subject(folder: Path, settings: Settings, request: AssessmentRequest, given: Given) -> Subject:
    from torchvice.assessment import MapSettings
    from torchvice.models.named import WITH_WEIGHTS, source_of
    from torchvice.runs import Run
    from torchvice.runs.subject import subject_from_run, subject_from_weights

    pixels, chosen = settings.transform, settings.assess
    dataset = eval_dataset(settings.data)
    out = folder / "assess" / Path(dataset.split).name.removesuffix(".txt")
    maps = MapSettings(method=request.method, batch_size=chosen.batch_size)
    if given.run:
        run = Run(given.run)
        _check_classes(run, dataset)
        which = "best" if Path(given.checkpoint).is_dir() else str(given.file)
        return subject_from_run(run, checkpoint=which, settings=maps, dataset=dataset, out=out)
    return subject_from_weights(
        settings.model.name,
        given.file,
        dataset,
        out,
        given.class_map,
        maps.completed(
            view_size=chosen.view_size,
            crop=pixels.crop,
            mean=pixels.mean,
            std=pixels.std,
            interpolation=pixels.interpolation,
        ),
        settings.model.arguments,
        given.weights_key,
        pretrained=given.file is None and source_of(settings.model.name)[0] not in WITH_WEIGHTS,
    )


def data_of_split(data: DataSettings, split: str) -> DataSettings:
    """The settings of one split alone: equal where the same images, labels and masks are read."""
    return data.model_copy(update={"train_split": "", "selection_split": "", "eval_split": split, "workers": 0})


def eval_dataset(data: DataSettings) -> FolderDataset:
    """Open the evaluation split with every setting that says how it is read."""
    from torchvice.data import open_dataset

    return open_dataset(
        data.root,
        data.eval_split,
        classes=data.classes,
        labels=data.labels,
        masks=data.masks,
        exclusive=data.exclusive,
    )


def check_network(run: PlannedRun) -> None:
    """Check the name of a checkpoint's network, without building it.

    Raises:
        ViceError: an unknown name.
    """
    from torchvice.models.build import check_name
    from torchvice.models.named import source_of

    source, name = source_of(run.settings.model.name)
    if source == "timm":
        check_name(name)


def check_checkpoint(run: PlannedRun, request: AssessmentRequest) -> None:
    """Check that a checkpoint fits its network, and its outputs the data; the message names the run.

    Raises:
        ViceError: see `subject_of`.
    """
    assert run.given is not None
    try:
        _given_subject(run.folder, run.settings, request, run.given)
    except ViceError as error:
        message, way_out = error.message, error.way_out
        for option, field in _IN_FILE:
            message, way_out = (re.sub(option, field, text) for text in (message, way_out))
        raise ViceError(f"The run {run.label} cannot be assessed: {message}", way_out) from None


def _check_classes(run: Run, dataset: FolderDataset) -> None:
    """Check that the classes of a RUN are those of the data, in their order."""
    own, classes = run.classes, tuple(dataset.classes)
    if len(own) != len(classes):
        raise ViceError(
            f"The RUN {run.folder} has {len(own)} classes, but the data in {dataset.root} have {len(classes)}.",
            "Give a RUN that was trained on these classes, or other data: data.root.",
        )
    for number, (name, wanted) in enumerate(zip(own, classes, strict=True)):
        if name != wanted:
            raise ViceError(
                f"Class {number} of the RUN {run.folder} is `{name}`, but that of the data in {dataset.root} is "
                f"`{wanted}`.",
                "Give a RUN that was trained on these classes, or other data: data.root.",
            )
