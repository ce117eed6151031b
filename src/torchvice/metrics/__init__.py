"""Every measure as a pure function of arrays: numpy arrays, torch tensors and nested lists alike."""

import importlib
from typing import Any

from torchvice.metrics.bands import null_band
from torchvice.metrics.boxes import best_box_iou, held_out_box_accuracy, max_box_accuracy
from torchvice.metrics.calibration import multilabel_ece, multilabel_reliability, reliability
from torchvice.metrics.calibration_errors import classwise_ece, maximum_calibration_error
from torchvice.metrics.calibration_overview import calibration_summary
from torchvice.metrics.consistency import js_divergence, kl_divergence, pair_vice, vice
from torchvice.metrics.debiased import debiased_error
from torchvice.metrics.faithfulness import normalised_faithfulness
from torchvice.metrics.interventions import relative_foreground_sensitivity, share_lost, share_still_found
from torchvice.metrics.iou import image_ji, iou_curve
from torchvice.metrics.losses import cross_entropy, pair_log_likelihood, sample_loss, sigmoid, softmax
from torchvice.metrics.multilabel import (
    average_precision,
    confidence,
    mean_average_precision,
    multilabel_accuracy,
    multilabel_f1,
    precision_recall,
    sample_accuracy,
    top_one_accuracy,
)
from torchvice.metrics.scaling import fit_temperature, fit_vector
from torchvice.metrics.scoring import brier_score, negative_log_likelihood
from torchvice.metrics.shares import share_interval
from torchvice.metrics.smoothing import smooth_ece

__all__ = [
    "average_precision",
    "best_box_iou",
    "brier_score",
    "calibration_summary",
    "classwise_ece",
    "confidence",
    "cross_entropy",
    "debiased_error",
    "fit_temperature",
    "fit_vector",
    "held_out_box_accuracy",
    "image_ji",
    "iou_curve",
    "js_divergence",
    "kl_divergence",
    "max_box_accuracy",
    "maximum_calibration_error",
    "mean_average_precision",
    "multilabel_accuracy",
    "multilabel_ece",
    "multilabel_f1",
    "multilabel_reliability",
    "negative_log_likelihood",
    "normalised_faithfulness",
    "null_band",
    "pair_log_likelihood",
    "pair_vice",
    "precision_recall",
    "relative_foreground_sensitivity",
    "reliability",
    "sample_accuracy",
    "sample_loss",
    "share_interval",
    "share_lost",
    "share_still_found",
    "sigmoid",
    "smooth_ece",
    "softmax",
    "top_one_accuracy",
    "vice",
]


def __dir__() -> list[str]:
    return sorted(__all__)


# Modules whose kinds of results and parts of measures are found here as well, though only the modules list them.
_ELSEWHERE = (
    *("bands", "binning", "boxes", "calibration", "calibration_errors"),
    *("consistency", "debiased", "losses", "multilabel", "scaling"),
)


def __getattr__(name: str) -> Any:
    for module in () if name.startswith("_") else _ELSEWHERE:
        where = f"torchvice.metrics.{module}"
        found = getattr(importlib.import_module(where), name, None)
        if getattr(found, "__module__", None) == where:
            return found
    raise AttributeError(f"module 'torchvice.metrics' has no attribute {name!r}")
