"""Whole trainings: the files of a run, resuming after a kill, and the errors."""

import csv
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from torchvice.config import Settings, dump_settings
from torchvice.data.voc import VocDataset
from torchvice.errors import ViceError
from torchvice.files import write_text
from torchvice.files.lock import locked
from torchvice.models.build import build_model, weights_hash
from torchvice.runs import Run
from torchvice.training.checkpoints import EpochSampler, check_best
from torchvice.training.loaders import loaders_of
from torchvice.training.module import Classifier
from torchvice.training.resuming import locked_folder
from torchvice.training.run import _datasets, train

Make = Callable[..., Settings]


def checkpoint(run: Run, which: str = "last") -> dict[str, Any]:
    """Loaded as anybody may: without running code."""
    content: dict[str, Any] = torch.load(run.checkpoint(which), weights_only=True)
    return content


def rows(run: Run, version: int = 0) -> list[dict[str, str]]:
    with open(run.logs / f"version_{version}" / "metrics.csv") as file:
        return list(csv.DictReader(file))


def test_a_network_learns_and_the_folder_is_complete(settings: Make, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = settings("trainer.epochs=4")
    run = train(chosen)
    assert run.folder == chosen.folder
    assert {p.name for p in run.folder.iterdir()} == {"config.yaml", "checkpoints", "logs"}
    assert {p.name for p in run.checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}
    # The classes are remembered; all else is as it was given.
    assert run.classes == ("red", "green", "blue")
    transform = run.settings.transform
    assert transform.mean == transform.std == (0.5, 0.5, 0.5)  # as timm states for this network
    assert run.settings.model_copy(update={"data": chosen.data, "transform": chosen.transform}) == chosen
    log = rows(run)
    assert {"epoch", "step", "lr", "train/loss", "val/loss", "val/mAP"} <= log[0].keys()
    assert float([row["val/mAP"] for row in log if row["val/mAP"]][-1]) > 0.95
    losses = [float(row["val/loss"]) for row in log if row["val/loss"]]
    assert len(losses) == 4
    assert checkpoint(run, "best")["epoch"] == int(np.argmin(losses))
    assert checkpoint(run)["epoch"] == 3
    assert checkpoint(run)["torchvice"]["classes"] == ["red", "green", "blue"]
    # What the run hands out is the trained network: it tells the colours of images it has not seen.
    dataset, model = run.dataset(), run.model()
    from torchvice.data.transforms import ValidationTransform

    look = ValidationTransform(32, mean=transform.mean, std=transform.std, view="warp")
    with torch.no_grad():
        logits = model(torch.stack([look(dataset.image(i)) for i in range(len(dataset))])).numpy()
    assert ((logits > 0) == dataset.targets).mean() > 0.9
    said = capsys.readouterr()
    assert said.out == ""
    assert "epoch 4/4  train loss 0." in said.err
    assert len(said.err.splitlines()) == 7  # two datasets, the input, four epochs, and none of the machinery's chatter


def test_the_last_rate_of_the_schedule_is_logged_by_step(settings: Make) -> None:
    run = train(settings("schedule.name=paper", "trainer.epochs=2"), progress=False)
    rates = [float(row["lr"]) for row in rows(run) if row["lr"]]
    assert rates == pytest.approx([0.0, 0.2 * 5e-3])


@pytest.mark.parametrize(
    "further",
    [
        pytest.param(("schedule.name=paper",), marks=pytest.mark.slow),
        pytest.param(
            ("transform.flip=true", "transform.jitter=[0.3, 0.3, 0.3, 0.1]", "model.arguments.drop_rate=0.2"),
            marks=pytest.mark.slow,
        ),
        ("transform.flip=true", "data.workers=1", "optimizer.name=sgd"),
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one(settings: Make, further: tuple[str, ...]) -> None:
    whole = train(settings("session_name=whole", "trainer.epochs=3", *further), progress=False)
    train(settings("session_name=parts", "trainer.epochs=2", *further), progress=False)
    parts = train(settings("session_name=parts", "trainer.epochs=3", *further), resume=True, progress=False)
    a, b = checkpoint(whole), checkpoint(parts)
    assert (a["epoch"], a["global_step"]) == (b["epoch"], b["global_step"]) == (2, 15)
    assert a["state_dict"].keys() == b["state_dict"].keys()
    assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())
    assert weights_hash(whole.model("best")) == weights_hash(parts.model("best"))
    assert [row["epoch"] for row in rows(parts, 0)][-1] == "1"  # the first part's log is still there
    assert rows(parts, 1)[-1]["epoch"] == "2"


def test_a_finished_run_stays_as_it_is(settings: Make) -> None:
    run = train(settings(), progress=False)
    before = weights_hash(run.model("last"))
    assert weights_hash(train(settings(), resume=True, progress=False).model("last")) == before


def test_the_seed_decides_the_weights(settings: Make) -> None:
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(3)  # what was drawn before does not matter
        run = train(settings(f"session_name={name}", f"seed={seed}"), progress=False)
        hashes.append(weights_hash(run.model("last")))
    assert hashes[0] == hashes[1] != hashes[2]


def test_linear_probe_moves_the_classifier_only(settings: Make, tmp_path: Path) -> None:
    start = build_model("test_resnet", 7)
    torch.save(start.state_dict(), tmp_path / "start.pth")
    chosen = settings("model.linear_probe=true", f"model.weights={tmp_path / 'start.pth'}")
    trained = train(chosen, progress=False).model("last").state_dict()
    moved = {name for name, value in start.state_dict().items() if not torch.equal(value, trained[name])}
    assert moved == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("devices", "size", "dropped"), [(1, 8, True), (2, 8, False), (2, 4, True), (2, 21, False), (3, 13, True)]
)
def test_a_last_batch_of_one_image_is_dropped(settings: Make, devices: int, size: int, dropped: bool) -> None:
    chosen = settings(f"trainer.batch_size={size}", "transform={mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}")
    images = VocDataset(chosen.data.root, "train")  # 41 of them; each device has its share, rounded up
    learn, _ = loaders_of(chosen, images, images, EpochSampler(len(images), 0), devices)
    assert learn.drop_last is dropped


def test_the_state_of_the_process_is_restored(settings: Make) -> None:
    def world() -> tuple[object, ...]:
        loggers = [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")]
        numpys = np.random.get_state()[1].tobytes()  # noqa: NPY002
        random_states = (random.getstate(), numpys, torch.get_rng_state().tolist())
        return (
            os.environ.get("PL_GLOBAL_SEED"),
            os.environ.get("PL_SEED_WORKERS"),
            loggers,
            random_states,
            signal.getsignal(signal.SIGINT),
            torch.are_deterministic_algorithms_enabled(),
        )

    before = world()
    train(settings("trainer.deterministic=true"), progress=False)
    assert world() == before
    with pytest.raises(ViceError):
        train(settings("session_name=other", "optimizer.lr=1e30", "optimizer.name=sgd"), progress=False)
    assert world() == before


def test_a_diverged_loss_ends_the_training_and_is_not_saved(settings: Make) -> None:
    chosen = settings("optimizer.lr=1e30", "optimizer.name=sgd", "trainer.epochs=3")
    with pytest.raises(ViceError, match=r"must stay finite, but is (nan|inf) in epoch 1"):
        train(chosen, progress=False)
    assert not (chosen.folder / "checkpoints" / "last.ckpt").exists()


def test_a_validation_loss_that_is_never_finite_ends_with_a_lower_rate_under_another_name(settings: Make) -> None:
    chosen = settings("optimizer.lr=1e9", "trainer.batch_size=41")  # one step, which no training loss follows
    with pytest.raises(
        ViceError, match="validation loss must be finite in at least one epoch, but is in none"
    ) as found:
        train(chosen, progress=False)
    expected = "Start again with a lower rate under another name: -o optimizer.lr=1e+08 -o session_name=NAME."
    assert found.value.way_out == expected
    with pytest.raises(ViceError, match="validation loss must be finite"):  # and again: it is still none
        train(chosen, resume=True, progress=False)
    run = train(settings("optimizer.lr=1e-3", "session_name=other"), progress=False)
    assert run.checkpoint("best").is_file()


def test_a_later_validation_loss_that_is_not_finite_leaves_the_best_checkpoint(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Classifier.loss

    def diverging(self: Classifier, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return loss(self, logits, targets) * (float("nan") if self.current_epoch else 1)

    monkeypatch.setattr(Classifier, "loss", diverging)
    run = train(settings("trainer.epochs=2"), progress=False)
    epochs = [torch.load(run.checkpoint(name), weights_only=True)["epoch"] for name in ("best", "last")]
    assert epochs == [0, 1]


def test_weights_that_are_not_finite_are_named(settings: Make) -> None:
    path = train(settings(), progress=False).checkpoint("best")
    content = torch.load(path, weights_only=True)
    name = next(name for name in content["state_dict"] if name.endswith("running_var"))
    content["state_dict"][name].fill_(float("inf"))
    torch.save(content, path)
    with pytest.raises(ViceError, match="must stay finite") as found:
        check_best(path, {name.removeprefix("model.")}, "Start again.")
    expected = f"The weights must stay finite, but `{name.removeprefix('model.')}` holds NaN or infinity in {path}."
    assert (found.value.message, found.value.way_out) == (expected, "Start again.")


def test_images_that_are_trained_on_and_measured_are_counted(
    settings: Make, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*overrides: str) -> list[str]:
        _datasets(settings(*overrides), Console(stderr=True, width=500))
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("Mind")]

    assert said() == []
    measured = "`test`, on which the network is measured, are among those that it is trained on."
    assert said("data.train_split=test") == [f"Mind: 8 of 8 images of {measured}"]
    chosen = "`val`, which choose the checkpoint, are among those that it is trained on."
    assert said("data.train_split=val") == [f"Mind: 16 of 16 images of {chosen}"]
    same = [f"data.{name}_split=test" for name in ("train", "selection", "eval")]
    assert said(*same) == [f"Mind: 8 of 8 images of {measured}"]
    names = [*(colours / "train.txt").read_text().split()[:30], *(colours / "test.txt").read_text().split()[:3]]
    (tmp_path / "mixed.txt").write_text("\n".join(names))
    assert said(f"data.train_split={tmp_path / 'mixed.txt'}") == [f"Mind: 3 of 8 images of {measured}"]


def test_a_run_is_not_overwritten(settings: Make) -> None:
    train(settings(), progress=False)
    with pytest.raises(ViceError, match="already holds a run"):
        train(settings(), progress=False)
    with pytest.raises(ViceError, match="No run to resume found"):
        train(settings("session_name=other"), resume=True, progress=False)


@pytest.mark.parametrize("override", ["optimizer.lr=1", "model.name=test_vit", "seed=3", "trainer.batch_size=4"])
def test_a_run_does_not_resume_with_other_settings(settings: Make, override: str) -> None:
    chosen = settings()
    chosen.folder.mkdir(parents=True)
    (chosen.folder / "config.yaml").write_text(dump_settings(chosen))
    name = override.partition("=")[0]
    with pytest.raises(ViceError, match=f"`{name}` was .* and is "):
        train(settings(override), resume=True, progress=False)


@pytest.mark.parametrize("schedule", ["one_cycle", "warmup_cosine"])
def test_a_schedule_of_the_whole_training_cannot_grow(settings: Make, schedule: str) -> None:
    chosen = settings(f"schedule.name={schedule}")
    chosen.folder.mkdir(parents=True)
    (chosen.folder / "config.yaml").write_text(dump_settings(chosen))
    with pytest.raises(ViceError, match=rf"`trainer\.epochs` was 1 and is 2, and the rates of {schedule} depend on it"):
        train(settings(f"schedule.name={schedule}", "trainer.epochs=2"), resume=True, progress=False)


def test_a_schedule_of_steps_resumes_with_as_many_steps_an_epoch(settings: Make) -> None:
    chosen = ("schedule.name=warmup_cosine", "trainer.epochs=2", "trainer.accumulate=2")
    run = train(settings(*chosen), progress=False)
    last = run.checkpoint("last")
    state = checkpoint(run)
    assert (state["epoch"], state["global_step"]) == (1, 6)  # 41 images, 5 batches of 8, 2 a step; one image is left
    torch.save({**state, "epoch": 0, "global_step": 3}, last)  # as if stopped after the first epoch
    with pytest.raises(ViceError, match="had 3 and has 2 with 2 devices"):  # 21 images each, 3 batches
        train(settings(*chosen, "trainer.devices=2"), resume=True, progress=False)


@pytest.mark.parametrize("schedule", ["constant", "paper"])
def test_a_schedule_of_epochs_may_grow(settings: Make, schedule: str) -> None:
    train(settings(f"schedule.name={schedule}"), progress=False)
    grown = train(settings(f"schedule.name={schedule}", "trainer.epochs=2"), resume=True, progress=False)
    assert checkpoint(grown)["epoch"] == 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model.name=test_vit", "transform.crop=50"), "test_vit must take images of 50 x 50 pixels"),
        (("model.name=test_resnot",), "must be a timm name"),
        (("trainer.accelerator=abacus",), "Lightning cannot train with accelerator=abacus"),
        (("data.train_split=nothing",), r"`data\.train_split` must name a list.*\s+.*Give -o data\.train_split=NAME"),
        (("data.eval_split=nothing",), r"`data\.eval_split` must name a list.*\s+.*Give -o data\.eval_split=NAME"),
        (("model.weights=nowhere.pth",), "nowhere.pth does not exist"),
    ],
)
def test_mistakes_raise_before_anything_is_written(settings: Make, overrides: tuple[str, ...], said: str) -> None:
    chosen = settings(*overrides)
    with pytest.raises(ViceError, match=said):
        train(chosen, progress=False)
    assert not (chosen.folder / "config.yaml").exists()


def test_a_damaged_checkpoint_raises(settings: Make) -> None:
    run = train(settings(), progress=False)
    last = run.checkpoint("last")
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(ViceError, match=r"last\.ckpt cannot be read"):
        train(settings("trainer.epochs=2"), resume=True, progress=False)
    torch.save({"state_dict": {}}, last)
    with pytest.raises(ViceError, match="must hold the state of a training"):
        train(settings("trainer.epochs=2"), resume=True, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_training_resumes_to_the_same_weights(settings: Make, tmp_path: Path, how: signal.Signals) -> None:
    long = ("trainer.epochs=12", "schedule.name=warmup_cosine", "transform.flip=true")
    whole = train(settings("session_name=whole", *long), progress=False)
    chosen = settings("session_name=killed", *long)
    (tmp_path / "settings.yaml").write_text(dump_settings(chosen))
    script = (
        "import sys; from torchvice.config import load_settings; from torchvice.training.run import train;"
        "train(load_settings(sys.argv[1]), progress=False)"
    )
    command = [sys.executable, "-c", script, tmp_path / "settings.yaml"]
    # Sums over threads come out otherwise for another number of threads.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    last = chosen.folder / "checkpoints" / "last.ckpt"
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert how == signal.SIGKILL or b"KeyboardInterrupt" in errors
    before = torch.load(last, weights_only=True)["epoch"]
    assert before < 11
    resumed = train(chosen, resume=True, progress=False)
    assert weights_hash(resumed.model("last")) == weights_hash(whole.model("last"))
    assert not list(resumed.checkpoints.glob(".*"))


def test_a_second_training_in_the_folder_is_refused_before_it_writes(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, refused = settings(), []

    def meanwhile(path: Path, text: str) -> Path:
        if not refused:  # the config.yaml of the first
            for resume in (False, True):
                with pytest.raises(ViceError, match=r"A run in .* is already running: process") as caught:
                    train(settings("trainer.epochs=2"), resume=resume, progress=False)
                refused.append(caught.value)
            assert not path.exists()
        return write_text(path, text)

    monkeypatch.setattr("torchvice.training.run.write_text", meanwhile)
    run = train(chosen, progress=False)
    assert len(refused) == 2
    assert run.settings.trainer.epochs == 1
    assert not (chosen.folder / "training.lock").exists()
    monkeypatch.setenv("LOCAL_RANK", "1")  # the first process of the training holds the folder for this one
    with locked(chosen.folder / "training.lock", "x"), locked_folder(chosen.folder, "config.yaml", "run", True) as last:
        assert last == run.checkpoint("last")


@pytest.mark.slow
def test_two_trainings_at_once_leave_one_whole_run(settings: Make, tmp_path: Path) -> None:
    running = []
    for scheme, rate in (("first", "1e-3"), ("second", "2e-3")):
        file = tmp_path / f"{scheme}.yaml"
        file.write_text(dump_settings(settings(f"optimizer.lr={rate}", "trainer.epochs=4", "session_name=both")))
        command = [sys.executable, "-m", "torchvice.cli", "train", str(file)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=300)[1] for process in running]
    statuses = [process.returncode for process in running]
    assert sorted(statuses) == [0, 2], errors
    assert "already" in errors[statuses.index(2)]
    run = Run(settings("session_name=both").folder)
    assert run.settings.optimizer.lr == (1e-3, 2e-3)[statuses.index(0)]
    state = torch.load(run.checkpoint("last"), weights_only=True)
    assert state["epoch"] == 3
    assert state["optimizer_states"][0]["param_groups"][0]["initial_lr"] == run.settings.optimizer.lr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_accelerator_is_one_sentence(settings: Make) -> None:
    chosen = settings("trainer.accelerator=gpu")
    with pytest.raises(ViceError, match="Lightning cannot train with accelerator=gpu"):
        train(chosen, progress=False)
    assert not (chosen.folder / "config.yaml").exists()


def test_a_mean_of_0_to_255_is_refused(settings: Make) -> None:
    with pytest.raises(ViceError, match=r"`mean` must be that of images on \[0, 1\]"):
        train(settings("transform.mean=[123,117,104]", "transform.std=[58,57,57]"), progress=False)


def test_images_that_are_all_almost_black_are_said(settings: Make, colours: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(colours, tmp_path / "dark")
    for file in (tmp_path / "dark" / "VOC2012" / "JPEGImages").iterdir():
        Image.fromarray(np.asarray(Image.open(file)) // 255).save(file)
    train(settings("trainer.epochs=1", f"data.root={tmp_path / 'dark'}"))
    assert "The first 16 images are all almost black" in " ".join(capsys.readouterr().err.split())
    train(settings("trainer.epochs=1", "session_name=bright"))
    assert "almost black" not in capsys.readouterr().err
