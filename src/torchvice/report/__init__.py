"""Figures, case panels and the page: what the measures look like. Never torch, models or data: pixels are passed in."""

from torchvice.report.calibration import calibration_diagram
from torchvice.report.cases import Case, case_panel, case_sheet
from torchvice.report.comparison import comparison_figure
from torchvice.report.figures import reliability_diagram, save_figure, threshold_curve, vice_diagram
from torchvice.report.page.cases import Cases, cases_of
from torchvice.report.page.page import Shown, write_page

__all__ = [
    "Case",
    "Cases",
    "Shown",
    "calibration_diagram",
    "case_panel",
    "case_sheet",
    "cases_of",
    "comparison_figure",
    "reliability_diagram",
    "save_figure",
    "threshold_curve",
    "vice_diagram",
    "write_page",
]
