"""Python objects as datasets: pairs, dictionaries, rows, loaders and plain iterables give the same arrays."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from bare_files import SIZE, drawn
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
)

from torchvice.data import VOC_CLASSES, VocDataset, from_items
from torchvice.data.pixels import image_pixels, mask_pixels
from torchvice.errors import ViceError
from ways_out import tried

PICTURES = [np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8) for seed in range(3)]


def same(dataset: Any, classes: tuple[str, ...] = ("object",)) -> None:
    """Whether a dataset holds the three pictures, and masks of one object."""
    assert dataset.classes == classes
    assert dataset.targets.tolist() == [[1], [1], [1]]
    for index, picture in enumerate(PICTURES):
        assert np.array_equal(dataset.image(index), picture)
        assert dataset.image(index).dtype == np.uint8
        assert np.array_equal(dataset.mask(index), drawn(1))


class Pairs(Dataset):
    """A torch dataset of (image, mask), as PIL images or as tensors."""

    def __init__(self, transform=lambda picture: picture) -> None:
        self.transform, self.read = transform, []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self.read.append(index)
        return tuple(self.transform(Image.fromarray(pixels)) for pixels in (PICTURES[index], drawn()))


class Stream(IterableDataset):
    """A torch dataset without index."""

    def __iter__(self):
        for index, picture in enumerate(PICTURES):
            yield {"image": torch.from_numpy(picture), "mask": torch.from_numpy(drawn()), "id": f"p{index}"}


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """As torchvision's ToTensor: floats of 0 to 1, channels first."""
    array = np.array(picture)
    array = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(array.transpose(2, 0, 1).copy()).float() / 255


def test_pairs_of_pictures_and_of_tensors() -> None:
    same(from_items(Pairs()))
    same(from_items(Pairs(to_tensor)))
    same(from_items(Pairs(), classes=["polyp"]), ("polyp",))
    same(from_items([(picture, drawn(1)) for picture in PICTURES]))


def test_a_sequence_is_read_by_its_index_when_it_is_needed() -> None:
    pairs = Pairs()
    dataset = from_items(pairs)
    assert sorted(set(pairs.read)) == [0, 1, 2]
    assert [record.image_id for record in dataset.records] == ["0", "1", "2"]
    pairs.read.clear()
    dataset.image(1), dataset.mask(1)
    assert set(pairs.read) <= {1}


def test_dictionaries_with_labels_and_ids() -> None:
    rows = [{"image": p, "mask": drawn(1), "labels": [1, 0], "id": f"x{i}"} for i, p in enumerate(PICTURES)]
    rows[1]["labels"] = torch.tensor([0, 1])
    rows[2] |= {"labels": ["cat", "dog"], "mask": None}
    dataset = from_items(rows, classes=["cat", "dog"])
    assert dataset.targets.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert [record.image_id for record in dataset.records] == ["x0", "x1", "x2"]
    assert dataset.mask(2) is None
    assert not dataset.exclusive


def test_a_loader_is_read_by_the_index_of_its_dataset() -> None:
    dataset = from_items(DataLoader(Pairs(to_tensor), batch_size=2, shuffle=True))
    same(dataset)
    assert dataset.notes[0] == "Items are read from the dataset of the loader, by their index."


class PairsOfItems:
    """A batch sampler of a user's own, which does not say what it draws from."""

    def __iter__(self):
        yield [0, 2]


@pytest.mark.parametrize(
    ("how", "draws"),
    [
        ({"sampler": SubsetRandomSampler([0, 2])}, "SubsetRandomSampler draws 2"),
        ({"batch_size": None, "sampler": SubsetRandomSampler([0, 2])}, "SubsetRandomSampler draws 2"),
        ({"sampler": RandomSampler(range(3), num_samples=5)}, "RandomSampler draws 5"),
        ({"batch_sampler": BatchSampler(SubsetRandomSampler([2]), 1, False)}, "SubsetRandomSampler draws 1"),
        ({"batch_sampler": PairsOfItems()}, "PairsOfItems draws an unknown number"),
    ],
)
def test_a_loader_that_draws_some_of_its_items_is_refused(how: dict[str, Any], draws: str) -> None:
    loader = DataLoader(Pairs(), **how)
    subset = tried(
        lambda: from_items(loader),
        "Subset(loader.dataset, indices)",
        lambda: from_items(Subset(loader.dataset, [0, 2])),
    )
    assert np.array_equal(subset.image(1), PICTURES[2])
    with pytest.raises(ViceError, match=f"must therefore draw all 3 items, but {draws}"):
        from_items(loader)
    same(from_items(loader.dataset))


def test_items_of_one_id_are_refused() -> None:
    rows = [{"image": p, "mask": drawn(1), "name": "ab"[i % 2], "row": i} for i, p in enumerate(PICTURES)]
    mended = tried(
        lambda: from_items(rows), "from_items(..., keys={'id': ...})", lambda: from_items(rows, keys={"id": "row"})
    )
    assert [record.image_id for record in mended.records] == ["0", "1", "2"]
    with pytest.raises(ViceError, match="Every item must have an id of its own, but 2 items have `a`"):
        from_items(iter(rows))
    for row in rows:
        del row["name"]
    same(from_items(rows))


def test_a_dataset_is_pickled() -> None:
    copied = pickle.loads(pickle.dumps(from_items([(picture, drawn(1)) for picture in PICTURES])))
    same(copied)
    copied._items = [(picture + 1, drawn(1)) for picture in PICTURES]
    copied._parts.cache_clear()
    with pytest.raises(ViceError, match="the same image each time"):  # the copy knows what was read before
        copied.image(0)


def test_a_copy_in_another_process_reads_the_files_of_an_iterable_and_leaves_them() -> None:
    dataset = from_items(Stream())
    folder = dataset._items._folder
    copied = pickle.loads(pickle.dumps(dataset))
    same(copied)
    del copied
    gc.collect()
    assert len(list(folder.iterdir())) == 6
    if hasattr(os, "fork"):
        child = os.fork()
        if not child:  # the end of the copy that a fork has
            del dataset
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
        assert len(list(folder.iterdir())) == 6
    del dataset
    gc.collect()
    assert not folder.exists()


def test_an_iterable_is_copied_to_a_temporary_folder_and_it_is_told() -> None:
    for stream in (iter(Stream()), Stream(), DataLoader(Stream(), batch_size=2), DataLoader(Stream(), batch_size=None)):
        dataset = from_items(stream)
        same(dataset)
        assert [record.image_id for record in dataset.records] == ["p0", "p1", "p2"]
        assert dataset.notes[0] == "The 3 items have no index: copies are in a temporary folder."
    folder = dataset._items._folder
    assert len(list(folder.iterdir())) == 6
    del dataset
    gc.collect()
    assert not folder.exists()


def test_class_indices_are_one_label_an_image() -> None:
    class Labelled(list):
        classes = ("cat", "dog")

    dataset = from_items(Labelled((picture, i % 2) for i, picture in enumerate(PICTURES)))
    assert dataset.classes == ("cat", "dog")
    assert dataset.targets.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert dataset.exclusive
    assert dataset.mask(0) is None
    with pytest.raises(ViceError, match="must be known, but are not given"):
        from_items([(picture, 0) for picture in PICTURES])
    with pytest.raises(ViceError, match=r"The labels of `0` must be \(1,\) zeros and ones, one class index, or class"):
        from_items([(picture, 1) for picture in PICTURES], classes=["cat"])


def test_classes_of_a_sequence_are_not_those_of_its_masks() -> None:
    class Breeds(list):  # torchvision's pets: 37 breeds, and masks of 1, 2 and 3
        classes = ("beagle", "pug", "boxer")

    pets = Breeds((picture, drawn(2) + 1) for picture in PICTURES)
    with pytest.raises(ViceError, match="must hold two values, 0 and 255, but those of the dataset hold 1, 3 and no 0"):
        from_items(pets)


def test_rows_of_hugging_face() -> None:
    class Feature:
        def __init__(self, names: list[str]) -> None:
            self.names = names

    class Table(list):
        column_names = ("image", "label", "annotation")
        features = {"image": object(), "label": Feature(["cat", "dog"]), "annotation": object()}  # noqa: RUF012

    rows = Table({"image": Image.fromarray(p), "label": 1, "annotation": Image.fromarray(drawn(2))} for p in PICTURES)
    dataset = from_items(rows)
    assert dataset.classes == ("cat", "dog")
    assert dataset.targets.tolist() == [[0, 1]] * 3
    rows = Table({"image": p, "label": Image.fromarray(drawn())} for p in PICTURES)  # `label` is the mask here
    rows.features = {"image": object(), "label": object()}
    same(from_items(rows))


def test_datasets_of_hugging_face_themselves() -> None:
    datasets = pytest.importorskip("datasets")
    held = {
        "image": [Image.fromarray(picture) for picture in PICTURES],
        "mask": [Image.fromarray(drawn(value)) for value in (1, 2, 1)],
        "labels": [[0], [1], [0]],
    }
    names = datasets.ClassLabel(names=["cat", "dog"])
    features = {"image": datasets.Image(), "mask": datasets.Image(), "labels": datasets.Sequence(names)}
    table = datasets.Dataset.from_dict(held, features=datasets.Features(features))
    dataset = from_items(table)
    assert dataset.classes == ("cat", "dog")
    assert dataset.targets.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert np.array_equal(dataset.image(2), PICTURES[2])
    assert np.array_equal(dataset.mask(1), drawn(2))
    one = table.remove_columns("labels").select([0, 2])
    assert from_items(one).classes == ("object",)  # masks of 0 and 1
    stream = from_items(one.to_iterable_dataset())
    assert np.array_equal(stream.mask(1), drawn(1))


def test_the_dataset_of_torchvision(tmp_path: Path) -> None:
    detection = pytest.importorskip("torchvision.datasets")
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (base / name).mkdir(parents=True)
    (base / "ImageSets/Segmentation/val.txt").write_text("a\nb\n")
    for value, name in enumerate("ab", 1):
        Image.fromarray(PICTURES[value]).save(base / f"JPEGImages/{name}.jpg")
        mask = Image.fromarray(drawn(value))
        mask.putpalette([7 * number % 256 for number in range(768)])
        mask.save(base / f"SegmentationClass/{name}.png")
    given = detection.VOCSegmentation(tmp_path, year="2012", image_set="val")
    dataset, files = from_items(given, classes=VOC_CLASSES), VocDataset(tmp_path, "val")
    assert np.array_equal(dataset.targets, files.targets)
    for index in range(2):
        assert np.array_equal(dataset.image(index), files.image(index))
        assert np.array_equal(dataset.mask(index), files.mask(index))


def test_several_candidates_are_refused_and_keys_choose_one() -> None:
    rows = [{"image": picture, "img": picture, "mask": drawn()} for picture in PICTURES]
    with pytest.raises(ViceError, match="must have one image, but has image and img") as error:
        from_items(rows)
    assert "keys={'image': 'image'}" in error.value.way_out
    same(from_items(rows, keys={"image": "image"}))
    with pytest.raises(ViceError, match="An item has no 'pixels'"):
        from_items(rows, keys={"image": "pixels"})
    with pytest.raises(ViceError, match="must name image, mask, labels or id, but names 'masks'"):
        from_items(rows, keys={"masks": "mask"})
    with pytest.raises(ViceError, match="An item must have `image`, but has photo"):
        from_items([{"photo": PICTURES[0]}])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "must hold images, but is empty"),
        ({"train": [], "test": []}, "is a dictionary of train, test"),
        (3, "must be a folder, have classes, targets, records, .* or give items, but is int"),
        (pd.DataFrame({"image": [1]}), r"must give items by their index, but \[0\] fails: KeyError"),
        ([PICTURES[0]], "An item must be a pair or a dictionary, but is 'ndarray'"),
        ([(PICTURES[0], None)], "must have a mask or labels, but `0` has neither"),
        ([(PICTURES[0] - 500.0, drawn())], "must hold floats of 0 to 1, but holds"),
        ([(np.full((4, 4, 3), np.nan), drawn())], "must hold numbers, but holds NaN"),
        ([(np.zeros((5, 5, 7)), drawn())], r"must be a PIL image or an array \(H, W, 3\) or .* shape \(5, 5, 7\)"),
        ([(PICTURES[0], drawn() / 510)], "must hold whole numbers, but holds 0.5"),
        ([(PICTURES[0], np.full(SIZE, np.nan))], "must hold whole numbers, but holds nan"),
        ([(PICTURES[0], PICTURES[1])], r"must be \(H, W\) integers"),
        ([(PICTURES[0], Image.fromarray(PICTURES[1]))], "must hold the labels themselves, not colours, but is RGB"),
    ],
)
def test_what_cannot_be_used_is_refused(items: Any, message: str) -> None:
    with pytest.raises(ViceError, match=message):
        from_items(items)


def test_items_that_change_are_refused() -> None:
    class Random(Pairs):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            return np.random.default_rng(len(self.read)).permuted(PICTURES[0]), self.read.append(0) or drawn()

    with pytest.raises(ViceError, match="must give the same image each time"):
        from_items(Random())


class Flipping(Pairs):
    """Mirrors the image alone with a chance, of the items from `start` on; `length` items."""

    def __init__(self, chance: float, seed: int, length: int = 40, start: int = 0) -> None:
        super().__init__()
        self.chance, self.length, self.start, self.random = chance, length, start, np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        flips = index >= self.start and self.random.random() < self.chance
        return PICTURES[index % 3][:, :: -1 if flips else 1], drawn()


@pytest.mark.parametrize("chance", [0.5, 0.1])
@pytest.mark.parametrize("length", [3, 40])
def test_items_that_change_at_times_are_refused(chance: float, length: int) -> None:
    escaped = 0
    for seed in range(20):  # of p = 0.1, 3 % escape with 3 items, and 0.7 % with 40
        with contextlib.suppress(ViceError):
            from_items(Flipping(chance, seed, length))
            escaped += 1
    assert escaped <= {0.5: 0, 0.1: 2}[chance]


def test_items_behind_the_first_that_change_are_refused() -> None:
    with pytest.raises(ViceError, match="must give the same image each time"):
        from_items(Flipping(0.5, 0, start=1))


def test_an_item_that_changes_later_is_refused_when_it_is_read_again() -> None:
    items = Flipping(0.0, 0)
    dataset = from_items(items)
    items.chance = 1.0
    with pytest.raises(ViceError, match="must give the same image each time, but that of `7` changes"):
        dataset.image(7)


def test_masks_that_change_are_refused() -> None:
    class Changing(Pairs):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            self.read.append(index)
            return PICTURES[index], np.roll(drawn(), len(self.read), 1)

    with pytest.raises(ViceError, match="must give the same mask each time"):
        from_items(Changing())


@pytest.mark.parametrize(
    ("given", "way_out", "mended"),
    [
        (PICTURES[0].astype("float32"), "Divide it by 255", lambda image: image / 255),
        (PICTURES[0].astype("float32"), "image.astype('uint8')", lambda image: image.astype("uint8")),
        (PICTURES[0].astype("uint16") * 257, "such as image / 65535 for 16 bits", lambda image: image / 65535),
        (PICTURES[0].astype("float64") * 257, "such as image / 65535 for 16 bits", lambda image: image / 65535),
        (PICTURES[0] / 255 * 1.1 - 0.05, "Clip it: image.clip(0, 1).", lambda image: image.clip(0, 1)),
    ],
)
def test_images_of_another_range_are_refused_with_a_way_out_that_works(given: Any, way_out: str, mended: Any) -> None:
    with pytest.raises(ViceError) as told:
        image_pixels(given, "x")
    assert way_out in told.value.way_out
    assert "normalisation" not in told.value.way_out
    assert np.abs(image_pixels(mended(given), "x").astype(int) - PICTURES[0]).max() <= (14 if "Clip" in way_out else 0)


@pytest.mark.parametrize("mean", [0.5, 0.0])
def test_normalised_images_are_told_by_their_range(mean: float) -> None:
    with pytest.raises(ViceError, match="Leave out the normalisation"):
        image_pixels((PICTURES[0] / 255 - mean) / 0.225, "x")


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_pictures_of_every_mode_are_images(mode: str) -> None:
    picture = Image.fromarray(PICTURES[0]).convert(mode)
    assert np.array_equal(image_pixels(picture, "x"), np.array(picture.convert("RGB")))


def test_channels_first_and_last_and_grey() -> None:
    picture = PICTURES[0]
    tensor = torch.from_numpy(picture.transpose(2, 0, 1).copy())
    grey = np.repeat(picture[..., :1], 3, 2)
    for given, expected in (
        (picture, picture),
        (picture / 255, picture),
        (picture.transpose(2, 0, 1), picture),
        (tensor, picture),
        (tensor.half() / 255, picture),
        (picture[..., 0], grey),
        (tensor[:1], grey),
        (np.dstack([picture, picture[..., :1]]), picture),
    ):
        assert np.array_equal(image_pixels(given, "x"), expected)
    small = torch.arange(27).reshape(3, 3, 3)  # a tensor has its channels first
    assert np.array_equal(image_pixels(small, "x"), small.numpy().transpose(1, 2, 0))


def test_masks_in_every_form() -> None:
    mask = drawn(2)
    palette = Image.fromarray(mask)
    palette.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0] + [0] * 759)
    forms = (
        mask,
        palette,
        Image.fromarray(mask),
        torch.from_numpy(mask)[None],
        mask.astype(np.float32),
        mask[..., None],
    )
    for given in forms:
        assert np.array_equal(mask_pixels(given, "x"), mask)
    assert np.array_equal(mask_pixels(mask > 0, "x"), mask > 0)
    assert np.array_equal(mask_pixels(Image.fromarray(mask > 0), "x"), drawn(255))
    assert np.array_equal(mask_pixels(Image.fromarray(drawn()).convert("RGB"), "x"), drawn())


def pictures(*values: int) -> list[dict[str, object]]:
    mask = np.zeros((8, 12), np.uint8)
    mask[2:5, 3:7] = 1
    return [
        {"image": np.full((8, 12, 3), 9, np.uint8), "mask": mask * value, "label": c} for c, value in enumerate(values)
    ]


class Named(list):
    classes = ("cat", "dog")


def test_indices_count_in_the_order_of_the_datasets_own_classes():
    """With the names in another order every image would have another label."""
    own = Named({"image": one["image"], "label": one["label"]} for one in pictures(1, 1))
    assert from_items(own).targets.tolist() == [[1, 0], [0, 1]]
    assert from_items(own, ["cat", "dog"]).targets.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(
        ViceError, match="indices of the dataset's own classes, cat, dog, but dog, cat are given"
    ) as told:
        from_items(own, ["dog", "cat"])
    assert told.value.way_out == "Leave out classes: the dataset has them."
    by_name = Named({"image": one["image"], "label": name} for one, name in zip(own, ("cat", "dog"), strict=True))
    assert from_items(by_name, ["dog", "cat"]).targets.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("value", [1, 255])
def test_one_value_in_masks_is_the_class_of_the_label(value):
    dataset = from_items(pictures(value, value), ["cat", "dog"])
    assert [np.unique(dataset.mask(index)).tolist() for index in range(2)] == [[0, 1], [0, 2]]
    assert dataset.notes == (f"In masks, {value} is the class of the item's label, and 0 is background.",)
    labelled = from_items(pictures(1, 2), ["cat", "dog"])  # labels, as they say of themselves
    assert [np.unique(labelled.mask(index)).tolist() for index in range(2)] == [[0, 1], [0, 2]]
    assert labelled.notes == ()


def test_labels_that_the_masks_contradict_are_said():
    (said,) = from_items(pictures(2, 1), ["cat", "dog"]).notes
    assert said == "Labels and masks of 2 of the 2 items name different classes, such as those of `0`."


class Table(list):
    """Rows of Hugging Face: class labels are a list, or an array with the formats of numpy and torch."""

    column_names = ("image", "labels")
    features = {"labels": SimpleNamespace(feature=SimpleNamespace(names=["cat", "dog"]))}  # noqa: RUF012


@pytest.mark.parametrize("kind", [list, np.array])
def test_rows_of_class_labels_in_any_format(kind):
    rows = [{"image": np.zeros((8, 12, 3), np.uint8), "labels": kind(labels)} for labels in ([0, 1], [1])]
    assert from_items(Table(rows)).targets.tolist() == [[1, 1], [0, 1]]


def test_trimaps_of_items_with_one_label() -> None:
    """As of pets: the category, and a trimap."""
    trimap = np.full((8, 12), 2, np.uint8)
    trimap[2:5, 3:7], trimap[1, 3:7] = 1, 3
    rows = [{"image": np.zeros((8, 12, 3), np.uint8), "mask": trimap, "label": c} for c in range(2)]
    with pytest.raises(ViceError, match="but hold 1, 2, 3 and no 0: they look like trimaps") as told:
        from_items(rows, ["cat", "dog"])
    assert "mask_values='object=1,background=2,void=3'" in told.value.way_out
    dataset = from_items(rows, ["cat", "dog"], mask_values="object=1,background=2,void=3")
    expected = np.zeros((8, 12), np.uint8)
    expected[2:5, 3:7], expected[1, 3:7] = 2, 255
    np.testing.assert_array_equal(dataset.mask(1), expected)
    assert dataset.targets.tolist() == [[1, 0], [0, 1]]
    assert dataset.notes == (
        "In masks, 1 is the class of the item's label, 2 is background, 3 is void, as --mask-values says.",
    )


class Breeds(list):
    """Rows of Hugging Face whose label column has a name of its own."""

    column_names = ("image", "label", "breed")
    features = {  # noqa: RUF012
        "label": SimpleNamespace(names=["indoors", "outdoors"]),
        "breed": SimpleNamespace(names=["cat", "dog"]),
    }


class BreedsInTurn:
    """The same rows without an index."""

    column_names, features = Breeds.column_names, Breeds.features

    def __init__(self, rows: Breeds) -> None:
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


@pytest.mark.parametrize("as_given", [lambda rows: rows, BreedsInTurn], ids=["rows", "stream"])
def test_the_classes_of_a_label_column_that_is_named(as_given) -> None:
    held = [{"image": picture, "breed": c} for c, picture in enumerate(PICTURES[:2])]
    named = from_items(as_given(Breeds(held)), keys={"labels": "breed"})
    assert named.classes == ("cat", "dog")
    assert named.targets.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ViceError, match="indices of the dataset's own classes, cat, dog, but dog, cat are given"):
        from_items(as_given(Breeds(held)), ["dog", "cat"], keys={"labels": "breed"})
