"""What a notebook shows: numbers with their intervals, reasons on hover, and every text as text."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from tables import scenes, table_of
from torchvice.measures import Measures, measure
from torchvice.measures.catalogue import overview
from torchvice.measures.rows import Control
from torchvice.report.page.text import interval_of

EVIL = "<script>alert(\"x\")</script> & '中文' 🙂"


class Reader(HTMLParser):
    """The texts, tags and attributes of HTML; every tag that opens must close."""

    VOID = ("img", "br")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def measures() -> Measures:
    return measure(table_of(scenes(24)), replicates=100)


def read(shown: Any) -> Reader:
    return Reader(shown._repr_html_())


def test_every_defined_number_is_there_with_its_interval(measures: Measures) -> None:
    words = " ".join(read(measures).texts)
    paths = [path for _, *cells in overview("page") for path in cells if path]
    assert len(paths) == 29
    for path in paths:
        value = measures.value(path)
        if math.isfinite(value):
            assert f"{value:.4f}" in words, path
    limits = measures.intervals["strict.vice"]
    assert f"({limits['low']:.2f} to {limits['high']:.2f})" in words
    assert " of 24 images" in read(measures).texts


def test_an_undefined_number_is_a_dash_that_says_why(measures: Measures) -> None:
    strict = measures.strict | {"vice": math.nan}
    shown = read(dataclasses.replace(measures, strict=strict, undefined={"strict.vice": EVIL}))
    assert EVIL in shown.values("title")
    assert f"undefined: {EVIL}" in shown.values("aria-label")
    assert "–" in shown.texts


def test_a_doubtful_interval_has_a_question_mark_that_says_why(measures: Measures) -> None:
    limits = {"low": 0.1, "high": 0.2, "level": 0.95, "method": "bca", "reliable": False}
    shown = read(dataclasses.replace(measures, intervals={"strict.vice": limits}, notes={"strict.vice": EVIL}))
    assert "?" in shown.texts
    assert EVIL in shown.values("title")


def test_the_page_marks_a_doubtful_interval_as_the_terminal_does(measures: Measures) -> None:
    limits = {"low": 0.1, "high": 0.2, "level": 0.95, "method": "bca"}
    page = {doubt: dataclasses.replace(measures, intervals={"paper.vice": limits | doubt_of}) for doubt, doubt_of in
            (("?", {"reliable": False}), ("", {}))}  # fmt: skip
    assert interval_of(page["?"], "paper.vice") == "95\u00a0% interval 0.100 to 0.200\u00a0?"
    assert interval_of(page[""], "paper.vice") == "95\u00a0% interval 0.100 to 0.200"


def test_no_text_becomes_markup(measures: Measures) -> None:
    control = Control(9, 0.1, None, None, None, 0.2, 0.1, 0.3, beaten=True)
    shown = read(dataclasses.replace(measures, excluded={EVIL: 3}, controls={EVIL: control}))
    assert "script" not in shown.tags
    assert EVIL in shown.texts
    assert f"3 {EVIL}" in shown.texts
    made = read(table_of(scenes(6), classes=[EVIL, "b", "c"], dataset={"root": EVIL, "split": "val"}))
    assert "script" not in made.tags
    assert any(EVIL in text for text in made.texts)


def test_the_diagrams_are_pictures_inside_the_page(measures: Measures) -> None:
    shown = read(measures)
    sources = shown.values("src")
    assert len(sources) == 2
    for source in sources:
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    words = {
        name: f"VICE diagram of {name}, VICE {_said(measures.value(f'{name}.vice'))}" for name in ("strict", "paper")
    }
    assert shown.values("alt") == list(words.values())
    no_loss = np.full_like(measures.diagrams.loss, np.nan)
    for loss in (None, no_loss):
        found = dataclasses.replace(measures, diagrams=dataclasses.replace(measures.diagrams, loss=loss))
        assert read(found).values("alt") == [words["strict"]]


def _said(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def test_samples_say_what_they_hold() -> None:
    samples = table_of(scenes(10, unmasked=3))
    shown = read(samples)
    words = " ".join(shown.texts)
    for fact in ("10, 7 with a mask", "3: cat, dog, bus", "multilabel", "nowhere", "Toy", "crop, warp"):
        assert fact in words, fact
    of = samples.regions
    for name in ("paper:cam", "strict:cam"):
        count = int(((of.explanation == name) & (of.status != "none")).sum())
        assert re.search(rf"{name} headline of {name[:-4]} {count}\b", words)


def test_many_classes_are_cut() -> None:
    made = table_of(scenes(4), classes=[f"class{i}" for i in range(80)])
    words = " ".join(read(made).texts)
    assert "80: class0" in words
    assert "class12" not in words


def test_a_table_without_rows_still_shows() -> None:
    assert "0, 0 with a mask" in " ".join(read(table_of([])).texts)


def test_the_plain_forms_are_one_line(measures: Measures) -> None:
    value = measures.strict["vice"]
    assert f"Measures(24 images, paper.vice=nan, strict.vice={value:.4f}, " in repr(measures)
    assert repr(table_of(scenes(6))).endswith("3 classes, 2 explanations)")
    assert "\n" not in repr(measures) + repr(table_of(scenes(6)))
