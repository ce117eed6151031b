"""The page of a study in a real browser: sorting, filters, marks, fronts and effects, by pointer and by keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pages import CHROMIUM, Watched
from studies import COMPARED, MEANS, difference, rows_of, run_row, study_folder

from torchvice.report.study.page import write_study_page
from torchvice.report.study.recipes import read_study
from variants import slow_but

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")
HOSTILE = '<img src=x onerror=alert(1)> "q\'uote" </script><!-- & 猫 🐈'
SCHEMES, WIDTHS = ("light", "dark"), (1440, 400)
TOLD = {"name": "four networks", "axes": {"network": ["a", "b", "c", "d"]}, "planned": 12, "one_at_a_time": False}


@pytest.fixture
def opened(watched: Watched, tmp_path: Path) -> Any:
    """The page of four networks, of which one run failed, opened."""
    rows = rows_of()
    rows[11] |= dict.fromkeys(("vice", "vice_low", "vice_high", "mean_average_precision", "ece_ml", "vice_gradcam"))
    rows[11] |= {"status": "failed", "reason": "its loss is not finite"}
    folder = study_folder(tmp_path / "study", rows, COMPARED, **TOLD)
    return watched.open(write_study_page(folder / "report.html", read_study(folder)))


def firsts(page: Any, table: str) -> list[str]:
    """The names of the rows that are shown, in their order."""
    return page.locator(f"#table-{table} tbody tr:visible th").all_inner_texts()


def head(page: Any, table: str, name: str) -> Any:
    """The heading of a column, as its button."""
    return page.locator(f"#table-{table} thead th").filter(has_text=name).first.locator("button")


def sorts(page: Any, table: str) -> list[str]:
    return page.locator(f"#table-{table} thead th").evaluate_all("(all) => all.map((one) => one.ariaSort)")


def test_a_heading_sorts_by_click_and_by_key(opened: Any) -> None:
    assert firsts(opened, "recipes") == ["a", "b", "c", "d"]
    assert set(sorts(opened, "recipes")) == {"none"}
    head(opened, "recipes", "VICE").click()
    assert firsts(opened, "recipes") == ["b", "c", "a", "d"]
    assert sorts(opened, "recipes")[2] == "descending"
    assert sorts(opened, "recipes").count("none") == len(sorts(opened, "recipes")) - 1
    head(opened, "recipes", "VICE").press("Enter")
    assert firsts(opened, "recipes") == ["d", "a", "c", "b"]
    assert sorts(opened, "recipes")[2] == "ascending"
    head(opened, "recipes", "Recipe").press("Space")
    assert firsts(opened, "recipes") == ["a", "b", "c", "d"]
    assert sorts(opened, "recipes")[0] == "ascending"
    assert sorts(opened, "recipes")[2] == "none"


def test_a_run_without_a_value_comes_last_whichever_way(opened: Any) -> None:
    for _ in range(2):
        head(opened, "runs", "VICE").click()
        assert firsts(opened, "runs")[-1] == "d-s3"
    assert firsts(opened, "runs")[0] == "d-s2"  # ascending: 0.09


def test_filters_keep_what_they_say_and_nothing_is_a_sentence(opened: Any) -> None:
    opened.locator(".t-axis").select_option(label="b")
    assert firsts(opened, "runs") == ["b-s1", "b-s2", "b-s3"]
    assert firsts(opened, "recipes") == ["b"]
    assert opened.locator("#found").inner_text() == "1 of 4 recipes and 3 of 12 runs are shown."
    opened.locator("#t-text").fill("no such")
    assert opened.locator("#found").inner_text() == "No recipe and no run meets these filters."
    opened.locator("#t-clear").click()
    opened.keyboard.press("/")
    opened.keyboard.type("not finite")
    assert firsts(opened, "runs") == ["d-s3"]
    assert firsts(opened, "recipes") == []


def test_a_definition_is_one_hover_away(opened: Any) -> None:
    head(opened, "runs", "ECE-ML").hover()
    assert "Multi-label expected calibration error" in opened.locator("#tip").inner_text()
    described = head(opened, "runs", "ECE-ML").get_attribute("aria-describedby")
    assert "Multi-label expected calibration error" in opened.locator(f"[id='{described}']").inner_text()


def marks(page: Any, chart: int) -> list[dict[str, Any]]:
    """The marks of a scatter plot and where they are on the screen."""
    page.locator(f"#front-{chart}").scroll_into_view_if_needed()
    # The event of the scrolling, which hides what a hover shows, comes with the next frame.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate(
        """(at) => { const chart = front.charts[at], box = chart.drawing.getBoundingClientRect();
        return chart.marks.map((m) => ({ kind: m.kind, place: m.place, vice: m.y, x: box.left + chart.px(m.x),
          y: box.top + chart.py(m.y) })); }""",
        chart,
    )


def test_every_run_and_mean_has_a_mark_and_says_its_numbers(opened: Any) -> None:
    found = marks(opened, 0)
    assert [mark["kind"] for mark in found] == ["runs"] * 11 + ["recipes"] * 4  # one run failed
    assert opened.locator("#front-0 path.mark").count() == 15
    (mean,) = [mark for mark in found if mark["kind"] == "recipes" and mark["place"] == 1]
    opened.mouse.move(mean["x"], mean["y"])
    tip = opened.locator("#tip").inner_text()
    assert "b\n" in tip
    assert "VICE 0.500 ± 0.010" in tip
    assert "on the Pareto front" in tip
    (run,) = [mark for mark in found if mark["kind"] == "runs" and mark["place"] == 4]  # b-s2
    opened.mouse.move(run["x"], run["y"])
    tip = opened.locator("#tip").inner_text()
    assert "b-s2, seed 2" in tip
    assert "VICE 0.490 (95 % interval 0.440 to 0.540)" in tip
    assert opened.evaluate("front.charts[0].whisker.getAttribute('visibility')") == "visible"


def test_the_front_is_drawn_through_its_members(opened: Any) -> None:
    for chart, names in enumerate((["b", "a"], ["b", "c"])):
        assert [list(MEANS)[at] for at in opened.evaluate(f"front.charts[{chart}].panel.on")] == names
        path = opened.locator(f"#front-{chart} path.border").get_attribute("d")
        for mark in marks(opened, chart):
            if mark["kind"] == "recipes" and list(MEANS)[mark["place"]] in names:
                x = opened.evaluate(f"(x) => x - front.charts[{chart}].drawing.getBoundingClientRect().left", mark["x"])
                assert f"H{x:.1f}V" in path
        words = opened.locator(f"#front-{chart} text").all_text_contents()
        assert set(names) <= set(words)


def test_the_choice_of_vice_changes_marks_fronts_and_words(opened: Any) -> None:
    opened.locator("#vice-choice label", has_text="gradcam").click()
    assert "VICE, gradcam" in opened.locator("#said-front-0").inner_text()
    assert [list(MEANS)[at] for at in opened.evaluate("front.charts[0].panel.on")] == ["d", "a"]
    opened.locator("#vice-choice label", has_text="paper").click()
    assert "ECE-ML (paper) (lower is better)" in opened.locator("#front-1 text").all_text_contents()


def test_arrows_walk_the_marks_and_enter_goes_to_the_row(opened: Any) -> None:
    opened.locator("#front-0 svg").focus()
    seen = []
    for _ in range(15):
        opened.keyboard.press("ArrowRight")
        seen.append(opened.evaluate("front.charts[0].marks[front.charts[0].at].x"))
    assert seen == sorted(seen)
    assert opened.locator("#spoken").inner_text().startswith("a, ")
    opened.keyboard.press("Enter")
    assert opened.evaluate(
        "document.activeElement.closest('table').id + document.activeElement.cells[0].innerText"
    ) == (
        "table-runsa-s3"  # the highest mAP, 0.91
    )


def test_a_click_goes_to_a_row_that_a_filter_had_hidden(opened: Any) -> None:
    opened.locator(".t-axis").select_option(label="c")
    (mean,) = [mark for mark in marks(opened, 0) if mark["kind"] == "recipes" and mark["place"] == 1]
    opened.mouse.click(mean["x"], mean["y"])
    assert opened.evaluate("document.activeElement.cells[0].innerText") == "b"
    assert opened.evaluate("document.activeElement.hidden") is False


def test_a_name_in_the_key_brings_its_recipe_forward(opened: Any) -> None:
    name = opened.locator(".keys button", has_text="c")
    name.press("Enter")
    assert opened.locator("#front-0 path.mark:not(.dim)").count() == 4
    assert name.get_attribute("aria-pressed") == "true"
    name.click()
    assert opened.locator("#front-0 path.mark:not(.dim)").count() == 15


def test_no_name_of_the_front_touches_its_line(opened: Any) -> None:
    for chart in (0, 1):
        struck = opened.evaluate(
            """(at) => { const line = document.querySelector(`#front-${at} path.border`), all = frontBoxes(line);
            const names = [...document.querySelectorAll(`#front-${at} text`)].filter((text) => text.style.paintOrder);
            return [names.length, names.filter((text) => { const box = text.getBBox();
              return all.some(([x, y, w, h]) => box.x < x + w && x < box.x + box.width
                && box.y + 3 < y + h && y < box.y + box.height - 1); }).length]; }""",
            chart,
        )
        assert struck[0] == 2
        assert struck[1] == 0


def test_charts_of_effects_have_the_width_of_their_place(opened: Any) -> None:
    sizes = "[...document.querySelectorAll('.whiskers')].map((one) => [one.clientWidth, +one.getAttribute('width')])"
    drawn = opened.evaluate(sizes)
    assert len(drawn) > 1
    assert all(abs(place - width) <= 1 for place, width in drawn)


def test_effects_are_told_apart_by_shape_and_speak(opened: Any) -> None:
    panels = opened.locator("#effect-0 .panels > div")
    assert panels.count() == 2
    assert (panels.nth(0).locator(".sure").count(), panels.nth(0).locator(".unsure").count()) == (2, 1)
    assert (panels.nth(1).locator(".sure").count(), panels.nth(1).locator(".unsure").count()) == (1, 2)
    panels.nth(0).locator("svg.whiskers").focus()
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("ArrowDown")
    assert opened.locator("#spoken").inner_text() == (
        "a − c, −0.200 (95 % interval −0.250 to −0.150), p 0.049 after Holm: established, 3 and 3 seeds"
    )
    opened.locator("#e-measure").select_option(label="ECE-ML")
    assert panels.count() == 1
    opened.locator("#e-measure").select_option(label="all")
    opened.locator("#e-pairs").select_option(label="with c")
    assert panels.nth(0).locator("g.row").count() == 1
    assert opened.locator("#effect-0 table tbody tr").count() == 6  # the table has all


def test_of_many_pairs_those_with_the_first_level_are_drawn(watched: Watched, tmp_path: Path) -> None:
    names = [f"n{at}" for at in range(7)]
    rows = [difference(a, b, "vice", 0.1, 0.01) for at, a in enumerate(names) for b in names[at + 1 :]]  # 21 pairs
    folder = study_folder(tmp_path / "study", rows_of(dict.fromkeys(names, MEANS["a"])), rows)
    page = watched.open(write_study_page(folder / "report.html", read_study(folder)))
    assert page.locator("g.row").count() == 6
    assert (
        "The figure shows the pairs with n0; the table shows all pairs." in page.locator("#cap-effect-0").inner_text()
    )
    page.locator("#e-pairs").select_option(label="all")
    assert page.locator("g.row").count() == 21


@pytest.mark.parametrize(
    ("rows", "comparisons"),
    [
        ([run_row("a", 1, 0.2, 0.9, 0.1)], None),
        ([run_row("a", 1, None, None, None)], None),
        pytest.param([run_row("a", 1, 0.2, None, 0.1)], None, marks=pytest.mark.slow),
        ([run_row("a", 1, 0.2, 0.9, 0.1, paper_vice=None, vice_gradcam=None)], None),
        pytest.param(
            rows_of(seeds=1),
            [difference("a", "b", "vice", None, None, reason="Too few seeds.")],
            marks=pytest.mark.slow,
        ),
        (rows_of(), [difference("a", "b", "vice", 0.1, None), difference("a", "c", "vice", None, None)]),
        ([{**run_row("a", 1, None, None, None), "status": "failed", "reason": "no luck"}], None),
    ],
)
def test_a_study_with_hardly_anything_goes_without_an_error(
    watched: Watched, tmp_path: Path, rows: Any, comparisons: Any
) -> None:
    folder = study_folder(tmp_path / "study", rows, comparisons)
    page = watched.open(write_study_page(folder / "report.html", read_study(folder)))
    assert page.locator("#summary .sentences p").count() >= 2
    assert "NaN" not in page.locator("main").inner_html()
    assert page.locator("#table-runs tbody tr:visible").count() == len(rows)


def test_hostile_names_are_text_everywhere(watched: Watched, tmp_path: Path) -> None:
    rows = [run_row(HOSTILE, 1, 0.2, 0.9, 0.1), run_row("b", 1, 0.3, 0.8, 0.1)]
    folder = study_folder(tmp_path / "study", rows, [difference(HOSTILE, "b", "vice", 0.1, 0.01, others=HOSTILE)])
    page = watched.open(write_study_page(folder / "report.html", read_study(folder)))
    assert firsts(page, "recipes") == [HOSTILE, "b"]
    assert HOSTILE in page.locator(".keys").inner_text()
    assert page.locator("img").count() == 0
    page.locator(".t-axis").select_option(label=HOSTILE)
    assert firsts(page, "recipes") == [HOSTILE]
    page.locator("#front-0 svg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert HOSTILE in page.locator("#tip").inner_text()


@pytest.mark.parametrize(("scheme", "width"), slow_but([(s, w) for s in SCHEMES for w in WIDTHS], ("dark", 400)))
def test_both_schemes_and_a_phone_show_all_without_sideways_scrolling(
    browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    folder = study_folder(tmp_path / "study", rows_of(), COMPARED, **TOLD)
    file = write_study_page(folder / "report.html", read_study(folder))
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    watched = Watched(context.new_page(), tmp_path)
    page = watched.open(file)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 24, 27)")
    inks = page.locator("#front-0 path.mark").evaluate_all("(all) => all.map((one) => getComputedStyle(one).stroke)")
    assert ground in inks  # the border of a mean is the ground's
    page.locator("#theme").click()
    page.locator("#help-open").click()
    assert page.locator("#help").is_visible()
    context.close()
    assert watched.trouble == []


def test_without_scripts_all_numbers_are_there(browser: Any, tmp_path: Path) -> None:
    folder = study_folder(tmp_path / "study", rows_of(), COMPARED, **TOLD)
    file = write_study_page(folder / "report.html", read_study(folder))
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("#table-runs tbody tr").count() == 12
    assert not page.locator("#filters").is_visible()
    assert "On the Pareto front" in page.locator("#said-front-0").inner_text()
    context.close()
