"""The page in a real browser: every control does what it says, nothing goes wrong, and no request leaves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from pages import CHROMIUM, Watched, current, filled, found, page_of, pictures, shown

from tables import scenes, table_of
from torchvice.interop import LegacyTable, bilinear
from torchvice.measures import QUADRANTS, measure, measure_table, quadrants_of, true_pairs
from torchvice.report import Shown, write_page
from torchvice.report.page.cases import cases_of, common_cases, model_disagreement, order_by_strength
from torchvice.report.style import HEAT
from torchvice.samples import Samples
from variants import slow_but

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")
HOSTILE = '<img src=x onerror=alert(1)> "q\'uote" </script><!-- & 猫 🐈 #a=b&label=c%41'


def test_the_watch_sees_errors_and_requests(watched: Watched, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<script>performance.mark('vice-interactive')</script><img src='http://127.0.0.1:9/x.png'><script>no()</script>"
    )
    watched.open(bad)
    watched.page.wait_for_load_state()
    assert any("a request for http://127.0.0.1" in text for text in watched.trouble)
    assert any("no is not defined" in text for text in watched.trouble)
    watched.trouble.clear()


def test_a_request_is_refused_by_the_page_itself(opened: Watched) -> None:
    said = opened.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => String(error))")
    assert "Failed to fetch" in said
    assert any("Content Security Policy" in text for text in opened.trouble)
    opened.trouble[:] = [text for text in opened.trouble if "127.0.0.1" not in text]


def test_the_order_is_that_of_quadrant_and_strength(opened: Watched, twelve: tuple[Path, Samples]) -> None:
    pairs = true_pairs(twelve[1])
    quadrants = quadrants_of(pairs)
    names = ("right_elsewhere", "wrong_there", "both_good", "both_bad")
    rows = [row for name in names for row in quadrants.strongest(name)]
    expected = [(pairs.image_id[row], twelve[1].classes[pairs.class_index[row]]) for row in rows]
    shown_first = found(opened.page)
    assert shown_first[: len(expected)] == expected
    assert all(label is None for _, label in shown_first[len(expected) :])


def test_every_filter_keeps_what_it_says(opened: Watched, twelve: tuple[Path, Samples]) -> None:
    page, table = opened.page, cases_of(twelve[1])
    right = (table.targets == table.predicted).all(axis=1)[table.entry_image]
    size = np.where(np.isnan(table.area), -1, np.digitize(table.area, [0.05, 0.2 + 1e-12]))
    named = np.array(
        [table.targets[i, 1] if c < 0 else c == 1 for i, c in zip(table.entry_image, table.entry_class, strict=True)]
    )
    with np.errstate(invalid="ignore"):
        wanted = {
            ("f-quadrant", str(table.quadrant[0])): table.quadrant == table.quadrant[0],
            ("f-class", "1"): named,
            ("f-size", "2"): size == 2,
            ("f-right", "all"): right,
            ("f-right", "some"): ~right,
            ("f-right", "found"): table.pair_probability > 0.5,
            ("f-right", "missed"): table.pair_probability <= 0.5,
        }
    for (control, value), kept in wanted.items():
        page.locator(f"#{control}").select_option(value)
        assert 0 < kept.sum() < len(kept), (control, value)
        assert len(found(page)) == kept.sum(), (control, value)
        assert page.locator("#found").inner_text().startswith(f"{kept.sum()} case")
        page.locator("#f-clear").click()
        assert len(found(page)) == len(kept)


def test_search_finds_an_id_and_an_empty_result_is_a_sentence(opened: Watched) -> None:
    page = opened.page
    page.locator("#f-id").fill("_000003")
    assert {name for name, _ in found(page)} == {"2010_000003"}
    assert page.locator("#case h3").inner_text() == "2010_000003"
    page.locator("#f-id").fill("no such id")
    assert found(page) == []
    assert "No image meets these filters" in page.locator("#found").inner_text()
    assert page.locator("#list .card").count() == 0


def points(page: Any) -> list[dict[str, Any]]:
    """Where the scatter's points are on the screen, and what each is."""
    page.locator("#scatter").scroll_into_view_if_needed()
    return page.evaluate("""(() => { const box = plot.chart.drawing.getBoundingClientRect();
        return Array.from(plot.points.px, (x, i) => ({ x: box.left + x, y: box.top + plot.points.py[i],
            id: D.ids[D.entryImage[plot.points.entry[i]]],
            label: D.classes[D.entryClass[plot.points.entry[i]]] })); })()""")


def test_hover_shows_the_case_and_click_opens_it(opened: Watched) -> None:
    page = opened.page
    # A point that no other covers.
    dots = points(page)
    alone = next(a for a in dots if all(abs(a["x"] - b["x"]) + abs(a["y"] - b["y"]) > 12 for b in dots if b is not a))
    page.mouse.move(alone["x"] + 1, alone["y"])
    opened.until("!document.getElementById('tip').hidden", 30)
    assert f"{alone['id']} · {alone['label']}" in page.locator("#tip").inner_text()
    page.wait_for_selector("#tip .view img")
    page.mouse.click(alone["x"] + 1, alone["y"])
    opened.settled()
    assert current(page) == (alone["id"], alone["label"])
    assert page.evaluate("location.hash") == f"#case={alone['id']}&label={alone['label']}"
    assert page.locator("#tip").is_hidden()


def test_a_lasso_selects_what_is_inside_and_can_be_taken_away(opened: Watched) -> None:
    page, dots = opened.page, points(opened.page)
    middle = float(np.median([dot["x"] for dot in dots])) + 0.5
    box = page.locator("#scatter svg").bounding_box()
    right, low = box["x"] + box["width"] - 2, box["y"] + box["height"] - 2
    # The right half: a ray from a point at the left crosses the loop twice.
    corners = [(right, box["y"] + 2), (middle, box["y"] + 2), (middle, low), (right, low)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in [*corners[1:], corners[0]]:
        page.mouse.move(*corner, steps=3)
    page.mouse.up()
    expected = sorted((dot["id"], dot["label"]) for dot in dots if dot["x"] > middle)
    assert 0 < len(expected) < len(dots)
    assert sorted(found(page)) == expected
    assert f"{len(expected)} pairs selected" in page.locator("#lasso-said").inner_text()
    page.locator("#f-lasso").click()
    assert len(found(page)) > len(expected)
    assert page.locator("#f-lasso").is_hidden()


def test_keys_go_through_the_cases_and_leave_a_search_alone(opened: Watched) -> None:
    page, order = opened.page, found(opened.page)
    page.locator("#case").focus()
    page.keyboard.press("ArrowRight")
    opened.settled()
    assert current(page) == order[1]
    page.keyboard.press("j")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("k")
    assert (page.wait_for_timeout(50), current(page))[1] == order[0]
    page.keyboard.press("k")
    assert (page.wait_for_timeout(50), current(page))[1] == order[0]  # before the first there is none
    page.locator("#list").focus()
    page.keyboard.press("ArrowDown")
    assert (page.wait_for_timeout(50), current(page))[1] == order[1]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert (page.wait_for_timeout(50), current(page))[1] == order[0]
    assert page.evaluate("document.activeElement.id") == "case"
    labels = page.locator(".labels button").all_inner_texts()
    here = labels.index(order[0][1])
    page.keyboard.press("l")
    page.wait_for_timeout(50)
    assert current(page)[1] == labels[(here + 1) % len(labels)]
    page.keyboard.press("m")
    opened.until("document.querySelector('#map-on').getAttribute('aria-pressed') === 'false'", 30)
    assert page.locator("#case .views > div:first-child canvas").count() == 0
    page.keyboard.press("o")
    opened.until("document.querySelector('#outline-on').getAttribute('aria-pressed') === 'false'", 30)
    assert page.locator("#case .views > div:first-child path").count() == 0
    page.keyboard.press("/")
    page.keyboard.type("jk")
    assert page.locator("#f-id").input_value() == "jk"
    page.locator("#f-id").fill("")
    page.locator("#case").focus()
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()


def test_the_plot_is_walked_and_opened_by_keys(opened: Watched) -> None:
    page = opened.page
    dots = sorted(points(page), key=lambda dot: dot["x"])
    page.locator("#scatter svg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert dots[1]["id"] in page.locator("#spoken").inner_text()
    page.keyboard.press("Enter")
    opened.settled()
    assert page.locator("#case h3").inner_text() == dots[1]["id"]


def test_a_link_to_a_case_opens_it_on_load_and_later(watched: Watched, tmp_path: Path) -> None:
    file, samples = page_of(tmp_path)
    pairs = true_pairs(samples)
    first, second = ((str(pairs.image_id[at]), samples.classes[pairs.class_index[at]]) for at in (5, 9))
    page = watched.open(file, f"#case={quote(first[0])}&label={first[1]}")
    watched.settled()
    assert current(page) == first
    page.locator("#f-class").select_option(str((samples.classes.index(second[1]) + 1) % 3))  # a filter in its way
    page.wait_for_timeout(600)
    page.evaluate(f"location.hash = '#case={second[0]}&label={second[1]}'")
    watched.until(f"document.querySelector('#case h3').textContent === '{second[0]}'", 30)
    assert current(page) == second
    page.wait_for_timeout(600)  # the page writes its address at most every 350 ms, over whatever stands there
    page.evaluate("location.hash = '#case=nobody%20here'")
    watched.until("document.getElementById('found').textContent.includes('nobody here')", 30)
    page.wait_for_timeout(600)
    page.evaluate("location.hash = '#case=%E0%A4%A'")  # no text in UTF-8
    watched.until("document.getElementById('found').textContent.includes('unreadable')", 30)


def test_every_number_has_its_definition_on_hover_and_on_focus(opened: Watched) -> None:
    page = opened.page
    term = page.locator("#summary .term[data-term='strict.vice']").first
    term.hover()
    assert "Spearman" in page.locator("#tip").inner_text()
    page.mouse.move(0, 0)
    assert page.locator("#tip").is_hidden()
    term.focus()
    assert "Spearman" in page.locator("#tip").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    assert (
        page.evaluate("""[...document.querySelectorAll('.term')].filter((term) =>
        !D.definitions[term.dataset.term] || !document.getElementById(term.getAttribute('aria-describedby'))).length""")
        == 0
    )
    assert page.evaluate("document.querySelectorAll('.term').length") > 20


def test_hostile_names_are_text(watched: Watched, tmp_path: Path) -> None:
    made = [dataclasses.replace(scene, image_id=f"{scene.image_id}{HOSTILE}") for scene in scenes(6, unmasked=0)]
    names = [f"{letter}{HOSTILE}" for letter in "abc"]
    samples = table_of(made, classes=names, dataset={"root": HOSTILE, "split": "</script>"})
    file = write_page(tmp_path / "report.html", shown(samples, HOSTILE), pictures(made), title=HOSTILE)
    page = watched.open(file)
    watched.settled()
    image_id, label = current(page)
    assert image_id in samples.images.image_id
    assert label in names
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.title() == f"{HOSTILE} · VICE report"
    assert page.locator("[onerror]").count() == 0
    assert page.locator("img[src=x]").count() == 0
    assert names[0] in page.locator("#f-class option").all_inner_texts()
    # And its address leads back to it.
    address = page.evaluate("(stepBy(1), location.href)")
    expected = (page.wait_for_timeout(50), current(page))[1]
    page.goto("about:blank")
    watched.open(file, address[address.index("#") :])
    watched.settled()
    assert current(page) == expected


def test_a_name_of_half_a_character_does_no_harm(watched: Watched, tmp_path: Path) -> None:
    made = [dataclasses.replace(scene, image_id=f"{scene.image_id}\udc80") for scene in scenes(4, unmasked=0)]
    file = write_page(tmp_path / "report.html", shown(table_of(made, protocols=("paper",))), pictures(made))
    page = watched.open(file)
    watched.settled()
    page.keyboard.press("j")
    assert page.evaluate("location.hash") == ""


def test_the_map_is_the_one_in_the_table_enlarged_bilinearly(opened: Watched, twelve: tuple[Path, Samples]) -> None:
    page, samples = opened.page, twelve[1]
    image_id, label = current(page)
    c = samples.classes.index(label)
    at = np.flatnonzero(
        (samples.maps.image_id == image_id) & (samples.maps.label == c + 1) & (samples.maps.explanation == "strict:cam")
    )
    plane = samples.maps.map[at[0]].astype(float)
    drawn = page.evaluate("""(() => { const canvas = document.querySelector('#case .views canvas');
        const picture = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.height, canvas.width, Array.from(picture.data)]; })()""")
    height, width, colours = drawn
    expected = bilinear(np.round(plane / plane.max() * 255)[None], (height, width))[0] / 255
    alpha = np.array(colours).reshape(height, width, 4)[..., 3] / 255
    np.testing.assert_allclose(alpha, 0.85 * expected, atol=1.5 / 255)
    strong = np.unravel_index(expected.argmax(), expected.shape)
    top = [int(HEAT[-1][k : k + 2], 16) for k in (1, 3, 5)]
    if expected[strong] > 0.999:
        np.testing.assert_allclose(np.array(colours).reshape(height, width, 4)[strong][:3], top, atol=3)
    page.locator("#opacity").fill("25")
    assert page.locator("#case .views canvas").first.evaluate("(canvas) => canvas.style.opacity") == "0.25"


def test_void_is_hatched_named_in_the_key_and_goes_with_the_outlines(
    opened: Watched, twelve: tuple[Path, Samples]
) -> None:
    page = opened.page
    masks = {scene.image_id: np.array(scene.mask) for scene in scenes(12) if scene.mask is not None}
    marked = {name: bool((mask == 255).any()) for name, mask in masks.items()}
    assert set(marked.values()) == {True, False}
    for image_id, void in marked.items():
        page.evaluate(f"openEntry(entriesAt(D.ids.indexOf('{image_id}'))[0], false)")
        opened.until(f"document.querySelector('#case h3').textContent === '{image_id}'")
        assert page.locator("#case .view").first.locator("path.void").count() == int(void), image_id
        assert ("void: counted by no measure" in page.locator("#case .key").inner_text()) == void
    image_id = next(name for name, void in marked.items() if void)
    page.evaluate(f"openEntry(entriesAt(D.ids.indexOf('{image_id}'))[0], false)")
    opened.until(f"document.querySelector('#case h3').textContent === '{image_id}'")
    d, fill = page.locator("#case path.void").first.evaluate("(p) => [p.getAttribute('d'), getComputedStyle(p).fill]")
    tall, wide = 20 * np.array(masks[image_id].shape)
    np.testing.assert_array_equal(filled(d, tall, wide), np.kron(masks[image_id] == 255, np.ones((20, 20), bool)))
    assert page.locator(f"#case pattern#{fill.split('#')[1].split(chr(34))[0]}").count() == 1
    page.locator("#outline-on").click()
    opened.until("document.querySelector('#outline-on').getAttribute('aria-pressed') === 'false'")
    assert page.locator("#case .views > div:first-child path.void").count() == 0


def test_labels_and_predictions_are_marked_right_or_wrong_in_signs(
    opened: Watched, twelve: tuple[Path, Samples]
) -> None:
    page, table = opened.page, cases_of(twelve[1])
    image = table.image_id.tolist().index(current(page)[0])
    truth, guess = set(np.flatnonzero(table.targets[image])), set(np.flatnonzero(table.predicted[image]))
    said = page.locator("#case .chips").nth(0).inner_text().split("\n")
    assert [line[0] for line in said] == ["✓" if c in guess else "✗" for c in sorted(truth)]
    said = page.locator("#case .chips").nth(1).inner_text().split("\n")
    expected = ["✓" if c in truth else "✗" for c in sorted(guess)]
    assert ([line[0] for line in said] == expected) if guess else (said == ["none"])


def test_models_stand_side_by_side_and_the_most_different_first(watched: Watched, tmp_path: Path) -> None:
    both = [scenes(12), scenes(12)]
    rng = np.random.default_rng(5)
    both[1] = [
        dataclasses.replace(scene, logits={name: tuple(rng.normal(0, 2, 3).round(2)) for name in scene.logits})
        for scene in both[1]
    ]
    tables = [table_of(made) for made in both]
    models = [shown(samples, name) for samples, name in zip(tables, ("one <b>", "two"), strict=True)]
    comparison = {
        "images": 10,
        "sentences": ["Not established: one against two."],
        "differences": [
            {
                "first": "one",
                "second": "two",
                "measure": "vice",
                "difference": 0.25,
                "low": -0.1,
                "high": 0.5,
                "p_holm": None,
            }
        ],
    }
    file = write_page(tmp_path / "report.html", models, pictures(both[0]), comparison=comparison)
    page = watched.open(file)
    watched.settled()
    assert page.locator("#case .views h4").all_inner_texts() == ["one <b>", "two"]
    assert page.locator("#case .views img").count() == 2
    cases = common_cases([cases_of(samples) for samples in tables])
    apart = model_disagreement(cases)
    first = int(np.argmax(apart))
    assert found(page)[0] == (
        cases[0].image_id[cases[0].entry_image[first]],
        tables[0].classes[cases[0].entry_class[first]],
    )
    assert page.locator("#case .measured").count() == 2
    assert f"{cases[1].pair_probability[first]:.3f}" in page.locator("#case .measured").nth(1).inner_text()
    assert "Not established: one against two." in page.locator("#summary").inner_text()
    assert "0.250" in page.get_by_role("table", name="Paired differences").inner_text()
    before = page.evaluate("Array.from(plot.points.px)")
    page.get_by_role("radio", name="two").check()
    assert page.evaluate("Array.from(plot.points.px)") != before


def test_another_quality_is_shown_under_its_name_everywhere(watched: Watched, tmp_path: Path) -> None:
    made = scenes(12)
    samples = table_of(made)
    model = shown(samples, quality="precision")
    page = watched.open(write_page(tmp_path / "report.html", model, pictures(made)))
    watched.settled()
    table = model.cases
    pair = next(e for e in range(len(table.quality)) if table.quadrant[e] < 4)
    page.evaluate(f"openEntry({pair}, false)")
    watched.until(f"document.querySelector('#case h3').textContent === '{table.image_id[table.entry_image[pair]]}'")
    numbers = page.locator("#case .measured").inner_text()
    assert f"Precision of the pair\n{table.quality[pair]:.3f}" in numbers
    assert "precision = 0.5" in page.locator("#scatter-said").inner_text()
    assert page.locator("#scatter svg").get_attribute("aria-label").split(": ")[1].startswith("precision of the pair")
    assert page.evaluate("plot.points.missing") == np.isnan(table.quality[table.entry_class >= 0]).sum() > 0
    assert "lowest precision" in page.locator("#f-sort option").all_inner_texts()
    assert "VICE with precision" in page.locator("#classes thead").inner_text()
    page.locator("#cap-scatter .term").hover()
    assert "share of what is looked at that is object" in page.locator("#tip").inner_text()
    corners = page.locator("#scatter svg text").all_text_contents()
    options = page.locator("#f-quadrant option").all_inner_texts()
    for key, words in QUADRANTS.items():
        assert sum(words in corner for corner in corners) == 1, key
        assert sum(words in option for option in options) == 1, key


def test_without_images_there_is_no_pixel_of_the_data(watched: Watched, tmp_path: Path) -> None:
    made = scenes(12)
    file = write_page(tmp_path / "report.html", shown(table_of(made)), None)
    page = watched.open(file)
    watched.settled()
    assert page.locator("img").count() == 0
    assert page.locator("#case .views canvas").count() == 1
    assert page.locator("#case .views path").count() == 0
    assert "without a pixel of the data" in page.locator("#cases-lead").inner_text()


def test_a_folder_keeps_cases_in_files_and_asks_for_nothing_else(watched: Watched, tmp_path: Path) -> None:
    made = scenes(12)
    file = write_page(tmp_path / "page", shown(table_of(made)), pictures(made), folder=True, most_cases=3)
    page = watched.open(file)
    watched.settled()
    watched.until(
        "[...document.querySelectorAll('#case .views img')].every((img) => img.complete && img.naturalWidth > 0)", 30
    )
    assert page.locator("#case .views img").count() == 2
    page.keyboard.press("j")
    page.wait_for_timeout(100)
    assert current(page) == found(page)[1]
    assert len(list((tmp_path / "page" / "cases").rglob("*.js"))) == 12
    assert file.stat().st_size < 200_000


def test_images_beyond_the_most_have_numbers_and_say_so(watched: Watched, tmp_path: Path) -> None:
    file, _ = page_of(tmp_path, most_cases=2)
    page = watched.open(file)
    watched.settled()
    assert "The 2 images" in page.locator("#cases-lead").inner_text()
    assert page.evaluate("D.kept.reduce((a, b) => a + b)") == 2
    page.evaluate("openEntry(state.found[state.found.length - 1], false)")
    watched.until("document.querySelector('#case .note') !== null", 30)
    assert "numbers of this image, but no case" in page.locator("#case").inner_text()


EMPTY = {
    "no masks": lambda: table_of([dataclasses.replace(s, mask=None) for s in scenes(6)]),
    "one class": lambda: table_of(
        [
            dataclasses.replace(
                s,
                targets=(1,),
                mask=None,
                logits={n: v[:1] for n, v in s.logits.items()},
                maps={n: {0: m.get(0, next(iter(m.values())))} for n, m in s.maps.items()},
            )
            for s in scenes(6)
        ]
    ),
    "paper only": lambda: table_of(scenes(12), protocols=("paper",)),
    "strict only": lambda: table_of(scenes(12), protocols=("strict",)),
    "one image": lambda: table_of(scenes(1, unmasked=0)),
    "all the same": lambda: table_of(
        [dataclasses.replace(s, logits=dict.fromkeys(s.logits, (1.0, 1.0, 1.0))) for s in scenes(6)]
    ),
}


@pytest.mark.parametrize("name", slow_but(EMPTY, "no masks", "one class"))
def test_an_empty_result_is_a_sentence(name: str, watched: Watched, tmp_path: Path) -> None:
    file = write_page(tmp_path / "report.html", shown(EMPTY[name]()), None)
    page = watched.open(file)
    watched.settled()
    for box in page.locator(".plot").all():
        assert box.locator("svg").count() or box.locator(".note").count(), box.get_attribute("id")
    assert "NaN" not in page.locator("body").inner_text()
    assert (
        page.evaluate(
            """[...document.querySelectorAll('svg *')].filter((n) =>
        [...n.attributes].some((a) => /NaN|Infinity/.test(a.value))).length"""
        )
        == 0
    )
    if name == "no masks":
        assert (
            "no pair has an IoU" in page.locator("#scatter").inner_text() or page.locator("#scatter .note").count() == 1
        )
        assert "no image has a mask" in page.locator("#curve").inner_text()


def test_a_csv_has_its_numbers_and_says_that_it_has_no_cases(watched: Watched, tmp_path: Path) -> None:
    lists = [np.array([0]), np.array([1]), np.array([0, 1]), np.array([1])]
    table = LegacyTable(
        np.array(["a", "b", "c", "d"]),
        np.array([0.1, 0.5, 0.9, 0.2]),
        np.array([0.9, 0.8, 0.6, 0.7]),
        None,
        lists,
        lists,
        np.array([0.5, 0.4, 0.1, 0.3]),
        None,
    )
    file = write_page(tmp_path / "report.html", Shown("table", measure_table(table, 2), None))
    page = watched.open(file)
    assert "There are no cases" in page.locator("#cases").inner_text()
    assert "without images" in page.locator("#scatter").inner_text()
    assert page.locator("#vice-paper > svg").count() == 1
    assert "No VICE diagram of strict" in page.locator("#vice-strict").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_prints_and_changes_its_colours(
    browser: Any, twelve: tuple[Path, Samples], scheme: str
) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme=scheme, has_touch=True)
    watched = Watched(context.new_page(), twelve[0].parent)
    page = watched.open(twelve[0])
    watched.settled()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    sideways = """[...document.querySelectorAll('.scroll')].filter((box) => box.getClientRects().length
        && box.scrollWidth > box.clientWidth + 1).map((box) => box.getAttribute('aria-label') ?? box.id)"""
    assert page.evaluate(sideways) == []
    card = page.locator(".cards td").first
    assert (
        card.evaluate("(cell) => getComputedStyle(cell, '::before').content") == f'"{card.get_attribute("data-head")}"'
    )
    ground = "getComputedStyle(document.body).backgroundColor"
    own = page.evaluate(ground)
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text().endswith("dark")
    assert (page.evaluate(ground) == own) == (scheme == "dark")
    page.emulate_media(media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert page.locator("#filters").is_hidden()
    context.close()
    assert watched.trouble == []


def test_paper_is_white_whole_and_headed(browser: Any, twelve: tuple[Path, Samples]) -> None:
    context = browser.new_context(viewport={"width": 720, "height": 1000}, color_scheme="dark")
    watched = Watched(context.new_page(), twelve[0].parent)
    page = watched.open(twelve[0])
    watched.settled()
    points = "document.querySelector('#scatter canvas').toDataURL()"
    dark = page.evaluate(points)
    page.emulate_media(media="print")
    watched.until(f"{points} !== {dark!r}")  # the points take the colours of paper
    page.set_viewport_size({"width": 640, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 640
    beyond = """[...document.querySelectorAll('figure *, #numbers td, #case *')].filter((one) =>
        one.getClientRects().length && one.getBoundingClientRect().right > innerWidth + 1)
        .map((one) => one.outerHTML.slice(0, 80))"""
    assert page.evaluate(beyond) == []
    drawn = page.locator("#scatter canvas, #scatter svg")
    canvas, axes = drawn.evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().toJSON())")
    assert canvas == pytest.approx(axes, abs=1)  # points and axes stay on each other
    headings = page.locator("h2:visible, #cases-lead")
    assert set(headings.evaluate_all("(all) => all.map((one) => getComputedStyle(one).breakAfter)")) == {"avoid"}
    assert page.locator("#case h3").is_visible()
    assert page.locator("#list").is_hidden()
    assert page.locator("#scatter-tools .legend").is_visible()
    context.close()
    assert watched.trouble == []


def test_every_figure_has_words_and_a_table(opened: Watched) -> None:
    page = opened.page
    for figure in page.locator("figure:has(details)").all():
        if figure.locator(".note").count():
            continue
        assert all(
            figure.locator(".plot svg[role=img]").evaluate_all(
                "(all) => all.map((one) => one.getAttribute('aria-label').length > 20)"
            )
        )
        figure.locator("summary").click()
        figure.locator("details table tbody tr").first.wait_for()
    assert page.locator("[tabindex='0']:not([role])").count() == 0  # whatever takes the focus says what it is
    unnamed = page.evaluate("""[...document.querySelectorAll('button, select, input, a')].filter((one) =>
        ![one.getAttribute('aria-label'), one.textContent, one.closest('label')?.textContent].some((t) => t?.trim()))
        .length""")
    assert unnamed == 0


def test_the_data_is_json_that_no_markup_can_leave(twelve: tuple[Path, Samples]) -> None:
    text = twelve[0].read_text(encoding="utf-8")
    blocks = [part.split("</script>")[0] for part in text.split('<script type="application/json"')[1:]]
    assert len(blocks) == 13
    for block in blocks:
        content = block.split(">", 1)[1]
        assert "<" not in content
        assert content.isascii()
        json.loads(content)


@pytest.mark.slow
def test_fifteen_hundred_images_with_all_their_cases(watched: Watched, tmp_path: Path) -> None:
    made = scenes(1500)
    samples = table_of(made)
    model = Shown("toy", measure(samples, replicates=0), cases_of(samples))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (4, 256, 192, 3)).astype(np.uint8)  # the worst that a photograph can be
    file = write_page(tmp_path / "report.html", model, lambda name: (noise[hash(name) % 4], None))
    assert file.stat().st_size < 25e6
    order = list(order_by_strength([model.cases]))
    last = str(model.cases.image_id[order[-1]])
    page = watched.open(file, f"#case={last}")  # its picture is the last of the file
    watched.settled()
    assert page.locator("#case h3").inner_text() == last
    page.wait_for_selector("#case .views img")
    total = len(model.cases.entry_image)
    assert page.locator("#found").inner_text().startswith(f"{total:,} cases of 1,500 images")
    for quadrant in range(4):
        count = int((model.cases.quadrant == quadrant).sum())
        page.locator("#f-quadrant").select_option(str(quadrant))
        assert len(found(page)) == count
    page.locator("#f-clear").click()
    page.locator("#f-sort").select_option("loss-down")
    highest = np.nanargmax(model.cases.pair_loss)
    assert found(page)[0][0] == model.cases.image_id[model.cases.entry_image[highest]]
    page.locator("#page-on").click()
    assert page.locator("#page-said").inner_text().startswith("25 to 48")
    dot = points(page)[700]
    page.mouse.move(dot["x"], dot["y"])
    page.wait_for_selector("#tip .view img")
    page.mouse.click(dot["x"], dot["y"])
    watched.settled()
    page.get_by_role("button", name="Images").click()
    assert page.evaluate("plot.points.x.length") == int((~np.isnan(model.cases.ji)).sum())


def test_tables_and_definitions_are_folded_on_a_phone_and_open_on_paper(watched: Watched, twelve: Any) -> None:
    watched.home = twelve[0].parent.as_uri()
    watched.page.set_viewport_size({"width": 400, "height": 900})
    page = watched.open(twelve[0])
    states = "[...document.querySelectorAll('.fold')].map((one) => one.open)"
    assert len(page.evaluate(states)) > 3
    assert not any(page.evaluate(states))
    page.locator("#definitions summary").click()
    assert page.locator("#definitions dl").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(page.evaluate(states))
    page.set_viewport_size({"width": 1280, "height": 900})
    page.reload()
    watched.until("performance.getEntriesByName('vice-interactive').length === 1", 30)
    assert all(page.evaluate(states))
