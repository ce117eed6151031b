"""Score-CAM, Ablation-CAM and ReciproCAM against loops, and how many images they send through the network."""

import contextlib

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from torchvice import Explainer, ViceError
from torchvice.explain.gradient import eigen_smooth
from torchvice.models.families import MapSite


class Toy(nn.Module):
    """Four channels behind a ReLU, of which the last is dead; `rows` is what becomes of more rows than images."""

    def __init__(self, rows="kept", seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.features = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.features.weight = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator))
        with torch.no_grad():
            self.features.weight[3] = 0
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 3)
        self.fc.weight = nn.Parameter(torch.randn(3, 4, generator=generator))
        self.fc.bias = nn.Parameter(torch.randn(3, generator=generator))
        self.rows = rows

    def forward(self, x):
        pooled = self.act(self.features(x)).mean((2, 3))
        if self.rows == "refused":
            pooled = pooled.reshape(len(x), 4)
        elif self.rows == "averaged":
            pooled = pooled.reshape(len(x), -1, 4).mean(1)
        return self.fc(pooled)


@pytest.fixture
def images():
    return torch.randn(3, 3, 6, 8, generator=torch.Generator().manual_seed(1))


LABELS = [[0, 2], [], [1]]


@contextlib.contextmanager
def _counted(module):
    """The images that go through a module."""
    seen = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    try:
        yield seen
    finally:
        handle.remove()


@torch.no_grad()
def _ablated(model, image, label):
    """Ablation-CAM channel by channel."""
    activations = model.act(model.features(image[None]))
    score = model.fc(activations.mean((2, 3)))[0, label]
    total = 0
    for d in range(4):
        without = activations.clone()
        without[:, d] = 0
        total = total + (score - model.fc(without.mean((2, 3)))[0, label]) / score * activations[0, d]
    return total


@torch.no_grad()
def _scored(model, image, label):
    """Score-CAM channel by channel."""
    activations = model.act(model.features(image[None]))[0]
    scores = []
    for channel in activations:
        mask = functional.interpolate(channel[None, None], image.shape[1:], mode="bilinear", align_corners=True)[0]
        spread = mask.max() - mask.min()
        mask = (mask - mask.min()) / spread if spread > 0 else torch.zeros_like(mask)
        scores.append(model((image * mask)[None])[0, label])
    weights = torch.stack(scores).exp()
    return sum(w / weights.sum() * channel for w, channel in zip(weights, activations, strict=True))


@torch.no_grad()
def _kept(model, image, label):
    """ReciproCAM place by place."""
    activations = model.act(model.features(image[None]))
    found = torch.zeros(activations.shape[2:])
    none = model.fc(torch.zeros_like(activations).mean((2, 3)))[0, label]
    for row in range(len(found)):
        for column in range(len(found[0])):
            one = torch.zeros_like(activations)
            one[:, :, row, column] = activations[:, :, row, column]
            found[row, column] = model.fc(one.mean((2, 3)))[0, label] - none
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize("rows", ["kept", "refused", "averaged"])
@pytest.mark.parametrize(
    ("method", "oracle"), [("scorecam", _scored), ("ablationcam", _ablated), ("reciprocam", _kept)]
)
def test_equal_to_a_loop(images, method, oracle, rows, batch_size):
    model = Toy(rows)
    found = Explainer(model, method, layer="act", batch_size=batch_size)(images, LABELS)
    expected = torch.stack([oracle(model, images[i], c) for i, c in found.pairs.tolist()])
    torch.testing.assert_close(found.maps, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits, model(images).detach())


def test_scorecam_sends_an_image_once_for_each_living_channel(images):
    # 3 images for the activations, 3 living channels of the two images with labels, one of zeros for all dead channels.
    model, reported = Toy(), []
    explainer = Explainer(model, "scorecam", layer="act", batch_size=4, progress=lambda *step: reported.append(step))
    with _counted(model) as seen:
        explainer(images, LABELS)
    assert seen == [3, 4, 2, 1]
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_ablation_goes_through_the_layers_below_once_a_batch(images):
    # 3 for the activations; 1 and 2 to test whether one image may become a batch; 1 for its three living channels.
    model, reported = Toy(), []
    explainer = Explainer(model, "ablationcam", layer="act", progress=lambda *step: reported.append(step))
    with _counted(model.features) as below, _counted(model.fc) as above:
        explainer(images, LABELS)
    assert below == [3, 1, 2, 1, 1]
    assert above == [3, 2, 2, 3, 3]
    assert reported == [(1, 2), (2, 2)]


def test_ablation_repeats_images_where_a_network_knows_how_many_came(images):
    model = Toy("averaged")
    explainer = Explainer(model, "ablationcam", layer="act", batch_size=4)
    with _counted(model.features) as below:
        explainer(images, LABELS)
    assert below == [3, 1, 2, 4, 2]


def test_ablation_of_a_vit_runs_the_last_block_only_for_the_batch():
    model = timm.create_model("test_vit", num_classes=3)
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(2))
    explainer = Explainer(model, "ablationcam", batch_size=64)
    with _counted(model.blocks[0]) as below, _counted(model.head) as above:
        found = explainer(images, [[0], [1]])
    assert below == [2, 1, 2, 1, 1]
    assert above == [2, 2, 2, 64, 64]
    assert found.maps.abs().amax((1, 2)).min() > 0


def test_reciprocam_passes_the_head_once_for_each_place_and_once_without(images):
    model, reported = Toy(), []
    explainer = Explainer(model, "reciprocam", layer="act", batch_size=48, progress=lambda *step: reported.append(step))
    with _counted(model.features) as below, _counted(model.fc) as above:
        explainer(images, LABELS)
    assert below == [3, 1, 2, 1, 1, 1, 1]  # the map, the test of expansion, and once a batch
    assert above == [3, 2, 2, 48, 1, 48, 1]  # 6 x 8 places and none, of the two images with labels
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_reciprocam_of_a_pooled_linear_head_is_cam_divided_by_the_places():
    model = timm.create_model("test_resnet", num_classes=3).eval()
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(3))
    found = Explainer(model, "reciprocam")(images, [[0, 2], [1]]).maps
    expected = Explainer(model, "cam")(images, [[0, 2], [1]]).maps
    torch.testing.assert_close(found, expected / expected[0].numel(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["test_resnet", "test_vit"])
def test_reciprocam_is_openvino_xais_less_the_logit_without_places(network):
    """A departure of the peer, as of its paper: it scales maps, so that only differences of places have a meaning."""
    peer = pytest.importorskip("openvino_xai.methods.white_box.torch")
    torch.manual_seed(0)
    model = timm.create_model(network, num_classes=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(4))
    kind = peer.TorchReciproCAM if network == "test_resnet" else peer.TorchViTReciproCAM
    layer = "layer4" if network == "test_resnet" else Explainer(model).site.layer
    site = None if network == "test_vit" else MapSite("layer4")
    found = Explainer(model, "reciprocam", site=site)(images, [[0, 1, 2]] * 2).maps.unflatten(0, (2, 3))

    class Exact(kind):
        def _find_feature_module_by_name(self, model, name):
            return dict(model.named_modules())[name]

    theirs = Exact(model, target_layer=layer, embed_scaling=False)
    # One by one: in a ViT the residual has the batch of one image, which broadcasts.
    maps = [theirs.model_forward(image[None].numpy(), preprocess=False)["saliency_map"] for image in images]
    difference = found - torch.tensor(maps)[:, 0]
    flat = difference.flatten(2)
    rounding = (flat.amax(2) - flat.amin(2)).max()  # of float32 logits, which differ little from place to place
    assert rounding < 1e-6 * np.abs(maps).max()
    assert found.abs().max() > 1000 * rounding
    assert difference.abs().min() > 1e-3  # what is subtracted


def test_no_label_needs_no_further_pass(images):
    for method in ("scorecam", "ablationcam", "reciprocam"):
        model = Toy()
        explainer = Explainer(model, method, layer="act")
        with _counted(model) as seen:
            found = explainer(images, [[], [], []])
        assert seen == [3]
        assert found.maps.shape == (0, 6, 8)


def test_labels_that_depend_on_the_logits_and_outputs_that_mean_a_class(images):
    model = Toy()
    for method, oracle in (("scorecam", _scored), ("ablationcam", _ablated), ("reciprocam", _kept)):
        found = Explainer(model, method, layer="act", class_map=[[2], [0, 1]])(images, "predicted")
        assert len(found.pairs)
        outputs = model(images)
        for (i, c), ours in zip(found.pairs.tolist(), found.maps, strict=True):
            output = 2 if c == 0 else int(outputs[i, :2].argmax())
            torch.testing.assert_close(ours, oracle(model, images[i], output), rtol=1e-4, atol=1e-5)


def test_ablation_of_a_map_laid_out_otherwise(images):
    class Last(Toy):
        def forward(self, x):
            return self.fc(self.last(self.act(self.features(x))).mean((1, 2)))

        def last(self, x):
            return self.identity(x.permute(0, 2, 3, 1))

    model = Last()
    model.identity = nn.Identity()
    expected = Explainer(Toy(), "ablationcam", layer="act")(images, LABELS).maps
    for site in (
        MapSite("identity", "output", "nhwc"),
        MapSite("identity", reshape=lambda maps: maps.permute(0, 3, 1, 2)),
    ):
        found = Explainer(model, "ablationcam", site=site)(images.contiguous(memory_format=torch.channels_last), LABELS)
        torch.testing.assert_close(found.maps, expected)


def test_an_in_place_relu_does_not_write_to_the_map_that_is_kept(images):
    # The input of the ReLU is negative here and there, and so is its map.
    for where in (MapSite("act", "input"), MapSite("features")):
        model = Toy()
        found = Explainer(model, "eigencam", site=where)(images, LABELS).maps
        with torch.no_grad():
            activations = model.features(images)[[0, 0, 2]]
        torch.testing.assert_close(found, eigen_smooth(activations, activations.sum(1)))


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ViceError, match="at least 1"):
        Explainer(Toy(), "scorecam", layer="act", batch_size=0)


def test_a_logit_of_zero_has_no_ablation_map(images):
    model = Toy()
    with torch.no_grad():
        model.fc.weight[1] = 0
        model.fc.bias[1] = 0
    assert Explainer(model, "ablationcam", layer="act")(images[:1], [[1, 0]]).status[0] == "nan"


def test_a_smoothed_ablation_is_the_component_of_its_weighted_channels(images):
    plain = Explainer(Toy(), "ablationcam", layer="act")(images, LABELS).maps
    smoothed = Explainer(Toy(), "ablationcam", layer="act", eigen_smooth=True)(images, LABELS).maps
    assert ((plain - plain.mean((1, 2), keepdim=True)) * smoothed).sum((1, 2)).min() > 0
    torch.testing.assert_close(smoothed.mean((1, 2)), torch.zeros(len(smoothed)), rtol=0, atol=1e-5)
