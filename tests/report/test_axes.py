"""Figures in the caller's Axes: the same artists as in a figure of their own, and nothing else of his is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from torchvice.metrics import reliability
from torchvice.report import Case, case_panel, case_sheet, reliability_diagram, threshold_curve, vice_diagram
from torchvice.report.calibration import calibration_diagram
from torchvice.report.comparison import comparison_figure

LOSS = np.random.default_rng(0).lognormal(-3, 1.2, 200)
JI = np.clip(0.7 - 0.3 * LOSS, 0, 1)
SURE = np.random.default_rng(1).uniform(size=300)
BINS = reliability(SURE, (np.random.default_rng(2).uniform(size=300) < SURE).astype(float))
T = np.arange(60) / 100
MODELS = [
    {"name": name, "vice": v, "vice_low": v - 0.1, "vice_high": v + 0.1} for name, v in (("a$b$", 0.4), ("c", 0.2))
]
DIFFERENCES = [{"first": "a$b$", "second": "c", "measure": "vice", "difference": 0.2, "low": 0.1, "high": 0.3}]

FIGURES: dict[str, Callable[..., Figure]] = {
    "vice": lambda **axes: vice_diagram(LOSS, JI, 0.5, title="of $5", **axes),
    "reliability": lambda **axes: reliability_diagram(BINS, accuracy=0.8, ece=0.1, title="of $5", **axes),
    "curve": lambda **axes: threshold_curve({"paper": (T, 0.4 - (T - 0.3) ** 2, 0.3)}, title="of $5", **axes),
    "curves": lambda **axes: threshold_curve(
        {"paper": (T, 0.4 - (T - 0.3) ** 2, 0.3), "strict": (T, 0.5 - (T - 0.4) ** 2, 0.4)}, title="of $5", **axes
    ),
    "calibration": lambda **axes: calibration_diagram(
        {"before": (BINS, None), "after": (BINS, None)}, title="of $5", **axes
    ),
    "comparison": lambda **axes: comparison_figure(MODELS, DIFFERENCES, title="of $5", **axes),
}


def numbers(values: Any) -> list[Any]:
    return np.asarray(values, dtype=float).round(9).tolist()


def artists(axes: Axes) -> list[Any]:
    """Lines by data and colour, bars and steps by corners and colour; the vertical label and the limits."""
    lines = [(numbers(line.get_xydata()), to_hex(line.get_color())) for line in axes.lines]
    corners = [p.get_bbox().get_points() if hasattr(p, "get_bbox") else p.get_path().vertices for p in axes.patches]
    patches = [(numbers(c), to_hex(p.get_facecolor())) for c, p in zip(corners, axes.patches, strict=True)]
    return [lines, patches, axes.get_ylabel(), numbers(axes.get_xlim()), numbers(axes.get_ylim())]


def panels_of(figure: Figure, before: list[Axes]) -> dict[str, list[Any]]:
    """The artists of every panel, by its vertical label and its limits."""
    kept = [a for a in figure.axes if a not in before]
    return {
        f"{a.get_ylabel()} {a.get_xlabel()} {place}": artists(a) for place, a in enumerate(sorted(kept, key=_order))
    }


def _order(axes: Axes) -> tuple[str, str]:
    return axes.get_ylabel(), axes.get_xlabel()


@pytest.mark.parametrize("name", FIGURES)
def test_the_callers_axes_get_the_same_artists(name: str) -> None:
    own = panels_of(FIGURES[name](), [])
    figure = Figure(figsize=(10, 4))
    other, given = figure.subplots(1, 2)
    returned = FIGURES[name](axes=given)
    assert returned is figure
    assert panels_of(figure, [other]) == own
    assert not other.lines
    assert not other.patches


@pytest.mark.parametrize("name", FIGURES)
def test_the_heading_is_the_title_and_no_text_is_mathematics(name: str) -> None:
    figure = Figure(figsize=(8, 6))
    FIGURES[name](axes=figure.subplots())
    figure.draw_without_rendering()
    titles = [a.get_title(loc="left") for a in figure.axes if a.get_title(loc="left")]
    assert titles[0].startswith("of $5")
    assert not any("of $5" in title for title in titles[1:])
    seen = [a.title for a in figure.axes] + [label for a in figure.axes for label in a.get_yticklabels()]
    assert not any(text.get_parse_math() for text in seen if "$" in text.get_text())


def test_the_numbers_of_the_box_are_in_the_heading() -> None:
    figure = Figure()
    axes = figure.subplots()
    vice_diagram(LOSS, JI, 0.5, axes=axes)
    assert axes.get_title(loc="left") == "VICE = 0.500"
    figure = Figure()
    reliability_diagram(BINS, accuracy=0.8, ece=None, axes=figure.subplots())
    assert "ML-accuracy = 0.800, ECE-ML undefined" in [a.get_title(loc="left") for a in figure.axes]


@pytest.mark.parametrize("name", FIGURES)
def test_the_callers_style_is_his_and_stays(name: str) -> None:
    with matplotlib.rc_context({"font.size": 13.0}):
        before = dict(matplotlib.rcParams)
        figure = Figure()
        axes = figure.subplots()
        FIGURES[name](axes=axes)
        assert axes.xaxis.label.get_size() == 13.0
        assert dict(matplotlib.rcParams) == before


def test_two_panels_share_the_height_of_the_axes() -> None:
    figure = Figure(figsize=(6, 4))
    given = figure.subplots()
    room = given.get_position()
    reliability_diagram(BINS, accuracy=0.8, ece=0.1, axes=given)
    figure.draw_without_rendering()
    boxes = [a.get_window_extent().transformed(figure.transFigure.inverted()) for a in figure.axes]
    assert max(box.y1 for box in boxes) == pytest.approx(room.y1, abs=1e-6)
    assert min(box.y0 for box in boxes) == pytest.approx(room.y0, abs=1e-6)
    bars, counts = sorted(boxes, key=lambda box: box.y0)
    assert counts.y0 > bars.y1
    assert counts.height / bars.height == pytest.approx(0.45 / 1.75, abs=1e-3)


def test_subfigures_return_the_whole_figure() -> None:
    figure = Figure()
    part = figure.subfigures(1, 2)[1]
    assert vice_diagram(LOSS, JI, 0.5, axes=part.subplots()) is figure


def a_case(image_id: str) -> Case:
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 10:30] = 3
    values = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    image = np.full((30, 40, 3), 90, np.uint8)
    return Case(image, values, mask, "cat", 3, 0.4, 0.5, 0.9, ("cat",), ("dog",), image_id, kind="right")


def pictures(axes: list[Axes]) -> list[np.ndarray]:
    return [np.asarray(a.images[0].get_array()) for a in axes if a.images]


def test_a_case_in_the_callers_axes_has_the_same_pictures_and_words() -> None:
    own = case_panel(a_case("one"))
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    assert case_panel(a_case("one"), axes=axes) is figure
    for a, b in zip(pictures(axes.child_axes), pictures(own.axes), strict=False):
        np.testing.assert_array_equal(a, b)
    said = " ".join(text.get_text() for text in axes.texts).replace("\n", " ")
    for part in (
        "right",
        "one",
        "IoU of cat 0.50, its probability 0.90; JI score (paper) 0.40",
        "labels: cat",
        "prediction: dog",
    ):
        assert part in said
    assert not axes.axison


def test_several_cases_share_the_axes_without_overlap() -> None:
    figure = Figure(figsize=(8, 8))
    axes = figure.subplots()
    case_sheet([a_case(name) for name in "abc"], columns=2, axes=axes)
    figure.draw_without_rendering()
    boxes = [inset.get_window_extent() for inset in axes.child_axes]
    assert len(boxes) == 6
    for i, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[i + 1 :])


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("size", [8.0, 13.0])
def test_the_legend_covers_neither_data_nor_title(name: str, size: float) -> None:
    with matplotlib.rc_context({"font.size": size}):
        figure = Figure(figsize=(8, 6), layout="constrained")
        FIGURES[name](axes=figure.subplots())
        figure.draw_without_rendering()
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is None:
            continue
        box = legend.get_window_extent()
        assert not any(box.overlaps(other.get_window_extent()) for other in figure.axes)
        titles = [other._left_title for other in figure.axes]  # type: ignore[attr-defined]
        assert not any(box.overlaps(title.get_window_extent()) for title in titles if title.get_text())


@pytest.mark.parametrize("name", FIGURES)
def test_no_heading_leaves_a_figure_with_a_layout(name: str) -> None:
    figure = Figure(figsize=(8, 6), layout="constrained")
    FIGURES[name](axes=figure.subplots())
    figure.draw_without_rendering()
    for axes in figure.axes:
        box = axes._left_title.get_window_extent()  # type: ignore[attr-defined]
        assert box.y1 <= figure.bbox.y1 + 1
