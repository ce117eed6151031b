"""A way out whose words are taken out of the refusal, and a small dataset with lists to try it on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_files import drawn, write_grey, write_image

from torchvice.errors import ViceError
from ways_out import tried


def followed(wrong: Callable[[], object], pattern: str, right: Callable[..., Any]) -> Any:
    """What `right` gives for the groups of a pattern in the way out of `wrong`."""
    with pytest.raises(ViceError) as caught:
        wrong()
    said = re.search(pattern, caught.value.way_out)
    assert said is not None, caught.value.way_out
    return tried(wrong, said[0], lambda: right(*said.groups()))


def listed(root: Path, *masks: np.ndarray, classes: str = "cat\ndog\n") -> Path:
    """Write JPEGImages/0.png, 1.png, ..., SegmentationClass with these masks, val.txt and classes.txt ("": none)."""
    for place, mask in enumerate(masks):
        write_image(root / "JPEGImages" / f"{place}.png", place, (mask.shape[0], mask.shape[1]))
        write_grey(root / "SegmentationClass" / f"{place}.png", mask)
    (root / "val.txt").write_text("".join(f"{place}\n" for place in range(len(masks))))
    if classes:
        (root / "classes.txt").write_text(classes)
    return root


def two_masks(root: Path) -> Path:
    """A dataset of two images: a cat and a dog."""
    return listed(root, drawn(1), drawn(2))
