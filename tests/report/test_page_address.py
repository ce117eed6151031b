"""The address of the page: it names the case that is open and the filters around it, and leads back to both."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pages import CHROMIUM, Watched, current, found

from torchvice.measures.quadrants import QUADRANTS
from torchvice.report.page.cases import cases_of
from torchvice.samples import Samples

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")


@pytest.fixture(autouse=True)
def still(opened: Watched) -> None:
    """Scrolling that takes no time."""
    opened.page.emulate_media(reduced_motion="reduce")


def named(watched: Watched) -> bool:
    """Whether the address comes to name the image and label that are open."""
    image_id, label = current(watched.page)
    watched.until(f"location.hash.startsWith('#case={quote(image_id)}&label={quote(label)}')")
    return True


def length(page: Any) -> int:
    return int(page.evaluate("history.length"))


def test_every_filter_leaves_the_open_case_in_the_address(opened: Watched, twelve: tuple[Path, Samples]) -> None:
    page, before, seen = opened.page, length(opened.page), set()
    assert page.evaluate("location.hash") == ""
    table = cases_of(twelve[1])
    other = next(q for q in table.quadrant.tolist() if q != table.quadrant[0])
    changes = (("f-class", "1"), ("f-class", ""), ("f-quadrant", str(other)), ("f-quadrant", ""))
    for control, value in (*changes, ("f-size", "2"), ("f-right", "some"), ("f-sort", "loss-down")):
        page.locator(f"#{control}").select_option(value)
        page.wait_for_timeout(60)
        assert named(opened)
        seen.add(current(page))
    assert len(seen) > 1
    page.locator("#f-clear").click()
    assert named(opened)
    assert length(page) == before


def test_keys_write_one_place_over_and_never_too_often(opened: Watched) -> None:
    page, before = opened.page, length(opened.page)
    page.evaluate("""(() => { window.calls = 0; const own = history.replaceState.bind(history);
        history.replaceState = (...all) => { calls++; own(...all); }; })()""")
    # A key that is held, as fast as can be.
    page.evaluate("""for (const key of 'jjjjjjjjjk') document.body.dispatchEvent(
        new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }))""")
    image_id, label = found(page)[8]
    opened.until(f"document.querySelector('#case h3').textContent === '{image_id}'")
    assert current(page) == (image_id, label)
    assert named(opened)
    assert length(page) == before
    assert page.evaluate("calls") == 2


def test_a_link_carries_the_filters_and_the_order(opened: Watched, twelve: tuple[Path, Samples]) -> None:
    page, table = opened.page, cases_of(twelve[1])
    pair = next(e for e in range(len(table.entry_class)) if table.entry_class[e] >= 0)
    quadrant, c = int(table.quadrant[pair]), int(table.entry_class[pair])
    page.locator("#f-quadrant").select_option(str(quadrant))
    page.locator("#f-class").select_option(str(c))
    page.locator("#f-sort").select_option("iou-up")
    page.locator("#f-id").fill("20")
    expected, case = found(page), current(page)
    assert len(expected) == ((table.quadrant == quadrant) & (table.entry_class == c)).sum()
    assert named(opened)
    opened.until("location.hash.endsWith('id=20&sort=iou-up')")
    address = page.evaluate("location.hash")
    assert f"quadrant={list(QUADRANTS)[quadrant]}&class={table.classes[c]}" in address
    page.goto("about:blank")
    opened.open(twelve[0], address)
    opened.settled()
    assert (found(page), current(page)) == (expected, case)
    assert page.locator("#f-id").input_value() == "20"
    # Without a case, the first that is found is opened.
    page.goto("about:blank")
    opened.open(twelve[0], f"#quadrant={list(QUADRANTS)[quadrant]}&class={table.classes[c]}")
    opened.settled()
    assert sorted(found(page)) == sorted(expected)
    assert current(page) == found(page)[0]
    opened.until("document.getElementById('filters').getBoundingClientRect().top < innerHeight")


def test_filters_of_a_link_that_hide_its_case_are_cleared_and_said(
    opened: Watched, twelve: tuple[Path, Samples]
) -> None:
    page, order = opened.page, found(opened.page)
    image_id, label = order[0]
    other = next(name for name in twelve[1].classes if name != label)
    page.evaluate(f"location.hash = '#case={image_id}&label={label}&class={other}&sort=id'")
    opened.until("document.getElementById('found').textContent.includes('they are cleared')")
    page.wait_for_timeout(60)
    assert current(page) == (image_id, label)
    assert page.locator("#f-class").input_value() == ""
    assert page.locator("#f-sort").input_value() == "id"  # an order hides nothing
    assert len(found(page)) == len(order)
    page.evaluate("location.hash = '#class=unheard&quadrant=none%20such'")
    opened.until("document.getElementById('found').textContent.includes('does not have')")
    assert len(found(page)) == len(order)


def test_back_returns_from_a_jump_with_its_case_filter_and_place(opened: Watched) -> None:
    page = opened.page
    first = current(page)
    page.locator("#classes").scroll_into_view_if_needed()
    where = page.evaluate("scrollY")
    page.locator("#classes tbody th button").nth(1).click()  # the cases of a class
    page.wait_for_timeout(400)
    second, chosen = current(page), page.locator("#f-class").input_value()
    assert chosen != ""
    page.locator("#case").focus()
    page.keyboard.press("j")
    page.wait_for_timeout(400)
    third = current(page)
    assert third != second
    page.go_back()
    opened.until("document.getElementById('f-class').value === ''")
    page.wait_for_timeout(400)
    assert current(page) == first
    assert abs(page.evaluate("scrollY") - where) < 5
    page.go_forward()
    opened.until(f"document.getElementById('f-class').value === '{chosen}'")
    page.wait_for_timeout(100)
    assert current(page) == third  # where the reader had gone on to


def test_a_section_of_the_page_is_a_place_and_leaves_the_case_in_the_address(opened: Watched) -> None:
    page = opened.page
    page.locator("#case-on").click()
    assert named(opened)
    where = page.evaluate("scrollY")
    # A real click scrolls first.
    page.get_by_role("link", name="Numbers", exact=True).evaluate("(link) => link.click()")
    opened.until("document.getElementById('numbers').getBoundingClientRect().top < 100")
    assert named(opened)
    assert page.evaluate("document.activeElement.id") == "numbers"
    page.go_back()
    opened.until(f"Math.abs(scrollY - {where}) < 5")
    assert named(opened)


def test_a_reload_keeps_the_case_and_does_not_move_the_reader(opened: Watched) -> None:
    page = opened.page
    page.locator("#case-on").click()
    page.wait_for_timeout(60)
    case = current(page)
    assert named(opened)
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    page.wait_for_timeout(100)
    page.reload()
    opened.settled()
    page.wait_for_timeout(300)
    assert current(page) == case
    assert page.evaluate("scrollY") == 0


def test_the_new_case_is_spoken_also_when_a_filter_opens_it(opened: Watched) -> None:
    page = opened.page
    other = next(label for _, label in found(page) if label not in (None, current(page)[1]))
    page.locator("#f-class").select_option(label=other)
    page.wait_for_timeout(60)
    image_id, label = current(page)
    assert page.locator("#spoken").inner_text().startswith(f"{image_id}, {label}")
