"""Subject: a model and the data it is assessed on, from a RUN or from weights that torchvice did not train."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.runs.class_maps import read_class_map

if TYPE_CHECKING:
    from torch import nn

    from torchvice.assessment import MapSettings
    from torchvice.data import FolderDataset
    from torchvice.runs import Run

__all__ = ["Subject", "subject_from_run", "subject_from_weights"]


@dataclass(frozen=True)
class Subject:
    """A model, the data it is assessed on, and the settings that join both.

    `out` is the folder of the table; `made_by` the entries of its manifest that say where the model comes from.
    """

    model: nn.Module
    dataset: FolderDataset
    out: Path
    settings: MapSettings
    made_by: dict[str, Any]


def subject_from_run(
    run: Run, split: str | None = None, checkpoint: str = "best", settings: MapSettings | None = None
) -> Subject:
    """The subject of a RUN: its checkpoint on a split of its dataset.

    Args:
        run: the RUN.
        split: None: the split that the run's settings measure.
        checkpoint: as for `Run.checkpoint`.
        settings: fields that are None are taken from the run's settings.

    Raises:
        ViceError: as `Run.dataset` and `Run.model`.
    """
    from torchvice.assessment import MapSettings

    chosen, pixels = run.settings.assess, run.settings.transform
    settings = (settings or MapSettings()).completed(
        view_size=chosen.view_size, crop=pixels.crop, mean=pixels.mean, std=pixels.std, batch_size=chosen.batch_size
    )
    dataset = run.dataset(split)
    network, which = run.settings.model.name, Path(checkpoint).name
    made_by = {"run": run.settings.session_name, "network": network, "checkpoint": which}
    return Subject(run.model(checkpoint), dataset, run.assess_dir(dataset.split), settings, made_by)


def subject_from_weights(
    name: str,
    weights: str | os.PathLike[str],
    dataset: FolderDataset,
    out: str | os.PathLike[str],
    class_map: str | os.PathLike[str] | None = None,
    settings: MapSettings | None = None,
    arguments: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> Subject:
    """The subject of weights that torchvice did not train.

    Args:
        name: timm's name of the network.
        weights: a local file; the number of outputs is read from its classifier.
        dataset: the data.
        out: the folder of the table.
        class_map: a file or name, see `torchvice.runs.class_maps.read_class_map`; None: the outputs are the data's
            classes, in their order. Classes that it leaves out are not asked for.
        settings: sizes and normalisation that are None are timm's for the network; images per batch: 16.
        arguments: of the network, passed to timm.create_model.
        key: which of several sets of weights in the file, see `torchvice.models.weights.read_state_dict`.

    Raises:
        ViceError: weights that do not fit the network, or outputs that do not fit the classes.
    """
    from torchvice.assessment import MapSettings
    from torchvice.models.build import build_model, classifier_outputs, load_weights

    outputs = classifier_outputs(name, weights, arguments, key)
    groups = None if class_map is None else read_class_map(class_map, dataset.classes, outputs)
    if groups is None and outputs != len(dataset.classes):
        raise ViceError(
            f"The network must have an output for each of {len(dataset.classes)} classes, but has {outputs}.",
            "Say which outputs mean which class: --class-map FILE.",
        )
    if groups is not None:
        from torchvice.data.selected import select_classes

        dataset = select_classes(dataset, [name for name, group in zip(dataset.classes, groups, strict=True) if group])
        groups = [group for group in groups if group]
    model = build_model(name, outputs, arguments=arguments)
    load_weights(model, weights, key)
    settings = (settings or MapSettings()).completed(batch_size=16, class_map=groups)
    chosen = {"arguments": arguments and dict(arguments), "weights_key": key}
    made_by = {"network": name, "weights": Path(weights).name, **{k: v for k, v in chosen.items() if v}}
    return Subject(model, dataset, Path(out), settings, made_by)
