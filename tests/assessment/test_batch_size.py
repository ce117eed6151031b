"""The batch size of an assessment holds for every pass, those of methods of many passes included."""

import numpy as np
import pytest
import torch
from torch import nn

from torchvice.assessment import Extras, MapSettings
from torchvice.assessment.request import extras_of
from torchvice.assessment.views import views_of

MANY = ["scorecam", "ablationcam", "reciprocam", "rise", "occlusion", "smoothgradcampp", "smoothgrad"]


class Counted(nn.Module):
    """A network that keeps the size of each batch that reaches its classifier."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4))
        self.fc = nn.Linear(8, 2)
        self.batches = []

    def forward(self, x):
        pooled = self.features(x).mean((2, 3))
        self.batches.append(len(pooled))
        return self.fc(pooled)


@pytest.mark.parametrize("method", MANY)
@pytest.mark.parametrize("size", [5, 50])
def test_methods_of_many_passes_take_the_batch_size(method, size, monkeypatch):
    monkeypatch.setattr("torchvice.explain.hiding.RISE_MASKS", 101)
    torch.manual_seed(0)
    model = Counted()
    settings = MapSettings(method="gradcam", view_size=16, batch_size=size, mean=(0, 0, 0), std=(1, 1, 1))
    headline = views_of(model, ("strict",), settings)["strict"]
    own = views_of(model, ("strict",), MapSettings(**{**vars(settings), "method": method}))["strict"]
    (extra,) = extras_of(headline, Extras(controls=(), also=(method,)))
    images = [np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8) for i in range(7)]
    for view in (own, extra.view):
        model.batches.clear()
        list(view.run(images, np.ones((7, 2), dtype=int)))
        assert max(model.batches) <= size
        if method in ("rise", "occlusion", "smoothgradcampp") or size == 5:  # others have fewer passes an image
            assert model.batches.count(size) >= 2
