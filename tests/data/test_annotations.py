"""Boxes in VOC's XML: what is read, how corners are counted, and the sentence for each thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from voc_files import SCENES, write_boxes, write_xml

from torchvice.data import VocDataset
from torchvice.data.annotations import read_annotation
from torchvice.errors import ViceError
from torchvice.metrics.boxes import box_planes

NAMES = list(SCENES)  # of 5 x 7, 6 x 4 and 4 x 4 pixels (H x W)
Voc = Callable[..., Path]


def annotate(root: Path, *objects: tuple, name: str = NAMES[0]) -> Path:
    file = root / "VOC2012" / "Annotations" / f"{name}.xml"
    write_boxes(file, list(objects))
    return file


def test_corners_count_from_one_and_include_the_last_pixel(voc: Voc) -> None:
    root = voc()
    annotate(root, ("cow", (1, 1, 7, 5), 0), ("cat", (3, 2, 3, 2), 1))
    found = VocDataset(root).boxes(0)
    assert found is not None
    classes, boxes = found
    assert classes.tolist() == [2, 0]
    # The whole image of 5 x 7 and the single pixel in row 1, column 2; a difficult object is there.
    assert boxes.tolist() == [[0, 0, 7, 5], [2, 1, 3, 2]]
    planes = box_planes(classes, boxes, (5, 7), 3)
    assert planes.sum(axis=(1, 2)).tolist() == [1, 0, 35]
    assert planes[0, 1, 2]


def test_fractions_and_flags_are_as_written(voc: Voc) -> None:
    file = annotate(voc(), ("cat", (1.5, 2, 6.25, 4.75), 1), ("cat", (1, 1, 2, 2), 0))
    first, second = read_annotation(file)
    assert (first.name, first.difficult, first.box) == ("cat", True, (1.5, 2, 6.25, 4.75))
    assert not second.difficult


def test_an_image_without_boxes_has_none(voc: Voc) -> None:
    root = voc()
    write_xml(root / "VOC2012" / "Annotations" / f"{NAMES[0]}.xml", ["cat", "cow"])
    data = VocDataset(root)
    assert data.boxes(0) is None  # class labels alone
    assert data.boxes(1) is None  # no file


def test_where_objects_lie_is_never_mixed(voc: Voc) -> None:
    root = voc()
    annotate(root, ("cat", (1, 1, 2, 2), 0))
    assert (VocDataset(root).regions, VocDataset(root).regions_missing) == ("masks", 0)
    boxed = VocDataset(root, regions="boxes")
    assert (boxed.regions, boxed.regions_missing) == ("boxes", 2)
    bare = voc("bare/VOC2012", masks=None)
    assert (VocDataset(bare).regions, VocDataset(bare).regions_missing) == ("masks", 3)
    annotate(bare, ("cat", (1, 1, 2, 2), 0))
    assert (VocDataset(bare).regions, VocDataset(bare).regions_missing) == ("boxes", 2)
    assert VocDataset(bare, regions="masks").regions == "masks"


def test_regions_that_are_not_there(voc: Voc) -> None:
    root = voc()
    with pytest.raises(ViceError, match="no image of val has one"):
        VocDataset(root, regions="boxes")
    with pytest.raises(ViceError, match="auto, masks, boxes, but is 'box'"):
        VocDataset(root, regions="box")


@pytest.mark.parametrize(
    "box", [(0, 1, 3, 3), (1, 1, 8, 3), (1, 0, 3, 3), (1, 1, 3, 6), (4, 1, 3, 3), ("nan", 1, 3, 3)]
)
def test_a_box_outside_the_image(voc: Voc, box: tuple) -> None:
    root = voc()
    annotate(root, ("cat", (1, 1, 2, 2), 0), ("cow", box, 0))
    with pytest.raises(ViceError, match=rf"{NAMES[0]}\.xml must lie in the image of 5 x 7 .* that of `cow` is xmin"):
        VocDataset(root).boxes(0)


def test_a_class_that_is_unknown(voc: Voc) -> None:
    root = voc()
    annotate(root, ("dogg", (1, 1, 2, 2), 0))
    with pytest.raises(ViceError, match=r"must name known classes, but has 'dogg'") as caught:
        VocDataset(root).boxes(0)
    assert caught.value.way_out == "Did you mean `dog`?"


BOMB = '<!DOCTYPE a [<!ENTITY x "cat"><!ENTITY y "&x;&x;">]><annotation><object><name>&y;</name></object></annotation>'
OUTSIDE = (
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><object><name>&x;</name></object></annotation>'
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotation><object>", "no element found"),
        ("", "no element found"),
        ("no XML at all", "syntax error"),
        (BOMB, "declares a document type"),
        (OUTSIDE, "declares a document type"),
        ("<annotation><object><name>&x;</name></object></annotation>", "undefined entity"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "unknown encoding"),
        (
            "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>one</ymin></bndbox></object></annotation>",
            "the box of `cat` has 1, one, nothing, nothing",
        ),
    ],
)
def test_a_broken_file_is_named(voc: Voc, text: str, said: str) -> None:
    root = voc()
    file = annotate(root)
    file.write_text(text)
    with pytest.raises(ViceError, match=rf"{NAMES[0]}\.xml must be XML as VOC writes it, but .*{said}"):
        VocDataset(root, labels="cls_labels").boxes(0)


def test_an_object_without_a_box_beside_others(voc: Voc) -> None:
    root = voc()
    file = annotate(root, ("cat", (1, 1, 2, 2), 0))
    text = file.read_text()
    file.write_text(text.replace("</annotation>", "<object><name>cow</name></object></annotation>"))
    with pytest.raises(ViceError, match="must give every object a box, but `cow` has none"):
        VocDataset(root).boxes(0)


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(ViceError, match="The annotation must be a file"):
        read_annotation(tmp_path / "x.xml")


def test_planes_by_hand() -> None:
    planes = box_planes([0, 0, 1], [[0, 0, 2, 1], [1, 0, 3, 2], [2.4, 0.4, 2.45, 9]], (2, 4), 2)
    assert planes.astype(int).tolist() == [[[1, 1, 1, 0], [0, 1, 1, 0]], [[0, 0, 1, 0], [0, 0, 1, 0]]]
    assert not np.any(box_planes([], [], (2, 4), 2))
    with pytest.raises(ViceError, match="0 to 1, but holds"):
        box_planes([2], [[0, 0, 1, 1]], (2, 4), 2)
