"""How `strict` resizes images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from small_networks import moving_resnet
from torchvice.assessment import MapSettings, assess
from torchvice.assessment.input_transform import InputTransform
from torchvice.assessment.views import views_of
from torchvice.data.transforms import normalise
from torchvice.data.warping import warp
from torchvice.errors import ViceError

PIXELS: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.2,) * 3, "device": "cpu", "view_size": 32, "crop": 32}
IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("chosen", [None, "bilinear", "bicubic", "nearest"])
def test_strict_resizes_as_it_is_told_and_paper_as_published(chosen: str | None) -> None:
    views = views_of(moving_resnet(), ("paper", "strict"), MapSettings(interpolation=chosen, **PIXELS))
    expected = normalise(warp(IMAGE, 32, chosen or "bilinear"), PIXELS["mean"], PIXELS["std"])
    assert torch.equal(views["strict"].pixels(IMAGE), expected)
    assert views["paper"].interpolation == "bilinear"


def test_the_manifest_holds_it_and_another_one_does_not_resume(tmp_path: Path) -> None:
    class Data:
        classes, targets = tuple(map(str, range(10))), np.eye(10, dtype=int)[[1, 2]]
        records = tuple(type("Record", (), {"image_id": name})() for name in "ab")

        def image(self, index: int) -> np.ndarray:
            return np.roll(IMAGE, index)

        def mask(self, index: int) -> np.ndarray:
            return np.full((40, 60), index + 2, np.uint8)

    common: dict[str, Any] = {"out": tmp_path, "controls": (), "without": None, "progress": False, "outputs": "logits"}
    for same in (None, "bilinear"):  # the default leaves no trace: tables of earlier versions resume
        assess(moving_resnet(), Data(), protocols=("strict",), interpolation=same, **common, **PIXELS)
        assert "interpolation" not in json.loads((tmp_path / "manifest.json").read_text())["map_settings"]
    with pytest.raises(ViceError, match="`interpolation` is not set in the table, but 'bicubic' now"):
        assess(moving_resnet(), Data(), protocols=("strict",), interpolation="bicubic", **common, **PIXELS)


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ViceError, match="must be one of nearest, bilinear, bicubic, lanczos, but is 'cubic'"):
        MapSettings(interpolation="cubic")
    transform = InputTransform(timm.data.create_transform(32, mean=PIXELS["mean"], std=PIXELS["std"]))
    with pytest.raises(ViceError, match="resizes images itself, but `interpolation` is 'bicubic'"):
        MapSettings(interpolation="bicubic", transform=transform)
    settings = MapSettings(transform=transform)  # of a run, it gives way to the user's transform
    assert settings.completed(interpolation="bicubic").interpolation is None
    assert MapSettings(interpolation="bilinear").completed(interpolation="bicubic").interpolation == "bilinear"
