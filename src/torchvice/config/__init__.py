"""Settings: YAML presets, overrides and sections."""

from torchvice.config.sections import IMAGENET_MEAN, IMAGENET_STD, FolderName, Section
from torchvice.config.settings import (
    PRESETS,
    Settings,
    dump_settings,
    load_settings,
    override_settings,
    preset_names,
    problem_of,
    read_source,
    yaml_names,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PRESETS",
    "FolderName",
    "Section",
    "Settings",
    "dump_settings",
    "load_settings",
    "override_settings",
    "preset_names",
    "problem_of",
    "read_source",
    "yaml_names",
]
