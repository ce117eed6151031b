"""What `vice data check` says of tiny objects, rare classes, and objects that may lie under void."""

from pathlib import Path

import numpy as np
from PIL import Image

from torchvice.data.check import survey
from torchvice.data.survey_notes import rare_classes, tiny_objects
from torchvice.files import write_npy_dict


def test_tiny_objects_are_counted_and_the_smallest_is_named() -> None:
    regions = [("a", 0, 99, 100_000), ("b", 1, 100, 100_000), ("c", 1, 1, 5_000)]
    (said,) = tiny_objects(regions, ("cat", "dog"))
    assert said.startswith("2 of 3 objects cover less than 0.1% of their image, such as dog in `c` (1 pixel).")
    assert tiny_objects(regions[1:2], ("cat", "dog")) == ()


def test_rare_classes_of_large_splits_are_named() -> None:
    (said,) = rare_classes((100, 19, 0, 20), 120, ("a", "b", "c", "d"))
    assert said.startswith("Fewer than 20 images: b 19, c 0.")
    assert rare_classes((100, 19), 99, ("a", "b")) == rare_classes((20, 20), 100, ("a", "b")) == ()
    assert rare_classes(None, 120, ("a", "b")) == ()


def test_the_survey_says_them(tmp_path: Path) -> None:
    for folder in ("JPEGImages", "SegmentationClass"):
        (tmp_path / folder).mkdir()
    labels = {}
    for name in ("one", "two"):
        mask = np.zeros((60, 60), np.uint8)
        mask[0, 0:2] = 1
        mask[20:50, 20:50] = 255 if name == "two" else 2
        Image.fromarray(np.full((60, 60, 3), 99, np.uint8)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(mask).save(tmp_path / "SegmentationClass" / f"{name}.png")
        labels[name] = np.ones(2, np.float32)
    (tmp_path / "classes.txt").write_text("ring\nhand\n")
    (tmp_path / "val.txt").write_text("one\ntwo\n")
    write_npy_dict(tmp_path / "cls_labels.npy", labels)
    (found,) = survey(tmp_path)
    assert [problem.sentence for problem in found.disagreements] == [
        "`two` has in the labels only: hand. Void is 25% of its mask, and may hide objects."
    ]
    assert found.notes == (
        "2 of 3 objects cover less than 0.1% of their image, such as ring in `one` (2 pixels). Maps are coarser: their "
        "IoU says little.",
    )
