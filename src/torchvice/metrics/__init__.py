"""Every measure as a pure function of arrays: numpy arrays, torch tensors and nested lists alike."""

from torchvice.metrics.binning import equal_count_means, equal_width_edges, equal_width_index
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
from torchvice.metrics.consistency import Vice, js_divergence, kl_divergence, pair_vice, vice
from torchvice.metrics.faithfulness import normalised_faithfulness
from torchvice.metrics.losses import pair_log_likelihood, sample_loss, sigmoid
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
)

__all__ = [
    "BoxAccuracy",
    "PrecisionRecall",
    "Reliability",
    "Vice",
    "average_precision",
    "best_box_iou",
    "box_iou",
    "box_planes",
    "confidence",
    "equal_count_means",
    "equal_width_edges",
    "equal_width_index",
    "held_out_box_accuracy",
    "js_divergence",
    "kl_divergence",
    "map_boxes",
    "max_box_accuracy",
    "mean_average_precision",
    "multilabel_accuracy",
    "multilabel_ece",
    "multilabel_f1",
    "multilabel_reliability",
    "normalised_faithfulness",
    "pair_log_likelihood",
    "pair_vice",
    "precision_recall",
    "reliability",
    "sample_accuracy",
    "sample_f1",
    "sample_loss",
    "sample_precision",
    "sigmoid",
    "vice",
]
