"""The loaders of a supervised training: images by the settings, in batches, with workers."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

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
    order: Sampler[Any] = sampler
    if workers:
        images, order = _EpochSeeded(images), _WithSeed(sampler)  # type: ignore[assignment]
    train_loader: DataLoader[Any] = DataLoader(
        images,
        sampler=order,
        generator=sampler.generator,
        drop_last=single_left,
        persistent_workers=workers > 0,
        **common,
    )
    view = ValidationTransform(transform.side, **shared)
    val_loader: DataLoader[Any] = DataLoader(LabelledImages(selection, view), persistent_workers=workers > 0, **common)
    return train_loader, val_loader


class _WithSeed(Sampler[tuple[int, int]]):
    """The order of a sampler, each index with the seed of the epoch's workers."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[tuple[int, int]]:
        seed = self.sampler.worker_seed()
        return ((seed, index) for index in self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


class _EpochSeeded(Dataset[Any]):
    """Images whose workers live through the epochs, with the random numbers of workers that start in each of them.

    So a resumed training, whose workers start later, sees the same images.
    """

    def __init__(self, images: Dataset[Any]) -> None:
        self.images, self.seed = images, -1

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int]) -> Any:
        seed, index = key
        worker = get_worker_info()
        if worker is not None and seed != self.seed:
            self.seed = seed
            _seed_worker(seed, worker.id)
        return self.images[index]


def _seed_worker(base: int, worker: int) -> None:
    """Seed a worker as torch does when it starts, and as Lightning does after that where it seeds workers."""
    random.seed(base + worker)
    torch.manual_seed(base + worker)
    if int(os.environ.get("PL_SEED_WORKERS", "0")):
        from lightning.fabric.utilities.seed import pl_worker_init_function

        pl_worker_init_function(worker)
