"""Each way out that the export to FiftyOne names, done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tables import scenes, table_of
from torchvice.fiftyone import write_fiftyone
from ways_out import tried


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a dataset of four scenes and the table of a model on it."""
    monkeypatch.chdir(tmp_path)
    made = scenes(4)
    voc = tmp_path / "data" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    for scene in made:
        Image.fromarray(np.full((60, 80, 3), 77, np.uint8)).save(voc / "JPEGImages" / f"{scene.image_id}.png")
        if scene.mask is not None:
            mask = np.kron(np.array(scene.mask), np.ones((20, 20))).astype(np.uint8)
            Image.fromarray(mask).save(voc / "SegmentationClass" / f"{scene.image_id}.png")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(scene.image_id for scene in made))
    np.save(tmp_path / "data" / "cls_labels.npy", {s.image_id: np.array(s.targets) for s in made}, allow_pickle=True)
    samples = table_of(made, dataset={"root": "data", "split": "val"})
    samples.images.height[:], samples.images.width[:] = 60, 80
    samples.save(tmp_path / "run")
    return tmp_path


def test_an_explanation_of_the_table_is_suggested(home: Path) -> None:
    found = tried(
        lambda: write_fiftyone("run", "out", explanations=["paper:cams"]),
        "Did you mean `paper:cam`?",
        lambda: write_fiftyone("run", "out", explanations=["paper:cam"]),
    )
    assert found == 4


def test_a_medium_is_suggested(home: Path) -> None:
    found = tried(
        lambda: write_fiftyone("run", "out", media="copies"),
        "Did you mean `copy`?",
        lambda: write_fiftyone("run", "out", media="copy"),
    )
    assert found == 4


def test_another_folder_is_given(home: Path) -> None:
    found = tried(
        lambda: write_fiftyone("run", "data"), "Give another folder.", lambda: write_fiftyone("run", "another")
    )
    assert found == 4


def test_the_command_runs_in_the_folder_of_the_assessment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "elsewhere").mkdir()

    def exported(folder: Path) -> int:
        monkeypatch.chdir(folder)
        return write_fiftyone(home / "run", home / "out")

    says = "Run the command in the folder where the assessment was started."
    assert tried(lambda: exported(home / "elsewhere"), says, lambda: exported(home)) == 4


def test_the_images_of_a_table_of_python_objects_are_saved_and_assessed(home: Path) -> None:
    table_of(scenes(4), dataset={"root": "", "split": None}).save(home / "objects")
    says = "Save the images as files and assess these"
    assert tried(lambda: write_fiftyone("objects", "out"), says, lambda: write_fiftyone("run", "out")) == 4
