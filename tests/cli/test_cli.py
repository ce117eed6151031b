"""The command: what a user types, what he sees, and one clear sentence for every mistake."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch

from command import vice
from torchvice.data.digits import write_digits
from torchvice.data.voc import VocDataset
from torchvice.files import write_npy_dict
from torchvice.interop import read_maps, read_table


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli") / "digits"
    write_digits(root, train=8, val=4, test=12, size=48)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("cli") / "weights.pth"
    torch.save(timm.create_model("test_resnet", num_classes=10).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def table(digits, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "table"
    command = ["assess", "--model", "test_resnet", "--weights", weights, "--data", digits, "--split", "test"]
    command += ["--view-size", 64, "--crop", 64, "--out", out]
    subprocess.run([sys.executable, "-m", "torchvice.cli", *map(str, command)], check=True, capture_output=True)
    return out


def small_run(digits, folder):
    return [
        "train", "demo", "-o", f"data.root={digits}", "-o", f"work_dir={folder}", "-o", "trainer.epochs=1",
        "-o", "model.name=test_resnet", "-o", "model.arguments={}", "-o", "trainer.batch_size=4",
    ]  # fmt: skip


def test_the_five_steps_by_hand(digits, tmp_path, capsys):
    assert vice(capsys, *small_run(digits, tmp_path))[0] == 0
    run = tmp_path / "demo"
    status, out, _ = vice(capsys, "explain", run, "--maps", tmp_path / "maps", "--format", "legacy")
    assert (status, "12 files written" in out) == (0, True)
    again = vice(capsys, "explain", run, "--maps", tmp_path / "maps", "--format", "legacy")[1]
    assert "0 files written, 12 existed already" in again
    # Step 3 on those files gives the same curve as the table of steps 2 to 4.
    base = digits / "VOC2012"
    evaluated = tmp_path / "curve.json"
    status, out, _ = vice(
        capsys,
        "evaluate", "--list", base / "ImageSets/Segmentation/test.txt", "--predictions", tmp_path / "maps",
        "--ground-truth", base / "SegmentationClassAug", "--type", "npy", "--curve", "--classes", 10,
        "--json", evaluated, "--processes", 1,
    )  # fmt: skip
    assert (status, "12 images, paper: mIoU" in out) == (0, True)
    maps = ["--predictions", tmp_path / "maps", "--ground-truth", base / "SegmentationClassAug", "--type", "npy"]
    named = ["evaluate", "--list", base / "ImageSets/Segmentation/test.txt", *maps, "--threshold", 0.1, "--workers", 1]
    assert vice(capsys, *named, "--json", tmp_path / "named.json")[0] == 0
    assert json.loads((tmp_path / "named.json").read_text())["classes"] == list(VocDataset(digits, "test").classes)
    status, out, _ = vice(capsys, "assess", run)
    assert (status, "vice measure" in out) == (0, True)
    status, out, _ = vice(capsys, "measure", run, "--write-csv", tmp_path / "table.csv")
    assert status == 0
    assert "VICE" in out
    measured = json.loads((run / "measures.json").read_text())
    curve = json.loads(evaluated.read_text())
    assert measured["localisation"]["best_threshold"] == curve["best_threshold"]
    assert measured["localisation"]["best_mean_iou"] == pytest.approx(curve["best_mean_iou"], abs=1e-3)
    names = {path.name for path in (run / "figures").iterdir()}
    assert {"vice.png", "vice.pdf", "reliability_paper.png", "threshold_curve.pdf", "cases.png"} <= names
    # The original's table, read back, gives the published numbers again.
    again = ["measure", tmp_path / "table.csv", "--classes", 10, "--json", tmp_path / "c.json"]
    assert vice(capsys, *again)[0] == 0
    from_csv = json.loads((tmp_path / "c.json").read_text())
    for name in ("vice", "ece_ml", "ml_accuracy", "ji", "kl", "js"):
        assert from_csv["paper"][name] == pytest.approx(measured["paper"][name], abs=1e-6)
    assert (tmp_path / "table_figures/vice.png").is_file()


def test_maps_as_npz(digits, tmp_path, capsys):
    assert vice(capsys, *small_run(digits, tmp_path))[0] == 0
    status, _, _ = vice(capsys, "explain", tmp_path / "demo", "--maps", tmp_path / "m", "--protocol", "strict")
    assert status == 0
    dataset = VocDataset(digits, "test")
    classes, maps = read_maps(tmp_path / "m" / f"{dataset.records[0].image_id}.npz")
    assert classes.tolist() == np.flatnonzero(dataset.targets[0]).tolist()
    assert maps[0].shape == dataset.image(0).shape[:2]
    assert min(m.min() for m in maps) >= 0
    assert max(m.max() for m in maps) <= 1
    status, _, err = vice(capsys, "explain", tmp_path / "demo", "--maps", tmp_path / "m")
    assert (status, "made with other settings" in err) == (2, True)


def test_controls_come_by_default_and_explanations_later(digits, weights, table, tmp_path, capsys):
    def manifest(folder):
        return json.loads((folder / "manifest.json").read_text())

    made = {name: settings["role"] for name, settings in manifest(table)["explanations"].items()}
    assert list(made.values()).count("control") == 5
    command = ["assess", "--model", "test_resnet", "--weights", weights, "--data", digits, "--split", "test"]
    command += ["--view-size", 64, "--protocol", "strict", "--out", tmp_path]
    assert vice(capsys, *command, "--controls", "none")[0] == 0
    assert list(manifest(tmp_path)["explanations"]) == ["strict:cam"]
    assert vice(capsys, *command, "--also", "mirror")[0] == 0
    assert list(manifest(tmp_path)["explanations"]) == ["strict:cam", "strict:mirror"]
    status, out, _ = vice(capsys, *command, "--controls", "cheap")
    assert status == 0
    assert "12 images assessed" in out
    assert vice(capsys, *command, "--also", "scale0.75")[0] == 0
    added = ["mirror", "random", "center", "foreground", "shuffled", "scale0.75"]
    assert manifest(tmp_path)["added"] == [f"strict:{name}" for name in added]
    status, _, told = vice(capsys, *command, "--also", "miror")
    assert (status, "Did you mean `mirror`" in told) == (2, True)
    status, _, told = vice(capsys, *command, "--targets", "exclusive")
    assert (status, "one label per image" in told) == (2, True)


def test_measure_of_a_table_imports_no_torch(table, tmp_path):
    code = (
        "import sys; sys.argv = ['vice', 'measure', sys.argv[1], '--json', sys.argv[2]]\n"
        "from torchvice.cli.app import main; main()\n"
        "heavy = 'torch lightning timm torchmetrics torchvision pandas sklearn'.split()\n"
        "heavy = set(heavy) & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, str(table), str(tmp_path / "m.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    json.loads((tmp_path / "m.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (table / "figures/cases.png").is_file()  # photographs are read and masks are compared, too


def test_help_names_every_step(capsys):
    status, out, _ = vice(capsys, "--help")
    assert status == 0
    for command in ("demo", "data", "train", "explain", "evaluate", "assess", "measure"):
        assert command in out


def mistakes(digits, weights, table, tmp_path):
    """One wrong input of each kind, and a word of the sentence that it must give."""
    base = digits / "VOC2012"
    broken = tmp_path / "broken"
    shutil.copytree(digits, broken)
    image = sorted((broken / "VOC2012/JPEGImages").glob("test_*"))[0]
    image.write_bytes(image.read_bytes()[:200])
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    twice = tmp_path / "twice.txt"
    twice.write_text("a\na\n")
    nothing = tmp_path / "nothing.txt"
    nothing.write_text("missing_image\n")
    not_csv = tmp_path / "x.csv"
    not_csv.write_text("a,b\n1,2\n")
    evil = tmp_path / "evil"
    evil.mkdir()
    write_npy_dict(evil / "missing_image.npy", {0: print})
    foreign = ["assess", "--model", "test_resnet", "--weights", weights, "--data"]
    score = ["evaluate", "--ground-truth", base / "SegmentationClassAug", "--type", "npy", "--predictions", tmp_path]
    return {
        "no such preset": (["train", "resnet500"], "resnet50"),
        "no such setting": (["train", "demo", "-o", "optimizer.rl=1"], "optimizer.lr"),
        "a setting of another type": (["train", "demo", "-o", "trainer.epochs=many"], "trainer.epochs"),
        "no such network": (["train", "demo", "-o", "model.name=resnett18", "-o", f"data.root={digits}"], "resnet18"),
        "no dataset": (["train", "demo", "-o", f"data.root={tmp_path}/none"], "must be a folder"),
        "no such run": (["assess", tmp_path], "config.yaml"),
        "half a foreign model": (["assess", "--model", "test_resnet"], "--weights"),
        "a run and a foreign model": (["assess", tmp_path, "--model", "x"], "--model"),
        "weights of another network": (["assess", "--model", "test_vit", *foreign[3:], digits], "test_vit"),
        "no such weights": (["assess", "--model", "test_resnet", "--weights", "no.pth", "--data", digits], "no.pth"),
        "a method that does not fit": ([*foreign, digits, "--split", "test", "--method", "gradcamm"], "gradcam"),
        "no such layer": ([*foreign, digits, "--split", "test", "--layer", "layer44"], "layer4"),
        "a truncated image": ([*foreign, broken, "--split", "test", "--out", tmp_path / "t"], image.name),
        "no such split": ([*foreign, digits, "--split", "tset"], "tset"),
        "nothing to measure": (["measure", tmp_path / "none"], "nothing at"),
        "an unassessed folder": (["measure", evil], "assessed"),
        "a table of other columns": (["measure", not_csv], "name_image"),
        "a run of another split": (["measure", tmp_path, "--split", "val"], "assessed"),
        "an empty list": ([*score, "--list", empty, "--curve"], "at least one image"),
        "a name twice": ([*score, "--list", twice, "--curve"], "twice"),
        "a missing map": ([*score, "--list", nothing, "--curve"], "missing_image"),
        "a pickle that runs code": ([*score[:-1], evil, "--list", nothing, "--curve"], "missing_image"),
        "no threshold": ([*score, "--list", nothing], "--threshold"),
        "a dataset over another": (["data", "digits", "--out", evil], str(evil)),
        "a small digits set": (["data", "digits", "--out", tmp_path / "n", "--size", "40"], "48"),
    }


def test_every_mistake_is_one_sentence_and_status_2(digits, weights, table, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what `make demo` left in the checkout does not matter here
    for name, (command, word) in mistakes(digits, weights, table, tmp_path).items():
        status, _, err = vice(capsys, *command)
        assert status == 2, (name, err)
        assert word in err, (name, err)
        assert "Traceback" not in err, name
        said = f"\n{err}"  # `train` says what data it has before it meets a wrong network
        assert "\nvice: " in said or "\nUsage:" in said, (name, err)


def test_the_written_table_is_the_originals(table, tmp_path, capsys):
    assert vice(capsys, "measure", table, "--no-figures", "--write-csv", tmp_path / "t.csv")[0] == 0
    header = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert header == "name_image,loss,confidence,entropy,label,prediction,miou,miou_exist"
    assert len(read_table(tmp_path / "t.csv")) == 12


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("explain", ["--method", "gradcma"], "Did you mean `gradcam`?"),
        ("explain", ["--choice", "miror=true"], "Did you mean `mirror`?"),
        ("explain", ["--layer", "a", "--choice", "layers=b,c"], "A layer is named once"),
        ("assess", ["--choice", "view=wrap"], "`view` must be one of warp"),
        ("assess", ["--method", "saliency", "--choice", "eigen_smooth=true"], "Use one of cam"),
        ("assess", ["--method", "rollout", "--choice", "layers=b,c"], "whose map is of one layer"),
        ("assess", ["--also", "scorecma"], "Did you mean `scorecam`?"),
        ("assess", ["--also", "random"], "is a control"),
        ("assess", ["--also", "mirror", "--protocol", "paper"], "`strict` is not assessed"),
        ("assess", ["--faithfulness", "roads"], "Did you mean `road`?"),
        ("assess", ["--without", "objcet"], "Did you mean `object`?"),
        ("assess", ["--without", "object,filling=blurr"], "Did you mean `blur`?"),
        ("assess", ["--without", "object", "--protocol", "paper"], "`strict` is not assessed"),
        ("assess", ["--device", "cuba"], "The device 'cuba' must be available"),
        ("assess", ["--also", "scorecma", "--processes", 2], "Did you mean `scorecam`?"),
    ],
)
def test_a_wrong_name_is_told_before_a_model_is_built(digits, tmp_path, capsys, command, options, said):
    """Its weights are missing, which would be told otherwise."""
    if command == "explain":
        (tmp_path / "config.yaml").touch()
        subject = [tmp_path, "--maps", tmp_path / "maps"]
    else:
        subject = ["--model", "test_resnet", "--weights", tmp_path / "none.pth", "--data", digits]
    status, _, err = vice(capsys, command, *subject, *options)
    assert (status, said in err) == (2, True), err


@pytest.mark.parametrize(
    ("words", "position", "completed"), [("vice as", "1", "assess"), ("vice assess --chan", "2", "--channels-last")]
)
def test_the_shell_completes_commands_and_options(words: str, position: str, completed: str) -> None:
    asked = {"_VICE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": position}
    program = "import sys; sys.argv = ['vice']; from torchvice.cli import main; main()"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [completed], done.stderr
