"""vice report: from a RUN, a table, several, or a CSV to the page; and one sentence for every mistake."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import status_of as vice
from tables import scenes, table_of
from torchvice.assessment.images import contents_of
from torchvice.commands.report import _comparison_name, write_report
from torchvice.commands.tables import dataset_of
from torchvice.errors import ViceError
from torchvice.fiftyone import write_fiftyone
from torchvice.samples import Samples
from torchvice.study.table import write_table


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a dataset of twelve scenes and the table of a model on it."""
    monkeypatch.chdir(tmp_path)
    made = scenes(12)
    voc = tmp_path / "data" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    for scene in made:
        Image.fromarray(np.full((60, 80, 3), 77, np.uint8)).save(voc / "JPEGImages" / f"{scene.image_id}.png")
        if scene.mask is not None:
            mask = np.kron(np.array(scene.mask), np.ones((20, 20))).astype(np.uint8)
            Image.fromarray(mask).save(voc / "SegmentationClass" / f"{scene.image_id}.png")
    ids = "\n".join(scene.image_id for scene in made)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text(ids, encoding="utf-8")
    np.save(tmp_path / "data" / "cls_labels.npy", {s.image_id: np.array(s.targets) for s in made}, allow_pickle=True)
    table_of(made, dataset={"root": "data", "split": "val"}).save(tmp_path / "run")
    rng = np.random.default_rng(3)
    other = [dataclasses.replace(s, logits={n: tuple(rng.normal(0, 1, 3).round(3)) for n in s.logits}) for s in made]
    table_of(other, dataset={"root": "data", "split": "val"}).save(tmp_path / "other")
    return tmp_path


def data_of(page: Path) -> Any:
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize("folder", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_page_with_intervals_is_not_replaced_by_one_without(
    home: Path, capsys: pytest.CaptureFixture[str], folder: bool
) -> None:
    words = ("report", "run", "--no-images", *(["--folder"] * folder), "--replicates")
    page = home / "run" / ("report/index.html" if folder else "report.html")
    latest = home / "run" / ("report_latest/index.html" if folder else "report_latest.html")
    assert vice(*words, 200) == 0
    before = page.read_text(encoding="utf-8")
    assert vice(*words, 0) == 0
    out = capsys.readouterr().out
    assert "Kept the earlier page" in out
    assert str(latest.relative_to(home)) in out
    assert page.read_text(encoding="utf-8") == before
    assert latest.is_file()
    # More replicates, the same, and the numbers of another table are written; and a path that is named.
    shutil.rmtree(latest.parent) if folder else latest.unlink()
    assert vice(*words, 300) == 0
    assert vice(*words, 300) == 0
    assert page.read_text(encoding="utf-8") != before
    assert vice(*words, 0, "--out", page.parent if folder else page) == 0
    assert vice(*words, 300) == 0
    shutil.rmtree(home / "run" / "assess", ignore_errors=True)
    for file in (home / "other").iterdir():
        shutil.copy(file, home / "run")
    assert vice(*words, 0) == 0
    assert "Kept" not in capsys.readouterr().out
    assert not latest.is_file()


def test_a_table_becomes_a_page_with_its_pictures(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vice("report", "run", "--replicates", 200) == 0
    assert "Written: run/report.html" in capsys.readouterr().out
    text = (home / "run" / "report.html").read_text(encoding="utf-8")
    assert text.count("data:image/") == 12
    assert text.count('"o":{') == 10  # the masks' outlines
    assert "95\u00a0% interval" in text
    assert data_of(home / "run" / "report.html")["models"][0]["name"] == "run"


def test_options_are_heard(home: Path) -> None:
    assert (
        vice("report", "run", "--no-images", "--cases", 3, "--replicates", 0, "--title", "A <b>", "--out", "p.html")
        == 0
    )
    text = (home / "p.html").read_text(encoding="utf-8")
    assert "data:image/" not in text
    assert "A &lt;b&gt;" in text
    assert len(re.findall(r'id="c\d+"', text)) == 3
    assert "% interval" not in text.split('id="figures"')[0]
    assert vice("report", "run", "--folder", "--replicates", 0) == 0
    assert len(list((home / "run" / "report" / "pictures").rglob("*.*"))) == 12
    assert "data:image/" not in (home / "run" / "report" / "index.html").read_text(encoding="utf-8")


def test_models_are_compared_with_their_paired_differences(home: Path) -> None:
    assert vice("report", "run", "other", "--compare", "--replicates", 200) == 0
    text = (home / "comparison_run_other.html").read_text(encoding="utf-8")
    assert [model["name"] for model in data_of(home / "comparison_run_other.html")["models"]] == ["run", "other"]
    assert "Paired differences" in text
    assert "cannot be compared: Too few images for intervals and tests" in text
    assert text.count("data:image/") == 12


def test_comparisons_of_other_models_have_pages_of_their_own(home: Path) -> None:
    shutil.copytree(home / "other", home / "third.1")
    options: dict[str, Any] = {"replicates": 0, "pictures": False}
    first = write_report(["run", "other"], **options)
    before = first.read_bytes()
    assert write_report(["run", "third.1"], **options) == Path("comparison_run_third-1.html")
    assert write_report(["run", "other"], split="val", **options) == Path("comparison_run_other_val.html")
    assert write_report(["run", "other"], folder=True, **options) == Path("comparison_run_other/index.html")
    assert (first, first.read_bytes()) == (Path("comparison_run_other.html"), before)
    many = [f"network-{number}" for number in range(20)]
    names = [_comparison_name(some) for some in (many, many[:-1], [*many[:-1], "network-x"])]
    assert len(set(names)) == 3
    assert names[0].startswith("comparison_20-models_")


def test_runs_of_one_name_are_told_apart(home: Path) -> None:
    for place in ("a", "b"):
        (home / place).mkdir()
        (home / "run").rename(home / place / "same") if place == "a" else (home / "other").rename(home / place / "same")
    file = write_report(["a/same", "b/same"], replicates=0, pictures=False)
    assert [model["name"] for model in data_of(file)["models"]] == ["a/same", "b/same"]


def test_another_quality_has_a_page_of_its_own(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vice("report", "run", "--quality", "energy", "--replicates", 0, "--no-images") == 0
    assert "Written: run/report_energy.html" in capsys.readouterr().out
    own = data_of(home / "run" / "report_energy.html")
    assert own["quality"] == {"name": "energy", "label": "energy"}
    vice("report", "run", "--replicates", 0, "--no-images")
    assert data_of(home / "run" / "report.html")["models"][0]["iou"] != own["models"][0]["iou"]
    assert vice("report", "run", "other", "--compare", "--quality", "energy", "--replicates", 100, "--no-images") == 0
    text = (home / "comparison_run_other_energy.html").read_text(encoding="utf-8")
    assert '<th scope="row" role="rowheader">Energy</th>' in text
    vice("measure", "run", "--write-csv", "table.csv", "--no-figures")
    assert vice("report", "table.csv", "--quality", "energy") == 2
    assert "--quality has no effect on a CSV" in capsys.readouterr().err


def test_a_csv_becomes_a_page_of_numbers(home: Path) -> None:
    assert vice("measure", "run", "--write-csv", "table.csv", "--no-figures") == 0
    assert vice("report", "table.csv") == 0
    text = (home / "table_report.html").read_text(encoding="utf-8")
    assert "There are no cases" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "other"], "Add --compare"),
        (["run", "--compare"], "Give two or more RUNs"),
        (["nowhere"], "there is nothing at nowhere"),
    ],
)
def test_a_mistake_is_a_sentence(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert vice("report", *arguments) == 2
    assert words in capsys.readouterr().err


def test_images_that_are_gone_are_said_with_the_way_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home / "run")
    with pytest.raises(ViceError, match="--no-images"):
        write_report([home / "run"], replicates=0)
    manifest = home / "run" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["dataset"]["root"] = ""
    manifest.write_text(json.dumps(content))
    with pytest.raises(ViceError, match=r"(?s)does not name a folder of its dataset.*--no-images"):
        write_report([home / "run"], replicates=0)
    assert write_report([home / "run"], replicates=0, pictures=False) == home / "run" / "report.html"
    with pytest.raises(ViceError, match="none is given"):
        write_report([])


def test_a_page_shows_no_masks_that_the_table_was_not_made_of(home: Path) -> None:
    samples = Samples.load(home / "run")
    dataset = dataset_of(samples)
    assert dataset is not None
    manifest = {**samples.manifest, "contents": contents_of(dataset)}
    Samples(manifest, samples.images, samples.regions, samples.maps).save(home / "known")
    assert write_report([home / "known"], replicates=0).is_file()
    file = next(record.mask for record in dataset.records if record.mask is not None)
    Image.fromarray(np.roll(np.asarray(Image.open(file)), 1, axis=1)).save(file)
    with pytest.raises(ViceError, match="The masks in data are not those that the table was made of"):
        write_report([home / "known"], replicates=0)
    with pytest.raises(ViceError, match="The masks in data are not those"):
        write_fiftyone(home / "known", home / "out")
    assert write_report([home / "known"], replicates=0, pictures=False).is_file()
    assert write_report([home / "run"], replicates=0).is_file()  # a table that does not know


@pytest.fixture
def study(home: Path) -> Path:
    """The folder of a study, as `vice study` leaves it without its runs."""
    folder = home / "study"
    folder.mkdir()
    rows = [
        {"run": f"{net}-s1", "net": net, "seed": 1, "status": "finished", "vice": vice, "ece_ml": 0.1, "reason": None}
        for net, vice in (("a", 0.25), ("b", 0.5))
    ]
    write_table(rows, folder / "table")
    return folder


def test_a_study_becomes_a_page_in_its_folder(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vice("report", "study", "--title", "two nets") == 0
    out = capsys.readouterr()
    assert "Written: study/report.html" in out.out
    assert "cases" not in out.err  # no bar: there is nothing to wait for
    text = (study / "report.html").read_text(encoding="utf-8")
    assert '<h1 id="title">two nets</h1>' in text
    assert data_of(study / "report.html")["study"]["columns"]["vice"]["mean"] == [0.25, 0.5]
    assert vice("report", "study", "--out", "p.html") == 0
    assert (study.parent / "p.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["study", "--compare"], "study is a study: its report compares its own runs, not other paths"),
        (["study", "study"], "study is a study: its report compares its own runs, not other paths"),
        (["run", "study", "--compare"], "study is a study: its report compares its own runs, not other paths"),
        (
            ["study", "--folder"],
            "--folder has no effect on a study, which study is",
        ),
        (
            ["study", "--cases", 0],
            "--cases has no effect on a study, which study is",
        ),
        (
            ["study", "--replicates", 100],
            "--replicates has no effect on a study, which study is",
        ),
        (
            ["study", "--split", "val"],
            "--split has no effect on a study, which study is",
        ),
    ],
)
def test_what_a_study_has_no_page_of_is_one_sentence(
    study: Path, capsys: pytest.CaptureFixture[str], arguments: list[Any], words: str
) -> None:
    assert vice("report", *arguments) == 2
    assert words in capsys.readouterr().err
    assert not (study / "report.html").exists()
