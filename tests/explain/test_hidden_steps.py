"""Relevance refuses what hides its steps from the rules, and nothing else."""

import warnings

import pytest
import timm
import torch
from timm.layers.activations_me import SwishAutoFn
from torch import nn
from torch.nn import functional

from torchvice import Explainer, ViceError
from torchvice.explain.hidden_steps import hidden_step

METHODS = ["attnlrp", "cp_lrp", "attnlrp_gamma", "lrp_zplus", "libragrad", "libragrad_gradcam"]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that torch.jit.script is deprecated

    @torch.jit.script
    def scripted_swish(x):
        return x * torch.sigmoid(x)


class Doubled(torch.autograd.Function):
    """A Function of the user's."""

    @staticmethod
    def forward(ctx, value):
        return 2 * value

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Network(nn.Module):
    """A step behind a map, so that it is behind the layer, too."""

    def __init__(self, step):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pool, self.fc, self.step = nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4), step

    def forward(self, images):
        return self.fc(self.step(self.pool(self.conv(images)).flatten(1)))


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
HIDING = {
    "Doubled": (Doubled.apply, "the autograd.Function `Doubled`"),
    "SwishAutoFn": (SwishAutoFn.apply, "the autograd.Function `SwishAutoFn`"),
    "scripted": (scripted_swish, "a scripted function"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", HIDING)
def test_what_hides_its_steps_is_refused_by_name(name, method):
    step, stated = HIDING[name]
    model = Network(step).eval()
    for _ in range(4):  # torch compiles a scripted function in its first runs
        with pytest.raises(ViceError, match=f"{method!r} must have a rule for every step .* but {stated}.* hides"):
            Explainer(model, method)(IMAGES, [[0], [1]])
    assert not model._forward_hooks
    assert Explainer(model)(IMAGES, [[0], [1]]).status == ("ok", "ok")  # gradcam, the way out


STEPS = {
    "swish": lambda x: x * torch.sigmoid(x),
    "product of a list": lambda x: torch.einsum("nd,nd->nd", x, x),
    "maximum": lambda x: torch.max(x, 2 * x),
    "softmax": lambda x: x + functional.softmax(x, 1),
    "layer norm": lambda x: functional.layer_norm(x, (8,)),
    "written in place": lambda x: functional.relu(x, inplace=True) + x,
    "a Function behind no gradient": lambda x: x * Doubled.apply(x.detach()),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", STEPS)
def test_functions_of_torch_hide_nothing(name, method):
    found = Explainer(Network(STEPS[name]).eval(), method)(IMAGES, [[0], [1]])
    assert torch.isfinite(found.maps).all()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_byobnet"])
def test_networks_of_timm_hide_nothing(name):
    model = timm.create_model(name, num_classes=4).eval()
    images = torch.randn(1, *model.pretrained_cfg["input_size"], generator=torch.Generator().manual_seed(1))
    for method in METHODS:
        Explainer(model, method)(images, [[1]])


def test_a_pass_without_rules_is_known_by_its_nodes():
    x = torch.ones(2, 3, requires_grad=True)
    assert hidden_step(x) == hidden_step(x.detach()) == hidden_step((x + 1).mean(1)) == ""
    assert "`sigmoid`" in hidden_step(torch.sigmoid(x + 1) + 1)
    assert "`nativelayernorm`" in hidden_step({"logits": functional.layer_norm(x, (3,))})
