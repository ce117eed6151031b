"""The diagrams of a `Measures`, by name; a diagram without numbers is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.measures import Measures
from torchvice.report.calibration import calibration_diagram
from torchvice.report.figures import reliability_diagram, threshold_curve, vice_diagram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["diagrams_of", "vice_diagrams_of"]

VICE_DIAGRAMS = {"paper": "vice", "strict": "vice_strict"}  # their names among the figures


def diagrams_of(measures: Measures, title: str = "") -> dict[str, Figure]:
    """Draw the figures of a measurement that have numbers.

    They are `vice` (of `paper`), `vice_strict`, `reliability_paper`, `reliability_strict`, `calibration` and
    `threshold_curve`.

    Args:
        measures: from `torchvice.measure`.
        title: title of each diagram.
    """
    diagrams, found = measures.diagrams, vice_diagrams_of(measures, title)
    figures = {name: found[protocol] for protocol, name in VICE_DIAGRAMS.items() if protocol in found}
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


def vice_diagrams_of(measures: Measures, title: str = "") -> dict[str, Figure]:
    """Draw the VICE diagram of each protocol that has numbers: of images under `paper`, of pairs under `strict`."""
    figures = {}
    for protocol, (loss, ji) in measures.diagrams.of_vice.items():
        if np.isfinite(loss).any():
            value = _none_if_nan(getattr(measures, protocol)["vice"])
            of = "images" if protocol == "paper" else "pairs"
            figures[protocol] = vice_diagram(loss, ji, value, label=f"VICE ({protocol})", of=of, title=title)
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
