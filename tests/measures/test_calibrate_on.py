"""A scaling is fitted on logits of the same model, shown the same view."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulated import simulated
from torchvice.errors import ViceError
from torchvice.measures import measure
from torchvice.measures.calibration import _scaled
from torchvice.measures.sheet import DiagramParts
from torchvice.samples import Samples

MODEL = {"type": "Toy", "weights_sha256": "a" * 64, "class_map": None}
SETTINGS = {
    "view_size": 64,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "outputs": None,
    "choices": {"view": "warp"},
}
TABLE = simulated(60, model=MODEL, map_settings=SETTINGS)


def other(model: dict[str, Any] | None = None, settings: dict[str, Any] | None = None) -> Samples:
    """A table of other images with some entries of the manifest changed; None: without the entry."""
    table = simulated(60, seed=1)
    manifest = {**table.manifest, "model": {**MODEL, **(model or {})}, "map_settings": {**SETTINGS, **(settings or {})}}
    names = np.array([f"val{i}" for i in range(60)], dtype=object)
    return Samples(manifest, replace(table.images, image_id=names), table.regions, table.maps)


@pytest.mark.parametrize(
    ("model", "settings", "name", "values"),
    [
        ({"weights_sha256": "b" * 64}, {}, "weights_sha256", ("aaa", "bbb")),
        ({"class_map": [[1], [0], [2], [3]]}, {}, "class_map", ("[0], [1]", "[1], [0]")),
        ({}, {"view_size": 96}, "view_size", ("64", "96")),
        ({}, {"mean": [0.4, 0.5, 0.5]}, "mean", ("[0.5, 0.5, 0.5]", "[0.4, 0.5, 0.5]")),
        ({}, {"std": [0.1, 0.2, 0.2]}, "std", ("[0.2, 0.2, 0.2]", "[0.1, 0.2, 0.2]")),
        ({}, {"outputs": "probabilities"}, "outputs", ("logits", "probabilities")),
        ({}, {"choices": {"view": "crop"}}, "view", ("warp", "crop")),
        ({}, {"interpolation": "bicubic"}, "interpolation", ("bilinear", "bicubic")),
        ({}, {"precision": "bfloat16"}, "precision", ("that of the weights", "bfloat16")),
        ({}, {"transform": {"name": "own", "view": "short256-crop224"}}, "transform", ("None", "own")),
    ],
)
def test_a_table_of_another_model_or_view_is_refused(
    model: dict[str, Any], settings: dict[str, Any], name: str, values: tuple[str, str]
) -> None:
    with pytest.raises(ViceError, match=f"`{name}`") as caught:
        measure(TABLE, replicates=0, calibrate_on=other(model, settings))
    assert all(value in caught.value.message for value in values)


def test_code_of_a_transform_is_compared_within_one_version_of_python() -> None:
    def of(digest: str) -> Samples:
        return other(settings={"transform": {"name": "own", "view": "warp64", "code_sha256": digest}})

    held = of("3.11:aa")
    renamed = replace(held.images, image_id=np.array([f"here{i}" for i in range(60)], dtype=object))
    table = Samples(held.manifest, renamed, held.regions.where(np.zeros(0, int)), held.maps)
    with pytest.raises(ViceError, match="code of the transform"):
        _scaled(table, of("3.11:bb"), DiagramParts(), None)
    assert _scaled(table, of("3.12:bb"), DiagramParts(), None)["fitted_on"]["images"] == 60


def test_what_is_the_same_or_unknown_is_accepted() -> None:
    same = {"class_map": [[0], [1], [2], [3]]}, {"outputs": "logits", "mean": (0.5, 0.5, 0.5)}
    assert measure(TABLE, replicates=0, calibrate_on=other(*same)).scaling["fitted_on"]["images"] == 60
    earlier = other()
    earlier = Samples(
        {name: value for name, value in earlier.manifest.items() if name != "map_settings"} | {"model": {"type": "T"}},
        earlier.images,
        earlier.regions,
        earlier.maps,
    )
    assert measure(TABLE, replicates=0, calibrate_on=earlier).scaling["temperature"]
    whole = {**SETTINGS, "choices": {"view": "whole"}}
    table = simulated(60, model=MODEL, map_settings=whole)
    assert measure(table, replicates=0, calibrate_on=other({}, {**whole, "view_size": 96})).scaling["temperature"]
