"""train: from settings to a run's folder, by Lightning's Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchvice.config import Settings, dump_settings
from torchvice.data.check import check_files
from torchvice.data.open import open_dataset
from torchvice.errors import ViceError
from torchvice.files import write_text
from torchvice.models.build import build_model, linear_probe
from torchvice.models.pretraining import load_pretrained
from torchvice.runs import Run
from torchvice.training.resuming import check_same, further_process, last_checkpoint, state_of

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn
    from torch.utils.data import DataLoader

    from torchvice.data import FolderDataset
    from torchvice.training.checkpoints import EpochSampler

__all__ = ["train"]

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

    from torchvice.training.trainer import fit, process_state_kept, trainer_of

    console = Console(stderr=True, quiet=not progress or further_process())
    last = last_checkpoint(settings.folder, "config.yaml", "run", resume)
    with process_state_kept():
        import lightning.pytorch as lightning

        lightning.seed_everything(settings.seed, workers=True, verbose=False)
        training, selection = _datasets(settings, console)
        settings = _with_classes(settings, training.classes)
        if resume:
            _check_same(settings)
        model = _network(settings, len(training.classes), last is None, console)
        from torchvice.training.checkpoints import EpochSampler, best_and_last
        from torchvice.training.module import Classifier
        from torchvice.training.regularising import regularising, stopped_early

        state = state_of(last, console)
        if state and state["epoch"] + 1 >= settings.trainer.epochs:
            console.print(f"All {settings.trainer.epochs} epochs are done already.", highlight=False)
        sampler = EpochSampler(len(training), settings.seed, state["epoch"] + 1 if state else 0)
        callbacks = [*_looking(settings, selection), *regularising(settings.regularisation)]
        callbacks += best_and_last(settings.folder / "checkpoints")
        trainer = trainer_of(settings, settings.folder, sampler, console, callbacks)
        loaders = _loaders(settings, training, selection, sampler, trainer.world_size)
        if trainer.is_global_zero:
            write_text(settings.folder / "config.yaml", dump_settings(settings))
        if state and stopped_early(state, settings.regularisation):
            console.print(f"Stopped early after epoch {state['epoch'] + 1}: it is done.", highlight=False)
        else:
            module = Classifier(model, settings, settings.data.classes or ())
            fit(trainer, module, loaders, last, settings.trainer.batch_size)
    return Run(settings.folder)


def _datasets(settings: Settings, console: Console) -> tuple[FolderDataset, FolderDataset]:
    data = settings.data

    def split(name: str, classes: tuple[str, ...] | None) -> FolderDataset:
        how: dict[str, Any] = {"labels": data.labels, "masks": data.masks, "exclusive": data.exclusive}
        dataset = open_dataset(data.root, name, classes=classes, **how)
        said = f"{name}: {len(dataset)} images, {len(dataset.classes)} classes, labels from {dataset.label_source}"
        console.print(said, highlight=False, soft_wrap=True, markup=False)
        return dataset

    training = split(data.train_split, data.classes)
    _check_loss(settings, len(training.classes))
    selection = split(data.selection_split, training.classes)
    if not further_process():
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
    free = RESUMABLE if new["schedule"]["name"] != "one_cycle" else tuple(n for n in RESUMABLE if n != "trainer.epochs")
    check_same(old, new, free, "run")


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


def _loaders(
    settings: Settings, training: FolderDataset, selection: FolderDataset, sampler: EpochSampler, devices: int
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    import torch
    from torch.utils.data import DataLoader

    from torchvice.data.transforms import LabelledImages, TrainTransform, ValidationTransform

    look, size, workers = settings.transform, settings.trainer.batch_size, settings.data.workers
    shared: dict[str, Any] = {"mean": look.mean, "std": look.std, "view": look.view}
    harder: dict[str, Any] = {
        "randaugment": settings.regularisation.randaugment,
        "erase": settings.regularisation.erase,
    }
    augment = TrainTransform(look.crop, resize=look.resize, flip=look.flip, jitter=look.jitter, **harder, **shared)
    common: dict[str, Any] = {
        "batch_size": size,
        "num_workers": workers,
        "pin_memory": torch.cuda.is_available(),
    }
    # The training's workers are made anew for every epoch, and with them their chance: a resume would else differ.
    # BatchNorm cannot learn from a batch of one. Each device has its share of the images, rounded up.
    share = -(-len(training) // devices)
    lonely = share > size and share % size == 1
    learn: DataLoader[Any] = DataLoader(
        LabelledImages(training, augment), sampler=sampler, generator=sampler.generator, drop_last=lonely, **common
    )
    view = ValidationTransform(look.crop, **shared)
    choose: DataLoader[Any] = DataLoader(LabelledImages(selection, view), persistent_workers=workers > 0, **common)
    return learn, choose


def _looking(settings: Settings, selection: FolderDataset) -> list[Any]:
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
