"""Weights of channels by hand, principal components against numpy, and what must hold for every registered method."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from torchvice import Explainer, ViceError
from torchvice.data.transforms import normalise
from torchvice.explain import METHODS
from torchvice.explain.gradient import eigen_smooth, gradcam, gradcampp, hirescam, layercam, weighted_map, xgradcam
from variants import slow_but

REFERENCE = Path(__file__).parents[1] / "reference"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

OURS = (
    *("cam", "gradcam", "gradcampp", "xgradcam", "hirescam", "layercam", "eigencam", "eigengradcam"),
    *("scorecam", "ablationcam"),
)

# One channel of two places.
A = torch.tensor([[[[1.0, 3.0]]]])
G = torch.tensor([[[[0.5, -0.25]]]])


def _explainer(name):
    """A method on the first of two small networks that it fits, and that network's side; skipped where it fits none."""
    for network, side in (("test_resnet", 64), ("test_vit", 160)):
        torch.manual_seed(0)
        model = timm.create_model(network, num_classes=4)
        try:
            explainer = Explainer(model, name)
            explainer(torch.zeros(1, 3, side, side), [[0]])
        except ViceError:
            continue
        return explainer, side
    pytest.skip(f"{name} fits neither network, or needs a package that is not here")


def test_weights_by_hand():
    assert gradcam(A, G).item() == 0.125
    assert xgradcam(A, G).item() == pytest.approx((0.5 * 1 - 0.25 * 3) / 4)
    assert torch.equal(hirescam(A, G), G)
    assert layercam(A, G).tolist() == [[[[0.5, 0.0]]]]
    # Only the place of gradient 1/2 counts: 1/4 / (2/4 + 4/8) = 1/4, times 1/2.
    assert gradcampp(A, G).item() == pytest.approx(0.125, rel=1e-5)


def test_maps_by_hand():
    assert weighted_map(gradcam(A, G), A).tolist() == [[[0.125, 0.375]]]
    assert weighted_map(hirescam(A, G), A).tolist() == [[[0.5, -0.75]]]


def test_dead_channels_and_places_without_gradient_weigh_nothing():
    nothing = torch.zeros_like(A)
    assert xgradcam(nothing, G).item() == 0
    assert gradcampp(A, nothing).item() == 0
    # 2 g^2 + g^3 sum(A) = 0 for g = -1/2: the pole of a gradient that the ReLU stops.
    assert torch.isfinite(gradcampp(A, -2 * G.abs() * 0.5)).all()


@pytest.mark.parametrize("shape", [(7, 2, 3), (3, 4, 5)])
def test_eigen_smooth_is_the_first_principal_component(shape):
    # More channels than places, and fewer: two roads to one component.
    weighted = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    found = eigen_smooth(weighted, weighted.sum(1))
    assert found.dtype == torch.float32
    for one, ours in zip(weighted.numpy(), found.numpy(), strict=True):
        places = one.reshape(shape[0], -1).T.astype(np.float64)
        places = places - places.mean(0)
        expected = (places @ np.linalg.svd(places)[2][0]).reshape(shape[1:])
        expected *= np.sign((expected * one.sum(0)).sum())
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_the_sign_of_a_component_follows_the_reference_and_else_its_peak():
    weighted = torch.randn(1, 5, 3, 3, generator=torch.Generator().manual_seed(1))
    reference = weighted.sum(1)
    found = eigen_smooth(weighted, reference)
    torch.testing.assert_close(eigen_smooth(weighted, -reference), -found)
    torch.testing.assert_close(eigen_smooth(-weighted, reference), found)
    for nothing in (torch.zeros_like(reference), torch.ones_like(reference), 1e-9 * reference):
        peaked = eigen_smooth(weighted, nothing)
        assert float(peaked.max()) == float(peaked.abs().max())
        torch.testing.assert_close(peaked.abs(), found.abs())


def test_components_of_nothing_and_of_what_is_not_finite():
    weighted = torch.ones(3, 4, 2, 2)
    weighted[1, 0, 0, 0] = torch.nan
    weighted[2, 0, 0, 0] = torch.inf
    found = eigen_smooth(weighted, weighted.sum(1))
    assert torch.equal(found[0], torch.zeros(2, 2))
    assert found[1:].isnan().all()
    assert eigen_smooth(weighted[:0], weighted[:0, 0]).shape == (0, 2, 2)


def test_a_smoothed_gradcam_of_a_vit_equals_the_reference_up_to_sign():
    weights, expected = np.load(REFERENCE / "H_gradcam.npz"), np.load(REFERENCE / "H_gradcam_eigen.npz")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=20, embed_dim=48, depth=3, num_heads=4)
    model.load_state_dict({key[3:]: torch.tensor(weights[key]) for key in weights if key.startswith("sd/")})
    images = torch.stack([normalise(rgb, MEAN, STD) for rgb in weights["resized_rgb"]])
    found = Explainer(model, "gradcam", eigen_smooth=True)(images, weights["classes"].tolist())
    plain = Explainer(model, "gradcam")(images, weights["classes"].tolist())
    pairs = [(weights["names"][i], c) for i, c in found.pairs.tolist()]
    for (name, c), ours, unsmoothed in zip(pairs, found.maps.numpy(), plain.maps.numpy(), strict=True):
        theirs = expected[f"{name}/c{c}/eigen1_aug0_raw14"]
        theirs = theirs * np.sign((theirs * ours).sum())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max() * 10)
        assert (ours * unsmoothed).sum() > 0


def test_smoothing_is_refused_where_no_channels_are_summed():
    model = timm.create_model("test_resnet", num_classes=2)
    with pytest.raises(ViceError, match="sums weighted channels, but 'eigencam' does not"):
        Explainer(model, "eigencam", eigen_smooth=True)


def test_an_eigencam_is_the_same_for_every_label_and_needs_no_gradient():
    model = timm.create_model("test_vit", num_classes=3).requires_grad_(False)
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(2))
    found = Explainer(model, "eigencam")(images, [[], [2, 0]])
    assert torch.equal(found.maps[0], found.maps[1])
    assert found.maps.abs().max() > 0


class Symmetric(nn.Module):
    """A convolution whose kernels are their own mirror images, a mean, a linear layer."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        kernel = torch.randn(6, 3, 3, 3, generator=generator)
        self.features = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.features.weight = nn.Parameter(kernel + kernel.flip(-1))
        self.act = nn.ReLU()
        self.fc = nn.Linear(6, 3)
        self.fc.weight = nn.Parameter(torch.randn(3, 6, generator=generator))

    def get_classifier(self):
        return self.fc

    def forward(self, x):
        return self.fc(self.act(self.features(x)).mean((2, 3)))


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("method", OURS)
def test_mirroring_the_image_mirrors_the_map(method, smooth):
    if smooth and not METHODS[method].sums_channels:
        pytest.skip("sums no channels")
    explainer = Explainer(Symmetric(), method, layer="act", eigen_smooth=smooth)
    images = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(4))
    there, back = (explainer(x, [[0, 2], [1]]).maps for x in (images, images.flip(-1)))
    assert there.abs().amax((1, 2)).min() > 0
    torch.testing.assert_close(back.flip(-1), there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", OURS)
def test_the_map_is_at_a_planted_object_that_drives_the_logit(method):
    model = Symmetric()
    with torch.no_grad():
        model.features.weight.zero_()
        model.features.weight[0, 0, 1, 1] = model.features.weight[1, 1, 1, 1] = 1  # red and green, as they are
        model.fc.weight.zero_()
        model.fc.weight[2, 0] = 1  # class 2 is red
        model.fc.bias.zero_()
    image = torch.zeros(1, 3, 8, 8)
    image[0, 0, 1:3, 4:7] = 5.0
    found = Explainer(model, method, layer="act")(image, [[2]])
    assert torch.equal(found.maps[0] > 0, image[0, 0] > 0)


@pytest.mark.parametrize(
    "method",
    slow_but(
        sorted(METHODS),
        "cam",
        "gradcam",
        "shapleycam",
        "scorecam",
        "generic_attention",
        "attnlrp",
        "smoothgrad",
        "random",
    ),
)
def test_batch_order_and_batch_size_change_no_map(method):
    explainer, side = _explainer(method)
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(5))
    labels = [[3, 1], [], [0]]
    whole = explainer(images, labels)
    peak = whole.maps.abs().amax((1, 2), keepdim=True)
    assert peak.min() > 0
    turned = explainer(images.flip(0), labels[::-1])
    assert turned.pairs.tolist() == [[0, 0], [2, 3], [2, 1]]
    explainer.batch_size = 7
    single = torch.cat([explainer(images[i : i + 1], labels[i : i + 1]).maps for i in (0, 2)])
    # Differences of logits, as ablation takes, lose digits.
    for maps in (turned.maps[[1, 2, 0]], single):
        torch.testing.assert_close(maps / peak, whole.maps / peak, rtol=0, atol=2e-3)


class Fragile(nn.Linear):
    """A classifier that breaks from some call on."""

    def __init__(self, like):
        super().__init__(like.in_features, like.out_features)
        self.left = None

    def forward(self, x):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("broken on purpose")
        return super().forward(x)


SEVERAL = ("scorecam", "ablationcam")
RESTORED = (*SEVERAL, "gradcam", "attnlrp", "smoothgradcampp", "refinecam")


def _state(model):
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    modes = [module.training for module in model.modules()]
    grads = [(p.requires_grad, p.grad) for p in model.parameters()]
    names = [sorted(vars(module)) for module in model.modules()]
    return (hooks, modes, grads, names), {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("method", "fails_at"),
    [
        # Only some methods have a fourth pass of their own to fail in, and others undo what most do.
        pytest.param(method, at, marks=pytest.mark.slow if method not in RESTORED and at != 0 else ())
        for method in sorted(METHODS)
        for at in (None, 0, 3)
    ],
)
def test_the_model_is_restored(method, fails_at):
    explainer, side = _explainer(method)
    model = explainer.model
    name = "fc" if hasattr(model, "fc") else "head"
    setattr(model, name, Fragile(getattr(model, name)))
    explainer = Explainer(model, method, batch_size=16)
    model.train()
    next(iter(model.children())).eval()  # a mixture of modes must survive
    model.get_submodule(name).weight.requires_grad_(False)
    before, values = _state(model)
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(6))
    model.get_submodule(name).left = fails_at
    breaks = method in OURS and (fails_at == 0 or (fails_at == 3 and method in SEVERAL))
    with pytest.raises(ViceError, match="on purpose") if breaks else contextlib.suppress(ViceError):
        explainer(images, [[0, 1]])
    after, found = _state(model)
    assert before == after
    assert all(torch.equal(values[key], found[key]) for key in values)
    assert torch.is_grad_enabled()
