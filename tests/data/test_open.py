"""The one door for data: what another layout takes, and that every command goes through it."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from voc_files import SCENES

import torchvice
from torchvice.data import VocDataset, open_dataset, survey
from torchvice.data import open as door
from torchvice.data.layout import Layout, Located
from torchvice.data.lists import ListLine
from torchvice.data.unlabelled import UnlabelledImages
from torchvice.errors import ViceError

Voc = Callable[..., Path]


def test_a_folder_of_voc_opens_as_a_voc_dataset(voc: Voc) -> None:
    root = voc()
    opened, direct = open_dataset(root, "val", labels="masks"), VocDataset(root, "val", labels="masks")
    assert isinstance(opened, VocDataset)
    assert opened.records == direct.records
    assert (opened.classes, opened.split, opened.label_source) == (direct.classes, direct.split, direct.label_source)
    assert np.array_equal(opened.targets, direct.targets)


def test_a_further_layout_takes_one_line_in_open_layout(voc: Voc, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reversed(Layout):
        """Reads its lists from the end."""

        def located(self, lines: list[ListLine], masks: str | None = None) -> Located:  # type: ignore[override]
            return super().located(lines[::-1], masks)

    root = voc()
    monkeypatch.setattr(door, "Layout", Reversed)
    backwards = list(SCENES)[::-1]
    assert [record.image_id for record in open_dataset(root, "val").records] == backwards
    assert [record.image_id for record in UnlabelledImages(root, "val").records] == backwards
    assert survey(root, "val")[0].images == len(SCENES)


def test_no_command_opens_a_dataset_by_another_door() -> None:
    source = Path(torchvice.__file__).parent
    for path in source.rglob("*.py"):
        if path.parent.name == "data" and path.stem in ("open", "voc"):
            continue
        calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert not names & {"VocDataset", "Layout"}, path.relative_to(source)


def test_a_folder_is_named_once_however_it_is_spelt(voc: Voc, monkeypatch: pytest.MonkeyPatch) -> None:
    root = voc()
    monkeypatch.chdir(root.parent)
    with pytest.raises(ViceError) as caught:
        VocDataset(root.name, "vall")
    base = f"{root.name}/VOC2012"
    assert f"a list in {root.name} or {base} or {base}/ImageSets/Segmentation, but" in caught.value.message


def test_copies_of_a_file_are_no_choice_to_be_noted(voc: Voc) -> None:
    root = voc()
    base, name = root / "VOC2012", next(iter(SCENES))
    for folder in ("SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    masks = sorted((base / "SegmentationClassAug").glob(f"{name}.png"))
    assert masks
    shutil.copy(masks[0], base / "SegmentationClass" / masks[0].name)
    shutil.copy(root / "val.txt", base / "ImageSets/Segmentation/val.txt")
    assert VocDataset(root, "val").notes == ()
    with (base / "ImageSets/Segmentation/val.txt").open("a") as file:
        file.write("\n")
    (base / "SegmentationClass" / masks[0].name).write_bytes(masks[0].read_bytes() + b"0")
    lists, files = VocDataset(root, "val").notes
    assert lists.startswith("There are several lists of val: read is")
    assert files.startswith("1 image has several files: read is")
