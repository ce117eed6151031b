"""What classes are found by instead, on the page: strips of crops, places and sentences, with and without pixels."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pages import CHROMIUM, Watched, pictures, shown
from PIL import Image

from tables import scenes, table_of
from torchvice.measures import measure
from torchvice.report import Shown, cases_of, write_page
from torchvice.report.page.instead import CROPS, MOST_STRIPS, strips_of

TEXT = "cat: a patch at the lower left in 94 % of its found labels (82 of 87)."


def group(images: list[str], peaks: list[tuple[float, float]], sentence: str = TEXT) -> dict[str, Any]:
    """What the page reads of a group."""
    return {"images": images, "peaks": peaks, "sentence": sentence}


def reader_of(image: np.ndarray) -> Callable[[str], tuple[np.ndarray, None]]:
    return lambda _: (image, None)


def opened(source: str) -> np.ndarray:
    """The pixels of a data address."""
    start = "data:image/webp;base64,"
    assert source.startswith(start)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source[len(start) :]))))


def test_a_crop_is_square_around_the_peak_and_marks_the_patch() -> None:
    """An image of 100 x 200: crops of 40 pixels, patches of 12.5 x 25."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[44:56, 138:163] = 255  # about the patch
    rows = [{"class": "cat", "looks_at": [group(["a"], [(0.5, 0.75)])]}]
    ((name, (strip,)),) = strips_of(rows, reader_of(image))
    assert (name, strip.count, strip.dots) == ("cat", 1, ((75.0, 50.0),))
    assert strip.sentence == TEXT.replace(" %", "\u00a0%")
    (crop,) = strip.crops
    pixels = opened(crop.source)
    assert pixels.shape == (40, 40, 3)
    assert (pixels[15:25, 9:32] > 200).all()
    assert (pixels[:12] < 50).all()
    # Rows 30 to 70 and columns 130 to 170; the patch begins at row 43.75 and column 137.5.
    assert crop.box == (18.8, 34.4, 62.5, 31.2)


def test_at_the_border_the_crop_stays_inside_and_so_does_the_patch() -> None:
    rows = [{"class": "cat", "looks_at": [group(["a", "b"], [(1.0, 0.0), (0.0, 1.0)])]}]
    ((_, (strip,)),) = strips_of(rows, reader_of(np.zeros((80, 80, 3), np.uint8)))
    assert [crop.box for crop in strip.crops] == [(0.0, 68.8, 31.2, 31.2), (68.8, 0.0, 31.2, 31.2)]
    assert [opened(crop.source).shape for crop in strip.crops] == [(32, 32, 3)] * 2
    ((_, (strip,)),) = strips_of(rows, reader_of(np.zeros((1, 1, 3), np.uint8)))
    assert opened(strip.crops[0].source).shape == (1, 1, 3)


def test_a_crop_of_an_image_without_a_case_has_no_link() -> None:
    rows = [{"class": "cat", "looks_at": [group(["a", "b"], [(0.5, 0.5)] * 2)]}]
    ((_, (strip,)),) = strips_of(rows, reader_of(np.zeros((20, 20, 3), np.uint8)), images={"b"})
    assert [(crop.image, crop.link) for crop in strip.crops] == [("a", ""), ("b", "#case=b&label=cat")]


def test_eight_crops_go_from_the_most_to_the_least_typical_image_and_all_peaks_are_dots() -> None:
    names = [f"{row}" for row in range(29)]
    rows = [{"class": "cat", "looks_at": [group(names, [(0.5, 0.5)] * 29)]}]
    ((_, (strip,)),) = strips_of(rows, reader_of(np.zeros((20, 20, 3), np.uint8)))
    assert [crop.image for crop in strip.crops] == ["0", "4", "8", "12", "16", "20", "24", "28"]
    assert (len(strip.crops), len(strip.dots)) == (CROPS, 29)
    ((_, (without,)),) = strips_of(rows, None)
    assert (without.crops, without.dots, without.count) == ((), strip.dots, 29)
    ((_, (missing,)),) = strips_of(rows, lambda image_id: None)
    assert missing.crops == ()


def test_a_class_that_two_witnesses_name_has_its_strips_once() -> None:
    listed = [group(["a"], [(0.5, 0.5)])]
    rows = [
        {"class": "cat", "witness": "localisation", "looks_at": []},
        {"class": "dog", "witness": "localisation", "looks_at": listed},
        {"class": "cat", "witness": "without_object", "looks_at": listed},
        {"class": "dog", "witness": "without_object", "looks_at": listed},
        {"class": "bus", "witness": "localisation", "looks_at": []},
    ]
    assert [(name, len(strips)) for name, strips in strips_of(rows, None)] == [("cat", 1), ("dog", 1), ("bus", 0)]


def test_a_link_opens_the_case_as_the_scripts_read_it() -> None:
    rows = [{"class": "a&b", "looks_at": [group(["x/1 #=", "\ud800"], [(0.5, 0.5)] * 2)]}]
    ((_, (strip,)),) = strips_of(rows, reader_of(np.zeros((9, 9, 3), np.uint8)), "net 2")
    assert [crop.link for crop in strip.crops] == ["#case=x%2F1%20%23%3D&label=a%26b&model=net%202", ""]


def test_crops_are_bounded() -> None:
    rows = [{"class": f"{c}", "looks_at": [group(["a"], [(0.5, 0.5)])]} for c in range(MOST_STRIPS + 3)]
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3)).astype(np.uint8)
    strips = [strip for _, listed in strips_of(rows, reader_of(noise)) for strip in listed]
    assert [len(strip.crops) for strip in strips] == [1] * MOST_STRIPS + [0] * 3
    assert max(len(strip.crops[0].source) for strip in strips[:MOST_STRIPS]) <= 8_050


def page_with(folder: Path, rows: list[dict[str, Any]], pixels: bool = True) -> Path:
    made = scenes(12)
    samples = table_of(made)
    model = Shown("toy", measure(samples, replicates=0), cases_of(samples), rows)
    return write_page(folder / "report.html", model, pictures(made) if pixels else None)


def test_the_page_has_the_section_only_where_a_class_stands_out(tmp_path: Path) -> None:
    ids = [scene.image_id for scene in scenes(12)][:3]
    rows = [{"class": "cat", "looks_at": [group(ids, [(0.9, 0.1)] * 3)]}, {"class": "dog", "looks_at": []}]
    text = page_with(tmp_path, rows).read_text()
    assert 'href="#instead"' in text
    assert text.count('<figure class="strip">') == 1
    assert text.count('around the peak"') == 3
    assert text.count("<circle cx=") == 3
    assert TEXT.replace(" %", "\u00a0%") in text
    assert "No group: no five of its peaks" in text
    without = page_with(tmp_path, rows, pixels=False).read_text()
    assert 'around the peak"' not in without
    assert without.count("<circle cx=") == 3
    assert 'id="instead"' not in page_with(tmp_path, []).read_text()
    assert shown(table_of(scenes(12))).classes_apart == ()


def test_of_compared_models_each_has_its_strips_and_links_name_the_model(tmp_path: Path) -> None:
    made = scenes(12)
    samples = table_of(made)
    rows = [{"class": "cat", "looks_at": [group([made[0].image_id], [(0.5, 0.5)])]}]
    first = Shown("first", measure(samples, replicates=0), cases_of(samples), [])
    models = [first, replace(first, name="second", stands_out=rows)]
    text = write_page(tmp_path / "report.html", models, pictures(made)).read_text()
    assert "<h3>second: cat</h3>" in text
    assert "<h3>first: " not in text
    assert f'href="#case={made[0].image_id}&amp;label=cat&amp;model=second"' in text


def test_the_rows_are_those_of_the_verdict_unless_others_are_given() -> None:
    rows: list[dict[str, Any]] = [{"class": "cat", "looks_at": []}]
    measures: Any = SimpleNamespace(verdict=SimpleNamespace(stands_out=rows))
    assert Shown("toy", measures, None).classes_apart == rows
    assert Shown("toy", measures, None, []).classes_apart == []


@pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_a_crop_opens_its_case_and_nothing_overflows(watched: Watched, tmp_path: Path, width: int) -> None:
    samples = table_of(scenes(12))
    cases = cases_of(samples)
    pair = int(np.flatnonzero(cases.entry_class >= 0)[-1])
    image_id, name = cases.image_id[cases.entry_image[pair]], cases.classes[cases.entry_class[pair]]
    hostile = f'{"Wide" * 60}<b>&"'
    rows = [
        {"class": name, "looks_at": [group([image_id] * 9, [(0.9, 0.1)] * 9)]},
        {"class": hostile, "looks_at": [group([image_id], [(0.5, 0.5)], hostile)]},
    ]
    watched.page.set_viewport_size({"width": width, "height": 800})
    page = watched.open(page_with(tmp_path, rows))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    boxes = page.evaluate(
        "[...document.querySelectorAll('.crops li')].map((one) => one.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == 9 + 2
    assert all(abs(box["width"] - box["height"]) < 1 and box["right"] <= width for box in boxes)
    assert page.locator(".strip figcaption").nth(1).inner_text() == hostile
    page.locator(".crops a").first.click()
    watched.until(f"document.querySelector('#case h3')?.textContent === {image_id!r}")
    assert page.locator(".labels button[aria-pressed=true]").inner_text().startswith(name)


def test_a_large_patch_has_a_larger_crop() -> None:
    rows = [{"class": "cat", "looks_at": [group(["a"], [(0.5, 0.5)]) | {"side": 0.5}]}]
    ((_, (strip,)),) = strips_of(rows, reader_of(np.zeros((80, 80, 3), np.uint8)))
    (crop,) = strip.crops
    assert opened(crop.source).shape == (64, 64, 3)  # 1.6 patches
    assert crop.box == (18.8, 18.8, 62.5, 62.5)
