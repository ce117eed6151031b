"""A browser for tests of pages; a test is skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import CHROMIUM, SWITCHES, Watched, page_of

from torchvice.samples import Samples


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    reason = "the page is tested with playwright, which is absent"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    if CHROMIUM is None:
        pytest.skip("the page is tested in chromium, which is absent")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield opened
        opened.close()


@pytest.fixture
def watched(browser: Any, tmp_path: Path) -> Iterator[Watched]:
    """A page that fails its test, whatever else it shows, if anything went wrong in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    watched = Watched(context.new_page(), tmp_path)
    yield watched
    context.close()
    assert watched.trouble == []


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Samples]:
    return page_of(tmp_path_factory.mktemp("twelve"))


@pytest.fixture
def opened(browser: Any, twelve: tuple[Path, Samples]) -> Iterator[Watched]:
    """The page of twelve cases, opened."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    watched = Watched(context.new_page(), twelve[0].parent)
    watched.open(twelve[0])
    watched.settled()
    yield watched
    context.close()
    assert watched.trouble == []
