"""Lightning's Trainer as torchvice configures it, and the process state that a training must restore."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torchvice.config import Settings
from torchvice.data.random_state import rng_state_kept
from torchvice.errors import ViceError, as_vice_error, reason_of
from torchvice.models.build import quiet_loggers
from torchvice.training.loggers import loggers_of

if TYPE_CHECKING:
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from rich.console import Console

    from torchvice.training.checkpoints import EpochSampler

__all__ = ["fit", "image_size_error", "loss_of_step", "process_state_kept", "trainer_of"]


def trainer_of(
    settings: Settings, folder: Path, sampler: EpochSampler, console: Console, callbacks: list[Any], **further: Any
) -> Trainer:
    """Build Lightning's Trainer from the settings: with loggers, progress and seeded epochs.

    Args:
        settings: reads `trainer`.
        folder: folder of the logs.
        sampler: sampler of the training images, seeded in every epoch.
        console: where progress is printed.
        callbacks: run before the callbacks that are added here.
        further: arguments of the Trainer that take precedence over the settings.

    Raises:
        ViceError: Lightning refuses the device, the strategy, the precision, or their combination.
    """
    import lightning.pytorch as lightning

    from torchvice.training.checkpoints import AtomicCheckpoints, SeededEpochs
    from torchvice.training.progress import EpochLines

    chosen = settings.trainer
    arguments: dict[str, Any] = {
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
        "logger": _loggers(chosen.loggers, folder, console),
        "callbacks": [*callbacks, EpochLines(console), SeededEpochs(sampler)],  # Lightning runs checkpoints last
        "plugins": [AtomicCheckpoints()],
        "num_sanity_val_steps": 0,  # the network was checked before
        "enable_model_summary": False,
        "enable_progress_bar": False,
    }
    try:
        trainer = lightning.Trainer(**arguments | further)
    except Exception as error:  # Lightning has exceptions of its own
        machine = f"accelerator={chosen.accelerator}, devices={chosen.devices}, strategy={chosen.strategy}"
        reason = reason_of(error, "")
        raise ViceError(f"Lightning cannot train with {machine}, precision={chosen.precision}: {reason}.") from None
    # At least once per epoch, with any number of devices.
    trainer.log_every_n_steps = max(1, min(50, len(sampler) // (chosen.batch_size * trainer.world_size)))  # type: ignore[attr-defined]
    return trainer


def _loggers(names: Literal["auto"] | Sequence[str], folder: Path, console: Console) -> list[Any]:
    """The loggers that are asked for, or the CSV logger and, where TensorBoard is installed, its logger."""
    if names != "auto":
        return loggers_of(names, folder)
    if importlib.util.find_spec("tensorboard"):
        return loggers_of(("csv", "tensorboard"), folder)
    console.print("TensorBoard is not installed: no logs for it. pip install 'torchvice[tensorboard]'", markup=False)
    return loggers_of(("csv",), folder)


def fit(
    trainer: Trainer, module: LightningModule, loaders: tuple[Any, Any], last: Path | None, batch_size: int
) -> None:
    """Train `module`, starting from the checkpoint `last` if there is one.

    Args:
        trainer: see `trainer_of`.
        module: the module to train.
        loaders: training and validation loader; the second may be None.
        last: see `torchvice.training.resuming.locked_folder`.
        batch_size: images per batch, for the message.

    Raises:
        ViceError: a batch does not fit into the memory of the GPU.
        KeyboardInterrupt: stopped with Ctrl-C.
    """
    import torch

    if trainer.world_size == 1:  # Lightning replaces the loaders of several devices
        _start_workers(loaders[1])
    try:
        trainer.fit(module, loaders[0], loaders[1], ckpt_path=None if last is None else str(last))
    except torch.cuda.OutOfMemoryError:
        raise ViceError(
            f"A batch of {batch_size} images does not fit into the accelerator's memory.",
            f"Halve it (-o trainer.batch_size={batch_size // 2 or 1}) and double -o trainer.accumulate.",
        ) from None
    except SystemExit:
        if not trainer.interrupted:
            raise
        # Lightning turns Ctrl-C into an exit; the caller shall decide.
        raise KeyboardInterrupt from None


def _start_workers(loader: Any) -> None:
    """Start the workers of a loader that keeps them, before training makes this process large.

    A process that is forked later shares all its memory, and the next steps would copy each page that they write to.
    """
    if loader is not None and loader.num_workers and loader.persistent_workers:
        with rng_state_kept():
            iter(loader)


def loss_of_step(loss: torch.Tensor, trainer: Trainer, batch_idx: int) -> torch.Tensor:
    """Return the loss of a batch, scaled so that the gradient of every optimiser step is the mean of its batches.

    Lightning divides each loss by `accumulate_grad_batches`, also in the last step of an epoch, which may have fewer.
    """
    batches, accumulate = int(trainer.num_training_batches), trainer.accumulate_grad_batches
    rest = batches % accumulate
    # DeepSpeed accumulates over the end of an epoch, so that its steps are never short.
    if trainer.strategy.handles_gradient_accumulation or batch_idx < batches - rest:
        return loss
    return loss * (accumulate / rest)


def image_size_error(name: str, crop: int, error: Exception, note: str = "") -> ViceError:
    """Turn the error of a network that refuses images of `crop` pixels into one sentence; `note` follows the size."""
    reason = reason_of(error, "")
    return ViceError(
        f"{name} must take images of {crop} x {crop} pixels{note}, but does not: {reason}.",
        "Set transform.crop to the network's size, or set the size of the network: -o model.arguments.img_size=SIZE.",
    )


@contextlib.contextmanager
def process_state_kept() -> Iterator[None]:
    """Silence Lightning, and restore RNG state, environment, signal handler and torch's switches at the end."""
    import lightning.pytorch  # noqa: F401 (first, since the import sets the levels of its loggers)
    import torch

    names = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG")
    environment = {name: os.environ.get(name) for name in names}
    switches = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    hook = threading.excepthook
    threading.excepthook = lambda raised: None if _is_raised_again(raised) else hook(raised)
    try:
        with rng_state_kept(), warnings.catch_warnings(), quiet_loggers("lightning.pytorch", "lightning.fabric"):
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            # More workers than cores are slower, not wrong: `data.workers` may come from a larger machine.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            yield
    finally:
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        torch.use_deterministic_algorithms(switches[0])
        torch.backends.cudnn.benchmark = switches[1]
        threading.excepthook = hook
        if main and handler is not None:
            signal.signal(signal.SIGINT, handler)


def _is_raised_again(raised: Any) -> bool:
    """Whether what a thread raised ends the command with a sentence: TensorBoard's writer raises it to its caller."""
    thread = type(raised.thread).__module__.partition(".")[0]
    return thread == "tensorboard" and as_vice_error(raised.exc_value) is not None
