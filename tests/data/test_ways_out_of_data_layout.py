"""Datasets with lists, their labels, masks and images: what each refusal's way out says is done, and works."""

from __future__ import annotations

import ast
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bare_files import SIZE, drawn, photos, write_grey, write_image
from following import followed, listed, two_masks
from PIL import Image
from voc_files import write_boxes, write_xml

from command import status_of
from torchvice.assessment.images import check_dataset
from torchvice.config import load_settings
from torchvice.data import FolderDataset, check_files, open_dataset, open_images, read_image, read_list, read_mask
from torchvice.data.images import stored_size
from torchvice.data.layout import split_of_setting
from torchvice.data.open import open_any_images
from torchvice.data.selected import select_classes
from torchvice.errors import ViceError
from ways_out import tried

BOX = (4, 3, 7, 5)  # around the square that `drawn` draws


def values_in(dataset: FolderDataset) -> list[list[int]]:
    masks = [dataset.mask(index) for index in range(len(dataset))]
    return [np.unique(mask).tolist() for mask in masks if mask is not None]


def written(file: Path, text: str) -> Callable[[], FolderDataset]:
    """What opens the dataset of a folder after the text of one of its files is written."""

    def right() -> FolderDataset:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return open_dataset(file.parent)

    return right


def described(root: Path, *lines: str) -> FolderDataset:
    (root / "dataset.yaml").write_text("".join(f"{line}\n" for line in lines))
    return open_dataset(root)


def pixels(height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


# annotations.py


def annotated(root: Path) -> Path:
    two_masks(root)
    write_boxes(root / "Annotations" / "0.xml", [("cat", BOX, 0)])
    write_boxes(root / "Annotations" / "1.xml", [("dog", BOX, 0)])
    return root


@pytest.mark.parametrize("said", ["Write it again", "or remove it"])
def test_a_broken_annotation_is_written_again_or_removed(tmp_path: Path, said: str) -> None:
    file = annotated(tmp_path) / "Annotations" / "0.xml"
    file.write_text("<annotation><object>")

    def right() -> Any:
        if "again" in said:
            write_boxes(file, [("cat", BOX, 0)])
        else:
            file.unlink()
        return open_dataset(tmp_path)

    dataset = tried(lambda: open_dataset(tmp_path, labels="masks").boxes(0), said, right)
    assert (dataset.boxes(0) is not None) == ("again" in said)
    assert dataset.targets.tolist() == [[1, 0], [0, 1]]


def test_an_unknown_class_of_an_annotation_gets_the_name_that_was_meant(tmp_path: Path) -> None:
    file = annotated(tmp_path) / "Annotations" / "0.xml"
    write_boxes(file, [("cats", BOX, 0)])

    def right(name: str) -> FolderDataset:
        write_boxes(file, [(name, BOX, 0)])
        return open_dataset(tmp_path)

    dataset = followed(lambda: open_dataset(tmp_path), "Did you mean `(.+?)`", right)
    assert dataset.targets.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("said", ["Add xmin, ymin, xmax and ymax in a bndbox", "or remove the object"])
def test_an_object_without_a_box_gets_one_or_is_removed(tmp_path: Path, said: str) -> None:
    file = annotated(tmp_path) / "Annotations" / "0.xml"
    write_boxes(file, [("cat", BOX, 0), ("dog", (1, 1, 2, 2), 0)])
    whole = file.read_text()
    corners = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
    file.write_text(whole.replace(corners, ""))
    assert file.read_text() != whole
    dataset = open_dataset(tmp_path, labels="masks")

    def right() -> Any:
        if "Add" in said:
            file.write_text(whole)
        else:
            write_boxes(file, [("cat", BOX, 0)])
        return dataset.boxes(0)

    assert len(tried(lambda: dataset.boxes(0), said, right)[0]) == (2 if "Add" in said else 1)


def test_a_box_counts_pixels_from_one_and_includes_the_last(tmp_path: Path) -> None:
    file = annotated(tmp_path) / "Annotations" / "0.xml"
    write_boxes(file, [("cat", (0, 0, 11, 7), 0)])
    dataset = open_dataset(tmp_path)

    def right() -> Any:
        write_boxes(file, [("cat", (1, 1, 12, 8), 0)])
        return dataset.boxes(0)

    said = "VOC counts pixels from 1 and includes the last one"
    assert tried(lambda: dataset.boxes(0), said, right)[1].tolist() == [[0, 0, 12, 8]]


def test_a_box_is_drawn_before_the_rotation(tmp_path: Path) -> None:
    file = annotated(tmp_path) / "Annotations" / "0.xml"
    write_boxes(file, [("cat", (1, 1, 8, 12), 0)])
    dataset = open_dataset(tmp_path)

    def right() -> Any:
        write_boxes(file, [("cat", (1, 1, 12, 8), 0)])
        return dataset.boxes(0)

    assert tried(lambda: dataset.boxes(0), "boxes are drawn before any EXIF rotation", right) is not None


# check.py, unlabelled.py


Listing = Callable[[str], str]
EVERY, MISSING = "List every problem: vice (data check .+)", "List them all: vice (data check .+)"


@pytest.fixture
def listing(capsys: pytest.CaptureFixture[str]) -> Listing:
    """What the command `vice data check` of a way out prints of a dataset with problems."""

    def run(words: str) -> str:
        assert status_of(*shlex.split(words)) == 1
        return " ".join(capsys.readouterr().out.split())

    return run


def test_every_problem_of_a_split_is_listed(tmp_path: Path, listing: Listing) -> None:
    dataset = open_dataset(two_masks(tmp_path))
    write_grey(tmp_path / "SegmentationClass" / "1.png", drawn(2, (3, 3)))
    assert "but is 3 x 3" in followed(lambda: check_files(dataset), EVERY, listing)
    write_grey(tmp_path / "SegmentationClass" / "1.png", drawn(2))
    assert check_files(dataset) == ()


@pytest.mark.parametrize(("values", "classes"), [((255, 255, 255), None), ((1, 2, 1), ("cat", "dog"))])
def test_every_problem_of_a_folder_is_listed(
    tmp_path: Path, listing: Listing, values: tuple[int, ...], classes: tuple[str, ...] | None
) -> None:
    photos(tmp_path, ())
    for name, value in zip("abc", values, strict=True):
        write_grey(tmp_path / "masks" / f"{name}.png", drawn(value))
    dataset = open_images(tmp_path / "photos", tmp_path / "masks", classes=classes)
    write_grey(tmp_path / "masks" / "b.png", drawn(values[1], (3, 3)))
    assert "but is 3 x 3" in followed(lambda: check_files(dataset), EVERY, listing)


def test_a_broken_image_without_labels_is_removed(tmp_path: Path) -> None:
    folder = photos(tmp_path, ()) / "photos"
    (folder / "a.jpg").write_bytes(b"no image")

    def right() -> int:
        (folder / "a.jpg").unlink()
        assert check_files(open_any_images(folder)) == ()
        return len(open_any_images(folder))

    assert tried(lambda: check_files(open_any_images(folder)), "remove", right) == 2


def test_missing_images_are_listed(tmp_path: Path, listing: Listing) -> None:
    (two_masks(tmp_path) / "val.txt").write_text("0\n7\n")
    assert "The image of `7` must be" in followed(lambda: open_dataset(tmp_path), MISSING, listing)
    unlabelled = pytest.importorskip("torchvice.data.unlabelled")
    found = followed(lambda: unlabelled.UnlabelledImages(tmp_path, "val"), MISSING, listing)
    assert "The image of `7` must be" in found


def test_missing_images_of_a_list_elsewhere_are_listed(tmp_path: Path, listing: Listing) -> None:
    two_masks(tmp_path / "root")
    (tmp_path / "mine.txt").write_text("0\n7\n")
    found = followed(lambda: open_dataset(tmp_path / "root", tmp_path / "mine.txt"), MISSING, listing)
    assert "The image of `7` must be" in found


def test_every_problem_of_a_list_elsewhere_is_listed(tmp_path: Path, listing: Listing) -> None:
    root, mine = two_masks(tmp_path / "root"), tmp_path / "mine.txt"
    mine.write_text("0\n1\n")
    dataset = open_dataset(root, mine)
    write_grey(root / "SegmentationClass" / "1.png", drawn(2, (3, 3)))
    assert "but is 3 x 3" in followed(lambda: check_files(dataset), EVERY, listing)


def test_an_empty_image_is_called_empty(tmp_path: Path) -> None:
    file = two_masks(tmp_path) / "JPEGImages" / "0.png"
    file.write_bytes(b"")
    for read in (read_image, stored_size):
        with pytest.raises(ViceError, match="but is empty") as caught:
            read(file)
        assert "Save" not in caught.value.way_out


def test_missing_images_of_a_folder_with_a_space_are_listed(tmp_path: Path, listing: Listing) -> None:
    (two_masks(tmp_path / "my data") / "val.txt").write_text("0\n7\n")
    assert "The image of `7` must be" in followed(lambda: open_dataset(tmp_path / "my data"), MISSING, listing)


def test_a_folder_without_images_is_replaced_by_the_one_that_holds_them(tmp_path: Path) -> None:
    two_masks(tmp_path / "whole" / "VOC2012")
    (tmp_path / "lists").mkdir()
    shutil.copy(tmp_path / "whole" / "VOC2012" / "val.txt", tmp_path / "lists" / "val.txt")
    for folder in ("whole", "whole/VOC2012"):
        dataset = tried(
            lambda: open_dataset(tmp_path / "lists"),
            "Give the folder that holds VOC2012/JPEGImages (or the VOC2012 folder itself)",
            lambda folder=folder: open_dataset(tmp_path / folder),
        )
        assert len(dataset) == 2


def test_views_of_unlabelled_images_are_set(tmp_path: Path) -> None:
    unlabelled = pytest.importorskip("torchvice.data.unlabelled")
    two_masks(tmp_path)
    views = followed(
        lambda: unlabelled.UnlabelledImages(tmp_path, "val")[0],
        r"Set it: UnlabelledImages\((\w+)=\.\.\.\)",
        lambda name: unlabelled.UnlabelledImages(tmp_path, "val", **{name: lambda image: [image.size]})[0],
    )
    assert views == [(12, 8)]


# description.py


def test_a_description_gets_the_key_of_its_classes(tmp_path: Path) -> None:
    two_masks(tmp_path)
    (tmp_path / "dataset.yaml").write_text("classes: {cat: 1, dog: 2}\n")
    dataset = followed(
        lambda: open_dataset(tmp_path),
        r"Known keys: (\w+),",
        lambda key: described(tmp_path, f"{key}: {{cat: 1, dog: 2}}"),
    )
    assert dataset.classes == ("cat", "dog")


def test_an_unknown_key_of_a_description_gets_the_name_that_was_meant(tmp_path: Path) -> None:
    two_masks(tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: [cat, dog]\nmask: SegmentationClass\n")
    dataset = followed(
        lambda: open_dataset(tmp_path),
        "Did you mean `(.+?)`",
        lambda key: described(tmp_path, "names: [cat, dog]", f"{key}: SegmentationClass"),
    )
    assert values_in(dataset) == [[0, 1], [0, 2]]


@pytest.mark.parametrize(
    ("name", "key"), [("background", "background"), ("void", "void"), ("__ignore__", "void"), ("bg", "background")]
)
def test_the_background_of_a_description_gets_its_key(tmp_path: Path, name: str, key: str) -> None:
    mask = drawn(1)
    mask[0] = 9
    listed(tmp_path, mask)
    (tmp_path / "dataset.yaml").write_text(f"names: {{cat: 1, {name}: 9}}\n")
    dataset = followed(
        lambda: open_dataset(tmp_path),
        rf"Use the key .*`({key})`",
        lambda key: described(tmp_path, "names: {cat: 1}", f"{key}: [0, 9]" if key == "background" else f"{key}: 9"),
    )
    assert values_in(dataset) == [[0, 1] if key == "background" else [0, 1, 255]]


def quoted(root: Path, name: str, form: str) -> FolderDataset:
    """The dataset whose class is called like a word of YAML, after the name got quotation marks."""
    (two_masks(root) / "dataset.yaml").write_text(f"names: {form.format(name)}\n")
    pattern = rf"such as .*\b({name})\b.*needs quotation marks" if name in ("no", "7") else "needs (quotation marks)"
    return followed(
        lambda: open_dataset(root), pattern, lambda _: described(root, f"""names: {form.format(f'"{name}"')}""")
    )


@pytest.mark.parametrize("form", ["[{}, cat]", "{{{}: 1, cat: 2}}"])
@pytest.mark.parametrize("name", ["7", "true", "null", "1.5"])
def test_a_name_that_yaml_reads_as_something_else_gets_quotation_marks(tmp_path: Path, name: str, form: str) -> None:
    assert quoted(tmp_path, name, form).classes == (name, "cat")


def test_every_example_of_a_name_needs_quotation_marks(tmp_path: Path) -> None:
    def right(first: str, second: str) -> list[FolderDataset]:
        return [quoted(tmp_path / name, name, "[{}, cat]") for name in (first, second)]

    (two_masks(tmp_path) / "dataset.yaml").write_text("names: [7, cat]\n")
    assert followed(lambda: open_dataset(tmp_path), r"A name such as (\w+) or (\w+),", right)


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("Give each class a value", "{cat: 1, dog: 2}"),
        ("or each a colour such as [128, 0, 0]", "{cat: [1, 1, 1], dog: [2, 2, 2]}"),
    ],
)
def test_values_and_colours_are_not_mixed(tmp_path: Path, said: str, names: str) -> None:
    two_masks(tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: {cat: 1, dog: [128, 0, 0]}\n")
    dataset = tried(lambda: open_dataset(tmp_path), said, lambda: described(tmp_path, f"names: {names}"))
    assert dataset.targets.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("lines", [("names: {cat: 1, dog: 2}",), ("names: {cat: 1}", "background: [0, 2]")])
def test_a_value_of_two_meanings_is_removed_from_one(tmp_path: Path, lines: tuple[str, ...]) -> None:
    two_masks(tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: {cat: 1, dog: 2}\nbackground: [0, 2]\n")
    dataset = tried(
        lambda: open_dataset(tmp_path), "Remove it from one of the two", lambda: described(tmp_path, *lines)
    )
    assert dataset.targets.any(1).tolist() == [True, len(lines) == 1]


@pytest.mark.parametrize("colour", ["[2, 2, 2]", '"#020202"'])
def test_a_colour_is_written_as_the_way_out_says(tmp_path: Path, colour: str) -> None:
    two_masks(tmp_path)
    (tmp_path / "dataset.yaml").write_text('names: {cat: "#010101", dog: [2, 2, 256]}\n')
    dataset = tried(
        lambda: open_dataset(tmp_path),
        '[red, green, blue], each 0 to 255, or "#rrggbb"',
        lambda: described(tmp_path, f'names: {{cat: "#010101", dog: {colour}}}'),
    )
    assert dataset.targets.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("masks: '{root}/inner/drawn'", "masks: inner/drawn"),
        ("masks: drawn", "masks: inner/drawn"),
        ("splits: {{test: lists.txt}}", "splits: {{test: inner/lists.txt}}"),
    ],
)
def test_a_path_is_written_from_the_folder_of_the_description(tmp_path: Path, wrong: str, right: str) -> None:
    root = two_masks(tmp_path / "root")
    shutil.copytree(root / "SegmentationClass", root / "inner" / "drawn")
    (root / "val.txt").rename(root / "inner" / "lists.txt")
    names = "names: [cat, dog]"
    split = "test" if "splits" in wrong else "../inner/lists"
    lists = root / "inner" / "lists.txt"

    def opened(line: str) -> FolderDataset:
        line = line.format(root="nowhere")
        (root / "dataset.yaml").write_text(f"{names}\n{line}\n")
        return open_dataset(root, split if "splits" in wrong else lists)

    said = "Write its path from the folder of dataset.yaml"
    assert values_in(tried(lambda: opened(wrong), said, lambda: opened(right))) == [[0, 1], [0, 2]]


@pytest.mark.parametrize("key", ["background", "void"])
def test_a_value_that_a_description_lacks_is_added(tmp_path: Path, key: str) -> None:
    mask = drawn(1)
    mask[0] = 9
    listed(tmp_path, mask)
    (tmp_path / "dataset.yaml").write_text("names: {cat: 1}\n")
    value = "[0, 9]" if key == "background" else "9"
    dataset = followed(
        lambda: open_dataset(tmp_path).mask(0),
        f"Add it .*`({key})`",
        lambda key: described(tmp_path, "names: {cat: 1}", f"{key}: {value}"),
    )
    assert values_in(dataset) == [[0, 1] if key == "background" else [0, 1, 255]]


def test_a_value_that_a_description_lacks_becomes_a_class(tmp_path: Path) -> None:
    mask = drawn(1)
    mask[0] = 9
    listed(tmp_path, mask)
    (tmp_path / "dataset.yaml").write_text("names: {cat: 1}\n")
    said = "as a class of its own"
    dataset = tried(lambda: open_dataset(tmp_path), said, lambda: described(tmp_path, "names: {cat: 1, dog: 9}"))
    assert values_in(dataset) == [[0, 1, 2]]


# finder.py


@pytest.mark.parametrize(
    ("name", "text"),
    [("Classes.txt", "cat\ndog\n"), ("labels.txt", "cat\ndog\n"), ("dataset.yml", "names: [cat, dog]")],
)
def test_a_file_is_called_as_the_way_out_says(tmp_path: Path, name: str, text: str) -> None:
    listed(tmp_path, drawn(1), drawn(2), classes="")
    (tmp_path / name).write_text(text)

    def right(called: str) -> FolderDataset:
        (tmp_path / name).rename(tmp_path / called)
        return open_dataset(tmp_path)

    pattern = r"(?:Rename it to|into) (\w+\.\w+)"
    assert followed(lambda: open_dataset(tmp_path), pattern, right).classes == ("cat", "dog")


# images.py


def test_a_file_that_is_no_image_is_saved_as_one(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        file = tmp_path / f"a.{suffix}"
        file.write_text("no image")

        def right(file: Path = file) -> np.ndarray:
            Image.fromarray(pixels()).save(file)
            return read_image(file)

        image = tried(lambda file=file: read_image(file), "Save it as PNG or JPEG", right)
        assert image.shape == (*SIZE, 3)


@pytest.mark.parametrize(
    "said", ["Copy or download it again", "or leave it out: remove the file, and its name where a list has it"]
)
def test_a_truncated_image_is_copied_again_or_taken_out_of_the_list(tmp_path: Path, said: str) -> None:
    file = two_masks(tmp_path) / "JPEGImages" / "1.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])

    def every() -> list[np.ndarray]:
        dataset = open_dataset(tmp_path)
        return [dataset.image(index) for index in range(len(dataset))]

    def right() -> list[np.ndarray]:
        if "again" in said:
            file.write_bytes(whole)
        else:
            file.unlink()
            (tmp_path / "val.txt").write_text("0\n")
        return every()

    assert len(tried(every, said, right)) == (2 if "again" in said else 1)


@pytest.mark.parametrize(("kind", "suffix"), [("GIF", "gif"), ("TIFF", "tif"), ("PNG", "png"), ("WEBP", "webp")])
@pytest.mark.parametrize("frame", [0, 1])
def test_the_frame_that_is_meant_is_saved(tmp_path: Path, kind: str, suffix: str, frame: int) -> None:
    path = tmp_path / f"a.{suffix}"
    first, *others = [Image.fromarray(np.full(SIZE, value, np.uint8)) for value in (50, 200)]
    first.save(path, kind, save_all=True, append_images=others, lossless=True)

    def right(place: str) -> np.ndarray:
        with Image.open(path) as picture:
            picture.seek(int(place))
            picture.save(tmp_path / "one.png")
        return read_image(tmp_path / "one.png")

    pattern = r"after \.seek\((1)\) the second" if frame else r"Image\.open\(path\) shows the first()"
    image = followed(lambda: read_image(path), pattern, lambda place: right(place or "0"))
    assert abs(int(image[0, 0, 0]) - (50, 200)[frame]) <= 2


def test_an_image_of_16_bits_is_saved_as_the_way_out_writes(tmp_path: Path) -> None:
    deep = (pixels()[..., 0].astype(np.uint16)) * 257
    Image.fromarray(deep).save(tmp_path / "a.png")

    def right(code: str, largest: str) -> np.ndarray:
        with Image.open(tmp_path / "a.png") as image:
            made = eval(code, {"Image": Image, "np": np, "image": image, "largest": int(largest)})
        made.save(tmp_path / "b.png")
        return read_image(tmp_path / "b.png")

    pattern = r"Save it with 8 bits: (Image\..+?\)), where .* such as (\d+) for 16 bits"
    image = followed(lambda: read_image(tmp_path / "a.png"), pattern, right)
    assert np.abs(image[..., 0].astype(int) - pixels()[..., 0]).max() <= 1


def test_a_mask_in_colour_is_saved_with_its_label_indices(tmp_path: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[2:5, 3:7] = (128, 0, 0)
    file = write_grey(tmp_path / "a.png", colours)

    def right(background: str) -> np.ndarray:
        labels = np.full(SIZE, int(background), np.uint8)
        labels[(colours == (128, 0, 0)).all(2)] = 1
        write_grey(file, labels)
        return read_mask(file)

    mask = followed(lambda: read_mask(file), r"Save the label indices themselves \((\d) background, c \+ 1", right)
    np.testing.assert_array_equal(mask, drawn(1))


def of_16_bits(root: Path) -> Path:
    """A dataset whose classes have colours, and a mask of one number a pixel, of 16 bits."""
    listed(root, drawn(1).astype(np.uint16), classes="")
    (root / "dataset.yaml").write_text("names: {cat: [128, 0, 0]}\n")
    return root


def test_a_mask_of_16_bits_is_saved_with_colours_of_8(tmp_path: Path) -> None:
    of_16_bits(tmp_path)

    def right() -> FolderDataset:
        colours = drawn(1)[..., None] * np.array((128, 0, 0), np.uint8)
        write_grey(tmp_path / "SegmentationClass" / "0.png", colours)
        return open_dataset(tmp_path)

    said = "with colours of 8 bits a channel"
    assert values_in(tried(lambda: open_dataset(tmp_path).mask(0), said, right)) == [[0, 1]]


def test_the_values_of_a_mask_of_16_bits_are_named(tmp_path: Path) -> None:
    of_16_bits(tmp_path)
    said = "name values, not colours, in dataset.yaml"
    dataset = tried(lambda: open_dataset(tmp_path).mask(0), said, lambda: described(tmp_path, "names: {cat: 1}"))
    assert values_in(dataset) == [[0, 1]]


def held(*values: int) -> np.ndarray:
    return np.resize(np.array(values, np.uint8), SIZE)


def soft() -> np.ndarray:
    return np.linspace(0, 255, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)


def first_mask(root: Path) -> np.ndarray | None:
    return open_dataset(root).mask(0)


def in_yaml(root: Path) -> Callable[..., FolderDataset]:
    return lambda *lines: described(root, *lines)


def with_classes(root: Path, count: int) -> Callable[[str], FolderDataset]:
    """What opens the dataset after so many names are written into the file that the way out names."""

    def right(file: str) -> FolderDataset:
        (root / file).write_text("".join(f"c{place}\n" for place in range(count)))
        return open_dataset(root)

    return right


IN_CLASSES = r"in (classes\.txt), one name per line"


def test_a_trimap_is_described_as_the_way_out_writes(tmp_path: Path) -> None:
    listed(tmp_path, held(1, 2, 3), classes="cat\n")
    pattern = r"`(names: .+?)`, `(background: .+?)`, `(void: .+?)`"
    assert values_in(followed(lambda: first_mask(tmp_path), pattern, in_yaml(tmp_path))) == [[0, 1, 255]]


def test_classes_that_look_like_a_trimap_are_named(tmp_path: Path) -> None:
    listed(tmp_path, held(1, 2, 3), classes="cat\n")
    dataset = followed(lambda: first_mask(tmp_path), f"give all classes {IN_CLASSES}", with_classes(tmp_path, 3))
    assert values_in(dataset) == [[1, 2, 3]]


def test_soft_edges_are_read_with_the_options_of_the_way_out(tmp_path: Path) -> None:
    listed(tmp_path, soft(), classes="cat\n")

    def right(masks: str, values: str) -> FolderDataset:
        return open_images(tmp_path / "JPEGImages", masks, mask_values=values)

    pattern = r"--images DIR --masks (\S+) --mask-values (\S+?)\. "
    dataset = followed(lambda: first_mask(tmp_path), pattern, right)
    np.testing.assert_array_equal(dataset.mask(0), soft() > 127)
    pattern = rf"name all of them {IN_CLASSES}"
    dataset = followed(lambda: first_mask(tmp_path), pattern, with_classes(tmp_path, 254))
    np.testing.assert_array_equal(dataset.mask(0), soft())


def test_the_value_of_one_object_is_described_as_the_way_out_writes(tmp_path: Path) -> None:
    listed(tmp_path, drawn(7), classes="cat\n")
    dataset = followed(lambda: first_mask(tmp_path), "in a folder with lists: `(names: .+?)`", in_yaml(tmp_path))
    assert (dataset.classes, values_in(dataset)) == (("object",), [[0, 1]])


def test_the_classes_of_one_large_value_are_named(tmp_path: Path) -> None:
    listed(tmp_path, drawn(7), classes="cat\n")
    pattern = f"give the classes of the masks {IN_CLASSES}"
    assert values_in(followed(lambda: first_mask(tmp_path), pattern, with_classes(tmp_path, 7))) == [[0, 7]]


def test_classes_that_masks_hold_beyond_those_named_are_named(tmp_path: Path) -> None:
    listed(tmp_path, held(0, 1, 3), classes="cat\ndog\n")
    pattern = f"Give all classes of the masks {IN_CLASSES}"
    assert values_in(followed(lambda: first_mask(tmp_path), pattern, with_classes(tmp_path, 3))) == [[0, 1, 3]]


def test_values_that_are_not_in_order_are_described_as_the_way_out_writes(tmp_path: Path) -> None:
    listed(tmp_path, held(0, 10, 20), classes="cat\ndog\n")
    dataset = followed(lambda: first_mask(tmp_path), r"dataset\.yaml.*`(names: .+?)`", in_yaml(tmp_path))
    assert (dataset.classes, values_in(dataset)) == (("a", "b"), [[0, 1, 2]])


def test_a_mask_of_many_classes_is_saved_with_16_bits(tmp_path: Path) -> None:
    mask = drawn(200)
    mask[0] = 255
    listed(tmp_path, mask, classes="".join(f"c{place}\n" for place in range(300)))

    def right(void: str) -> np.ndarray | None:
        deep = np.where(mask == 255, np.uint16(void), mask.astype(np.uint16))
        write_grey(tmp_path / "SegmentationClass" / "0.png", deep)
        return open_dataset(tmp_path, labels="masks").mask(0)

    pattern = r"Save it with 16 bits: class c, counted from 0, is c \+ 1, and void is (\d+)"
    found = followed(lambda: first_mask(tmp_path), pattern, right)
    assert np.unique(found).tolist() == [0, 200, 65535]


@pytest.mark.parametrize("classes", ["cat\n", "cat\ndog\n", "cat\ndog\ncow\n"])
def test_an_object_of_255_is_described_as_the_way_out_writes(tmp_path: Path, classes: str) -> None:
    listed(tmp_path, drawn(255), drawn(255), classes=classes)
    np.save(tmp_path / "cls_labels.npy", np.array({name: np.ones(classes.count("\n")) for name in "01"}, dtype=object))
    pattern = "dataset.yaml, such as `(names: .+?)`"

    def right(line: str) -> FolderDataset:
        (tmp_path / "cls_labels.npy").unlink()
        return described(tmp_path, line)

    dataset = followed(lambda: open_dataset(tmp_path), pattern, right)
    assert values_in(dataset) == [[0, 1]] * 2


def test_a_mask_is_drawn_on_the_pixels_as_stored(tmp_path: Path) -> None:
    two_masks(tmp_path)
    rotated = write_grey(tmp_path / "SegmentationClass" / "0.png", np.rot90(drawn(1)).copy())

    def right() -> FolderDataset:
        write_grey(rotated, drawn(1))
        return open_dataset(tmp_path)

    said = "Masks are drawn on the pixels as stored, before any EXIF rotation"
    assert values_in(tried(lambda: first_mask(tmp_path), said, right))[0] == [0, 1]


@pytest.mark.parametrize(
    "said", ["Save it as PNG or JPEG", "or leave it out: remove the file, and its name where a list has it"]
)
def test_an_image_without_a_header_is_saved_again_or_taken_out_of_the_list(tmp_path: Path, said: str) -> None:
    file = two_masks(tmp_path) / "JPEGImages" / "0.png"
    whole = file.read_bytes()
    file.write_bytes(b"no image")

    def right() -> FolderDataset:
        if "Save" in said:
            file.write_bytes(whole)
        else:
            file.unlink()
            (tmp_path / "val.txt").write_text("1\n")
        return open_dataset(tmp_path)

    found = values_in(tried(lambda: first_mask(tmp_path), said, right))
    assert found == ([[0, 1], [0, 2]] if "Save" in said else [[0, 2]])


# labels.py


def without_labels(root: Path) -> Path:
    shutil.rmtree(two_masks(root) / "SegmentationClass")
    return root


def labels(root: Path, **vectors: list[float]) -> None:
    content = {name.removeprefix("_"): np.array(vector) for name, vector in vectors.items()}
    np.save(root / "cls_labels.npy", np.array(content, dtype=object), allow_pickle=True)


def test_images_without_labels_get_any_of_the_three(tmp_path: Path) -> None:
    without_labels(tmp_path)

    def from_npy() -> FolderDataset:
        labels(tmp_path, _0=[1, 0], _1=[0, 1])
        return open_dataset(tmp_path)

    expected = [[1, 0], [0, 1]]
    said = "Give cls_labels.npy next to the lists"
    assert tried(lambda: open_dataset(tmp_path), said, from_npy).targets.tolist() == expected
    (tmp_path / "cls_labels.npy").unlink()

    def from_annotations() -> FolderDataset:
        for name, one in (("0", "cat"), ("1", "dog")):
            write_xml(tmp_path / "Annotations" / f"{name}.xml", [one])
        return open_dataset(tmp_path)

    said = "an Annotations folder of XML files"
    assert tried(lambda: open_dataset(tmp_path), said, from_annotations).targets.tolist() == expected
    shutil.rmtree(tmp_path / "Annotations")
    right = tried(lambda: open_dataset(tmp_path), "or masks", lambda: open_dataset(two_masks(tmp_path)))
    assert right.targets.tolist() == expected


def test_images_none_of_which_has_a_label_get_targets_of_one() -> None:
    def dataset(*rows: tuple[int, int]) -> Any:
        records = [SimpleNamespace(image_id=str(place)) for place in range(len(rows))]
        return SimpleNamespace(classes=("cat", "dog"), targets=np.array(rows, np.uint8), records=records)

    tried(
        lambda: check_dataset(dataset((0, 0), (0, 0))),
        "every class that an image shows is 1 in its row of the targets",
        lambda: check_dataset(dataset((1, 0), (0, 1))),
    )


def test_labels_of_another_length_get_their_classes(tmp_path: Path) -> None:
    without_labels(tmp_path)
    labels(tmp_path, _0=[1, 0, 0], _1=[0, 1, 1])
    pattern = f"Give the classes of the labels {IN_CLASSES}"
    dataset = followed(lambda: open_dataset(tmp_path), pattern, with_classes(tmp_path, 3))
    assert dataset.targets.tolist() == [[1, 0, 0], [0, 1, 1]]


def test_labels_of_another_length_get_their_classes_where_they_are_named(tmp_path: Path) -> None:
    without_labels(tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: [cat, dog]\n")
    labels(tmp_path, _0=[1, 0, 0], _1=[0, 1, 1])

    def right(file: str) -> FolderDataset:
        names = ["cat", "dog", "cow"]
        (tmp_path / file).write_text(f"names: {names}\n" if "yaml" in file else "\n".join(names))
        return open_dataset(tmp_path)

    pattern = r"in (?:.* )?(classes\.txt|dataset\.yaml)"
    assert followed(lambda: open_dataset(tmp_path), pattern, right).targets.tolist() == [[1, 0, 0], [0, 1, 1]]


def test_labels_are_written_as_one_and_zero(tmp_path: Path) -> None:
    without_labels(tmp_path)
    labels(tmp_path, _0=[2, 0], _1=[0, -1])

    def right(there: str, absent: str) -> FolderDataset:
        labels(tmp_path, _0=[float(there), float(absent)], _1=[float(absent), float(there)])
        return open_dataset(tmp_path)

    pattern = r"Write (\d) for the classes that the image has, (\d) for the others"
    assert followed(lambda: open_dataset(tmp_path), pattern, right).targets.tolist() == [[1, 0], [0, 1]]


# layout.py


@pytest.mark.parametrize("name", ["classes.txt", "dataset.yaml"])
def test_a_file_of_a_dataset_is_replaced_by_its_folder(tmp_path: Path, name: str) -> None:
    two_masks(tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: [cat, dog]\n")
    dataset = followed(lambda: open_dataset(tmp_path / name), r"Give its folder: (.+)\.$", open_dataset)
    assert len(dataset) == 2


def test_without_a_dataset_digits_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def right(words: str) -> FolderDataset:
        assert status_of(*words.split(), "--train", 1, "--val", 2, "--test", 1, "--size", 48) == 0
        return open_dataset("data/digits")

    pattern = r"To try torchvice without a dataset: vice (data digits --out data/digits)\."
    assert len(followed(lambda: open_dataset("data/digits"), pattern, right)) == 2


def test_a_dataset_that_is_not_there_is_given_by_the_folder_that_holds_it(tmp_path: Path) -> None:
    two_masks(tmp_path / "VOC2012")
    for folder in (tmp_path, tmp_path / "VOC2012"):
        dataset = tried(
            lambda: open_dataset(tmp_path / "none"),
            "Give the folder that holds VOC2012/JPEGImages (or the VOC2012 folder itself)",
            lambda folder=folder: open_dataset(folder),
        )
        assert len(dataset) == 2


@pytest.mark.parametrize("place", ["val.txt", "VOC2012/ImageSets/Segmentation/val.txt"])
def test_a_dataset_without_lists_gets_them_where_the_way_out_says(tmp_path: Path, place: str) -> None:
    voc = two_masks(tmp_path / "VOC2012")
    lines = (voc / "val.txt").read_text()
    (voc / "val.txt").unlink()

    def right() -> FolderDataset:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(lines)
        return open_dataset(tmp_path)

    said = "with the lists next to it" if place == "val.txt" else "or in VOC2012/ImageSets/Segmentation"
    assert len(tried(lambda: open_dataset(tmp_path), said, right)) == 2


def test_images_without_lists_are_given_by_two_folders(tmp_path: Path) -> None:
    (two_masks(tmp_path) / "val.txt").unlink()
    folders = ("JPEGImages", "SegmentationClass")
    dataset = tried(
        lambda: open_dataset(tmp_path),
        "Images without lists: --images DIR --masks DIR",
        lambda: open_images(*(tmp_path / name for name in folders)),
    )
    assert values_in(dataset) == [[0, 1], [0, 2]]


def test_masks_of_too_many_classes_are_moved(tmp_path: Path) -> None:
    listed(tmp_path, drawn(1), classes="".join(f"c{place}\n" for place in range(65535)))
    vector = np.zeros(65535, np.float32)
    vector[0] = 1
    np.save(tmp_path / "cls_labels.npy", np.array({"0": vector}, dtype=object), allow_pickle=True)

    def right() -> FolderDataset:
        (tmp_path / "SegmentationClass").rename(tmp_path / "elsewhere")
        return open_dataset(tmp_path)

    dataset = tried(lambda: open_dataset(tmp_path), "move the mask folders elsewhere", right)
    assert (dataset.targets.sum(), dataset.masks_missing) == (1, 1)


def test_a_list_that_was_meant_is_given(tmp_path: Path) -> None:
    two_masks(tmp_path)
    dataset = followed(
        lambda: open_dataset(tmp_path, "vall"), "Did you mean `(.+?)`", lambda name: open_dataset(tmp_path, name)
    )
    assert dataset.split == "val"


def test_a_list_that_a_setting_names_is_given_by_it(tmp_path: Path) -> None:
    two_masks(tmp_path)

    def opened(*overrides: str) -> FolderDataset:
        name = load_settings("demo", overrides).data.eval_split
        with split_of_setting("data.eval_split"):
            return open_dataset(tmp_path, name)

    dataset = followed(
        lambda: opened("data.eval_split=vall"),
        r"Did you mean `(.+?)`\? Give -o (.+?)=NAME",
        lambda name, setting: opened(f"{setting}={name}"),
    )
    assert dataset.split == "val"


def test_a_folder_of_masks_that_was_meant_is_given(tmp_path: Path) -> None:
    dataset = followed(
        lambda: open_dataset(two_masks(tmp_path), masks="SegmentationClas"),
        "Did you mean `(.+?)`",
        lambda name: open_dataset(tmp_path, masks=name),
    )
    assert values_in(dataset) == [[0, 1], [0, 2]]


def test_classes_that_a_description_has_are_left_out(tmp_path: Path) -> None:
    (two_masks(tmp_path) / "dataset.yaml").write_text("names: [cat, dog]\n")
    dataset = tried(
        lambda: open_dataset(tmp_path, classes=["dog", "cat"]), "Leave them out", lambda: open_dataset(tmp_path)
    )
    assert dataset.classes == ("cat", "dog")


# lists.py


def test_a_line_of_a_list_is_written_as_the_way_out_says(tmp_path: Path) -> None:
    file = tmp_path / "val.txt"
    file.write_text("cat -1\n")

    def right(name: str, pair: str) -> list[str]:
        file.write_text(f"{name}\n{pair}\n")
        return read_list(file)

    found = followed(lambda: read_list(file), "such as `(.+?)` or `(.+?)`", right)
    assert found == ["2007_000033", "x"]


def test_a_list_is_saved_as_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "val.txt"
    file.write_bytes("käse\n".encode("latin-1"))

    def right(encoding: str) -> list[str]:
        file.write_text("käse\n", encoding=encoding)
        return read_list(file)

    assert followed(lambda: read_list(file), r"Save it as (UTF-8)", right) == ["käse"]


def test_an_image_that_is_listed_twice_is_removed_once(tmp_path: Path) -> None:
    file = tmp_path / "val.txt"
    file.write_text("a\nb\na\n")

    def right() -> list[str]:
        file.write_text("a\nb\n")
        return read_list(file)

    assert tried(lambda: read_list(file), "Remove one of the two lines", right) == ["a", "b"]


def test_one_of_two_files_of_one_name_is_renamed(tmp_path: Path) -> None:
    two_masks(tmp_path)
    for folder in ("first", "second"):
        write_image(tmp_path / folder / "x.jpg", 4)
    (tmp_path / "val.txt").write_text("/first/x.jpg\n/second/x.jpg\n")

    def right() -> FolderDataset:
        (tmp_path / "second" / "x.jpg").rename(tmp_path / "second" / "y.jpg")
        (tmp_path / "val.txt").write_text("/first/x.jpg\n/second/y.jpg\n")
        labels(tmp_path, x=[1, 0], y=[0, 1])
        return open_dataset(tmp_path)

    said = "Rename one of the two files: an image is known by its name without folder and suffix"
    assert [one.image_id for one in tried(lambda: open_dataset(tmp_path), said, right).records] == ["x", "y"]


def test_an_empty_list_gets_one_name_per_line(tmp_path: Path) -> None:
    (two_masks(tmp_path) / "val.txt").write_text("\n")
    right = written(tmp_path / "val.txt", "0\n1\n")
    assert len(tried(lambda: open_dataset(tmp_path), "Write one name per line", right)) == 2


def test_one_of_two_lists_of_classes_is_removed(tmp_path: Path) -> None:
    two_masks(tmp_path / "VOC2012")
    (tmp_path / "classes.txt").write_text("cow\nfox\n")

    def right() -> FolderDataset:
        (tmp_path / "classes.txt").unlink()
        return open_dataset(tmp_path)

    assert tried(lambda: open_dataset(tmp_path), "Remove one of them", right).classes == ("cat", "dog")


def test_every_class_is_named_once(tmp_path: Path) -> None:
    (two_masks(tmp_path) / "classes.txt").write_text("cat\ncat\n")
    right = written(tmp_path / "classes.txt", "cat\ndog\n")
    assert tried(lambda: open_dataset(tmp_path), "Name every class once", right).classes == ("cat", "dog")


def test_one_class_is_given_as_a_list(tmp_path: Path) -> None:
    listed(tmp_path, drawn(1), classes="")
    dataset = followed(
        lambda: open_dataset(tmp_path, classes="cat"),
        r"classes=(\[.+?\])",
        lambda names: open_dataset(tmp_path, classes=ast.literal_eval(names)),
    )
    assert dataset.classes == ("cat",)


def test_a_background_among_the_classes_is_left_out(tmp_path: Path) -> None:
    (two_masks(tmp_path) / "classes.txt").write_text("background\ncat\ndog\n")
    right = written(tmp_path / "classes.txt", "cat\ndog\n")
    said = "Leave it out: background is label 0 and void 255 in a mask"
    assert values_in(tried(lambda: open_dataset(tmp_path), said, right)) == [[0, 1], [0, 2]]


# mask_values.py


def test_masks_that_look_like_trimaps_are_described_or_their_classes_named(tmp_path: Path) -> None:
    listed(tmp_path, held(1, 2, 3), held(1, 2), classes="")
    pattern = r"`(names: .+?)`, `(background: .+?)`, `(void: .+?)`"
    assert values_in(followed(lambda: open_dataset(tmp_path), pattern, in_yaml(tmp_path))) == [[0, 1, 255], [0, 1]]
    (tmp_path / "dataset.yaml").unlink()
    pattern = r"Else name the classes in (classes\.txt), one per line"
    dataset = followed(lambda: open_dataset(tmp_path), pattern, with_classes(tmp_path, 3))
    assert values_in(dataset) == [[1, 2, 3], [1, 2]]


# selected.py


def test_a_class_that_was_meant_is_selected(tmp_path: Path) -> None:
    whole = open_dataset(two_masks(tmp_path))
    selected = followed(
        lambda: select_classes(whole, ["dogs"]), "Did you mean `(.+?)`", lambda name: select_classes(whole, [name])
    )
    assert selected.classes == ("dog",)


# voc.py


def test_a_source_of_labels_that_was_meant_is_given(tmp_path: Path) -> None:
    dataset = followed(
        lambda: open_dataset(two_masks(tmp_path), labels="mask"),
        "Did you mean `(.+?)`",
        lambda name: open_dataset(tmp_path, labels=name),
    )
    assert dataset.label_source.startswith("masks")


def test_classes_that_do_not_exclude_each_other_are_set_so(tmp_path: Path) -> None:
    listed(tmp_path, drawn(1), held(0, 1, 2))

    def right(name: str, value: str) -> FolderDataset:
        settings = load_settings("demo", ["data.exclusive=true", f"{name}={value}"])
        return open_dataset(tmp_path, exclusive=settings.data.exclusive)

    dataset = followed(lambda: open_dataset(tmp_path, exclusive=True), r"Set (\S+) to (\w+) \(exclusive=False\)", right)
    assert dataset.targets.tolist() == [[1, 0], [1, 1]]


def test_regions_that_were_meant_are_given(tmp_path: Path) -> None:
    dataset = followed(
        lambda: open_dataset(annotated(tmp_path), regions="box"),
        "Did you mean `(.+?)`",
        lambda name: open_dataset(tmp_path, regions=name),
    )
    assert dataset.regions == "boxes"


@pytest.mark.parametrize("said", ["Correct the list", "or give only the image in each line"])
def test_a_mask_that_a_list_names_and_that_is_not_there(tmp_path: Path, said: str) -> None:
    two_masks(tmp_path)
    images = [f"/JPEGImages/{place}.png" for place in range(2)]
    (tmp_path / "val.txt").write_text("".join(f"{one} /masks/{one[-5:]}\n" for one in images))
    mask = " /SegmentationClass/" if "Correct" in said else ""
    lines = "".join(f"{one}{mask + one[-5:] if mask else ''}\n" for one in images)
    dataset = tried(lambda: open_dataset(tmp_path), said, written(tmp_path / "val.txt", lines))
    assert values_in(dataset) == [[0, 1], [0, 2]]


def test_the_folders_that_masks_are_read_from_are_those_that_are_named(tmp_path: Path) -> None:
    two_masks(tmp_path)
    (tmp_path / "val.txt").write_text("/JPEGImages/0.png /nowhere/0.png\n")

    def right(first: str, second: str) -> list[str]:
        (tmp_path / "val.txt").write_text("/JPEGImages/0.png\n/JPEGImages/1.png\n")
        found = []
        for folder in (second, first):
            if not (tmp_path / folder).exists():
                shutil.copytree(tmp_path / "SegmentationClass", tmp_path / folder)
            found.append(open_dataset(tmp_path).mask_source)
        return found

    pattern = r"is then read from (\w+) or (\w+)\."
    assert followed(lambda: open_dataset(tmp_path), pattern, right) == ["SegmentationClass", "SegmentationClassAug"]
