"""captum behind the engine: exact on a linear network, complete, seeded, refused where captum is missing."""

import sys

import pytest
import timm
import torch
from torch import nn

from torchvice import Explainer, ViceError
from torchvice.explain.scene import Scene

pytest.importorskip("captum")


class Linear(nn.Module):
    """A convolution and a mean: the gradient of a logit is its kernel, everywhere."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.features(x).mean((2, 3))


def explainer(model, method, **more):
    return Explainer(model, method, layer="features", **more)


def test_saliency_of_a_linear_network_is_its_kernel():
    model, images = Linear(), torch.randn(2, 3, 4, 5)
    found = explainer(model, "saliency")(images, [[0, 1], [1]])
    kernel = model.features.weight.detach()[:, :, 0, 0].abs().mean(1) / 20  # a mean over 4 x 5 places
    expected = kernel[torch.tensor([0, 1, 1])][:, None, None].expand(3, 4, 5)
    torch.testing.assert_close(found.maps, expected)


def test_integrated_gradients_are_complete():
    model = timm.create_model("test_resnet", num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = Explainer(model, "integrated_gradients")(images, [[2], [0, 1]])
    with torch.no_grad():
        ends = model(images) - model(torch.zeros_like(images))
    expected = torch.stack([ends[0, 2], ends[1, 0], ends[1, 1]])
    torch.testing.assert_close(found.maps.sum((1, 2)) * 3, expected, rtol=0.05, atol=0.02)


def test_smoothgrad_depends_on_seed_image_and_class_only():
    model = timm.create_model("test_resnet", num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    state = torch.random.get_rng_state()
    both = Explainer(model, "smoothgrad", seed=5)(images, [[0], [1]]).maps
    assert torch.equal(state, torch.random.get_rng_state())
    alone = Explainer(model, "smoothgrad", seed=5)(images[1:], [[1]]).maps
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(Explainer(model, "smoothgrad", seed=6)(images[1:], [[1]]).maps, alone)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_under_the_callers_modes(mode):
    model, images = Linear(), torch.randn(1, 3, 4, 4)
    with mode():
        assert explainer(model, "saliency")(images.clone(), [[0]]).maps.shape == (1, 4, 4)
        assert explainer(model, "saliency")(images.clone(), [[]]).maps.shape == (0, 4, 4)


def test_without_captum_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ViceError, match=r"torchvice\[captum\]"):
        explainer(Linear(), "saliency")(torch.zeros(1, 3, 4, 4), [[0]])


@pytest.mark.parametrize("batch_size", [32, 7])
def test_smoothgrad_is_captums_noise_tunnel_whatever_the_batch(batch_size):
    from captum.attr import NoiseTunnel, Saliency

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3).eval()
    images = torch.randn(1, 3, 37, 50, generator=torch.Generator().manual_seed(0))  # no multiple of 16 numbers
    found = Explainer(model, "smoothgrad", batch_size=batch_size)(images, [[1]]).maps
    scene = Scene(model, images, Explainer(model).site, None, [(0, 1)])
    with torch.random.fork_rng([]):
        torch.manual_seed(scene.seed_of(0))
        stdev = 0.15 * float(images.max() - images.min())
        tunnel = NoiseTunnel(Saliency(model))
        expected = tunnel.attribute(images.clone().requires_grad_(), target=1, nt_samples=25, stdevs=stdev)
    torch.testing.assert_close(found, expected.mean(1), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["saliency", "smoothgrad", "integrated_gradients"])
def test_weights_in_half_precision_take_images_in_theirs(method, dtype):
    model = Linear()
    images = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    expected = explainer(model, method)(images, [[0, 1], [1]]).maps
    found = explainer(model.to(dtype), method)(images, [[0, 1], [1]]).maps
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=1e-4)
