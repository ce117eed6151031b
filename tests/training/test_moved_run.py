"""A run whose folder was moved resumes as if it had stayed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from torchvice.config import Settings
from torchvice.runs import Run
from torchvice.training.module import Classifier
from torchvice.training.run import train

Make = Callable[..., Settings]


def checkpoint(run: Run, which: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run.checkpoint(which), weights_only=True)
    return content


@pytest.mark.parametrize("linked", [False, True])
def test_the_best_checkpoint_of_a_moved_run_is_overwritten_by_a_better_epoch_alone(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    loss, added = Classifier.loss, (0.0, 100.0, -100.0)  # the second epoch is the worst, the third the best
    monkeypatch.setattr(
        Classifier, "loss", lambda self, logits, targets: loss(self, logits, targets) + added[self.current_epoch]
    )
    before = train(settings(), progress=False).folder
    (tmp_path / "moved").mkdir()
    shutil.move(before.parent, tmp_path / "moved" / "runs")
    work_dir = tmp_path / "moved" / "runs"
    if linked:
        work_dir = tmp_path / "link"
        work_dir.symlink_to(tmp_path / "moved" / "runs")
    assert not before.exists()
    for epochs, best in ((2, 0), (3, 2)):
        run = train(settings(f"work_dir={work_dir}", f"trainer.epochs={epochs}"), resume=True, progress=False)
        assert [checkpoint(run, name)["epoch"] for name in ("best", "last")] == [best, epochs - 1]
        assert {file.name for file in run.checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not before.exists()
