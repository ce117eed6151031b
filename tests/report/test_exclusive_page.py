"""The page of classes that exclude each other: the likeliest one is predicted, whether it is above one half or not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from pages import CHROMIUM, Watched, found, pictures, shown

from tables import Scene, scenes, table_of
from torchvice.report import cases_of, write_page
from torchvice.report.page.definitions import DEFINITIONS, TERMS, definitions_of
from torchvice.samples.true_labels import true_logits

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")


def one_label(scene: Scene) -> Scene:
    """The scene with its first label alone."""
    c = scene.true()[0]
    return dataclasses.replace(
        scene,
        targets=tuple(int(at == c) for at in range(len(scene.targets))),
        mask=scene.mask and tuple(tuple(v if v in (c + 1, 255) else 0 for v in row) for row in scene.mask),
        maps={name: {c: planes[c]} for name, planes in scene.maps.items()},
    )


@in_browser
def test_found_and_missed_are_by_the_likeliest_class(watched: Watched, tmp_path: Path) -> None:
    made = [one_label(scene) for scene in scenes(40, classes=4)]
    samples = table_of(made, targets="exclusive")
    table = cases_of(samples)
    pair = table.entry_class >= 0
    predicted = table.predicted[table.entry_image, table.entry_class] & pair
    below = predicted & (table.pair_probability <= 0.5)
    assert below.any()
    page = watched.open(write_page(tmp_path / "report.html", shown(samples), pictures(made)))
    watched.settled()

    def names(rows: np.ndarray) -> set[tuple[str, str]]:
        return {
            (table.image_id[table.entry_image[e]], table.classes[table.entry_class[e]]) for e in np.flatnonzero(rows)
        }

    for value, rows in (("found", predicted), ("missed", pair & ~predicted)):
        page.locator("#f-right").select_option(value)
        assert set(found(page)) == names(rows)
    page.locator("#f-clear").click()
    e = int(np.flatnonzero(below)[0])
    page.evaluate(f"openEntry({e}, false)")
    watched.until(f"document.querySelector('#case h3').textContent === '{table.image_id[table.entry_image[e]]}'")
    numbers = page.locator("#case .measured").inner_text()
    assert f"{table.pair_probability[e]:.3f} (predicted)" in numbers
    assert "right, looking" in numbers
    page.locator("#case .term[data-term=probability]").first.hover()
    assert "The softmax over the logits" in page.locator("#tip").inner_text()
    assert "1 / (1 + exp" not in page.locator("#definitions").inner_text()


@in_browser
def test_a_label_without_a_stored_probability_is_not_called_undefined(watched: Watched, tmp_path: Path) -> None:
    made = [one_label(scene) for scene in scenes(12, classes=4)]
    page = watched.open(write_page(tmp_path / "report.html", shown(table_of(made, targets="exclusive"))))
    watched.settled()
    page.evaluate(
        """(() => { const image = D.entryImage[state.entry];
        openLabel([0, 1, 2, 3].find((c) => !trueLabels(image).includes(c) && !isPredicted(image, c))); })()"""
    )
    watched.until("document.querySelector('#case .measured').textContent.includes('not on this page (not predicted)')")


def test_definitions_of_exclusive_classes_name_no_sigmoid_and_no_one_half() -> None:
    own = definitions_of("ji", exclusive=True)
    assert set(own) == set(DEFINITIONS)
    changed = {key for key in own if own[key] != DEFINITIONS[key]}
    assert changed == {key for key, term in TERMS.items() if "exclusive" in term} | {
        "strict.vice",
        "strict.mean_average_precision",
    }
    for key in ("loss", "confidence", "quadrant", "strength"):
        assert "0.5" not in own[key][1].replace("p = 0.5", ""), key
        assert "binary" not in own[key][1], key
    recall = definitions_of("recall", exclusive=True)
    assert "likeliest" in recall["quadrant"][1]
    assert "recall of its map is at least 0.5" in recall["quadrant"][1]


def test_a_temperature_moves_the_order_of_softmax_probabilities() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (200, 4))
    rows, classes = np.arange(200), np.zeros(200, int)
    once, twice = (true_logits(logits / t, rows, classes, exclusive=True) for t in (1, 5))
    assert (np.argsort(once) != np.argsort(twice)).any()
    assert not any("emperature scaling does not change" in text for _, text in definitions_of("ji", True).values())
