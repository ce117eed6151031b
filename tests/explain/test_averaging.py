"""Averages over layers and augmented copies: by hand, and against pytorch-grad-cam with two layers and six passes."""

import importlib

import numpy as np
import pytest
import torch

from small_networks import drawn, perturbed
from torchvice import Explainer, ViceError
from torchvice.explain import normalise as normalise_maps
from torchvice.explain import upsample

LABELS = [[0, 3], [4, 1]]
LAYERS = {
    "test_resnet": ["layer3", "layer4"],  # of two grids
    "test_vit": ["blocks.3.norm1", "blocks.5.norm1"],
}


def network(name):
    generator = torch.Generator().manual_seed(0)
    model = perturbed(drawn(name, num_classes=5), generator)
    size = (96, 64) if name == "test_resnet" else (160, 160)
    return model, torch.randn(2, 3, *size, generator=generator)


def to_maps(tokens):
    return tokens[:, 1:].reshape(len(tokens), 10, 10, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("aug_smooth", [False, True])
@pytest.mark.parametrize("method", ["gradcam", "layercam"])
@pytest.mark.parametrize("name", LAYERS)
def test_equals_the_peer_with_two_layers_and_six_passes(name, method, aug_smooth):
    peer = importlib.import_module("pytorch_grad_cam")
    model, images = network(name)
    modules = [model.get_submodule(layer) for layer in LAYERS[name]]
    kind = {"gradcam": peer.GradCAM, "layercam": peer.LayerCAM}[method]
    settings = {"reshape_transform": to_maps} if name == "test_vit" else {}
    with kind(model=model, target_layers=modules, **settings) as cam:
        expected = []
        for column in range(2):
            targets = [peer.utils.model_targets.ClassifierOutputTarget(row[column]) for row in LABELS]
            expected.append(cam(images, targets, aug_smooth=aug_smooth))
    explainer = Explainer(model, method, layers=LAYERS[name], aug_smooth=aug_smooth, grid="image")
    found = explainer(images, LABELS)
    assert explainer.site.layer == LAYERS[name][0]
    assert found.maps.shape == (4, *images.shape[2:])
    np.testing.assert_allclose(found.maps.numpy(), np.stack(expected, 1).reshape(found.maps.shape), rtol=0, atol=1e-4)


def test_a_mean_of_layers_as_they_are():
    model, images = network("test_resnet")
    fine, coarse = (Explainer(model, "gradcam", layer=layer)(images, LABELS).maps for layer in LAYERS["test_resnet"])
    found = Explainer(model, "gradcam", layers=LAYERS["test_resnet"], scaled="none")(images, LABELS).maps
    size = tuple(fine.shape[1:])
    assert size > tuple(coarse.shape[1:])
    torch.testing.assert_close(found, (fine.clamp(min=0) + upsample(coarse.clamp(min=0), size)) / 2)
    scaled = Explainer(model, "gradcam", layers=LAYERS["test_resnet"][::-1])(images, LABELS).maps
    both = [normalise_maps(one.clamp(min=0), "minmax") for one in (fine, coarse)]
    expected = normalise_maps((both[0] + upsample(both[1], size)) / 2, "minmax")
    torch.testing.assert_close(scaled, expected)


def test_six_augmented_copies_by_hand():
    model, images = network("test_resnet")
    expected = []
    for shown, back in ((images, False), (images.flip(-1), True)):
        for factor in (0.9, 1.0, 1.1):
            maps = Explainer(model, "gradcam")(shown * factor, LABELS).maps.clamp(min=0)
            expected.append(maps.flip(-1) if back else maps)
    found = Explainer(model, "gradcam", aug_smooth=True, scaled="none")(images, LABELS)
    torch.testing.assert_close(found.maps, torch.stack(expected).mean(0))
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(images))  # of the unchanged images only


def test_labels_of_the_unchanged_images_hold_for_all_copies():
    model, images = network("test_resnet")
    found = Explainer(model, "gradcam", aug_smooth=True)(images, "predicted")
    with torch.no_grad():
        assert found.pairs.tolist() == (model(images) > 0).nonzero().tolist()
    assert len(found.maps) == len(found.pairs) > 0
    assert Explainer(model, "gradcam", aug_smooth=True)(images, [[], []]).maps.shape[0] == 0


def test_refusals():
    model, _ = network("test_resnet")
    with pytest.raises(ViceError, match="Only one of"):
        Explainer(model, "gradcam", layer="layer3", layers=["layer4"])
    with pytest.raises(ViceError, match="each once"):
        Explainer(model, "gradcam", layers=["layer4", "layer4"])
    with pytest.raises(ViceError, match="at least one"):
        Explainer(model, "gradcam", layers=[])
    with pytest.raises(ViceError, match="layer9"):
        Explainer(model, "gradcam", layers=["layer3", "layer9"])
    with pytest.raises(ViceError, match="scaled"):
        Explainer(model, "gradcam", layers=["layer3", "layer4"], scaled="max")
    with pytest.raises(ViceError, match="grid"):
        Explainer(model, "gradcam", aug_smooth=True, grid="coarsest")
    with pytest.raises(ViceError, match="does not at `layer3`"):
        Explainer(model, "cam", layers=["layer3", "layer4"])
    for method in ("rollout", "random", "saliency"):
        with pytest.raises(ViceError, match="of one layer"):
            Explainer(model, method, layers=["layer3", "layer4"])
