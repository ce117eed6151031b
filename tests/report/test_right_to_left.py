"""Names written from right to left: each stands for itself in a sentence, which runs on from left to right."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import CHROMIUM, Watched

from torchvice.report.page.page import isolated

CAT, HOUSE = "חתול", "חתול (בית)"


def test_names_from_right_to_left_are_isolated_and_all_is_escaped() -> None:
    assert isolated(f"Stands out: {CAT} & {HOUSE}.", ["dog", CAT, HOUSE]) == (
        f"Stands out: <bdi>{CAT}</bdi> &amp; <bdi>{HOUSE}</bdi>."
    )
    assert isolated("dog <b>", ["dog", CAT]) == "dog &lt;b&gt;"
    assert isolated(f"{CAT}<b>", [f"{CAT}<b>"]) == f"<bdi>{CAT}&lt;b&gt;</bdi>"


@pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")
def test_a_list_of_such_names_reads_from_left_to_right(watched: Watched, tmp_path: Path) -> None:
    names = ["אלפא", "בטא", "גמא"]
    text = f"First {', '.join(names)}, 3 in all."
    file = tmp_path / "list.html"
    file.write_text(f"<meta charset=utf-8><p>{isolated(text, names)}</p><p>{text}</p>", encoding="utf-8")
    watched.page.goto(file.as_uri())
    lefts = """([paragraph, name]) => {
        const walk = document.createTreeWalker(document.querySelectorAll('p')[paragraph], NodeFilter.SHOW_TEXT);
        for (let node = walk.nextNode(); node; node = walk.nextNode()) {
          const at = node.data.indexOf(name); if (at < 0) continue;
          const range = document.createRange(); range.setStart(node, at); range.setEnd(node, at + name.length);
          return range.getBoundingClientRect().left; } }"""
    isolated_at, bare_at = ([watched.page.evaluate(lefts, [at, name]) for name in names] for at in (0, 1))
    assert isolated_at == sorted(isolated_at)
    assert bare_at == sorted(bare_at, reverse=True)  # what happens without
