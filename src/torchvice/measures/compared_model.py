"""A model that is compared: its measures on the common images, and their replicates."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.catalogue import DIFFERENCES
from torchvice.measures.consistency import vice_statistic
from torchvice.measures.inference import NO_REPLICATES, Inference, ends_of, number_or_none
from torchvice.measures.interventions import column_of, interval_of_share
from torchvice.measures.pairs import true_pairs
from torchvice.measures.qualities import quality_of
from torchvice.measures.verdict import standing_out
from torchvice.measures.witnesses import class_tests, testable
from torchvice.metrics import mean_average_precision, multilabel_ece, pair_vice
from torchvice.metrics.weighted import Mean
from torchvice.metrics.weighted_scores import MeanAveragePrecision, MultilabelEce
from torchvice.samples import Samples

__all__ = ["WITHOUT", "ComparedModel", "vice_or_nan"]

WITHOUT = "without_object"  # compared where every table holds it


class ComparedModel:
    """A model's measures, and their replicates over the common images."""

    def __init__(self, name: str, samples: Samples, quality: str, inference: Inference) -> None:
        self.name = name
        strict = samples.of_protocol("strict")
        images, probabilities, loss = strict.images, strict.probabilities, strict.losses
        self.pairs = true_pairs(samples)
        tests = class_tests(self.pairs, samples)
        self.stands_out, self.testable = standing_out(tests, samples.classes), int(testable(tests).sum())
        self.quality_name, self.quality = quality, quality_of(self.pairs, quality)
        defined = ~np.isnan(self.quality)
        self.values: dict[str, float] = {
            "vice": vice_or_nan(self.pairs.logit, self.quality),
            "quality": float(self.quality[defined].mean()) if defined.any() else float("nan"),
            "mean_average_precision": mean_average_precision(probabilities, images.targets, "strict"),
            "loss": float(loss.mean()),
            "ece_ml": multilabel_ece(probabilities, images.targets, protocol="strict"),
        }
        statistics: dict[str, Any] = {
            "vice": lambda: vice_statistic(self.pairs, quality, self.quality),
            "quality": lambda: (Mean(self.quality[defined]), self.pairs.image_id[defined]),
            "mean_average_precision": lambda: (MeanAveragePrecision(probabilities, images.targets), images.image_id),
            "loss": lambda: (Mean(loss), images.image_id),
            "ece_ml": lambda: (MultilabelEce(probabilities, images.targets), images.image_id),
        }
        still, found_in = self._still_found()
        if len(still):
            self.values[WITHOUT] = float(still.mean())
            statistics[WITHOUT] = lambda: (Mean(still), found_in)
        known = {measure: statistics[measure]() for measure, value in self.values.items() if np.isfinite(value)}
        self.replicates = {m: inference.replicates(*known[m]) if m in known else NO_REPLICATES for m in self.values}
        self.linear = [measure for measure, found in self.replicates.items() if found.linear]
        held = (m for m in DIFFERENCES if m in self.values)
        self.intervals = {m: inference.interval(self.values[m], self.replicates[m]) for m in held}
        if len(still):
            self.intervals[WITHOUT] = interval_of_share(still, found_in, inference)

    def _still_found(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each found pair whether it is still found without the object, 0 or 1, and its image; empty if unknown."""
        after = column_of(self.pairs, WITHOUT)
        known = self.pairs.predicted & ~np.isnan(after) if len(after) else np.zeros(len(self.pairs), bool)
        return (after[known] > 0).astype(float) if len(after) else after, self.pairs.image_id[known]

    def row(self) -> dict[str, Any]:
        """Its measures with the ends of their intervals; None where one is undefined."""
        row: dict[str, Any] = {
            "name": self.name,
            "pairs": len(self.pairs),
            "ece_ml": number_or_none(self.values["ece_ml"]),
        }
        for measure, found in self.intervals.items():
            row[measure] = number_or_none(self.values[measure])
            row[f"{measure}_low"], row[f"{measure}_high"] = ends_of(found)
        return row


def vice_or_nan(logit: np.ndarray, quality: np.ndarray) -> float:
    """VICE of some pairs; NaN where it is undefined."""
    try:
        return pair_vice(logit, quality).value
    except ViceError:
        return float("nan")
