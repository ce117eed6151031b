"""The loaders of a training: workers that live through its epochs, and the random numbers that they draw."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.data import DataLoader

from torchvice.config import Settings
from torchvice.data.voc import VocDataset
from torchvice.training.checkpoints import EpochSampler
from torchvice.training.loaders import loaders_of
from torchvice.training.trainer import _start_workers

Make = Callable[..., Settings]
HALF = "transform={mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], view: resized_crop}"


@pytest.mark.parametrize("seeded", ["0", "1"])
def test_living_workers_draw_what_fresh_ones_would(
    settings: Make, seeded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(HALF, "data.workers=2", "transform.flip=true")
    images = VocDataset(chosen.data.root, "train")
    monkeypatch.setenv("PL_SEED_WORKERS", seeded)
    sampler = EpochSampler(len(images), 3)
    living, _ = loaders_of(chosen, images, images, sampler, 1)
    assert living.persistent_workers
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(living)
        other = EpochSampler(len(images), 3, epoch)
        plain = DataLoader(
            living.dataset.images,  # type: ignore[attr-defined]
            batch_size=8,
            sampler=other,
            generator=other.generator,
            num_workers=2,
            drop_last=living.drop_last,
            worker_init_fn=_lightning if seeded == "1" else None,
        )
        for ours, fresh in zip(batches, plain, strict=True):
            assert torch.equal(ours[0], fresh[0])
            assert torch.equal(ours[1], fresh[1])


def test_workers_of_the_validation_start_before_training_and_draw_nothing(settings: Make) -> None:
    chosen = settings(HALF, "data.workers=1")
    images = VocDataset(chosen.data.root, "train")
    _, loader = loaders_of(chosen, images, images, EpochSampler(len(images), 3), 1)
    expected = [batch[0] for batch in loaders_of(chosen, images, images, EpochSampler(len(images), 3), 1)[1]]
    state = torch.get_rng_state()
    _start_workers(loader)
    assert torch.equal(torch.get_rng_state(), state)
    workers = [worker.pid for worker in loader._iterator._workers]  # type: ignore[union-attr]
    for _ in range(2):
        assert all(torch.equal(a, b[0]) for a, b in zip(expected, loader, strict=True))
        assert [worker.pid for worker in loader._iterator._workers] == workers  # type: ignore[union-attr]
    _start_workers(None)


def _lightning(worker: int) -> None:
    from lightning.fabric.utilities.seed import pl_worker_init_function

    pl_worker_init_function(worker)
