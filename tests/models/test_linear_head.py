"""Class activation mapping is chosen only where the logits are the classifier's weights times the mean of the map."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from torchvice import Explainer, ViceError
from torchvice.models.families import linear_head, locate


class Standardised(nn.Linear):
    """Weights of mean 0 and variance 1, which are not those that it stores."""

    def forward(self, value):
        weight = self.weight - self.weight.mean(1, keepdim=True)
        return functional.linear(value, weight / weight.std(1, keepdim=True), self.bias)


class Adapted(nn.Linear):
    """A linear layer with an adapter of low rank beside it."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.down, self.up = nn.Parameter(torch.randn(2, sizes[0])), nn.Parameter(torch.randn(sizes[1], 2))

    def forward(self, value):
        return super().forward(value) + value @ self.down.T @ self.up.T


class Packed(nn.Linear):
    """Weights that are stored in another shape, as in four bits."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.shape = self.weight.shape
        self.weight = nn.Parameter(self.weight.detach().reshape(-1, 1))

    def forward(self, value):
        return functional.linear(value, self.weight.reshape(self.shape), self.bias)


class Clipped(nn.Module):
    """Logits that are changed in place after the classifier."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, value):
        return self.head(value).tanh_()


class Named(nn.Linear):
    """Another name, the same layer."""


def network(head):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("head", [Standardised(16, 5), Adapted(16, 5), Packed(16, 5), Clipped(nn.Linear(16, 5))])
def test_logits_that_are_not_the_weights_times_the_mean_take_gradcam(head):
    model = network(head)
    assert linear_head(model, locate(model)) is None
    assert Explainer(model).method == "gradcam"
    with pytest.raises(ViceError, match="'cam' needs"):
        Explainer(model, "cam")
    # The map's mean gradient by autograd alone, with the weights that the network really applies.
    maps = model[:2](IMAGES).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model[2:](maps)[:, 2].sum(), maps)
    expected = (gradient.mean((2, 3), keepdim=True) * maps.detach()).sum(1)
    torch.testing.assert_close(Explainer(model)(IMAGES, [[2], [2]]).maps, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head", [nn.Linear(16, 5), nn.Linear(16, 1), nn.Linear(16, 5, bias=False), Named(16, 5)])
def test_a_linear_layer_takes_cam_in_every_precision(head, dtype):
    model = network(head).to(dtype)
    assert linear_head(model, locate(model)) is head
    assert Explainer(model).method == "cam"
    head.float()


def test_a_classifier_of_zeros_takes_cam():
    model = network(nn.Linear(16, 5))
    nn.init.zeros_(model[-1].weight)
    assert Explainer(model).method == "cam"
