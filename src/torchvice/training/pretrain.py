"""pretrain: a network learns from the images of a split without their labels, and leaves a file to start from."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.config import Settings
from torchvice.data.check import check_files
from torchvice.errors import ViceError
from torchvice.files import atomic, read_json, sha256, write_json
from torchvice.models.build import build_model, classifier_names
from torchvice.models.pretraining import load_pretrained
from torchvice.models.schemes import OWN
from torchvice.training.recipes import Dino, Mae, SchemeSettings, recipe_of
from torchvice.training.resuming import check_same, further_process, last_checkpoint, state_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from rich.console import Console
    from torch import nn
    from torch.utils.data import DataLoader

    from torchvice.data.unlabelled import UnlabelledImages
    from torchvice.training.checkpoints import EpochSampler

__all__ = ["MANIFEST", "WEIGHTS", "pretrain"]

MANIFEST, WEIGHTS = "pretraining.json", "weights.safetensors"
# What of the settings makes a pre-training; the rest is that of the training that may follow.
READ: dict[str, tuple[str, ...]] = {
    "data": ("root", "train_split", "workers"),
    "model": ("name", "pretrained", "weights", "scheme", "arguments"),
    "transform": ("crop", "flip", "mean", "std"),
    "trainer": ("epochs", "batch_size", "accumulate", "clip", "precision", "accelerator", "devices", "strategy"),
}
# The epochs are not among them: momentum and rate reach their ends in the last one.
RESUMABLE = (
    *("data.root", "data.workers", "model.weights"),
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.precision"),
)


@dataclass(frozen=True)
class _Start:
    """The network that is pre-trained, and what it begins with, for the manifest."""

    network: nn.Module
    recipe: SchemeSettings
    patch: int
    said: dict[str, Any]


def pretrain(
    settings: Settings,
    scheme: str,
    choices: Sequence[str] = (),
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Pre-train the network of the settings on the images of data.train_split; no label and no mask is opened.

    Leaves in the folder weights.safetensors, which model.weights takes; pretraining.json, which says how it was made;
    checkpoints/last.ckpt and logs/. On one machine's CPU the same settings give the same weights, also when it was
    killed and resumed in between.

    Args:
        settings: data, model, seed, the trainer's section but for VICE, and the transform's crop, flip, mean and std
            are read. The optimiser, the schedule and the augmentation are the scheme's own. The network begins with
            model.weights, timm's weights (model.pretrained) or afresh.
        scheme: `byol`, `moco_v3`, `dino` or `mae`.
        choices: see `recipe_of`.
        folder: None: work_dir/session_name-SCHEME.
        resume: go on from last.ckpt, or from the beginning where no epoch was finished.
        progress: a bar and a line for each epoch on standard error.

    Returns:
        The file of the weights.

    Raises:
        ViceError: lightly is not there; a folder that holds a pre-training already (or none, with `resume`); a dataset,
            network, file, batch or machine that does not do; a loss that does not stay finite.
        KeyboardInterrupt: stopped by hand; last.ckpt holds the last finished epoch.
    """
    if importlib.util.find_spec("lightly") is None:
        raise ViceError("Pre-training needs lightly, which is not installed.", "pip install 'torchvice[pretrain]'")
    from rich.console import Console

    from torchvice.training.trainer import fit, process_state_kept

    folder = folder or Path(settings.work_dir) / f"{settings.session_name}-{scheme}"
    console = Console(stderr=True, quiet=not progress or further_process())
    last = last_checkpoint(folder, MANIFEST, "pre-training", resume)
    with process_state_kept():
        import lightning.pytorch as lightning

        # DINO's last layer in lightly, which torch would like to be written otherwise.
        warnings.filterwarnings("ignore", message=".*weight_norm.* is deprecated")
        lightning.seed_everything(settings.seed, workers=True, verbose=False)
        images = _images(settings, console)
        start = _begun(settings, scheme, choices, last is None, console)
        asked = _asked(settings, scheme, start.recipe)
        before: dict[str, Any] = read_json(folder / MANIFEST) if resume else {}
        if resume:
            check_same(before["asked"], asked, RESUMABLE, "pre-training")
        state = state_of(last, console)
        if state and state["epoch"] + 1 >= settings.trainer.epochs:
            console.print(f"All {settings.trainer.epochs} epochs are done already.", highlight=False)
        loader, sampler = _loader(settings, images, start, state["epoch"] + 1 if state else 0)
        trainer = _trainer(settings, folder, sampler, start, console)
        _check_batches(settings, images, scheme, trainer.world_size)
        module = _module(settings, start, trainer.world_size, scheme)
        manifest = {
            "schema": 1,
            "asked": asked,
            "images": len(images),
            "start": start.said if last is None else before["start"],
            "versions": _versions(),
        }
        if trainer.is_global_zero:
            write_json(folder / MANIFEST, manifest | {"finished": state["epoch"] + 1 if state else 0})
        fit(trainer, module, (loader, None), last, settings.trainer.batch_size)
        if trainer.is_global_zero:
            _write(folder, module.taken, start.network, scheme, manifest)
    return folder / WEIGHTS


def _asked(settings: Settings, scheme: str, recipe: SchemeSettings) -> dict[str, Any]:
    """What makes this pre-training what it is, as plain values."""
    content = settings.model_dump(mode="json")
    sections = {section: {name: content[section][name] for name in names} for section, names in READ.items()}
    return {"scheme": scheme, "seed": settings.seed, "recipe": recipe.model_dump(mode="json"), **sections}


def _images(settings: Settings, console: Console) -> UnlabelledImages:
    from torchvice.data.unlabelled import UnlabelledImages

    images = UnlabelledImages(settings.data.root, settings.data.train_split)
    if len(images) < 2:
        raise ViceError(f"Self-supervision compares images, but {settings.data.train_split} has only one.")
    if not further_process():
        check_files(images)
    said = f"{settings.data.train_split}: {len(images)} images, without labels"
    console.print(said, highlight=False, soft_wrap=True, markup=False)
    return images


def _begun(settings: Settings, scheme: str, choices: Sequence[str], starting: bool, console: Console) -> _Start:
    """The network with what it begins with; when resuming, its weights come from the checkpoint alone."""
    import torch
    from timm.models.vision_transformer import VisionTransformer
    from torch import nn

    chosen = settings.model
    with torch.device("meta"):
        sketch = build_model(chosen.name, 1, arguments=chosen.arguments)
    transformer = isinstance(sketch, VisionTransformer)
    batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in sketch.modules())
    recipe = recipe_of(scheme, batch_norm and not transformer, choices)
    # DINO's small views have fewer patches.
    dynamic = {"dynamic_img_size": True} if transformer and isinstance(recipe, Dino) and recipe.local_views else {}
    pretrained = chosen.pretrained and chosen.weights is None and starting
    network = build_model(chosen.name, 1, pretrained=pretrained, arguments={**chosen.arguments, **dynamic})
    said: dict[str, Any] = {"from": "timm's weights" if pretrained else "random weights"}
    if chosen.weights is not None and starting:
        report = load_pretrained(network, chosen.weights, chosen.scheme)
        console.print(str(report), highlight=False, markup=False, soft_wrap=True)
        said = {"from": str(report.path), "scheme": report.scheme, "matched": report.matched}
        said["sha256"] = sha256(report.path)
    elif isinstance(recipe, Mae) and chosen.weights is None and not chosen.pretrained:
        # When resuming too: it also says what is trained.
        _begin_as_mae(network)
    patch = int(sketch.patch_embed.patch_size[0]) if transformer else 1  # type: ignore[index, union-attr]
    return _Start(network, recipe, patch, said)


def _begin_as_mae(network: nn.Module) -> None:
    """Afresh as MAE has it: positions of sines and cosines, and its own spread of the weights."""
    from lightly.models.modules import MaskedVisionTransformerTIMM

    from torchvice.training.selfsupervised import is_plain

    if is_plain(network):  # else it is refused later
        MaskedVisionTransformerTIMM(network)


def _module(settings: Settings, start: _Start, devices: int, scheme: str) -> Any:
    """The LightningModule, once the network has shown that it takes the views and pools its features."""
    import torch

    from torchvice.training.augmentation import small_side
    from torchvice.training.selfsupervised import SCHEMES, pooled

    crop, width, name = settings.transform.crop, 0, settings.model.name
    network = start.network.eval()
    sides = [] if scheme == "mae" else [crop, small_side(start.recipe, crop, start.patch)]
    try:
        with torch.no_grad():
            for side in filter(None, sides):
                width = pooled(network, torch.zeros(1, 3, side, side)).shape[1]
            if scheme == "mae":
                network(torch.zeros(1, 3, crop, crop))
    except ViceError:
        raise
    except Exception as error:  # whatever the network raises
        reason = " ".join(str(error).split())[:200].rstrip(".")
        small = f" (and small views of {sides[1]}: --choice local_views=0 leaves them out)" if sides[1:] > [0] else ""
        raise ViceError(
            f"{name} must take images of {crop} x {crop} pixels{small}, but does not: {reason}.",
            "Set transform.crop to the network's size, or tell the network: -o model.arguments.img_size=SIZE.",
        ) from None
    images = settings.trainer.batch_size * devices * settings.trainer.accumulate
    return SCHEMES[type(start.recipe)](network.train(), start.recipe, images, width)


def _check_batches(settings: Settings, images: UnlabelledImages, scheme: str, devices: int) -> None:
    """Raises where a batch could not be compared in itself, or no batch be had."""
    size, share = settings.trainer.batch_size, len(images) // devices
    if size < 2 and scheme != "mae":
        raise ViceError(
            f"{scheme} compares the images of a batch or normalises by them, but trainer.batch_size is {size}.",
            "Take -o trainer.batch_size=64 or more, or --scheme mae.",
        )
    if share < size:
        each = f", {share} for each of {devices} devices" if devices > 1 else ""
        raise ViceError(
            f"A batch must hold no more images than there are, but trainer.batch_size is {size} and "
            f"{settings.data.train_split} has {len(images)}{each}.",
            f"Take -o trainer.batch_size={max(share, 2)} or less.",
        )


def _loader(
    settings: Settings, images: UnlabelledImages, start: _Start, epoch: int
) -> tuple[DataLoader[Any], EpochSampler]:
    import torch
    from torch.utils.data import DataLoader

    from torchvice.training.augmentation import augmentation
    from torchvice.training.checkpoints import EpochSampler

    images.views = augmentation(start.recipe, settings.transform, start.patch)
    sampler = EpochSampler(len(images), settings.seed, epoch)
    loader: DataLoader[Any] = DataLoader(
        images,
        settings.trainer.batch_size,
        sampler=sampler,
        generator=sampler.generator,
        num_workers=settings.data.workers,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,  # the last one may be too small to be compared in itself
    )
    return loader, sampler


def _trainer(settings: Settings, folder: Path, sampler: EpochSampler, start: _Start, console: Console) -> Trainer:
    import torch

    from torchvice.training.checkpoints import only_last
    from torchvice.training.trainer import trainer_of

    further: dict[str, Any] = {}
    if settings.trainer.clip is None and isinstance(start.recipe, Dino):
        further["gradient_clip_val"] = start.recipe.clip
    # Over all devices, as the papers have it; torch has that for GPUs alone.
    if torch.cuda.is_available() and settings.trainer.accelerator in ("auto", "gpu", "cuda"):
        further["sync_batchnorm"] = True
    return trainer_of(settings, folder, sampler, console, [only_last(folder / "checkpoints")], **further)


def _write(folder: Path, taken: str, network: nn.Module, scheme: str, manifest: dict[str, Any]) -> None:
    """The encoder of the last checkpoint under timm's names, and the manifest that names its hash."""
    from safetensors.torch import save_file

    from torchvice.training.checkpoints import read_checkpoint

    state = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    heads = tuple(f"{name}." for name in classifier_names(network))
    inside = {n.removeprefix(f"{taken}."): v for n, v in state["state_dict"].items() if n.startswith(f"{taken}.")}
    tensors = {n: v.clone().contiguous() for n, v in inside.items() if not (heads and n.startswith(heads))}
    with atomic(folder / WEIGHTS) as part:
        save_file(tensors, part, metadata={"scheme": scheme + OWN})
    written = {"file": WEIGHTS, "tensors": len(tensors), "sha256": sha256(folder / WEIGHTS)}
    write_json(folder / MANIFEST, manifest | {"finished": state["epoch"] + 1, "weights": written})


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torchvice", "torch", "timm", "lightning", "lightly")}
