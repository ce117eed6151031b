"""Settings that change a training change it, or are refused in one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from torchvice.config import Settings
from torchvice.errors import ViceError
from torchvice.training.run import train

Make = Callable[..., Settings]


@pytest.mark.parametrize("labels", ["auto", "masks", "cls_labels"])
def test_a_training_resumes_with_other_masks_only_if_they_are_not_its_labels(
    settings: Make, colours: Path, tmp_path: Path, labels: str
) -> None:
    root = shutil.copytree(colours, tmp_path / "set")
    shutil.copytree(root / "VOC2012" / "SegmentationClass", root / "VOC2012" / "Other")
    if labels == "auto":
        (root / "cls_labels.npy").unlink()  # masks are the only labels left
    where = (f"data.root={root}", f"data.labels={labels}")
    train(settings(*where), progress=False)
    if labels == "cls_labels":
        train(settings(*where, "data.masks=Other"), resume=True, progress=False)
        return
    with pytest.raises(ViceError, match=r"`data\.masks` was None and is 'Other'") as caught:
        train(settings(*where, "data.masks=Other"), resume=True, progress=False)
    assert "Restore the setting" in str(caught.value.way_out)
