"""Raw maps equal pytorch-grad-cam 1.5.7's for every method both have, on a CNN and a ViT, with two labels an image."""

import importlib

import numpy as np
import pytest
import torch

from small_networks import drawn, perturbed
from torchvice import Explainer
from variants import slow_but

CLASSES = {
    "gradcam": "GradCAM",
    "gradcampp": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}
EIGEN = ("eigencam", "eigengradcam")
LABELS = [[0, 3], [4, 1]]


@pytest.fixture(scope="module")
def peer():
    return importlib.import_module("pytorch_grad_cam")


@pytest.fixture(scope="module")
def cnn():
    model = perturbed(drawn("test_resnet", num_classes=5))
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    return model, images, {"target_layers": [model.layer4[-1]]}


@pytest.fixture(scope="module")
def vit():
    model = perturbed(drawn("test_vit", num_classes=5), torch.Generator().manual_seed(2))
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(3))

    def to_maps(tokens):
        return tokens[:, 1:].reshape(len(tokens), 10, 10, -1).permute(0, 3, 1, 2)

    return model, images, {"target_layers": [model.blocks[-1].norm1], "reshape_transform": to_maps}


def _zero_ablation(peer):
    """The peer's ablation as its paper has it: the channel is set to 0, not to 1e7 below the minimum."""
    layers = importlib.import_module("pytorch_grad_cam.ablation_layer")

    class Zero(layers.AblationLayerVit):
        def __call__(self, x):
            for row, channel in enumerate(self.indices[: len(self.activations)]):
                self.activations[row, :, int(channel)] = 0
            return self.activations

    return Zero()


def _raw(peer, method, model, images, settings, eigen_smooth=False):
    """The peer's maps before its ReLU and scaling: label by label, as it takes one an image; (N, labels, h, w)."""
    if method == "ablationcam":
        settings = settings | {"batch_size": 32}
        if "reshape_transform" in settings:
            settings["ablation_layer"] = _zero_ablation(peer)
    found = []
    with getattr(peer, CLASSES[method])(model=model, **settings) as cam:
        make = cam.get_cam_image
        cam.get_cam_image = lambda *args: found.append(make(*args)) or found[-1]
        for column in range(2):
            targets = [peer.utils.model_targets.ClassifierOutputTarget(row[column]) for row in LABELS]
            cam(images, targets, eigen_smooth=eigen_smooth)
    return np.stack(found, 1)


def _compare(maps, expected, up_to_sign):
    maps = maps.reshape(expected.shape).numpy()
    for ours, theirs in zip(maps.reshape(4, -1), expected.reshape(4, -1), strict=True):
        if up_to_sign and np.dot(ours, theirs) < 0:
            theirs = -theirs
        peak = np.abs(theirs).max()
        assert peak > 0
        np.testing.assert_allclose(ours / peak, theirs / peak, rtol=0, atol=1e-4)


@pytest.mark.parametrize("network", ["cnn", "vit"])
@pytest.mark.parametrize("method", slow_but(CLASSES, "gradcam", "xgradcam", "layercam", "eigencam", "ablationcam"))
def test_raw_maps_equal_the_peers(peer, method, network, request):
    model, images, settings = request.getfixturevalue(network)
    expected = _raw(peer, method, model, images, settings)
    found = Explainer(model, method)(images, LABELS)
    _compare(found.maps, expected, method in EIGEN)


@pytest.mark.parametrize("method", ["gradcam", "gradcampp", "xgradcam", "hirescam", "layercam"])
def test_smoothed_maps_equal_the_peers_up_to_sign(peer, method, vit):
    model, images, settings = vit
    expected = _raw(peer, method, model, images, settings, eigen_smooth=True)
    found = Explainer(model, method, eigen_smooth=True)(images, LABELS)
    _compare(found.maps, expected, True)


def test_the_peers_ablation_departs_from_its_paper_where_activations_are_negative(peer, vit):
    model, images, settings = vit
    settings = settings | {
        "ablation_layer": importlib.import_module("pytorch_grad_cam.ablation_layer").AblationLayerVit()
    }
    with peer.AblationCAM(model=model, **settings) as cam:
        seen = []
        make = cam.get_cam_image
        cam.get_cam_image = lambda *args: seen.append(make(*args)) or seen[-1]
        cam(images[:1], [peer.utils.model_targets.ClassifierOutputTarget(0)])
    ours = Explainer(model, "ablationcam")(images[:1], [[0]]).maps.numpy()
    assert np.abs(seen[0] - ours).max() > 0.1 * np.abs(ours).max()
