"""Samples, the table: one row per image and view, and one per image, explanation and label.

It holds the model's outputs and all counts of pixels; every measure is derived from it.
"""

from torchvice.samples.columns import (
    FAITHFULNESS,
    FEATURES,
    FILLINGS,
    HISTOGRAM_BINS,
    INTERVENTIONS,
    STATUSES,
    Images,
    Maps,
    Regions,
)
from torchvice.samples.digests import Digests, changed_images, named_images
from torchvice.samples.predictions import confidences, losses, predicted, probabilities
from torchvice.samples.shards import SCHEMA, ShardFolder
from torchvice.samples.table import FOREIGN, ProtocolSamples, Samples

__all__ = [
    "FAITHFULNESS",
    "FEATURES",
    "FILLINGS",
    "FOREIGN",
    "HISTOGRAM_BINS",
    "INTERVENTIONS",
    "SCHEMA",
    "STATUSES",
    "Digests",
    "Images",
    "Maps",
    "ProtocolSamples",
    "Regions",
    "Samples",
    "ShardFolder",
    "changed_images",
    "confidences",
    "losses",
    "named_images",
    "predicted",
    "probabilities",
]
