"""The order of sorted columns: levels that are numbers by their number, names by the numbers in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pages import CHROMIUM, Watched
from studies import run_row, study_folder

from torchvice.report.study.page import write_study_page
from torchvice.report.study.recipes import read_study

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")


def column(page: Any, table: str, at: int) -> list[str]:
    """The texts of a column, after a click on its heading."""
    page.locator(f"#table-{table} thead th").nth(at).locator("button").click()
    return page.locator(f"#table-{table} tbody tr").evaluate_all(
        "(rows, at) => rows.map((row) => row.cells[at].innerText)", at
    )


def study_of(folder: Path, axes: dict[str, list[str]]) -> Path:
    """The page of a study with one run for each place of the levels."""
    rows = []
    for place, levels in enumerate(zip(*axes.values(), strict=True)):
        row = run_row(f"n{place}", 1, 0.1 + place / 100, 0.8, 0.1)
        numbers = {name: value for name, value in row.items() if name not in ("run", "network")}
        rows.append({"run": row["run"], **dict(zip(axes, levels, strict=True)), **numbers})
    folder = study_folder(folder, rows, axes=axes)
    return write_study_page(folder / "report.html", read_study(folder))


def test_an_axis_of_numbers_is_sorted_by_them_and_any_other_by_name(watched: Watched, tmp_path: Path) -> None:
    decay = ["0.05", "0.0", "0.5", "0.95", "-1", "0.9", "1e-3", "1e-4"]
    crop = ["224", "none", "96", "1000", "192", "inf", "64", "128"]
    page = watched.open(study_of(tmp_path / "study", {"decay": decay, "crop": crop}))
    rising = sorted(decay, key=float)
    assert column(page, "runs", 1) == rising[::-1]  # numbers fall at first
    assert column(page, "runs", 1) == rising
    assert column(page, "runs", 2) == ["64", "96", "128", "192", "224", "1000", "inf", "none"]


def test_recipes_are_sorted_by_the_decimals_in_their_names(watched: Watched, tmp_path: Path) -> None:
    page = watched.open(study_of(tmp_path / "study", {"decay": ["0.5", "0.05", "10", "1e-4", "9"]}))
    assert column(page, "recipes", 0) == ["1e-4", "0.05", "0.5", "9", "10"]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["m10", "m9", "m9b"], ["m9", "m9b", "m10"]),
        (["stripe-0.95", "stripe-0.5", "stripe-0.05"], ["stripe-0.05", "stripe-0.5", "stripe-0.95"]),
        (["b", "A", "a"], ["a", "A", "b"]),
        (["net 2", "net", "net 10"], ["net", "net 2", "net 10"]),
    ],
)
def test_names_by_the_numbers_in_them(opened: Watched, names: list[str], order: list[str]) -> None:
    assert opened.page.evaluate("(names) => names.sort(compareNames)", names) == order


def test_what_is_missing_comes_last_in_both_directions(opened: Watched) -> None:
    for down, expected in ((False, [-2, 1, 3, None]), (True, [3, 1, -2, None])):
        assert (
            opened.page.evaluate(f"[3, null, -2, 1].sort((a, b) => compareKeys(a, b, {str(down).lower()}))") == expected
        )


CLASSES = [
    {
        "name": "c10",
        "pairs": 5,
        "average_precision": 0.5,
        "quality": -0.3,
        "vice": None,
        "vice_low": None,
        "vice_high": None,
    },
    {
        "name": "c9",
        "pairs": None,
        "average_precision": None,
        "quality": 0.3,
        "vice": 0.2,
        "vice_low": -0.5,
        "vice_high": 0.6,
    },
    {
        "name": "c2",
        "pairs": 7,
        "average_precision": 0.9,
        "quality": None,
        "vice": -0.1,
        "vice_low": None,
        "vice_high": None,
    },
]


def draw_classes(page: Any, key: str, down: bool) -> list[str]:
    """Draw the figure of classes with given rows in an order; return the names from top to bottom."""
    page.evaluate(
        "([rows, sort]) => { currentModel().charts.classes = rows; Object.assign(classSort, sort); drawClasses(); }",
        [CLASSES, {"key": key, "down": down}],
    )
    return page.locator("#classes tbody th").all_inner_texts()


@pytest.mark.parametrize(
    ("key", "rising", "falling"),
    [
        ("name", ["c2", "c9", "c10"], ["c10", "c9", "c2"]),
        ("pairs", ["c10", "c2", "c9"], ["c2", "c10", "c9"]),
        ("quality", ["c10", "c9", "c2"], ["c9", "c10", "c2"]),
        ("vice", ["c2", "c9", "c10"], ["c9", "c2", "c10"]),
    ],
)
def test_classes_without_a_number_come_last(opened: Watched, key: str, rising: list[str], falling: list[str]) -> None:
    assert draw_classes(opened.page, key, down=False) == rising
    assert draw_classes(opened.page, key, down=True) == falling


def test_a_class_below_zero_is_drawn_below_zero(opened: Watched) -> None:
    draw_classes(opened.page, "name", down=True)  # c10, c9, c2
    mark = """(row) => { const all = row.cells[3].querySelectorAll('line');
        return [all[1], all[all.length - 1]].map((one) => +one.getAttribute('x1')); }"""
    rows = opened.page.locator("#classes tbody tr")
    zero, below = rows.nth(0).evaluate(mark)
    assert below == pytest.approx(4)  # -0.3, where the scale begins
    assert zero == pytest.approx(4 + 192 * 0.3 / 1.3)
    assert rows.nth(1).evaluate(mark) == pytest.approx([zero, 4 + 192 * 0.6 / 1.3])
