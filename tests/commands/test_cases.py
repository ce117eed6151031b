"""A case: the right image, the right map and the right words, or a sentence on why there is none."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import torchvice
from tables import Scene, scenes, table_of
from torchvice.commands.cases import case_of
from torchvice.commands.draw import draw_cases
from torchvice.errors import ViceError
from torchvice.measures import true_pairs
from torchvice.report import Case


@dataclass
class Record:
    image_id: str


class Made:
    """The dataset of the scenes: grey images whose brightness is the image's place in the list."""

    classes = ("cat", "dog", "bus")

    def __init__(self, made: list[Scene]) -> None:
        self.scenes = made
        self.records = [Record(scene.image_id) for scene in made]
        self.targets = np.array([scene.targets for scene in made], np.uint8)

    def image(self, index: int) -> np.ndarray:
        return np.full((3, 4, 3), index, np.uint8)

    def mask(self, index: int) -> np.ndarray | None:
        mask = self.scenes[index].mask
        return None if mask is None else np.array(mask, np.uint8)


SCENES = scenes(12, seed=3)
SAMPLES, DATASET = table_of(SCENES), Made(SCENES)


def test_a_case_has_the_image_map_mask_and_words_of_its_pair() -> None:
    pairs = true_pairs(SAMPLES)
    assert len(pairs) > 5
    for row in range(len(pairs)):
        image_id, c = str(pairs.image_id[row]), int(pairs.class_index[row])
        index = [scene.image_id for scene in SCENES].index(image_id)
        scene = SCENES[index]
        case = case_of(SAMPLES, DATASET, image_id, c + 1)
        assert (case.image == index).all()
        np.testing.assert_array_equal(case.mask, scene.mask)
        plane = np.array(scene.maps["strict"][c], np.float32)
        np.testing.assert_allclose(case.map, plane / plane.max() if plane.any() else plane, atol=1e-3)
        assert case.iou == pairs.quality[row]
        assert case.class_name == Made.classes[c]
        assert case.confidence == pytest.approx(1 / (1 + np.exp(-scene.logits["strict"][c])), abs=1e-6)
        assert case.labels == tuple(Made.classes[k] for k in scene.true())
        assert case.prediction == tuple(Made.classes[k] for k in range(3) if scene.logits["strict"][k] > 0)


def test_a_name_and_a_value_are_the_same_label() -> None:
    scene = SCENES[0]
    c = scene.true()[0]
    named = case_of(SAMPLES, DATASET, scene.image_id, Made.classes[c])
    np.testing.assert_array_equal(named.map, case_of(SAMPLES, DATASET, scene.image_id, c + 1).map)


def test_exclusive_targets_predict_one_class_by_softmax() -> None:
    one = [Scene(s.image_id, (1, 0, 0), s.mask, s.logits, {n: {0: next(iter(m.values()))} for n, m in s.maps.items()})
           for s in SCENES[:6]]  # fmt: skip
    samples = table_of(one, targets="exclusive")
    case = case_of(samples, Made(one), one[0].image_id, "cat")
    z = np.array(one[0].logits["strict"])
    assert case.prediction == (Made.classes[int(z.argmax())],)
    assert case.confidence == pytest.approx(np.exp(z[0]) / np.exp(z).sum(), abs=1e-6)


def test_the_figure_is_drawn_and_fits_into_axes() -> None:
    scene = SCENES[0]
    label = scene.true()[0] + 1
    figure = torchvice.show_case(SAMPLES, DATASET, scene.image_id, label)
    assert any(scene.image_id in text.get_text() for text in figure.texts)
    whole = Figure(figsize=(6, 4))
    axes = whole.subplots()
    assert torchvice.show_case(SAMPLES, DATASET, scene.image_id, label, axes=axes) is whole
    assert any(scene.image_id in text.get_text() for text in axes.texts)


@pytest.mark.parametrize(
    ("image_id", "label", "said"),
    [
        ("nobody", 1, "`image_id` must be an image of the dataset"),
        (SCENES[0].image_id, "cta", "Did you mean `cat`?"),
        (SCENES[0].image_id, 4, "1 to 3"),
        (SCENES[-1].image_id, 1, "images without a mask are not explained"),
    ],
)
def test_what_is_not_there_is_said(image_id: str, label: str | int, said: str) -> None:
    with pytest.raises(ViceError, match=said):
        case_of(SAMPLES, DATASET, image_id, label)


def test_a_label_without_a_map_names_those_that_have_one() -> None:
    scene = next(s for s in SCENES if s.mask is not None and len(s.true()) < 3)
    absent = next(c for c in range(3) if c not in scene.true())
    with pytest.raises(ViceError, match=f"It has maps of: {Made.classes[scene.true()[0]]}"):
        case_of(SAMPLES, DATASET, scene.image_id, absent + 1)


def test_a_table_without_strict_has_no_cases() -> None:
    with pytest.raises(ViceError, match="not assessed under `strict`, only under `paper`"):
        case_of(table_of(SCENES, ("paper",)), DATASET, SCENES[0].image_id, 1)


def test_an_image_of_another_split_is_not_taken_for_one_without_a_mask() -> None:
    samples = table_of(SCENES[1:])
    with pytest.raises(ViceError, match=f"must be an image of the table, but is '{SCENES[0].image_id}'") as caught:
        case_of(samples, DATASET, SCENES[0].image_id, SCENES[0].true()[0] + 1)
    assert caught.value.way_out == "Open the split that the table was made of."


def test_an_unknown_image_of_a_large_dataset_does_not_bring_all_names() -> None:
    many = Made([dataclasses.replace(SCENES[0], image_id=f"n{number:05d}") for number in range(500)])
    with pytest.raises(ViceError, match="is 'qqq'") as caught:
        case_of(SAMPLES, many, "qqq", 1)
    assert caught.value.way_out == "It has 500 images, such as n00000, n00001, n00002."
    with pytest.raises(ViceError, match=r"Did you mean `n00007`\?"):
        case_of(SAMPLES, many, "n00007.jpg", 1)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_sheet_leaves_out_images_that_are_gone_or_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    drawn: list[list[Case]] = []
    monkeypatch.setattr("torchvice.report.cases.case_sheet", lambda cases, columns: drawn.append(cases))
    monkeypatch.setattr("torchvice.report.figures.save_figure", lambda figure, stem: [stem])
    told: list[str] = []
    draw_cases(SAMPLES, DATASET, tmp_path, tell=told.append)
    gone = drawn[0][0].image_id

    class Broken(Made):
        def image(self, index: int) -> np.ndarray:
            if self.records[index].image_id == gone:
                raise ViceError(f"The image {gone} is damaged.")
            return np.full((3, 4, 3), SCENES.index(self.scenes[index]), np.uint8)

    draw_cases(SAMPLES, Broken([s for s in SCENES if damaged or s.image_id != gone]), tmp_path, tell=told.append)
    whole, left = ([case.image_id for case in cases] for cases in drawn)
    assert left == [image_id for image_id in whole if image_id != gone]
    assert len(left) == len(whole) - 1
    assert told == [
        f"1 of the {len(whole)} cases are not drawn: their images or masks in the dataset are not those that the table "
        "was made of."
    ]
