"""The page of several models: numbers of each model's own images, cases of the images that they share."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from pages import CHROMIUM, Watched, pictures, shown

from tables import scenes, table_of
from torchvice.report import write_page
from torchvice.report.page.cases import common_cases
from torchvice.report.page.page import Shown

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")


def two_models(first: int, second: int) -> list[Shown]:
    """A model on the first images of forty, and one of other logits on the last of them."""
    made = scenes(40, unmasked=0)
    turned = [
        dataclasses.replace(scene, logits={name: tuple(-v for v in values) for name, values in scene.logits.items()})
        for scene in made
    ]
    return [shown(table_of(made[:first]), "one"), shown(table_of(turned[40 - second :]), "two")]


def summary_of(page: str, model: str) -> str:
    """The text of a model's summary."""
    part = page.split(f'aria-label="Summary of {model}"')[1].split("</article>")[0]
    return re.sub(r"<[^>]*>", "", part)


def test_every_number_of_a_model_is_over_the_images_of_its_own_table(tmp_path: Path) -> None:
    models = two_models(40, 15)
    page = write_page(tmp_path / "report.html", models).read_text(encoding="utf-8")
    for model in models:
        alone = write_page(tmp_path / "alone.html", model).read_text(encoding="utf-8")
        assert model.cases is not None
        text = summary_of(page, model.name).replace(model.name, "", 1)
        assert text.split() == summary_of(alone, model.name).split()
        assert f"Of {model.cases.pairs} true (image, class) pairs" in text
        counts = re.findall(
            r'<td class="num">(\d+)</td></tr>', page.split("true pairs in each")[1 + models.index(model)]
        )
        assert [int(count) for count in counts[:4]] == list(model.cases.counts().values())
    shared = common_cases([model.cases for model in models if model.cases is not None])
    assert len(shared[0]) == 15
    assert "All 15 images that all models share have their case" in page


@in_browser
def test_figures_of_cases_say_that_the_images_are_shared(watched: Watched, tmp_path: Path) -> None:
    page = watched.open(write_page(tmp_path / "report.html", two_models(30, 25)))
    watched.settled()
    assert page.locator("#scatter-said").inner_text().startswith("Each true (image, class) pair that all models share:")
    assert page.evaluate("N") == 15


@in_browser
def test_of_several_models_the_images_with_a_case_are_those_they_disagree_on(watched: Watched, tmp_path: Path) -> None:
    page = watched.open(
        write_page(tmp_path / "report.html", two_models(40, 40), pictures(scenes(40, unmasked=0)), most_cases=3)
    )
    watched.settled()
    lead = page.locator("#cases-lead").inner_text()
    assert lead.startswith(
        "The 3 images on which the models disagree most have their case on this page; of the other 37"
    )
    most = page.evaluate("Array.from(D.entryImage, (image, e) => [image, D.disagreement[e]])")
    by_image = [max(d for image, d in most if image == row) for row in range(40)]
    kept = np.flatnonzero(page.evaluate("Array.from(D.kept)"))
    assert sorted(kept) == sorted(np.argsort(by_image)[::-1][:3])
    page.evaluate("openEntry(state.found[state.found.length - 1], false)")
    watched.until("document.querySelector('#case .note') !== null", 30)
    note = page.locator("#case .note").inner_text()
    assert note.endswith("it is not among the 3 images on which the models disagree most.")


@pytest.mark.parametrize(
    ("protocols", "words"),
    [
        (("paper",), "The 2 images that come first by their id have"),
        (("strict",), "The 2 images that belong most strongly to their quadrant (in turn) have"),
    ],
)
def test_of_one_model_the_page_says_which_images_have_a_case(
    protocols: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    model = shown(table_of(scenes(12), protocols))
    page = write_page(tmp_path / "report.html", model, most_cases=2).read_text(encoding="utf-8")
    assert words in page
