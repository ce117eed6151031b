"""A small study: the included digits, timm's smallest network, one epoch; and one of checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from given_checkpoints import FILE, MEASURE, state
from safetensors.torch import save_file

from torchvice.data.digits import write_digits

SMALL: dict[str, Any] = {
    "base": "demo",
    "settings": {
        "trainer.epochs": 1,
        "trainer.batch_size": 8,
        "model.name": "test_resnet",
        "model.arguments": {},
        "assess.batch_size": 8,
    },
    "seeds": [1, 2],
    "axes": {"optimizer.weight_decay": [0.05, 0.0]},
    "measure": {"replicates": 100, "controls": "none", "protocols": ["strict"]},
}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study") / "digits"
    write_digits(root, train=16, val=4, test=24, size=48)
    return root


@pytest.fixture
def study_file(tmp_path: Path, digits: Path) -> Callable[..., Path]:
    """Writes the file of a small study, with some of its parts changed."""

    def write(**changes: Any) -> Path:
        content = {**SMALL, "folder": str(tmp_path / "study"), **changes}
        content["settings"] = {**SMALL["settings"], "data.root": str(digits), **changes.get("settings", {})}
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data with an evaluation split only, and weights as Lightning, torch and safetensors write them."""
    home = tmp_path_factory.mktemp("checkpoints")
    write_digits(home / "digits", train=12, val=4, test=24, size=48)
    shutil.copytree(home / "digits", home / "bare")
    for split in ("train", "val"):
        (home / "bare" / f"{split}.txt").unlink()
    for seed in (1, 2, 3):
        lightning = {"state_dict": {f"net.{name}": value for name, value in state(seed).items()}, "epoch": 1}
        torch.save(lightning, home / f"lightning-{seed}.ckpt")
        torch.save(state(seed + 3), home / f"own-{seed}.pth")
    save_file(state(1), home / "one.safetensors")
    torch.save(state(1, outputs=3), home / "three.pth")
    torch.save({"ema": state(1), "net": state(2)}, home / "two.pth")
    return home


@pytest.fixture
def here(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, as the working directory."""
    shutil.copytree(checkpoints, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def write(here: Path) -> Callable[..., Path]:
    """Writes a study of checkpoints, with some of its parts changed."""

    def written(axes: dict[str, Any] | None = None, **changes: Any) -> Path:
        settings = {"data.root": "bare", "data.eval_split": "test", **FILE, **changes.pop("settings", {})}
        content = {"settings": settings, "axes": axes or {}, "measure": MEASURE, **changes}
        path = here / "study.yaml"
        path.write_text(yaml.safe_dump({name: v for name, v in content.items() if v is not None}, sort_keys=False))
        return path

    return written
