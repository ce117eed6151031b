"""Subjects: a model and the data it is asked about, from a RUN or from files that torchvice did not make."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError, brief, did_you_mean
from torchvice.files import read_yaml

if TYPE_CHECKING:
    from torch import nn

    from torchvice.data import FolderDataset
    from torchvice.runs import Run

__all__ = ["Subject", "foreign_subject", "read_class_map", "run_subject"]


@dataclass(frozen=True)
class Subject:
    """A model, the data it is asked about, and how both meet: what steps 2 to 4 need."""

    model: nn.Module
    dataset: FolderDataset
    out: Path
    mean: Sequence[float]
    std: Sequence[float]
    view_size: int | None
    crop: int | None
    batch_size: int
    made_by: dict[str, Any]
    class_map: list[list[int]] | None = None


def run_subject(run: Run, split: str | None = None, checkpoint: str = "best") -> Subject:
    """The subject of a RUN: its checkpoint on a split of its dataset (None: the one its settings measure)."""
    settings = run.settings
    dataset = run.dataset(split)
    return Subject(
        run.model(checkpoint),
        dataset,
        run.assess_dir(dataset.split),
        settings.transform.mean,
        settings.transform.std,
        settings.assess.view_size,
        settings.transform.crop,
        settings.assess.batch_size,
        {"run": settings.session_name, "network": settings.model.name, "checkpoint": Path(checkpoint).name},
    )


def foreign_subject(
    name: str,
    weights: str | os.PathLike[str],
    dataset: FolderDataset,
    out: str | os.PathLike[str],
    class_map: str | os.PathLike[str] | None = None,
    batch_size: int = 16,
    view_size: int | None = None,
    crop: int | None = None,
) -> Subject:
    """The subject of a checkpoint that torchvice did not train, with timm's preprocessing for the network.

    Args:
        name: timm's name of the network.
        weights: a local file; how many outputs the network has is read from its classifier.
        dataset: what it is asked about.
        out: the folder of the table.
        class_map: a JSON or YAML file, see `read_class_map`; None: the outputs are the data's classes, in their order.
        batch_size, view_size, crop: as for `torchvice.assess`.

    Raises:
        ViceError: weights that do not fit the network, or outputs that do not fit the classes.
    """
    from torchvice.models.build import build_model, classifier_outputs, load_weights, preprocessing

    outputs = classifier_outputs(name, weights)
    groups = None if class_map is None else read_class_map(class_map, dataset.classes, outputs)
    if groups is None and outputs != len(dataset.classes):
        raise ViceError(
            f"The network must have an output for each of {len(dataset.classes)} classes, but has {outputs}.",
            "Say which outputs mean which class: --class-map FILE.",
        )
    model = build_model(name, outputs)
    load_weights(model, weights)
    expected = preprocessing(model)
    return Subject(
        model,
        dataset,
        Path(out),
        expected.mean,
        expected.std,
        view_size,
        crop,
        batch_size,
        {"network": name, "weights": Path(weights).name},
        groups,
    )


def read_class_map(path: str | os.PathLike[str], classes: Sequence[str], outputs: int) -> list[list[int]]:
    """The model's outputs that mean each of the data's classes.

    Args:
        path: JSON or YAML, {class name: output index or list of indices}; several mean "any of these", and their
            largest logit counts.
        classes: (C,) the data's class names; each must be in the file.
        outputs: how many the model has.

    Raises:
        ViceError: no such file, a class that is missing or unknown, or an index outside the outputs.
    """
    content = read_yaml(path, "The class map")
    if not isinstance(content, Mapping):
        raise ViceError(f"The class map {path} must map class names to outputs, but is a {type(content).__name__}.")
    known = {str(name): value for name, value in content.items()}
    for name in known:
        if name not in classes:
            unknown = f"The class map {path} names `{name}`, which is no class of the data."
            raise ViceError(unknown, did_you_mean(name, classes))
    groups = []
    for name in classes:
        if name not in known:
            raise ViceError(f"The class map {path} must name every class of the data, but lacks `{name}`.")
        group = known[name] if isinstance(known[name], list) else [known[name]]
        if not group or not all(type(i) is int and 0 <= i < outputs for i in group):
            raise ViceError(
                f"The class map's `{name}` must be outputs 0 to {outputs - 1}, but is {brief(known[name])}."
            )
        groups.append(group)
    return groups
