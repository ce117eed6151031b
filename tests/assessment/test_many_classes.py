"""More than 254 classes: masks of 16 bits, whose void is 65535, from files to table, numbers, page and cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import torchvice
from torchvice.assessment.region import region_of
from torchvice.commands.cases import case_of
from torchvice.commands.report import write_report
from torchvice.data import VocDataset, from_items, open_dataset, open_images
from torchvice.data.check import survey
from torchvice.data.coco import class_mask
from torchvice.data.images import read_mask
from torchvice.data.selected import select_classes
from torchvice.errors import ViceError
from torchvice.fiftyone.pictures import write_grey
from torchvice.measures import measure
from torchvice.report.page.pixels import outlines
from torchvice.samples import Samples

COUNT, SIZE = 300, (20, 24)
NAMES = tuple(f"class {c}" for c in range(COUNT))
LABELS = (1, 254, 255, 256, 300)  # 255 is a class here, and void with fewer classes
WIDE = 65535


def drawn(label: int, void: int = WIDE) -> np.ndarray:
    """(H, W): 8 x 6 pixels of a class, and six of void above them."""
    mask = np.zeros(SIZE, np.int32)
    mask[6:14, 4:10], mask[5, 4:10] = label, void
    return mask


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def voc(root: Path) -> Path:
    """VOC's layout: one image for each of LABELS, masks of 16 bits, labels from the masks."""
    for label in LABELS:
        write(root / "JPEGImages" / f"{label}.png", noise(label))
        write(root / "SegmentationClass" / f"{label}.png", drawn(label).astype(np.uint16))
    (root / "val.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return root


def imagenet_s(root: Path) -> Path:
    """One image in each of 300 folders; its class is in red and green, and 1000 is void."""
    for label in range(1, COUNT + 1):
        name, ids = f"n{label:08d}/{label}", drawn(label, 1000)
        write(root / "photos" / f"{name}.png", noise(label))
        write(root / "masks" / f"{name}.png", np.dstack([ids % 256, ids // 256, 0 * ids]).astype(np.uint8))
    return root


def test_a_folder_like_imagenet_s_is_assessed_measured_and_shown(tmp_path: Path) -> None:
    dataset = open_images(imagenet_s(tmp_path) / "photos", tmp_path / "masks")
    for label in LABELS:
        np.testing.assert_array_equal(dataset.mask(label - 1), drawn(label))
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=COUNT).eval()
    torchvice.assess(
        model, dataset, out=tmp_path / "out", view_size=32, crop=32, controls=[], without=["object"], progress=False
    )
    samples = Samples.load(tmp_path / "out")
    strict = samples.of_protocol("strict")
    objects = strict.regions.where(strict.regions.label > 0)
    assert sorted(objects.label.tolist()) == list(range(1, COUNT + 1))
    assert set(objects.mask_pixels.tolist()) == {8 * 6}
    counted = strict.regions.mask_pixels[strict.regions.label == 0]
    assert set(counted.tolist()) == {20 * 24 - 8 * 6 - 6}  # void is no background
    assert np.isfinite(objects.without_object).all()
    measures = measure(samples, replicates=0).to_json()
    assert 0 <= measures["strict"]["ji"] <= 1
    case = case_of(samples, dataset, dataset.records[254].image_id, 255)
    assert (case.mask == case.label).sum() == 8 * 6
    write_report([tmp_path / "out"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count('"v":') >= COUNT or '\\"v\\":' in page


def test_a_wide_mask_counts_like_a_narrow_one() -> None:
    """The same picture with 300 and with two classes: the same pixels of every object, of background and of void."""

    class Own:
        records = from_items([{"image": noise(0), "labels": 0}], ["cat"]).records

        def __init__(self, classes: tuple[str, ...], mask: np.ndarray) -> None:
            self.classes, self.given = classes, mask

        def mask(self, index: int) -> np.ndarray:
            return self.given

    wide = region_of(Own(NAMES, drawn(255)), 0, SIZE)
    narrow = region_of(Own(("cat", "dog"), drawn(2, 255)), 0, SIZE)
    assert wide is not None
    assert narrow is not None
    np.testing.assert_array_equal(wide.object_of(254), narrow.object_of(1))
    assert wide.object_of(254).sum() == 8 * 6 + 6  # with the void that touches it


def test_masks_of_16_bits_hold_more_classes_than_a_byte(tmp_path: Path) -> None:
    dataset = open_dataset(voc(tmp_path))
    assert dataset.targets.argmax(1).tolist() == [label - 1 for label in LABELS]
    for index, label in enumerate(LABELS):
        np.testing.assert_array_equal(dataset.mask(index), drawn(label))
    (found,) = survey(tmp_path)
    assert not found.broken
    assert found.void_share == pytest.approx(6 / (20 * 24))


def test_255_in_8_bits_may_be_void_and_a_class(tmp_path: Path) -> None:
    voc(tmp_path)
    write(tmp_path / "SegmentationClass" / "1.png", drawn(1, 255).astype(np.uint8))
    with pytest.raises(ViceError, match="has 8 bits and holds 255, which is void in 8 bits and one of the 300") as told:
        open_dataset(tmp_path)
    assert "void is 65535" in told.value.way_out
    write(tmp_path / "SegmentationClass" / "1.png", drawn(1).astype(np.uint16))
    assert len(open_dataset(tmp_path)) == len(LABELS)
    # Without 255, 8 bits say the same.
    write(tmp_path / "SegmentationClass" / "1.png", drawn(1, 0).astype(np.uint8))
    np.testing.assert_array_equal(open_dataset(tmp_path).mask(0), drawn(1, 0))


def test_no_class_beyond_the_last(tmp_path: Path) -> None:
    voc(tmp_path)
    write(tmp_path / "SegmentationClass" / "1.png", drawn(301).astype(np.uint16))
    with pytest.raises(ViceError, match="must hold 0 to 300 and 65535, but holds 301"):
        open_dataset(tmp_path)


def test_more_classes_than_16_bits_are_refused(tmp_path: Path) -> None:
    voc(tmp_path)
    with pytest.raises(ViceError, match=r"at most 65534 classes \(65535 is void\)"):
        VocDataset(tmp_path, "val", classes=[f"c{i}" for i in range(65535)])


def test_void_of_a_described_dataset(tmp_path: Path) -> None:
    voc(tmp_path)
    names = ", ".join(f"c{c}: {c + 1}" for c in range(COUNT))
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "dataset.yaml").write_text(f"names: {{{names}}}\nmasks: SegmentationClass\n")
    np.testing.assert_array_equal(open_dataset(tmp_path).mask(2), drawn(255))
    write(tmp_path / "SegmentationClass" / "255.png", drawn(255, 40000).astype(np.uint16))
    (tmp_path / "dataset.yaml").write_text(f"names: {{{names}}}\nmasks: SegmentationClass\nvoid: [40000, 65535]\n")
    np.testing.assert_array_equal(open_dataset(tmp_path).mask(2), drawn(255))


def test_some_classes_of_many(tmp_path: Path) -> None:
    """A selection of up to 254 classes has their void, 255."""
    whole = open_dataset(voc(tmp_path))
    few = select_classes(whole, (NAMES[0], NAMES[254]))
    np.testing.assert_array_equal(few.mask(2), drawn(2, 255))
    np.testing.assert_array_equal(few.mask(3), drawn(0, 255))
    np.testing.assert_array_equal(select_classes(whole, NAMES[1:]).mask(2), drawn(254))


@pytest.mark.parametrize(("value", "void", "kind"), [(255, 0, np.uint8), (1, 255, np.uint8), (1, WIDE, np.uint16)])
def test_masks_of_the_class_of_their_folder(tmp_path: Path, value: int, void: int, kind: type) -> None:
    """A single value is the class of the folder, also where there are more than 254 folders."""
    for c in range(COUNT):
        write(tmp_path / "photos" / f"{c:03d}" / f"{c}.png", noise(c))
        write(tmp_path / "masks" / f"{c:03d}" / f"{c}.png", drawn(value, void).astype(kind))
    dataset = open_images(tmp_path / "photos", tmp_path / "masks")
    for c in (0, 254, 299):
        np.testing.assert_array_equal(dataset.mask(c), drawn(c + 1, WIDE if void else 0))


def test_coco_of_many_categories(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    square = [4, 6, 10, 6, 10, 14, 4, 14]
    crowd = {"size": [*SIZE], "counts": [5, 1, SIZE[0] * SIZE[1] - 6]}
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 255, "iscrowd": 0, "segmentation": [square]},
        {"id": 2, "image_id": 1, "category_id": 7, "iscrowd": 1, "segmentation": crowd},
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": c + 1, "name": name} for c, name in enumerate(NAMES)],
        "annotations": annotations,
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    write(tmp_path / "photos" / "a.png", noise(0))
    dataset = open_images(tmp_path / "photos", coco=tmp_path / "coco.json")
    expected = drawn(255, 0)
    expected[5, 0] = WIDE
    np.testing.assert_array_equal(dataset.mask(0), expected)
    np.testing.assert_array_equal(class_mask(annotations, SIZE, {c + 1: c + 1 for c in range(COUNT)}), expected)


def test_items_of_many_classes() -> None:
    items = [{"image": noise(label), "mask": drawn(label)} for label in LABELS]
    dataset = from_items(items, list(NAMES))
    assert dataset.targets.argmax(1).tolist() == [label - 1 for label in LABELS]
    region = region_of(dataset, 2, SIZE)
    assert region is not None
    assert (region.mask == region.void).sum() == 6
    narrow = [{"image": noise(1), "mask": drawn(1, 255).astype(np.uint8)}]
    with pytest.raises(ViceError, match="has 8 bits and holds 255"):
        region_of(from_items(narrow, list(NAMES)), 0, SIZE)


def test_outlines_and_files_of_wide_masks(tmp_path: Path) -> None:
    _, _, paths = outlines(drawn(255), WIDE)
    assert set(paths) == {255, WIDE}
    assert paths[WIDE] == outlines((drawn(255) > 0).astype(np.uint8))[2][1]  # void and object together
    write_grey(tmp_path / "m.png", drawn(255))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), drawn(255))
