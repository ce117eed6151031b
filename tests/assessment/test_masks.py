"""Masks of a dataset class of the user's own: labels in any type of number, and nothing that is no label."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch

import torchvice
from torchvice import ViceError
from torchvice.assessment.region import region_of

MASK = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)


class Own:
    classes = ("cat", "dog")
    targets = np.ones((3, 2), np.uint8)
    records = tuple(SimpleNamespace(image_id=f"image {i}") for i in range(3))

    def __init__(self, mask: Any) -> None:
        self.given = mask

    def image(self, index: int) -> np.ndarray:
        return np.full((2, 3, 3), 40 * index, np.uint8)

    def mask(self, index: int) -> Any:
        return self.given


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint16, np.float32, np.float64, torch.from_numpy])
def test_any_type_of_number_holds_the_same_labels(kind: Any) -> None:
    given = kind(MASK) if kind is torch.from_numpy else MASK.astype(kind)
    region = region_of(Own(given), 0, (2, 3))
    assert region is not None
    assert region.mask is not None
    assert region.mask.dtype.kind in "iu"
    np.testing.assert_array_equal(region.mask, MASK)


def spoilt(value: float, kind: Any = np.float32) -> np.ndarray:
    mask = MASK.astype(kind)
    mask[1, 1] = value
    return mask


WRONG = {
    "NaN": (spoilt(np.nan), r"must hold 0 to 2 and 255, but holds nan\."),
    "infinite": (spoilt(np.inf), r"must hold 0 to 2 and 255, but holds inf\."),
    "a part": (spoilt(0.5), r"must hold 0 to 2 and 255, but holds 0\.5\."),
    "negative": (spoilt(-1, np.int64), r"must hold 0 to 2 and 255, but holds -1\."),
    "beyond the classes": (spoilt(3, np.uint8), r"must hold 0 to 2 and 255, but holds 3\."),
    "text": (MASK.astype(str), r"must hold integers, but holds <U3\."),
    "three dimensions": (MASK[None], r"must be \(2, 3\) like its image, but has shape \(1, 2, 3\)\."),
    "another size": (MASK.T, r"must be \(2, 3\) like its image, but has shape \(3, 2\)\."),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_label_is_refused(kind: str) -> None:
    mask, message = WRONG[kind]
    with pytest.raises(ViceError, match=f"The mask of `image 1` {message}"):
        region_of(Own(mask), 1, (2, 3))


def test_an_assessment_ends_at_such_a_mask(tmp_path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=2).eval()
    with pytest.raises(ViceError, match="The mask of `image 0` must hold 0 to 2 and 255, but holds nan") as caught:
        torchvice.assess(model, Own(spoilt(np.nan)), out=tmp_path, view_size=32, crop=32)
    assert "pixels that do not count 255" in caught.value.way_out
