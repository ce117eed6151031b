"""A dataset that a network learns in seconds: squares in the colour of their class, in VOC's layout."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchvice.config import Settings, load_settings
from torchvice.files import write_npy_dict, write_text

COLOURS = {"red": (230, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230)}


def write_colours(root: Path, sizes: dict[str, int], seed: int = 0, most: int = 2) -> Path:
    """Write one split for each name in `sizes`: 40 x 32 images, one to `most` squares each."""
    rng = np.random.default_rng(seed)
    labels = {}
    voc = root / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass"):
        (voc / folder).mkdir(parents=True)
    for split, count in sizes.items():
        names = [f"{split}_{i:03d}" for i in range(count)]
        for name in names:
            image = rng.integers(90, 150, (32, 40, 3), dtype=np.uint8)
            mask = np.zeros((32, 40), np.uint8)
            targets = np.zeros(len(COLOURS), np.float32)
            for place, c in zip((2, 22), rng.permutation(len(COLOURS))[: rng.integers(1, most + 1)], strict=False):
                image[8:24, place : place + 16] = list(COLOURS.values())[c]
                mask[8:24, place : place + 16] = c + 1
                targets[c] = 1
            Image.fromarray(image).save(voc / "JPEGImages" / f"{name}.jpg", quality=95)
            Image.fromarray(mask).save(voc / "SegmentationClass" / f"{name}.png")
            labels[name] = targets
        write_text(root / f"{split}.txt", "\n".join(names) + "\n")
    write_text(root / "classes.txt", "\n".join(COLOURS) + "\n")
    write_npy_dict(root / "cls_labels.npy", labels)
    return root


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """These networks are too small to share out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset's folder; 41 images to learn from leave one over in batches of 8."""
    return write_colours(tmp_path_factory.mktemp("colours") / "set", {"train": 41, "val": 16, "test": 8})


@pytest.fixture(scope="session")
def one_colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset with one square an image."""
    return write_colours(tmp_path_factory.mktemp("colours") / "one", {"train": 41, "val": 16, "test": 8}, most=1)


@pytest.fixture
def settings(colours: Path, tmp_path: Path) -> Callable[..., Settings]:
    """The demo's settings, cut down to a network that timm keeps for tests; takes further overrides."""
    small = (
        f"data.root={colours}",
        f"work_dir={tmp_path / 'runs'}",
        "model={name: test_resnet, arguments: null}",
        "transform.crop=32",
        "assess.view_size=32",
        "optimizer.lr=5e-3",
        "schedule.name=constant",
        "trainer={epochs: 1, batch_size: 8, accelerator: cpu}",
    )
    return lambda *overrides: load_settings("demo", [*small, *overrides])
