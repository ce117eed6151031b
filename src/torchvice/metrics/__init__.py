"""Every measure as a pure function of arrays: numpy arrays, torch tensors and nested lists alike."""

from torchvice.metrics.bands import NullBand, null_band
from torchvice.metrics.binning import (
    equal_count_means,
    equal_mass_edges,
    equal_mass_index,
    equal_width_edges,
    equal_width_index,
)
from torchvice.metrics.boxes import (
    BoxAccuracy,
    best_box_iou,
    box_iou,
    box_planes,
    held_out_box_accuracy,
    map_boxes,
    max_box_accuracy,
)
from torchvice.metrics.calibration import Reliability, multilabel_ece, multilabel_reliability, reliability
from torchvice.metrics.calibration_errors import (
    ClasswiseEce,
    calibration_events,
    classwise_ece,
    event_reliability,
    maximum_calibration_error,
)
from torchvice.metrics.calibration_overview import calibration_summary
from torchvice.metrics.consistency import Vice, js_divergence, kl_divergence, pair_vice, vice
from torchvice.metrics.debiased import DebiasedError, debiased_error
from torchvice.metrics.faithfulness import normalised_faithfulness
from torchvice.metrics.losses import cross_entropy, log_softmax, pair_log_likelihood, sample_loss, sigmoid, softmax
from torchvice.metrics.multilabel import (
    PrecisionRecall,
    average_precision,
    confidence,
    mean_average_precision,
    multilabel_accuracy,
    multilabel_f1,
    precision_recall,
    sample_accuracy,
    sample_f1,
    sample_precision,
    top_one_accuracy,
)
from torchvice.metrics.scaling import LogitScaling, fit_temperature, fit_vector
from torchvice.metrics.scoring import brier_score, negative_log_likelihood
from torchvice.metrics.smoothing import smooth_ece

__all__ = [
    "BoxAccuracy",
    "ClasswiseEce",
    "DebiasedError",
    "LogitScaling",
    "NullBand",
    "PrecisionRecall",
    "Reliability",
    "Vice",
    "average_precision",
    "best_box_iou",
    "box_iou",
    "box_planes",
    "brier_score",
    "calibration_events",
    "calibration_summary",
    "classwise_ece",
    "confidence",
    "cross_entropy",
    "debiased_error",
    "equal_count_means",
    "equal_mass_edges",
    "equal_mass_index",
    "equal_width_edges",
    "equal_width_index",
    "event_reliability",
    "fit_temperature",
    "fit_vector",
    "held_out_box_accuracy",
    "js_divergence",
    "kl_divergence",
    "log_softmax",
    "map_boxes",
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
    "reliability",
    "sample_accuracy",
    "sample_f1",
    "sample_loss",
    "sample_precision",
    "sigmoid",
    "smooth_ece",
    "softmax",
    "top_one_accuracy",
    "vice",
]
