"""The comparison figure: what is drawn where, and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from torchvice.commands.draw import draw_comparison
from torchvice.errors import ViceError
from torchvice.measures import Comparison
from torchvice.report.comparison import MOST, comparison_figure
from torchvice.report.style import COLUMN


def model(name: str, vice: float | None) -> dict:
    limits = (None, None) if vice is None else (vice - 0.1, vice + 0.1)
    return {"name": name, "vice": vice, "vice_low": limits[0], "vice_high": limits[1]}


def difference(first: str, second: str, value: float | None, measure: str = "vice") -> dict:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return {"first": first, "second": second, "measure": measure, "difference": value, "low": low, "high": high}


def texts(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_models_above_and_their_differences_below_the_largest_first() -> None:
    models = [model("a", 0.4), model("b", 0.1), model("c", None)]
    rows = [difference("a", "b", 0.05), difference("b", "c", -0.3), difference("a", "b", 0.2, "loss")]
    above, below = comparison_figure(models, [*rows, difference("a", "c", None)]).axes
    assert texts(above) == ["a", "b", "c"]
    assert texts(below) == ["b\n−c", "a\n−b"]
    marks = [line for line in above.lines if line.get_marker() == "o"]
    assert [mark.get_xdata()[0] for mark in marks] == [0.4, 0.1]  # c is undefined


def test_a_mark_is_filled_where_the_interval_leaves_out_zero() -> None:
    figure = comparison_figure([model("a", 0.4)], [difference("a", "b", 0.3), difference("a", "c", 0.05)])
    marks = [line for line in figure.axes[1].lines if line.get_marker() == "o"]
    assert [mark.get_markerfacecolor() != "white" for mark in marks] == [True, False]


def test_many_differences_are_cut_and_counted() -> None:
    rows = [difference(f"m{i}", "m", 0.01 * i) for i in range(1, MOST + 4)]
    below = comparison_figure([model("a", 0.4)], rows).axes[1]
    assert len(texts(below)) == MOST
    assert f"the largest {MOST} of {MOST + 3}" in below.get_xlabel()


def test_nothing_is_wider_than_the_column() -> None:
    models = [model("x" * 80, 0.4), model("$a_{b}$ <b>", 0.2)]
    figure = comparison_figure(models, [difference("x" * 80, "y" * 80, 0.2)], title="A comparison " * 12)
    figure.canvas.draw()
    assert figure.get_size_inches()[0] == COLUMN
    for axes in figure.axes:
        for label in axes.get_yticklabels():
            assert label.get_window_extent().x0 >= 0
    assert "$a_{b}$ <b>" in texts(figure.axes[0])
    with pytest.raises(ViceError, match="none came"):
        comparison_figure([], [])
    assert np.isfinite(figure.get_size_inches()).all()


def test_the_axis_labels_fit_beside_long_names() -> None:
    names = [f"weight_decay_resnet50_s{seed}" for seed in range(11)]
    rows = [difference(one, other, 0.3) for one in names for other in names if one < other]
    for differences in (rows, []):
        figure = comparison_figure([model(name, 0.4) for name in names], differences, label="VICE with pointing")
        figure.draw_without_rendering()
        labels = [axes.xaxis.label.get_window_extent() for axes in figure.axes]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 for box in labels)
        assert labels[0].y0 >= max((axes.bbox.y1 for axes in figure.axes[1:]), default=0)


def test_differences_of_groups_are_drawn_as_such() -> None:
    models = [model(name, 0.1) for name in ("a1", "a2", "a3", "b1", "b2", "b3")]
    groups = [difference("a", "b", 0.3) | {"seeds_first": 3, "seeds_second": 3}]
    above, below = comparison_figure(models, groups).axes
    assert texts(above) == [row["name"] for row in models]
    assert texts(below) == ["a\n−b"]
    assert below.get_xlabel() == "difference of VICE, over seeds"
    assert comparison_figure(models, [difference("a1", "b1", 0.3)]).axes[1].get_xlabel() == "paired difference of VICE"


def test_the_axes_name_the_quality_that_vice_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("torchvice.report.figures.save_figure", lambda figure, stem: drawn.append(figure) or [stem])
    models, rows = [model("a", 0.4), model("b", 0.1)], [difference("a", "b", 0.3)]
    for quality in ("pointing", "ji"):
        draw_comparison(Comparison(10, quality, {}, models, rows, []), tmp_path)
    assert [[axes.get_xlabel() for axes in figure.axes] for figure in drawn] == [
        ["VICE with pointing, 95 % interval", "paired difference of VICE with pointing"],
        ["VICE, 95 % interval", "paired difference of VICE"],
    ]


def test_long_names_that_differ_at_their_end_stay_apart() -> None:
    names = [f"runs/weight_decay/resnet50-imagenet-s{seed}" for seed in (1, 2)]
    figure = comparison_figure([model(name, 0.4) for name in names], [difference(*names, 0.3)])
    above, below = (texts(axes) for axes in figure.axes)
    assert [label[-3:] for label in above] == ["-s1", "-s2"]
    assert all(label.startswith("runs/") and "…" in label for label in above)
    assert [label[-3:] for label in below[0].split("\n")] == ["-s1", "-s2"]
