"""COCO's instances as masks of classes: drawn by hand on small images, in archives of the published structure."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import Server, picture
from typer.testing import CliRunner

from torchvice.cli.app import app
from torchvice.data import VocDataset, read_list, read_mask, survey
from torchvice.data.coco import CocoSet, class_mask, write_coco
from torchvice.errors import ViceError

tools = pytest.importorskip("pycocotools.mask")

# Ids leave gaps, as COCO's do, and are not in the order of the names.
CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
LABELS = {1: 1, 18: 2, 90: 3}
SIZE = (8, 10)


def box(category: int, left: int, top: int, right: int, bottom: int, **more: Any) -> dict[str, Any]:
    corners = [left, top, right, top, right, bottom, left, bottom]
    return {"segmentation": [corners], "category_id": category, "iscrowd": 0, "id": 7} | more


def counts(region: np.ndarray) -> list[int]:
    """Uncompressed RLE, column by column: how many zeros, ones, zeros, ..."""
    flat = region.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flat, [1 - flat[-1]]))))
    return np.diff(np.concatenate(([0], edges))).tolist()


def crowd(category: int, region: np.ndarray) -> dict[str, Any]:
    shape = {"size": list(region.shape), "counts": counts(region)}
    return {"segmentation": shape, "category_id": category, "iscrowd": 1, "id": 8}


def test_the_smaller_one_is_on_top_whatever_the_order() -> None:
    large, small = box(1, 0, 0, 8, 6), box(18, 2, 2, 4, 4)
    expected = np.zeros(SIZE, np.uint8)
    expected[0:6, 0:8] = 1
    expected[2:4, 2:4] = 2
    for order in ([large, small], [small, large]):
        np.testing.assert_array_equal(class_mask(order, SIZE, LABELS), expected)


def test_crowds_are_void_and_lie_below_every_object() -> None:
    region = np.zeros(SIZE, bool)
    region[0:3, 0:3] = True
    mask = class_mask([box(90, 1, 1, 6, 6), crowd(1, region)], SIZE, LABELS)
    expected = np.zeros(SIZE, np.uint8)
    expected[0:3, 0:3] = 255
    expected[1:6, 1:6] = 3  # larger than the crowd, and yet above it
    np.testing.assert_array_equal(mask, expected)


def test_polygons_of_several_parts_and_compressed_rle() -> None:
    parts = box(1, 0, 0, 2, 2)
    parts["segmentation"].append([6, 4, 9, 4, 9, 7, 6, 7])
    expected = np.zeros(SIZE, np.uint8)
    expected[0:2, 0:2] = expected[4:7, 6:9] = 1
    np.testing.assert_array_equal(class_mask([parts], SIZE, LABELS), expected)
    encoded = tools.encode(np.asfortranarray(expected))
    compressed = {"segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()}, "category_id": 18}
    np.testing.assert_array_equal(class_mask([compressed], SIZE, LABELS), 2 * expected)
    assert not class_mask([], SIZE, LABELS).any()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 18, 90]), st.booleans(), st.binary(min_size=10, max_size=10)), max_size=5)
)
def test_any_instances_against_a_plain_loop(instances: list[tuple[int, bool, bytes]]) -> None:
    regions = [np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(SIZE).astype(bool) for _, _, bits in instances]
    annotations = [crowd(c, region) | {"iscrowd": int(is_crowd)} for (c, is_crowd, _), region in
                   zip(instances, regions, strict=True)]  # fmt: skip
    mask = class_mask(annotations, SIZE, LABELS)
    for pixel in np.ndindex(SIZE):
        there = [(int(r.sum()), i) for i, r in enumerate(regions) if r[pixel] and not instances[i][1]]
        smallest = {LABELS[instances[i][0]] for area, i in there if area == min(there)[0]}
        void = any(r[pixel] for r, (_, is_crowd, _) in zip(regions, instances, strict=True) if is_crowd)
        assert mask[pixel] in (smallest or {255 if void else 0})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (box(5, 0, 0, 2, 2), "annotation 7 has a category that is not listed: 5"),
        (box(1, 0, 0, 2, 2) | {"segmentation": [[0, 0, 1, 1]]}, "three corners"),
        (box(1, 0, 0, 2, 2) | {"segmentation": []}, "annotation 7 must be polygons or RLE"),
        (box(1, 0, 0, 2, 2) | {"segmentation": {"size": [3, 3], "counts": [0, 9]}}, "annotation 7 must be polygons"),
        (box(1, 0, 0, 2, 2) | {"segmentation": {"size": [8, 10]}}, "annotation 7 must be polygons or RLE"),
    ],
)
def test_annotations_that_are_wrong(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(ViceError, match=said):
        class_mask([entry], SIZE, LABELS)


# ---- the set


def zipped(file: Path, members: dict[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file


def instances(ids: list[int], annotations: list[dict[str, Any]]) -> bytes:
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in ids]
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": CATEGORIES}
    return json.dumps(content).encode()


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    folder = tmp_path / "archives"
    region = np.zeros(SIZE, bool)
    region[7] = True
    train = [box(18, 0, 0, 3, 3, image_id=9), crowd(1, region) | {"image_id": 9}, box(1, 0, 0, 2, 2, image_id=25)]
    jpeg = picture(SIZE)
    zipped(folder / "train2017.zip", {f"train2017/{i:012d}.jpg": jpeg for i in (25, 9)})
    zipped(folder / "val2017.zip", {f"val2017/{i:012d}.jpg": jpeg for i in (139, 285)})
    members = {"annotations/instances_train2017.json": instances([25, 9], train),
               "annotations/instances_val2017.json": instances([139, 285], [box(90, 1, 1, 5, 5, image_id=139)]),
               "annotations/captions_val2017.json": b"{}"}  # fmt: skip
    zipped(folder / "annotations_trainval2017.zip", members)
    return folder


def left(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []


def test_the_layout_of_voc(archives: Path, tmp_path: Path) -> None:
    root = tmp_path / "coco"
    steps: list[tuple[int, int]] = []
    made = write_coco(root, archives, progress=lambda done, total: steps.append((done, total)))
    assert made == CocoSet(classes=3, images={"train": 2, "val": 2}, crowds=1)
    assert steps == [(1, 2), (2, 2)] * 2
    assert (root / "classes.txt").read_text().split() == ["person", "dog", "toothbrush"]
    assert read_list(root / "train.txt") == ["000000000009", "000000000025"]
    train, val = VocDataset(root, "train"), VocDataset(root, "val")
    assert train.targets.tolist() == [[1, 1, 0], [1, 0, 0]]  # the crowd's person too
    assert val.targets.tolist() == [[0, 0, 1], [0, 0, 0]]
    mask = train.mask(0)
    assert mask is not None
    assert (np.unique(mask).tolist(), int((mask == 2).sum()), int((mask == 255).sum())) == ([0, 2, 255], 9, 10)
    (found, other) = survey(root)
    assert not found.broken + other.broken
    assert [problem.image_id for problem in found.disagreements] == ["000000000009"]
    assert write_coco(root, tmp_path / "nowhere") == made
    with pytest.raises(ViceError, match="already holds COCO's train and val"):
        write_coco(root, archives, splits=["val"])


def test_the_command_and_one_split(archives: Path, tmp_path: Path) -> None:
    (archives / "train2017.zip").unlink()
    command = ["data", "coco", "--out", str(tmp_path / "coco"), "--archives", str(archives)]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ViceError)
    assert "train2017.zip is not in" in done.exception.message
    assert left(tmp_path / "coco") == []
    done = CliRunner().invoke(app, [*command, "--only", "val"])
    assert done.exit_code == 0, done.output
    assert "2 images in val; 3 classes; 0 crowds are void" in done.output
    assert isinstance(CliRunner().invoke(app, [*command, "--only", "vall"]).exception, ViceError)


def test_from_an_address(archives: Path, tmp_path: Path) -> None:
    with Server(archives).running() as server:
        done = CliRunner().invoke(app, ["data", "coco", "--root", str(tmp_path / "coco"), "--from", server.address])
    assert done.exit_code == 0, done.output
    assert left(tmp_path / "coco/archives") == ["annotations_trainval2017.zip", "train2017.zip", "val2017.zip"]
    mask = read_mask(tmp_path / "coco/SegmentationClass/000000000139.png")
    assert int((mask == 3).sum()) == 16


def spoilt(archives: Path, kind: str) -> None:
    images, annotations = archives / "val2017.zip", archives / "annotations_trainval2017.zip"
    if kind == "truncated":
        images.write_bytes(images.read_bytes()[:-60])
    elif kind == "a flipped byte":
        content = bytearray(images.read_bytes())
        content[200] ^= 255
        images.write_bytes(bytes(content))
    elif kind in ("a password", "an unknown method"):  # in the header of each member, and in the table at the end
        content = images.read_bytes()
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            for start in [found.start() for found in re.finditer(mark, content)]:
                place, value = (start + at, b"\x01\x00") if kind == "a password" else (start + at + 2, b"\x63\x00")
                content = content[:place] + value + content[place + 2 :]
        images.write_bytes(content)
    elif kind == "damaged LZMA":
        with zipfile.ZipFile(images, "w", zipfile.ZIP_LZMA) as opened:
            for i in (139, 285):
                opened.writestr(f"val2017/{i:012d}.jpg", picture(SIZE))
        content = bytearray(images.read_bytes())
        content[70:76] = b"\xff" * 6
        images.write_bytes(bytes(content))
    elif kind == "a path outside":
        zipped(images, {"../evil.jpg": b"x"})
    elif kind == "no image":
        zipped(images, {"val2017/000000000139.jpg": picture(SIZE)})
    elif kind == "another size":
        zipped(images, {f"val2017/{i:012d}.jpg": picture((3, 3)) for i in (139, 285)})
    elif kind == "no annotations":
        zipped(annotations, {"annotations/captions_val2017.json": b"{}"})
    elif kind == "no instances":
        zipped(annotations, {"annotations/instances_val2017.json": b'{"images": []}'})
    elif kind == "no JSON":
        zipped(annotations, {"annotations/instances_val2017.json": b"<html>"})


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("truncated", r"val2017\.zip is truncated or damaged"),
        ("a flipped byte", r"val2017\.zip is truncated or damaged: Bad CRC-32"),
        ("a password", r"val2017\.zip is protected by a password\.\s+Unpack it, and pack it again without one\.$"),
        ("an unknown method", r"val2017\.zip is packed in a way that cannot be read: .*\n.*pack it again"),
        ("damaged LZMA", r"val2017\.zip is truncated or damaged"),
        ("a path outside", r"val2017\.zip is refused: '\.\./evil\.jpg' lies outside"),
        ("no image", r"must hold 000000000285\.jpg"),
        (
            "another size",
            r"val2017\.zip must state the size of every image, but gives 000000000139\.jpg as 10 x 8 \(width x",
        ),
        ("no annotations", r"must hold annotations/instances_val2017\.json"),
        ("no instances", "must have `annotations`"),
        ("no JSON", "must be JSON"),
    ],
)
def test_an_archive_that_is_wrong_leaves_nothing(archives: Path, tmp_path: Path, kind: str, said: str) -> None:
    spoilt(archives, kind)
    with pytest.raises(ViceError, match=said):
        write_coco(tmp_path / "coco", archives, splits=["val"])
    assert left(tmp_path / "coco") == []
    assert not list(tmp_path.rglob("evil*"))


EDITED = {
    "no JSON": ("{", r"coco\.json must describe the dataset, but the file is wrong"),
    "a list": ("[1]", r"coco\.json must describe the dataset, but the file is wrong"),
    "a field less": ('{"classes": 3, "crowds": 1}', "but images is wrong: Field required"),
    "text for a number": ('{"classes": "3", "images": {"val": 2}, "crowds": 1}', "but classes is wrong"),
    "a list for images": ('{"classes": 3, "images": ["val"], "crowds": 1}', "but images is wrong"),
    "other images": (
        '{"classes": 3, "images": {"val": 5000}, "crowds": 1}',
        r"val\.txt must have 5000 lines, .* has 2",
    ),
    "other classes": (
        '{"classes": 80, "images": {"val": 2}, "crowds": 1}',
        r"classes\.txt must have 80 lines, .* has 3",
    ),
}


@pytest.mark.parametrize("kind", EDITED)
def test_an_edited_description_is_not_trusted(archives: Path, tmp_path: Path, kind: str) -> None:
    root, (text, message) = tmp_path / "coco", EDITED[kind]
    write_coco(root, archives, splits=["val"])
    (root / "coco.json").write_text(text)
    with pytest.raises(ViceError, match=message) as caught:
        write_coco(root, archives, splits=["val"])
    assert "write it again" in caught.value.way_out


def test_without_pycocotools(archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ViceError, match="pycocotools") as caught:
        write_coco(tmp_path / "coco", archives)
    assert "torchvice[coco]" in caught.value.way_out
    assert left(tmp_path / "coco") == []


def named(archives: Path, names: list[str], categories: list[str], members: list[str] | None = None) -> Path:
    """Archives of one split with images and categories of these names; every image shows the first category."""
    images = [{"id": i, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for i, name in enumerate(names)]
    content = {
        "images": images,
        "annotations": [box(0, 0, 0, 3, 3, image_id=i) for i in range(len(names))],
        "categories": [{"id": i, "name": name} for i, name in enumerate(categories)],
    }
    zipped(
        archives / "annotations_trainval2017.zip", {"annotations/instances_val2017.json": json.dumps(content).encode()}
    )
    zipped(archives / "val2017.zip", {name: picture(SIZE) for name in members or [f"val2017/{n}" for n in names]})
    return archives


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    folder = named(tmp_path / "archives", ["my image 1.jpg", "x/b.1.png", "café.JPG"], [" hot dog ", "cat"])
    write_coco(tmp_path / "coco", folder, splits=["val"])
    data = VocDataset(tmp_path / "coco", "val")
    assert [record.image_id for record in data.records] == ["my image 1", "b.1", "café"]
    assert (data.classes, data.targets.tolist(), data.masks_missing) == (("hot dog", "cat"), [[1, 0]] * 3, 0)
    (found,) = survey(tmp_path / "coco")
    assert not found.broken


@pytest.mark.parametrize(
    ("names", "categories", "said"),
    [
        (["a.jpg", "x/a.png"], ["cat"], "'a' once, but has it 2 times"),
        (["cafe\u0301.jpg", "caf\u00e9.jpg"], ["cat"], "once, but has it 2 times"),
        (["a.jpg"], ["cat", " cat"], "'cat' once"),
        (["a.jpg"], ["__ignore__"], "the background is no category"),
        (["a.jpg"], ["cat\u2028dog"], "control characters"),
        (["a\nb.jpg"], ["cat"], "control characters"),
        (["a.bmp"], ["cat"], "must end in .jpg"),
        (["a.jpg.jpg"], ["cat"], "cannot name 'a.jpg'"),
        (["a .jpg"], ["cat"], "cannot name 'a '"),
        (["é" * 120 + ".jpg"], ["cat"], "200 bytes at most"),
    ],
)
def test_names_that_the_layout_cannot_hold(tmp_path: Path, names: list[str], categories: list[str], said: str) -> None:
    folder = named(tmp_path / "archives", names, categories)
    with pytest.raises(ViceError, match=said):
        write_coco(tmp_path / "coco", folder, splits=["val"])
    assert left(tmp_path / "coco") == []


def test_an_image_in_two_folders_of_an_archive(tmp_path: Path) -> None:
    folder = named(tmp_path / "archives", ["x/a.jpg"], ["cat"], ["val2017/x/a.jpg", "val2017/y/a.jpg"])
    assert write_coco(tmp_path / "coco", folder, splits=["val"]).images == {"val": 1}
    folder = named(tmp_path / "archives", ["a.jpg"], ["cat"], ["x/a.jpg", "y/a.jpg"])
    with pytest.raises(ViceError, match=r"must hold a\.jpg, .* but has several"):
        write_coco(tmp_path / "other", folder, splits=["val"])
