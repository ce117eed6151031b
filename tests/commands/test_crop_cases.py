"""Maps of a centre crop are drawn where they were counted, and the page says how the maps were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch

import torchvice
from torchvice.assessment import MapSettings
from torchvice.assessment.views import views_of
from torchvice.commands.cases import case_of
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.explain import Choices
from torchvice.fiftyone.pictures import heatmap
from torchvice.report.page.cases import cases_of
from torchvice.report.page.text import facts_of


def test_a_crop_is_drawn_where_it_was_counted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    dataset = VocDataset(write_digits(tmp_path / "digits", train=2, val=2, test=3, size=120), "test")
    model = timm.create_model("test_resnet", num_classes=10).eval()
    choices = Choices(view="crop", layers=("layer3", "layer4"), mirror=True)
    given = {"choices": choices, "view_size": 64, "mean": (0.5,) * 3, "std": (0.5,) * 3, "device": "cpu"}
    samples = torchvice.assess(
        model, dataset, out=tmp_path / "t", protocols=["strict"], method="gradcam", without=None, controls=(), **given
    )
    view = views_of(model, ("strict",), MapSettings(method="gradcam", **given))["strict"]
    images = [dataset.image(row) for row in range(3)]
    cases, compared = cases_of(samples), 0
    for row, output in view.run(images, dataset.targets):
        size = images[row].shape[:2]
        for place, c in enumerate(output.classes):
            counted = output.full(size)[place]
            case = case_of(samples, dataset, dataset.records[row].image_id, c + 1)
            np.testing.assert_allclose(case.map, counted, atol=2e-3)
            assert not case.map[0].any()  # outside of the crop
            plane, _ = cases.maps[row][c]
            drawn = heatmap(plane, size)
            assert np.abs(drawn / 255 - counted).mean() < 0.02
            compared += bool(counted.any())
    assert compared > 2
    maps = dict(facts_of(torchvice.measure(samples, replicates=0), cases))["Maps"]
    assert maps == "gradcam · layer3 + layer4 · max · mirror"
