"""Items, arrays, transforms and settings: what each refusal's way out says is done, and works."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from bare_files import SIZE, drawn, write_image
from following import followed
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset
from torchvision import transforms as tv

from torchvice.data import from_items, read_image
from torchvice.data.filling import InterventionChoices
from torchvice.data.pixels import image_pixels, mask_pixels
from torchvice.data.probing import refuse_random, shown_by, transformed
from torchvice.data.transforms import TrainTransform, ValidationTransform, normalise
from torchvice.data.warping import checked_pixels, warp
from ways_out import tried


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def pairs(count: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(picture(seed), drawn()) for seed in range(count)]


CLASSES = ["cat", "dog"]


# items.py


class Numbers:
    """Gives an item for a name, as a folder of a table does."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, name: str) -> np.ndarray:
        return {"first": picture()}[name]


@pytest.mark.parametrize(
    "wrong",
    [Numbers(), 5, "photos.zip", [(picture(), drawn(), 1)], [picture()]],
    ids=["names", "number", "text", "three", "image"],
)
@pytest.mark.parametrize("form", ["pair", "dictionary"])
def test_items_get_the_form_that_the_way_out_gives(wrong: Any, form: str) -> None:
    def right(keys: str, needed: str) -> Any:
        names = re.findall(r"\w+", keys.replace(" and ", " "))
        assert needed == "image"
        given = [(image, mask, "cat", f"i{place}") for place, (image, mask) in enumerate(pairs())]
        return from_items([dict(zip(names, one, strict=True)) for one in given], classes=["cat"])

    if form == "pair":
        dataset = tried(lambda: from_items(wrong), "An item is (image, mask)", lambda: from_items(pairs()))
    else:
        pattern = r"or a dictionary with (.+?), of which (\w+) is needed"
        dataset = followed(lambda: from_items(wrong), pattern, right)
        assert [record.image_id for record in dataset.records] == ["i0", "i1", "i2"]
    assert dataset.targets.tolist() == [[1]] * 3


def test_an_empty_dataset_gets_another_filter() -> None:
    def filtered(name: str) -> Any:
        return from_items([pair for pair, own in zip(pairs(), ("cat", "cat", "dog"), strict=True) if own == name])

    assert len(tried(lambda: filtered("Cat"), "Look at its path and its filter", lambda: filtered("cat"))) == 2


def test_a_dictionary_of_splits_is_given_by_one_of_them() -> None:
    dataset: Mapping[str, Any] = {"train": pairs(), "test": pairs(1)}
    found = followed(
        lambda: from_items(dataset),
        r"such as dataset\[(.+?)\]",
        lambda split: from_items(dataset[ast.literal_eval(split)]),
    )
    assert len(found) == 3


@pytest.mark.parametrize(("part", "key"), [("mask", "truth"), ("labels", "y")])
def test_other_keys_of_masks_and_labels_are_said(part: str, key: str) -> None:
    items = [{"image": image, key: mask if part == "mask" else "cat"} for image, mask in pairs()]
    dataset = followed(
        lambda: from_items(items, classes=["cat"]),
        rf"Other keys: torchvice\.data\.from_items\(\.\.\., (keys)=.*'({part})': \.\.\.",
        lambda argument, name: from_items(items, classes=["cat"], **{argument: {name: key}}),
    )
    assert dataset.targets.tolist() == [[1]] * 3


class WithClasses(list[Any]):
    """Items with classes, as torchvision's datasets are."""

    classes = ("cat", "dog")


def test_classes_that_a_dataset_has_are_left_out() -> None:
    items = WithClasses([(picture(), 0), (picture(1), 1)])
    dataset = tried(
        lambda: from_items(items, classes=["dog", "cat"]),
        "Leave out classes: the dataset has them",
        lambda: from_items(items),
    )
    assert dataset.classes == ("cat", "dog")


def test_classes_of_labels_are_given() -> None:
    items = [(picture(), 0), (picture(1), 1)]
    dataset = followed(
        lambda: from_items(items), r"Give (\w+)=\[\.\.\.\]", lambda name: from_items(items, **{name: CLASSES})
    )
    assert dataset.targets.tolist() == [[1, 0], [0, 1]]


class Stream(IterableDataset[Any]):
    """Items without an index."""

    def __iter__(self) -> Iterator[Any]:
        return iter({"image": image, "mask": mask, "labels": "cat"} for image, mask in pairs(4))


def test_a_collate_function_keeps_one_entry_an_image() -> None:
    def together(batch: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: [item[name] for item in batch] for name in batch[0]}

    def cut(batch: list[dict[str, Any]]) -> dict[str, Any]:
        return {**together(batch), "labels": ["cat"]}

    def opened(collate: Callable[..., Any]) -> Any:
        return from_items(DataLoader(Stream(), batch_size=2, collate_fn=collate), classes=["cat"])

    said = "Let the collate function keep one entry an image"
    assert len(tried(lambda: opened(cut), said, lambda: opened(together))) == 4


def test_a_name_of_keys_that_was_meant_is_given() -> None:
    items = [{"image": image, "truth": mask} for image, mask in pairs()]
    dataset = followed(
        lambda: from_items(items, keys={"masks": "truth"}),
        "Did you mean `(.+?)`",
        lambda name: from_items(items, keys={name: "truth"}),
    )
    assert dataset.classes == ("object",)


def test_the_key_of_images_is_said() -> None:
    items = [{"photo": image, "mask": mask} for image, mask in pairs()]
    dataset = followed(
        lambda: from_items(items),
        r"torchvice\.data\.from_items\(\.\.\., (keys)={'(image)': \.\.\.}\)",
        lambda argument, name: from_items(items, **{argument: {name: "photo"}}),
    )
    assert len(dataset) == 3


def test_a_key_that_was_meant_is_given() -> None:
    items = [{"image": image, "truth": mask} for image, mask in pairs()]
    dataset = followed(
        lambda: from_items(items, keys={"mask": "truths"}),
        "Did you mean `(.+?)`",
        lambda key: from_items(items, keys={"mask": key}),
    )
    assert len(dataset) == 3


def test_one_of_two_keys_is_chosen() -> None:
    items = [{"image": image, "mask": mask, "segmentation": mask} for image, mask in pairs()]
    dataset = followed(
        lambda: from_items(items),
        r"from_items\(\.\.\., keys=({.+?})\)",
        lambda keys: from_items(items, keys=ast.literal_eval(keys)),
    )
    assert len(dataset) == 3


class Broken(list[Any]):
    """Items of which one cannot be read until it is mended."""

    mended = False

    def __getitem__(self, index: Any) -> Any:
        if index == 1 and not self.mended:
            raise OSError("the file of cat 1 is gone")
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))


def test_an_item_that_fails_is_tried_by_itself() -> None:
    dataset = Broken(pairs())

    def right(code: str) -> Any:
        with pytest.raises(OSError, match="cat 1 is gone"):
            eval(code, {"dataset": dataset})
        dataset.mended = True
        return from_items(dataset)

    assert len(followed(lambda: from_items(dataset), r"Try (dataset\[\d\])", right)) == 3


def test_items_that_fail_are_gone_through_by_themselves() -> None:
    dataset = Broken(pairs())

    class Once:
        def __iter__(self) -> Iterator[Any]:
            return iter(dataset)

    def right(code: str) -> Any:
        with pytest.raises(OSError, match="cat 1 is gone"):
            eval(code, {"dataset": Once()})
        dataset.mended = True
        return from_items(Once())

    pattern = r"Go through it by itself first: (list\(dataset\))"
    assert len(followed(lambda: from_items(Once()), pattern, right)) == 3


# item_labels.py


def test_a_label_that_was_meant_is_given() -> None:
    def opened(name: str) -> Any:
        return from_items([(picture(), "cat"), (picture(1), name)], classes=CLASSES)

    dataset = followed(lambda: opened("dogs"), "Did you mean `(.+?)`", opened)
    assert dataset.targets.tolist() == [[1, 0], [0, 1]]


def test_labels_of_another_form_get_a_name_of_the_classes() -> None:
    def opened(label: Any) -> Any:
        return from_items([(picture(), "cat"), (picture(1), label)], classes=CLASSES)

    dataset = followed(lambda: opened(5), r"Classes: \w+, (\w+)\.", opened)
    assert dataset.targets.tolist() == [[1, 0], [0, 1]]


# pixels.py


@pytest.mark.parametrize(("bits", "mode"), [(16, "I;16"), (8, "F")])
def test_a_deep_image_is_given_as_the_way_out_writes(bits: int, mode: str) -> None:
    grey = picture()[..., 0]
    image = Image.fromarray(grey.astype(np.uint16) * 257 if bits == 16 else grey.astype(np.float32))
    assert image.mode == mode

    def right(deep: str, shallow: str) -> np.ndarray:
        made = eval(deep if bits == 16 else deep.replace("/ 65535", shallow), {"np": np, "image": image})
        return image_pixels(made, "The image")

    pattern = r"Give an array of 0 to 1: (np\.asarray\(image\) / 65535) of 16 bits, or (/ 255) of values of 0 to 255"
    np.testing.assert_array_equal(followed(lambda: image_pixels(image, "The image"), pattern, right)[..., 0], grey)


def test_the_path_of_an_image_is_opened_first(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png")

    def right(code: str) -> np.ndarray:
        return image_pixels(eval(code, {"PIL": PIL, "path": path}), "The image")

    pattern = r"Open files first: (PIL\.Image\.open\(path\))"
    for given in (str(path), path):
        found = followed(lambda given=given: image_pixels(given, "The image"), pattern, right)
        np.testing.assert_array_equal(found, read_image(path))


def test_an_image_with_nan_is_given_without() -> None:
    image = picture() / 255

    def divided(by: float) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return image_pixels(image * by / by, "The image")

    said = "Look for what made them: an image without them is needed"
    np.testing.assert_array_equal(tried(lambda: divided(0), said, lambda: divided(1)), picture())


@pytest.mark.parametrize(
    ("wrong", "pattern"),
    [
        (lambda: picture() / 255 * 1.2 - 0.1, r"Clip it: (image\.clip\(0, 1\))"),
        (lambda: picture().astype(float), r"or give integers: (image\.astype\('uint8'\))"),
        (lambda: picture().astype(np.uint16) * 257, r"such as (image / 65535) for 16 bits"),
        (lambda: picture().astype(np.uint16) * 16, r"or (image / 4095) for 12"),
    ],
)
def test_an_image_is_brought_into_the_range_as_the_way_out_writes(wrong: Callable[[], Any], pattern: str) -> None:
    image = wrong()

    def right(code: str) -> np.ndarray:
        return image_pixels(eval(code, {"image": image}), "The image")

    found = followed(lambda: image_pixels(image, "The image"), pattern, right)
    assert np.abs(found.astype(int) - picture()).max() <= 30


def test_an_image_of_bytes_in_floats_is_divided() -> None:
    image = picture().astype(float)
    found = followed(
        lambda: image_pixels(image, "The image"),
        r"Divide it by (\d+)",
        lambda number: image_pixels(image / int(number), "The image"),
    )
    np.testing.assert_array_equal(found, picture())


def test_the_normalisation_of_an_image_is_left_out() -> None:
    def given(normalised: bool) -> np.ndarray:
        tensor = tv.ToTensor()(Image.fromarray(picture()))
        if normalised:
            tensor = tv.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(tensor)
        return image_pixels(tensor, "The image")

    found = tried(lambda: given(True), "Leave out the normalisation", lambda: given(False))
    np.testing.assert_array_equal(found, picture())


def test_an_image_of_signed_integers_is_added_to_and_scaled() -> None:
    image = picture().astype(np.int16) * 100 - 12800
    said = "Bring it to 0 to 255: add and scale by the range of its format, the same for all images"
    right = tried(
        lambda: image_pixels(image, "The image"), said, lambda: image_pixels((image + 12800) // 100, "The image")
    )
    np.testing.assert_array_equal(right, picture())


def test_a_mask_in_colour_is_given_by_the_indices_of_its_palette() -> None:
    mask = Image.fromarray(drawn(1))
    mask.putpalette(bytes((0, 0, 0, 128, 0, 0)) + bytes(762))

    def right(code: str) -> np.ndarray:
        return mask_pixels(eval(code, {"np": np, "mask": mask}), "The mask")

    pattern = r"such as (np\.array\(mask\)) of a palette image"
    found = followed(lambda: mask_pixels(mask.convert("RGB"), "The mask"), pattern, right)
    np.testing.assert_array_equal(found, drawn(1))


def astype_of(mask: np.ndarray) -> np.ndarray:
    """The mask after the code of the way out."""
    return followed(
        lambda: mask_pixels(mask, "The mask"),
        r"one integer a pixel.*(mask\.[a-z]+\(.*?\))",
        lambda code: mask_pixels(eval(code, {"mask": mask}), "The mask"),
    )


@pytest.mark.parametrize("kind", [object, "U3"])
def test_a_mask_of_another_type_gets_integers(kind: Any) -> None:
    np.testing.assert_array_equal(astype_of(drawn(1).astype(kind)), drawn(1))


def test_a_mask_of_one_plane_a_class_gets_one_integer_a_pixel() -> None:
    planes = np.stack([drawn(1) == label for label in range(3)])
    np.testing.assert_array_equal(astype_of(planes), drawn(1))


def test_masks_of_to_tensor_are_given_by_pil_to_tensor_or_as_they_are() -> None:
    mask = Image.fromarray(drawn(1))
    wrong = tv.ToTensor()(mask)

    def right(name: str) -> np.ndarray:
        return mask_pixels(getattr(tv, name)()(mask), "The mask")

    found = followed(lambda: mask_pixels(wrong, "The mask"), r"use (\w+)\(\), or no transform", right)
    np.testing.assert_array_equal(found, drawn(1))
    found = tried(lambda: mask_pixels(wrong, "The mask"), "or no transform", lambda: mask_pixels(mask, "The mask"))
    np.testing.assert_array_equal(found, drawn(1))


# repeats.py


@pytest.mark.parametrize("said", ["crops", "flips", "colours"])
def test_random_transforms_are_left_out(said: str) -> None:
    rng = np.random.default_rng(0)
    change = {
        "crops": lambda image: image[: rng.integers(5, 8)],
        "flips": lambda image: image[:, :: rng.choice((-1, 1))],
        "colours": lambda image: (image * rng.uniform(0.5, 1)).astype(np.uint8),
    }[said]

    class Given(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            image, mask = super().__getitem__(index)
            return change(image), mask[: len(change(image))]

    dataset = tried(lambda: from_items(Given(pairs())), said, lambda: from_items(pairs()))
    np.testing.assert_array_equal(dataset.image(0), picture())


# probing.py

IMAGE = picture(0, (40, 60))


def shown(*steps: Any) -> Any:
    return shown_by(tv.Compose(list(steps)), (40, 60), "validation", tries=4)


SQUARE = (tv.Resize((16, 16)), tv.ToTensor())
NORMALISED = tv.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_transform_that_raises_is_called_by_itself() -> None:
    wrong = tv.Compose([tv.ToTensor(), tv.ToTensor()])

    def right() -> Any:
        with pytest.raises(TypeError, match="should be PIL Image or ndarray"):
            wrong(Image.fromarray(IMAGE))
        return transformed(tv.Compose(list(SQUARE)), IMAGE, "validation")

    said = "Call it with an image by itself first"
    assert tried(lambda: transformed(wrong, IMAGE, "validation"), said, right).shape == (3, 16, 16)


def test_a_function_that_makes_a_transform_is_called() -> None:
    def make() -> Any:
        return tv.Compose(list(SQUARE))

    def right(name: str, made: str) -> Any:
        assert (name, made) == ("transform", "make()")
        return transformed(make(), IMAGE, "FILE.py:transform")

    way_out = r"If it makes a transform, call it in the file: (\w+) = (make\(\)), and give FILE.py:transform"
    found = followed(lambda: transformed(make, IMAGE, "FILE.py:make"), way_out, right)
    assert found.shape == (3, 16, 16)


@pytest.mark.parametrize("wrong", [(), (tv.PILToTensor(),)])
def test_a_transform_ends_with_the_steps_of_the_way_out(wrong: tuple[Any, ...]) -> None:
    def right(first: str, second: str) -> Any:
        return shown(SQUARE[0], getattr(tv, first)(), getattr(tv, second)((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    found = followed(lambda: shown(SQUARE[0], *wrong), r"End it with (\w+)\(\) and (\w+)\(\.\.\.\)", right)
    assert found.mean == pytest.approx((0.485, 0.456, 0.406), abs=0.01)


def test_a_transform_makes_a_square_by_the_steps_of_the_way_out() -> None:
    def wrong() -> Any:
        return shown(tv.Resize(16), tv.ToTensor(), NORMALISED)

    cropped = followed(
        wrong,
        r"Add (\w+)\(S\)",
        lambda name: shown(tv.Resize(16), getattr(tv, name)(16), tv.ToTensor(), NORMALISED),
    )
    resized = followed(
        wrong,
        r"or resize both sides: (\w+)\(\(S, S\)\)",
        lambda name: shown(getattr(tv, name)((16, 16)), tv.ToTensor(), NORMALISED),
    )
    assert (cropped.side, resized.side) == (16, 16)


def test_a_random_transform_is_replaced_by_that_of_validation() -> None:
    torch.manual_seed(0)
    wrong = tv.Compose([tv.ColorJitter(0.9, 0.9), *SQUARE])
    right = tv.Compose(list(SQUARE))

    def twice(function: Any) -> Any:
        first, again = (transformed(function, IMAGE, "training") for _ in range(2))
        refuse_random(first, again, "training")
        return first

    said = "Give the one of validation, without Random... and ColorJitter"
    assert tried(lambda: twice(wrong), said, lambda: twice(right)).shape == (3, 16, 16)


def trimmed(image: Image.Image) -> Image.Image:
    """An image without its black border, so that its size depends on what it shows."""
    return image.crop(image.getbbox() or (0, 0, 8, 8)).resize((8, 8) if image.getbbox() is None else (16, 16))


def gamma(tensor: torch.Tensor) -> torch.Tensor:
    return tensor**2


@pytest.mark.parametrize(
    "wrong",
    [(trimmed, tv.ToTensor()), (*SQUARE, gamma), (tv.Resize((1, 1)), tv.ToTensor())],
    ids=["size", "values", "pixels"],
)
def test_a_transform_changes_values_as_the_steps_of_the_way_out_do(wrong: tuple[Any, ...]) -> None:
    def right(first: str, second: str) -> Any:
        return shown(SQUARE[0], getattr(tv, first)(), getattr(tv, second)((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    found = followed(lambda: shown(*wrong), r"such as (\w+) and (\w+) do: the same for every pixel", right)
    assert (found.side, found.std) == (16, pytest.approx((0.229, 0.224, 0.225), abs=0.01))


def mirrored(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flip(2)


def turned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(1, 2)


@pytest.mark.parametrize("step", [mirrored, turned])
def test_a_step_that_moves_the_image_is_left_out(step: Any) -> None:
    said = "Leave that step out: a map cannot be put back on the image"
    assert tried(lambda: shown(*SQUARE, step), said, lambda: shown(*SQUARE)).side == 16


# transforms.py


@pytest.mark.parametrize("name", ["mean", "std"])
def test_one_number_is_given_for_every_channel(name: str) -> None:
    given = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

    def right(*numbers: str) -> torch.Tensor:
        return normalise(picture(), **{**given, name: tuple(map(float, numbers))})

    found = followed(
        lambda: normalise(picture(), **{**given, name: given[name][:1]}),
        r"The same for all: ([\d.]+),([\d.]+),([\d.]+)\.$",
        right,
    )
    assert torch.equal(found, normalise(picture(), **given))


@pytest.mark.parametrize("kind", [TrainTransform, ValidationTransform])
def test_a_view_that_was_meant_is_given(kind: Any) -> None:
    made = followed(lambda: kind(16, view="resized-crop"), "Did you mean `(.+?)`", lambda view: kind(16, view=view))
    assert made(picture()).shape == (3, 16, 16)


@pytest.mark.parametrize("view", ["warp", "resized_crop"])
def test_a_resize_that_a_view_does_not_have_is_left_out(view: str) -> None:
    torch.manual_seed(0)
    made = tried(
        lambda: TrainTransform(16, resize=(8, 24), view=view), "Leave it out", lambda: TrainTransform(16, view=view)
    )
    assert made(picture()).shape == (3, 16, 16)


# warping.py


def test_an_image_of_another_form_is_read(tmp_path: Path) -> None:
    import torchvice.data

    path = write_image(tmp_path / "a.png")
    grey = np.asarray(Image.open(path).convert("L"))

    def right(name: str) -> np.ndarray:
        return checked_pixels(getattr(torchvice.data, name)(path))

    found = followed(lambda: checked_pixels(grey), r"Read it with torchvice\.data\.(\w+)\.", right)
    assert found.shape == (*SIZE, 3)


def test_a_mean_of_bytes_is_divided_as_the_way_out_writes() -> None:
    def right(mean: str, std: str) -> torch.Tensor:
        return normalise(picture(), *(tuple(map(float, text.split(","))) for text in (mean, std)))

    found = followed(
        lambda: normalise(picture(), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        r"Divide mean and std by 255: --mean (\S+) --std (\S+)\.$",
        right,
    )
    expected = normalise(picture(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.allclose(found, expected, atol=1e-3)


def test_an_interpolation_that_was_meant_is_given() -> None:
    made = followed(
        lambda: warp(picture(), 16, "bilinar"), "Did you mean `(.+?)`", lambda name: warp(picture(), 16, name)
    )
    np.testing.assert_array_equal(made, warp(picture(), 16, "bilinear"))


# filling.py


@pytest.mark.parametrize(("given", "pattern"), [(("objects",), "Did you mean `(.+?)`"), ((), r"Known: (\w+),")])
def test_a_treatment_that_was_meant_is_given(given: tuple[str, ...], pattern: str) -> None:
    made = followed(
        lambda: InterventionChoices(given), pattern, lambda name: InterventionChoices.parse([name, "filling=mean"])
    )
    assert made.treatments == ("object",)


def test_a_filling_that_was_meant_is_given() -> None:
    made = followed(
        lambda: InterventionChoices.parse(["filling=blurr"]),
        "Did you mean `(.+?)`",
        lambda name: InterventionChoices.parse([f"filling={name}"]),
    )
    assert made.filling == "blur"
