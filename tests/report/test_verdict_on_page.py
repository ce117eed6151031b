"""The verdict at the head of the page and of a notebook."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from pages import Watched, shown

from planted import planted
from simulated import simulated
from torchvice.measures import measure
from torchvice.report import Shown, write_page
from torchvice.report.page.numbers import tables_of


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shown]:
    one = shown(planted(120, shortcut=2))
    return write_page(tmp_path_factory.mktemp("verdict") / "page.html", one), one


def flat(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_the_page_begins_with_the_verdict(page: tuple[Path, Shown]) -> None:
    file, one = page
    text, verdict = flat(file.read_text(encoding="utf-8").partition("<main")[2]), one.measures.verdict
    places = [text.index(" ".join(sentence.split())) for sentence in verdict.sentences]
    assert places == sorted(places)
    assert places[-1] < text.index("Over 120 images, the predicted labels agree")
    assert all(" ".join(caveat.split()) in text for caveat in verdict.caveats)
    assert "Classes that stand out:" not in text
    assert "Found labels of each class, on changed images" in text


def test_tables_of_interventions_are_there_only_if_they_were_measured() -> None:
    captions = {table.caption for table in tables_of(measure(planted(60), replicates=0))}
    new = {"On changed images: without object or background", "Found labels of each class, on changed images"}
    assert new <= captions
    assert not new & {table.caption for table in tables_of(measure(simulated(60), replicates=0))}


def test_a_class_name_is_text_and_not_html(tmp_path: Path) -> None:
    samples = planted(120, shortcut=2)
    classes = [f"<b>{name}&" for name in samples.classes]
    one = shown(type(samples)({**samples.manifest, "classes": classes}, samples.images, samples.regions, samples.maps))
    assert "Stands out: <b>class2&." in one.measures.verdict.sentences[0]
    html = write_page(tmp_path / "page.html", one).read_text(encoding="utf-8")
    assert "Stands out: &lt;b&gt;class2&amp;." in html
    assert "Stands out: &lt;b&gt;class2&amp;." in one.measures._repr_html_()


def test_a_notebook_shows_the_verdict_first(page: tuple[Path, Shown]) -> None:
    measures = page[1].measures
    text = flat(measures._repr_html_())
    places = [text.index(" ".join(sentence.split())) for sentence in measures.verdict.sentences]
    assert places == sorted(places)
    assert places[-1] < text.index("ECE-ML")
    assert all(" ".join(caveat.split()) in text for caveat in measures.verdict.caveats)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_block_fits_the_screen(browser: Any, page: tuple[Path, Shown], width: int) -> None:
    file, _ = page
    context = browser.new_context(viewport={"width": width, "height": 900})
    watched = Watched(context.new_page(), file.parent)
    opened = watched.open(file)
    box = opened.locator(".verdict").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    first = opened.locator(".verdict p").first.bounding_box()
    assert first["y"] < 400  # without scrolling
    context.close()
    assert watched.trouble == []
