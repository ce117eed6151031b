"""Classifier: the LightningModule for supervised training, with multi-label or exclusive targets."""

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
from torchvice.models.build import classifier_names, frozen_to_eval
from torchvice.training.mixing import Mixing
from torchvice.training.schedule import learning_rate
from torchvice.training.trainer import loss_of_step

__all__ = ["Classifier", "start_again"]

Batch = tuple[torch.Tensor, torch.Tensor]


def start_again(settings: Settings) -> str:
    """Return the way out of a training that diverges: another run, with a lower rate or a clip.

    Example:
        >>> from torchvice.config import load_settings
        >>> start_again(load_settings("demo"))
        'Start again with a lower rate under another name: -o optimizer.lr=0.0003 -o session_name=NAME.'
    """
    rates = {name: getattr(settings.optimizer, name) for name in ("lr", "backbone_lr")}
    lower = " ".join(f"-o optimizer.{name}={rate / 10:g}" for name, rate in rates.items() if rate is not None)
    # Adam divides by the gradient's size, so that a clip changes nothing there.
    clips = settings.optimizer.name == "sgd" and settings.trainer.clip is None
    clip = ", or with -o trainer.clip=1 in place of the rate" if clips else ""
    return f"Start again with a lower rate under another name: {lower} -o session_name=NAME{clip}."


class Classifier(LightningModule):
    """Train a network with C logits on (images (N, 3, H, W), targets (N, C) in {0, 1}).

    The loss is the multi-label soft-margin loss or the cross-entropy (`settings.training_loss`), in nats. Logs
    `train/loss` (mean of the epoch), `lr`, `val/loss` and `val/mAP`, the average precision averaged over the classes
    that occur. With exclusive targets it also logs `val/accuracy`, the top-1 accuracy. Checkpoints also hold the key
    `torchvice`: settings and classes as plain values.

    Args:
        model: the network, (N, 3, H, W) -> (N, C).
        settings: reads loss, data.exclusive, optimizer, schedule, regularisation, trainer.epochs and
            model.linear_probe.
        classes: names of the C classes.
    """

    def __init__(self, model: nn.Module, settings: Settings, classes: Sequence[str]) -> None:
        super().__init__()
        # Channels last is faster: 0.10 s instead of 0.17 s per batch of 32 for the demo's ResNet on one CPU core.
        self.model = model.to(memory_format=torch.channels_last)
        self.settings = settings
        self.classes = tuple(classes)
        self.mixing = Mixing(settings.regularisation)
        one = len(self.classes) == 1  # torchmetrics' multi-label metrics need two or more
        self.average_precision = (
            BinaryAveragePrecision() if one else MultilabelAveragePrecision(len(self.classes), average="none")
        )

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss of the batch in nats, for unmixed, unsmoothed targets."""
        if self.settings.training_loss == "cross_entropy":
            return functional.cross_entropy(logits, targets.argmax(1))
        return functional.multilabel_soft_margin_loss(logits, targets)

    def training_loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss of the batch in nats, for targets that may be mixed, with the settings' label smoothing.

        Smoothing by s turns exclusive targets into (1 - s) y + s / C, and multi-label targets into (1 - s) y + s / 2.
        """
        smoothing = self.settings.regularisation.label_smoothing
        if self.settings.training_loss == "cross_entropy":
            labels = targets if self.mixing else targets.argmax(1)
            return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        return functional.multilabel_soft_margin_loss(logits, targets * (1 - smoothing) + smoothing / 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, C)."""
        logits: torch.Tensor = self.model(images.contiguous(memory_format=torch.channels_last))
        return logits

    def train(self, mode: bool = True) -> Classifier:
        """Set training mode; the frozen part of a linear probe stays in eval mode."""
        super().train(mode)
        if mode and self.settings.model.linear_probe:
            frozen_to_eval(self.model)
        return self

    def on_train_epoch_start(self) -> None:
        """Set training mode, which Lightning does not do at the start of an epoch."""
        self.train()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Compute and log the loss of a batch."""
        images, targets = self.mixing(batch[0], _not_half(batch[1]))
        loss = self.training_loss(_not_half(self(images)), targets)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"], on_step=True, on_epoch=False)  # type: ignore[union-attr]
        return loss_of_step(loss, self.trainer, batch_idx)

    def on_train_epoch_end(self) -> None:
        """Stop a diverged training before it overwrites a good checkpoint."""
        loss = self.trainer.callback_metrics.get("train/loss")
        if loss is not None and not torch.isfinite(loss):
            raise ViceError(
                f"The training loss must stay finite, but is {float(loss)} in epoch {self.current_epoch + 1}.",
                start_again(self.settings),
            )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of a batch of the selection split, and collect its scores for the average precision."""
        images, targets = batch
        logits = self(images).float()
        mean: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(images), "sync_dist": True}
        self.log("val/loss", self.loss(logits, targets), **mean)
        if self.settings.data.exclusive:
            correct = logits.argmax(1) == targets.argmax(1)
            self.log("val/accuracy", correct.float().mean(), **mean)
        competing = self.settings.training_loss == "cross_entropy"
        self.average_precision.update(logits.softmax(1) if competing else logits.sigmoid(), targets.int())

    def on_validation_epoch_end(self) -> None:
        """Log the average precision, averaged over the classes that occur; NaN if none does."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that do not occur
            values = self.average_precision.compute()
        # A class that occurs has more than 0; torchmetrics gives 0 or NaN, by its version, to the others.
        self.log("val/mAP", values[values > 0].mean())
        self.average_precision.reset()

    def configure_optimizers(self) -> Any:
        """Build the optimiser of the trainable parameters and the schedule, which advances every step."""
        chosen = self.settings.optimizer
        parameters = self._with_rates(self._parameter_groups(chosen.weight_decay))
        optimizer: torch.optim.Optimizer
        if chosen.name == "sgd":
            optimizer = torch.optim.SGD(parameters, chosen.lr, chosen.momentum, weight_decay=chosen.weight_decay)
        else:
            optimizer = torch.optim.AdamW(parameters, chosen.lr, weight_decay=chosen.weight_decay)
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

    def _parameter_groups(self, weight_decay: float) -> list[Any]:
        """Return the trainable parameters; in two groups if norms and biases do not decay."""
        if self.settings.regularisation.decay_norms:
            return [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]

        exempt: Any = getattr(self.model, "no_weight_decay", tuple)  # timm's list, such as position embeddings
        groups = param_groups_weight_decay(self.model, weight_decay, no_weight_decay_list=exempt())
        return [group for group in groups if group["params"]]

    def _with_rates(self, parameters: list[Any]) -> list[Any]:
        """Split the groups into classifier and backbone, where these have rates of their own.

        Without trainable parameters in the backbone, as in a linear probe, its rate has no effect.
        """
        chosen = self.settings.optimizer
        if chosen.backbone_lr is None:
            return parameters
        groups = parameters if isinstance(parameters[0], dict) else [{"params": parameters}]
        heads = {
            id(own) for name in classifier_names(self.model) for own in self.model.get_submodule(name).parameters()
        }
        split = []
        for group in groups:
            for of_head, rate in ((True, chosen.lr), (False, chosen.backbone_lr)):
                mine = [own for own in group["params"] if (id(own) in heads) is of_head]
                split.append({**group, "params": mine, "lr": rate})
        return [group for group in split if group["params"]]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add settings and classes, so that the checkpoint can be used without its run; plain values run no code."""
        checkpoint["torchvice"] = {"classes": list(self.classes), "settings": self.settings.model_dump(mode="json")}


def _not_half(values: torch.Tensor) -> torch.Tensor:
    """Return values in single precision if they are in half precision, which would round the loss."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
