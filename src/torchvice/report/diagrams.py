"""The diagrams of a `Measures`, by name; a diagram without numbers is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.measures import Measures
from torchvice.report.calibration import calibration_diagram
from torchvice.report.figures import reliability_diagram, threshold_curve, vice_diagram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["diagrams_of"]


def diagrams_of(measures: Measures, title: str = "") -> dict[str, Figure]:
    """Draw `vice`, `reliability_paper`, `reliability_strict`, `calibration`, `threshold_curve`, if they have numbers.

    Args:
        measures: from `torchvice.measure`.
        title: title of each diagram.
    """
    diagrams, figures = measures.diagrams, {}
    if diagrams.loss is not None and diagrams.ji is not None and len(diagrams.loss):
        figures["vice"] = vice_diagram(
            diagrams.loss, diagrams.ji, _none_if_nan(measures.paper["vice"]), label="VICE (paper)", title=title
        )
    for protocol in ("paper", "strict"):
        if protocol in diagrams.reliability:
            figures[f"reliability_{protocol}"] = _reliability(measures, protocol, title)
    if "temperature" in diagrams.reliability:
        panels = {
            name: (diagrams.reliability[key], diagrams.bands.get(key))
            for name, key in (("as trained", "strict"), ("temperature", "temperature"))
        }
        figures["calibration"] = calibration_diagram(panels, title=title)
    curves = {
        name: (curve.thresholds, curve.mean_iou, _none_if_nan(curve.best_threshold))
        for name, curve in diagrams.curves.items()
        if not np.isnan(curve.mean_iou).all()
    }
    if curves:
        figures["threshold_curve"] = threshold_curve(curves, title=title)
    return figures


def _reliability(measures: Measures, protocol: str, title: str) -> Figure:
    reliability = measures.diagrams.reliability[protocol]
    values: dict[str, Any] = {"accuracy": _none_if_nan(getattr(measures, protocol)["ml_accuracy"])}
    if protocol == "strict":  # its bars are the precision, see docs/definitions.md
        filled = reliability.count > 0
        mean = float(np.average(reliability.accuracy[filled], weights=reliability.count[filled]))
        values = {"accuracy": mean, "accuracy_label": "Precision", "ece_label": "ECE-ML (strict)"}
        values["band"] = measures.diagrams.bands.get("strict")
    return reliability_diagram(reliability, ece=_none_if_nan(reliability.ece), title=title, **values)


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else value
