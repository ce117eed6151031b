"""The page's parts: rows, pixels, charts, words and numbers; and that the file is written whole, image by image."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import filled, page_of, shown

from tables import scenes, table_of
from torchvice.errors import ViceError
from torchvice.measures import QUALITIES, measure, quadrants_of, quality_of, true_pairs
from torchvice.measures.rows import ClassRow, Control
from torchvice.metrics import sample_loss, sigmoid
from torchvice.report import Shown, cases_of, write_page
from torchvice.report.page.cases import NO_QUADRANT, common_cases, model_disagreement, order_by_strength
from torchvice.report.page.charts import charts_of, json_list
from torchvice.report.page.definitions import DEFINITIONS, definitions_of
from torchvice.report.page.numbers import number_rows, tables_of, undefined_by_reason
from torchvice.report.page.page import embedded
from torchvice.report.page.pixels import MAP_SIDE, OUTLINE_SIDE, map_bytes, outlines, thumbnail
from torchvice.report.page.text import Number, facts_of, sentences_of
from torchvice.report.style import HEAT


@pytest.mark.parametrize("seed", range(5))
def test_an_outline_encloses_the_pixels_of_its_label_and_no_other(seed: int) -> None:
    mask = np.random.default_rng(seed).choice([0, 0, 1, 2, 255], (9, 13))
    wide, tall, paths = outlines(mask)
    assert (wide, tall) == (13, 9)
    assert set(paths) == {1, 2, 255}
    for label in (1, 2):
        np.testing.assert_array_equal(filled(paths[label], 9, 13), mask == label)
    np.testing.assert_array_equal(filled("".join(paths.values()), 9, 13), mask == 255)
    assert 255 not in outlines(np.where(mask == 255, 0, mask))[2]


def test_a_large_mask_is_outlined_on_a_grid_and_an_empty_one_not_at_all() -> None:
    mask = np.zeros((600, 300), np.uint8)
    mask[300:] = 7
    wide, tall, paths = outlines(mask)
    assert (wide, tall) == (64, OUTLINE_SIDE)
    np.testing.assert_array_equal(filled(paths[7], tall, wide)[:, 0], np.arange(tall) >= 64)
    assert outlines(np.zeros((3, 3), np.uint8)) == (3, 3, {})


def test_a_thumbnail_keeps_to_its_bytes_and_its_proportions() -> None:
    from io import BytesIO

    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (400, 800, 3)).astype(np.uint8)
    for room in (40_000, 8_000, 3_000):
        content, kind = thumbnail(noise, room)
        assert len(content) <= room
        opened = Image.open(BytesIO(content))
        assert opened.format == kind.upper()
        assert opened.width == 2 * opened.height
    small = np.full((5, 3, 3), 200, np.uint8)
    content, _ = thumbnail(small, 40_000)
    assert Image.open(BytesIO(content)).size == (3, 5)  # never enlarged
    assert abs(int(np.asarray(Image.open(BytesIO(content)))[2, 1, 0]) - 200) < 6


def test_map_bytes_are_the_map_after_relu_over_its_maximum() -> None:
    plane = np.random.default_rng(1).normal(0, 1, (7, 5)).astype(np.float16)
    height, width, content = map_bytes(plane)
    values = np.frombuffer(content, np.uint8).reshape(height, width)
    np.testing.assert_allclose(values / 255, np.maximum(plane, 0) / plane.max(), atol=0.51 / 255)
    assert map_bytes(np.full((2, 2), -1.0)) == (2, 2, bytes(4))
    assert map_bytes(np.full((2, 2), np.nan)) == (2, 2, bytes(4))
    height, width, content = map_bytes(np.kron(np.eye(MAP_SIDE), np.ones((3, 3))))
    assert (height, width) == (MAP_SIDE, MAP_SIDE)
    np.testing.assert_array_equal(np.frombuffer(content, np.uint8).reshape(height, width), 255 * np.eye(MAP_SIDE))


def test_rows_are_the_pairs_of_strict_and_one_for_every_image_without() -> None:
    samples = table_of(scenes(12))
    table, pairs = cases_of(samples), true_pairs(samples)
    quadrants = quadrants_of(pairs)
    pair = table.entry_class >= 0
    assert table.image_id[table.entry_image[pair]].tolist() == pairs.image_id.tolist()
    np.testing.assert_array_equal(table.entry_class[pair], pairs.class_index)
    np.testing.assert_array_equal(table.quality[pair], pairs.quality)
    np.testing.assert_allclose(table.pair_probability[pair], sigmoid(pairs.logit.astype(float)))
    np.testing.assert_allclose(table.pair_loss[pair], -np.log(table.pair_probability[pair]))
    np.testing.assert_array_equal(table.strength[pair], quadrants.strength)
    without = set(samples.images.image_id) - set(pairs.image_id)
    assert without
    assert set(table.image_id[table.entry_image[~pair]]) == without
    assert (table.quadrant[~pair] == NO_QUADRANT).all()
    assert np.isnan(table.area[~pair]).all()
    first = table.image_id[table.entry_image[0]]
    counted = [region for region in range(len(samples.regions)) if samples.regions.image_id[region] == first]
    label = table.entry_class[0] + 1
    pixels = {samples.regions.mask_pixels[r] for r in counted if samples.regions.label[r] == label}
    assert {table.area[0] * 12} == {float(next(iter(pixels)))}
    view = samples.of_view("warp")
    np.testing.assert_allclose(table.loss, sample_loss(view.logits, view.targets))
    assert sum(table.counts().values()) == table.pairs == len(pairs.logit)


def test_exclusive_targets_have_one_prediction_and_cross_entropy() -> None:
    made = [
        dataclasses.replace(
            s, targets=(0, 1, 0), maps={n: {1: m.get(1, next(iter(m.values())))} for n, m in s.maps.items()}, mask=None
        )
        for s in scenes(6)
    ]
    samples = table_of(made, protocols=("strict",), targets="exclusive")
    table = cases_of(samples)
    logits = np.array([scene.logits["strict"] for scene in made])[np.argsort([scene.image_id for scene in made])]
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(table.probability, expected)
    np.testing.assert_array_equal(table.predicted.sum(1), 1)
    np.testing.assert_allclose(table.loss, -np.log(expected[:, 1]))
    np.testing.assert_allclose(table.confidence, expected.max(1))


def test_the_strongest_of_every_quadrant_come_in_turn_and_no_image_twice() -> None:
    table = cases_of(table_of(scenes(12)))
    order = list(order_by_strength([table]))
    assert sorted(order) == list(range(12))
    present = [q for q in range(NO_QUADRANT) if (table.quadrant == q).any()]
    tops = [
        table.entry_image[np.flatnonzero(table.quadrant == q)[np.argmax(table.strength[table.quadrant == q])]]
        for q in present
    ]
    assert order[: len(set(tops))] == list(dict.fromkeys(int(row) for row in tops))


def test_models_are_laid_on_the_images_that_they_share() -> None:
    first, second = scenes(12), scenes(12)[3:]
    kept = common_cases([cases_of(table_of(first)), cases_of(table_of(second))])
    assert [len(table) for table in kept] == [9, 9]
    assert kept[0].image_id.tolist() == kept[1].image_id.tolist()
    np.testing.assert_array_equal(kept[0].entry_class, kept[1].entry_class)
    np.testing.assert_allclose(model_disagreement(kept)[kept[0].entry_class >= 0] >= 0, True)
    whole = cases_of(table_of(first))
    row = whole.image_id.tolist().index(kept[0].image_id[4])
    assert kept[0].maps[4].keys() == whole.maps[row].keys()


def test_models_that_cannot_be_laid_side_by_side_are_refused() -> None:
    whole = cases_of(table_of(scenes(6)))
    with pytest.raises(ViceError, match="different ones"):
        common_cases([whole, dataclasses.replace(whole, classes=("a", "b", "c"))])
    with pytest.raises(ViceError, match="none in common"):
        common_cases([whole, dataclasses.replace(whole, image_id=whole.image_id + "x")])
    with pytest.raises(ViceError, match="same labels"):
        common_cases([whole, dataclasses.replace(whole, targets=~whole.targets)])
    with pytest.raises(ViceError, match="one protocol"):
        common_cases([whole, cases_of(table_of(scenes(6), protocols=("paper",)))])
    with pytest.raises(ViceError, match="no table"):
        write_page(
            "x.html", [Shown("a", measure(table_of(scenes(6))), whole), Shown("b", measure(table_of(scenes(6))), None)]
        )
    with pytest.raises(ViceError, match="needs a model"):
        write_page("x.html", [])


def test_disagreement_by_hand() -> None:
    table = cases_of(table_of(scenes(6)))
    other = dataclasses.replace(
        table, pair_probability=table.pair_probability * 0 + 0.25, quality=table.quality * 0 + 0.5
    )
    third = dataclasses.replace(
        table, pair_probability=table.pair_probability * 0 + 0.75, quality=table.quality * 0 + 0.1
    )
    np.testing.assert_allclose(model_disagreement([other, third]), np.where(table.entry_class >= 0, 0.5 + 0.4, 0))


def test_charts_hold_no_nan() -> None:
    samples = table_of(scenes(12))
    content = charts_of(measure(samples), cases_of(samples))
    json.dumps(content, allow_nan=False)
    assert json_list([0.1234567891, np.nan, np.inf]) == [0.123457, None, None]
    measures = measure(samples)
    assert {protocol: found["n"] for protocol, found in content["vice"].items()} == {
        "paper": 10,
        "strict": len(measures.diagrams.pair_ji),
    }
    assert set(content["reliability"]) == {"paper", "strict"}
    assert len(content["classes"]) == 3
    unmasked = table_of([dataclasses.replace(scene, mask=None) for scene in scenes(6)])
    content = charts_of(measure(unmasked), cases_of(unmasked))
    assert content["vice"] == {}
    assert content["curves"] == {}


def said(sentences: list) -> str:
    return " ".join("".join(part.text if isinstance(part, Number) else part for part in s) for s in sentences)


def test_the_sentences_say_what_the_numbers_say() -> None:
    samples = table_of(scenes(40))
    measures, table = measure(samples), cases_of(samples)
    text = said(sentences_of(measures, table))
    assert f"{measures.strict['ml_accuracy']:.3f}" in text
    assert f"{100 * measures.strict['ece_ml']:.1f} percentage points" in text
    low, high = (measures.intervals["strict.vice"][end] for end in ("low", "high"))
    assert f"95\u00a0% interval {low:.3f} to {high:.3f}" in text
    assert f"Of {table.pairs} true (image, class) pairs, {table.counts()['right_elsewhere']} " in text
    terms = [part.term for s in sentences_of(measures, table) for part in s if isinstance(part, Number)]
    assert set(terms) <= set(DEFINITIONS)


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.7, 0.6, 0.8, "the better its map covers it"),
        (0.4, 0.3, 0.5, "the better its map tends to cover it"),
        (-0.2, -0.3, -0.1, "the worse its map slightly tends to cover it"),
        (0.2, -0.1, 0.4, "no connection between certainty and map is established"),
        (0.05, 0.01, 0.09, "certainty has hardly anything to do with where it looks"),
        (float("nan"), None, None, "Consistency is undefined"),
    ],
)
def test_vice_is_read_with_its_interval(value: float, low: float | None, high: float | None, words: str) -> None:
    whole = measure(table_of(scenes(12), protocols=("strict",)))
    intervals = {} if low is None else {"strict.vice": {"low": low, "high": high, "level": 0.95, "method": "x"}}
    verdict = dataclasses.replace(whole.verdict, vice={**whole.verdict.vice, "pairs": 100})
    measures = dataclasses.replace(whole, strict={**whole.strict, "vice": value}, intervals=intervals, verdict=verdict)
    assert words in said(sentences_of(measures, None))
    few = dataclasses.replace(measures, verdict=whole.verdict)
    assert ("labels are too few to establish a connection" in said(sentences_of(few, None))) == (low is not None)


def test_what_strict_leaves_undefined_is_not_said_of_paper() -> None:
    silent = {protocol: dict.fromkeys(range(3), ((0.0,) * 4,) * 3) for protocol in ("paper", "strict")}
    measures = measure(table_of([dataclasses.replace(scene, maps=silent) for scene in scenes(30)]), replicates=0)
    assert np.isnan(measures.strict["vice"])
    measures = dataclasses.replace(measures, paper={**measures.paper, "vice": 0.286})
    text = said(sentences_of(measures, None))
    assert f"Consistency is undefined: VICE could not be computed. {measures.undefined['strict.vice']}" in text
    assert "0.286" not in text


def test_the_reason_for_no_vice_is_that_of_the_protocol_that_was_assessed() -> None:
    paper = measure(table_of(scenes(30), ("paper",)), replicates=0)  # of one image no object is covered
    text = said(sentences_of(paper, None))
    assert "The JI of 1 of 28 images is undefined" in text
    assert "not assessed under" not in text.partition("Consistency is undefined")[2]


def test_maps_that_are_mostly_zero_are_spoken_of_at_the_head_and_counted_below() -> None:
    dead = {protocol: dict.fromkeys(range(3), ((0.0,) * 4,) * 3) for protocol in ("paper", "strict")}
    silent = [dataclasses.replace(scene, maps=dead) for scene in scenes(12)]
    measures = measure(table_of(silent))
    assert "More than half of the maps are zero everywhere" in said(sentences_of(measures, None))
    assert "zero everywhere" not in said(sentences_of(measure(table_of(scenes(12))), None))


def test_controls_and_classes_are_spoken_of_only_when_there_are_some() -> None:
    whole = measure(table_of(scenes(12)))
    bare = dataclasses.replace(whole, controls={}, classes=[])
    assert "controls" not in said(sentences_of(bare, None))
    nothing: dict[str, Any] = {field.name: None for field in dataclasses.fields(Control) if field.name != "beaten"}
    beaten = {
        name: Control(**nothing, beaten=known)
        for name, known in (("random", True), ("all_foreground", False), ("flat", None))
    }
    rows = [
        ClassRow("cat", None, 10, None, 0.9, 0.8, 0.95),
        ClassRow("dog", None, 10, None, 0.4, 0.2, 0.6),
        ClassRow("bus", None, 10, None, None, None, None),
    ]
    full = dataclasses.replace(whole, strict={**whole.strict, "vice": 0.4}, controls=beaten, classes=rows)
    text = said(sentences_of(full, None))
    assert "VICE is not clearly higher than 1 of 2 controls (all foreground)" in text
    assert "; flat is undefined" in text
    some = {name: beaten[name] for name in ("random", "flat")}
    text = said(sentences_of(dataclasses.replace(full, controls=some), None))
    assert "VICE is above 1 of 2 controls; flat is undefined: the whole 95\u00a0% interval of each" in text
    assert "stand out" not in text  # the verdict names classes, by tests that hold their level
    assert "cat" not in text
    assert "VICE is above all 1 controls" in said(
        sentences_of(dataclasses.replace(full, controls={"random": beaten["random"]}), None)
    )


def test_facts_and_tables_say_what_the_measures_hold() -> None:
    samples = table_of(scenes(40), made_by={"network": "resnet18", "checkpoint": "best"})
    measures = measure(samples)
    facts = dict(facts_of(measures, cases_of(samples)))
    assert facts["Model"] == "resnet18 · checkpoint best"
    assert facts["With a mask"] == "38 of 40"
    rows = {row["name"]: row["cells"] for row in number_rows(measures)}
    assert rows["VICE"][1]["value"] == f"{measures.strict['vice']:.3f}"
    assert "interval" in rows["VICE"][1]["interval"]
    assert rows["KL"][1]["path"] == ""
    for table in tables_of(measures):
        assert table.term in DEFINITIONS
        assert all(len(row) == len(table.heads) for row in table.rows)
    assert {row["path"] for cells in rows.values() for row in cells} - {""} <= set(DEFINITIONS)
    assert undefined_by_reason({"a": "x", "b": "y", "c": "x"}) == {"x": ["a", "c"], "y": ["b"]}


def test_another_quality_is_in_every_number_word_and_quadrant() -> None:
    samples = table_of(scenes(40))
    measures, table = measure(samples, quality="energy"), cases_of(samples, "energy")
    pairs = true_pairs(samples)
    values, pair = quality_of(pairs, "energy"), table.entry_class >= 0
    np.testing.assert_array_equal(table.quality[pair], values)
    assert (table.quality[pair] != pairs.quality).any()
    assert table.counts() == measures.quadrants["counts"]
    assert table.counts() != cases_of(samples).counts()
    text = said(sentences_of(measures, table))
    found = measures.quality["vice"], measures.strict["vice"]
    assert f"VICE with energy in the place of the IoU is {found[0]:.3f}" in text
    assert f"with the IoU it is {found[1]:.3f}" in text
    assert "at it: energy of 0.5 or more" in text
    rows = {row["name"]: row["cells"] for row in number_rows(measures)}
    assert rows["VICE"][1]["value"] == f"{found[1]:.3f}"
    assert rows["VICE with energy"][1]["value"] == f"{found[0]:.3f}"
    assert rows["Mean energy"][1]["value"] == f"{np.nanmean(values):.3f}"
    terms = {cell["path"] for cells in rows.values() for cell in cells} - {""}
    terms |= {part.term for s in sentences_of(measures, table) for part in s if isinstance(part, Number)}
    assert terms <= set(definitions_of("energy"))
    assert "share of the map's sum that lies on the object" in definitions_of("energy")["iou"][1]
    assert dict(facts_of(measures, table))["Quality"].startswith("energy: ")


def test_a_pair_of_undefined_quality_is_in_no_quadrant_and_the_sentence_says_so() -> None:
    samples = table_of(scenes(40))
    table = cases_of(samples, "precision")
    undefined = np.isnan(quality_of(true_pairs(samples), "precision"))
    assert undefined.any()
    assert (table.quadrant[table.entry_class >= 0][undefined] == NO_QUADRANT).all()
    assert (table.strength[table.entry_class >= 0][undefined] == 0).all()
    text = said(sentences_of(measure(samples, quality="precision"), table))
    assert f"{undefined.sum()} are in no quadrant, their precision being undefined" in text


def test_what_has_no_other_quality_is_refused(tmp_path: Path) -> None:
    samples = table_of(scenes(12))
    with pytest.raises(ViceError, match="needs the pairs of `strict`"):
        cases_of(table_of(scenes(6), protocols=("paper",)), "recall")
    with pytest.raises(ViceError, match="A page is of one quality"):
        write_page(tmp_path / "x.html", Shown("a", measure(samples), cases_of(samples, "recall")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in QUALITIES if name != "ji"])
def test_every_quality_has_its_definitions(name: str) -> None:
    own = definitions_of(name)
    assert set(own) == {*DEFINITIONS, "quality.vice", "quality.mean"}
    assert QUALITIES[name].meaning in own["iou"][1]
    # Faithfulness knows no object: it leaves the quadrants to the IoU, and says so.
    assert ("those of the IoU" in own["quadrant"][1]) == (name in ("insertion", "deletion", "road"))


def test_images_are_read_one_by_one_strongest_first_while_the_page_is_written(tmp_path: Path) -> None:
    made = scenes(12)
    samples = table_of(made)
    model, sizes, order = shown(samples), [], []
    noise = np.random.default_rng(0).integers(0, 255, (200, 260, 3)).astype(np.uint8)  # some 30 kB

    def reader(image_id: str) -> object:
        order.append(image_id)
        sizes.append(next(tmp_path.glob(".report*.part.html")).stat().st_size)
        return noise, None

    write_page(tmp_path / "report.html", model, reader, most_cases=9)
    expected = [model.cases.image_id[row] for row in order_by_strength([model.cases])][:9]
    assert order == expected
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0] > 0  # what is read is written before the next is asked for
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_pictures_and_outlines_share_the_room_of_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (300, 400, 3)).astype(np.uint8)
    blocks = np.kron(rng.choice([0, 1, 2, 255], (20, 26)), np.ones((15, 15), int))[:300, :400].astype(np.uint8)
    monkeypatch.setattr("torchvice.report.page.page.ROOM", 12 * 9_000)
    sizes = []
    for mask in (None, blocks):
        file = write_page(tmp_path / "r.html", shown(table_of(scenes(12))), lambda name, mask=mask: (noise, mask))
        cases = [json.loads(c) for c in re.findall(r'id="c\d+">(.*?)</script>', file.read_text(encoding="utf-8"))]
        drawn = [len(c["p"]) + len(c.get("v", "")) + sum(map(len, c.get("o", {}).values())) for c in cases]
        assert max(drawn) <= 4 / 3 * 9_000 + 100
        sizes.append(min(len(c["p"]) for c in cases))
    assert sizes[1] < sizes[0]


def test_a_page_that_fails_leaves_nothing_and_a_missing_image_is_no_failure(tmp_path: Path) -> None:
    made = scenes(6)
    model = shown(table_of(made))

    def broken(image_id: str) -> None:
        raise ViceError("The image is damaged.")

    with pytest.raises(ViceError, match="damaged"):
        write_page(tmp_path / "report.html", model, broken)
    assert list(tmp_path.iterdir()) == []
    file = write_page(tmp_path / "report.html", model, lambda image_id: None)
    assert "data:image" not in file.read_text(encoding="utf-8")


def test_without_a_reader_the_file_holds_no_picture_and_no_outline(tmp_path: Path) -> None:
    made = scenes(12)
    with_pixels, _ = page_of(tmp_path / "a")
    without = write_page(tmp_path / "b.html", shown(table_of(made)), None)
    assert "data:image" in with_pixels.read_text(encoding="utf-8")
    text = without.read_text(encoding="utf-8")
    assert "data:image" not in text
    cases = [json.loads(block) for block in re.findall(r'id="c\d+">(.*?)</script>', text)]
    assert len(cases) == 12
    assert all(set(case) == {"m", "q"} for case in cases)


def test_json_in_the_page_cannot_end_its_script() -> None:
    text = embedded({"name": "</script><!-- & \u2028 猫 🐈 \udc80"})
    assert text.isascii()
    assert not set(text) & set("<>&")
    assert json.loads(text) == {"name": "</script><!-- & \u2028 猫 🐈 \udc80"}


def test_the_colours_of_maps_are_matplotlibs_inferno() -> None:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    assert [to_hex(colormaps["inferno"](place / 16)) for place in range(17)] == list(HEAT)


def test_every_script_is_free_of_what_would_end_it_or_reach_out() -> None:
    folder = Path(__file__).parents[2] / "src" / "torchvice" / "report" / "templates"
    for file in folder.glob("*.js"):
        text = file.read_text(encoding="utf-8")
        assert "</script" not in text, file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|XMLHttp", text), (
            file.name
        )
    assert "http" not in (folder / "page.css").read_text(encoding="utf-8")


def schemes() -> dict[str, dict[str, str]]:
    """The colours of page.css: {scheme: {name: #rrggbb}}; dark is said twice, and must be the same."""
    folder = Path(__file__).parents[2] / "src" / "torchvice" / "report" / "templates"
    css = (folder / "page.css").read_text(encoding="utf-8")
    blocks = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root[^{]*\{([^}]*)\}", css)
    ]
    assert blocks[1] == blocks[2]
    return {"light": blocks[0], "dark": blocks[1]}


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21, as WCAG 2 defines it."""
    lights = []
    for colour in (one, other):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        lights.append(float(np.dot([0.2126, 0.7152, 0.0722], linear)))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out_from_their_ground(scheme: str) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # just below what text needs
    colours = schemes()[scheme]
    text = [(ink, ground) for ink in ("ink", "muted") for ground in ("ground", "panel")]
    text += [("blue", "ground"), ("brown", "ground")]  # links, pressed buttons, axes of the VICE diagram
    for ink, ground in text:
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for mark in ("red", "brown", "blue", "grey", "focus"):  # the scatter's marks, and what has the focus
        assert contrast(colours[mark], colours["ground"]) >= 3, mark
