"""Settings: YAML presets, overrides, and their sections."""

from torchvice.config.settings import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PRESETS,
    Section,
    Settings,
    dump_settings,
    load_settings,
    override_settings,
    preset_names,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PRESETS",
    "Section",
    "Settings",
    "dump_settings",
    "load_settings",
    "override_settings",
    "preset_names",
]
