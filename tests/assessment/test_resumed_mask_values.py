"""A table is not completed with masks whose values mean something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import torchvice
from torchvice.assessment.other_subject import other_mask_values
from torchvice.data import from_items
from torchvice.errors import ViceError

SIZES = {"view_size": 32, "crop": 32, "outputs": "logits", "device": "cpu", "method": "gradcam", "controls": False}
TRIMAP, SWAPPED = "object=1,background=2,void=3", "object=2,background=1,void=3"
Folder = dict[str, Path]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model("test_resnet", num_classes=1).eval()
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Photos a, b, c and trimaps."""
    for place in ("photos", "masks"):
        (tmp_path / place).mkdir()
    for seed, name in enumerate("abc"):
        Image.fromarray(pixels(seed)).save(tmp_path / "photos" / f"{name}.png")
        Image.fromarray(trimap()).save(tmp_path / "masks" / f"{name}.png")
    return {"images": tmp_path / "photos", "masks": tmp_path / "masks"}


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 40, 3), dtype=np.uint8)


def trimap() -> np.ndarray:
    mask = np.full((32, 40), 2, np.uint8)
    mask[6:20, 8:26] = 3
    mask[8:18, 10:24] = 1
    return mask


def pixels_of(table: torchvice.Samples) -> list[int]:
    return table.regions.where(table.regions.label == 1).mask_pixels.tolist()


def refused(network: torch.nn.Module, out: Path, values: str, *items: Any, **folder: Any) -> ViceError:
    with pytest.raises(ViceError) as told:
        torchvice.assess(network, *items, out=out, mask_values=values, **folder, **SIZES)
    return told.value


def test_a_table_of_a_folder_keeps_the_meaning_of_its_masks(network, folder, tmp_path) -> None:
    out = tmp_path / "table"
    made = torchvice.assess(network, out=out, mask_values=TRIMAP, **folder, **SIZES)
    assert set(pixels_of(made)) == {10 * 14}
    error = refused(network, out, SWAPPED, **folder)
    assert error.message == (
        f"The table in {out} was made with other settings: "
        f"`mask_values` is {TRIMAP!r} in the table, but {SWAPPED!r} now."
    )
    assert error.way_out == (
        f"To go on as it was begun, give --mask-values {TRIMAP} (mask_values={TRIMAP!r}); or write to another folder."
    )
    for same in (TRIMAP, "void=3, background=2, object=1", f"{TRIMAP},void=9"):
        assert pixels_of(torchvice.assess(network, out=out, mask_values=same, **folder, **SIZES)) == pixels_of(made)


def test_a_table_of_an_earlier_version_does_not_know_the_meaning(network, folder, tmp_path) -> None:
    out = tmp_path / "table"
    torchvice.assess(network, out=out, mask_values=TRIMAP, **folder, **SIZES)
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["dataset"]["chosen"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    torchvice.assess(network, out=out, mask_values=SWAPPED, **folder, **SIZES)


def test_a_table_of_items_keeps_the_meaning_of_its_masks(network, tmp_path) -> None:
    items = [(pixels(seed), trimap()) for seed in range(3)]
    assert from_items(items, mask_values=TRIMAP).chosen == {"mask_values": TRIMAP}
    out = tmp_path / "table"
    made = torchvice.assess(network, items, out=out, mask_values=TRIMAP, **SIZES)
    assert made.manifest["dataset"]["chosen"] == {"mask_values": TRIMAP}
    error = refused(network, out, SWAPPED, items)
    assert f"`mask_values` is {TRIMAP!r} in the table, but {SWAPPED!r} now" in error.message
    assert pixels_of(torchvice.assess(network, items, out=out, mask_values=TRIMAP, **SIZES)) == pixels_of(made)


def test_masks_of_two_values_are_not_turned_round(network, folder, tmp_path) -> None:
    for name in "abc":
        Image.fromarray((trimap() == 1).astype(np.uint8) * 255).save(folder["masks"] / f"{name}.png")
    out = tmp_path / "table"
    made = torchvice.assess(network, out=out, **folder, **SIZES)
    error = refused(network, out, "object=0,background=255", **folder)
    assert "`mask_values` is not set in the table, but 'object=0,background=255' now" in error.message
    assert error.way_out == "To go on as it was begun, leave out --mask-values; or write to another folder."
    for same in (None, "object=255"):
        table = torchvice.assess(network, out=out, mask_values=same, **folder, **SIZES)
        assert pixels_of(table) == pixels_of(made)


def test_folders_that_did_not_name_values_cannot_begin_to() -> None:
    named = {"mask_values": "object=0,background=255"}
    assert other_mask_values({"images": "photos", "masks": "masks"}, named) is not None
    assert other_mask_values({"labels": "masks"}, named) is None
    assert other_mask_values({"mask_values": "of a user's own"}, named) is None
