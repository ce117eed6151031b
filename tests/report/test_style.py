"""Text that fits its place, and a user's settings that stay the user's."""

import matplotlib
import pytest

from torchvice.report.style import COLUMN, SMALL, column_figure, number, paper_style, text_width, wrapped


def test_numbers_have_three_decimals_and_no_negative_zero():
    assert [number(v) for v in (0.62181, -0.0, -1e-17, 1, -0.5)] == ["0.622", "0.000", "0.000", "1.000", "-0.500"]
    # A number that is not 0 never reads as 0.
    assert [number(v) for v in (-0.0001, 0.000468)] == ["-0.0001", "0.00047"]
    assert number(None) == number(float("nan")) == "undefined"


def test_every_line_fits_and_no_word_is_lost():
    text = "a network of several words and one_word_that_is_much_wider_than_a_whole_line_of_the_column here"
    lines = wrapped(text, 1.0, most=99)
    assert all(text_width(line, SMALL) <= 1.0 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert len(lines) > 3


def test_what_does_not_fit_ends_in_an_ellipsis():
    lines = wrapped("one two three four five six seven eight nine ten", 0.6, most=2)
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert all(text_width(line, SMALL) <= 0.6 for line in lines)


def test_an_empty_text_has_no_lines():
    assert wrapped("", 1.0) == wrapped("   ", 1.0) == []


def test_settings_of_the_user_return_even_after_an_error():
    with matplotlib.rc_context({"font.size": 23.0, "text.usetex": True, "pdf.fonttype": 3}):
        before = dict(matplotlib.rcParams)
        with paper_style():
            assert matplotlib.rcParams["font.size"] == SMALL
            assert not matplotlib.rcParams["text.usetex"]
        with pytest.raises(RuntimeError):
            _fail_inside()
        assert dict(matplotlib.rcParams) == before


@paper_style()
def _fail_inside() -> None:
    raise RuntimeError


@pytest.mark.parametrize("title", ["", "short", "a long title " * 20])
@paper_style()
def test_heading_grows_with_the_title_and_stays_beside_the_box(title):
    figure = column_figure(1.0, title=title, subtitle="below", box=["VICE = 0.622"])
    width, height = figure.get_size_inches()
    assert width == pytest.approx(COLUMN)
    *texts, box = figure.texts
    assert box.get_text() == "VICE = 0.622"
    left_of_box = box.get_window_extent().x0 / figure.dpi
    for text in texts:
        extent = text.get_window_extent()
        assert extent.x1 / figure.dpi < left_of_box - 0.03
        assert 1.0 <= extent.y0 / figure.dpi < extent.y1 / figure.dpi <= height
