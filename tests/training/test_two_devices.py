"""Regularisers on two devices (DDP with gloo on the CPU): equal weights, equal epochs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from torchvice.config import Settings, dump_settings
from torchvice.runs import Run

pytestmark = pytest.mark.slow

Make = Callable[..., Settings]

# Each process writes down its weights after every step, and what it ends with.
SCRIPT = """
import sys
import torch
from torchvice.config import load_settings
from torchvice.training.averaging import AveragedWeights
from torchvice.training.module import Classifier
from torchvice.training.run import train

steps = []

def plain(state):
    return {name: value.clone() for name, value in state.items() if name.startswith("model.")}

def on_train_batch_end(self, *_):
    steps.append(plain(self.state_dict()))

def on_train_end(self):
    found = [c._average_model.module for c in self.trainer.callbacks if isinstance(c, AveragedWeights)]
    content = {"steps": steps, "epoch": self.current_epoch, "world": self.trainer.world_size}
    content["average"] = plain(found[0].state_dict()) if found else {}
    torch.save(content, f"{sys.argv[2]}/{self.global_rank}.pt")

Classifier.on_train_batch_end, Classifier.on_train_end = on_train_batch_end, on_train_end
if __name__ == "__main__":
    train(load_settings(sys.argv[1]), resume="--resume" in sys.argv, progress=False)
"""


def on_two(chosen: Settings, folder: Path, *further: str) -> list[dict[str, Any]]:
    """Train in two processes; what each wrote down."""
    folder.mkdir()
    (folder / "settings.yaml").write_text(dump_settings(chosen))
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, folder / "script.py", folder / "settings.yaml", folder, *further]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


TWO = ("trainer.devices=2", "trainer.strategy=ddp")


def test_both_devices_average_to_the_same_weights(settings: Make, tmp_path: Path) -> None:
    ema = ("regularisation.ema=0.7", "schedule.name=constant")
    first, second = on_two(settings(*TWO, *ema, "trainer.epochs=2"), tmp_path / "whole")
    assert first["world"] == second["world"] == 2
    assert len(first["steps"]) == len(second["steps"]) == 6  # 41 images: 21 each, the last batches of 8, 8 and 5
    assert first["average"].keys() == second["average"].keys()
    assert all(torch.equal(value, second["average"][name]) for name, value in first["average"].items())
    # The average by a plain loop, of the weights as they were after each step.
    parameters = [name for name, value in first["average"].items() if value.is_floating_point()]
    loop = {name: first["steps"][0][name] for name in parameters}
    for updates, step in enumerate(first["steps"][1:], start=1):
        kept = min(0.7, (1 + updates) / (10 + updates))
        loop = {name: kept * loop[name] + (1 - kept) * step[name] for name in parameters}
    run = Run(settings().folder)
    saved = torch.load(run.checkpoint("last"), weights_only=True)
    handed_out = run.model("last").state_dict()
    for name in parameters:
        assert torch.allclose(saved["state_dict"][name], loop[name], atol=1e-5), name
        assert torch.equal(saved["state_dict"][name], first["average"][name]), name
        assert torch.equal(handed_out[name.removeprefix("model.")], saved["state_dict"][name]), name
        assert torch.equal(saved["current_model_state"][name], first["steps"][-1][name]), name
    moved = [name for name in parameters if not torch.allclose(loop[name], first["steps"][-1][name], atol=1e-4)]
    assert len(moved) > len(parameters) / 2  # the average is not the last step


def test_a_resume_on_two_devices_averages_on(settings: Make, tmp_path: Path) -> None:
    ema = (*TWO, "regularisation.ema=0.7", "schedule.name=constant")
    whole, _ = on_two(settings(*ema, "session_name=whole", "trainer.epochs=2"), tmp_path / "whole")
    on_two(settings(*ema, "session_name=parts", "trainer.epochs=1"), tmp_path / "begun")
    chosen = settings(*ema, "session_name=parts", "trainer.epochs=2")
    parts = on_two(chosen, tmp_path / "ended", "--resume")
    for part in parts:
        assert all(torch.equal(value, part["average"][name]) for name, value in whole["average"].items())


def test_both_devices_lose_patience_in_the_same_epoch(settings: Make, tmp_path: Path) -> None:
    still = ("optimizer.lr=1e-12", "optimizer.name=sgd", "model.linear_probe=true", "schedule.name=constant")
    chosen = settings(*TWO, *still, "regularisation.patience=2", "trainer.epochs=9")
    first, second = on_two(chosen, tmp_path / "script")
    assert first["world"] == second["world"] == 2
    assert first["epoch"] == second["epoch"]
    assert len(first["steps"]) == len(second["steps"]) == 3 * 3  # the first epoch, and two that are no better
    saved = torch.load(Run(chosen.folder).checkpoint("last"), weights_only=True)
    assert saved["epoch"] == 2
