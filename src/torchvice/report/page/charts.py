"""The numbers of the page's figures, as lists for JSON in which undefined is None."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from torchvice.measures import Measures
from torchvice.metrics.binning import equal_count_means
from torchvice.metrics.calibration import Reliability
from torchvice.report.figures import IMAGES_PER_BIN
from torchvice.report.page.cases import Cases

__all__ = ["charts_of", "json_list"]

BINS = 300


def json_list(values: Any, digits: int = 6) -> list[Any]:
    """Round numbers to significant digits for JSON; NaN and infinity become None."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in np.asarray(values, float).tolist()]


def charts_of(measures: Measures, cases: Cases | None) -> dict[str, Any]:
    """The numbers of the figures `vice`, `reliability`, `curves`, `along` and `classes`; None or empty if undefined."""
    masked = cases is None or bool(cases.has_mask.any())  # without a mask `paper` counts every IoU as 0
    return {
        "vice": _vice(measures),
        "reliability": {
            name: {**_reliability(bins), "band": _band(measures, name)}
            for name, bins in measures.diagrams.reliability.items()
        },
        "curves": {
            name: {
                "t": json_list(curve.thresholds),
                "iou": json_list(curve.mean_iou),
                "best": json_list([curve.best_threshold])[0],
            }
            for name, curve in measures.diagrams.curves.items()
            if masked and not np.isnan(curve.mean_iou).all()
        },
        "along": _along(measures),
        "classes": _classes(measures),
    }


def _vice(measures: Measures) -> dict[str, dict[str, Any]]:
    """The VICE diagram of each protocol that has numbers: of images under `paper`, of pairs under `strict`."""
    found = {protocol: _vice_diagram(*columns) for protocol, columns in measures.diagrams.of_vice.items()}
    return {protocol: diagram for protocol, diagram in found.items() if diagram is not None}


def _vice_diagram(loss: np.ndarray, ji: np.ndarray) -> dict[str, Any] | None:
    known = np.isfinite(loss)
    loss, ji = loss[known], ji[known]
    if not len(loss) or np.isnan(ji).all():
        return None
    bins = min(BINS, max(1, len(loss) // IMAGES_PER_BIN))
    mean_loss, mean_ji = equal_count_means(loss, ji, bins)
    return {
        "loss": json_list(mean_loss),
        "ji": json_list(mean_ji),
        "n": len(loss),
        "undefined": int(np.isnan(ji).sum()),
        "left_out": int((~known).sum()),
    }


def _reliability(bins: Reliability) -> dict[str, Any]:
    return {
        "edges": json_list(bins.edges),
        "count": bins.count.tolist(),
        "confidence": json_list(bins.confidence),
        "accuracy": json_list(bins.accuracy),
        "ece": json_list([bins.ece])[0],
        "n": bins.n,
        "outside": bins.outside,
    }


def _band(measures: Measures, protocol: str) -> list[list[Any]] | None:
    """Lower and upper limits of the band of a calibrated model, one of each per bin."""
    band = measures.diagrams.bands.get(protocol)
    return None if band is None else [json_list(band.bin_low), json_list(band.bin_high)]


def _along(measures: Measures) -> dict[str, Any] | None:
    curve = measures.threshold_curve
    if not curve or all(value is None for value in curve["vice"]):
        return None
    vice = [math.nan if value is None else value for value in curve["vice"]]
    return {"t": json_list(curve["thresholds"]), "vice": json_list(vice)}


def _classes(measures: Measures) -> list[dict[str, Any]]:
    """The rows of `Measures.classes`, with None for undefined."""
    return [
        {
            name: json_list([value])[0] if isinstance(value, float) else value
            for name, value in dataclasses.asdict(row).items()
        }
        for row in measures.classes
    ]
