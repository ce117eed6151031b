"""Finer-CAM, ShapleyCAM, SmoothGradCAM++ and RefineCAM against torchcam 0.5, pytorch-grad-cam 1.5.7 and plain loops."""

import contextlib
import importlib
import re

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from small_networks import drawn, perturbed
from torchvice import Explainer, ViceError
from torchvice.explain import gradient_variants, normalise, upsample
from torchvice.models.families import MapSite, locate
from torchvice.models.stages import stages

LABELS = [[0, 3], [4, 1]]


@pytest.fixture(scope="module")
def cnn():
    return perturbed(drawn("test_resnet", num_classes=5))


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))


def assert_close(maps, expected):
    peak = expected.abs().amax()
    assert peak > 0
    torch.testing.assert_close(maps / peak, expected / peak, rtol=0, atol=1e-5)


def by_torchcam(make, model, images, column, layer="layer3"):
    """torchcam's maps (N, h, w), without its ReLU, of one label of every image."""
    with make(model, layer) as cam:
        base = getattr(cam, "base_cam", cam)
        base._relu = False
        scores = model(images)
        given = [row[column] for row in LABELS]
        return cam(given, scores, normalized=False)[0].detach()


def test_finercam_is_torchcams(cnn, images):
    torchcam = pytest.importorskip("torchcam.methods")
    site = MapSite("layer3")
    found = Explainer(cnn, "finercam", site=site)(images, LABELS).maps.unflatten(0, (2, 2))
    for column in range(2):
        assert_close(found[:, column], by_torchcam(torchcam.FinerCAM, cnn, images, column))


def test_finercam_is_gradcam_of_a_difference(cnn, images):
    # Outputs 9, 5, 4, 3, 0 of the first image: those closest to 4 are 5, 3 and then 0, not 9.
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.weights = nn.Conv2d(3, 5, 1, bias=False), torch.tensor([9.0, 5.0, 4.0, 3.0, 0.0])

        def forward(self, x):
            return self.features(x).mean((2, 3)) * 0 + self.features(x).mean((2, 3)) + self.weights

    model = Fixed()
    small = images[:1] * 0.01
    plain = Explainer(model, "gradcam", layer="features")(small, [[0, 1, 2, 3, 4]]).maps
    found = Explainer(model, "finercam", layer="features")(small, [[2]]).maps[0]
    torch.testing.assert_close(found, plain[2] - 0.6 * plain[[1, 3, 4]].mean(0))


def test_finercam_of_two_outputs_and_of_one(images):
    two = perturbed(drawn("test_resnet", num_classes=2))
    plain = Explainer(two, "gradcam")(images, [[0, 1], []]).maps
    torch.testing.assert_close(Explainer(two, "finercam")(images, [[0], []]).maps[0], plain[0] - 0.6 * plain[1])
    with pytest.raises(ViceError, match="two outputs"):
        Explainer(perturbed(drawn("test_resnet", num_classes=1)), "finercam")(images, [[0], []])


def test_pytorch_grad_cam_weighs_similar_classes_by_their_probability(cnn, images):
    """A departure of the peer: its score is sum p_d (y_c - y_d) / sum p_d, and gradients pass through p."""
    targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    outputs = cnn(images[:1])[0].detach()
    near = (outputs - outputs[0]).abs().argsort()[1:4]
    theirs = targets.FinerWeightedTarget(0, near.tolist(), 0.6)(outputs)
    shares = outputs.softmax(0)[near] / outputs.softmax(0)[near].sum()
    torch.testing.assert_close(theirs, (shares * (outputs[0] - 0.6 * outputs[near])).sum())
    ours = gradient_variants._contrast(outputs[None], torch.tensor([0]), torch.tensor([0]))[0]
    torch.testing.assert_close(ours, outputs[0] - 0.6 * outputs[near].mean())
    assert abs(float(theirs - ours)) > 1e-3


def peers_weights(model, images, column, **settings):
    """The channel weights (N, D) of pytorch-grad-cam's ShapleyCAM for one label of every image."""
    peer = importlib.import_module("pytorch_grad_cam")
    rest = importlib.import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputReST
    found, tokens = [], "reshape_transform" in settings
    with peer.ShapleyCAM(model=model, **settings) as cam:
        weigh = cam.get_cam_weights
        cam.get_cam_weights = lambda *args: found.append(weigh(*args)) or found[-1]
        with pytest.raises(ValueError, match="activation shape") if tokens else contextlib.nullcontext():
            cam(images, [rest(row[column]) for row in LABELS])
        cam.activations_and_grads.gradients.clear()  # it would detach views in place, which torch refuses
        cam.activations_and_grads.activations.clear()
    return torch.tensor(found[0])


def test_shapleycam_is_pytorch_grad_cams(cnn, images):
    ours = Explainer(cnn, "shapleycam", site=MapSite("layer3"))
    found, activations = ours(images, LABELS).maps.unflatten(0, (2, 2)), ours.activations(images)
    for column in range(2):
        weights = peers_weights(cnn, images, column, target_layers=[cnn.layer3])
        assert_close(found[:, column], torch.einsum("nd,ndhw->nhw", weights, activations))


def test_shapleycam_of_a_vit_has_the_weights_of_pytorch_grad_cams():
    """The peer finds the weights, and then fails: it does not rearrange the tokens of which it makes the map."""
    model = perturbed(drawn("test_vit", num_classes=5))
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(3))
    ours = Explainer(model, "shapleycam")
    found, activations = ours(images, LABELS).maps.unflatten(0, (2, 2)), ours.activations(images)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # the peer needs a second derivative

    def to_maps(tokens):
        return tokens[:, 1:].reshape(len(tokens), 10, 10, -1).permute(0, 3, 1, 2)

    for column in range(2):
        settings = {"target_layers": [model.blocks[-1].norm1], "reshape_transform": to_maps}
        weights = peers_weights(model, images, column, **settings)
        assert_close(found[:, column], torch.einsum("nd,ndhw->nhw", weights, activations))


def test_shapleycam_takes_half_the_second_derivative():
    """y = (a^2, 0), a the mean of a map of ones times 3: worked by hand."""

    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Identity()

        def forward(self, x):
            mean = self.features(x).mean((1, 2, 3))
            return torch.stack([mean**2, 0 * mean], 1)

    found = Explainer(Square(), "shapleycam", layer="features")(torch.full((1, 3, 2, 2), 3.0), [[0]]).maps
    # score s(m) = m^2 + log sigmoid(m^2); s' = 2m (1 + q), q = sigmoid(-m^2); s'' = 2 (1 + q) - 4 m^2 q (1 - q).
    # G = s'/12 at each of 12 entries; H A = s'' 12 m / 144 = s'' m / 12; the map is 3 channels x m (s' - m s''/2) / 12.
    m = 3.0
    q = 1 / (1 + np.exp(m**2))
    first, second = 2 * m * (1 + q), 2 * (1 + q) - 4 * m**2 * q * (1 - q)
    expected = torch.full((1, 2, 2), 3 * m * (first - m * second / 2) / 12)
    torch.testing.assert_close(found, expected)


def test_smoothgradcampp_without_noise_is_torchcams(cnn, images, monkeypatch):
    torchcam = pytest.importorskip("torchcam.methods")
    monkeypatch.setattr(gradient_variants, "NOISE", 0.0)
    site = MapSite("layer4")  # behind it is one linear layer, where no departure of the peer shows without noise
    found = Explainer(cnn, "smoothgradcampp", site=site)(images, LABELS).maps.unflatten(0, (2, 2))

    def make(*args):
        return torchcam.SmoothGradCAMpp(*args, num_samples=3, std=1e-30)

    for column in range(2):
        assert_close(found[:, column], by_torchcam(make, cnn, images, column, "layer4"))


def noisy_loop(model, image, label, seed, as_torchcam=False):
    """SmoothGradCAM++ copy by copy; as torchcam, with the last copy's gradient and activations and another sum."""
    kept = []
    handle = model.layer3.register_forward_hook(lambda _, __, output: kept.append(output))
    explainer_seed = gradient_variants.Scene(model, image[None], MapSite("layer3"), None, [(0, label)], seed=seed)
    stream = torch.Generator().manual_seed(explainer_seed.seed_of_image(0))
    spread = 0.15 * float(image.max() - image.min())
    model(image[None])
    clean = kept.pop()[0].detach()
    powers = [0, 0, 0]
    for _ in range(25):
        copy = image + spread * torch.randn(image.shape, generator=stream)
        score = model(copy[None])[0, label]
        at = kept.pop()
        (gradient,) = torch.autograd.grad(score, at)
        powers = [total + gradient[0] ** (k + 1) / 25 for k, total in enumerate(powers)]
    handle.remove()
    first, shown, third = powers[0], clean, powers[2] * clean.sum((1, 2), keepdim=True)
    if as_torchcam:
        first, shown, third = gradient[0], at[0].detach(), (powers[2] * clean).sum((1, 2), keepdim=True)
    share = powers[1] / (2 * powers[1] + third + 1e-8)
    return ((share * first.relu()).sum((1, 2), keepdim=True) * shown).sum(0)


def test_smoothgradcampp_behind_one_linear_layer_is_gradcampp(cnn, images):
    # The gradient of a pooled linear head depends on no image, and so on no noise; only the 1e-8 and 1e-6 differ.
    found = Explainer(cnn, "smoothgradcampp")(images, LABELS).maps
    expected = Explainer(cnn, "gradcampp")(images, LABELS).maps
    torch.testing.assert_close(found / found.amax(), expected / expected.amax(), rtol=0, atol=0.02)


@pytest.mark.parametrize("batch_size", [4, 32])
def test_smoothgradcampp_is_a_loop_whatever_the_batch(cnn, images, batch_size):
    site = MapSite("layer3")
    explainer = Explainer(cnn, "smoothgradcampp", site=site, seed=5, batch_size=batch_size)
    state = torch.random.get_rng_state()
    both = explainer(images, LABELS)
    assert torch.equal(state, torch.random.get_rng_state())
    expected = torch.stack([noisy_loop(cnn, images[i], c, 5).detach() for i, c in both.pairs.tolist()])
    assert_close(both.maps, expected)
    alone = explainer(images[1:], [[1]]).maps
    assert_close(both.maps[3:], alone)
    other = Explainer(cnn, "smoothgradcampp", site=site, seed=6)(images[1:], [[1]]).maps
    assert (other - alone).abs().max() > 1e-3 * alone.abs().max()


def test_torchcam_departs_from_the_paper_in_three_places(cnn, images, monkeypatch):
    """Its ReLU is of the last copy's gradient, its map of that copy's activations; its sum is of D3 A."""
    torchcam = pytest.importorskip("torchcam.methods")
    image = images[:1]
    seeds = gradient_variants.Scene(cnn, image, MapSite("layer3"), None, [(0, 3)], seed=5)
    stream = torch.Generator().manual_seed(seeds.seed_of_image(0))
    spread = 0.15 * float(image.max() - image.min())
    with torchcam.SmoothGradCAMpp(cnn, cnn.layer3, num_samples=25, std=1.0) as cam:
        cam._relu = False
        draw = type("Draw", (), {"sample": lambda _, size: spread * torch.randn(size[1:], generator=stream)[None]})
        monkeypatch.setattr(cam, "_distrib", draw())
        theirs = cam([3], cnn(image), normalized=False)[0].detach()
    like = noisy_loop(cnn, image[0], 3, 5, as_torchcam=True).detach()
    assert_close(theirs[0], like)
    ours = noisy_loop(cnn, image[0], 3, 5).detach()
    assert (ours - like).abs().max() > 0.01 * like.abs().max()


def layers_of(model, images, **more):
    """LayerCAM's maps, without their negative part, of the three layers that RefineCAM multiplies."""
    sites = stages(model, locate(model), 3)
    return [Explainer(model, "layercam", site=site)(images, LABELS, **more).maps.clamp(min=0) for site in sites]


@pytest.mark.parametrize(
    "make",
    [
        lambda: drawn("test_resnet", num_classes=5),
        lambda: drawn("test_efficientnet", num_classes=5),
        pytest.param(lambda: drawn("swin_s3_tiny_224", num_classes=5), marks=pytest.mark.slow),  # channels last
        pytest.param(lambda: torchvision.models.densenet121(num_classes=5), marks=pytest.mark.slow),
    ],
)
def test_refinecam_is_the_product_of_three_layers(make):
    model = perturbed(make())
    side = timm.data.resolve_model_data_config(model)["input_size"][-1] if "Swin" in type(model).__name__ else 96
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    parts = layers_of(model, images)
    size = parts[0].shape[1:]
    assert len({part.shape[1:] for part in parts}) == 3
    expected = torch.stack([upsample(normalise(part, "max"), size) for part in parts]).prod(0)
    found = Explainer(model, "refinecam")(images, LABELS)
    assert_close(found.maps, expected)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(images))


def test_refinecam_departs_from_pytorch_grad_cams_in_scale_and_size(cnn, images):
    """The peer scales each map to its range, also at the image's size, multiplies there, and scales the product."""
    peer = importlib.import_module("pytorch_grad_cam.refine_cam").RefineCAM
    layer_cam = importlib.import_module("pytorch_grad_cam").LayerCAM
    target = importlib.import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    names = [site.layer for site in stages(cnn, MapSite("layer4"), 3)]
    assert names == ["layer2", "layer3", "layer4"]
    theirs = peer(cnn, [cnn.get_submodule(name) for name in names], base_method=layer_cam)
    size = tuple(images.shape[2:])
    parts = [Explainer(cnn, "layercam", layer=name)(images, LABELS).maps.clamp(min=0) for name in names]
    scaled = [normalise(upsample(normalise(part, "minmax"), size), "minmax") for part in parts]
    same = torch.stack(scaled).prod(0).unflatten(0, (2, 2))
    for column in range(2):
        found = torch.tensor(theirs(images, [target(row[column]) for row in LABELS]))
        torch.testing.assert_close(found, normalise(same[:, column], "minmax"), rtol=0, atol=1e-4)


def test_refinecam_takes_one_pass_and_no_more_for_a_second_batch(cnn, images):
    passes, explainer = [], Explainer(cnn, "refinecam")
    explainer(images, LABELS)
    with cnn.fc.register_forward_hook(lambda *_: passes.append(1)):
        explainer(images, LABELS)
    assert len(passes) == 1


@pytest.mark.parametrize(
    ("name", "side", "said"),
    [
        ("test_vit", 160, "VisionTransformer has tokens at `blocks"),
        ("convit_tiny", 224, "ConVit has tokens at `blocks.11.norm1`"),  # whose weights of attention are no maps
        ("levit_128s", 224, "LevitDistilled has tokens at"),
    ],
)
def test_refinecam_needs_maps_of_three_sizes(name, side, said):
    model = drawn(name, num_classes=5)
    images = torch.randn(1, 3, side, side)
    with pytest.raises(ViceError, match=f"maps of 3 sizes, but {said}") as error:
        Explainer(model, "refinecam")(images, [[0]])
    name = re.search(r"method='(\w+)'", error.value.way_out)[1]
    assert len(Explainer(model, name)(images, [[0]]).maps) == 1


@pytest.mark.parametrize("what", ["attention", "table", "unused"])
def test_weights_of_attention_and_tables_of_positions_are_no_map_of_a_stage(what):
    model = drawn("test_resnet", num_classes=5)
    names = [site.layer for site in stages(model, locate(model), 3)]
    other = drawn("test_resnet", num_classes=5)
    # Modules whose outputs have the size of layer2, and come later.
    other.attention, other.conv = nn.Softmax(dim=-1), nn.Conv2d(other.layer3[0].conv1.in_channels, 4, 1)

    def before_layer_3(module, given):
        if what == "attention":
            return given[0] * other.attention(given[0])
        if what == "table":
            return given[0] + other.conv(torch.ones_like(given[0])).mean()
        other.conv(given[0])
        return given[0]

    other.layer3.register_forward_pre_hook(before_layer_3)
    assert [site.layer for site in stages(other, locate(other), 3)] == names


def test_refinecam_says_that_a_classifier_is_untrained_and_that_a_layer_is_not_reached(images):
    model = drawn("test_resnet", num_classes=5)
    explainer = Explainer(model, "refinecam")
    nn.init.zeros_(model.fc.weight)
    with pytest.raises(ViceError, match="must be trained, but all its weights are 0"):
        explainer(images, LABELS)
    model = drawn("test_resnet", num_classes=5)
    explainer = Explainer(model, "refinecam")
    explainer(images, LABELS)
    model.layer3, model.stage = nn.Sequential(), model.layer3
    model.forward_features = lambda x: model.layer4(model.stage(model.layer2(model.layer1(model.maxpool(stem(x))))))

    def stem(x):
        return model.act1(model.bn1(model.conv1(x)))

    with pytest.raises(ViceError, match="`layer3` must take part in the forward pass"):
        explainer(images, LABELS)


@pytest.mark.parametrize("method", ["finercam", "shapleycam", "smoothgradcampp"])
def test_a_layer_whose_places_the_classifier_does_not_read_is_refused(method):
    model = drawn("test_vit", num_classes=5)  # it reads the class token of its last norm alone
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    explainer = Explainer(model, method, layer="norm")
    with pytest.raises(ViceError, match="The gradient at `norm` must not vanish, but is zero at every place"):
        explainer(images, LABELS)
    assert len(explainer(images, [[], []]).maps) == 0
