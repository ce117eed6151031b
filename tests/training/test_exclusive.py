"""Exclusive targets: the loss, the top-1 accuracy, and the errors."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, log_loss

from torchvice import assess
from torchvice.config import Settings
from torchvice.data.transforms import ValidationTransform
from torchvice.errors import ViceError
from torchvice.metrics import sample_loss
from torchvice.models.build import build_model
from torchvice.runs import Run
from torchvice.training.module import Classifier
from torchvice.training.run import train

Make = Callable[..., Settings]


def last_row(run: Run) -> dict[str, float]:
    with open(run.logs / "version_0" / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    return {name: float(value) for name, value in rows[-1].items() if value}


def logits_of(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Of the last checkpoint, on what chose it."""
    data, look = run.dataset("val"), run.settings.transform
    view = ValidationTransform(32, mean=look.mean, std=look.std, view="warp")
    with torch.no_grad():
        logits = run.model("last")(torch.stack([view(data.image(i)) for i in range(len(data))]))
    return logits.double().numpy(), data.targets


def test_cross_entropy_is_taken_and_top_1_logged(
    settings: Make, one_colour: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(settings(f"data.root={one_colour}", "data.exclusive=true", "trainer.epochs=4"))
    assert "  val accuracy " in capsys.readouterr().err.splitlines()[-1]
    row, (logits, targets) = last_row(run), logits_of(run)
    true, p = targets.argmax(1), np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert row["val/loss"] == pytest.approx(log_loss(true, p), abs=1e-5)
    assert row["val/accuracy"] == pytest.approx(accuracy_score(true, logits.argmax(1)), abs=1e-6)
    assert row["val/accuracy"] > 0.9
    # What is assessed knows it too, without being told again.
    table = assess(run.model(), run.dataset("test"), out=tmp_path / "table", view_size=32, crop=32, device="cpu")
    assert table.exclusive


def test_the_ranking_is_that_of_the_softmax(settings: Make, one_colour: Path) -> None:
    run = train(settings(f"data.root={one_colour}", "data.exclusive=true", "optimizer.lr=1e-4"), progress=False)
    row, (logits, targets) = last_row(run), logits_of(run)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ranked = [average_precision_score(targets, scores, average="macro") for scores in (p, logits)]
    assert row["val/mAP"] == pytest.approx(ranked[0], abs=1e-5)
    assert abs(ranked[0] - ranked[1]) > 1e-3  # a sigmoid's ranking is another


def test_the_multi_label_loss_can_be_chosen(settings: Make, one_colour: Path) -> None:
    run = train(settings(f"data.root={one_colour}", "data.exclusive=true", "loss=multilabel"), progress=False)
    row, (logits, targets) = last_row(run), logits_of(run)
    assert row["val/loss"] == pytest.approx(sample_loss(logits, targets).mean(), abs=1e-5)
    assert row["val/accuracy"] == pytest.approx(accuracy_score(targets.argmax(1), logits.argmax(1)), abs=1e-6)


def test_nothing_is_guessed(settings: Make, one_colour: Path) -> None:
    run = train(settings(f"data.root={one_colour}"), progress=False)  # one label an image, but nobody says so
    row, (logits, targets) = last_row(run), logits_of(run)
    assert row["val/loss"] == pytest.approx(sample_loss(logits, targets).mean(), abs=1e-5)
    assert "val/accuracy" not in row


def test_the_gradient_is_that_of_the_cross_entropy(settings: Make) -> None:
    """By hand: two classes, equal logits, so p = 1/2 each and the gradient of the mean over one image is p - y."""
    module = Classifier(build_model("test_resnet", 2), settings("data.exclusive=true"), ("a", "b"))
    logits = torch.zeros(1, 2, requires_grad=True)
    loss = module.loss(logits, torch.tensor([[0.0, 1.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2))
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.5, -0.5]]


def test_what_is_refused(settings: Make, colours: Path) -> None:
    with pytest.raises(ViceError, match=r"of the 41 images of train have none or several, such as `train_0"):
        train(settings("data.exclusive=true"), progress=False)
    with pytest.raises(ViceError, match=r"needs one label per image, but `data\.exclusive` is false"):
        train(settings("loss=cross_entropy"), progress=False)
    with pytest.raises(ViceError, match="`loss` must be"):
        settings("loss=hinge")


def test_another_loss_is_another_run(settings: Make, one_colour: Path) -> None:
    where = (f"data.root={one_colour}", "data.exclusive=true")
    train(settings(*where), progress=False)
    with pytest.raises(ViceError, match="`loss` was 'auto' and is 'multilabel'"):
        train(settings(*where, "loss=multilabel", "trainer.epochs=2"), resume=True, progress=False)
    with pytest.raises(ViceError, match=r"`data\.exclusive` was True and is False"):
        train(settings(where[0], "trainer.epochs=2"), resume=True, progress=False)
