"""The commands that print numbers, on tables drawn at random: measure with its options, and compare."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import vice
from simulated import simulated
from tables import scenes, table_of
from torchvice.config import dump_settings, load_settings
from torchvice.measures.catalogue import measure_of
from torchvice.samples import Samples

OTHERS = {
    "strict:random": {"role": "control", "dependence": 0.0},
    "strict:gradcam": {"role": "method", "dependence": 0.9},
    "strict:mirror": {"role": "retest", "dependence": 1.0},
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    simulated(80, others=OTHERS).save(folder / "strong")
    simulated(80, seed=1, dependence=0.0).save(folder / "weak")
    other = simulated(60, seed=2)
    names = np.array([f"val{i}" for i in range(60)], dtype=object)
    place = dict(zip(other.images.image_id.tolist(), names.tolist(), strict=True))
    images = type(other.images)(**{**vars(other.images), "image_id": names})
    moved = np.array([place[name] for name in other.regions.image_id.tolist()], dtype=object)
    regions = type(other.regions)(**{**vars(other.regions), "image_id": moved})
    Samples(other.manifest, images, regions, other.maps).save(folder / "val")
    return folder


def test_measure_says_interval_controls_and_quadrants(tables: Path, capsys: Any) -> None:
    status, out, _ = vice(capsys, "measure", tables / "strong", "--no-figures", "--replicates", 100)
    assert status == 0
    found = json.loads((tables / "strong" / "measures.json").read_text())
    limits = found["intervals"]["strict.vice"]
    assert f"{found['strict']['vice']:.4f} ({limits['low']:.2f} to {limits['high']:.2f})" in out
    lost = [name for name, row in found["controls"].items() if not row["beaten"]]
    assert all(f"`{name}`" in out for name in lost)
    assert ("VICE is not clearly higher" in out) == bool(lost)
    assert "More numbers: --all" in out
    assert "VICE by other definitions" not in out
    assert sum(set(line.strip()) == {"─"} for line in out.splitlines()) == 1  # one table


def test_measure_all_prints_everything_that_the_json_has(tables: Path, capsys: Any) -> None:
    status, out, _ = vice(capsys, "measure", tables / "strong", "--no-figures", "--replicates", 100, "--all")
    assert status == 0
    found = json.loads((tables / "strong" / "measures.json").read_text())
    for path in (f"{section}.{name}" for section in ("sensitivities", "calibration") for name in found[section]):
        assert measure_of(path).label.split()[0] in out
    for title in (
        "Controls",
        "Other explanation methods",
        "The same method on mirrored or scaled images",
        "VICE within strata",
        "Classes",
        "Localisation",
        "Calibration",
        "right, looking elsewhere",
    ):
        assert title in out
    for row in found["classes"]:
        assert row["name"] in out


@pytest.mark.parametrize("option", [(), ("--all",)])
def test_the_terminal_is_80_columns_wide_and_breaks_no_word(
    tables: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = vice(capsys, "measure", tables / "strong", "--no-figures", "--replicates", 100, *option)
    lines = [line for line in out.splitlines() if not line.startswith("Written: ")]
    assert max(map(len, lines)) <= 80
    assert "…" not in out


def test_the_schema_is_printed_and_nothing_is_measured(capsys: Any) -> None:
    status, out, _ = vice(capsys, "measure", "--schema")
    assert status == 0
    assert json.loads(out)["properties"]["strict"]["properties"]["vice"]["title"] == "VICE (strict)"


def test_fail_under_is_for_continuous_integration(tables: Path, capsys: Any) -> None:
    common = ("measure", tables / "strong", "--no-figures", "--replicates", 0)
    paths = ("vice=0.1", "localisation.pxap=0.0", "calibration.brier=0.0", "sensitivities.kendall=0.0")
    assert vice(capsys, *common, *(part for path in paths for part in ("--fail-under", path)))[0] == 0
    status, out, _ = vice(capsys, *common, "--fail-under", "vice=0.99")
    assert status == 1
    assert "strict.vice must be at least 0.99, but is 0." in out
    assert (tables / "strong" / "measures.json").is_file()  # nothing that was computed is lost
    status, out, _ = vice(capsys, *common, "--fail-under", "paper.vice=0.1")
    assert status == 1
    assert "but is undefined" in out
    for wrong, said in (
        ("vice", "MEASURE=VALUE"),
        ("vice=high", "MEASURE=VALUE"),
        ("vice=nan", "MEASURE=VALUE"),
        ("vise=0.1", "Did you mean"),
    ):
        status, _, err = vice(capsys, *common, "--fail-under", wrong)
        assert (status, "Traceback" in err) == (2, False)
        assert said in err


def test_another_quality_and_a_calibration_split(tables: Path, capsys: Any, tmp_path: Path) -> None:
    status, out, _ = vice(
        capsys, "measure", tables / "strong", "--replicates", 0, "--quality", "soft_iou",
        "--calibrate-on", tables / "val", "--figures", tmp_path, "--json", tmp_path / "m.json",
    )  # fmt: skip
    assert status == 0
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["quality"]["name"] == "soft_iou"
    assert found["scaling"]["fitted_on"]["images"] == 60
    assert (tmp_path / "calibration.png").is_file()
    assert found["strict"] == json.loads((tables / "strong" / "measures_soft_iou.json").read_text())["strict"]
    assert "VICE with soft IoU" in out
    assert f"{found['quality']['vice']:.4f}" in out
    status, out, _ = vice(
        capsys,
        "measure",
        tables / "strong",
        "--replicates",
        0,
        "--no-figures",
        "--calibrate-on",
        tables / "val",
        "--all",
    )
    assert "After scaling, fitted on 60 images" in out
    status, _, err = vice(capsys, "measure", tables / "strong", "--quality", "road")
    assert status == 2
    assert "--faithfulness road" in err


def test_compare_says_what_is_established(
    tables: Path, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("compare", tables / "strong", tables / "weak", "--replicates", 200)
    status, out, _ = vice(capsys, *arguments, "--json", tmp_path / "c.json", "--figures", tmp_path)
    assert status == 0
    assert "strong is more consistent than weak" in " ".join(out.split())
    found = json.loads((tmp_path / "c.json").read_text())
    assert [row["name"] for row in found["models"]] == ["strong", "weak"]
    assert found["sentences"][0].startswith("Established on these 80 images")
    assert (tmp_path / "comparison.png").is_file()
    monkeypatch.chdir(tmp_path)
    assert vice(capsys, *arguments)[0] == 0
    assert (tmp_path / "comparison" / "comparison.png").is_file()


def test_mistakes_of_a_comparison_are_one_sentence(tables: Path, capsys: Any) -> None:
    strong, weak = tables / "strong", tables / "weak"
    wrong: dict[str, tuple[list[Any], str]] = {
        "one model": ([strong], "two models or more"),
        "one twice": ([strong, strong], "named twice"),
        "no table": ([strong, tables / "none"], "nothing at"),
        "no common image": ([strong, tables / "val"], "none in common"),
        "a group without members": ([strong, weak, "--group", "A"], "NAME=RUN"),
        "a group given twice": (
            [strong, weak, "--group", "A=a0,a1", "--group", "A=a2"],
            "A group must be given once, but A is given twice.",
        ),
        "a group of a stranger": ([strong, weak, "--group", "A=elsewhere"], "must name models"),
        "an unknown quality": ([strong, weak, "--quality", "beauty"], "must be a known one"),
    }
    for name, (arguments, said) in wrong.items():
        status, _, err = vice(capsys, "compare", *arguments, "--replicates", 100)
        assert (status, "Traceback" in err, said in err) == (2, False, True), f"{name}: {err}"


def test_groups_of_seeds(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        simulated(60, seed=seed, dependence=1.5).save(tmp_path / f"a{seed}")
        simulated(60, seed=10 + seed, dependence=0.0).save(tmp_path / f"b{seed}")
    runs = [tmp_path / f"{name}{seed}" for name in "ab" for seed in range(3)]
    groups = ("--group", "A=a0,a1,a2", "--group", "B=b0,b1,b2")
    status, out, _ = vice(capsys, "compare", *runs, *groups, "--replicates", 100)
    assert status == 0
    assert "Established over seeds: A - B" in " ".join(out.split())
    status, out, _ = vice(capsys, "compare", *runs[:2], *runs[3:5], "--group", "A=a0,a1", "--group", "B=b0,b1")
    assert "No claim about A against B" in " ".join(out.split())


def test_an_unfinished_table_says_so(tables: Path, capsys: Any, tmp_path: Path) -> None:
    dataset = {"root": "nowhere", "split": "test", "images": 300}
    simulated(40, finished=False, dataset=dataset).save(tmp_path / "half")
    _, out, _ = vice(capsys, "measure", tmp_path / "half", "--no-figures", "--replicates", 0)
    assert "not finished: these are 40 of 300 images" in " ".join(out.split())
    _, out, _ = vice(capsys, "measure", tables / "strong", "--no-figures", "--replicates", 0)
    assert "not finished" not in out


def test_a_full_disk_is_one_sentence(tables: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from torchvice.commands import measure

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(measure, "write_measures", full)
    status, _, err = vice(capsys, "measure", tables / "strong", "--no-figures", "--replicates", 0)
    assert (status, "Traceback" in err) == (2, False)
    assert "The disk is full" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fail-under", "vise=0.3"], "Did you mean `strict.vice`?"),
        (["--fail-under", "strct.vice=0.3"], "Did you mean `strict.vice`?"),
        (["--quality", "soft_iuo"], "Did you mean `soft_iou`?"),
    ],
)
def test_a_wrong_name_is_told_before_anything_is_measured(
    tables: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    import torchvice.measures.protocols as protocols

    monkeypatch.setattr(protocols, "true_pairs", lambda *_: pytest.fail("it was measured"))
    status, _, err = vice(capsys, "measure", tables / "strong", "--no-figures", *options)
    assert (status, said in err) == (2, True), err


def test_another_split_leaves_the_files_of_the_runs_own_alone(tables: Path, capsys: Any, tmp_path: Path) -> None:
    run = tmp_path / "r50"
    run.mkdir()
    (run / "config.yaml").write_text(dump_settings(load_settings("demo", ["data.eval_split=val"])))
    for split, table in (("val", "strong"), ("test", "weak")):
        shutil.copytree(tables / table, run / "assess" / split)
        (run / "assess" / split / "measures.json").unlink(missing_ok=True)
    status, _, _ = vice(capsys, "measure", run, "--no-figures", "--replicates", 0)
    assert status == 0
    own = (run / "measures.json").read_bytes()
    status, out, _ = vice(capsys, "measure", run, "--split", "test.txt", "--replicates", 0)
    assert (status, f"Written: {run / 'assess/test/measures.json'}, {run / 'assess/test/figures'}" in out) == (0, True)
    assert (run / "measures.json").read_bytes() == own != (run / "assess/test/measures.json").read_bytes()
    assert any((run / "assess/test/figures").glob("*.png"))
    assert not (run / "figures").exists()
    shutil.rmtree(run / "assess/val")  # the only table is still of another split
    assert vice(capsys, "measure", run, "--no-figures", "--replicates", 0)[0] == 0
    assert (run / "measures.json").read_bytes() == own


def test_a_folder_whose_name_is_no_utf8(tables: Path, tmp_path: Path) -> None:
    """Its name is said byte by byte, so that it can be copied, and written into figures as far as it can be read."""
    folder = tmp_path / os.fsdecode(b"r\xff")
    shutil.copytree(tables / "weak", folder)
    command = [sys.executable, "-m", "torchvice.cli", "measure", str(folder), "--replicates", "0"]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert (ended.returncode, b"Traceback" in ended.stderr) == (0, False), ended.stderr
    assert os.fsencode(folder / "figures") in ended.stdout
    assert list((folder / "figures").glob("*.png"))


def test_numbers_with_intervals_are_not_replaced_by_numbers_without(tmp_path: Path, capsys: Any) -> None:
    simulated(60).save(tmp_path / "t")
    own = tmp_path / "t" / "measures.json"
    measure = ("measure", tmp_path / "t", "--no-figures", "--replicates")
    assert vice(capsys, *measure, 200)[0] == 0
    before = own.read_text()
    status, out, _ = vice(capsys, *measure, 0)
    assert status == 0
    assert "Kept" in out
    assert "from 200 replicates, these are from 0" in " ".join(out.split())
    assert own.read_text() == before
    latest = json.loads((tmp_path / "t" / "measures_latest.json").read_text())
    assert latest["source"]["inference"]["replicates"] == 0
    # More replicates, and the numbers of another table, are written.
    status, out, _ = vice(capsys, *measure, 300)
    assert "Kept" not in out
    assert json.loads(own.read_text())["source"]["inference"]["replicates"] == 300
    shutil.rmtree(tmp_path / "t")
    simulated(60, seed=5).save(tmp_path / "t")
    own.write_text(before)
    assert "Kept" not in vice(capsys, *measure, 0)[1]
    assert json.loads(own.read_text())["intervals"].get("strict.vice") is None


def test_fitting_temperatures_on_the_training_split_warns(
    tables: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    (run / "assess").mkdir(parents=True)
    shutil.copytree(tables / "strong", run / "assess" / "test")
    shutil.copytree(tables / "val", run / "assess" / "train")
    manifest = run / "assess" / "train" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["dataset"]["split"] = "train"
    manifest.write_text(json.dumps(content))
    settings = ["session_name=run", f"work_dir={tmp_path}", "data.train_split=train", "data.eval_split=test"]
    (run / "config.yaml").write_text(dump_settings(load_settings("demo", settings)))
    command = ("measure", run, "--no-figures", "--replicates", 0, "--calibrate-on", "train")
    status, out, _ = vice(capsys, *command)
    assert status == 0
    assert "fitted on the training split" in " ".join(out.split())
    monkeypatch.chdir(tmp_path)
    for name in ("train", "val"):
        (tmp_path / name).mkdir()  # folders of images, say
    assert vice(capsys, *command)[:2] == (0, out)  # the split of the RUN
    status, _, error = vice(capsys, *command[:-1], "val")
    assert (status, f"{run} was not assessed on `val`. Assessed: test, train." in " ".join(error.split())) == (2, True)
    status, _, error = vice(capsys, "measure", run / "assess" / "test", *command[2:])
    assert (status, "--calibrate-on must be the folder of a table" in error) == (2, True)
    (run / "config.yaml").write_text(dump_settings(load_settings("demo", [*settings[:2], "data.train_split=other"])))
    assert "training split" not in vice(capsys, *command, "--split", "test")[1]


def test_a_csv_without_any_number_is_refused_before_figures(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "t.csv").write_text("name_image,loss\na,0.5\nb,0.7\n")
    status, out, error = vice(capsys, "measure", tmp_path / "t.csv")
    assert status == 2
    assert out == ""
    assert "lacks `miou`, `label`, `prediction`" in " ".join(error.split())
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


ROWS = [f"im{place},{1 - place / 40},{place / 30}" for place in range(20)]


def test_a_protocol_that_was_not_assessed_has_no_column(tmp_path: Path, capsys: Any) -> None:
    table_of(scenes(12), ("strict",)).save(tmp_path / "table")
    status, out, _ = vice(capsys, "measure", tmp_path / "table", "--no-figures", "--replicates", 0)
    assert status == 0
    assert re.search(r"^ +strict$", out, re.MULTILINE)
    assert "paper" not in out


def test_reasons_and_what_is_left_out_stand_below_the_table(tmp_path: Path, capsys: Any) -> None:
    def measured(*rows: str) -> tuple[str, str]:
        (tmp_path / "t.csv").write_text("\n".join(["name_image,loss,miou", *rows, ""]))
        status, out, _ = vice(capsys, "measure", tmp_path / "t.csv", "--no-figures")
        assert status == 0
        return out, " ".join(out.split())

    shown, words = measured(*ROWS)
    assert "accurate the model is, is undefined. The CSV has no columns `label` and `prediction`." in words
    assert "see below" not in words
    assert re.search(r"^ +paper$", shown, re.MULTILINE)  # and no column of dashes for strict
    words = measured(*ROWS, "a,nan,0.5", "b,0.5,nan")[1]
    assert "The JI of 1 of 22 images is undefined, and 1 have no loss, which leaves the published number" in words
    assert "Over the other 20 images VICE is 1" in words
    assert "─" not in words  # no table without a number
    table = tmp_path / "table"
    table_of(scenes(12)).save(table)
    status, out, _ = vice(capsys, "measure", table, "--no-figures", "--replicates", 0)
    assert status == 0
    assert "2 of 12 images without a mask (left out of VICE, JI and mIoU)" in " ".join(out.split())


def test_an_option_without_effect_is_refused(tables: Path, tmp_path: Path, capsys: Any) -> None:
    csv = tmp_path / "t.csv"
    csv.write_text("name_image,label,prediction,confidence,loss\na,[0 1],[0],0.5,0.1\nb,[1],[1],0.7,0.2\n")
    wrong = {
        ("measure", csv, "--quality", "recall"): "--quality has no effect on a CSV",
        ("measure", csv, "--quality", "ji"): "--quality has no effect on a CSV",
        ("measure", csv, "--split", "val"): "--split has no effect on a CSV",
        ("measure", csv, "--calibrate-on", tables / "val"): "--calibrate-on has no effect on a CSV",
        ("measure", csv, "--replicates", 500): "--replicates has no effect on a CSV",
        ("measure", csv, "--seed", 1): "--seed has no effect on a CSV",
        ("report", csv, "--split", "val"): "--split has no effect on a CSV",
        ("report", csv, "--cases", 3): "--cases has no effect on a CSV",
        ("measure", tables / "strong", "--classes", 7): "--classes has no effect on a table of",
        ("measure", tables / "strong", "--split", "another"): "--split has no effect on the table of the split",
        ("compare", tables / "strong", tables / "weak", "--split", "another"): "--split has no effect on the table",
        ("measure", tables / "strong", "--figures", tmp_path, "--no-figures"): "--figures and --no-figures",
        ("compare", tables / "strong", tables / "weak", "--figures", tmp_path, "--no-figures"): "--figures and --no-",
        ("assess", "--model", "resnet18", "--checkpoint", "last"): "--checkpoint",
        ("assess", tmp_path, "--shard", "0/2", "--processes", 2): "--shard and --processes",
    }
    for arguments, words in wrong.items():
        status, _, error = vice(capsys, *arguments)
        assert (status, words in error) == (2, True), f"{arguments}: {error}"
    assert vice(capsys, "measure", csv, "--classes", 2, "--replicates", 0, "--no-figures")[0] == 0  # it has none
