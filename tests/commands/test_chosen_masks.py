"""Pictures and pages show the masks that a table was made of, also those that were chosen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import torchvice
from command import status_of as vice
from torchvice.commands import draw
from torchvice.commands.tables import dataset_of
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.fiftyone import write_fiftyone
from torchvice.report import Case

BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits with boxes and a second folder of masks, Other, whose objects are half as high."""
    root: Path = tmp_path_factory.mktemp("digits") / "data"
    write_digits(root, train=8, val=6, test=12, size=64)
    base, data = root / "VOC2012", VocDataset(root, "test")
    for folder in ("Other", "Annotations"):
        (base / folder).mkdir()
    for i, record in enumerate(data.records):
        mask = np.array(data.mask(i))
        objects = "".join(
            f"<object><name>{data.classes[c]}</name>{BOX}</object>" for c in np.flatnonzero(data.targets[i])
        )
        (base / "Annotations" / f"{record.image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
        mask[: int(np.flatnonzero(mask.any(1)).mean())] = 0
        Image.fromarray(mask).save(base / "Other" / f"{record.image_id}.png")
    return root


def assessed(dataset: VocDataset, out: Path) -> torchvice.Samples:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10).eval()
    return torchvice.assess(model, dataset, out=out, view_size=64, crop=64)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The cases that are drawn, as they are drawn."""
    import torchvice.report.cases as cases

    sheet, found = cases.case_sheet, []

    def note(given: list[Case], **how: Any) -> Any:
        found.extend(given)
        return sheet(given, **how)

    monkeypatch.setattr(cases, "case_sheet", note)
    return found


def test_the_chosen_masks_are_drawn_and_pages_and_exports_open_them(
    digits: Path, tmp_path: Path, drawn: list[Case], capsys: pytest.CaptureFixture[str]
) -> None:
    other = VocDataset(digits, "test", masks="Other", labels="masks")
    samples = assessed(other, tmp_path / "t")
    assert samples.manifest["dataset"]["chosen"] == {"masks": "Other", "labels": "masks"}
    assert vice("measure", tmp_path / "t", "--replicates", 0) == 0
    assert (tmp_path / "t" / "figures" / "cases.png").is_file()
    index = {record.image_id: i for i, record in enumerate(other.records)}
    assert drawn
    for case in drawn:
        np.testing.assert_array_equal(case.mask, other.mask(index[case.image_id]))
    assert "not drawn" not in capsys.readouterr().out
    assert vice("report", tmp_path / "t", "--replicates", 0) == 0
    assert write_fiftyone(tmp_path / "t", tmp_path / "export") == 12
    written = sorted((tmp_path / "export" / "fields" / "segmentation").glob("*.png"))
    for file in written:
        np.testing.assert_array_equal(np.array(Image.open(file)), other.mask(index[file.stem]))


def test_a_table_of_boxes_is_drawn_without_the_masks_of_the_split(
    digits: Path, tmp_path: Path, drawn: list[Case]
) -> None:
    samples = assessed(VocDataset(digits, "test", regions="boxes"), tmp_path / "t")
    assert samples.manifest["dataset"]["chosen"] == {"regions": "boxes"}
    dataset = dataset_of(samples)
    assert dataset is not None
    assert dataset.regions == "boxes"
    assert vice("measure", tmp_path / "t", "--replicates", 0) == 0
    assert drawn
    assert all(case.mask is None for case in drawn)
    assert vice("report", tmp_path / "t", "--replicates", 0) == 0
    assert '"o":{' not in (tmp_path / "t" / "report.html").read_text(encoding="utf-8")  # no outline of a mask


def test_a_table_of_default_masks_says_nothing_of_a_choice_and_all_its_cases_are_drawn(
    digits: Path, tmp_path: Path, drawn: list[Case]
) -> None:
    samples = assessed(VocDataset(digits, "test"), tmp_path / "t")
    assert "chosen" not in samples.manifest["dataset"]
    told: list[str] = []
    dataset = dataset_of(samples)
    assert dataset is not None
    assert draw.draw_cases(samples, dataset, tmp_path / "f", tell=told.append)
    assert (len(told), len(drawn) > 2) == (0, True)


@pytest.mark.slow
def test_cases_of_other_masks_are_left_out_with_a_sentence(
    digits: Path, tmp_path: Path, drawn: list[Case], capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(digits, tmp_path / "data")
    samples = assessed(VocDataset(root, "test"), tmp_path / "t")
    assert vice("measure", tmp_path / "t", "--replicates", 0) == 0
    before = [case.image_id for case in drawn]
    drawn.clear()
    base = root / "VOC2012"
    shutil.copy(base / "Other" / f"{before[0]}.png", base / "SegmentationClassAug" / f"{before[0]}.png")
    capsys.readouterr()
    assert vice("measure", tmp_path / "t", "--replicates", 0) == 0
    assert [case.image_id for case in drawn] == [name for name in before if name != before[0]]
    left = before.count(before[0])
    said = " ".join(capsys.readouterr().out.split())
    assert f"{left} of the {len(before)} cases are not drawn: their images or masks in {root} are not those" in said
    shutil.rmtree(base / "SegmentationClassAug")
    (base / "Other").rename(base / "SegmentationClassAug")
    drawn.clear()
    told: list[str] = []
    assert draw.draw_cases(samples, VocDataset(root, "test"), tmp_path / "f", tell=told.append) == []
    assert drawn == []
    assert len(told) == 1


def test_a_table_without_the_entry_resumes_and_is_read_as_before(digits: Path, tmp_path: Path) -> None:
    data = VocDataset(digits, "test", masks="SegmentationClassAug")
    assessed(data, tmp_path / "t")
    file = tmp_path / "t" / "manifest.json"
    manifest = json.loads(file.read_text())
    assert manifest["dataset"].pop("chosen") == {"masks": "SegmentationClassAug"}
    file.write_text(json.dumps(manifest))
    assert dataset_of(torchvice.Samples.load(tmp_path / "t")) is not None
    again = assessed(data, tmp_path / "t")
    assert again.manifest["dataset"]["chosen"] == {"masks": "SegmentationClassAug"}
    assert "chosen" not in assessed(VocDataset(digits, "test"), tmp_path / "t").manifest["dataset"]  # the same files
    with pytest.raises(torchvice.ViceError, match="The masks of the dataset are not those"):
        assessed(VocDataset(digits, "test", masks="Other"), tmp_path / "t")
    manifest["dataset"]["chosen"] = ["no", "choice"]
    file.write_text(json.dumps(manifest))
    assert dataset_of(torchvice.Samples.load(tmp_path / "t")) is not None
