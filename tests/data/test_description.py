"""dataset.yaml: folders with masks of any values or colours, folders with boxes only, and what is said of mistakes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner
from voc_files import write_boxes, write_mask

from torchvice.cli.app import app
from torchvice.data import VocDataset, check_files, open_dataset, survey
from torchvice.errors import ViceError

SHAPES = {"a": (4, 6), "b": (5, 3)}
VALUES = {"a": [0, 30, 10], "b": [20, 200, 0]}  # the first pixels of row 0
CLASSES = ("cat", "dog", "cow")


def folder(root: Path, masks: str | None = "drawn") -> Path:
    """Two pictures, their masks with the values above, and lists of names of their own."""
    (root / "pictures").mkdir(parents=True)
    (root / "lists").mkdir()
    for name, shape in SHAPES.items():
        Image.new("RGB", (shape[1], shape[0])).save(root / "pictures" / f"{name}.png")
        mask = np.zeros(shape, np.uint8)
        mask[0, :3] = VALUES[name]
        if masks:
            write_mask(root / masks / f"{name}.png", mask)
    (root / "lists/validation.txt").write_text("a\nb\n")
    (root / "lists/learn.txt").write_text("b\n")
    return root


def described(root: Path, **content: Any) -> Path:
    usual = {"images": "pictures", "splits": {"val": "lists/validation.txt", "train": "lists/learn.txt"}}
    (root / "dataset.yaml").write_text(yaml.safe_dump(usual | content, sort_keys=False))
    return root


def values(root: Path) -> Path:
    names = {"cat": 10, "dog": 20, "cow": 30}
    return described(folder(root), names=names, masks="drawn", void=200)


def coloured(root: Path, mode: str) -> Path:
    """The same scenes as colours; `mode` is the PNG's."""
    colours = {0: (0, 0, 0), 10: (255, 0, 0), 20: (0, 128, 64), 30: (1, 2, 3), 200: (224, 224, 192)}
    folder(root)
    for name, shape in SHAPES.items():
        mask = np.array(Image.open(root / "drawn" / f"{name}.png"))
        pixels = np.zeros((*shape, 3), np.uint8)
        for value, colour in colours.items():
            pixels[mask == value] = colour
        drawn = Image.fromarray(pixels)
        drawn = drawn.quantize(16) if mode == "P" else drawn.convert(mode)
        drawn.save(root / "drawn" / f"{name}.png")
    names = {"cat": [255, 0, 0], "dog": "#008040", "cow": [1, 2, 3]}
    return described(root, names=names, masks="drawn", void=[[224, 224, 192]])


@pytest.mark.parametrize("kind", ["values", "RGB", "RGBA", "P"])
def test_masks_of_values_and_of_colours(tmp_path: Path, kind: str) -> None:
    root = values(tmp_path / "x") if kind == "values" else coloured(tmp_path / "x", kind)
    data = VocDataset(root, "val")
    assert (data.split, data.classes, data.mask_source, data.regions) == ("val", CLASSES, "drawn", "masks")
    assert data.label_source.startswith("masks (drawn)")
    assert data.targets.tolist() == [[1, 0, 1], [0, 1, 0]]
    first, second = data.mask(0), data.mask(1)
    assert first is not None
    assert second is not None
    assert first.dtype == np.uint8
    assert first[0].tolist() == [0, 3, 1, 0, 0, 0]
    assert second[0].tolist() == [2, 255, 0]
    assert not first[1:].any()
    check_files(data)
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy.mask(1), second)


def test_the_splits_are_those_of_the_file_by_their_names(tmp_path: Path) -> None:
    root = values(tmp_path / "x")
    assert [(found.split, found.images) for found in survey(root)] == [("train", 1), ("val", 2)]
    assert len(VocDataset(root, "val.txt")) == 2
    assert VocDataset(root, root / "lists/learn.txt").split == "learn"
    with pytest.raises(ViceError, match="`split` must name a list") as caught:
        VocDataset(root, "vall")
    assert "`val`" in caught.value.way_out
    done = CliRunner().invoke(app, ["data", "check", str(root)])
    assert (done.exit_code, "Nothing is broken" in done.output) == (0, True)


def test_names_alone_number_the_masks_from_one(tmp_path: Path) -> None:
    root = described(folder(tmp_path / "x", None), names=list(CLASSES))
    write_mask(root / "SegmentationClass/a.png", np.full(SHAPES["a"], 3, np.uint8))
    write_mask(root / "SegmentationClass/b.png", np.full(SHAPES["b"], 255, np.uint8))
    data = VocDataset(root, "val")
    assert data.targets.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert (data.mask(1) == 255).all()


def test_several_values_of_background_and_no_void(tmp_path: Path) -> None:
    root = folder(tmp_path / "x")
    described(root, names={"cat": 10, "dog": 20}, masks="drawn", background=[0, 30], void=None)
    with pytest.raises(ViceError, match=r"b\.png must hold the values that .*dataset\.yaml names, but holds 200"):
        VocDataset(root, "val")
    described(root, names={"cat": 10, "dog": 255}, masks="drawn", background=[0, 30, 200, 20])
    assert VocDataset(root, "val").targets.tolist() == [[1, 0], [0, 0]]  # 255 is a class where it says so
    described(root, names={"cat": 10, "dog": 20}, masks="drawn", background=[0, 30, 31], void=[200, 254, 255])
    data = VocDataset(root, "val")  # three values are no colour
    assert data.targets.tolist() == [[1, 0], [0, 1]]
    assert {value for row in range(2) for value in np.unique(data.mask(row))} == {0, 1, 2, 255}


def test_boxes_only(tmp_path: Path) -> None:
    root = described(folder(tmp_path / "x", None), names=[f"kind {c}" for c in range(300)], boxes="marked")
    (root / "marked").mkdir()
    described(root, names=[f"kind {c}" for c in range(300)], boxes="marked")
    for name in SHAPES:
        write_boxes(root / "marked" / f"{name}.xml", [("kind 299", (1, 1, 2, 3), 0), ("kind 0", (2, 2, 3, 3), 0)])
    data = VocDataset(root, "val")
    assert (data.regions, data.regions_missing, len(data.classes)) == ("boxes", 0, 300)
    assert data.label_source.startswith("Annotations")
    assert np.flatnonzero(data.targets[0]).tolist() == [0, 299]
    found = data.boxes(0)
    assert found is not None
    assert found[0].tolist() == [299, 0]
    assert found[1].tolist() == [[0, 0, 2, 3], [1, 1, 3, 3]]
    (one, _) = survey(root)
    assert one.objects_per_class is not None
    assert (one.objects_per_class[299], one.masks) == (1, 0)


def test_a_value_that_is_not_named_is_broken_and_named(tmp_path: Path) -> None:
    root = values(tmp_path / "x")
    write_mask(root / "drawn/b.png", np.full(SHAPES["b"], 77, np.uint8))
    found = survey(root, "val")[0]
    assert [(problem.kind, problem.image_id) for problem in found.broken] == [("mask", "b")]
    assert "but holds 77" in found.broken[0].sentence
    root = coloured(tmp_path / "y", "RGB")
    Image.new("RGB", (3, 5), (9, 9, 255)).save(root / "drawn/b.png")
    assert "names, but holds #0909ff" in survey(root, "val")[0].broken[0].sentence


def test_16_bit_values(tmp_path: Path) -> None:
    root = described(folder(tmp_path / "x", None), names={"cat": 1000, "dog": 70})
    for name, shape in SHAPES.items():
        (root / "SegmentationClass").mkdir(exist_ok=True)
        Image.fromarray(np.full(shape, 1000, np.uint16)).save(root / f"SegmentationClass/{name}.png")
    assert VocDataset(root, "val").targets.tolist() == [[1, 0]] * 2


def test_classes_that_are_given_must_be_the_files(tmp_path: Path) -> None:
    root = values(tmp_path / "x")
    assert VocDataset(root, "val", classes=list(CLASSES)).classes == CLASSES
    with pytest.raises(ViceError, match=r"`classes` must be the names in .*dataset\.yaml"):
        VocDataset(root, "val", classes=["dog", "cat", "cow"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: [a", r"dataset\.yaml, line 1, must be YAML"),
        ("- a", "has no `names`"),
        ("images: pictures", "has no `names`"),
        ("names: [a]\nvoids: 3", "unknown key 'voids'"),
        ("names: []", "must be different class names"),
        ("names: [a, a]", "must be different class names"),
        ("names: [a, 3]", "must be different class names"),
        ("names: cat", "must be different class names"),
        ("names: [background, cat]", "must be objects only"),
        ("names: {a: 1, b: 1}", "must give 1 one meaning, but has it at `names: a` and `names: b`"),
        ("names: {a: 1}\nvoid: 1", "at `names: a` and `void`"),
        ("names: {a: 1, b: [0, 0, 1]}", "must not mix values and colours, but `names: b` is"),
        ("names: {a: '#00ff00'}\nvoid: 255", "must not mix values and colours, but `void` is 255"),
        ("names: {a: -1}", "`names: a` in .* must be a mask's value"),
        ("names: {a: true}", "`names: a` in .* must be a mask's value"),
        ("names: {a: [0, 0, 256]}", "`names: a` in .* must be a mask's value"),
        ("names: {a: '#00ff0g'}", "`names: a` in .* must be a mask's value"),
        ("names: {a: 1.5}", "must be a mask's value"),
        ("names: [a]\nimages: nowhere", "`images` in .* must be a folder next to it, but is 'nowhere'"),
        ("names: [a]\nmasks: 3", "`masks` in .* must be a folder"),
        ("names: [a]\nsplits: [val]", "`splits` in .* must map names of splits to files of lists"),
        (
            "names: [a]\nsplits: {val: no.txt}",
            r"The split `val` in .* must be a file next to it, but no\.txt does not exist",
        ),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    root = folder(tmp_path / "x")
    (root / "dataset.yaml").write_text(text)
    with pytest.raises(ViceError, match=said) as caught:
        VocDataset(root, "val")
    assert "\n" not in caught.value.message


def test_a_list_of_classes_that_differs_from_the_description_is_named(tmp_path: Path) -> None:
    root = values(tmp_path)
    (root / "classes.txt").write_text("cat\ndog\ncow\n")
    assert not any("files of classes" in note for note in open_dataset(root, "val").notes)
    (root / "classes.txt").write_text("__background__\ndog\ncat\n")
    (note,) = (note for note in open_dataset(root, "val").notes if "files of classes" in note)
    assert note == f"There are several files of classes: read is {root}/dataset.yaml, not {root}/classes.txt."
