"""A small study: the included digits, timm's smallest network, one epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

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
