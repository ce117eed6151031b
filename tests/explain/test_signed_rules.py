"""Gamma and z+: against loops over products, zennit, and folded batch norms."""

import copy

import pytest
import timm
import torch
import torchvision
from test_input_relevance import close
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from torchvice import Explainer, ViceError
from torchvice.explain.signed_rules import gamma_rule, with_signed, zplus_rule
from torchvice.explain.surrogate import surrogate
from torchvice.explain.surrogate_rules import ATTNLRP

RULES = {"gamma": gamma_rule(0.3), "zplus": zplus_rule}


def by_loops(name, x, weight, bias, relevance):
    """Relevance (in,) of x from that (out,) of y = W x + b, one product after the other; the bias counts as one."""
    found = torch.zeros_like(x)
    for j in range(len(weight)):
        products = [float(x[i] * weight[j, i]) for i in range(len(x))] + [float(bias[j])]
        y = sum(products)
        if name == "zplus":
            parts = [max(p, 0.0) for p in products]
        else:
            parts = [p + (0.3 * p if p * y > 0 else 0) for p in products]
        if sum(parts):
            for i in range(len(x)):
                found[i] += parts[i] * float(relevance[j]) / sum(parts)
    return found


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("positive", [True, False])
def test_a_linear_layer_in_loops(name, positive):
    torch.manual_seed(0)
    layer = nn.Linear(5, 4).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    x = (x.abs() if positive else x).requires_grad_()
    with surrogate(layer, name, with_signed(ATTNLRP, RULES[name], None)):
        y = layer(x)
    assert torch.equal(y, layer(x))
    relevance = torch.randn(3, 4, dtype=torch.float64)
    for _ in range(2):  # what the first label has computed serves the second
        (gradient,) = torch.autograd.grad(y, x, relevance / y.detach(), retain_graph=True)
        weight, bias = layer.weight.detach(), layer.bias.detach()
        expected = [
            by_loops(name, *row, relevance[n])
            for n, row in enumerate(zip(x.detach(), [weight] * 3, [bias] * 3, strict=True))
        ]
        torch.testing.assert_close((x * gradient).detach(), torch.stack(expected), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "settings",
    [{}, {"stride": 2, "padding": 1}, {"groups": 2}, {"padding": "same", "dilation": 2}, {"padding": "valid"}],
)
def test_a_convolution_is_a_linear_layer_of_its_pixels(name, settings):
    torch.manual_seed(1)
    layer = nn.Conv2d(4, 6, 3, **settings).double().requires_grad_(False)
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    rules = with_signed(ATTNLRP, RULES[name], RULES[name])
    # Its matrix: what it makes of every pixel alone.
    bias = layer.bias.clone()
    layer.bias.zero_()
    matrix = layer(torch.eye(100, dtype=torch.float64).reshape(100, 4, 5, 5)).flatten(1).T
    layer.bias.copy_(bias)
    shape = layer(x).shape
    dense = bias[:, None].expand(6, shape[2] * shape[3]).flatten()
    found = []
    for run in (layer, lambda v: functional.linear(v.flatten(1), matrix, dense)):
        leaf = x.clone().requires_grad_()
        with surrogate(layer, name, rules):
            y = run(leaf)
        weights = torch.randn(y.flatten().shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        found.append(torch.autograd.grad((y.flatten() * weights).sum(), leaf)[0])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


def test_unequal_padding_is_refused():
    layer = nn.Conv2d(3, 3, 2, padding="same")
    with pytest.raises(ViceError, match="even size"), surrogate(layer, "zplus", with_signed(ATTNLRP, None, zplus_rule)):
        layer(torch.zeros(1, 3, 4, 4, requires_grad=True))


class Normed(nn.Module):
    """Convolution, norm, ReLU, convolution, pooling."""

    def __init__(self, norm):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 3, bias=False), norm, nn.Conv2d(8, 4, 3, stride=2)

    def forward(self, images):
        return self.last(functional.relu(self.norm(self.first(images)))).mean((2, 3))


@pytest.mark.parametrize("name", RULES)
def test_a_batch_norm_is_part_of_its_convolution(name):
    torch.manual_seed(2)
    model = Normed(nn.BatchNorm2d(8)).double().eval()
    with torch.no_grad():
        for tensor in (model.norm.weight, model.norm.bias, model.norm.running_mean):
            tensor.normal_()
        model.norm.running_var.uniform_(0.5, 2)
    fused = copy.deepcopy(model)
    fused.first, fused.norm = fuse_conv_bn_eval(model.first, model.norm), nn.Identity()
    found = []
    for network in (model, fused):
        images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        images.requires_grad_()
        with surrogate(network, name, with_signed(ATTNLRP, None, RULES[name])):
            logits = network(images)
        found.append(torch.autograd.grad(logits[:, 1].sum(), images)[0])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_z_plus_keeps_the_sum_and_the_sign():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()).double()
    images = torch.rand(2, 3, 12, 12, dtype=torch.float64).requires_grad_()
    for layer in (model[0], model[3]):
        layer.bias.data = -layer.bias.data.abs()  # a bias below 0 is no positive product
    with surrogate(model, "z", with_signed(ATTNLRP, None, zplus_rule)):
        outputs = model(images)
    relevance = images * torch.autograd.grad(outputs.sum(), images)[0]
    torch.testing.assert_close(relevance.flatten(1).sum(1), outputs.flatten(1).sum(1), rtol=1e-9, atol=1e-9)
    assert bool((relevance >= 0).all())


def test_the_methods_on_networks():
    torch.manual_seed(4)
    images = torch.randn(2, 3, 64, 64)
    for name in ("test_resnet", "test_efficientnet", "test_vit", "test_convnext"):
        settings = {"img_size": 64} if name == "test_vit" else {}
        model = timm.create_model(name, num_classes=4, **settings).eval()
        for method in ("attnlrp_gamma", "lrp_zplus"):
            found = Explainer(model, method)(images, [[0, 3], [1]])
            assert bool(found.maps.flatten(1).any(1).all())
            assert all(parameter.requires_grad for parameter in model.parameters())
            torch.testing.assert_close(found.logits, model(images).detach(), rtol=1e-4, atol=1e-5)
            exact = Explainer(copy.deepcopy(model).double(), method)(images, [[0, 3], [1]])
            close(found.maps, exact.maps, 1e-3)


def test_gamma_zero_is_the_epsilon_rule():
    torch.manual_seed(5)
    model = timm.create_model("test_vit", img_size=64, num_classes=4).eval().double()
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    found = []
    for rules in (ATTNLRP, with_signed(ATTNLRP, gamma_rule(0), gamma_rule(0))):
        leaf = images.clone().requires_grad_()
        with surrogate(model, "gamma", rules):
            logits = model(leaf)
        found.append(torch.autograd.grad(logits[0, 1], leaf)[0])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "canonizer"), [("resnet18", "ResNetCanonizer"), ("vgg11_bn", "VGGCanonizer"), ("vgg11", "VGGCanonizer")]
)
def test_equals_zennit(network, canonizer):
    composites = pytest.importorskip("zennit.composites")
    canonizers = pytest.importorskip("zennit.torchvision")
    torch.manual_seed(6)
    model = getattr(torchvision.models, network)(num_classes=5).eval()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-14  # zennit leaves it out where it merges a norm, which moves its logits by some 1e-5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
    model = model.double()
    found = Explainer(model, "lrp_zplus")(images, [[2], [2]])
    composite = composites.EpsilonPlus(epsilon=1e-12, stabilizer=1e-12, canonizers=[getattr(canonizers, canonizer)()])
    leaf = images.clone().requires_grad_()
    with composite.context(model) as changed:
        logits = changed(leaf)
        start = torch.zeros_like(logits)
        start[:, 2] = logits[:, 2].detach()
        (relevance,) = torch.autograd.grad(logits, leaf, start)
    close(found.maps, relevance.sum(1))


@pytest.mark.slow
def test_gamma_equals_zennit():
    rules = pytest.importorskip("zennit.rules")
    for layer, shape in ((nn.Linear(7, 5), (3, 7)), (nn.Conv2d(4, 6, 3, stride=2), (3, 4, 9, 9))):
        torch.manual_seed(7)
        layer, value = layer.double(), torch.randn(shape, dtype=torch.float64)
        ours, theirs = value.clone().requires_grad_(), value.clone().requires_grad_()
        with surrogate(layer, "gamma", with_signed(ATTNLRP, gamma_rule(0.3), gamma_rule(0.3))):
            output = layer(ours)
        relevance = torch.randn(output.shape, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(output, ours, relevance / output.detach())
        handles = rules.Gamma(0.3, stabilizer=1e-14).register(layer)
        (expected,) = torch.autograd.grad(layer(theirs), theirs, relevance)
        handles.remove()
        torch.testing.assert_close((value * gradient), expected, rtol=1e-6, atol=1e-8)
