"""ViceCallback: VICE and ECE-ML of a fixed set of images, logged during training."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed, nn

from torchvice.assessment import Dataset, MapKeywords, MapSettings, packed, samples_of
from torchvice.assessment.images import check_dataset, kind_of_targets
from torchvice.assessment.map_settings import Protocols, as_protocols
from torchvice.assessment.opened import opened
from torchvice.assessment.outputs import check_number, chosen_outputs, refuse_probabilities
from torchvice.assessment.views import View, views_of
from torchvice.data import FolderDataset, check_files, open_dataset
from torchvice.data.random_state import rng_state_kept
from torchvice.errors import ViceError
from torchvice.measures import Measures, measure
from torchvice.report.diagrams import diagrams_of
from torchvice.samples import Images, Maps, Regions, Samples
from torchvice.training.averaging import averaged
from torchvice.training.loggers import log_figures

__all__ = ["ViceCallback", "gathered", "joined"]

LOGGED = ("vice", "ece_ml")


class ViceCallback(Callback):
    """Measure the network after every n-th epoch, on the same images each time, and log the numbers.

    Logs `vice/strict`, `vice/paper`, `ece_ml/strict` and `ece_ml/paper`, those that `torchvice.assess` and
    `torchvice.measure` give for these images; NaN where undefined. Several devices share the images, and all log the
    numbers of all images. The training is the same as without it: RNG state, train and eval modes, gradients and hooks
    are restored.

    Args:
        dataset: what `torchvice.assess` takes: a `Dataset`, a folder as a Path, or items, which are read once here; or,
            where the module is a `Classifier`, the name of a split of its data.
        classes: names of a folder or of items, as for `torchvice.assess`.
        every_n_epochs: 1 is after each epoch.
        images: number of images, drawn once with `seed`; all, if the dataset has no more.
        seed: seed of the draw.
        protocols: "paper", "strict" or both. `strict` costs a forward and a short backward pass an image, `paper` three
            passes.
        figures: also pass the diagrams, as `vice/NAME`, to loggers that show pictures (TensorBoard, W&B, MLflow,
            Comet).
        network: the name of the module's attribute that gives logits (N, C).
        workers: as for `torchvice.assess`.
        settings, keywords: how maps are made, see `torchvice.assessment.MapSettings`; a batch has 16 images unless
            another size is given, and the device is the module's.

    Attributes:
        rows: places of the images in the dataset, once the fit has begun. measures: the last Measures, with the reasons
            of what is undefined and without intervals; None before the first.

    Outputs that look like probabilities are not measured, unless `outputs` is given: a warning after the epoch says so,
    and the training goes on.

    Parameters that are split over devices (FSDP, DeepSpeed's third stage) are not supported. A network in half
    precision is copied to float32 for the measurement.

    Raises:
        ViceError: an argument out of range, or a dataset that `torchvice.assess` refuses; when the fit begins: no such
            split or network, a method that does not fit the network, or classes that are not its outputs.

    Example:
        >>> items = [(np.zeros((8, 8, 3), np.uint8), np.full((8, 8), label)) for label in (1, 2, 2)]
        >>> ViceCallback(items, classes=["cat", "dog"], every_n_epochs=5).images
        200
    """

    def __init__(
        self,
        dataset: Any,
        *,
        every_n_epochs: int = 1,
        images: int = 200,
        seed: int = 0,
        protocols: Protocols = ("paper", "strict"),
        figures: bool = False,
        network: str = "model",
        workers: int = 2,
        classes: Sequence[str] | None = None,
        settings: MapSettings | None = None,
        **keywords: Unpack[MapKeywords],
    ) -> None:
        for name, value, least in (("every_n_epochs", every_n_epochs, 1), ("images", images, 3)):
            if value < least:
                raise ViceError(f"`{name}` must be at least {least}, but is {value}.")
        if isinstance(dataset, str) and classes is not None:
            raise ViceError("`classes` are those of the dataset, but are given too.", "Leave them out.")
        self.dataset: Dataset | str = dataset if isinstance(dataset, str) else opened(dataset, {"classes": classes})
        self.every_n_epochs, self.images, self.seed = every_n_epochs, images, seed
        asked = as_protocols(protocols)
        self.protocols = [name for name in ("paper", "strict") if name in asked]
        self.figures, self.network, self.workers = figures, network, workers
        self.settings = packed(keywords, settings).completed(batch_size=16)
        self.rows: list[int] = []
        self.measures: Measures | None = None
        self._unchecked = self.settings.outputs is None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the images, and check that dataset and network can be assessed before an epoch is spent."""
        if isinstance(self.dataset, str):
            self.dataset = _split_of(pl_module, self.dataset)
        check_dataset(self.dataset)
        exclusive = kind_of_targets(self.dataset) == "exclusive"
        drawn = np.random.default_rng(self.seed).permutation(len(self.dataset.records))[: self.images]
        self.rows = np.sort(drawn).tolist()
        self._unchecked = self.settings.outputs is None
        with rng_state_kept():
            views = self._views(pl_module)
            check_number(next(iter(views.values())).explainer, len(self.dataset.classes), exclusive)
            if trainer.is_global_zero and not exclusive:
                _warn_of_softmax(next(iter(views.values())), self.settings)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure and log, every n-th epoch."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        assert not isinstance(self.dataset, str)
        mine = self.rows[trainer.global_rank :: trainer.world_size]
        with rng_state_kept(), averaged(trainer, pl_module):
            how: dict[str, Any] = {"workers": self.workers, "check_outputs": False}
            part = samples_of(self._views(pl_module), self.dataset, mine, **how) if mine else None
        found = gathered(part)
        if self._unchecked and (refused := _refusal(found)):  # all processes see all images, and decide alike
            if trainer.is_global_zero:
                warnings.warn(f"VICE is not measured after this epoch: {refused}", UserWarning, stacklevel=2)
            return
        self._unchecked = False
        self.measures = measure(found, replicates=0)
        for protocol in self.protocols:
            values = getattr(self.measures, protocol)
            for name in LOGGED:
                reason = self.measures.undefined.get(f"{protocol}.{name}")
                if reason and trainer.is_global_zero:
                    warnings.warn(f"{name}/{protocol} is undefined: {reason}", UserWarning, stacklevel=2)
                pl_module.log(f"{name}/{protocol}", values[name], on_step=False, on_epoch=True, batch_size=1)
        if self.figures and trainer.is_global_zero:
            made = {f"vice/{name}": figure for name, figure in diagrams_of(self.measures).items()}
            log_figures(trainer.loggers, made, trainer.global_step)

    def _views(self, pl_module: LightningModule) -> dict[str, View]:
        network = getattr(pl_module, self.network, None)
        if not isinstance(network, nn.Module):
            raise ViceError(
                f"The module must have its network as `{self.network}`, but {type(pl_module).__name__} has none.",
                "Name the attribute that gives the logits: network=...",
            )
        if any(p.is_floating_point() and p.dtype != torch.float32 for p in network.parameters()):
            network = copy.deepcopy(network).float()
        settings = replace(self.settings, device=str(pl_module.device))
        return views_of(network, self.protocols, settings, exclusive=getattr(self.dataset, "exclusive", False))


def _warn_of_softmax(view: View, settings: MapSettings) -> None:
    """Warn where `torchvice.assess` would take outputs as those of a softmax, which the callback takes one by one."""
    if settings.outputs is None and chosen_outputs(view.explainer, settings, lambda _: None).outputs == "softmax":
        message = (
            "VICE in training takes the outputs as logits one by one, but torchvice.assess takes those of this network "
            "as logits of a softmax. Name one: outputs='softmax' or outputs='logits'."
        )
        warnings.warn(message, UserWarning, stacklevel=2)


def _refusal(found: Samples) -> str:
    """Why the outputs cannot be measured; empty if they can."""
    try:
        refuse_probabilities(found.images.logits, found.exclusive)
    except ViceError as error:
        return str(error)
    return ""


def _split_of(pl_module: LightningModule, split: str) -> FolderDataset:
    """A split of the data that a Classifier's settings name."""
    settings: Any = getattr(pl_module, "settings", None)
    if settings is None:
        raise ViceError(
            f"A split needs a module with settings, but {type(pl_module).__name__} has none.",
            "Give a dataset in place of the split's name.",
        )
    data = settings.data
    classes: Any = pl_module.classes
    how: dict[str, Any] = {"labels": data.labels, "masks": data.masks, "exclusive": data.exclusive}
    dataset = open_dataset(data.root, split, classes=classes, **how)
    check_files(dataset)
    return dataset


def gathered(part: Samples | None) -> Samples:
    """The table of all processes from the part of each; every process has it afterwards.

    The maps stay where they are: no measure reads them.

    Args:
        part: this process's table; None: it has no images.

    Raises:
        ViceError: no process has images.
    """
    parts: list[Samples | None] = [part]
    if distributed.is_available() and distributed.is_initialized():
        parts = [None] * distributed.get_world_size()
        sent = part and Samples(part.manifest, part.images, part.regions, part.maps.where(np.zeros(0, np.int64)))
        distributed.all_gather_object(parts, sent)
    return joined([each for each in parts if each is not None])


def joined(parts: Sequence[Samples]) -> Samples:
    """The table of several parts of one assessment.

    Raises:
        ViceError: no part.
    """
    if not parts:
        raise ViceError("VICE needs images, but no process has any.")
    images, regions, maps = zip(*((part.images, part.regions, part.maps) for part in parts), strict=True)
    return Samples(parts[0].manifest, Images.join(images), Regions.join(regions), Maps.join(maps))
