"""What a training says on the terminal: one bar with an estimate for all of it, one line for every epoch."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["EpochLines"]

# What is said of an epoch where it was measured.
SHOWN = {
    "train/loss": "train loss",
    "train/spread": "spread",
    "val/loss": "val loss",
    "val/mAP": "val mAP",
    "val/accuracy": "val accuracy",
    "vice/strict": "VICE",
}


class EpochLines(Callback):
    """A bar over all batches while a person looks on, and a line an epoch for everybody.

    Args:
        console: where to; the bar shows on a terminal only.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("batches"))
        times = (TimeElapsedColumn(), TextColumn("·"), TimeRemainingColumn(), TextColumn("left"))
        self._bar = Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("training", total=None)
        self._since = 0.0
        self._best = float("inf")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar; after a resume it begins where the training does."""
        if not trainer.is_global_zero:
            return
        batches = int(trainer.num_training_batches)
        done = batches * trainer.current_epoch
        self._bar.update(self._task, total=batches * int(trainer.max_epochs or 0), completed=done)
        self._bar.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._since = time.perf_counter()
        self._bar.update(self._task, description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One batch further."""
        self._bar.advance(self._task)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch's line."""
        if not trainer.is_global_zero:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        loss = values.get("val/loss", float("inf"))
        mark = "  best so far" if loss < self._best else ""
        self._best = min(self._best, loss)
        seen = "".join(f"  {said} {values[name]:.4f}" for name, said in SHOWN.items() if name in values)
        self.console.print(
            f"epoch {trainer.current_epoch + 1:>{len(str(trainer.max_epochs))}}/{trainer.max_epochs}"
            f"{seen}  {time.perf_counter() - self._since:.0f} s{mark}",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar away before the message comes."""
        self._bar.stop()

    def state_dict(self) -> dict[str, Any]:
        """The best loss, for the checkpoint."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best loss of before."""
        self._best = float(state_dict["best"])
