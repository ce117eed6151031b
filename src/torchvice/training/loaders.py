"""The loaders of a supervised training: images by the settings, in batches, with workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from torchvice.config import Settings
from torchvice.data.transforms import LabelledImages, TrainTransform, ValidationTransform
from torchvice.training.regularising import repairs
from torchvice.training.repairing import RepairedImages

if TYPE_CHECKING:
    from torchvice.data import FolderDataset
    from torchvice.training.checkpoints import EpochSampler

__all__ = ["loaders_of"]


def loaders_of(
    settings: Settings, training: FolderDataset, selection: FolderDataset, sampler: EpochSampler, devices: int
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """The loaders of the training images and of the selection images.

    Args:
        settings: complete, see `torchvice.training.network_input`; reads data.workers, transform, regularisation and
            trainer.batch_size.
        training, selection: the splits.
        sampler: order of the training images.
        devices: number of devices that share the images.
    """
    transform, size, workers = settings.transform, settings.trainer.batch_size, settings.data.workers
    names = ("mean", "std", "view", "interpolation")
    shared: dict[str, Any] = {name: getattr(transform, name) for name in names}
    augment = TrainTransform(
        transform.side,
        resize=transform.resize,
        area=transform.area,
        ratio=transform.ratio,
        flip=transform.flip,
        jitter=transform.jitter,
        randaugment=settings.regularisation.randaugment,
        erase=settings.regularisation.erase,
        **shared,
    )
    common: dict[str, Any] = {"batch_size": size, "num_workers": workers, "pin_memory": torch.cuda.is_available()}
    # BatchNorm cannot train on a batch of one. Each device gets its share of the images, rounded up.
    share = -(-len(training) // devices)
    single_left = share > size and share % size == 1
    repaired = repairs(settings.regularisation)
    images = (
        RepairedImages(training, augment, settings.regularisation) if repaired else LabelledImages(training, augment)
    )
    # Workers are recreated for every epoch, including their RNG state, so that resuming is exact.
    train_loader: DataLoader[Any] = DataLoader(
        images, sampler=sampler, generator=sampler.generator, drop_last=single_left, **common
    )
    view = ValidationTransform(transform.side, **shared)
    val_loader: DataLoader[Any] = DataLoader(LabelledImages(selection, view), persistent_workers=workers > 0, **common)
    return train_loader, val_loader
