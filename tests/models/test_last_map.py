"""The last map where several modules read it, and where names of modules look like those of an attention."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from torchvice import Explainer
from torchvice.models.families import locate
from torchvice.models.stages import stages


def features():
    """A network of three strides, whose map has 32 channels."""
    torch.manual_seed(0)
    sizes = [(3, 8), (8, 16), (16, 32)]
    return nn.Sequential(*[nn.Sequential(nn.Conv2d(*size, 3, 2, 1), nn.ReLU(inplace=True)) for size in sizes])


class Concatenated(nn.Module):
    """The average and the maximum side by side, as fastai's AdaptiveConcatPool2d."""

    def __init__(self):
        super().__init__()
        self.ap, self.mp = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)

    def forward(self, maps):
        return torch.cat([self.mp(maps), self.ap(maps)], 1)


class TwoPools(nn.Module):
    """The average and the maximum of a map, then one linear layer."""

    def __init__(self):
        super().__init__()
        self.f, self.fc = features(), nn.Linear(64, 5)
        self.gap, self.gmp = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)

    def forward(self, images):
        maps = self.f(images)
        return self.fc(torch.cat([self.gap(maps), self.gmp(maps)], 1).flatten(1))


class OneHeadALabel(nn.Module):
    """A pooling and a classifier for each label."""

    def __init__(self):
        super().__init__()
        self.f = features()
        heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 1)) for _ in range(4)]
        self.heads = nn.ModuleList(heads)

    def forward(self, images):
        maps = self.f(images)
        return torch.cat([head(maps) for head in self.heads], 1)


class BehindDropouts(OneHeadALabel):
    """The same, with a dropout before each pooling, which in eval mode returns the map itself."""

    def __init__(self, dropout):
        super().__init__()
        for head in self.heads:
            head.insert(0, dropout())


class BesideItsInput(nn.Module):
    """The mean of what a module passes through, and the maximum of what went in."""

    def __init__(self, passing):
        super().__init__()
        self.f, self.passing, self.fc = features(), passing, nn.Linear(64, 4)

    def forward(self, images):
        maps = self.f(images)
        return self.fc(torch.cat([self.passing(maps).mean((2, 3)), maps.amax((2, 3))], 1))


class Through(BesideItsInput):
    """The mean and the maximum of what a module passes through."""

    def forward(self, images):
        maps = self.passing(self.f(images))
        return self.fc(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))


class Unread(nn.Module):
    """A pooling that nobody reads, with its module's name first, before the mean that makes the logits."""

    def __init__(self):
        super().__init__()
        self.f, self.gap, self.fc = features(), nn.AdaptiveAvgPool2d(1), nn.Linear(32, 4)

    def forward(self, images):
        maps = self.f(images)
        with torch.no_grad():
            self.gap(maps)
        return self.fc(maps.mean((2, 3)))


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def map_and_gradient(first, rest, label):
    """A and G of a label by autograd alone: of the map that `first` gives, from which `rest` makes the logits."""
    maps = first(IMAGES).detach().requires_grad_()
    return maps.detach(), torch.autograd.grad(rest(maps)[:, label].sum(), maps)[0]


def two_pools(model, maps):
    pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
    return model.fc(pooled)


def test_an_average_and_a_maximum_side_by_side_are_both_explained():
    model = TwoPools().eval()
    assert locate(model).layer == "f"
    assert Explainer(model).method == "gradcam"
    activation, gradient = map_and_gradient(model.f, lambda maps: two_pools(model, maps), 3)
    found = Explainer(model, "hirescam")(IMAGES, [[3], [3]]).maps
    torch.testing.assert_close(found, (activation * gradient).sum(1), rtol=1e-4, atol=1e-6)
    # Complete: the mean's part and the maximum's part together are the logit without its bias.
    logits = model(IMAGES)[:, 3] - model.fc.bias[3]
    torch.testing.assert_close(found.sum((1, 2)), logits, rtol=1e-3, atol=1e-5)
    assert stages(model, locate(model), 3)[-1].layer == "f"


def test_a_pooling_of_averages_and_maxima_as_one_module():
    model = nn.Sequential(features(), nn.Sequential(Concatenated(), nn.Flatten(), nn.Linear(64, 4))).eval()
    assert locate(model).layer == "0"


def test_every_label_with_a_classifier_of_its_own_has_its_map():
    model = OneHeadALabel().eval()
    assert locate(model).layer == "f"
    found = Explainer(model)(IMAGES, [[0, 1, 2, 3]] * 2)
    weights = torch.cat([head[2].weight for head in model.heads])
    expected = torch.einsum("cd,ndhw->nchw", weights, model.f(IMAGES)) / 64
    torch.testing.assert_close(found.maps, expected.flatten(0, 1).detach(), rtol=1e-4, atol=1e-7)


def two_identities():
    return nn.Sequential(nn.Identity(), nn.Identity())


@pytest.mark.parametrize("dropout", [nn.Identity, nn.Dropout2d, two_identities])
def test_a_dropout_of_each_label_is_one_reader_of_several(dropout):
    model, plain = BehindDropouts(dropout).eval(), OneHeadALabel().eval()
    assert locate(model).layer == "f"
    for own, other in zip(model.heads, plain.heads, strict=True):
        other[2].load_state_dict(own[3].state_dict())
    found, expected = (Explainer(one)(IMAGES, [[0, 1, 2, 3]] * 2).maps for one in (model, plain))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("passing", [nn.Identity(), nn.ReLU(inplace=True), two_identities()])
def test_a_module_that_passes_its_input_through_is_one_reader_of_several(passing):
    model = BesideItsInput(passing).eval()
    assert locate(model).layer == "f"
    logits = model(IMAGES)[:, 1] - model.fc.bias[1]
    found = Explainer(model, "hirescam")(IMAGES, [[1], [1]]).maps
    torch.testing.assert_close(found.sum((1, 2)), logits, rtol=1e-3, atol=1e-5)


def test_a_module_that_passes_its_input_through_is_the_site_where_all_goes_through_it():
    assert locate(Through(nn.Dropout2d()).eval()).layer == "passing"


def test_a_pooling_that_nobody_reads_is_passed_over():
    assert locate(Unread().eval()).layer == "f"


def test_one_reader_keeps_its_input_as_the_site():
    pooled = nn.Sequential(features(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)).eval()
    for model in (pooled, pooled.double()):
        assert (locate(model).layer, locate(model).where, Explainer(model).method) == ("1", "input", "cam")
    mobile = torchvision.models.mobilenet_v3_small(num_classes=4).eval()
    assert (locate(mobile).layer, locate(mobile).where) == ("avgpool", "input")


class Gate(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self):
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, 32, 1)

    def forward(self, maps):
        return maps * functional.hardsigmoid(self.fc(self.pool(maps)))


class Wrapped(nn.Module):
    """A backbone with gates under a name, before a pooling and a classifier."""

    def __init__(self, name):
        super().__init__()
        backbone = nn.Sequential(features(), Gate(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
        self.add_module(name, backbone)
        self.name, self.pool, self.fc = name, nn.AdaptiveAvgPool2d(1), nn.Linear(32, 4)

    def forward(self, images):
        return self.fc(self.pool(getattr(self, self.name)(images)).flatten(1))


@pytest.mark.parametrize("name", ["backbone", "attributes", "attr_net", "pattern", "attention_net", "attn"])
def test_the_site_does_not_depend_on_the_name_of_a_wrapper(name):
    model = Wrapped(name).eval()
    assert (locate(model).layer, locate(model).where) == ("pool", "input")
    assert Explainer(model).method == "cam"


def test_two_readers_under_the_name_of_an_attention():
    model = nn.Sequential()
    model.add_module("attention", TwoPools())
    assert locate(model.eval()).layer == "attention.f"
