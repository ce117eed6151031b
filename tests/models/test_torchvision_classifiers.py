"""Every classifier of torchvision is explained as it is: random weights, a batch of two small images."""

from __future__ import annotations

import pytest
import torch
import torchvision

from torchvice import Explainer
from torchvice.models.named import _shapes

EVERY = torchvision.models.list_models(module=torchvision.models)
SMALL = ("mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_0")
SHIFTING = ("googlenet", "inception_v3")
SIDES = {"inception_v3": 107, "maxvit_t": 224}  # the smallest at which the network runs and its map has several places
LINEAR = ("resnet", "resnext", "wide", "regnet", "shuffle", "mnasnet", "mobilenet_v2", "efficient", "goog", "incep")
GLOBAL = ("vit_",)


@pytest.mark.parametrize("name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.slow) for n in EVERY])
def test_a_classifier_of_torchvision_is_explained(name):
    torch.manual_seed(0)
    sizes = {"image_size": 56 if name == "vit_h_14" else 64} if name.startswith("vit") else {}
    quick = {"init_weights": False} if name in SHIFTING else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=3, **sizes, **quick)
    if name.startswith("squeezenet"):
        torch.nn.init.constant_(model.classifier[1].bias, 5)  # a ReLU follows
    if name.startswith("vit"):
        torch.nn.init.normal_(model.heads.head.weight)  # untrained, it is zero
    side = sizes.get("image_size", SIDES.get(name, 64))
    images = torch.randn(2, 3, side, side)
    explainer = Explainer(model)
    explanation = explainer(images, [[0], [1, 2]])
    assert model.training
    with torch.no_grad():
        torch.testing.assert_close(explanation.logits, model.eval()(images), rtol=1e-4, atol=1e-4)
    assert explanation.maps.shape[0] == 3
    assert min(explanation.maps.shape[1:]) > 1
    assert bool(torch.isfinite(explanation.maps).all())
    assert bool(explanation.maps.flatten(1).any(1).all())
    assert explainer.method == ("cam" if name.startswith((*LINEAR, "swin_v2")) else "gradcam")
    if name.startswith(GLOBAL):
        maps = Explainer(model, "generic_attention")(images, [[0], [1, 2]]).maps
        assert maps.shape == explanation.maps.shape


@pytest.mark.parametrize("name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.slow) for n in EVERY])
def test_what_depends_on_the_number_of_classes_is_the_classifier(name):
    one, two = (_shapes(name, {}, classes) for classes in (1, 2))
    heads = {n for n in one if one[n] != two[n]}
    assert all(len(two[n]) and two[n][0] == 2 for n in heads)
    assert any(n.endswith("weight") for n in heads)
