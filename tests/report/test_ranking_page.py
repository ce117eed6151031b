"""The page of a ranking: its rows, its bars, and in a browser sorting, filters and the figure."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import CHROMIUM, Watched

from simulated import simulated
from torchvice.commands.rank import rank
from torchvice.measures.rank import Ranking
from torchvice.report.ranking.page import write_ranking_page
from torchvice.report.ranking.text import RANK_SET
from torchvice.samples import Samples

HOSTILE = '<img src=x onerror=alert(1)> "q\'uote" </script><!-- & 猫'
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")


def noisy(dependence: float, seed: int, **manifest: object) -> Samples:
    samples = simulated(150, dependence=dependence, **manifest)
    noise = np.random.default_rng(seed).normal(size=samples.images.logits.shape)
    images = dataclasses.replace(samples.images, logits=(samples.images.logits + noise).astype(np.float32))
    return Samples(samples.manifest, images, samples.regions, samples.maps)


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    """Eleven models, of which one has no VICE, and one table that could not be read."""
    tables: dict[str, Samples | str] = {f"m{i}": noisy(i / 4, i) for i in range(9)}
    tables[HOSTILE] = noisy(1.1, 20, made_by={"network": "</script><b>net"})
    flat = noisy(1, 30)
    images = dataclasses.replace(flat.images, logits=np.zeros_like(flat.images.logits))
    tables["flat"] = Samples(flat.manifest, images, flat.regions, flat.maps)
    found = rank(tables, top=3, replicates=200)
    found.left_out.append({"name": "broken", "path": "runs/broken", "reason": "The manifest is <damaged>."})
    return found


@pytest.fixture(scope="module")
def page(ranking: Ranking, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ranking_page(tmp_path_factory.mktemp("page") / "page.html", ranking)


def test_every_model_is_a_row_with_its_bar(ranking: Ranking, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert RANK_SET in text
    rows = re.findall(r"<tr data-place.*?</tr>", text, re.DOTALL)
    assert len(rows) == 11
    for row, expected in zip(rows, ranking.models, strict=True):
        bar = re.search(r'<i style="left:([\d.]+)%;width:([\d.]+)%">', row)
        assert (bar is None) == (expected["rank"] is None)
        if bar is not None:
            low, width = float(bar[1]) / 10, float(bar[2]) / 10  # ten models have a rank
            assert round(low + 1, 2) == expected["rank_low"]
            assert round(low + width, 2) == expected["rank_high"]
            assert ('class="ranks able"' in row) == (expected["candidate"] and not expected["sure"])
    assert "title=" not in "".join(rows)
    reasons = text.split('id="undefined"')[1].split("</details>")[0]
    assert re.search(r"VICE</th><td>[^<]*must vary[^<]*</td><td>flat</td>", reasons)
    assert 'href="#undefined"' in text
    assert "The manifest is &lt;damaged&gt;." in text
    assert "<img src=x" not in text
    assert set(re.findall(r"https?://[^\s\"]+", text)) == {"http://www.w3.org/2000/svg"}


def test_who_is_among_the_best_stands_in_words(ranking: Ranking, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    cells = [
        re.findall(r"<td.*?</td>", row, re.DOTALL)[2] for row in re.findall(r"<tr data-place.*?</tr>", text, re.DOTALL)
    ]
    for cell, row in zip(cells, ranking.models, strict=True):
        words = "–" if row["rank"] is None else "surely" if row["sure"] else "possibly" if row["candidate"] else "no"
        assert re.sub(r"<[^>]*>", "", cell) == words
    said = {re.sub(r"<[^>]*>", "", cell) for cell in cells}
    assert said == {"surely", "possibly", "no", "–"}
    lead = re.sub(r"<[^>]*>", "", text.split('<p class="lead">')[1].split("</p>")[0])
    assert "blue" not in lead
    without = write_ranking_page(page.with_name("without.html"), dataclasses.replace(ranking, top=None)).read_text()
    assert "Among the best" not in without


def test_the_same_ranking_is_the_same_page(ranking: Ranking, page: Path, tmp_path: Path) -> None:
    again = write_ranking_page(tmp_path / "page.html", ranking)
    assert again.read_bytes() == page.read_bytes()
    assert (
        '<h1 id="title">My models</h1>'
        in write_ranking_page(tmp_path / "b.html", ranking, title="My models").read_text()
    )


def opened(watched: Watched, page: Path, folder: Path) -> Any:
    """The page in the folder that is watched, opened."""
    return watched.open(Path(shutil.copy(page, folder / "page.html")))


def names(page: Any) -> list[str]:
    return page.locator("#table-models tbody tr:visible th").evaluate_all("all => all.map((one) => one.dataset.key)")


@in_browser
def test_sorting_by_a_heading_in_both_directions(
    watched: Watched, ranking: Ranking, page: Path, tmp_path: Path
) -> None:
    browser = opened(watched, page, tmp_path)
    by_rank = [row["name"] for row in ranking.models]
    assert names(browser) == by_rank
    rank_head = browser.locator("#table-models thead th").nth(1)
    assert rank_head.get_attribute("aria-sort") == "ascending"
    rank_head.locator("button").click()
    assert names(browser) == [*by_rank[:-1][::-1], "flat"]  # without a rank: last in both directions
    accuracy = browser.locator("#table-models thead button").filter(has_text="mAP")
    accuracy.focus()
    browser.keyboard.press("Enter")
    expected = sorted(ranking.models, key=lambda row: -row["mean_average_precision"])
    assert names(browser) == [row["name"] for row in expected]
    loss = browser.locator("#table-models thead button").filter(has_text="Loss")
    loss.click()
    assert names(browser)[0] == min(ranking.models, key=lambda row: row["loss"])["name"]


@in_browser
def test_filters_by_text_and_kind(watched: Watched, ranking: Ranking, page: Path, tmp_path: Path) -> None:
    browser = opened(watched, page, tmp_path)
    browser.keyboard.press("/")
    browser.keyboard.type("M1")
    assert names(browser) == ["m1"]
    assert browser.locator("#found").inner_text() == "1 of 11 models is shown."
    assert browser.locator("#given .mark.pale").count() == 9  # ten are drawn
    browser.locator("#t-clear").click()
    browser.locator("#t-kind").select_option("top")
    assert names(browser) == [row["name"] for row in ranking.models if row["candidate"]]
    browser.locator("#t-kind").select_option("sure")
    assert names(browser) == [row["name"] for row in ranking.models if row["sure"]]
    browser.locator("#t-kind").select_option("front")
    assert names(browser) == [row["name"] for row in ranking.models if row["on_front"]]
    browser.locator("#t-kind").select_option("above")
    assert names(browser) == [r["name"] for r in ranking.models if r["rank"] and r["given_accuracy_low"] > 0]
    browser.locator("#t-text").fill("nothing like it")
    assert browser.locator("#found").inner_text() == "No model meets these filters."


@in_browser
def test_the_keys_walk_along_the_figure_and_lead_to_a_row(
    watched: Watched, ranking: Ranking, page: Path, tmp_path: Path
) -> None:
    browser = opened(watched, page, tmp_path)
    browser.locator("#given svg.front").focus()
    browser.keyboard.press("ArrowRight")
    least = min((row for row in ranking.models if row["rank"]), key=lambda row: row["mean_average_precision"])
    assert least["name"] in browser.locator("#tip").inner_text()
    assert "given accuracy" in browser.locator("#tip").inner_text()
    browser.keyboard.press("Enter")
    focused = browser.evaluate("document.activeElement.cells[0].dataset.key")
    assert focused == least["name"]


@in_browser
def test_definitions_show_on_focus_and_nothing_overflows_a_phone(watched: Watched, page: Path, tmp_path: Path) -> None:
    browser = opened(watched, page, tmp_path)
    browser.locator("#table-models thead button").filter(has_text="Rank set").focus()
    assert RANK_SET in browser.locator("#tip").inner_text()
    browser.set_viewport_size({"width": 400, "height": 800})
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
