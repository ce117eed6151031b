"""Progress of a training on the terminal: one bar for all epochs, with the time left, and one line per epoch."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from torchvice.measures.wording import decimals

__all__ = ["EpochLines"]

# Logged values that an epoch's line shows, where they were logged.
LABELS = {
    "train/loss": "train loss",
    "train/spread": "spread",
    "val/loss": "val loss",
    "val/mAP": "val mAP",
    "val/accuracy": "val accuracy",
    "vice/strict": "VICE",
}


class EpochLines(Callback):
    """Show a progress bar over all batches, and print one line per epoch.

    Args:
        console: where to print; the bar is shown on a terminal only.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("batches"))
        times = (TimeElapsedColumn(), TextColumn("·"), TimeRemainingColumn(), TextColumn("left"))
        self._bar = Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("training", total=None)
        self._epoch_start = 0.0
        self._best = float("inf")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, from the first epoch to be trained."""
        if not trainer.is_global_zero:
            return
        batches = int(trainer.num_training_batches)
        done = batches * trainer.current_epoch
        self._bar.update(self._task, total=batches * int(trainer.max_epochs or 0), completed=done)
        self._bar.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch."""
        self._epoch_start = time.perf_counter()
        self._bar.update(self._task, description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar by one batch."""
        self._bar.advance(self._task)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch."""
        if not trainer.is_global_zero:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        loss = values.get("val/loss", float("inf"))
        mark = "  best so far" if loss < self._best else ""
        self._best = min(self._best, loss)
        metrics = "".join(f"  {label} {decimals(values[name], 4)}" for name, label in LABELS.items() if name in values)
        self.console.print(
            f"epoch {trainer.current_epoch + 1:>{len(str(trainer.max_epochs))}}/{trainer.max_epochs}"
            f"{metrics}  {time.perf_counter() - self._epoch_start:.0f} s{mark}",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the bar before the error is shown."""
        self._bar.stop()

    def state_dict(self) -> dict[str, Any]:
        """Return the best loss, for the checkpoint."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best loss."""
        self._best = float(state_dict["best"])
