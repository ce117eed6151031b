"""Folders of images without lists: what each refusal's way out says is done, and works."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_files import SIZE, drawn, photos, sorted_photos, write_grey, write_image
from following import followed
from PIL import Image

from command import status_of
from torchvice.data import FolderDataset, from_items, open_dataset, open_images, survey
from torchvice.data.open import open_any_images
from torchvice.errors import ViceError
from ways_out import tried

ALL = ("a.png", "b.png", "c.png")


def opened(root: Path, **options: Any) -> FolderDataset:
    return open_images(root / "photos", root / "masks", **options)


def values_in(dataset: FolderDataset) -> list[list[int]]:
    masks = [dataset.mask(index) for index in range(len(dataset))]
    return [np.unique(mask).tolist() for mask in masks if mask is not None]


def of_values(root: Path, *masks: np.ndarray) -> Path:
    """Photos a, b, c and a mask of each."""
    photos(root, ())
    for name, mask in zip(ALL, masks, strict=True):
        write_grey(root / "masks" / name, mask)
    return root


def held(*values: int) -> np.ndarray:
    """(H, W) uint8, or uint16 where it is needed: the values in turn."""
    kind = np.uint8 if max(values) < 256 else np.uint16
    return np.resize(np.array(values), SIZE).astype(kind)


def soft() -> np.ndarray:
    return np.linspace(0, 255, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)


# bare_folder.py


def test_images_in_another_format_are_saved_or_given_as_arrays(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    np.save(folder / "a.npy", pixels)

    def wrong() -> object:
        return open_any_images(folder)

    items = tried(wrong, "give them as arrays in Python", lambda: from_items([(np.load(folder / "a.npy"), drawn())]))
    assert len(items) == 1

    def saved() -> FolderDataset:
        Image.fromarray(np.load(folder / "a.npy")).save(folder / "a.png")
        return open_any_images(folder)

    assert len(tried(wrong, "Save the images in one of these formats", saved)) == 1


def test_arrays_are_assessed_as_the_way_out_writes(tmp_path: Path) -> None:
    import torchvice

    torch = pytest.importorskip("torch")
    (tmp_path / "photos").mkdir()
    np.save(tmp_path / "photos" / "a.npy", drawn())
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 1)
    ).eval()
    with torch.no_grad():
        model[-1].weight.fill_(1.0)
        model[-1].bias.fill_(-2.0)
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8), drawn()) for _ in range(4)]

    def right(call: str) -> Any:
        assert call == "torchvice.assess(model, [(image, mask), ...])"
        return torchvice.assess(model, pairs)

    assert followed(lambda: open_any_images(tmp_path / "photos"), r"in Python: (.+)\.$", right) is not None


@pytest.mark.parametrize(("new", "count"), [("photos/d.png", 4), ("a.png", 3)])
def test_one_of_two_images_of_one_name_is_renamed_or_moved(tmp_path: Path, new: str, count: int) -> None:
    folder = photos(tmp_path, ()) / "photos"
    double = write_image(folder / "a.png", 7)

    def moved() -> FolderDataset:
        double.rename(tmp_path / new)
        return open_any_images(folder)

    assert len(tried(lambda: open_any_images(folder), "Rename or move one.", moved)) == count


def test_the_split_of_a_folder_without_lists_is_left_out_or_another_folder_given(tmp_path: Path) -> None:
    first, second = sorted_photos(tmp_path / "one") / "photos", sorted_photos(tmp_path / "two") / "photos"
    second = second.rename(second.with_name("val"))

    def wrong() -> object:
        return open_dataset(first, "val")

    assert followed(wrong, "the split `(.+?)`", lambda name: open_dataset(first, name)).split == "photos"
    assert len(tried(wrong, "leave out the split", lambda: open_dataset(first))) == 3
    assert open_dataset(second, "val").split == "val"
    assert len(tried(wrong, "or give the folder of another one", lambda: open_dataset(second))) == 3


def test_an_archive_is_unpacked(tmp_path: Path) -> None:
    photos(tmp_path, ALL)
    packed = tmp_path / "photos.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (tmp_path / "photos").iterdir():
            archive.write(file, file.name)

    def unpacked() -> FolderDataset:
        shutil.unpack_archive(packed, tmp_path / "unpacked")
        return open_images(tmp_path / "unpacked", tmp_path / "masks")

    said = "Unpack it, and give the folder"
    assert len(tried(lambda: open_images(packed, tmp_path / "masks"), said, unpacked)) == 3


def coco_content() -> dict[str, Any]:
    images = [{"id": n, "file_name": f"{name}.jpg", "height": 8, "width": 12} for n, name in enumerate("abc")]
    square = [[1, 1, 6, 1, 6, 6, 1, 6]]
    annotations = [{"id": n, "image_id": n, "category_id": 3, "iscrowd": 0, "segmentation": square} for n in range(3)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cat"}]}


def with_coco(root: Path, content: dict[str, Any]) -> Path:
    photos(root, ())
    (root / "instances.json").write_text(json.dumps(content))
    return root


def test_a_coco_file_is_given_as_such(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    with_coco(tmp_path, coco_content())
    file = tmp_path / "instances.json"
    dataset = followed(
        lambda: open_images(tmp_path / "photos", masks=file),
        r"\(coco='(.+?)'\)",
        lambda coco: open_images(tmp_path / "photos", coco=coco),
    )
    assert dataset.classes == ("cat",)
    found = followed(
        lambda: open_images(tmp_path / "photos", masks=file),
        "is given as (--coco) (.+?) ",
        lambda option, coco: status_of("data", "check", "--images", tmp_path / "photos", option, coco),
    )
    assert found == 0


@pytest.mark.parametrize("given", ["a.jpg", "*.jpg"])
def test_the_folder_of_a_file_or_pattern_is_given(tmp_path: Path, given: str) -> None:
    photos(tmp_path, ALL)
    dataset = followed(
        lambda: open_images(tmp_path / "photos" / given, tmp_path / "masks"),
        r"Give its folder, which is read as a whole: (.+)\.$",
        lambda folder: open_images(folder, tmp_path / "masks"),
    )
    assert len(dataset) == 3


def test_the_folder_that_was_meant_is_given(tmp_path: Path) -> None:
    photos(tmp_path, ALL)
    dataset = followed(
        lambda: open_images(tmp_path / "phtos", tmp_path / "masks"),
        r"Did you mean `(.+?)`",
        lambda folder: open_images(folder, tmp_path / "masks"),
    )
    assert len(dataset) == 3


def test_masks_of_jpeg_are_converted_as_the_way_out_writes(tmp_path: Path) -> None:
    photos(tmp_path, ())
    large = np.zeros((24, 36), np.uint8)
    large[6:15, 9:21] = 255
    for name in "abc":
        write_image(tmp_path / "photos" / f"{name}.jpg", 0, large.shape)
        write_grey(tmp_path / "masks" / f"{name}.jpg", large)

    def converted(code: str) -> FolderDataset:
        for mask in list((tmp_path / "masks").glob("*.jpg")):
            eval(code, {"Image": Image, "mask": mask, "new_mask": mask.with_suffix(".png")})
            mask.unlink()
        return opened(tmp_path)

    dataset = followed(lambda: opened(tmp_path), r"(Image\.open\(mask\).+\))\.$", converted)
    np.testing.assert_array_equal(dataset.mask(0), large // 255)


# class_folders.py


def test_the_values_of_object_and_void_are_said_either_way(tmp_path: Path) -> None:
    sorted_photos(tmp_path)
    for name in ("cat/0", "cat/1", "dog/0"):
        write_grey(tmp_path / "masks" / f"{name}.png", held(0, 200, 255))

    def right(values: str) -> FolderDataset:
        return opened(tmp_path, mask_values=values)

    dataset = followed(lambda: opened(tmp_path), r"\(mask_values='(.+?)'\)", right)
    assert values_in(dataset) == [[0, 1, 255], [0, 1, 255], [0, 2, 255]]
    mask = dataset.mask(0)
    assert mask is not None
    assert mask.ravel()[:3].tolist() == [0, 255, 1]
    other = tried(lambda: opened(tmp_path), "or the other way", lambda: right("object=200,void=255")).mask(0)
    assert other.ravel()[:3].tolist() == [0, 1, 255]
    arguments = ("data", "check", "--images", tmp_path / "photos", "--masks", tmp_path / "masks")
    assert status_of(*arguments) != 0
    given = followed(
        lambda: opened(tmp_path), r"(--mask-values) (\S+)", lambda name, value: status_of(*arguments, name, value)
    )
    assert given == 0


def in_the_wrong_order(root: Path) -> Path:
    sorted_photos(root)
    for name, value in {"cat/0": 2, "cat/1": 2, "dog/0": 1}.items():
        write_grey(root / "masks" / f"{name}.png", drawn(value))
    return root


def test_labels_of_folders_in_another_order_get_that_order(tmp_path: Path) -> None:
    in_the_wrong_order(tmp_path)

    def right() -> list[list[int]]:
        return values_in(opened(tmp_path, classes=("dog", "cat")))

    said = "(--classes gives another one)"
    assert tried(lambda: values_in(opened(tmp_path)), said, right) == [[0, 2], [0, 2], [0, 1]]


def test_labels_of_folders_follow_the_order_or_every_object_is_drawn_as_255(tmp_path: Path) -> None:
    in_the_wrong_order(tmp_path)

    def written(*values: int) -> Callable[[], list[list[int]]]:
        def right() -> list[list[int]]:
            for name, value in zip(("cat/0", "cat/1", "dog/0"), values, strict=True):
                write_grey(tmp_path / "masks" / f"{name}.png", drawn(value))
            return values_in(opened(tmp_path))

        return right

    def wrong() -> object:
        return values_in(opened(tmp_path))

    in_order = [[0, 1], [0, 1], [0, 2]]
    assert tried(wrong, "draw every object as 255", written(255, 255, 255)) == in_order
    written_again = in_the_wrong_order(tmp_path)
    assert written_again == tmp_path
    assert tried(wrong, "Labels follow the order of the folders", written(1, 1, 2)) == in_order


def test_a_class_that_is_no_folder_gets_the_name_of_one(tmp_path: Path) -> None:
    folder = sorted_photos(tmp_path) / "photos"
    dataset = followed(
        lambda: open_dataset(folder, classes=("cat", "dogs")),
        "Did you mean `(.+?)`",
        lambda name: open_dataset(folder, classes=("cat", name)),
    )
    assert dataset.classes == ("cat", "dog")


def test_all_folders_are_given_as_classes_or_the_others_moved(tmp_path: Path) -> None:
    folder = sorted_photos(tmp_path) / "photos"

    def wrong() -> object:
        return open_dataset(folder, classes=("dog",))

    whole = tried(wrong, "Give all of them", lambda: open_dataset(folder, classes=("dog", "cat")))
    assert whole.classes == ("dog", "cat")

    def moved() -> FolderDataset:
        (folder / "cat").rename(tmp_path / "cat")
        return open_dataset(folder, classes=("dog",))

    assert len(tried(wrong, "or move the images of the others elsewhere", moved)) == 1


@pytest.mark.parametrize("new", ["photos/plain", "elsewhere"])
def test_a_folder_called_background_is_renamed_or_moved(tmp_path: Path, new: str) -> None:
    folder = sorted_photos(tmp_path) / "photos"
    write_image(folder / "background" / "0.jpg", 5)

    def moved() -> FolderDataset:
        (folder / "background").rename(tmp_path / new)
        return open_dataset(folder)

    said = "rename the folder" if "photos" in new else "Move it elsewhere"
    assert len(tried(lambda: open_dataset(folder), said, moved).classes) == 2 + ("photos" in new)


# coco_folder.py


def test_the_classes_of_a_coco_file_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    with_coco(tmp_path, coco_content())
    folder, file = tmp_path / "photos", tmp_path / "instances.json"
    dataset = tried(
        lambda: open_images(folder, coco=file, classes=("dog",)),
        "Leave them out",
        lambda: open_images(folder, coco=file),
    )
    assert dataset.classes == ("cat",)


def test_a_coco_file_of_crowds_gets_objects(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    content = coco_content()

    def written(crowd: int) -> FolderDataset:
        for entry in content["annotations"]:
            entry["iscrowd"] = crowd
        return open_images(with_coco(tmp_path, content) / "photos", coco=tmp_path / "instances.json")

    assert values_in(tried(lambda: written(1), "Give `iscrowd` 0 to objects", lambda: written(0))) == [[0, 1]] * 3


def test_a_coco_file_of_other_images_is_replaced(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    with_coco(tmp_path, coco_content() | {"annotations": []})

    def right() -> FolderDataset:
        return open_images(with_coco(tmp_path, coco_content()) / "photos", coco=tmp_path / "instances.json")

    said = "Give a file with the annotations of these images"
    dataset = tried(lambda: open_images(tmp_path / "photos", coco=tmp_path / "instances.json"), said, right)
    assert len(dataset) == 3


# imagenet_s.py

FOLDERS = ("n01443537", "n02085620", "n02123045")


def coded(ids: np.ndarray, blue: int = 0) -> np.ndarray:
    return np.dstack([ids % 256, ids // 256, np.full_like(ids, blue)]).astype(np.uint8)


def imagenet_s(root: Path, *ids: int) -> Path:
    for folder, place in zip(FOLDERS, ids, strict=True):
        for number in range(2):
            write_image(root / "photos" / folder / f"{folder}_{number}.JPEG", number)
            mask = np.where(drawn(1) > 0, place, 0)
            write_grey(root / "masks" / folder / f"{folder}_{number}.png", coded(mask))
    return root


def test_an_image_of_imagenet_s_without_its_class_is_moved_with_its_mask(tmp_path: Path) -> None:
    imagenet_s(tmp_path, 2, 44, 300)
    mask = write_grey(tmp_path / "masks" / FOLDERS[0] / f"{FOLDERS[0]}_1.png", coded(np.where(drawn(1) > 0, 44, 0)))

    def moved() -> list[list[int]]:
        mask.rename(tmp_path / "mask.png")
        (tmp_path / "photos" / FOLDERS[0] / f"{FOLDERS[0]}_1.JPEG").rename(tmp_path / "image.jpg")
        return values_in(opened(tmp_path))

    said = "Move the image and its mask elsewhere"
    assert tried(lambda: values_in(opened(tmp_path)), said, moved) == [[0, 1], [0, 2], [0, 2], [0, 3], [0, 3]]


def test_masks_of_one_version_of_imagenet_s_are_given(tmp_path: Path) -> None:
    imagenet_s(tmp_path, 2, 300, 44)
    said = "Give images and masks of one of ImageNet-S-50, -300 and -919"
    right = tried(lambda: opened(tmp_path), said, lambda: opened(imagenet_s(tmp_path, 2, 44, 300)))
    assert right.classes == FOLDERS


def test_masks_of_imagenet_s_have_no_blue(tmp_path: Path) -> None:
    imagenet_s(tmp_path, 1, 2, 3)
    ids = np.where(drawn(1) > 0, 3, 0)
    file = write_grey(tmp_path / "masks" / FOLDERS[2] / f"{FOLDERS[2]}_1.png", coded(ids, 9))

    def right() -> list[list[int]]:
        write_grey(file, coded(ids))
        return values_in(opened(tmp_path))

    said = "Give the masks as ImageNet-S has them"
    assert tried(lambda: values_in(opened(tmp_path)), said, right)[-1] == [0, 3]


def test_other_colours_than_those_of_imagenet_s_are_given_by_dataset_yaml(tmp_path: Path) -> None:
    imagenet_s(tmp_path, 1, 2, 3)
    file = write_grey(tmp_path / "masks" / FOLDERS[2] / f"{FOLDERS[2]}_1.png", coded(np.where(drawn(1) > 0, 3, 0), 9))

    def right() -> FolderDataset:
        colours = "\n".join(f"  {name}: [{place}, 0, 0]" for place, name in enumerate(FOLDERS, 1))
        (tmp_path / "dataset.yaml").write_text(
            f"names:\n{colours}\nbackground: [[0, 0, 0], [0, 0, 9], [3, 0, 9]]\nimages: photos\nmasks: masks\n"
        )
        images = sorted((tmp_path / "photos").rglob("*.JPEG"))
        lines = [f"/{one.relative_to(tmp_path)} /masks/{one.parent.name}/{one.stem}.png".replace("JPEG", "jpg")
                 for one in images]  # fmt: skip
        for one in images:
            one.rename(one.with_suffix(".jpg"))
        (tmp_path / "val.txt").write_text("\n".join(lines))
        assert file.is_file()
        return open_dataset(tmp_path)

    dataset = tried(lambda: values_in(opened(tmp_path)), "others by dataset.yaml", right)
    assert values_in(dataset) == [[0, 1], [0, 1], [0, 2], [0, 2], [0, 3], [0]]


# mask_values.py


def test_masks_of_labels_get_the_names_of_all_classes() -> None:
    pairs = [(np.zeros((*SIZE, 3), np.uint8), drawn(value)) for value in (1, 2, 3)]
    right = followed(
        lambda: from_items(pairs, classes=["cat", "dog"]),
        r"Give the names of all classes, in the order of their labels: (classes)=\[\.\.\.\]",
        lambda name: from_items(pairs, **{name: ["cat", "dog", "cow"]}),
    )
    assert right.targets.tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("white", [255, 65535])
def test_masks_of_one_class_get_one_name_or_labels(tmp_path: Path, white: int) -> None:
    of_values(tmp_path, *[np.where(drawn(1) > 0, white, 0).astype(np.min_scalar_type(white))] * 3)

    def wrong() -> object:
        return opened(tmp_path, classes=("cat", "dog"))

    dataset = followed(wrong, r"--classes (\w+)", lambda name: opened(tmp_path, classes=(name,)))
    assert dataset.classes == ("cat",)

    def right() -> FolderDataset:
        return opened(of_values(tmp_path, drawn(1), drawn(2), drawn(2)), classes=("cat", "dog"))

    assert tried(wrong, "or masks with the value c + 1 for class c", right).targets.tolist() == [[1, 0], [0, 1], [0, 1]]


@pytest.mark.parametrize("value", [255, 1])
@pytest.mark.parametrize("only", [0, 7, 255])
def test_masks_get_an_object_and_a_background(tmp_path: Path, only: int, value: int) -> None:
    of_values(tmp_path, *[held(only)] * 3)

    def right() -> FolderDataset:
        return opened(of_values(tmp_path, *[drawn(value)] * 3))

    said = "Draw the object as 255 (or 1) and the background as 0"
    assert values_in(tried(lambda: opened(tmp_path), said, right)) == [[0, 1]] * 3


def test_soft_edges_are_named_as_the_way_out_writes(tmp_path: Path) -> None:
    of_values(tmp_path, *[soft()] * 3)
    dataset = followed(
        lambda: opened(tmp_path), r"\(mask_values='(.+?)'\)", lambda values: opened(tmp_path, mask_values=values)
    )
    assert values_in(dataset) == [[0, 1]] * 3


def counted_classes(root: Path) -> FolderDataset:
    """The photos of `root` with as many classes as the way out counts."""
    return followed(
        lambda: opened(root),
        r"If the values are classes, name .*?(\d+)\D*: --classes",
        lambda count: opened(root, classes=[f"c{place}" for place in range(int(count))]),
    )


def test_many_classes_in_order_are_named_as_the_way_out_counts(tmp_path: Path) -> None:
    mask = np.arange(240, dtype=np.uint8).reshape(12, 20)
    for seed, name in enumerate("abc"):
        write_image(tmp_path / "photos" / f"{name}.jpg", seed, mask.shape)
        write_grey(tmp_path / "masks" / f"{name}.png", mask)
    assert len(counted_classes(tmp_path).classes) == 239


def test_many_classes_with_gaps_are_named_as_the_way_out_counts(tmp_path: Path) -> None:
    assert len(counted_classes(of_values(tmp_path, *[soft()] * 3)).classes) == 252


def test_classes_of_several_values_are_named(tmp_path: Path) -> None:
    of_values(tmp_path, drawn(1), drawn(2), drawn(3))
    by_option = followed(
        lambda: opened(tmp_path),
        r"classes=\[(.+?)\]",
        lambda names: opened(tmp_path, classes=re.findall(r"\w+", names)),
    )
    assert by_option.classes == ("a", "b", "c")
    arguments = ("data", "check", "--images", tmp_path / "photos", "--masks", tmp_path / "masks")
    found = followed(
        lambda: opened(tmp_path), r"(--classes) (\S+)", lambda option, names: status_of(*arguments, option, names)
    )
    assert found == 0

    def written(file: str) -> FolderDataset:
        (tmp_path / file).write_text("a\nb\nc\n")
        return opened(tmp_path)

    dataset = followed(lambda: opened(tmp_path), r"one name per line in (classes\.txt) next to the folder", written)
    assert dataset.targets.tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("values", [(1, 2, 3), (0, 4, 9), (5, 7)])
def test_values_of_one_object_are_said_as_the_way_out_writes(tmp_path: Path, values: tuple[int, ...]) -> None:
    of_values(tmp_path, *[held(*values)] * 3)
    dataset = followed(
        lambda: opened(tmp_path), r"\(mask_values='(.+?)'\)", lambda text: opened(tmp_path, mask_values=text)
    )
    assert all(1 in found for found in values_in(dataset))


def test_values_of_several_classes_get_one_name_or_dataset_yaml(tmp_path: Path) -> None:
    of_values(tmp_path, held(0, 7, 9), held(0, 7), held(0, 9))

    def wrong() -> object:
        return opened(tmp_path, classes=("cat", "dog"), mask_values="object=7,background=0,void=9")

    def one() -> FolderDataset:
        return opened(tmp_path, classes=("cat",), mask_values="object=7,background=0,void=9")

    assert tried(wrong, "Give the one name", one).classes == ("cat",)

    def described() -> FolderDataset:
        (tmp_path / "dataset.yaml").write_text("names: {cat: 7, dog: 9}\nimages: photos\nmasks: masks\n")
        (tmp_path / "val.txt").write_text("a\nb\nc\n")
        return open_dataset(tmp_path)

    dataset = tried(
        wrong, "write dataset.yaml in a folder with lists: it names the values of several classes", described
    )
    assert dataset.targets.tolist() == [[1, 1], [1, 0], [0, 1]]


def test_masks_of_negative_values_are_written_as_the_way_out_says() -> None:
    mask = drawn(1).astype(np.int32)
    mask[0] = -1
    images = [np.zeros((*SIZE, 3), np.uint8)] * 2

    def right(void: str, background: str) -> Any:
        return from_items([(image, np.where(mask < 0, int(void), mask)) for image in images], classes=["cat"])

    said = r"Write void as (\d+), and the background as (\d)"
    dataset = followed(lambda: from_items([(image, mask) for image in images], classes=["cat"]), said, right)
    found = dataset.mask(0)
    assert found is not None
    assert np.unique(found).tolist() == [0, 1, 255]


def test_trimaps_are_said_as_the_way_out_writes(tmp_path: Path) -> None:
    of_values(tmp_path, *[held(1, 2, 3)] * 3)
    dataset = followed(
        lambda: opened(tmp_path, classes=("cat",)),
        r"Say what the values mean: .*\(mask_values='(.+?)'\)",
        lambda values: opened(tmp_path, classes=("cat",), mask_values=values),
    )
    assert values_in(dataset) == [[0, 1, 255]] * 3


def test_values_that_are_no_labels_are_said_as_the_way_out_writes(tmp_path: Path) -> None:
    of_values(tmp_path, *[held(0, 7)] * 3)
    dataset = followed(
        lambda: opened(tmp_path, classes=("cat",)),
        r"If they draw one object, say what the values mean: .*\(mask_values='(.+?)'\)",
        lambda values: opened(tmp_path, classes=("cat",), mask_values=values),
    )
    assert values_in(dataset) == [[0, 1]] * 3


@pytest.mark.parametrize(
    ("value", "pattern"), [(1, r"Write (\d+) in all"), (1, r"in all of them, or (1)"), (128, r"Write (\d+) in all")]
)
def test_mixed_masks_are_written_with_one_value(tmp_path: Path, value: int, pattern: str) -> None:
    of_values(tmp_path, drawn(value), drawn(255), drawn(255))

    def right(value: str) -> FolderDataset:
        return opened(of_values(tmp_path, *[drawn(int(value))] * 3))

    assert values_in(followed(lambda: opened(tmp_path), pattern, right)) == [[0, 1]] * 3


def test_mixed_masks_of_another_value_are_said_by_both(tmp_path: Path) -> None:
    of_values(tmp_path, drawn(128), drawn(255), drawn(255))
    dataset = followed(
        lambda: opened(tmp_path), r"mask_values='(.+?)'", lambda values: opened(tmp_path, mask_values=values)
    )
    assert values_in(dataset) == [[0, 1]] * 3


def test_mixed_masks_of_class_folders_are_written_with_one_value(tmp_path: Path) -> None:
    sorted_photos(tmp_path, 255)
    write_grey(tmp_path / "masks" / "cat" / "0.png", drawn(128))

    def right(value: str) -> FolderDataset:
        for file in (tmp_path / "masks").rglob("*.png"):
            write_grey(file, drawn(int(value)))
        return opened(tmp_path)

    assert values_in(followed(lambda: opened(tmp_path), r"Write (\d+) in all", right)) == [[0, 1], [0, 1], [0, 2]]


# images.py, whose ways out name dataset.yaml, which a folder without lists does not have


def test_an_object_of_255_is_said_by_its_value(tmp_path: Path) -> None:
    of_values(tmp_path, *[drawn(255)] * 3)
    dataset = followed(
        lambda: opened(tmp_path, mask_values="object=7,background=0,void=255"),
        r"\(mask_values='(.+?)'\)",
        lambda values: opened(tmp_path, mask_values=values),
    )
    assert values_in(dataset) == [[0, 1]] * 3


def test_values_that_are_not_in_order_are_described_in_a_folder_with_lists(tmp_path: Path) -> None:
    of_values(tmp_path, drawn(1), drawn(2), held(0, 1, 10))

    def right(names: str) -> FolderDataset:
        (tmp_path / "dataset.yaml").write_text(f"{names}\nbackground: [0, 2]\nimages: photos\nmasks: masks\n")
        (tmp_path / "val.txt").write_text("a\nb\nc\n")
        return open_dataset(tmp_path)

    pattern = r"lists.*`(names: .+?)`"
    dataset = followed(lambda: opened(tmp_path, classes=("cat", "dog")).mask(2), pattern, right)
    assert values_in(dataset)[2] == [0, 1, 2]


# named_values.py


def test_a_value_without_a_meaning_gets_one(tmp_path: Path) -> None:
    of_values(tmp_path, held(0, 127, 200), drawn(200), drawn(200))

    def wrong() -> object:
        return opened(tmp_path, mask_values="object=200").mask(0)

    def right(values: str) -> np.ndarray:
        mask = opened(tmp_path, mask_values=values).mask(0)
        assert mask is not None
        return mask

    added = tried(wrong, "Add the value", lambda: right("object=200,background=0,background=127"))
    assert np.unique(added).tolist() == [0, 1]
    ranged = followed(wrong, r"a range such as (background=0-127)", lambda text: right(f"object=200,{text}"))
    assert np.unique(ranged).tolist() == [0, 1]


@pytest.mark.parametrize("pattern", ["For example (.+?), or", r", or (.+?)\.$"])
def test_a_form_of_values_that_is_not_read_is_replaced_by_the_examples(tmp_path: Path, pattern: str) -> None:
    of_values(tmp_path, *[held(1, 2, 3) if "For" in pattern else held(0, 100, 250)] * 3)
    dataset = followed(
        lambda: opened(tmp_path, mask_values="objects:1"), pattern, lambda text: opened(tmp_path, mask_values=text)
    )
    assert all(1 in found for found in values_in(dataset))


def test_values_without_an_object_get_one(tmp_path: Path) -> None:
    of_values(tmp_path, *[held(0, 7)] * 3)
    dataset = followed(
        lambda: opened(tmp_path, mask_values="background=0"),
        "Add (object)=VALUE",
        lambda name: opened(tmp_path, mask_values=f"background=0,{name}=7"),
    )
    assert values_in(dataset) == [[0, 1]] * 3


# open.py


def test_one_of_two_datasets_is_removed(tmp_path: Path) -> None:
    photos(tmp_path, ALL)
    folders = ("--images", tmp_path / "photos", "--masks", tmp_path / "masks")

    def wrong() -> None:
        from torchvice.cli.app import app

        app(["data", "check", *map(str, (tmp_path, *folders))], standalone_mode=False)

    assert tried(wrong, "Remove one of them", lambda: status_of("data", "check", *folders)) == 0


def test_options_that_go_with_images_get_the_folder(tmp_path: Path) -> None:
    photos(tmp_path, ALL)
    masks = ("--masks", tmp_path / "masks")

    def wrong() -> None:
        from torchvice.cli.app import app

        app(["data", "check", *map(str, masks)], standalone_mode=False)

    def right(option: str) -> int:
        return status_of("data", "check", *masks, option, tmp_path / "photos")

    assert followed(wrong, r"Give the folder: (--images) DIR", right) == 0


def test_values_of_masks_get_their_folder(tmp_path: Path) -> None:
    of_values(tmp_path, *[held(0, 7)] * 3)
    dataset = tried(
        lambda: open_images(tmp_path / "photos", mask_values="object=7"),
        "Give the folder: --masks DIR",
        lambda: open_images(tmp_path / "photos", tmp_path / "masks", mask_values="object=7"),
    )
    assert dataset.classes == ("object",)


@pytest.mark.parametrize("kept", ["masks", "coco"])
def test_one_of_masks_and_coco_file_is_removed(tmp_path: Path, kept: str) -> None:
    pytest.importorskip("pycocotools")
    photos(with_coco(tmp_path, coco_content()), ALL)
    both = {"masks": tmp_path / "masks", "coco": tmp_path / "instances.json"}
    one: Any = {kept: both[kept]}
    everything: Any = both
    dataset = tried(
        lambda: open_images(tmp_path / "photos", **everything),
        "Remove one",
        lambda: open_images(tmp_path / "photos", **one),
    )
    assert values_in(dataset) == [[0, 1]] * 3


def test_a_folder_without_images_is_removed_or_the_class_named(tmp_path: Path) -> None:
    sorted_photos(tmp_path, 255)
    (tmp_path / "photos" / "cow").mkdir()

    def wrong() -> object:
        return opened(tmp_path)

    named = followed(wrong, r"(classes)=\['NAME'\]", lambda name: opened(tmp_path, **{name: ["animal"]}))
    assert named.classes == ("animal",)

    def removed() -> FolderDataset:
        (tmp_path / "photos" / "cow").rmdir()
        return opened(tmp_path)

    assert tried(wrong, "Remove it.", removed).classes == ("cat", "dog")


def test_images_without_labels_get_masks_or_a_coco_file_or_are_sorted(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    photos(with_coco(tmp_path, coco_content()), ALL)
    folder = tmp_path / "photos"

    def wrong() -> object:
        return open_images(folder)

    assert len(tried(wrong, "Give --masks DIR", lambda: opened(tmp_path))) == 3
    given = tried(wrong, "or --coco FILE", lambda: open_images(folder, coco=tmp_path / "instances.json"))
    assert given.classes == ("cat",)

    def sorted_into() -> FolderDataset:
        for file, name in zip(sorted(folder.iterdir()), ("cat", "cat", "dog"), strict=True):
            (folder / name).mkdir(exist_ok=True)
            file.rename(folder / name / file.name)
        return open_images(folder)

    said = "sort the images into one sub-folder for each class"
    assert tried(wrong, said, sorted_into).classes == ("cat", "dog")


def test_one_of_several_splits_is_given(tmp_path: Path) -> None:
    for split in ("train", "val"):
        sorted_photos(tmp_path / "photos" / split)
        (tmp_path / "photos" / split / "photos").rename(tmp_path / "photos" / f"{split}_")
        (tmp_path / "photos" / split).rmdir()
        (tmp_path / "photos" / f"{split}_").rename(tmp_path / "photos" / split)
    dataset = followed(lambda: open_images(tmp_path / "photos"), GIVEN, lambda place: open_images(place))
    assert dataset.classes == ("cat", "dog")


def test_one_of_several_folders_of_images_is_enough(tmp_path: Path) -> None:
    folder = sorted_photos(tmp_path, 255) / "photos"
    write_image(folder / "loose.jpg", 9)

    def right(words: str) -> int:
        words = words.replace("--masks DIR", f"--masks {tmp_path / 'masks' / 'cat'}")
        return status_of("data", "check", *words.split())

    pattern = r"give one of the sub-folders, such as (--images .+?)\.(?: |$)"
    assert followed(lambda: open_images(folder), pattern, right) == 0


GIVEN = r"give one of the sub-folders, such as --images (\S+?)\.?(?: |$)"


def test_images_beside_sub_folders_are_moved_or_a_sub_folder_given(tmp_path: Path) -> None:
    folder = sorted_photos(tmp_path, 255) / "photos"
    write_image(folder / "loose.jpg", 9)
    dataset = followed(
        lambda: open_images(folder),
        GIVEN,
        lambda place: open_images(place, tmp_path / "masks" / Path(place).name),
    )
    assert len(dataset) == 2

    def moved() -> FolderDataset:
        (folder / "loose.jpg").rename(tmp_path / "loose.jpg")
        return open_images(folder)

    said = "If the sub-folders are classes, move the images beside them elsewhere"
    assert tried(lambda: open_images(folder), said, moved).classes == ("cat", "dog")


def test_sub_folders_without_images_are_removed_where_the_others_are_classes(tmp_path: Path) -> None:
    folder = sorted_photos(tmp_path) / "photos"
    (folder / "cow").mkdir()

    def removed(empty: str) -> FolderDataset:
        Path(empty).rmdir()
        return open_images(folder)

    said = r"If they are classes, remove those without images: (.+?)\.$"
    assert followed(lambda: open_images(folder), said, lambda empty: removed(empty)).classes == ("cat", "dog")


# pairing.py


@pytest.mark.parametrize("new", ["photos/d.jpg", "d.jpg"])
def test_one_of_two_images_of_a_mask_is_renamed_or_moved(tmp_path: Path, new: str) -> None:
    photos(tmp_path, ("a_mask.png", "b.png", "c.png"))
    other = write_image(tmp_path / "photos" / "a_mask.jpg", 8)

    def moved() -> FolderDataset:
        other.rename(tmp_path / new)
        return opened(tmp_path)

    assert len(tried(lambda: opened(tmp_path), "Rename or move one of the images", moved)) == 3


def test_masks_that_are_not_meant_are_moved(tmp_path: Path) -> None:
    photos(tmp_path, ALL)
    other = write_grey(tmp_path / "masks" / "a_mask.png", drawn(254))

    def moved() -> FolderDataset:
        (tmp_path / "others").mkdir()
        other.rename(tmp_path / "others" / other.name)
        return opened(tmp_path)

    said = "Move the masks that are not meant to another folder"
    assert values_in(tried(lambda: opened(tmp_path), said, moved)) == [[0, 1]] * 3


def unread(root: Path, suffix: str) -> Path:
    photos(root, ())
    (root / "masks").mkdir()
    for name in "abc":
        file = root / "masks" / f"{name}{suffix}"
        if suffix == ".npy":
            np.save(file, drawn())
        elif suffix == ".npz":
            np.savez(file, drawn())
        else:
            file.write_bytes(drawn().tobytes())
    return root


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_masks_of_numpy_are_saved_as_the_way_out_writes(tmp_path: Path, suffix: str) -> None:
    unread(tmp_path, suffix)

    def right(code: str) -> FolderDataset:
        for name in "abc":
            own = code.replace(f"a{suffix}", f"{name}{suffix}").replace("a.png", f"{name}.png")
            eval(own, {"Image": Image, "np": np})
        return opened(tmp_path)

    dataset = followed(lambda: opened(tmp_path), r"Save each as PNG: (Image.+\))\.", right)
    assert values_in(dataset) == [[0, 1]] * 3


def test_a_coco_file_among_masks_is_given_as_such(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    photos(tmp_path, ())
    (tmp_path / "masks").mkdir()
    content = coco_content()
    (tmp_path / "masks" / "a.json").write_text(json.dumps(content))

    def right(option: str) -> int:
        return status_of("data", "check", "--images", tmp_path / "photos", option, tmp_path / "masks" / "a.json")

    assert followed(lambda: opened(tmp_path), r"A COCO file is given as (--coco) FILE", right) == 0


def test_masks_of_another_suffix_are_saved_as_the_way_out_writes(tmp_path: Path) -> None:
    unread(tmp_path, ".raw")

    def right(code: str) -> FolderDataset:
        for name in "abc":
            labels = np.frombuffer((tmp_path / "masks" / f"{name}.raw").read_bytes(), np.uint8).reshape(SIZE)
            eval(code.replace("a.png", f"{name}.png"), {"Image": Image, "labels": labels})
        return opened(tmp_path)

    dataset = followed(lambda: opened(tmp_path), r"as PNG: (Image.+?\))\.$", right)
    assert values_in(dataset) == [[0, 1]] * 3


@pytest.mark.parametrize(
    "form",
    ["{}_mask.png", "{}-mask.png", "{}.mask.png", "{}_seg.png", "{}-seg.png", "{}_gt.png", "{}_label.png",
     "mask_{}.png", "{}.png"],
)  # fmt: skip
def test_masks_are_called_as_the_way_out_says(tmp_path: Path, form: str) -> None:
    photos(tmp_path, ("one.png", "two.png", "three.png"))

    def renamed() -> FolderDataset:
        for name, file in zip("abc", sorted((tmp_path / "masks").iterdir()), strict=True):
            file.rename(file.with_name(form.format(name)))
        return opened(tmp_path)

    around = {"mask_{}.png": "mask_ before", "{}.png": "Name a mask like its image"}
    said = around.get(form, form.removeprefix("{}").removesuffix(".png"))
    assert len(tried(lambda: opened(tmp_path), said, renamed)) == 3


def test_masks_of_images_in_sub_folders_lie_in_sub_folders(tmp_path: Path) -> None:
    sorted_photos(tmp_path)
    for name in ("first", "second", "third"):
        write_grey(tmp_path / "masks" / f"{name}.png", drawn())

    def moved() -> FolderDataset:
        files = sorted((tmp_path / "masks").glob("*.png"))
        for file, name in zip(files, ("cat/0", "cat/1", "dog/0"), strict=True):
            (tmp_path / "masks" / name).parent.mkdir(exist_ok=True)
            file.rename(tmp_path / "masks" / f"{name}.png")
        return opened(tmp_path)

    said = "Masks of images in sub-folders lie in sub-folders of the same names"
    assert tried(lambda: opened(tmp_path), said, moved).classes == ("cat", "dog")


def test_masks_that_are_not_read_for_their_suffix_are_named(tmp_path: Path) -> None:
    photos(tmp_path, ("b.png", "d.png"))
    np.save(tmp_path / "masks" / "a.npy", drawn())
    np.save(tmp_path / "masks" / "c.npy", drawn())

    def saved(names: str) -> FolderDataset:
        for name in names.split(", "):
            write_grey(Path(name).with_suffix(".png"), np.load(name))
        (tmp_path / "masks" / "d.png").unlink()
        return opened(tmp_path)

    assert len(followed(lambda: opened(tmp_path), r"Not read for their suffix: (.+)\.$", saved)) == 3


def test_masks_of_more_classes_than_are_named_get_all_names(tmp_path: Path) -> None:
    of_values(tmp_path, held(0, 1, 2), held(0, 2), held(0, 1, 2))

    def wrong() -> object:
        return opened(tmp_path, classes=("a",))

    dataset = followed(wrong, r"--classes (\S+) \(classes=", lambda names: opened(tmp_path, classes=names.split(",")))
    assert (dataset.classes, dataset.targets.tolist()) == (("a", "b"), [[1, 1], [0, 1], [1, 1]])
    followed(wrong, r"--mask-values (\S+)", lambda values: opened(tmp_path, classes=("a",), mask_values=values))


def test_values_of_one_object_are_no_classes(tmp_path: Path) -> None:
    of_values(tmp_path, held(0, 7, 9), held(0, 7), held(0, 9))
    with pytest.raises(ViceError) as caught:
        opened(tmp_path, classes=("a",))
    assert "--classes" not in caught.value.way_out


def test_a_folder_with_a_space_is_quoted(tmp_path: Path) -> None:
    sorted_photos(tmp_path / "my data")
    write_image(tmp_path / "my data" / "photos" / "a.png")

    def right(images: str) -> FolderDataset:
        (folder,) = shlex.split(images)
        return open_images(folder, tmp_path / "masks")

    write_grey(tmp_path / "masks" / "0.png", drawn())
    write_grey(tmp_path / "masks" / "1.png", drawn())
    pattern = r"such as --images ('.+?') --masks DIR"
    assert len(followed(lambda: open_images(tmp_path / "my data" / "photos"), pattern, right)) == 2


def table(root: Path) -> Path:
    """A table of vice assess with a figure, whose dataset is photos/ and masks/."""
    photos(root, ALL)
    write_image(root / "table" / "figures" / "vice.png")
    manifest = {"schema": 2, "dataset": {"root": str(root / "photos")}, "thresholds": [0.0]}
    (root / "table" / "manifest.json").write_text(json.dumps(manifest))
    return root / "table"


@pytest.mark.parametrize("given", [open_dataset, open_images, open_any_images, survey])
@pytest.mark.parametrize("inside", [".", "figures"])
def test_a_table_is_no_dataset(tmp_path: Path, given: Callable[..., Any], inside: str) -> None:
    folder = table(tmp_path) / inside
    found = followed(
        lambda: given(folder),
        r"Give the folder of the dataset, which was (\S+) for this table",
        lambda root: open_images(root, tmp_path / "masks"),
    )
    assert len(found) == 3


@pytest.mark.parametrize("content", ["[]", "{", '{"schema": 2}'])
def test_a_manifest_of_something_else_is_passed_over(tmp_path: Path, content: str) -> None:
    root = sorted_photos(tmp_path) / "photos"
    (root / "manifest.json").write_text(content)
    assert len(open_dataset(root)) == 3
