"""A small dataset in VOC's layout, written by the tests that ask for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voc_files import SCENES, write_mask


@pytest.fixture
def voc(tmp_path: Path) -> Callable[..., Path]:
    """Writes a root of three images with three classes (cat, dog, cow): flat val.txt, masks, cls_labels.npy."""

    def write(folder: str = "root/VOC2012", labels: bool = True, masks: str | None = "SegmentationClassAug") -> Path:
        base = tmp_path / folder
        root = base.parent
        (base / "JPEGImages").mkdir(parents=True)
        vectors = {}
        for seed, (name, (shape, present)) in enumerate(SCENES.items()):
            pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(base / "JPEGImages" / f"{name}.jpg")
            mask = np.zeros(shape, dtype=np.uint8)
            for column, label in enumerate(present):
                mask[0, column] = label
            mask[1, 0] = 255
            if masks:
                write_mask(base / masks / f"{name}.png", mask)
            vectors[name] = np.isin((1, 2, 3), present).astype(np.float32)
        if labels:
            np.save(root / "cls_labels.npy", vectors, allow_pickle=True)
        (root / "val.txt").write_text("\n".join(SCENES) + "\n")
        (root / "classes.txt").write_text("cat\ndog\ncow\n")
        return root

    return write
