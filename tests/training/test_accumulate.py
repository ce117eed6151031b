"""Gradients of several batches: every step is the mean of its batches, also where an epoch ends with fewer."""

import csv
from collections.abc import Callable
from typing import Any

import pytest
import torch

from torchvice.config import Settings
from torchvice.training.module import Classifier
from torchvice.training.run import train

Make = Callable[..., Settings]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[float]]:
    """The loss of every batch, whose gradient is the same for all weights, and the gradient of every step."""
    losses: list[float] = []
    gradients: list[float] = []

    def loss(self: Classifier, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses.append(float(2 ** len(losses)))  # 1, 2, 4, ...: any mean shows its batches
        bias = self.model.get_parameter("fc.bias")[0]
        return losses[-1] * (1 + bias - bias.detach())

    def note(self: Classifier, optimizer: Any) -> None:
        gradients.append(float(self.model.get_parameter("fc.bias").grad[0]))  # type: ignore[index]

    monkeypatch.setattr(Classifier, "training_loss", loss)
    monkeypatch.setattr(Classifier, "on_before_optimizer_step", note, raising=False)
    return losses, gradients


@pytest.mark.parametrize(
    ("accumulate", "expected"),
    [
        (1, [1, 2, 4, 8, 16]),
        (2, [3 / 2, 12 / 2, 16]),
        (3, [7 / 3, 24 / 2]),
        (8, [31 / 5]),  # less than a whole step in the epoch
    ],
)
def test_a_step_is_the_mean_of_its_batches(
    settings: Make, steps: tuple[list[float], list[float]], accumulate: int, expected: list[float]
) -> None:
    chosen = ("optimizer.lr=1e-12", "optimizer.name=sgd", "optimizer.weight_decay=0")
    run = train(settings(*chosen, f"trainer.accumulate={accumulate}"), progress=False)
    losses, gradients = steps
    assert losses == [1, 2, 4, 8, 16]  # 41 images in batches of 8; one is left
    assert gradients == pytest.approx(expected)
    with open(run.logs / "version_0" / "metrics.csv") as file:
        logged = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert logged == pytest.approx([31 / 5], rel=1e-6)  # as if every batch were a step


def test_a_self_supervised_step_is_the_mean_of_its_batches(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightly", reason="the extra `pretrain` is not installed")
    from torchvice.training.pretrain import pretrain
    from torchvice.training.selfsupervised import ByolModule

    gradients: list[float] = []
    monkeypatch.setattr(ByolModule, "loss", lambda self, views: self.network.get_parameter("conv1.0.weight").sum())
    monkeypatch.setattr(
        ByolModule,
        "on_before_optimizer_step",
        lambda self, optimizer: gradients.append(float(self.network.get_parameter("conv1.0.weight").grad.mean())),
        raising=False,
    )
    pretrain(settings("trainer.accumulate=3"), "byol", ["hidden=16", "outputs=8"], progress=False)
    assert gradients == pytest.approx([1, 1])  # three batches and two
