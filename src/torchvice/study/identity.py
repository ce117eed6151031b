"""The key of a run in a study: a hash of the settings that its result depends on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from torchvice.config import IMAGENET_MEAN, IMAGENET_STD, Settings
from torchvice.models.build import stated_preprocessing

__all__ = ["key_of"]

# Settings that do not change what a run computes, and so do not enter its key.
NOT_IDENTITY = {
    "": ("session_name", "work_dir", "seed"),
    "data": ("workers",),
    "trainer": (
        "accelerator",
        "strategy",
        "vice_every_n_epochs",
        "vice_images",
        "vice_figures",
        "loggers",
    ),
}


def key_of(settings: Settings) -> str:
    """Hash the settings that differ from the defaults, so that a setting added later does not change the key."""
    content = settings.model_dump(mode="json", exclude_defaults=True)
    for section, names in NOT_IDENTITY.items():
        part = content.get(section, {}) if section else content
        for name in names:
            part.pop(name, None)
    content["transform"] = _with_normalisation(content.get("transform", {}), settings)
    content = {name: value for name, value in content.items() if value != {}}
    content["seed"] = settings.seed
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def _with_normalisation(transform: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The settings of the transform with the mean and std that a run will have, where they are not ImageNet's.

    ImageNet's were the default of every network once, and the keys of runs that had them stay as they are. A file of
    weights may state others than the network: with one, the network's own values are marked where they are given.
    """
    stated = stated_preprocessing(settings.model.name)
    found = {name: value for name, value in transform.items() if name not in ("mean", "std")}
    for name, usual in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        given = getattr(settings.transform, name)
        of_network = tuple((stated and getattr(stated, name)) or usual)
        value = given or of_network
        if tuple(value) != usual:
            found[name] = list(value)
        if settings.model.weights is not None and given == of_network:
            found[f"given_{name}"] = True
    return found
