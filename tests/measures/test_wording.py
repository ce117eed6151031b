"""How numbers and their intervals are written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from torchvice.cli.tables import interval_cell
from torchvice.commands.measure import read_limits
from torchvice.measures.controls import _mark
from torchvice.measures.rows import Comparison, Control
from torchvice.measures.sheet import Sheet
from torchvice.measures.statements import sentences_of
from torchvice.measures.wording import decimals, decimals_between, interval_text, p_text
from torchvice.report.cases import Case, _sentences
from torchvice.report.page.text import _interval


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.0131, 0.0142, "0.0131 to 0.0142"),  # both read as 0.01 with two decimals
        (0.00012, 0.00019, "0.00012 to 0.00019"),
        (-0.004, 0.004, "-0.004 to 0.004"),
        (0.9991, 0.9999, "0.9991 to 0.9999"),
        (0.61, 0.72, "0.61 to 0.72"),
        (0.5, 0.5, "0.50 to 0.50"),
        (0.0, 0.0, "0.00 to 0.00"),
        (0.5, 0.5 + 1e-16, "0.50 to 0.50"),
    ],
)
def test_the_ends_of_an_interval_read_as_different(low: float, high: float, text: str) -> None:
    assert interval_text(low, high, 2) == text


def test_no_interval_reads_as_one_number() -> None:
    rng = np.random.default_rng(0)
    for low, width in zip(rng.normal(size=500), 10 ** rng.uniform(-9, 0, 500), strict=True):
        first, last = interval_text(low, low + width, 2).split(" to ")
        assert first != last
        assert float(last) - float(first) == pytest.approx(width, rel=0.51)


def _row(**values: Any) -> dict[str, Any]:
    return {"first": "a", "second": "b", "measure": "vice", "p_at_floor": False, **values}


def test_sentences_of_small_differences_name_them() -> None:
    row = _row(difference=-0.00135, low=-0.00142, high=-0.00131, p=0.001, p_holm=0.001)
    models = [{"name": "a", "vice": 0.62150}, {"name": "b", "vice": 0.62285}]
    found = Comparison(400, "ji", {}, models, [row], [], [], {})
    sentence = sentences_of(found, {}, 2000)[0]
    assert "VICE 0.6229 against 0.6215" in sentence
    assert "difference +0.00135, 95 % interval +0.00131 to +0.00142" in sentence
    seeds = _row(difference=0.00135, low=0.00131, high=0.00142, p=0.01, p_holm=0.01, seeds_first=3, seeds_second=3)
    text = " ".join(sentences_of(Comparison(400, "ji", {}, models, [], [], [seeds], {}), {}, 2000))
    assert "a - b = +0.00135 (+0.00131 to +0.00142" in text


def test_small_intervals_are_shown_everywhere() -> None:
    limits = {"low": 0.00131, "high": 0.00142}
    assert _interval(limits).endswith("interval 0.00131 to 0.00142")
    assert interval_cell(**limits) == "0.00131 to 0.00142"

    sheet = SimpleNamespace(notes={})
    row = Control(9, 0.1, None, None, 0.2, -0.0013, difference_low=-0.0014, difference_high=0.0001, beaten=False)
    _mark(sheet, {"center": row})  # type: ignore[arg-type]
    assert "-0.0014 to 0.0001" in sheet.notes["controls"]


def test_fail_under_never_says_that_a_number_must_be_itself() -> None:
    class Measures:
        def value(self, path: str) -> float:
            return 0.2999999

    (sentence,) = read_limits(["vice=0.3"])(Measures())  # type: ignore[arg-type]
    assert sentence == "strict.vice must be at least 0.3, but is 0.29999990."


def test_a_case_shows_no_0_for_a_small_iou() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    grey = np.zeros((4, 4), np.float32)
    case = Case(image, grey, None, "cat", 1, 0.0, 0.0012, 0.0004, ("cat",), (), "i")
    assert _sentences(case)[0] == "IoU of cat 0.0012, its probability 0.0004; JI score (paper) 0.00"


def test_decimals_between() -> None:
    assert decimals_between(0.1, 0.9) == 3
    assert decimals(0.12345, decimals_between(0.1234, 0.1235)) == "0.12345"


def test_an_undefined_p_is_a_dash_and_not_below_anything() -> None:
    assert p_text(float("nan")) == p_text(float("nan"), at_floor=True) == "–"
    sheet = Sheet()
    sheet.put_test("strict.vice", float("nan"), "permutation", 1999, "Too few.")
    sheet.put_test("strict.vice_joint", float("nan"), "signs", 1999)
    assert sheet.tests == {}
    assert sheet.undefined == {
        "tests.strict.vice": "Too few.",
        "tests.strict.vice_joint": "The test is not defined for these images.",
    }
