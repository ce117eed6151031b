"""train: from settings to a run's folder, by Lightning's Trainer."""

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

from torchvice.config import Settings, dump_settings
from torchvice.data.check import check_files
from torchvice.data.voc import VocDataset
from torchvice.errors import ViceError
from torchvice.files import write_text
from torchvice.models.build import build_model, linear_probe
from torchvice.models.pretraining import load_pretrained
from torchvice.runs import Run

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from rich.console import Console
    from torch import nn
    from torch.utils.data import DataLoader

    from torchvice.training.checkpoints import EpochSampler

__all__ = ["same_chance", "train"]

# What may change when a run goes on; all else would make it another run.
RESUMABLE = (
    "work_dir",
    "assess",
    "data.root",
    "data.workers",
    "data.eval_split",
    "data.masks",
    "trainer.epochs",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.num_nodes",
    "trainer.precision",
    "trainer.deterministic",
    "trainer.vice_every_n_epochs",
    "trainer.vice_images",
    "trainer.vice_figures",
)


def train(settings: Settings, resume: bool = False, progress: bool = True) -> Run:
    """Train a network and leave a run's folder: config.yaml, checkpoints/{best,last}.ckpt, logs/.

    The checkpoint `best` has the least loss on data.selection_split. On one machine's CPU the same settings give
    the same weights, also when the training was killed and resumed in between.

    Args:
        settings: all of it; the folder is work_dir/session_name.
        resume: go on from last.ckpt, or from the beginning where no epoch was finished. trainer.epochs and the
            machine's settings may have changed, nothing else.
        progress: a bar and a line for each epoch on standard error.

    Raises:
        ViceError: a folder that holds a run already (or none, with `resume`), a dataset, network, file or machine
            that is not as the settings say, a loss that does not stay finite.
        KeyboardInterrupt: stopped by hand; last.ckpt holds the last finished epoch.
    """
    from rich.console import Console

    console = Console(stderr=True, quiet=not progress or _further_process())
    last = _place(settings, resume)
    with _borrowed():
        import lightning.pytorch as lightning

        lightning.seed_everything(settings.seed, workers=True, verbose=False)
        training, selection = _datasets(settings, console)
        settings = _with_classes(settings, training.classes)
        if resume:
            _check_same(settings)
        model = _network(settings, len(training.classes), last is None, console)
        from torchvice.training.regularising import regularising, stopped_early

        state = _state(last, console)
        if state and state["epoch"] + 1 >= settings.trainer.epochs:
            console.print(f"All {settings.trainer.epochs} epochs are done already.", highlight=False)
        loaders, sampler = _loaders(settings, training, selection, state["epoch"] + 1 if state else 0)
        callbacks = [*_looking(settings, selection), *regularising(settings.regularisation)]
        trainer = _trainer(settings, sampler, len(loaders[0]), console, callbacks)
        if trainer.is_global_zero:
            write_text(settings.folder / "config.yaml", dump_settings(settings))
        if state and stopped_early(state, settings.regularisation):
            console.print(f"Stopped early after epoch {state['epoch'] + 1}: it is done.", highlight=False)
        else:
            _fit(trainer, model, settings, loaders, last)
    return Run(settings.folder)


def _place(settings: Settings, resume: bool) -> Path | None:
    """The checkpoint to go on from, if any."""
    folder = settings.folder
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    if resume and not (folder / "config.yaml").is_file():
        raise ViceError(f"To resume, {folder} must hold a run, but it does not.", "Leave out --resume to begin it.")
    # A process that Lightning starts for a further device comes here after the first one has begun to write.
    if not resume and any(checkpoints.glob("*.ckpt")) and not _further_process():
        raise ViceError(
            f"{folder} must be free for a new run, but holds one already.",
            "Go on with it (--resume), or choose another name: -o session_name=NAME.",
        )
    if resume and not _further_process():
        for part in checkpoints.glob(".*.part.ckpt"):  # what a kill left in the middle of writing
            part.unlink(missing_ok=True)
    return last if resume and last.is_file() else None


def _further_process() -> bool:
    return any(os.environ.get(name, "0") != "0" for name in ("LOCAL_RANK", "SLURM_PROCID", "RANK"))


def _datasets(settings: Settings, console: Console) -> tuple[VocDataset, VocDataset]:
    data = settings.data

    def split(name: str, classes: tuple[str, ...] | None) -> VocDataset:
        how: dict[str, Any] = {"labels": data.labels, "masks": data.masks, "exclusive": data.exclusive}
        dataset = VocDataset(data.root, name, classes=classes, **how)
        said = f"{name}: {len(dataset)} images, {len(dataset.classes)} classes, labels from {dataset.label_source}"
        console.print(said, highlight=False, soft_wrap=True, markup=False)
        return dataset

    training = split(data.train_split, data.classes)
    _check_loss(settings, len(training.classes))
    selection = split(data.selection_split, training.classes)
    if not _further_process():
        check_files(training)
        check_files(selection)
    return training, selection


def _check_loss(settings: Settings, num_classes: int) -> None:
    """Raises where classes that are no alternatives would be made to compete."""
    if settings.training_loss == "cross_entropy" and not settings.data.exclusive:
        raise ViceError(
            "The cross-entropy needs one label an image, but `data.exclusive` is false.",
            "Say that the classes are alternatives (-o data.exclusive=true), or take -o loss=multilabel.",
        )
    if settings.training_loss == "cross_entropy" and num_classes < 2:
        raise ViceError(f"The cross-entropy needs two classes or more, but there is {num_classes}.")


def _with_classes(settings: Settings, classes: tuple[str, ...]) -> Settings:
    """The run remembers its classes, so that it can look at another dataset with the same ones."""
    return settings.model_copy(update={"data": settings.data.model_copy(update={"classes": tuple(classes)})})


def _check_same(settings: Settings) -> None:
    """Raises where a resumed run would become another one."""
    before = Run(settings.folder).settings
    old, new = before.model_dump(mode="json"), settings.model_dump(mode="json")
    if before.data.classes is None:
        old["data"]["classes"] = new["data"]["classes"]
    flat = [(name, old[name], new[name]) for name in old if not isinstance(old[name], dict)]
    flat += [
        (f"{top}.{name}", old[top][name], new[top][name])
        for top in old
        if isinstance(old[top], dict)
        for name in old[top]
    ]
    free = RESUMABLE if new["schedule"]["name"] != "one_cycle" else tuple(n for n in RESUMABLE if n != "trainer.epochs")
    for path, was, now in flat:
        if was != now and path not in free and path.partition(".")[0] not in free:
            raise ViceError(
                f"A run goes on with the settings that it was begun with, but `{path}` was {was!r} and is {now!r}.",
                "Give it as it was, or begin another run: -o session_name=NAME.",
            )


def _network(settings: Settings, num_classes: int, starting: bool, console: Console) -> nn.Module:
    """The network to be trained. When resuming, its weights come from the checkpoint alone."""
    from torchvice.training.regularising import dropping

    chosen = settings.model
    pretrained = chosen.pretrained and chosen.weights is None and starting
    model = build_model(
        chosen.name, num_classes, pretrained=pretrained, arguments={**chosen.arguments, **dropping(settings)}
    )
    if chosen.weights is not None and starting:
        report = load_pretrained(model, chosen.weights, chosen.scheme)
        console.print(str(report), highlight=False, markup=False, soft_wrap=True)
    _check_forward(model, settings.transform.crop, num_classes, chosen.name)
    return linear_probe(model) if chosen.linear_probe else model


def _check_forward(model: nn.Module, crop: int, num_classes: int, name: str) -> None:
    """A network that does not take the images fails here, with a sentence, and not in the first batch."""
    import torch

    model.eval()
    try:
        with torch.no_grad():
            shape = tuple(model(torch.zeros(1, 3, crop, crop)).shape)
    except Exception as error:  # whatever the network raises
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ViceError(
            f"{name} must take images of {crop} x {crop} pixels, but does not: {reason}.",
            "Set transform.crop to the network's size, or tell the network: -o model.arguments.img_size=SIZE.",
        ) from None
    if shape != (1, num_classes):
        raise ViceError(f"{name} must give ({num_classes},) logits for an image, but gives {shape[1:]}.")
    model.train()


def _state(last: Path | None, console: Console) -> dict[str, Any] | None:
    from torchvice.training.checkpoints import read_checkpoint

    if last is None:
        return None
    state = read_checkpoint(last)
    console.print(f"Going on after epoch {state['epoch'] + 1}: {last}", highlight=False, markup=False, soft_wrap=True)
    return state


def _loaders(
    settings: Settings, training: VocDataset, selection: VocDataset, epoch: int
) -> tuple[tuple[DataLoader[Any], DataLoader[Any]], EpochSampler]:
    import torch
    from torch.utils.data import DataLoader

    from torchvice.data.transforms import LabelledImages, TrainTransform, ValidationTransform
    from torchvice.training.checkpoints import EpochSampler

    look, size, workers = settings.transform, settings.trainer.batch_size, settings.data.workers
    shared: dict[str, Any] = {"mean": look.mean, "std": look.std, "view": look.view}
    harder: dict[str, Any] = {
        "randaugment": settings.regularisation.randaugment,
        "erase": settings.regularisation.erase,
    }
    augment = TrainTransform(look.crop, resize=look.resize, flip=look.flip, jitter=look.jitter, **harder, **shared)
    sampler = EpochSampler(len(training), settings.seed, epoch)
    common: dict[str, Any] = {
        "batch_size": size,
        "num_workers": workers,
        "pin_memory": torch.cuda.is_available(),
    }
    # The training's workers are made anew for every epoch, and with them their chance: a resume would else differ.
    # BatchNorm cannot learn from a batch of one.
    lonely = len(training) > size and len(training) % size == 1
    learn: DataLoader[Any] = DataLoader(
        LabelledImages(training, augment), sampler=sampler, generator=sampler.generator, drop_last=lonely, **common
    )
    view = ValidationTransform(look.crop, **shared)
    choose: DataLoader[Any] = DataLoader(LabelledImages(selection, view), persistent_workers=workers > 0, **common)
    return (learn, choose), sampler


def _looking(settings: Settings, selection: VocDataset) -> list[Any]:
    """The callback that measures VICE as the training goes on, if it is asked for."""
    chosen, look = settings.trainer, settings.transform
    if not chosen.vice_every_n_epochs:
        return []
    from torchvice.training.callback import ViceCallback

    return [
        ViceCallback(
            selection,
            every_n_epochs=chosen.vice_every_n_epochs,
            images=chosen.vice_images,
            figures=chosen.vice_figures,
            seed=settings.seed,
            view_size=settings.assess.view_size,
            crop=look.crop,
            mean=look.mean,
            std=look.std,
            batch_size=settings.assess.batch_size,
        )
    ]


def _trainer(
    settings: Settings, sampler: EpochSampler, batches: int, console: Console, callbacks: list[Any]
) -> Trainer:
    import lightning.pytorch as lightning
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    from torchvice.training.checkpoints import SeededEpochs, WholeFiles, best_and_last
    from torchvice.training.progress import EpochLines

    chosen, folder = settings.trainer, settings.folder
    table = CSVLogger(folder, name="logs")
    loggers: list[Any] = [table]
    if importlib.util.find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="logs", version=table.version, default_hp_metric=False))
    else:
        console.print("No TensorBoard logs: pip install 'torchvice[tensorboard]' brings them.", markup=False)
    try:
        return lightning.Trainer(
            max_epochs=chosen.epochs,
            accelerator=chosen.accelerator,
            devices=list(chosen.devices) if isinstance(chosen.devices, tuple) else chosen.devices,
            strategy=chosen.strategy,
            num_nodes=chosen.num_nodes,
            precision=chosen.precision,
            accumulate_grad_batches=chosen.accumulate,
            gradient_clip_val=chosen.clip,
            deterministic=chosen.deterministic,
            benchmark=False,
            default_root_dir=folder,
            logger=loggers,
            callbacks=[*callbacks, EpochLines(console), SeededEpochs(sampler), *best_and_last(folder / "checkpoints")],
            plugins=[WholeFiles()],
            num_sanity_val_steps=0,  # _check_forward has looked already
            log_every_n_steps=min(50, batches),
            enable_model_summary=False,
            enable_progress_bar=False,
        )
    except (ValueError, RuntimeError, TypeError, ImportError) as error:
        asked = f"accelerator={chosen.accelerator}, devices={chosen.devices}, strategy={chosen.strategy}"
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ViceError(f"Lightning cannot train with {asked}, precision={chosen.precision}: {reason}.") from None


def _fit(trainer: Trainer, model: nn.Module, settings: Settings, loaders: tuple[Any, Any], last: Path | None) -> None:
    import torch

    from torchvice.training.module import Classifier

    module = Classifier(model, settings, settings.data.classes or ())
    try:
        trainer.fit(module, *loaders, ckpt_path=None if last is None else str(last))
    except torch.cuda.OutOfMemoryError:
        raise ViceError(
            f"A batch of {settings.trainer.batch_size} images does not fit into the accelerator's memory.",
            "Halve it and double the steps that share one: -o trainer.batch_size=..., -o trainer.accumulate=2.",
        ) from None
    except SystemExit:
        if not trainer.interrupted:
            raise
        # Lightning answers Ctrl-C with an exit; the caller is to decide.
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def _borrowed() -> Iterator[None]:
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
        with same_chance(), warnings.catch_warnings():
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
def same_chance() -> Iterator[None]:
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
