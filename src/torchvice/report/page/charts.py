"""Charts: what the page's figures draw, as plain lists in which undefined is None."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torchvice.measures import Measures
from torchvice.metrics.binning import equal_count_means
from torchvice.report.figures import IMAGES_PER_BIN
from torchvice.report.page.rows import Cases

__all__ = ["charts_of", "plain_list"]

BINS = 300


def plain_list(values: Any, digits: int = 6) -> list[Any]:
    """Numbers for JSON, to some significant digits; NaN and infinity are None."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in np.asarray(values, float).tolist()]


def charts_of(measures: Measures, cases: Cases | None) -> dict[str, Any]:
    """The figures' numbers: `vice`, `reliability`, `curves`, `along` and `classes`, each None or empty without any."""
    masked = cases is None or bool(cases.has_mask.any())  # without a mask `paper` counts every IoU as 0
    return {
        "vice": _vice(measures),
        "reliability": {
            name: {**_reliability(found), "band": _band(measures, name)}
            for name, found in measures.diagrams.reliability.items()
        },
        "curves": {
            name: {
                "t": plain_list(curve.thresholds),
                "iou": plain_list(curve.mean_iou),
                "best": plain_list([curve.best_threshold])[0],
            }
            for name, curve in measures.diagrams.curves.items()
            if masked and not np.isnan(curve.mean_iou).all()
        },
        "along": _along(measures),
        "classes": _classes(measures),
    }


def _vice(measures: Measures) -> dict[str, Any] | None:
    loss, ji = measures.diagrams.loss, measures.diagrams.ji
    if loss is None or ji is None:
        return None
    placed = np.isfinite(loss)
    loss, ji = loss[placed], ji[placed]
    if not len(loss) or np.isnan(ji).all():
        return None
    bins = min(BINS, max(1, len(loss) // IMAGES_PER_BIN))
    mean_loss, mean_ji = equal_count_means(loss, ji, bins)
    return {
        "loss": plain_list(mean_loss),
        "ji": plain_list(mean_ji),
        "n": len(loss),
        "undefined": int(np.isnan(ji).sum()),
        "left_out": int((~placed).sum()),
    }


def _reliability(found: Any) -> dict[str, Any]:
    return {
        "edges": plain_list(found.edges),
        "count": found.count.tolist(),
        "confidence": plain_list(found.confidence),
        "accuracy": plain_list(found.accuracy),
        "ece": plain_list([found.ece])[0],
        "n": found.n,
        "outside": found.outside,
    }


def _band(measures: Measures, protocol: str) -> list[list[Any]] | None:
    """Where the bars of a calibrated model would lie, of every bin the low and the high end."""
    found = measures.diagrams.bands.get(protocol)
    return None if found is None else [plain_list(found.bin_low), plain_list(found.bin_high)]


def _along(measures: Measures) -> dict[str, Any] | None:
    curve = measures.threshold_curve
    if not curve or all(value is None for value in curve["vice"]):
        return None
    vice = [math.nan if value is None else value for value in curve["vice"]]
    return {"t": plain_list(curve["thresholds"]), "vice": plain_list(vice)}


def _classes(measures: Measures) -> list[dict[str, Any]]:
    """As they are in the measures, with None where undefined."""
    return [
        {name: plain_list([value])[0] if isinstance(value, float) else value for name, value in row.items()}
        for row in measures.classes
    ]
