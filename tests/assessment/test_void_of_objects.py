"""Void of a mask that goes with a replaced object: its own side of the rim, and nothing of the object beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import torchvice
from torchvice.assessment.region import Region
from torchvice.errors import ViceError
from torchvice.measures import compare
from torchvice.samples import ShardFolder

SIDE, VOID = 32, 255
ROWS = slice(6, 26)
LEFT, RIGHT = slice(4, 14), slice(18, 28)  # two squares; the rim of void between them is four pixels wide


def two_squares(with_right: bool = True) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[4:28, 2:30] = VOID
    mask[ROWS, LEFT] = 1
    mask[ROWS, RIGHT] = 2 if with_right else VOID
    mask[0, 0] = VOID  # touches nothing
    return mask


def test_each_object_takes_its_own_side_of_a_shared_rim() -> None:
    region = Region((SIDE, SIDE), two_squares())
    left, right = region.object_of(0), region.object_of(1)
    assert not (left & right).any()
    expected = np.zeros((SIDE, SIDE), bool)
    expected[4:28, 2:16] = True
    np.testing.assert_array_equal(left, expected)
    np.testing.assert_array_equal(right, expected[:, ::-1])


def test_an_object_alone_takes_all_void_that_touches_it() -> None:
    region = Region((SIDE, SIDE), two_squares(with_right=False))
    expected = np.zeros((SIDE, SIDE), bool)
    expected[4:28, 2:30] = True
    np.testing.assert_array_equal(region.object_of(0), expected)
    touching = Region((SIDE, SIDE), two_squares()).object_of(0, "touching")
    expected[ROWS, RIGHT] = False
    np.testing.assert_array_equal(touching, expected)


def test_void_of_masks_of_16_bits() -> None:
    mask = two_squares().astype(np.int64)
    mask[mask == VOID] = 65535
    own = Region((SIDE, SIDE), mask, void=65535).object_of(1)
    np.testing.assert_array_equal(own, Region((SIDE, SIDE), two_squares()).object_of(1))


def test_the_objects_of_one_class_share_what_is_between_them() -> None:
    mask = two_squares()
    mask[mask == 2] = 1
    mask[30, 30] = 2
    assert Region((SIDE, SIDE), mask).object_of(0)[ROWS, 14:18].all()


class Pair:
    """Images of a red and a green square that touch."""

    classes, exclusive = ("red", "green"), False

    def __init__(self, count: int = 4) -> None:
        self.records = [type("Record", (), {"image_id": f"p{i}"})() for i in range(count)]
        self.targets = np.ones((count, 2), np.uint8)

    def image(self, index: int) -> np.ndarray:
        image = np.random.default_rng(index).integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
        image[ROWS, LEFT], image[ROWS, RIGHT] = (250, 20, 20), (20, 250, 20)
        return image

    def mask(self, index: int) -> np.ndarray:
        return two_squares()


class ByEdge(nn.Module):
    """Finds both classes by the left edge of the green square alone."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([[-1.0, 1, -1], [-1, 1, -1]])[:, :, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.features(x)[..., ROWS, 18:20])
        return 40 * maps.mean((2, 3)) - 1


def assessed(out: Path, **more: object) -> torchvice.Samples:
    settings = {"view_size": SIDE, "mean": (0, 0, 0), "std": (1, 1, 1), "layer": "features", "method": "gradcam"}
    settings |= {"without": ["object", "dilation=1"], "protocols": ("strict",), **more}
    return torchvice.assess(ByEdge(), Pair(), out=out, **settings)


def test_the_object_beside_is_left_whole(tmp_path: Path) -> None:
    """Red is found by the green square alone, so that it loses nothing with its own; green loses all."""
    frame = assessed(tmp_path / "nearest").to_pandas("pairs").set_index("class")
    assert frame.margin["red"].min() > 30
    np.testing.assert_allclose(frame.without_object["red"], frame.margin["red"], atol=1e-3)
    assert (frame.without_object["green"] < 0).all()


def test_all_void_that_touches_is_replaced_where_asked(tmp_path: Path) -> None:
    def margin(void: str) -> float:
        """Of red without the red square, which is found by the edge of the green one."""
        replaced = ["object", "filling=mean", "dilation=2", f"void={void}"]
        rows = assessed(tmp_path / void, without=replaced).of_protocol("strict").regions
        return float(rows.without_object[rows.label == 1].mean())

    assert margin("touching") < margin("nearest") / 5
    with pytest.raises(ViceError, match="`void` must be one of nearest, touching, but is 'all'"):
        assessed(tmp_path / "all", without=["object", "void=all"])


def of_an_earlier_version(folder: Path, regions: str = "masks") -> None:
    """Take from a table's manifest what earlier versions did not write."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["dataset"]["regions"] = regions
    for settings in manifest["explanations"].values():
        settings.get("interventions", {}).pop("void", None)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_boxes_have_no_void(tmp_path: Path) -> None:
    assessed(tmp_path)
    of_an_earlier_version(tmp_path, "boxes")
    assert ShardFolder(tmp_path).manifest()["explanations"]["strict:gradcam"]["interventions"]["void"] == "nearest"


def test_a_table_of_an_earlier_version_goes_on_as_it_began_and_says_so(tmp_path: Path) -> None:
    old = tmp_path / "old"
    assessed(old, without=["object", "dilation=3", "void=touching"])
    of_an_earlier_version(old)
    again = assessed(old, without="auto", also=["layercam"])
    assert again.manifest["explanations"]["strict:gradcam"]["interventions"]["void"] == "touching"
    said = "the void around the objects that touch it was replaced, too"
    assert any(said in caveat for caveat in torchvice.measure(again).verdict.caveats)
    with pytest.raises(ViceError, match=r"`void` of `interventions` .* 'touching' in the table, but 'nearest' now"):
        assessed(old, without=["object", "dilation=3"])
    with pytest.raises(ViceError, match="To go on as it was begun, add void=touching to --without"):
        assessed(old, without=["object", "dilation=3"])
    assessed(old, without=["object", "dilation=3", "void=touching"])
    new = assessed(tmp_path / "new", without=["object", "dilation=3"])
    assert not any(said in caveat for caveat in torchvice.measure(new).verdict.caveats)
    (told,) = [one for one in compare({"a": again, "b": new}).sentences if "Not the same question" in one]
    assert "the replaced objects differ in void (a: touching, b: nearest)" in told
