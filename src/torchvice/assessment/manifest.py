"""The manifest of a table: the model, the data, the settings of its maps and the versions that made it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torchvice
from torchvice.assessment.images import Dataset
from torchvice.metrics.thresholds import PAPER_THRESHOLDS
from torchvice.samples import HISTOGRAM_BINS

if TYPE_CHECKING:
    from torch import nn

    from torchvice.assessment.extras import Extra
    from torchvice.assessment.views import View
    from torchvice.data.filling import InterventionChoices
    from torchvice.explain import FaithfulnessChoices

__all__ = ["class_map_of", "manifest_of"]


def manifest_of(
    dataset: Dataset,
    views: Mapping[str, View],
    extras: Sequence[Extra],
    kind: str,
    made_by: Mapping[str, Any],
    faithfulness: FaithfulnessChoices | None = None,
    interventions: InterventionChoices | None = None,
) -> dict[str, Any]:
    """The manifest of the requested table; `faithfulness` and `interventions` are those of the headline of `strict`."""
    from torchvice.models.build import weights_hash

    view = next(iter(views.values()))
    explainer = view.explainer
    headlines = {view.explanation: {"role": "headline", **view.settings} for view in views.values()}
    for name, choices in {"faithfulness": faithfulness, "interventions": interventions}.items():
        if choices is not None:
            headlines[views["strict"].explanation][name] = choices.to_dict()
    return {
        "made_by": {"command": "assess", **made_by},
        "model": {
            "type": type(explainer.model).__name__,
            "weights_sha256": weights_hash(explainer.model),
            "class_map": class_map_of(view),
            **_conversion(explainer.model),
        },
        "dataset": _dataset_entry(dataset),
        "classes": list(dataset.classes),
        "targets": kind,
        "thresholds": PAPER_THRESHOLDS.tolist(),
        "histogram_bins": HISTOGRAM_BINS,
        "map_settings": _map_settings(view),
        "explanations": headlines | {extra.explanation: extra.settings for extra in extras},
        "protocols": {name: {"view": view.name, "explanation": view.explanation} for name, view in views.items()},
        "versions": {
            "python": platform.python_version(),
            "torchvice": torchvice.__version__,
            **{package: version(package) for package in ("torch", "timm", "numpy", "pillow")},
        },
        "seed": None,
        "finished": False,
    }


def class_map_of(view: View) -> list[list[int]] | None:
    """The outputs of the model that mean each class; None: the outputs are the classes."""
    groups = view.map_settings.class_map
    return None if groups is None else [[int(output) for output in group] for group in groups]


def _conversion(model: nn.Module) -> dict[str, Any]:
    """How images are brought to the network's channels; nothing for a network that takes RGB images."""
    from torchvice.models.adapt import GREY, converted_channels

    channels = converted_channels(model)
    return {} if channels is None else {"channels": channels, "grey": list(GREY)}


def _dataset_entry(dataset: Dataset) -> dict[str, Any]:
    """Where a dataset lies, and what was chosen in it."""
    given = getattr(dataset, "chosen", None)  # a dataset class of the user's own may mean anything by it
    chosen = {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    whole = [str(name) for name in getattr(dataset, "all_classes", ())]  # where some of them are not asked for
    return {
        "root": str(getattr(dataset, "root", "")),
        "split": str(getattr(dataset, "split", "")),
        "labels": str(getattr(dataset, "label_source", "")),
        "images": len(dataset.records),
        "regions": str(getattr(dataset, "regions", "masks")),
        **({"chosen": chosen} if chosen else {}),
        **({"all_classes": whole} if whole else {}),
    }


def _map_settings(view: View) -> dict[str, Any]:
    """The settings of all views, with the method and the layer that the network's family gave."""
    explainer, settings = view.explainer, view.map_settings
    layer = None if settings.choices.layers else explainer.site.layer
    return settings.to_dict() | {"method": explainer.method, "layer": layer, "site": explainer.site.to_dict()}
