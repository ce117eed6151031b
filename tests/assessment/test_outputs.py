"""Outputs that are not logits are noticed; the logits of probabilities are taken on request."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

import torchvice
from torchvice.assessment.outputs import giving_logits, logits_of, refuse_probabilities
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError


def network(classes=2):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=classes)
    torch.nn.init.normal_(model.fc.weight, std=3)
    return model


class Around(torch.nn.Module):
    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, images):
        return self.change(self.network(images))


SIGMOID, SOFTMAX, LOG_SOFTMAX = torch.sigmoid, lambda z: z.softmax(1), lambda z: z.log_softmax(1)
LOGITS = np.random.default_rng(0).normal(0, 2, (64, 4)).astype(np.float32)


def test_probabilities_are_refused_with_the_way_out():
    z = torch.tensor(LOGITS)
    for exclusive in (False, True):
        refuse_probabilities(LOGITS, exclusive)
        refuse_probabilities(np.zeros((64, 4), np.float32), exclusive)
        with pytest.raises(
            ViceError, match=r"all outputs of 64 rows lie in .*probabilities\.\s.*--outputs probabilities"
        ):
            refuse_probabilities(SIGMOID(z).numpy(), exclusive)
        with pytest.raises(ViceError, match="have the sum 1: they look like a softmax"):
            refuse_probabilities(SOFTMAX(z.half().float()).half().numpy(), exclusive)
    refuse_probabilities(LOG_SOFTMAX(z).numpy(), exclusive=True)
    with pytest.raises(ViceError, match="logarithms of probabilities"):
        refuse_probabilities(LOG_SOFTMAX(z).numpy(), exclusive=False)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("change", [SIGMOID, SOFTMAX])
def test_per_cent_is_refused(change, exclusive):
    per_cent = 100 * change(torch.tensor(LOGITS)).numpy()
    with pytest.raises(ViceError, match=r"lie in \[0, 100\]: they look like per cent\.\s.*Divide them by 100"):
        refuse_probabilities(per_cent, exclusive)
    refuse_probabilities(np.maximum(LOGITS, 0), exclusive)  # of a ReLU
    refuse_probabilities(LOGITS + 200, exclusive)
    refuse_probabilities(np.array([[30.0, 0.5], [2.0, 7.0]]), exclusive)  # too few to say


@pytest.mark.parametrize(("change", "exclusive"), [(SIGMOID, False), (SIGMOID, True), (SOFTMAX, True)])
def test_logits_of_probabilities(change, exclusive):
    images = torch.randn(4, 3, 64, 64)
    inner = network().eval()
    inner.fc.weight.data /= 10
    model = Around(inner, change).eval()
    with torch.no_grad():
        expected = inner(images)
        made = giving_logits(model, exclusive)(images)
        assert torch.equal(model(images), change(expected))  # the caller's model stays as it was
    if change is SOFTMAX:
        made, expected = made.softmax(1), expected.softmax(1)
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ViceError, match=r"must lie in \[0, 1\], but are -"):
        giving_logits(Around(inner, lambda z: z - 50), exclusive)(images)


def test_assess_refuses_probabilities_or_takes_their_logits(tmp_path):
    data = VocDataset(write_digits(tmp_path / "digits", train=2, val=12, test=2, size=48), "val")
    classes = len(data.classes)
    settings = {"view_size": 64, "crop": 64, "device": "cpu"}
    with pytest.raises(ViceError, match="must be logits"):
        torchvice.assess(Around(network(classes), SIGMOID), data, out=tmp_path / "refused", **settings)
    logits = torchvice.assess(network(classes), data, out=tmp_path / "a", method="gradcam", **settings)
    taken = torchvice.assess(
        Around(network(classes), SIGMOID),
        data,
        out=tmp_path / "b",
        outputs="probabilities",
        method="gradcam",
        **settings,
    )
    far = abs(logits.images.logits) < 8  # beyond, float32 probabilities are 1
    np.testing.assert_allclose(taken.images.logits[far], logits.images.logits[far], rtol=1e-3, atol=1e-2)
    with pytest.raises(ViceError, match="must be 'logits', 'probabilities' or 'softmax', but is 'sigmoid'"):
        torchvice.assess(network(classes), data, out=tmp_path / "c", outputs="sigmoid", **settings)


def test_the_probabilities_of_a_softmax_are_added_up_within_a_class(tmp_path):
    """A network that ends in its softmax has the logits and the maps of the same network without it."""
    data = VocDataset(write_digits(tmp_path / "digits", train=2, val=12, test=2, size=48), "val")
    classes = len(data.classes)
    settings = {"view_size": 64, "crop": 64, "device": "cpu", "method": "gradcam"}
    settings["class_map"] = [[c, classes + c] for c in range(classes)]
    inner = network(2 * classes)
    inner.fc.weight.data /= 10
    model = Around(inner, SOFTMAX)
    with pytest.raises(ViceError, match=r"a class map puts together: --outputs softmax"):
        torchvice.assess(model, data, out=tmp_path / "unnamed", **settings)
    with pytest.raises(ViceError, match=r"must be added up.*\s+Give --outputs softmax"):
        torchvice.assess(model, data, out=tmp_path / "largest", outputs="probabilities", **settings)
    taken = torchvice.assess(model, data, out=tmp_path / "a", outputs="softmax", **settings)
    plain = torchvice.assess(inner, data, out=tmp_path / "b", outputs="softmax", **settings)
    np.testing.assert_allclose(taken.images.logits, plain.images.logits, rtol=1e-4, atol=1e-4)


def test_a_probability_beyond_the_ends_has_the_logit_of_the_end_and_a_gradient():
    """Without one the map of an unlikely class would be zero, and a batch of them would be refused."""
    z = torch.tensor([[25.0, 0.0, 3.0]], dtype=torch.float32, requires_grad=True)
    p = z.softmax(1)
    found = logits_of(p, exclusive=False)
    ends = torch.logit(torch.tensor([torch.finfo(torch.float32).eps, 1 - torch.finfo(torch.float32).eps]))
    assert found[0, 1].item() == ends[0].item()
    assert found[0, 0].item() == ends[1].item()
    (gradient,) = torch.autograd.grad(found[0, 1], z)
    assert gradient[0, 1] > 0
    assert gradient[0, 0] < 0
