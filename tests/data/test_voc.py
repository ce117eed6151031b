"""The layout of VOC 2012: what is found, which source wins, and the sentence for each thing that is wrong."""

from __future__ import annotations

import os
import pickle
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from voc_files import SCENES, write_mask, write_xml

from torchvice.data import VOC_CLASSES, VocDataset, read_list
from torchvice.errors import ViceError
from torchvice.files import write_npy_dict

NAMES = list(SCENES)
TARGETS = [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
Voc = Callable[..., Path]


# ---- lists


def test_a_list_of_names_and_of_pairs(tmp_path: Path) -> None:
    file = tmp_path / "val.txt"
    file.write_text(
        "\ufeff2007_000033\n\n  \n/JPEGImages/a.jpg /SegmentationClassAug/a.png\r\nJPEGImages/b.jpg M/b.png\n"
        "c.jpg\nv1.2",
        encoding="utf-8",
    )
    assert read_list(file) == ["2007_000033", "a", "b", "c", "v1.2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n \n", "must name at least one image, but is empty"),
        ("a\nb\n/JPEGImages/a.jpg /M/a.png\n", "`a` is in line 1 and in line 3"),
        ("2008_000002 -1\n", "Line 1 of .* must be a name or an image path and a mask path, but is '2008_000002 -1'"),
        ("a.jpg b.png c.png\n", "Line 1 of"),
        ("ok\n../a\n", "Line 2 of"),
    ],
)
def test_a_list_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "val.txt").write_text(text)
    with pytest.raises(ViceError, match=said):
        read_list(tmp_path / "val.txt")


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ViceError, match="must be text in UTF-8"):
        read_list(tmp_path / "val.txt")


# ---- what is found


def test_the_seed_layout(voc: Voc) -> None:
    root = voc()
    data = VocDataset(root, "val")
    assert len(data) == 3
    assert data.split == "val"
    assert data.classes == ("cat", "dog", "cow")
    assert [record.image_id for record in data.records] == NAMES
    assert data.targets.dtype == np.uint8
    assert data.targets.tolist() == TARGETS
    assert (data.label_source, data.mask_source, data.masks_missing) == ("cls_labels.npy", "SegmentationClassAug", 0)
    for index, (shape, present) in enumerate(SCENES.values()):
        image, mask = data.image(index), data.mask(index)
        assert image.shape == (*shape, 3)
        assert mask is not None
        assert mask.dtype == np.uint8
        assert mask.shape == shape
        assert set(np.unique(mask)) == {0, 255, *present}
        assert mask[1, 0] == 255


@pytest.mark.parametrize("given", ["root", "root/VOC2012"])
@pytest.mark.parametrize("split", ["val", "val.txt"])
def test_root_may_be_the_folder_or_what_holds_it(voc: Voc, tmp_path: Path, given: str, split: str) -> None:
    voc()
    assert VocDataset(tmp_path / given, split).targets.tolist() == TARGETS


def test_root_may_be_given_relative_from_within(voc: Voc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(voc() / "VOC2012")
    assert VocDataset(".", "val").targets.tolist() == TARGETS


def test_a_devkit_with_its_lists_in_image_sets(voc: Voc, tmp_path: Path) -> None:
    devkit = voc("data/VOCdevkit/VOC2012")
    sets = devkit / "VOC2012/ImageSets/Segmentation"
    sets.mkdir(parents=True)
    shutil.move(devkit / "val.txt", sets / "val.txt")
    for root in (devkit, tmp_path / "data"):
        assert len(VocDataset(root, "val", classes=["cat", "dog", "cow"], labels="masks")) == 3


def test_the_flat_list_comes_before_image_sets(voc: Voc) -> None:
    root = voc()
    sets = root / "VOC2012/ImageSets/Segmentation"
    sets.mkdir(parents=True)
    (sets / "val.txt").write_text(NAMES[0])
    (sets / "train.txt").write_text(NAMES[1])
    assert len(VocDataset(root, "val")) == 3
    assert VocDataset(root, "train").records[0].image_id == NAMES[1]


def test_the_split_may_be_a_path(voc: Voc, tmp_path: Path) -> None:
    root = voc()
    (tmp_path / "hard_ones.txt").write_text(NAMES[2])
    data = VocDataset(root, tmp_path / "hard_ones.txt")
    assert (data.split, len(data), data.targets.tolist()) == ("hard_ones", 1, [TARGETS[2]])


@pytest.mark.parametrize("slash", ["/", ""])
def test_lines_that_spell_the_paths_out(voc: Voc, slash: str) -> None:
    root = voc(masks="Drawn")
    pairs = [f"{slash}JPEGImages/{name}.jpg {slash}Drawn/{name}.png" for name in NAMES]
    (root / "val.txt").write_text("\n".join(pairs))
    data = VocDataset(root, "val")
    assert data.mask_source == "the list's paths"
    assert data.masks_missing == 0
    assert data.targets.tolist() == TARGETS
    (root / "val.txt").write_text(f"{pairs[0]}\n{slash}Elsewhere/{NAMES[1]}.jpg {slash}Drawn/{NAMES[1]}.png")
    with pytest.raises(ViceError, match=rf"The image of `{NAMES[1]}` must be .*Elsewhere.* \(1 of the 2 images"):
        VocDataset(root, "val")


def test_jpg_comes_before_png(voc: Voc) -> None:
    root = voc()
    images = root / "VOC2012/JPEGImages"
    Image.new("RGB", (9, 9)).save(images / f"{NAMES[0]}.png")
    Image.new("RGB", (4, 6)).save(images / f"{NAMES[1]}.png")
    (images / f"{NAMES[1]}.jpg").unlink()
    (images / f"{NAMES[2]}.jpg").rename(images / f"{NAMES[2]}.JPEG")
    data = VocDataset(root, "val")
    assert [record.image.suffix for record in data.records] == [".jpg", ".png", ".JPEG"]


# ---- classes


def test_classes_default_to_voc_and_an_argument_wins(voc: Voc) -> None:
    root = voc()
    assert VocDataset(root, "val", classes=["a", "b", "c"]).classes == ("a", "b", "c")
    (root / "classes.txt").unlink()
    (root / "cls_labels.npy").unlink()
    data = VocDataset(root, "val")
    assert data.classes == VOC_CLASSES
    assert len(VOC_CLASSES) == len(set(VOC_CLASSES)) == 20
    assert (VOC_CLASSES[0], VOC_CLASSES[14], VOC_CLASSES[19]) == ("aeroplane", "person", "tvmonitor")
    assert data.targets.shape == (3, 20)


@pytest.mark.parametrize("classes", [[], ["cat", "cat"], "cat", ["cat", ""], [1, 2]])
def test_class_names_must_be_different_names(voc: Voc, classes: list[str]) -> None:
    with pytest.raises(ViceError, match="must be a list of different class names"):
        VocDataset(voc(), "val", classes=classes)


def test_one_text_of_class_names_is_shown_as_a_list(voc: Voc) -> None:
    with pytest.raises(ViceError, match=r"Give a list: classes=\['cat', 'dog'\]"):
        VocDataset(voc(), "val", classes="cat, dog")


def test_background_is_no_class(voc: Voc) -> None:
    root = voc()
    (root / "classes.txt").write_text("background\ncat\ndog\ncow\n")
    with pytest.raises(ViceError, match=r"classes\.txt must name objects only"):
        VocDataset(root, "val")


def test_more_classes_than_8_bits_can_tell_apart(voc: Voc) -> None:
    many = [f"c{index}" for index in range(255)]
    with pytest.raises(ViceError, match="has 8 bits and holds 255"):
        VocDataset(voc(labels=False), "val", classes=many, labels="masks")
    assert VocDataset(voc("other/VOC2012", labels=False), "val", classes=many[:254], labels="masks").targets.sum() == 4


# ---- labels


def test_the_first_source_that_covers_the_split_is_taken_and_said(voc: Voc) -> None:
    root = voc()
    vectors = np.load(root / "cls_labels.npy", allow_pickle=True).item()
    del vectors[NAMES[1]]
    np.save(root / "cls_labels.npy", vectors, allow_pickle=True)
    annotations = root / "VOC2012/Annotations"
    for name, names in zip(NAMES, (["cat", "cat"], ["cow", "cat"], ["dog"]), strict=True):
        write_xml(annotations / f"{name}.xml", names)
    data = VocDataset(root, "val")
    assert data.targets.tolist() == TARGETS
    assert data.label_source == f"Annotations; cls_labels.npy lacks 1 of 3 images, such as `{NAMES[1]}`"
    (annotations / f"{NAMES[0]}.xml").unlink()
    data = VocDataset(root, "val")
    assert data.targets.tolist() == TARGETS
    assert data.label_source.startswith("masks (SegmentationClassAug); cls_labels.npy lacks 1")
    shutil.rmtree(root / "VOC2012/SegmentationClassAug")
    with pytest.raises(ViceError, match=rf"cls_labels\.npy lacks 1 .*`{NAMES[1]}`; Annotations lacks 1 .*; masks"):
        VocDataset(root, "val")
    np.save(root / "cls_labels.npy", {name: [[1, 0], [1]] for name in NAMES}, allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(ViceError, match="must have shape"):
        VocDataset(root, "val", labels="cls_labels")


def test_a_named_source_is_the_only_one_looked_at(voc: Voc) -> None:
    root = voc()
    assert VocDataset(root, "val", labels="masks").label_source == "masks (SegmentationClassAug)"
    with pytest.raises(ViceError, match="there is no Annotations") as caught:
        VocDataset(root, "val", labels="annotations")
    assert "cls_labels.npy lacks" not in str(caught.value)
    with pytest.raises(ViceError, match="Did you mean `masks`"):
        VocDataset(root, "val", labels="mask")


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (np.zeros(20), rf"`{NAMES[2]}` in .*cls_labels\.npy must have shape \(3,\), .* \(20,\)"),
        (np.array([0, 0.5, 1]), "must be 0 or 1"),
        (np.array([0, np.nan, 1]), "must be 0 or 1"),
        (np.array(["0", "1", "0"]), "must be 0 or 1"),
    ],
)
def test_vectors_that_are_wrong(voc: Voc, vector: np.ndarray, said: str) -> None:
    root = voc()
    vectors = np.load(root / "cls_labels.npy", allow_pickle=True).item()
    np.save(root / "cls_labels.npy", {**vectors, NAMES[2]: vector}, allow_pickle=True)
    with pytest.raises(ViceError, match=said):
        VocDataset(root, "val")


class _Runs:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("echo this must not run",)


def test_a_pickle_with_code_is_refused(voc: Voc) -> None:
    root = voc()
    np.save(root / "cls_labels.npy", {NAMES[0]: _Runs()}, allow_pickle=True)
    with pytest.raises(ViceError, match="which data never needs"):
        VocDataset(root, "val")


def test_annotations_that_are_wrong(voc: Voc) -> None:
    root = voc(labels=False)
    annotations = root / "VOC2012/Annotations"
    for name in NAMES:
        write_xml(annotations / f"{name}.xml", ["dogg"])
    with pytest.raises(ViceError, match=rf"{NAMES[0]}\.xml must name known classes, but has 'dogg'") as caught:
        VocDataset(root, "val")
    assert "`dog`" in caught.value.way_out
    (annotations / f"{NAMES[0]}.xml").write_text("<annotation><object>")
    with pytest.raises(ViceError, match=rf"{NAMES[0]}\.xml must be XML"):
        VocDataset(root, "val")


# ---- masks


def test_masks_fall_back_image_by_image_and_are_counted(voc: Voc) -> None:
    root = voc()
    base = root / "VOC2012"
    for name in NAMES[1:]:
        (base / "SegmentationClassAug" / f"{name}.png").unlink()
    write_mask(base / "SegmentationClass" / f"{NAMES[1]}.png", np.full(SCENES[NAMES[1]][0], 3, np.uint8), False)
    data = VocDataset(root, "val")
    assert data.masks_missing == 1
    assert data.mask_source == "1 of 3 from SegmentationClassAug, 1 of 3 from SegmentationClass, 1 missing"
    second = data.mask(1)
    assert second is not None
    assert (second == 3).all()
    assert data.records[2].mask is None
    assert data.mask(2) is None
    only = VocDataset(root, "val", masks="SegmentationClass")
    assert only.mask_source == "1 of 3 from SegmentationClass, 2 missing"
    with pytest.raises(ViceError, match=r"`masks` must name a folder in .*VOC2012") as caught:
        VocDataset(root, "val", masks="SegmentationClas")
    assert "`SegmentationClass`" in caught.value.way_out


def test_no_masks_at_all(voc: Voc) -> None:
    data = VocDataset(voc(masks=None), "val")
    assert (data.masks_missing, data.mask_source, data.mask(0)) == (3, "3 missing", None)


def test_masks_that_are_wrong(voc: Voc) -> None:
    root = voc()
    folder = root / "VOC2012/SegmentationClassAug"
    data = VocDataset(root, "val")
    write_mask(folder / f"{NAMES[0]}.png", np.zeros((7, 5), np.uint8))
    with pytest.raises(ViceError, match=rf"{NAMES[0]}\.png must be 5 x 7 \(H x W\) like its image, but is 7 x 5"):
        data.mask(0)
    write_mask(folder / f"{NAMES[1]}.png", np.full((6, 4), 4, np.uint8))
    with pytest.raises(ViceError, match=rf"{NAMES[1]}\.png must hold 0 to 3 and 255, but holds 4"):
        data.mask(1)
    Image.new("RGB", (4, 4)).save(folder / f"{NAMES[2]}.png")
    with pytest.raises(ViceError, match="but is RGB"):
        data.mask(2)
    with pytest.raises(ViceError, match=rf"{NAMES[1]}\.png must hold 0 to 3"):
        VocDataset(root, "val", labels="masks")


def test_16_bit_masks_of_few_classes_come_as_uint8(voc: Voc) -> None:
    root = voc()
    Image.fromarray(np.array([[0, 3], [255, 1]] * 2, np.uint16).repeat(2, 1)).save(
        root / "VOC2012/SegmentationClassAug" / f"{NAMES[2]}.png"
    )
    mask = VocDataset(root, "val").mask(2)
    assert mask is not None
    assert mask.dtype == np.uint8
    assert mask[0].tolist() == [0, 0, 3, 3]


# ---- images


def test_a_missing_image_is_named_and_counted(voc: Voc) -> None:
    root = voc()
    for name in NAMES[1:]:
        (root / "VOC2012/JPEGImages" / f"{name}.jpg").unlink()
    with pytest.raises(ViceError, match=rf"`{NAMES[1]}` must be .*JPEGImages/{NAMES[1]}\.jpg .*2 of the 3 images"):
        VocDataset(root, "val")


def test_a_truncated_image_is_named_when_it_is_read(voc: Voc) -> None:
    root = voc()
    file = root / "VOC2012/JPEGImages" / f"{NAMES[1]}.jpg"
    file.write_bytes(file.read_bytes()[:-40])
    data = VocDataset(root, "val")
    with pytest.raises(ViceError, match=rf"{NAMES[1]}\.jpg is damaged or truncated"):
        data.image(1)
    file.write_bytes(b"")
    with pytest.raises(ViceError, match=rf"{NAMES[1]}\.jpg must be an image"):
        data.mask(1)


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_out_of_range(voc: Voc, index: int) -> None:
    data = VocDataset(voc(), "val")
    for read in (data.image, data.mask):
        with pytest.raises(ViceError, match=rf"must be 0 to 2 in val, but is {index}"):
            read(index)


def test_folders_and_lists_that_are_not_there(voc: Voc, tmp_path: Path) -> None:
    with pytest.raises(ViceError, match=r"The dataset must be a folder, but .* is not"):
        VocDataset(tmp_path / "nowhere")
    root = voc()
    with pytest.raises(ViceError, match=r"`split` must name a list in .*, but is 'vall'") as caught:
        VocDataset(root, "vall")
    assert caught.value.way_out == "Did you mean `val`?"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ViceError, match="JPEGImages"):
        VocDataset(tmp_path / "empty")
    (tmp_path / "empty/val.txt").write_text("a\n")
    with pytest.raises(ViceError, match="The image of `a` must be") as caught:
        VocDataset(tmp_path / "empty")
    assert "Give the folder that holds" in caught.value.way_out


def test_it_travels_to_a_worker(voc: Voc) -> None:
    data = VocDataset(voc(), "val")
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy.image(1), data.image(1))
    assert copy.records == data.records


# ---- names, and several files of one name


@pytest.mark.parametrize(
    ("line", "name"),
    [("my image 1", "my image 1"), ("my image 1.png", "my image 1"), ("image 1", "image 1"),
     ("JPEGImages/my image.jpg Drawn by hand/my image.png", "my image"), ("x/y z.JPG", "y z")],
)  # fmt: skip
def test_names_may_hold_spaces(tmp_path: Path, line: str, name: str) -> None:
    (tmp_path / "val.txt").write_text(f"{line}\n")
    assert read_list(tmp_path / "val.txt") == [name]


def test_the_suffix_in_the_list_is_the_files(voc: Voc) -> None:
    root = voc()
    images = root / "VOC2012/JPEGImages"
    Image.new("RGB", (7, 5)).save(images / f"{NAMES[0]}.png")
    (root / "val.txt").write_text(f"{NAMES[0]}.png\n{NAMES[1]}\n")
    assert VocDataset(root, "val").records[0].image.name == f"{NAMES[0]}.png"
    (images / f"{NAMES[0]}.png").unlink()  # the .jpg of the same name is another file
    with pytest.raises(ViceError, match=rf"must be .*JPEGImages/{NAMES[0]}\.png, but does not exist"):
        VocDataset(root, "val")


def test_what_is_chosen_among_several_files_is_noted(voc: Voc) -> None:
    root = voc()
    assert VocDataset(root, "val").notes == ()
    base = root / "VOC2012"
    Image.new("RGB", (7, 5)).save(base / "JPEGImages" / f"{NAMES[0]}.png")
    write_mask(base / "SegmentationClass" / f"{NAMES[1]}.png", np.full((6, 4), 3, np.uint8))
    write_npy_dict(base / "cls_labels.npy", {name: np.array([1, 1, 0]) for name in NAMES})
    (base / "val.txt").write_text((root / "val.txt").read_text() + "\n")
    lists, labels, files = VocDataset(root, "val").notes
    assert lists == f"There are several lists of val: read is {root / 'val.txt'}, not {base / 'val.txt'}."
    assert labels.startswith("There are several files of labels: read is")
    assert files.startswith(f"2 images have several files: read is {base / 'JPEGImages' / NAMES[0]}.jpg, not ")
    shutil.copy(root / "classes.txt", base / "classes.txt")
    assert VocDataset(root, "val").classes == ("cat", "dog", "cow")
    (base / "classes.txt").write_text("dog\ncat\ncow\n")
    with pytest.raises(ViceError, match=r"must have one classes\.txt, but .* differ"):
        VocDataset(root, "val")


def test_a_mask_that_the_list_names_is_not_replaced(voc: Voc) -> None:
    root = voc()
    (root / "val.txt").write_text("".join(f"JPEGImages/{name}.jpg Corrected/{name}.png\n" for name in NAMES))
    with pytest.raises(ViceError, match=rf"The mask of `{NAMES[0]}` must be .*Corrected/.*, but does not") as caught:
        VocDataset(root, "val")
    assert "only the image" in caught.value.way_out
    assert VocDataset(root, "val", masks="SegmentationClassAug").masks_missing == 0
    (root / "val.txt").write_text("".join(f"JPEGImages/{name}.jpg\n" for name in NAMES))  # the way out
    assert VocDataset(root, "val").mask_source == "SegmentationClassAug"


def test_one_name_in_two_folders_is_no_double_line(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("cat/0.jpg\ndog/0.jpg\n")
    with pytest.raises(ViceError, match="`0` is in line 1 and in line 2") as caught:
        read_list(tmp_path / "val.txt")
    assert "Rename one of the two files" in caught.value.way_out
    (tmp_path / "val.txt").write_text("JPEGImages/0.jpg\n/JPEGImages/0.jpg\n")
    with pytest.raises(ViceError) as caught:
        read_list(tmp_path / "val.txt")
    assert "Remove one of the two lines" in caught.value.way_out


def test_suffixes_of_masks_and_annotations_in_capitals(voc: Voc) -> None:
    root = voc(labels=False)
    for name in NAMES:
        folder = root / "VOC2012/SegmentationClassAug"
        (folder / f"{name}.png").rename(folder / f"{name}.PNG")
        write_xml(root / "VOC2012/Annotations" / f"{name}.XML", ["cat"])
    data = VocDataset(root, "val")
    assert (data.masks_missing, data.label_source) == (0, "Annotations")


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_names_are_the_same_in_both_normal_forms_of_unicode(voc: Voc, listed: Any) -> None:
    root = voc()
    other = "NFC" if listed == "NFD" else "NFD"
    name, stored = (unicodedata.normalize(form, "café") for form in (listed, other))
    base = root / "VOC2012"
    (base / "JPEGImages" / f"{NAMES[0]}.jpg").rename(base / "JPEGImages" / f"{stored}.jpg")
    (base / "SegmentationClassAug" / f"{NAMES[0]}.png").rename(base / "SegmentationClassAug" / f"{stored}.png")
    np.save(root / "cls_labels.npy", {stored: np.array([1, 0, 0])}, allow_pickle=True)
    for line in (name, f"{name}.jpg", f"JPEGImages/{name}.jpg SegmentationClassAug/{name}.png"):
        (root / "val.txt").write_text(line, encoding="utf-8")
        data = VocDataset(root, "val")
        assert (data.masks_missing, data.targets.tolist()) == (0, [[1, 0, 0]])
    (root / "val.txt").write_text(f"{name}\n{stored}\n", encoding="utf-8")
    with pytest.raises(ViceError, match="is in line 1 and in line 2"):
        VocDataset(root, "val")


@pytest.mark.parametrize(
    "names", ["_background_\ncat", "Background\ncat", "BACKGROUND\ncat", "__ignore__\ncat", "cat\n Back-Ground", "0 bg"]
)
def test_the_background_is_known_under_every_spelling(voc: Voc, names: str) -> None:
    root = voc()
    (root / "classes.txt").write_text(f"{names}\n")
    with pytest.raises(ViceError, match=r"classes\.txt must name objects only, but has"):
        VocDataset(root, "val")
    (root / "classes.txt").write_text("background dog\ncat\nignored cow\n")  # objects
    assert len(VocDataset(root, "val").classes) == 3
