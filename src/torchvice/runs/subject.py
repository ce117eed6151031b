"""Subject: a model and the data it is assessed on, from a RUN or from weights that torchvice did not train."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.runs.class_maps import read_class_map

if TYPE_CHECKING:
    from torch import nn

    from torchvice.assessment import MapKeywords, MapSettings
    from torchvice.data import FolderDataset
    from torchvice.models.encoder_files import TrainedHere
    from torchvice.models.named import NamedModel
    from torchvice.runs import Run

__all__ = ["Subject", "subject_from_run", "subject_from_weights"]


@dataclass(frozen=True)
class Subject:
    """A model, the data it is assessed on, and the settings that join both.

    `out` is the folder of the table; `made_by` the entries of its manifest that say where the model comes from;
    `notes` sentences on how the model is used.
    """

    model: nn.Module
    dataset: FolderDataset
    out: Path
    settings: MapSettings
    made_by: dict[str, Any]
    notes: tuple[str, ...] = ()


def subject_from_run(
    run: Run,
    split: str | None = None,
    checkpoint: str = "best",
    settings: MapSettings | None = None,
    *,
    dataset: FolderDataset | None = None,
    out: Path | None = None,
) -> Subject:
    """The subject of a RUN: its checkpoint on a split of its dataset.

    Args:
        run: the RUN.
        split: None: the split that the run's settings measure.
        checkpoint: as for `Run.checkpoint`.
        settings: fields that are None are taken from the run's settings.
        dataset: data of the run's classes, in place of a split of its own.
        out: the folder of the table; None: in the RUN.

    Raises:
        ViceError: as `Run.dataset` and `Run.model`.
    """
    from torchvice.assessment import MapSettings

    chosen, pixels = run.settings.assess, run.settings.transform
    shown: MapKeywords = {"crop": pixels.crop, "mean": pixels.mean, "std": pixels.std}
    shown |= {"interpolation": pixels.interpolation, "view_size": chosen.view_size, "batch_size": chosen.batch_size}
    settings = (settings or MapSettings()).completed(**shown)
    dataset = run.dataset(split) if dataset is None else dataset
    network, which = run.settings.model.name, Path(checkpoint).name
    made_by = {"run": run.settings.session_name, "network": network, "checkpoint": which}
    folder = run.assess_dir(dataset.split) if out is None else out
    return Subject(run.model(checkpoint), dataset, folder, settings, made_by)


def subject_from_weights(
    name: str,
    weights: str | os.PathLike[str] | None,
    dataset: FolderDataset,
    out: str | os.PathLike[str] | None,
    class_map: str | os.PathLike[str] | None = None,
    settings: MapSettings | None = None,
    arguments: Mapping[str, Any] | None = None,
    key: str | None = None,
    prompts: str | os.PathLike[str] | None = None,
    *,
    pretrained: bool = False,
    random_weights: int | None = None,
) -> Subject:
    """The subject of a network that torchvice did not train.

    Args:
        name: of the network, see `torchvice.models.named.source_of`.
        weights: a local file; the number of outputs is read from its classifier. None: the network comes with its own.
        dataset: the data.
        out: the folder of the table; None: in runs/, by the names of network, weights and split.
        class_map: a file or name, see `torchvice.runs.class_maps.read_class_map`; None: the outputs are the data's
            classes, by their names where the network or the file knows them, else in their order. Classes that it
            leaves out are not asked for, but for the complement of the class that an only logit means.
        settings: sizes and normalisation that are None are those that torchvice trained the weights with, if their file
            says them, else those of the network's source; images per batch: 16.
        arguments, key: of the network, see `torchvice.models.named.model_by_name`.
        prompts: file of the prompts of a zero-shot classifier, see `torchvice.models.prompts.read_prompts`.
        pretrained: take timm's weights, from its cache or by download, in place of a file.
        random_weights: seed of random weights in place of a file; without a class map the network has an output for
            each class.

    Raises:
        ViceError: an unknown network, weights that do not fit it, or outputs that do not fit the classes.
    """
    from torchvice.assessment import MapSettings
    from torchvice.models.adapt import converted_channels, of_side, output_count, taking_rgb, with_output
    from torchvice.models.bare import bare
    from torchvice.models.named import Start, model_by_name
    from torchvice.models.prompts import ClassNames

    settings = settings or MapSettings()
    classes = tuple(dataset.classes)
    start = Start(pretrained, random_weights, (len(classes) or None) if class_map is None else None)
    named = model_by_name(name, weights, arguments, key, ClassNames(classes, prompts), start)
    model = taking_rgb(of_side(bare(named.model), named.size or settings.given_side)).eval()
    outputs = named.outputs
    if outputs is None or settings.output is not None:
        outputs = output_count(model if settings.output is None else with_output(model, settings.output))
    names, said_by = named.names, "config.json"
    if weights is not None and named.trained is not None and named.trained.classes:
        names, said_by = named.trained.classes, Path(weights).name
    dataset = _with_class_names(dataset, names, outputs, class_map)
    groups, notes = _groups(class_map, dataset.classes, outputs, names, said_by)
    if groups is not None and not (outputs == 1 and _is_one_of_two(dataset)):
        dataset, groups = _asked_for(dataset, groups)
    grey = converted_channels(model) is not None
    notes += [*named.notes, *(["The network takes one channel: images are converted to grey."] if grey else [])]
    settings = settings.completed(batch_size=16, class_map=groups)
    if weights is not None and named.trained is not None:
        settings, input_note = _as_trained(settings, named.trained, Path(weights).name)
        notes += input_note
    settings = _with_pixels(settings, named, name)
    label = named.label if weights is None else f"{named.label}_{Path(weights).stem}"
    folder = Path("runs") / label / "assess" / dataset.split if out is None else Path(out)
    return Subject(model, dataset, folder, settings, named.made_by, tuple(notes))


def _as_trained(settings: MapSettings, trained: TrainedHere, file: str) -> tuple[MapSettings, list[str]]:
    """The settings with the input of the training by torchvice, where they are open, and a sentence on what is taken.

    A RUN's file gives what `subject_from_run` takes, so that the numbers are those of its RUN.
    """
    pixels = trained.normalisation
    shown: MapKeywords = {"view_size": trained.view_size, "crop": trained.crop, "interpolation": trained.interpolation}
    shown |= {"mean": pixels.mean, "std": pixels.std} if pixels else {}
    made = settings.completed(**shown)
    taken = [name for name in shown if getattr(settings, name) is None and getattr(made, name) is not None]
    if made.transform is not None and "view_size" in taken:
        taken.remove("view_size")  # that of the user's transform
    values = ", ".join(f"{name} {_text(getattr(made, name))}" for name in taken)
    return made, [f"Input: {values}, as {file} was trained with."] if taken else []


def _text(value: Any) -> str:
    """The value of a setting, as it is typed; equal numbers are one."""
    if not isinstance(value, tuple | list):
        return str(value)
    return ",".join(f"{number:g}" for number in (value[:1] if len(set(value)) == 1 else value))


def _with_pixels(settings: MapSettings, named: NamedModel, name: str) -> MapSettings:
    """The settings with the size and normalisation that the network's source states, where they are open."""
    if named.needs_pixels and None in (settings.mean, settings.std) and None in (named.mean, named.std):
        message = f"{name} must say the mean and std of its images, but {named.needs_pixels}."
        raise ViceError(message, "Give --mean and --std.")
    return settings.completed(view_size=named.size, crop=named.size, mean=named.mean, std=named.std)


def _with_class_names(
    dataset: FolderDataset, names: Sequence[str], outputs: int | None, class_map: str | os.PathLike[str] | None
) -> FolderDataset:
    """The dataset; images without labels whose classes nobody named have those of the network, or its numbers."""
    if dataset.classes or not getattr(dataset, "unlabelled", False):
        return dataset
    if class_map is not None:
        raise ViceError(
            "A class map needs the names of the classes, but images without labels have none.",
            "Give them: --classes cat,dog.",
        )
    if outputs is None:
        raise ViceError(
            "The network's number of outputs cannot be read, because it does not run on a black image.",
            "Give --view-size SIDE if it takes images of one size.",
        )
    named: FolderDataset = dataset.with_classes(names, outputs)  # type: ignore[attr-defined]
    return named


def _shared(groups: Sequence[Sequence[int]], classes: Sequence[str]) -> list[str]:
    """A sentence on classes that a class map reads from the same outputs, such as by a slip; else none."""
    names: dict[frozenset[int], list[str]] = {}
    for name, group in zip(classes, groups, strict=True):
        names.setdefault(frozenset(group), []).append(f"`{name}`")
    shared = {group: same for group, same in names.items() if group and len(same) > 1}
    if not shared:
        return []
    outputs, same = next(iter(shared.items()))
    these = f"output{'s' if len(outputs) > 1 else ''} {', '.join(map(str, sorted(outputs)))}"
    more = f" Further classes are, too, of other outputs: {len(shared) - 1} times." if len(shared) > 1 else ""
    return [f"{', '.join(same[:-1])} and {same[-1]} are read from the same {these}: logits and maps are equal.{more}"]


def _groups(
    class_map: str | os.PathLike[str] | None,
    classes: Sequence[str],
    outputs: int | None,
    names: Sequence[str],
    said_by: str = "config.json",
) -> tuple[list[list[int]] | None, list[str]]:
    """The outputs that mean each class, by the class map or by their names, and what is to be said about it.

    `said_by` is the file that names the outputs.
    """
    if class_map is not None:
        if outputs is None:
            raise ViceError(
                "A class map needs the number of the network's outputs, but the network does not run.",
                "Give --view-size SIDE if it takes images of one size.",
            )
        groups = read_class_map(class_map, classes, outputs)
        return groups, _shared(groups, classes)
    if names and list(names) == list(classes):
        return None, []
    known = [name.casefold() for name in names]
    groups = [[i for i, name in enumerate(known) if name == wanted.casefold()] for wanted in classes]
    if names and all(len(group) == 1 for group in groups):
        if groups != [[i] for i in range(len(names))]:
            return groups, [f"Outputs are assigned to the classes by the names in {said_by}."]
        return None, []
    for i, group in enumerate(groups):
        if outputs == len(classes) and group not in ([], [i]):
            raise ViceError(
                f"{said_by} names output {group[0]} `{names[group[0]]}`, but this is class {i} of the data, and not "
                "every class has an output of its name.",
                "Say which outputs mean which class: --class-map FILE.",
            )
    if outputs is not None and outputs != len(classes) and (outputs, len(classes)) != (1, 2):
        from torchvice.assessment.outputs import needed_outputs
        from torchvice.data.imagenet_s import WORDNET_ID

        by_id = outputs == 1000 and all(WORDNET_ID.fullmatch(name) for name in classes)
        ready = " For classes called by WordNet ids, as ImageNet's: --class-map imagenet-wordnet."
        raise ViceError(
            f"The network must have {needed_outputs(len(classes))}, but has {outputs}.",
            f"Say which outputs mean which class: --class-map FILE.{ready if by_id else ''}",
        )
    return None, [f"{said_by} has other names than the classes: outputs are taken in their order."] if names else []


def _asked_for(dataset: FolderDataset, groups: list[list[int]]) -> tuple[FolderDataset, list[list[int]]]:
    """The dataset with the classes that have outputs alone, and their outputs."""
    from torchvice.data.selected import select_classes

    names = [name for name, group in zip(dataset.classes, groups, strict=True) if group]
    return select_classes(dataset, names), [group for group in groups if group]


def _is_one_of_two(dataset: FolderDataset) -> bool:
    """Whether every image has one of two classes: the other one is then the complement of an only logit."""
    import numpy as np

    return len(dataset.classes) == 2 and bool((np.asarray(dataset.targets).sum(axis=1) == 1).all())
