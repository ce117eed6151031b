"""Lightning's Trainer as torchvice sets it up, and what a training touches, given back."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.config import Settings
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from rich.console import Console

    from torchvice.training.checkpoints import EpochSampler

__all__ = ["fit", "process_state_kept", "rng_state_kept", "trainer_of"]


def trainer_of(
    settings: Settings,
    folder: Path,
    sampler: EpochSampler,
    console: Console,
    callbacks: list[Any],
    **further: Any,
) -> Trainer:
    """Lightning's Trainer as the settings want it: with logs, a bar, and seeded epochs.

    Args:
        settings: their `trainer` is read.
        folder: for logs.
        sampler: of the training's loader; it is told the epoch.
        console: for the bar and the lines.
        callbacks: go before those that are set here; those that write checkpoints are among them.
        further: more of the Trainer's arguments, or others than the settings name.

    Raises:
        ViceError: a machine that is not there, or what does not go together.
    """
    import lightning.pytorch as lightning
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    from torchvice.training.checkpoints import SeededEpochs, WholeFiles
    from torchvice.training.progress import EpochLines

    chosen = settings.trainer
    table = CSVLogger(folder, name="logs")
    loggers: list[Any] = [table]
    if importlib.util.find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="logs", version=table.version, default_hp_metric=False))
    else:
        console.print("No TensorBoard logs: pip install 'torchvice[tensorboard]' brings them.", markup=False)
    how: dict[str, Any] = {
        "max_epochs": chosen.epochs,
        "accelerator": chosen.accelerator,
        "devices": list(chosen.devices) if isinstance(chosen.devices, tuple) else chosen.devices,
        "strategy": chosen.strategy,
        "num_nodes": chosen.num_nodes,
        "precision": chosen.precision,
        "accumulate_grad_batches": chosen.accumulate,
        "gradient_clip_val": chosen.clip,
        "deterministic": chosen.deterministic,
        "benchmark": False,
        "default_root_dir": folder,
        "logger": loggers,
        # Checkpoints are written last whatever the order: Lightning puts them behind all others.
        "callbacks": [*callbacks, EpochLines(console), SeededEpochs(sampler)],
        "plugins": [WholeFiles()],
        "num_sanity_val_steps": 0,  # what a network cannot take was seen before
        "enable_model_summary": False,
        "enable_progress_bar": False,
    }
    try:
        trainer = lightning.Trainer(**how | further)
    except (ValueError, RuntimeError, TypeError, ImportError) as error:
        asked = f"accelerator={chosen.accelerator}, devices={chosen.devices}, strategy={chosen.strategy}"
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ViceError(f"Lightning cannot train with {asked}, precision={chosen.precision}: {reason}.") from None
    # Something of every epoch, however many devices share it.
    trainer.log_every_n_steps = max(1, min(50, len(sampler) // (chosen.batch_size * trainer.world_size)))  # type: ignore[attr-defined]
    return trainer


def fit(
    trainer: Trainer, module: LightningModule, loaders: tuple[Any, Any], last: Path | None, batch_size: int
) -> None:
    """Train `module`, from the checkpoint `last` on, if there is one.

    Args:
        trainer: see `trainer_of`.
        module: what is trained.
        loaders: of the training and of the validation; None: it is not validated.
        last: see `last_checkpoint`.
        batch_size: for the message.

    Raises:
        ViceError: no memory for a batch.
        KeyboardInterrupt: stopped by hand.
    """
    import torch

    try:
        trainer.fit(module, loaders[0], loaders[1], ckpt_path=None if last is None else str(last))
    except torch.cuda.OutOfMemoryError:
        raise ViceError(
            f"A batch of {batch_size} images does not fit into the accelerator's memory.",
            "Halve it and double the steps that share one: -o trainer.batch_size=..., -o trainer.accumulate=2.",
        ) from None
    except SystemExit:
        if not trainer.interrupted:
            raise
        # Lightning answers Ctrl-C with an exit; the caller is to decide.
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def process_state_kept() -> Iterator[None]:
    """Quiet, and what a training touches given back: chance, environment, signals, torch's switches."""
    import lightning.pytorch  # noqa: F401 (the import sets the level of its loggers, so it comes first)
    import torch

    names = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG")
    environment = {name: os.environ.get(name) for name in names}
    switches = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        with rng_state_kept(), warnings.catch_warnings():
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        torch.use_deterministic_algorithms(switches[0])
        torch.backends.cudnn.benchmark = switches[1]
        if main and handler is not None:
            signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def rng_state_kept() -> Iterator[None]:
    """Python's, numpy's and torch's random states given back, error or not (Lightning's isolate_rng: not after one)."""
    import numpy as np
    import torch

    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (Lightning seeds it)
    # A device that nobody has used yet is not woken up for this.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
