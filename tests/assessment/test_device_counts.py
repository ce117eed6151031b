"""Counting many images in one histogram gives the numbers of numpy's functions, to the bit but for the energies."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

import torchvice
from small_networks import moving_resnet
from torchvice.assessment import device_counts, views
from torchvice.assessment.device_counts import counts_of
from torchvice.data import open_dataset
from torchvice.data.digits import write_digits
from torchvice.metrics.overlap import competing_overlap, own_histograms
from torchvice.metrics.own_map import own_maps

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def images(seed: int) -> tuple[list[np.ndarray], list[list[int]], list[np.ndarray]]:
    """Maps with ties, constants and values on the thresholds; masks with void, or nothing but void; several sizes."""
    rng = np.random.default_rng(seed)
    maps, classes, masks = [], [], []
    for number, (height, width) in enumerate([(5, 7), (30, 41), (8, 8), (64, 33), (9, 2)]):
        labels = rng.choice(20, 1 + number % 3, replace=False).tolist()
        planes = rng.random((len(labels), height, width)).astype(np.float32)
        planes = [planes, planes.round(2), np.where(planes < 0.5, 0, planes), planes * 0 + 0.25, 1 - planes.round(1)][
            number
        ]
        maps.append(planes.astype(np.float32))
        mask = rng.choice([0, 255, *(c + 1 for c in labels), 20], (height, width)).astype(np.uint8)
        masks.append(np.full_like(mask, 255) if number == 2 else mask)
        classes.append(labels)
    return maps, classes, masks


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_numpy(seed: int, device: str) -> None:
    maps, classes, masks = images(seed)
    found = counts_of([torch.from_numpy(planes).to(device) for planes in maps], classes, masks, 256)
    assert found is not None
    for counts, planes, labels, mask in zip(found, maps, classes, masks, strict=True):
        overlap = competing_overlap(planes, labels, mask)
        for name in ("labels", "mask_pixels", "predicted", "intersection"):
            np.testing.assert_array_equal(getattr(counts.overlap, name), getattr(overlap, name), err_msg=name)
        inside, outside = own_histograms(planes, labels, mask, 256)
        np.testing.assert_array_equal(counts.inside, inside)
        np.testing.assert_array_equal(counts.outside, outside)
        for name, column in vars(own_maps(planes, labels, mask)).items():
            exact = {"rtol": 1e-12} if name.startswith("energy") else {"rtol": 0}
            np.testing.assert_allclose(getattr(counts.own, name), column, err_msg=name, **exact)


def test_maps_that_are_not_finite_are_left_to_numpy() -> None:
    maps, classes, masks = images(0)
    maps[1][0, 3, 3] = np.nan
    assert counts_of([torch.from_numpy(planes) for planes in maps], classes, masks, 256) is None


@pytest.mark.parametrize("at_once", [1, 20_000, 2**23])
def test_a_table_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    write_digits(tmp_path / "digits", train=1, val=6, test=1, size=48)
    data, model = open_dataset(tmp_path / "digits", "val"), moving_resnet()
    request = {"protocols": ("paper", "strict"), "view_size": 64, "crop": 48, "device": "cpu", "progress": False}
    request |= {"controls": ("random",), "also": ("layercam",), "batch_size": 4}
    expected = torchvice.assess(model, data, out=tmp_path / "numpy", **request)
    calls = []
    monkeypatch.setattr(views, "counted_on", lambda _: True)
    monkeypatch.setattr(device_counts, "AT_ONCE", at_once)
    monkeypatch.setattr(device_counts, "counts_of", lambda *given: calls.append(len(given[0])) or counts_of(*given))
    found = torchvice.assess(model, data, out=tmp_path / "device", **request)
    assert sum(calls) == 3 * 6  # both headlines, and layercam
    assert max(calls) == {1: 1, 20_000: 6, 2**23: 6}[at_once] or at_once == 20_000
    for column in fields(expected.regions):
        mine, theirs = getattr(found.regions, column.name), getattr(expected.regions, column.name)
        if column.name.startswith("energy"):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, err_msg=column.name)
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=column.name)
    np.testing.assert_array_equal(found.images.ji, expected.images.ji)
