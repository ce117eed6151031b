"""Dense products: what `@` gives, in full precision, and passes that recall what a layer gave."""

import copy

import pytest
import torch
from torch import nn

from torchvice.explain import dense as module
from torchvice.explain.dense import cached_outputs, dense, full_precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fast", [True, False])
def test_equals_the_product(dtype, fast, monkeypatch):
    if not fast:
        monkeypatch.setattr(module, "_onednn", lambda: False)
    generator = torch.Generator().manual_seed(0)
    left = torch.randn((2, 3, 5, 40), generator=generator, dtype=dtype)
    right = torch.randn((7, 40), generator=generator, dtype=dtype)
    for a, b in ((left, right), (left.transpose(1, 2), right), (left, right.T.contiguous().T), (left[:0], right)):
        expected = a.double() @ b.double().T
        torch.testing.assert_close(dense(a, b).double(), expected, rtol=1e-5, atol=1e-5)
        assert dense(a, b).dtype == dtype


def test_products_keep_their_precision_whatever_the_caller_allows():
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn((64, 384), generator=generator) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with full_precision():
            found = dense(left, right), left @ right.T
        assert torch.get_float32_matmul_precision() == "medium"
        with pytest.raises(ZeroDivisionError), full_precision():
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    for product in found:
        torch.testing.assert_close(product.double(), left.double() @ right.double().T, rtol=0, atol=2e-4)


def test_a_recalled_layer_gives_its_output_and_its_gradient():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Sequential(nn.Linear(6, 3)))
    value = torch.randn(5, 4, requires_grad=True)
    outputs = {"0": model[0](value).detach(), "2.0": model(value).detach()}
    before, weights = dict(model.named_modules()), copy.deepcopy(model.state_dict())
    expected = torch.autograd.grad(model(value)[:, 1].sum(), value)
    with cached_outputs(model, outputs):
        assert torch.equal(model(value), outputs["2.0"])
        found = torch.autograd.grad(model(value)[:, 1].sum(), value)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ZeroDivisionError), cached_outputs(model, outputs):
        raise ZeroDivisionError
    assert dict(model.named_modules()) == before
    assert all(torch.equal(weights[name], now) for name, now in model.state_dict().items())
