"""The page that keeps its cases in files: every card gets its picture, and each file is asked for once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import CHROMIUM, Watched, pictures, shown

from tables import scenes, table_of
from torchvice.report import write_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")


def test_every_card_gets_its_picture_and_each_file_is_read_once(watched: Watched, tmp_path: Path) -> None:
    made = scenes(12)
    samples = table_of(made)
    asked: list[str] = []
    watched.page.on("request", lambda request: asked.append(request.url) if "/cases/" in request.url else None)
    page = watched.open(write_page(tmp_path / "page", shown(samples), pictures(made), folder=True))
    watched.settled()
    cards = page.evaluate("state.found.slice(0, PAGE).map((e) => D.entryImage[e])")
    assert len(set(cards)) < len(cards)  # several labels of one image wait for the same file
    watched.until("[...document.querySelectorAll('#list .card')].every((card) => card.querySelector('img'))", 10)
    assert page.locator("#list .card img").count() == len(cards)
    assert len(asked) == len(set(asked))
    assert page.evaluate("[pending.size, document.head.querySelectorAll('script').length]") == [0, 0]


def test_a_case_whose_file_is_gone_says_so_on_every_card(watched: Watched, tmp_path: Path) -> None:
    made = scenes(12)
    file = write_page(tmp_path / "page", shown(table_of(made)), pictures(made), folder=True)
    for case in (tmp_path / "page" / "cases").rglob("*.js"):
        case.unlink()
    page = watched.open(file)
    watched.until(
        "document.querySelectorAll('#list .card .absent').length === document.querySelectorAll('#list .card').length",
        10,
    )
    assert page.locator("#list .absent").first.inner_text() == "cannot be read"
    assert page.evaluate("pending.size") == 0
    watched.trouble[:] = [text for text in watched.trouble if "ERR_FILE_NOT_FOUND" not in text]
