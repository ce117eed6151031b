"""`vice assess --models`: a table a model, as that of the model alone; failures, kills, changes and processes."""

from __future__ import annotations

import csv
import errno
import json
import os
import platform
import shutil
import subprocess
import sys
import time

import pytest
import timm
import torch

from command import vice
from torchvice.assessment import many
from torchvice.commands.assess_models import FOR_ALL, _reason
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.files.lock import locked
from torchvice.models.build import build_model, load_weights
from torchvice.samples import Samples

NETWORKS = ("test_resnet", "test_convnext", "test_vit")
MAPS = ("--controls", "none", "--without", "none", "--protocol", "strict", "--device", "cpu", "--split", "test")
BROKEN = """
import timm

def build():
    model = timm.create_model("test_resnet", num_classes=10)
    model.register_forward_hook(lambda module, images, outputs: outputs * float("nan"))
    return model
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=1, val=1, test=6, size=48)
    return root


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """A list with two broken models in between, assessed once."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "broken.py").write_text(BROKEN)
    names = (NETWORKS[0], f"{folder}/broken.py:build", "nosuchnet", *NETWORKS[1:])
    (folder / "list.txt").write_text("\n".join(names))
    command = ("assess", "--models", folder / "list.txt", "--random-weights", 0, "--data", data, *MAPS)
    return folder, command, names


def rows(out):
    with open(out / "models.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def files(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def content(folder):
    return {name: value for name, (value, _) in files(folder).items()}


def test_every_table_is_that_of_the_model_alone_and_failures_are_rows(data, made, tmp_path, capsys):
    folder, command, names = made
    out = folder / "out"
    status, said, _ = vice(capsys, *command, "--out", out)
    assert status == 1
    assert "5 models: 3 done, 2 failed" in said
    assert said.count("The weights are random (seed 0)") == 1
    found = rows(out)
    assert list(found) == list(names)
    assert [found[name]["state"] for name in names] == ["done", "failed", "failed", "done", "done"]
    assert "must return finite logits" in found[names[1]]["reason"]
    assert "must be a timm name, but is 'nosuchnet'" in found[names[2]]["reason"]
    for name in NETWORKS:
        row = found[name]
        assert (row["images"], row["batch_size"], row["reason"]) == ("6", "16", "")
        assert float(row["seconds"]) > 0
        alone = ("assess", "--model", name, "--random-weights", 0, "--data", data, *MAPS, "--out", tmp_path / name)
        assert vice(capsys, *alone)[0] == 0
        assert content(out / row["folder"]) == content(tmp_path / name)
        assert Samples.load(out / row["folder"]).manifest["made_by"]["random_weights"] == 0
    kept = {name: files(out / found[name]["folder"]) for name in NETWORKS}
    assert vice(capsys, *command, "--out", out)[0] == 1  # the same again: what failed is tried again
    assert {name: files(out / rows(out)[name]["folder"]) for name in NETWORKS} == kept
    (folder / "broken.py").write_text(BROKEN.replace("nan", "1"))
    assert vice(capsys, *command, "--out", out)[0] == 1
    assert [rows(out)[name]["state"] for name in names] == ["done", "done", "failed", "done", "done"]
    assert {name: files(out / rows(out)[name]["folder"]) for name in NETWORKS} == kept
    (folder / "broken.py").write_text(BROKEN)


def test_the_arguments_of_one_model_of_a_list_have_a_way(tmp_path):
    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ViceError) as refused:
        load_weights(build_model("test_vit", 3, arguments={"depth": 3}), tmp_path / "w.pth")
    assert _reason(refused.value).endswith(f"in vice train. {FOR_ALL}")
    assert FOR_ALL not in _reason(ViceError("The outputs are not finite.", "Check the weights."))


def test_other_options_are_refused_and_extras_are_added(made, tmp_path, capsys):
    _, command, _ = made
    (tmp_path / "two.txt").write_text("\n".join(NETWORKS[:2]))
    command = ("assess", "--models", tmp_path / "two.txt", *command[3:], "--out", tmp_path / "out")
    assert vice(capsys, *command)[0] == 0
    kept = {name: content(tmp_path / "out" / name) for name in NETWORKS[:2]}
    status, _, said = vice(capsys, *command, "--view-size", 64)
    assert status == 2
    assert "`view_size` of `map_settings` is not set in the table, but 64 now" in said
    status, _, said = vice(capsys, *[part if part != 0 else 1 for part in command])
    assert status == 2
    assert "`random_weights` is 0 in the table, but 1 now" in said
    assert {name: content(tmp_path / "out" / name) for name in NETWORKS[:2]} == kept
    assert vice(capsys, *command, "--also", "mirror")[0] == 0
    for name in NETWORKS[:2]:
        assert "strict:mirror" in Samples.load(tmp_path / "out" / name).manifest["explanations"]


def test_extras_that_a_stopped_command_did_not_add_are_added_by_the_same_command(made, tmp_path, capsys, monkeypatch):
    _, command, _ = made
    (tmp_path / "two.txt").write_text("\n".join(NETWORKS[:2]))
    command = ("assess", "--models", tmp_path / "two.txt", *command[3:], "--out", tmp_path / "out")
    assert vice(capsys, *command)[0] == 0

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(many, "assess_with", full)
        assert vice(capsys, *command, "--also", "mirror")[0] == 2
    assert vice(capsys, *command, "--also", "mirror")[0] == 0
    for name in NETWORKS[:2]:
        assert "strict:mirror" in Samples.load(tmp_path / "out" / name).manifest["explanations"]


def test_a_row_of_an_earlier_version_has_the_extras_of_its_folder(made, tmp_path, capsys):
    _, command, _ = made
    (tmp_path / "one.txt").write_text(NETWORKS[0])
    command = ("assess", "--models", tmp_path / "one.txt", *command[3:], "--out", tmp_path / "out")
    assert vice(capsys, *command)[0] == 0
    states, kept = tmp_path / "out" / "models.json", files(tmp_path / "out" / NETWORKS[0])
    content = json.loads(states.read_text())
    del content["models"][NETWORKS[0]]["extras"]
    states.write_text(json.dumps(content))
    assert vice(capsys, *command)[0] == 0
    assert files(tmp_path / "out" / NETWORKS[0]) == kept
    states.write_text(json.dumps(content))
    assert vice(capsys, *command, "--also", "mirror")[0] == 0
    assert "strict:mirror" in Samples.load(tmp_path / "out" / NETWORKS[0]).manifest["explanations"]


def test_a_damaged_manifest_is_the_failure_of_its_model_alone(made, tmp_path, capsys):
    _, command, _ = made
    listed = tmp_path / "list.txt"
    command = ("assess", "--models", listed, *command[3:], "--out", tmp_path / "out")
    listed.write_text(NETWORKS[0])
    assert vice(capsys, *command)[0] == 0
    manifest = tmp_path / "out" / NETWORKS[0] / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_text("{")
    listed.write_text("\n".join(NETWORKS[:2]))
    assert vice(capsys, *command)[0] == 1
    assert [row["state"] for row in rows(tmp_path / "out").values()] == ["failed", "done"]
    assert f"The manifest {manifest} must be JSON" in rows(tmp_path / "out")[NETWORKS[0]]["reason"]
    manifest.write_bytes(whole)
    assert vice(capsys, *command)[0] == 0


def test_a_longer_list_in_the_same_folder_goes_on(made, tmp_path, capsys):
    _, command, _ = made
    listed = tmp_path / "list.txt"
    command = ("assess", "--models", listed, *command[3:], "--out", tmp_path / "out")
    listed.write_text(NETWORKS[2])
    assert vice(capsys, *command)[0] == 0
    kept = files(tmp_path / "out" / NETWORKS[2])
    listed.write_text("\n".join(NETWORKS))
    assert vice(capsys, *command)[0] == 0
    assert list(rows(tmp_path / "out")) == list(NETWORKS)
    assert files(tmp_path / "out" / NETWORKS[2]) == kept


def test_weights_of_two_folders_and_a_file_that_changes(data, tmp_path, capsys):
    for place, seed in (("a", 0), ("b", 1)):
        (tmp_path / place).mkdir()
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_resnet", num_classes=10).state_dict(), tmp_path / place / "best.pth")
    (tmp_path / "list.txt").write_text("test_resnet a/best.pth\ntest_resnet b/best.pth\n")
    command = ("assess", "--models", tmp_path / "list.txt", "--data", data, *MAPS, "--out", tmp_path / "out")
    assert vice(capsys, *command)[0] == 0
    with open(tmp_path / "out" / "models.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["folder"] for row in found] == ["test_resnet_best", "test_resnet_best-2"]
    assert [row["weights"] for row in found] == [str(tmp_path / place / "best.pth") for place in "ab"]
    hashes = {json.loads((tmp_path / "out" / row["folder"] / "manifest.json").read_text())["model"]["weights_sha256"]
              for row in found}  # fmt: skip
    assert len(hashes) == 2
    kept = content(tmp_path / "out" / "test_resnet_best")
    shutil.copy(tmp_path / "b" / "best.pth", tmp_path / "a" / "best.pth")
    status, said, _ = vice(capsys, *command)
    assert status == 1
    assert "1 done, 1 failed" in said
    assert "is of other weights" in (tmp_path / "out" / "models.csv").read_text()
    assert content(tmp_path / "out" / "test_resnet_best") == kept


@pytest.mark.slow
def test_a_killed_command_resumes_and_finished_tables_stay(data, tmp_path, capsys):
    write_digits(tmp_path / "set", train=1, val=1, test=140, size=48)
    (tmp_path / "list.txt").write_text("\n".join(NETWORKS[:2]))
    given = ["assess", "--models", tmp_path / "list.txt", "--random-weights", 0, "--data", tmp_path / "set", *MAPS]
    command = [str(part) for part in (*given, "--out", tmp_path / "out")]
    finished, kills = {}, 0
    # The last digits of a pass depend on the number of threads, which another test may have left changed here.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for wanted in ("images-00001.parquet", "images-00000.parquet"):
        whole = [sys.executable, "-m", "torchvice.cli", *command]
        process = subprocess.Popen(whole, stdout=subprocess.DEVNULL, env=environment)
        before = set((tmp_path / "out").glob(f"*/{wanted}"))
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if set((tmp_path / "out").glob(f"*/{wanted}")) - before:
                break
            time.sleep(0.01)
        process.kill()
        kills += process.wait() < 0
        for name, row in rows(tmp_path / "out").items():
            if name in finished:
                assert files(tmp_path / "out" / row["folder"]) == finished[name]
            elif row["state"] == "done":
                finished[name] = files(tmp_path / "out" / row["folder"])
    assert kills == 2
    assert vice(capsys, *command)[0] == 0
    found = rows(tmp_path / "out")
    assert [row["state"] for row in found.values()] == ["done"] * 2
    for name, row in found.items():
        alone = ("assess", "--model", name, *map(str, given[3:]), "--out", tmp_path / "alone" / name)
        assert vice(capsys, *alone)[0] == 0
        assert content(tmp_path / "out" / row["folder"]) == content(tmp_path / "alone" / name)
        if name in finished:
            assert files(tmp_path / "out" / row["folder"]) == finished[name]


def test_the_lock_that_a_kill_right_after_the_last_row_leaves_goes_with_the_next_start(made, tmp_path, capsys):
    _, command, _ = made
    (tmp_path / "one.txt").write_text(NETWORKS[0])
    command = ("assess", "--models", tmp_path / "one.txt", *command[3:], "--out", tmp_path / "out")
    assert vice(capsys, *command)[0] == 0
    lock = tmp_path / "out" / f"{NETWORKS[0]}.lock"
    with locked(lock, "A test", keep=False):
        assert vice(capsys, *command)[0] == 0
        assert lock.exists()
    lock.write_text(json.dumps({"host": platform.node(), "pid": 1}))
    assert vice(capsys, *command)[0] == 0
    assert not lock.exists()


def test_little_memory_changes_no_row(made, tmp_path, capsys):
    _, command, _ = made
    (tmp_path / "two.txt").write_text("\n".join(NETWORKS[:2]))
    command = ("assess", "--models", tmp_path / "two.txt", *command[3:])
    assert vice(capsys, *command, "--out", tmp_path / "much")[0] == 0
    assert vice(capsys, *command, "--cache", "20K", "--out", tmp_path / "little")[0] == 0
    for name in NETWORKS[:2]:
        assert content(tmp_path / "much" / name) == content(tmp_path / "little" / name)


@pytest.mark.slow
def test_two_processes_share_the_models_and_one_at_work_is_left_to_the_other(made, tmp_path, capsys):
    _, command, _ = made
    (tmp_path / "list.txt").write_text("\n".join(NETWORKS))
    command = ("assess", "--models", tmp_path / "list.txt", *command[3:], "--out", tmp_path / "out")
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out" / f"{NETWORKS[1]}.lock", "A test", keep=False):
        status, said, _ = vice(capsys, *command)
    assert status == 0
    assert f"{NETWORKS[1]}: is at work in another process." in said
    assert [row["state"] for row in rows(tmp_path / "out").values()] == ["done", "waiting", "done"]
    text = [str(part) for part in (*command, "--processes", 2)]
    subprocess.run([sys.executable, "-m", "torchvice.cli", *text], check=True, stdout=subprocess.DEVNULL)
    assert [row["state"] for row in rows(tmp_path / "out").values()] == ["done"] * 3
    assert not list((tmp_path / "out").glob("*.lock*"))


def test_models_whose_names_differ_behind_a_dot_have_locks_of_their_own(made, tmp_path, capsys):
    _, command, _ = made
    tags = timm.list_models("test_resnet.*", pretrained=True)
    (tmp_path / "list.txt").write_text("\n".join(["test_resnet", *tags]))
    command = ("assess", "--models", tmp_path / "list.txt", *command[3:], "--out", tmp_path / "out")
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out" / "test_resnet.lock", "A test", keep=False):
        assert vice(capsys, *command)[0] == 0
    assert [row["state"] for row in rows(tmp_path / "out").values()] == ["waiting", *["done"] * len(tags)]
    assert tags


def test_data_that_cannot_be_read_stop_the_command(tmp_path, capsys):
    write_digits(tmp_path / "set", train=1, val=1, test=3, size=48)
    image = VocDataset(tmp_path / "set", "test").records[1].image
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])  # its header is as it was
    (tmp_path / "two.txt").write_text("\n".join(NETWORKS[:2]))
    changed = ("assess", "--models", tmp_path / "two.txt", "--random-weights", 0, "--data", tmp_path / "set", *MAPS)
    status, _, said = vice(capsys, *changed, "--out", tmp_path / "out")
    assert status == 2
    assert image.stem in said
    assert [row["state"] for row in rows(tmp_path / "out").values()] == ["waiting"] * 2


@pytest.mark.parametrize(
    ("changed", "says", "right"),
    [
        (("--model", "test_resnet"), "--models takes the place of one network, but --model is given too.", ()),
        (("--cache", "much"), "--cache must be a number of bytes above 0", ("--cache", "1.5M")),
        (("--pretrained",), "--pretrained and --random-weights exclude each other", ()),
    ],
)
def test_wrong_options_have_a_way_out(made, tmp_path, capsys, changed, says, right):
    _, command, _ = made
    (tmp_path / "one.txt").write_text(NETWORKS[0])
    command = ("assess", "--models", tmp_path / "one.txt", *command[3:], "--out", tmp_path / "out")
    status, _, said = vice(capsys, *command, *changed)
    assert status == 2
    assert says in said
    assert not (tmp_path / "out").exists()
    assert vice(capsys, *command, *right)[0] == 0


def test_networks_without_weights_are_refused_before_the_work(data, tmp_path, capsys):
    (tmp_path / "one.txt").write_text(NETWORKS[0])
    command = ("assess", "--models", tmp_path / "one.txt", "--data", data, *MAPS, "--out", tmp_path / "out")
    status, _, said = vice(capsys, *command)
    assert status == 2
    assert "Every network needs weights, but 1 of 1 have none, such as test_resnet." in said
    assert "Give the files in the list, --pretrained, or --random-weights SEED." in said
    assert vice(capsys, *command, "--random-weights", 0)[0] == 0
    status, _, said = vice(capsys, "assess", "--model", "test_resnet", "--data", data, *MAPS, "--cache", "2G")
    assert (status, "--cache is for many models" in said) == (2, True)
    status, _, said = vice(capsys, "assess", "--models", "test_res*", "--random-weights", 0, *MAPS)
    assert (status, "--models needs data, but none are given." in said) == (2, True)
