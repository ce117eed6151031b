"""Supervised training: from settings to a run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchvice.config import Settings, dump_settings
from torchvice.data.check import check_files
from torchvice.data.layout import split_of_setting
from torchvice.data.open import open_dataset
from torchvice.data.pixels import FIRST, almost_black
from torchvice.errors import ViceError
from torchvice.files import write_text
from torchvice.models.build import build_model, linear_probe
from torchvice.models.pretraining import load_pretrained
from torchvice.runs import Run
from torchvice.training.network_input import OPEN, described_input, expected_input, with_input
from torchvice.training.resuming import (
    check_same,
    check_settings,
    check_steps,
    is_rank_zero,
    load_state,
    locked_folder,
    start_of,
)
from torchvice.training.schedule import OF_WHOLE_TRAINING

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from torch import nn

    from torchvice.data import FolderDataset
    from torchvice.models.pretraining import Pretrained

__all__ = ["train"]

# Settings that may differ when a run resumes; any other would make it a different run.
RESUMABLE = (
    *("work_dir", "assess", "data.root", "data.workers", "data.eval_split", "data.masks", "trainer.epochs"),
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.num_nodes", "trainer.precision"),
    *("trainer.deterministic", "trainer.vice_every_n_epochs", "trainer.vice_images", "trainer.vice_figures"),
    "trainer.loggers",
)


def train(settings: Settings, resume: bool = False, progress: bool = True) -> Run:
    """Train a network and write a run's folder: config.yaml, checkpoints/{best,last}.ckpt, logs/.

    best.ckpt has the least loss on data.selection_split. On the CPU of one machine the same settings give the same
    weights, even if the training was killed and resumed in between.

    Args:
        settings: all settings; the folder is work_dir/session_name.
        resume: resume from last.ckpt, or start again if no epoch was finished. Only the settings of the machine may
            differ, its number of devices with the schedule constant, and trainer.epochs with constant and paper.
        progress: show a bar and one line per epoch on standard error.

    Raises:
        ViceError: the folder already holds a run (or none, with `resume`), or another process trains in it;
            data, network, weights or devices are not as the settings say; the loss or the weights are not finite.
        KeyboardInterrupt: stopped with Ctrl-C; last.ckpt holds the last finished epoch.
    """
    from rich.console import Console

    from torchvice.training.trainer import process_state_kept

    check_settings(settings)
    console = Console(stderr=True, quiet=not progress or not is_rank_zero())
    last = start_of(settings.folder, "config.yaml", "run", resume)
    with process_state_kept():
        import lightning.pytorch as lightning

        lightning.seed_everything(settings.seed, workers=True, verbose=False)
        training, selection = _datasets(settings, console)
        settings = _with_classes(settings, training.classes)
        from_masks = any(split.label_source.startswith("masks") for split in (training, selection))
        if resume:
            settings = _as_started(settings)
            _check_same(settings, from_masks)
        model, settings = _network(settings, len(training.classes), last is None, console)
        with locked_folder(settings.folder, "config.yaml", "run", resume) as last:
            if resume:  # another process may have trained here meanwhile
                _check_same(settings, from_masks)
            _train(settings, model, (training, selection), last, console)
    return Run(settings.folder)


def _train(
    settings: Settings,
    model: nn.Module,
    datasets: tuple[FolderDataset, FolderDataset],
    last: Path | None,
    console: Console,
) -> None:
    """Train the network from the checkpoint `last`, if any; a run that stopped early is complete."""
    from torchvice.training.checkpoints import EpochSampler, best_and_last, check_best
    from torchvice.training.loaders import loaders_of
    from torchvice.training.module import Classifier, start_again
    from torchvice.training.regularising import regularisation_callbacks, stopped_early
    from torchvice.training.trainer import fit, trainer_of

    training, selection = datasets
    state = load_state(last, settings.trainer.epochs, console)
    sampler = EpochSampler(len(training), settings.seed, state["epoch"] + 1 if state else 0)
    callbacks = [*_vice_callbacks(settings, selection), *regularisation_callbacks(settings.regularisation)]
    callbacks += best_and_last(settings.folder / "checkpoints")
    trainer = trainer_of(settings, settings.folder, sampler, console, callbacks)
    loaders = loaders_of(settings, training, selection, sampler, trainer.world_size)
    if state and settings.schedule.name != "constant":
        check_steps(state, loaders[0], trainer.world_size, settings.trainer.accumulate, "run")
    if trainer.is_global_zero:
        write_text(settings.folder / "config.yaml", dump_settings(settings))
    if state and stopped_early(state, settings.regularisation):
        console.print(f"The training is complete: it stopped early after epoch {state['epoch'] + 1}.", highlight=False)
    else:
        module = Classifier(model, settings, settings.data.classes or ())
        fit(trainer, module, loaders, last, settings.trainer.batch_size)
    best = settings.folder / "checkpoints" / "best.ckpt"
    if trainer.is_global_zero and best.is_file():
        check_best(best, dict(model.named_buffers()), start_again(settings))


def _datasets(settings: Settings, console: Console) -> tuple[FolderDataset, FolderDataset]:
    """Open, print and check the training split and the selection split."""
    from torchvice.training.regularising import check_repair

    data = settings.data

    def split(setting: str, classes: tuple[str, ...] | None, silent: bool = False) -> FolderDataset:
        name = getattr(data, setting)
        with split_of_setting(f"data.{setting}"):
            dataset = open_dataset(
                data.root, name, classes=classes, labels=data.labels, masks=data.masks, exclusive=data.exclusive
            )
        if silent:
            return dataset
        summary = f"{name}: {len(dataset)} images, {len(dataset.classes)} classes, labels from {dataset.label_source}"
        console.print(summary, highlight=False, soft_wrap=True, markup=False)
        return dataset

    training = split("train_split", data.classes)
    _check_loss(settings, len(training.classes))
    if note := check_repair(settings, training):
        console.print(note, highlight=False, soft_wrap=True, markup=False)
    selection = split("selection_split", training.classes)
    opened = {data.train_split: training, data.selection_split: selection}
    if data.eval_split not in opened:  # a wrong name is an error before the training, not after it
        opened[data.eval_split] = split("eval_split", training.classes, silent=True)
    uses = {data.selection_split: "which choose the checkpoint", data.eval_split: "on which the network is measured"}
    for name, use in uses.items():
        if note := _shared(training, opened[name], f"`{name}`, {use},"):
            console.print(note, highlight=False, soft_wrap=True, markup=False)
    if is_rank_zero():
        check_files(training)
        check_files(selection)
        if black := almost_black([training.image(index) for index in range(min(FIRST, len(training)))]):
            console.print(black, highlight=False, soft_wrap=True, markup=False)
    return training, selection


def _shared(training: FolderDataset, other: FolderDataset, what: str) -> str:
    """A sentence on images of another split that are trained on as well; "" without any."""
    trained = {record.image for record in training.records}
    shared = sum(record.image in trained for record in other.records)
    if not shared:
        return ""
    return f"Mind: {shared} of {len(other)} images of {what} are among those that it is trained on."


def _check_loss(settings: Settings, num_classes: int) -> None:
    """Check that the cross-entropy has exclusive classes, two or more."""
    if settings.training_loss == "cross_entropy" and not settings.data.exclusive:
        raise ViceError(
            "The cross-entropy needs one label per image, but `data.exclusive` is false.",
            "If the classes exclude each other: -o data.exclusive=true; otherwise: -o loss=multilabel.",
        )
    if settings.training_loss == "cross_entropy" and num_classes < 2:
        raise ViceError(f"The cross-entropy needs at least 2 classes, but the data has {num_classes}.")


def _with_classes(settings: Settings, classes: tuple[str, ...]) -> Settings:
    """Store the classes in the settings, so that the run can be assessed on another dataset with the same classes."""
    return settings.model_copy(update={"data": settings.data.model_copy(update={"classes": tuple(classes)})})


def _as_started(settings: Settings) -> Settings:
    """The settings with the input that the run started with, where they leave it open."""
    held = Run(settings.folder).settings.transform
    found = {name: getattr(held, name) for name in OPEN if getattr(settings.transform, name) is None}
    return settings.model_copy(update={"transform": settings.transform.model_copy(update=found)})


def _check_same(settings: Settings, from_masks: bool) -> None:
    """Check that the run resumes with the settings of its config.yaml, but for those in RESUMABLE.

    `from_masks`: whether the class labels are those of the masks.
    """
    from torchvice.training.regularising import repairs

    before = Run(settings.folder).settings
    old, new = before.model_dump(mode="json"), settings.model_dump(mode="json")
    if before.data.classes is None:
        old["data"]["classes"] = new["data"]["classes"]
    fixed = {}
    if (schedule := settings.schedule.name) in OF_WHOLE_TRAINING:
        fixed["trainer.epochs"] = f"the rates of {schedule} depend on it from the first epoch on"
    if from_masks:
        fixed["data.masks"] = "the class labels are those of the masks"
    elif repairs(settings.regularisation):
        fixed["data.masks"] = "images are repaired by their masks"
    check_same(old, new, RESUMABLE, "run", fixed)


def _network(settings: Settings, num_classes: int, starting: bool, console: Console) -> tuple[nn.Module, Settings]:
    """Build the network, and complete the settings by the input that its weights expect.

    When resuming, its weights come from the checkpoint only.
    """
    from torchvice.training.regularising import dropout_arguments

    chosen = settings.model
    pretrained = chosen.pretrained and chosen.weights is None and starting
    model = build_model(
        chosen.name, num_classes, pretrained=pretrained, arguments={**chosen.arguments, **dropout_arguments(settings)}
    )
    report = None
    if chosen.weights is not None and starting:
        report = load_pretrained(model, chosen.weights, chosen.scheme)
        console.print(str(report), highlight=False, markup=False, soft_wrap=True)
    settings = _with_expected_input(settings, model, report, console)
    _check_forward(model, settings.transform.side, num_classes, chosen.name)
    return linear_probe(model) if chosen.linear_probe else model, settings


def _with_expected_input(settings: Settings, model: nn.Module, loaded: Pretrained | None, console: Console) -> Settings:
    """The settings with the input that the weights expect where they leave it open, and a line about it."""
    expected = expected_input(model, loaded)
    complete = with_input(settings, expected)
    if said := described_input(settings, complete, expected, loaded):
        console.print(said, highlight=False, soft_wrap=True, markup=False)
    return complete


def _check_forward(model: nn.Module, crop: int, num_classes: int, name: str) -> None:
    """Check with one black image that the network takes the images and returns a logit per class."""
    import torch

    from torchvice.training.trainer import image_size_error

    model.eval()
    try:
        with torch.no_grad():
            shape = tuple(model(torch.zeros(1, 3, crop, crop)).shape)
    except Exception as error:  # whatever the network raises
        raise image_size_error(name, crop, error) from None
    if shape != (1, num_classes):
        raise ViceError(f"{name} must return ({num_classes},) logits for an image, but returns {shape[1:]}.")
    model.train()


def _vice_callbacks(settings: Settings, selection: FolderDataset) -> list[Any]:
    """Build the callback that measures VICE during training, if trainer.vice_every_n_epochs is set."""
    chosen, transform = settings.trainer, settings.transform
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
            crop=transform.crop,
            mean=transform.mean,
            std=transform.std,
            interpolation=transform.interpolation,
            batch_size=settings.assess.batch_size,
            outputs="logits",  # the loss takes them as such; few or early ones may all lie in [0, 1]
        )
    ]
