"""The dataset that a folder of masks belongs to, wherever the folder lies in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchvice.commands.evaluate import Evaluation, evaluate
from torchvice.errors import ViceError
from torchvice.interop import write_legacy_maps

DESCRIPTION = "names: {cat: 1, dog: 2}\nvoid: 9\nmasks: labels/train\n"


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """Two images of two classes with void 9, masks in labels/train and labels/val, and perfect maps in npy."""
    for folder in ("labels/train", "labels/val", "npy"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a", "b"):
        mask = np.random.default_rng(ord(name)).choice([0, 1, 2, 9], (8, 9)).astype(np.uint8)
        for folder in ("train", "val"):
            Image.fromarray(mask).save(tmp_path / "labels" / folder / f"{name}.png")
        write_legacy_maps(tmp_path / "npy" / f"{name}.npy", [0, 1], np.stack([mask == 1, mask == 2]).astype(float))
    (tmp_path / "dataset.yaml").write_text(DESCRIPTION)
    return tmp_path


def evaluated(root: Path, masks: str = "labels/train", num_classes: int | None = None) -> Evaluation:
    return evaluate(["a", "b"], root / "npy", root / masks, num_classes=num_classes, workers=1)


@pytest.mark.parametrize("relative", [False, True])
def test_a_nested_folder_is_read_by_the_description_that_names_it(
    nested: Path, relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nested / "labels")
    found = evaluate(["a", "b"], nested / "npy", "train" if relative else nested / "labels" / "train", workers=1)
    assert found.classes == ("cat", "dog")
    assert found.best_mean_iou == pytest.approx(1, abs=1e-9)
    assert evaluated(nested, num_classes=2).best_mean_iou == pytest.approx(1, abs=1e-9)


def test_a_description_of_other_masks_is_not_passed_over(nested: Path) -> None:
    with pytest.raises(ViceError, match=r"The masks must be those of .*dataset\.yaml") as caught:
        evaluated(nested, "labels/val")
    assert "--classes" in str(caught.value.way_out)
    found = evaluated(nested, "labels/val", num_classes=9)  # the way out: values are labels
    assert (found.classes, found.images) == ((), 2)
    (nested / "dataset.yaml").write_text(DESCRIPTION.replace("train", "val"))
    assert evaluated(nested, "labels/val").best_mean_iou == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("where", ["labels", "."])
def test_the_search_ends_at_a_list_of_classes(nested: Path, where: str) -> None:
    (nested / "labels" / "val" / "inner").mkdir()
    for file in (nested / "labels" / "val").glob("*.png"):
        Image.fromarray(np.array(Image.open(file)) % 9).save(nested / "labels" / "val" / "inner" / file.name)
    (nested / where / "classes.txt").write_text("\n".join("abc"))
    assert len(evaluated(nested, "labels/val/inner").classes) == 20  # classes.txt counts next to the folder alone


def test_a_description_without_masks_and_one_of_another_kind_are_none_of_a_nested_folder(nested: Path) -> None:
    for text in ("names: [cat, dog]\n", "path: .\ntrain: images\nnc: 9\n", "- cat\n"):
        (nested / "dataset.yaml").write_text(text)
        assert len(evaluated(nested).classes) == 20
