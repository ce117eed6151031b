"""Relevance where a network writes to a tensor in place: every name of the tensor sees it, with its rule."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from torchvice import Explainer, ViceError
from torchvice.explain.input_relevance import RULES
from torchvice.explain.surrogate import surrogate


class Steps(nn.Module):
    """Steps between a convolution and a linear layer; a further convolution is there for them."""

    def __init__(self, step):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.step, self.inner, self.last = nn.Conv2d(3, 6, 3), step, nn.Conv2d(6, 6, 1), nn.Linear(6, 3)

    def forward(self, images):
        return self.last(self.step(self, self.first(images)).mean((2, 3)))


def relu_as_statement(_, x):
    functional.relu(x, inplace=True)
    return x


def relu_of_torch(_, x):
    torch.relu_(x)
    return x


def relu_of_a_part(_, x):
    functional.relu(x[:, :3], inplace=True)
    return x


def relu_before_the_sum(self, x):
    return x + self.inner(functional.relu(x, inplace=True))


def relu_before_the_sum_apart(self, x):
    y = functional.relu(x)
    return y + self.inner(y)


def gate(_, x):
    y = x + 1
    y.sigmoid_()
    return x * y


def product(_, x):
    y = x + 1
    y.mul_(x)
    return y


def product_under_another_name(_, x):
    y = x + 1
    z = y
    z *= x
    return y


def product_with_a_constant(_, x):
    y = torch.full_like(x, 2.0)
    y *= x
    return y


def sum_under_another_name(_, x):
    y = x + 1
    z = y
    z += x
    return y


def sum_and_product(_, x):
    y = x + 1
    y.addcmul_(x, x, value=0.5)
    return y


def quotient(_, x):
    y = x + 1
    y.div_(x.norm(dim=1, keepdim=True))
    return y


# Written in place, and the same without.
STEPS = {
    "relu as a statement": (relu_as_statement, lambda _, x: functional.relu(x)),
    "relu_": (relu_of_torch, lambda _, x: functional.relu(x)),
    "relu of a part": (relu_of_a_part, lambda _, x: torch.cat([functional.relu(x[:, :3]), x[:, 3:]], 1)),
    "relu before the sum": (relu_before_the_sum, relu_before_the_sum_apart),
    "gate": (gate, lambda _, x: x * torch.sigmoid(x + 1)),
    "product": (product, lambda _, x: (x + 1) * x),
    "product under another name": (product_under_another_name, lambda _, x: (x + 1) * x),
    "product with a constant": (product_with_a_constant, lambda _, x: 2 * x),
    "sum under another name": (sum_under_another_name, lambda _, x: x + 1 + x),
    "sum and product": (sum_and_product, lambda _, x: torch.addcmul(x + 1, x, x, value=0.5)),
    "quotient": (quotient, lambda _, x: (x + 1) / x.norm(dim=1, keepdim=True)),
    "by name": (lambda _, x: torch.relu(input=x), lambda _, x: torch.relu(x)),
    "quotient by name": (lambda _, x: torch.div(input=x, other=x.norm()), lambda _, x: x / x.norm()),
}


def outputs_and_gradient(step, method):
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()
    model = Steps(step).double().eval()
    with surrogate(model, method, RULES[method]):
        outputs = model(images)
    with torch.no_grad():
        torch.testing.assert_close(outputs, model(images), rtol=1e-12, atol=1e-12)
    return outputs, torch.autograd.grad(outputs[:, 1].sum(), images)[0]


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("name", STEPS)
def test_a_step_in_place_is_the_step(name, method):
    (outputs, gradient), (expected, expected_gradient) = (outputs_and_gradient(step, method) for step in STEPS[name])
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-12)
    assert bool(gradient.any())


@pytest.mark.parametrize("method", ["attnlrp", "cp_lrp"])
def test_attention_with_arguments_by_name(method):
    def attention(call):
        def step(_, x):
            tokens = x.flatten(2).transpose(1, 2)
            return call(tokens).transpose(1, 2).unflatten(2, x.shape[2:])

        return step

    attend = functional.scaled_dot_product_attention
    by_place = outputs_and_gradient(attention(lambda t: attend(t, t, t)), method)
    by_name = outputs_and_gradient(attention(lambda t: attend(query=t, key=t, value=t)), method)
    torch.testing.assert_close(by_name, by_place, rtol=0, atol=0)


class PreActivated(nn.Module):
    """A residual block that activates before its convolution."""

    def __init__(self, in_place):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.relu, self.conv = nn.Conv2d(3, 8, 3), nn.ReLU(in_place), nn.Conv2d(8, 8, 3, padding=1)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)

    def forward(self, images):
        x = self.stem(images)
        kept = x if self.relu.inplace else self.relu(x)
        return self.fc(self.pool(self.conv(self.relu(x)) + kept).flatten(1))


@pytest.mark.parametrize("method", RULES)
def test_a_residual_of_a_tensor_that_is_activated_in_place(method):
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found, expected = (Explainer(PreActivated(in_place), method)(images, [[1], [2]]) for in_place in (True, False))
    torch.testing.assert_close(found.logits, PreActivated(True).eval()(images).detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-5, atol=1e-7)


class Between(nn.Module):
    """A step between a convolution and its norm."""

    def __init__(self, step):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.conv, self.norm, self.step = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), step
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, images):
        x = functional.relu(self.first(images))
        return self.norm(self.step(self.conv(x), x)).mean((2, 3))


def added(y, x):
    y += x
    return y


@pytest.mark.parametrize("method", ["lrp_zplus", "attnlrp_gamma"])
@pytest.mark.parametrize(
    "step", [(added, torch.add), (lambda y, _: functional.relu(y, inplace=True), lambda y, _: functional.relu(y))]
)
def test_a_norm_is_no_part_of_a_convolution_whose_output_was_written_to(step, method):
    gradients = []
    for one in step:
        model = Between(one).double().eval()
        images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        images.requires_grad_()
        with surrogate(model, method, RULES[method]):
            outputs = model(images)
        gradients.append(torch.autograd.grad(outputs[:, 1].sum(), images)[0])
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


class WrittenLater(nn.Module):
    """The input of a convolution is written to behind it, which only a network that was never trained does."""

    def __init__(self):
        super().__init__()
        self.first, self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(8, 2)

    def forward(self, images):
        x = functional.relu(self.first(images))
        y = self.conv(x)
        x += y
        return self.fc((x + y).mean((2, 3)))


def test_an_input_that_is_written_to_behind_a_signed_rule_is_refused():
    images = torch.randn(1, 3, 8, 8)
    with pytest.raises(ViceError, match="inplace operation"):
        Explainer(WrittenLater().eval(), "lrp_zplus")(images, [[0]])
