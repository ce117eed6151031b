"""The study figure: a mark a run, a larger one the mean of a recipe, a key that tells them apart."""

from __future__ import annotations

import pytest

from torchvice.errors import ViceError
from torchvice.report.study.figure import MOST, study_figure
from torchvice.report.style import COLUMN


def row(recipe: str, seed: int, vice: float | None, ap: float | None = 0.5, ece: float | None = 0.1, **more) -> dict:
    return {"net": recipe, "seed": seed, "vice": vice, "mean_average_precision": ap, "ece_ml": ece, **more}


def marks(panel) -> list[list[tuple[float, float]]]:
    return [list(zip(*line.get_data(), strict=True)) for line in panel.lines if line.get_marker() not in ("", "None")]


def test_runs_and_their_mean_above_map_below_ece() -> None:
    rows = [row("a", 1, 0.2, 0.4), row("a", 2, 0.4, 0.6), row("b", 1, 0.1, 0.9, 0.3)]
    above, below = study_figure(rows, ["net"]).axes
    assert marks(above)[0] == [(0.4, 0.2), (0.6, 0.4)]
    assert marks(above)[1] == [pytest.approx((0.5, 0.3))]
    assert marks(above)[2] == [(0.9, 0.1)]
    assert marks(below)[-1] == [(0.3, 0.1)]
    bars = [line.get_data() for line in above.lines if line.get_marker() in ("", "None")]
    assert bars[0][0] == pytest.approx([0.5 - 0.02**0.5, 0.5 + 0.02**0.5])  # the standard deviation of 0.4 and 0.6
    assert (above.get_xlabel(), below.get_xlabel(), above.get_ylabel()) == ("mAP", "ECE-ML", "VICE")


def test_recipes_are_named_by_what_they_change() -> None:
    rows = [row("a", 1, 0.2, decay="0.1"), row("b", 1, 0.3, decay="0.1"), row("a", 1, 0.4, decay="0")]
    (key,) = study_figure(rows, ["net", "decay"], base={"net": "a", "decay": "0.1"}).legends
    assert [text.get_text() for text in key.get_texts()] == ["base", "net b", "decay 0"]
    (key,) = study_figure(rows, ["net", "decay"]).legends
    assert [text.get_text() for text in key.get_texts()] == ["a, 0.1", "b, 0.1", "a, 0"]


def test_every_recipe_has_a_look_of_its_own_and_more_are_counted() -> None:
    rows = [row(f"{i} {'x' * 80}", 1, 0.1 + 0.01 * i) for i in range(MOST + 3)]
    figure = study_figure(rows, ["net"])
    drawn = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert len({(line.get_marker(), line.get_color()) for line in drawn}) == len(drawn) == MOST
    assert figure.legends[0].get_texts()[-1].get_text() == "and 3 more, not drawn"
    figure.canvas.draw()
    assert figure.get_size_inches()[0] == COLUMN
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1


def test_what_is_undefined_has_no_mark() -> None:
    above, below = study_figure([row("a", 1, None), row("b", 1, 0.3, None)], ["net"]).axes
    assert (marks(above), marks(below)) == ([], [[(0.1, 0.3)]])
    with pytest.raises(ViceError, match="none came"):
        study_figure([], ["net"])
    with pytest.raises(ViceError, match="lacks `neet`"):
        study_figure([row("a", 1, 0.1)], ["neet"])
