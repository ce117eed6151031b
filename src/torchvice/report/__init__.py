"""Figures and case panels: what the measures look like. matplotlib only, never torch, models or data."""

from torchvice.report.calibration import calibration_diagram
from torchvice.report.cases import Case, case_panel, case_sheet
from torchvice.report.figures import reliability_diagram, save_figure, threshold_curve, vice_diagram

__all__ = [
    "Case",
    "calibration_diagram",
    "case_panel",
    "case_sheet",
    "reliability_diagram",
    "save_figure",
    "threshold_curve",
    "vice_diagram",
]
