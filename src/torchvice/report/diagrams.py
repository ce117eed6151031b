"""The diagrams of measures: those that there are numbers for, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.measures import Measures
from torchvice.report.calibration_diagram import calibration_diagram
from torchvice.report.figures import reliability_diagram, threshold_curve, vice_diagram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["diagrams_of"]


def diagrams_of(measures: Measures, title: str = "") -> dict[str, Figure]:
    """`vice`, `reliability_paper`, `reliability_strict`, `calibration` and `threshold_curve`, as far as they are known.

    Args:
        measures: from `torchvice.measure`.
        title: above each.
    """
    diagrams, made = measures.diagrams, {}
    if diagrams.loss is not None and diagrams.ji is not None and len(diagrams.loss):
        made["vice"] = vice_diagram(
            diagrams.loss, diagrams.ji, _known(measures.paper["vice"]), label="VICE (paper)", title=title
        )
    for protocol in ("paper", "strict"):
        if protocol in diagrams.reliability:
            made[f"reliability_{protocol}"] = _reliability(measures, protocol, title)
    if "temperature" in diagrams.reliability:
        panels = {
            name: (diagrams.reliability[key], diagrams.bands.get(key))
            for name, key in (("as trained", "strict"), ("temperature", "temperature"))
        }
        made["calibration"] = calibration_diagram(panels, title=title)
    curves = {
        name: (curve.thresholds, curve.mean_iou, _known(curve.best_threshold))
        for name, curve in diagrams.curves.items()
        if not np.isnan(curve.mean_iou).all()
    }
    if curves:
        made["threshold_curve"] = threshold_curve(curves, title=title)
    return made


def _reliability(measures: Measures, protocol: str, title: str) -> Figure:
    reliability = measures.diagrams.reliability[protocol]
    named: dict[str, Any] = {"accuracy": _known(getattr(measures, protocol)["ml_accuracy"])}
    if protocol == "strict":  # whose bars are the precision, see docs/definitions.md
        inside = reliability.count > 0
        mean = float(np.average(reliability.accuracy[inside], weights=reliability.count[inside]))
        named = {"accuracy": mean, "accuracy_label": "Precision", "ece_label": "ECE-ML (strict)"}
        named["band"] = measures.diagrams.bands.get("strict")
    return reliability_diagram(reliability, ece=_known(reliability.ece), title=title, **named)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
