"""The overview: which numbers stand side by side in the table of both protocols, and what they are called."""

from __future__ import annotations

__all__ = ["OVERVIEW"]

# A name, and the paths under `paper` and `strict`: none, one, or several in a cell.
OVERVIEW = (
    ("VICE", "paper.vice", "strict.vice"),
    ("ECE-ML", "paper.ece_ml", "strict.ece_ml"),
    ("ML-accuracy", "paper.ml_accuracy", "strict.ml_accuracy"),
    ("F1", "paper.f1", "strict.f1"),
    ("mAP", "classification.mean_average_precision", "strict.mean_average_precision"),
    ("JI score", "paper.ji", "strict.ji"),
    ("best mIoU", "localisation.best_mean_iou", "localisation.strict_best_mean_iou"),
    ("at threshold", "localisation.best_threshold", "localisation.strict_best_threshold"),
    ("KL", "paper.kl", ""),
    ("JS", "paper.js", ""),
    ("CP / CR / CF1", "classification.cp classification.cr classification.cf1", ""),
    ("OP / OR / OF1", "classification.op classification.or classification.of1", ""),
)
