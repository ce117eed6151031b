"""Self-supervised pre-training on the images of a split, without labels; the weights are a start for `vice train`."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torchvice
from torchvice.config import Settings
from torchvice.config.sections import TransformSettings
from torchvice.data.check import check_files
from torchvice.data.layout import split_of_setting
from torchvice.errors import ViceError
from torchvice.files import read_json, sha256, write_json
from torchvice.models.build import build_model, classifier_names
from torchvice.models.encoder_files import MANIFEST, Normalisation, save_encoder
from torchvice.models.pretraining import Pretrained, load_pretrained
from torchvice.models.schemes import WRITTEN_HERE
from torchvice.training.network_input import described_input, expected_input, with_input
from torchvice.training.recipes import Dino, Mae, SchemeSettings, recipe_of
from torchvice.training.resuming import (
    check_same,
    check_settings,
    check_steps,
    is_rank_zero,
    load_state,
    locked_folder,
    start_of,
)

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from rich.console import Console
    from torch import nn
    from torch.utils.data import DataLoader

    from torchvice.data.unlabelled import UnlabelledImages
    from torchvice.training.checkpoints import EpochSampler

__all__ = ["MANIFEST", "WEIGHTS", "default_folder", "pretrain"]

WEIGHTS = "weights.safetensors"
# The settings that pre-training reads; the others belong to supervised training.
READ: dict[str, tuple[str, ...]] = {
    "data": ("root", "train_split", "workers"),
    "model": ("name", "pretrained", "weights", "scheme", "arguments"),
    "transform": ("crop", "flip", "mean", "std"),
    "trainer": ("epochs", "batch_size", "accumulate", "clip", "precision", "accelerator", "devices", "strategy"),
}
# Settings that may differ on resume. Not the epochs: momentum and learning rate reach their final values in the last.
RESUMABLE = (
    *("data.root", "data.workers", "model.weights"),
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.precision"),
)


@dataclass(frozen=True)
class _Start:
    """The network before pre-training: its scheme, its patch size in pixels, and its origin for the manifest.

    `loaded`: the report of the file that it starts from, if any.
    """

    network: nn.Module
    scheme: str
    recipe: SchemeSettings
    patch: int
    origin: dict[str, Any]
    loaded: Pretrained | None = None


def default_folder(settings: Settings, scheme: str) -> Path:
    """Return the folder of a pre-training that is given none: work_dir/session_name-SCHEME."""
    return Path(settings.work_dir) / f"{settings.session_name}-{scheme}"


def pretrain(
    settings: Settings,
    scheme: str,
    choices: Sequence[str] = (),
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Pre-train the network on the images of data.train_split; no label and no mask is opened.

    Writes weights.safetensors (for model.weights), pretraining.json (how it was made), checkpoints/ and logs/. On the
    CPU of one machine the same settings give the same weights, even if killed and resumed.

    Args:
        settings: reads seed and what READ lists; optimiser, schedule and augmentation come from the scheme.
        scheme: `byol`, `moco_v3`, `dino` or `mae`.
        choices: overrides of the scheme's numbers, see `recipe_of`.
        folder: None: work_dir/session_name-SCHEME.
        resume: resume from last.ckpt, or start again if no epoch was finished.
        progress: show a bar and one line per epoch on standard error.

    Returns:
        Path of weights.safetensors.

    Raises:
        ViceError: lightly is missing; the folder already holds a pre-training (or none, with `resume`) or is in use by
            another process; data, network, batch size or devices are wrong; the loss is not finite.
        KeyboardInterrupt: stopped with Ctrl-C; last.ckpt holds the last finished epoch.
    """
    if importlib.util.find_spec("lightly") is None:
        raise ViceError("Pre-training needs lightly, which is not installed.", "pip install 'torchvice[pretrain]'")
    from rich.console import Console

    from torchvice.training.trainer import process_state_kept

    check_settings(settings)
    folder = folder or default_folder(settings, scheme)
    console = Console(stderr=True, quiet=not progress or not is_rank_zero())
    last = start_of(folder, MANIFEST, "pre-training", resume)
    with process_state_kept():
        import lightning.pytorch as lightning

        # lightly's DINO head uses what torch has deprecated.
        warnings.filterwarnings("ignore", message=".*weight_norm.* is deprecated")
        lightning.seed_everything(settings.seed, workers=True, verbose=False)
        images = _images(settings, console)
        start = _start(settings, scheme, choices, last is None, console)
        with locked_folder(folder, MANIFEST, "pre-training", resume) as last:
            _train(settings, folder, images, start, last, resume, console)
    return folder / WEIGHTS


def _train(
    settings: Settings,
    folder: Path,
    images: UnlabelledImages,
    start: _Start,
    last: Path | None,
    resume: bool,
    console: Console,
) -> None:
    """Train from the checkpoint `last`, if any, and write manifest and weights; `resume`: as its manifest says."""
    from torchvice.training.trainer import fit

    before = read_json(folder / MANIFEST) if resume else None
    settings = _with_expected_input(settings, start, before, console)
    manifest: dict[str, Any] = {"schema": 1, "asked": _identity(settings, start), "images": len(images)}
    if before is not None:
        check_same(before["asked"], manifest["asked"], RESUMABLE, "pre-training")
    versions = {name: version(name) for name in ("torch", "timm", "lightning", "lightly")}
    versions = {"torchvice": torchvice.__version__, **versions}
    manifest |= {"start": before["start"] if before and last else start.origin, "versions": versions}
    state = load_state(last, settings.trainer.epochs, console)
    finished = state["epoch"] + 1 if state else 0
    loader, sampler = _loader(settings, images, start, finished)
    trainer = _trainer(settings, folder, sampler, start, console)
    _check_batches(settings, images, start.scheme, trainer.world_size)
    if state:
        check_steps(state, loader, trainer.world_size, settings.trainer.accumulate, "pre-training")
    module = _module(settings, start, trainer.world_size)
    if trainer.is_global_zero:
        write_json(folder / MANIFEST, manifest | {"finished": finished})
    fit(trainer, module, (loader, None), last, settings.trainer.batch_size)
    if trainer.is_global_zero:
        _write(folder, module.result, start, manifest, settings.transform)


def _with_expected_input(
    settings: Settings, start: _Start, before: dict[str, Any] | None, console: Console
) -> Settings:
    """The settings with the input that the weights expect or, on resume, that it began with, where it is left open."""
    expected = expected_input(start.network, start.loaded)
    if before is not None:
        held = TransformSettings.model_validate(before["asked"]["transform"])
        expected = replace(expected, mean=held.mean or expected.mean, std=held.std or expected.std)
        expected = replace(expected, size=(held.side, held.side))
    complete = with_input(settings, expected)
    if said := described_input(settings, complete, expected, start.loaded):
        console.print(said, highlight=False, soft_wrap=True, markup=False)
    return complete


def _identity(settings: Settings, start: _Start) -> dict[str, Any]:
    """Collect the settings that define this pre-training, as plain values."""
    content = settings.model_dump(mode="json")
    sections = {section: {name: content[section][name] for name in names} for section, names in READ.items()}
    recipe = start.recipe.model_dump(mode="json")
    return {"scheme": start.scheme, "seed": settings.seed, "recipe": recipe, **sections}


def _images(settings: Settings, console: Console) -> UnlabelledImages:
    """Open, check and print the images of the training split."""
    from torchvice.data.unlabelled import UnlabelledImages

    with split_of_setting("data.train_split"):
        images = UnlabelledImages(settings.data.root, settings.data.train_split)
    if len(images) < 2:
        raise ViceError(f"Pre-training needs at least 2 images, but {settings.data.train_split} has {len(images)}.")
    if is_rank_zero():
        check_files(images)
    summary = f"{settings.data.train_split}: {len(images)} images, without labels"
    console.print(summary, highlight=False, soft_wrap=True, markup=False)
    return images


def _start(settings: Settings, scheme: str, choices: Sequence[str], starting: bool, console: Console) -> _Start:
    """Build the network to pre-train. When resuming, its weights come from the checkpoint only."""
    import torch
    from timm.models.vision_transformer import VisionTransformer
    from torch import nn

    chosen = settings.model
    with torch.device("meta"):
        outline = build_model(chosen.name, 1, arguments=chosen.arguments)
    transformer = isinstance(outline, VisionTransformer)
    batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in outline.modules())
    recipe = recipe_of(scheme, batch_norm and not transformer, choices)
    # DINO's small views have fewer patches.
    dynamic = {"dynamic_img_size": True} if transformer and isinstance(recipe, Dino) and recipe.local_views else {}
    pretrained = chosen.pretrained and chosen.weights is None and starting
    network = build_model(chosen.name, 1, pretrained=pretrained, arguments={**chosen.arguments, **dynamic})
    origin: dict[str, Any] = {"from": "timm's weights" if pretrained else "random weights"}
    report = None
    if chosen.weights is not None and starting:
        report = load_pretrained(network, chosen.weights, chosen.scheme)
        console.print(str(report), highlight=False, markup=False, soft_wrap=True)
        origin = {"from": str(report.path), "scheme": report.scheme, "matched": report.matched}
        origin["sha256"] = sha256(report.path)
    elif isinstance(recipe, Mae) and chosen.weights is None and not chosen.pretrained:
        # When resuming too, since it also freezes the position embedding.
        _initialise_for_mae(network)
    patch = int(outline.patch_embed.patch_size[0]) if transformer else 1  # type: ignore[index, union-attr]
    return _Start(network, scheme, recipe, patch, origin, report)


def _initialise_for_mae(network: nn.Module) -> None:
    """Initialise a vision transformer as MAE does, with sine-cosine position embeddings."""
    from lightly.models.modules import MaskedVisionTransformerTIMM

    from torchvice.training.selfsupervised import is_plain

    if is_plain(network):  # others are refused later
        MaskedVisionTransformerTIMM(network)


def _module(settings: Settings, start: _Start, devices: int) -> Any:
    """Check that the network takes the views and pools its features, and build the LightningModule."""
    import torch

    from torchvice.training.augmentation import small_side
    from torchvice.training.selfsupervised import SCHEMES, pooled
    from torchvice.training.trainer import image_size_error

    crop, width, mae = settings.transform.side, 0, isinstance(start.recipe, Mae)
    network = start.network.eval()
    sides = [] if mae else [crop, small_side(start.recipe, crop, start.patch)]
    try:
        with torch.no_grad():
            for side in filter(None, sides):
                width = pooled(network, torch.zeros(1, 3, side, side)).shape[1]
            if mae:
                network(torch.zeros(1, 3, crop, crop))
    except ViceError:
        raise
    except Exception as error:  # whatever the network raises
        note = f" (and small views of {sides[1]}; --choice local_views=0 leaves them out)" if sides[1:] > [0] else ""
        raise image_size_error(settings.model.name, crop, error, note) from None
    images = settings.trainer.batch_size * devices * settings.trainer.accumulate
    return SCHEMES[type(start.recipe)](network.train(), start.recipe, images, width)


def _check_batches(settings: Settings, images: UnlabelledImages, scheme: str, devices: int) -> None:
    """Check that a batch has two images or more, and that every device gets a whole batch."""
    size, share = settings.trainer.batch_size, len(images) // devices
    if size < 2 and scheme != "mae":
        raise ViceError(
            f"`trainer.batch_size` must be at least 2 for {scheme}, but is {size}.",
            "Try -o trainer.batch_size=64, or --scheme mae.",
        )
    if share < size:
        each = f", {share} for each of {devices} devices" if devices > 1 else ""
        raise ViceError(
            f"`trainer.batch_size` must be at most the number of images, but is {size}: "
            f"{settings.data.train_split} has {len(images)} images{each}.",
            f"Try -o trainer.batch_size={share}." if share > 1 else "Train on fewer devices: -o trainer.devices=1.",
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
        drop_last=True,  # the last batch may be too small for the losses, which compare its images
    )
    return loader, sampler


def _trainer(settings: Settings, folder: Path, sampler: EpochSampler, start: _Start, console: Console) -> Trainer:
    """Build the Trainer, with DINO's gradient clipping and with synchronised BatchNorm on GPUs."""
    import torch

    from torchvice.training.checkpoints import only_last
    from torchvice.training.trainer import trainer_of

    further: dict[str, Any] = {}
    if settings.trainer.clip is None and isinstance(start.recipe, Dino):
        further["gradient_clip_val"] = start.recipe.clip
    # As in the papers; torch supports it on GPUs only.
    if torch.cuda.is_available() and settings.trainer.accelerator in ("auto", "gpu", "cuda"):
        further["sync_batchnorm"] = True
    return trainer_of(settings, folder, sampler, console, [only_last(folder / "checkpoints")], **further)


def _write(folder: Path, result: str, start: _Start, manifest: dict[str, Any], transform: TransformSettings) -> None:
    """Write the encoder of the last checkpoint under timm's names, and the manifest with its SHA-256."""
    from torchvice.training.checkpoints import read_checkpoint

    state = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    heads = tuple(f"{name}." for name in classifier_names(start.network))
    prefix = f"{result}."
    encoder = {n.removeprefix(prefix): v for n, v in state["state_dict"].items() if n.startswith(prefix)}
    tensors = {n: v for n, v in encoder.items() if not n.startswith(heads)}
    normalisation = None
    if transform.mean is not None and transform.std is not None:
        normalisation = Normalisation(transform.mean, transform.std)
    save_encoder(folder / WEIGHTS, tensors, start.scheme + WRITTEN_HERE, normalisation)
    written = {"file": WEIGHTS, "tensors": len(tensors), "sha256": sha256(folder / WEIGHTS)}
    write_json(folder / MANIFEST, manifest | {"finished": state["epoch"] + 1, "weights": written})
