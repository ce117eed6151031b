"""Backgrounds swapped and objects erased: pixels, labels, void, probabilities, seeds, and what a training refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from command import vice
from torchvice.config import Settings
from torchvice.config.sections import RegularisationSettings
from torchvice.data import open_dataset
from torchvice.errors import ViceError
from torchvice.training.repairing import MARGIN, RepairedImages, erase_class, paste_objects, remove_objects
from torchvice.training.run import train

Make = Callable[..., Settings]


class Arrays:
    """A dataset in memory."""

    def __init__(self, images: list[np.ndarray], masks: list[np.ndarray | None], targets: np.ndarray) -> None:
        self.images, self.masks, self.targets = images, masks, targets
        self.classes = tuple(f"class {c}" for c in range(targets.shape[1]))
        self.records = [SimpleNamespace(image_id=str(i)) for i in range(len(images))]

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def mask(self, index: int) -> np.ndarray | None:
        return self.masks[index]


def flat(value: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def pair() -> tuple[np.ndarray, np.ndarray]:
    """Background 10; class 0 (200) at rows 10-14, columns 4-8 with a void rim (150); class 1 (90) at columns 30-34."""
    image, mask = flat(10), np.zeros((30, 40), dtype=np.uint8)
    image[9:16, 3:10], mask[9:16, 3:10] = 150, 255
    image[10:15, 4:9], mask[10:15, 4:9] = 200, 1
    image[10:15, 30:35], mask[10:15, 30:35] = 90, 2
    return image, mask


def two() -> Arrays:
    """The pair, and an image of 60 with an object of class 2 (250) in its corner."""
    image, mask = pair()
    other, corner = flat(60), np.zeros((30, 40), dtype=np.uint8)
    other[:6, :6], corner[:6, :6] = 250, 3
    return Arrays([image, other], [mask, corner], np.array([[1, 1, 0], [0, 0, 1]], dtype=np.uint8))


def repaired(data: Arrays, **settings: float) -> RepairedImages:
    return RepairedImages(data, lambda image: torch.from_numpy(image.copy()), RegularisationSettings(**settings))


def test_objects_and_their_void_rims_are_pasted_on_the_other_background() -> None:
    image, mask = pair()
    pasted = paste_objects(image, mask, flat(60))
    assert (pasted[mask == 0] == 60).all()
    assert (pasted[mask != 0] == image[mask != 0]).all()  # 200, 150 and 90
    assert (paste_objects(image, mask, flat(60, 7, 90)) == pasted).all()  # the background is resized


def test_a_background_has_lost_its_objects_and_keeps_its_pixels() -> None:
    image, mask = pair()
    image[:, :, 1] += np.arange(40, dtype=np.uint8)  # so that kept pixels can be told from filled ones
    background = remove_objects(image, mask)
    assert background is not None
    far = np.ones_like(mask, dtype=bool)
    far[9 - MARGIN : 16 + MARGIN, :15] = False
    far[10 - MARGIN : 15 + MARGIN, 30 - MARGIN :] = False
    assert (background[far] == image[far]).all()
    assert (background[:, :, 0] == 10).all()  # nothing of 200, 150 or 90 is left
    assert background[~far][:, 1].min() >= 10
    assert background[~far][:, 1].max() <= 49
    assert remove_objects(flat(9), np.full((30, 40), 255, np.uint8)) is None


def test_a_hole_is_filled_smoothly_from_around_it() -> None:
    """A constant stays constant; between 0 on the left and 100 on the right the filling rises."""
    image, mask = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    image[:, 16:] = 100
    mask[12:20, 12:20], image[12:20, 12:20] = 1, 255
    erased = erase_class(image, mask, 1)
    assert erased is not None
    row = erased[0][16, :, 0].astype(int)
    assert row[:7].tolist() == [0] * 7  # 12 - MARGIN
    assert row[25:].tolist() == [100] * 7
    assert (np.diff(row) >= 0).all()
    assert 0 < row[15] <= row[16] < 100


def test_one_class_is_erased_with_its_rim_and_the_other_stays() -> None:
    image, mask = pair()
    kept = image.copy(), mask.copy()
    erased = erase_class(image, mask, 1)
    assert erased is not None
    assert (image == kept[0]).all()  # inputs are not written to
    assert (mask == kept[1]).all()
    assert (erased[0][:, :25] == 10).all()
    assert (erased[0][:, 25:] == image[:, 25:]).all()
    assert set(np.unique(erased[1]).tolist()) == {0, 2}


def test_the_margin_never_reaches_into_another_object() -> None:
    image, mask = flat(10), np.zeros((30, 40), dtype=np.uint8)
    image[10:20, 10:20], mask[10:20, 10:20] = 200, 1
    image[10:20, 20:30], mask[10:20, 20:30] = 90, 2  # touches
    mask[10:20, 30], image[10:20, 30] = 255, 70  # rim of the second: within MARGIN of it
    mask[0:3, 37:], image[0:3, 37:] = 255, 200  # void far from both, such as a crowd of the first
    erased = erase_class(image, mask, 1)
    assert erased is not None
    assert (erased[0][mask == 2] == 90).all()
    assert (erased[0][10:20, 30] == 70).all()
    assert (erased[0][mask == 1] == 10).all()
    assert (erased[0][0:3, 37:] == 10).all()  # it may hide the class: gone with the label
    assert (erased[1][0:3, 37:] == 0).all()


def test_an_object_without_background_around_it_stays_with_its_label() -> None:
    assert erase_class(flat(9), np.ones((30, 40), np.uint8), 1) is None
    whole = np.ones((30, 40), np.uint8)
    whole[:, 20:] = 2
    erased = erase_class(np.where(whole[..., None] == 1, flat(9), flat(80)), whole, 1)
    assert erased is not None  # filled from the other object, as there is no background
    assert (erased[0] == 80).all()
    data = Arrays([flat(9)] * 2, [np.ones((30, 40), np.uint8)] * 2, np.ones((2, 1), np.uint8))
    kept, targets = repaired(data, erase_object=1, swap_background=1)[0]
    assert (kept == 9).all()
    assert targets.tolist() == [1]


def test_at_probability_one_every_background_is_swapped_and_labels_stay() -> None:
    data = two()
    pixels, targets = repaired(data, swap_background=1)[0]
    mask = data.masks[0]
    assert mask is not None
    assert targets.tolist() == [1, 1, 0]
    assert (pixels.numpy()[mask == 0] == 60).all()  # without the object (250) of the second image
    assert (pixels.numpy()[mask != 0] == data.images[0][mask != 0]).all()
    pixels, targets = repaired(data, swap_background=1)[1]
    assert targets.tolist() == [0, 0, 1]
    assert np.unique(pixels).tolist() == [10, 250]


def test_at_probability_one_one_label_goes_with_its_object() -> None:
    images, gone = repaired(two(), erase_object=1), set()
    for seed in range(12):
        torch.manual_seed(seed)
        pixels, targets = images[0]
        assert targets.sum() == 1
        c = int(targets.argmax())
        gone.add(1 - c)
        values = set(np.unique(pixels).tolist())
        assert values == ({10, 150, 200} if c == 0 else {10, 90})
    assert gone == {0, 1}  # drawn at random
    assert images.targets.tolist() == [[1, 1, 0], [0, 0, 1]]  # the dataset's own are not written to


def test_with_both_the_rest_lies_on_the_other_background() -> None:
    images = repaired(two(), erase_object=1, swap_background=1)
    for seed in range(4):
        torch.manual_seed(seed)
        pixels, targets = images[0]
        assert set(np.unique(pixels).tolist()) == ({60, 150, 200} if targets[0] else {60, 90})
    pixels, targets = images[1]  # its only object is gone: nothing is left to paste
    assert (pixels == 60).all()
    assert targets.tolist() == [0, 0, 0]


def test_at_probability_zero_nothing_changes_and_nothing_is_drawn() -> None:
    data = two()
    pixels, targets = repaired(data)[0]
    assert (pixels.numpy() == data.images[0]).all()
    assert targets.tolist() == [1, 1, 0]


def test_images_without_objects_labels_without_pixels_and_images_without_masks_stay() -> None:
    empty = np.zeros((30, 40), np.uint8)
    image, mask = pair()
    crowd = np.where(mask == 2, 255, mask).astype(np.uint8)  # the second label is void only
    data = Arrays(
        [flat(33), image, image, flat(44)],
        [empty, crowd, None, empty],
        np.array([[0, 0], [1, 1], [1, 1], [0, 0]], dtype=np.uint8),
    )
    images = repaired(data, swap_background=1, erase_object=1)
    for index in range(4):
        for seed in range(5):
            torch.manual_seed(seed)
            pixels, targets = images[index]
            assert (pixels.numpy() == data.images[index]).all()
            assert targets.tolist() == data.targets[index].tolist()


def test_backgrounds_are_those_of_images_whose_labels_all_have_pixels() -> None:
    image, mask = pair()
    empty = np.zeros((30, 40), np.uint8)
    targets = np.array([[1, 1], [1, 0], [0, 0], [1, 0]], dtype=np.uint8)  # 1: its label has no pixel; 3: no mask
    images = repaired(
        Arrays([image, flat(70), flat(80), flat(90)], [mask, empty, empty, None], targets), swap_background=1
    )
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        seen.add(int(images[0][0][0, 0, 0]))
    assert seen <= {80, 10}  # 10: none of TRIES draws had one
    assert 80 in seen


def test_probabilities_are_kept_and_the_seed_decides() -> None:
    images = repaired(two(), swap_background=0.5, erase_object=0.2)

    def drawn() -> list[tuple[int, int]]:
        torch.manual_seed(3)
        items = [images[0] for _ in range(400)]
        return [(int(pixels[0, 20, 0]), int(targets.sum())) for pixels, targets in items]

    items = drawn()
    assert items == drawn()
    assert abs(sum(background == 60 for background, _ in items) - 200) < 40  # four standard errors of 10
    assert abs(sum(labels == 1 for _, labels in items) - 80) < 32  # of 8


def test_workers_are_seeded_and_do_not_repeat_one_another() -> None:
    data = two()
    many = Arrays(data.images * 32, data.masks * 32, np.tile(data.targets, (32, 1)))
    images = repaired(many, erase_object=0.5)
    images.transform = _pixels

    def epoch(seed: int) -> list[list[float]]:
        torch.manual_seed(seed)
        loader: Any = DataLoader(images, batch_size=4, num_workers=2, generator=torch.Generator().manual_seed(seed))
        return [targets.flatten().tolist() for _, targets in loader]

    first = epoch(1)
    assert first == epoch(1)
    assert first != epoch(2)
    assert first[0::2] != first[1::2]


def _pixels(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy())


# ---- in a training


def test_a_training_sees_swapped_images_and_resumes_exactly(settings: Make, colours: Path) -> None:
    repair = ("regularisation.swap_background=0.5", "regularisation.erase_object=0.3")
    run = train(settings("session_name=one", *repair, "trainer.epochs=2"), progress=False)
    weights = {"one": run.model("last").state_dict()}
    train(settings("session_name=parts", *repair), progress=False)
    run = train(settings("session_name=parts", *repair, "trainer.epochs=2"), resume=True, progress=False)
    weights["parts"] = run.model("last").state_dict()
    assert all(torch.equal(value, weights["parts"][key]) for key, value in weights["one"].items())
    plain = train(settings("session_name=plain", "trainer.epochs=2"), progress=False).model("last").state_dict()
    assert not all(torch.equal(value, plain[key]) for key, value in weights["one"].items())
    with pytest.raises(ViceError, match="was None and is 'SegmentationClass', and images are repaired"):
        train(settings("session_name=parts", *repair, "data.masks=SegmentationClass"), resume=True, progress=False)


def test_exclusive_classes_swap_and_do_not_erase(settings: Make, one_colour: Path) -> None:
    exclusive = ("data.exclusive=true", f"data.root={one_colour}")
    train(settings(*exclusive, "regularisation.swap_background=1"), progress=False)
    with pytest.raises(ViceError, match=r"`regularisation\.erase_object` must be 0 with exclusive classes") as caught:
        train(settings(*exclusive, "regularisation.erase_object=0.2", "session_name=b"), progress=False)
    assert "swap_background" in caught.value.way_out
    assert not (Path(settings().work_dir) / "b").exists()


def test_data_without_masks_is_one_sentence(
    settings: Make, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(colours, bare)
    shutil.rmtree(bare / "VOC2012/SegmentationClass")
    overrides = [f"data.root={bare}", f"work_dir={tmp_path}", "regularisation.swap_background=0.5"]
    status, _, message = vice(capsys, "train", "demo", *(part for each in overrides for part in ("-o", each)))
    assert status == 2
    assert (
        "`regularisation.swap_background` needs masks of the training images, but no image of train has one" in message
    )
    assert "Traceback" not in message
    assert not (tmp_path / "demo").exists()


def test_some_missing_masks_are_counted(
    settings: Make, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = tmp_path / "some"
    shutil.copytree(colours, some)
    for index in range(5):
        (some / f"VOC2012/SegmentationClass/train_{index:03d}.png").unlink()
    assert open_dataset(some, "train").masks_missing == 5
    train(settings(f"data.root={some}", "regularisation.erase_object=0.5"))
    assert "5 of 41 training images have no mask and stay unchanged (erase_object)." in capsys.readouterr().err
