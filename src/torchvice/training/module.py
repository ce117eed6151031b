"""Classifier: the LightningModule that trains one network, on labels that go together or exclude each other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional
from torchmetrics.classification import BinaryAveragePrecision, MultilabelAveragePrecision

from torchvice.config import Settings
from torchvice.errors import ViceError
from torchvice.models.build import keep_frozen_still
from torchvice.training.mixing import Mixing
from torchvice.training.schedule import learning_rate

__all__ = ["Classifier"]

Batch = tuple[torch.Tensor, torch.Tensor]


class Classifier(LightningModule):
    """A network with C logits, trained on (images (N, 3, H, W), targets (N, C) in {0, 1}).

    The loss is the multi-label soft-margin loss or the cross-entropy, as `settings.training_loss` says. Logs
    `train/loss` (mean of an epoch), `lr`, `val/loss` and `val/mAP`: nats, macro average of the average precision over
    the classes that occur; where targets are exclusive also `val/accuracy`, the share of images whose likeliest class
    is the true one. A checkpoint also holds `torchvice`: settings and classes as plain values.

    Args:
        model: the network, (N, 3, H, W) -> (N, C).
        settings: loss, data.exclusive, optimizer, schedule, regularisation, trainer.epochs and model.linear_probe are
            read.
        classes: the C names.
    """

    def __init__(self, model: nn.Module, settings: Settings, classes: Sequence[str]) -> None:
        super().__init__()
        # Channels last: 40 % less time for the demo's ResNet on a CPU (0.10 s for 0.17 s a batch of 32, one core).
        self.model = model.to(memory_format=torch.channels_last)
        self.settings = settings
        self.classes = tuple(classes)
        self.mixing = Mixing(settings.regularisation)
        one = len(self.classes) == 1  # torchmetrics' multi-label measure begins with two
        self.average_precision = (
            BinaryAveragePrecision() if one else MultilabelAveragePrecision(len(self.classes), average="macro")
        )

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The batch's mean loss, nats, of targets as they are."""
        if self.settings.training_loss == "cross_entropy":
            return functional.cross_entropy(logits, targets.argmax(1))
        return functional.multilabel_soft_margin_loss(logits, targets)

    def training_loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The batch's mean loss, nats, of targets that may be mixed, smoothed as the settings say.

        Smoothing by s takes exclusive targets to (1 - s) y + s / C, and each of several labels to (1 - s) y + s / 2.
        """
        smoothing = self.settings.regularisation.label_smoothing
        if self.settings.training_loss == "cross_entropy":
            wanted = targets if self.mixing else targets.argmax(1)
            return functional.cross_entropy(logits, wanted, label_smoothing=smoothing)
        return functional.multilabel_soft_margin_loss(logits, targets * (1 - smoothing) + smoothing / 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, C)."""
        logits: torch.Tensor = self.model(images.contiguous(memory_format=torch.channels_last))
        return logits

    def train(self, mode: bool = True) -> Classifier:
        """Training mode; the frozen part of a linear probe stays in eval mode."""
        super().train(mode)
        if mode and self.settings.model.linear_probe:
            keep_frozen_still(self.model)
        return self

    def on_train_epoch_start(self) -> None:
        """Training mode, which Lightning leaves to the module."""
        self.train()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The batch's loss, nats."""
        images, targets = self.mixing(*batch)
        loss = self.training_loss(self(images), targets)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"], on_step=True, on_epoch=False)  # type: ignore[union-attr]
        return loss

    def on_train_epoch_end(self) -> None:
        """Stop before a diverged network is saved over a good checkpoint."""
        loss = self.trainer.callback_metrics.get("train/loss")
        if loss is not None and not torch.isfinite(loss):
            raise ViceError(
                f"The training loss must stay finite, but is {float(loss)} in epoch {self.current_epoch + 1}.",
                f"Lower the rate (optimizer.lr={self.settings.optimizer.lr / 10:g}) or set trainer.clip=1.",
            )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect loss and ranking of a batch of the selection split."""
        images, targets = batch
        logits = self(images).float()
        mean: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(images), "sync_dist": True}
        self.log("val/loss", self.loss(logits, targets), **mean)
        if self.settings.data.exclusive:
            right = logits.argmax(1) == targets.argmax(1)
            self.log("val/accuracy", right.float().mean(), **mean)
        competing = self.settings.training_loss == "cross_entropy"
        self.average_precision.update(logits.softmax(1) if competing else logits.sigmoid(), targets.int())

    def on_validation_epoch_end(self) -> None:
        """Log the mean average precision."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class that does not occur is left out of the average
            value = self.average_precision.compute()
        self.log("val/mAP", value)
        self.average_precision.reset()

    def configure_optimizers(self) -> Any:
        """The optimiser over what is not frozen, and the schedule, stepped after each step."""
        chosen = self.settings.optimizer
        free = self._trained(chosen.weight_decay)
        optimizer: torch.optim.Optimizer
        if chosen.name == "sgd":
            optimizer = torch.optim.SGD(free, chosen.lr, chosen.momentum, weight_decay=chosen.weight_decay)
        else:
            optimizer = torch.optim.AdamW(free, chosen.lr, weight_decay=chosen.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.settings.schedule
        scheduler = learning_rate(
            optimizer,
            schedule.name,
            steps=steps,
            steps_per_epoch=steps // self.settings.trainer.epochs,
            warmup=schedule.warmup,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _trained(self, weight_decay: float) -> list[Any]:
        """What is not frozen; in two groups, where norms and biases are not to decay."""
        if self.settings.regularisation.decay_norms:
            return [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]

        asked: Any = getattr(self.model, "no_weight_decay", tuple)  # position embeddings and the like, as timm has it
        groups = param_groups_weight_decay(self.model, weight_decay, no_weight_decay_list=asked())
        return [group for group in groups if group["params"]]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to use the checkpoint without its run; plain values, so that loading cannot run code."""
        checkpoint["torchvice"] = {
            "classes": list(self.classes),
            "settings": self.settings.model_dump(mode="json"),
        }
