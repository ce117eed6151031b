"""Views: which network is shown what under `paper`, and mirror images that come back."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from torchvice.assessment import MapSettings
from torchvice.assessment.request import Extras, extras_of
from torchvice.assessment.views import View, is_convolutional, views_of
from torchvice.explain import Choices, Explainer

PIXELS = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "device": "cpu"}


@pytest.mark.parametrize(
    ("name", "size", "layout", "convolutional"),
    [
        ("test_resnet", None, "nchw", True),
        ("test_mambaout", None, "nhwc", True),
        ("test_convnext", None, "nchw", True),
        ("resnest14d", None, "nchw", True),  # its split attention weighs channels
        ("test_vit", None, "tokens", False),
        pytest.param("swinv2_cr_tiny_ns_224", None, "nchw", False, marks=pytest.mark.slow),
        pytest.param("maxvit_rmlp_pico_rw_256", None, "nchw", False, marks=pytest.mark.slow),
        ("swin_tiny_patch4_window7_224", None, "nhwc", False),
        pytest.param("mixer_s32_224", None, "tokens", False, marks=pytest.mark.slow),
    ],
)
def test_paper_goes_by_the_kind_of_network(name, size, layout, convolutional):
    model = timm.create_model(name, num_classes=3)
    explainer = Explainer(model)
    training = [module.training for module in model.modules()]
    assert explainer.site.layout == layout
    assert is_convolutional(explainer) is convolutional
    view = View("paper", explainer, MapSettings(batch_size=2, **PIXELS))
    assert (view.choices.view, view.choices.mirror) == (("whole", True) if convolutional else ("warp", False))
    assert [module.training for module in model.modules()] == training


def test_a_network_of_one_size_is_shown_the_warp():
    flat = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Flatten(), torch.nn.Linear(4 * 28 * 28, 3))
    explainer = Explainer(flat, "gradcam", layer="0")
    assert not is_convolutional(explainer)


def test_a_flipped_view_mirrors_its_maps_back():
    torch.manual_seed(0)
    explainer = Explainer(timm.create_model("test_resnet", num_classes=3))
    view = View("strict", explainer, MapSettings(view_size=64, batch_size=2, **PIXELS))
    turned = view.variant("strict:mirror", flipped=True)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(3)]
    targets = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]])
    back = dict(turned.run(images, targets))
    there = dict(view.run([image[:, ::-1] for image in images], targets))
    for i in range(3):
        np.testing.assert_allclose(back[i].logits, there[i].logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(back[i].maps, np.array(there[i].maps)[..., ::-1], rtol=1e-4, atol=1e-5)
    assert turned.settings == {**view.settings, "flipped": True}
    assert (turned.name, turned.explanation, view.explanation) == ("warp64", "strict:mirror", "strict:cam")


def test_a_flipped_view_of_both_halves_is_the_same_mean():
    torch.manual_seed(0)
    explainer = Explainer(timm.create_model("test_resnet", num_classes=3))
    settings = MapSettings(view_size=64, batch_size=2, choices=Choices(mirror=True), **PIXELS)
    view = View("strict", explainer, settings)
    image, targets = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), np.array([[1, 0, 1]])
    ((_, one),), ((_, other),) = (list(v.run([image], targets)) for v in (view, view.variant("x", flipped=True)))
    np.testing.assert_allclose(one.maps, other.maps, rtol=1e-4, atol=1e-5)


def test_the_predicted_label_of_exclusive_targets_is_the_likeliest():
    torch.manual_seed(0)
    explainer = Explainer(timm.create_model("test_resnet", num_classes=3))
    images = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in range(4)]
    for exclusive in (False, True):
        settings = MapSettings(view_size=64, batch_size=4, choices=Choices(labels="predicted"), **PIXELS)
        view = View("strict", explainer, settings, exclusive=exclusive)
        for _, seen in view.run(images, np.zeros((4, 3), int)):
            expected = [int(seen.logits.argmax())] if exclusive else np.flatnonzero(seen.logits > 0).tolist()
            assert seen.classes == expected


def test_what_is_looked_at_and_how_is_one_line():
    model = timm.create_model("test_resnet", num_classes=3)
    explainer = Explainer(model, "gradcam", layers=["layer3", "layer4"], eigen_smooth=True, class_map=[[0], [1, 2]])
    said = "'gradcam', ResNet, layer 'layer3'+'layer4', eigen_smooth, scaled='minmax', grid='finest'"
    assert repr(explainer) == f"Explainer({said}, 2 classes of its outputs)"
    settings = MapSettings(choices=Choices(mirror=True, labels="predicted"), view_size=64, crop=64, device="cpu")
    view = View("strict", Explainer(model), settings)
    said = "strict:cam, logits on warp64, maps on warp64, labels='predicted', mirror=True"
    assert repr(view) == f"View({said}, Explainer('cam', ResNet, layer 'global_pool'))"
    said = "paper:cam, logits on crop64, maps on whole, mirror=True, combine='sum', normalisation='paper'"
    assert repr(View("paper", Explainer(model), settings)).startswith(f"View({said}, ")


def test_extras_average_as_the_headline_does_and_are_recorded_so():
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3)
    choices = Choices(layers=("layer3", "layer4"), aug_smooth=True, scaled="none", grid="image")
    headline = views_of(model, ("strict",), MapSettings(choices=choices, view_size=64, batch_size=4, **PIXELS))[
        "strict"
    ]
    request = Extras(controls=("random_weights", "random"), also=("layercam", "eigencam", "saliency"))
    extras = {extra.explanation: extra for extra in extras_of(headline, request)}
    images = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in range(2)]
    targets = np.array([[1, 0, 1], [0, 1, 0]])
    pixels = torch.stack([headline.pixels(image) for image in images])
    names = ("layers", "aug_smooth", "scaled", "grid")
    for name in ("random_weights", "layercam", "eigencam"):
        extra = extras[f"strict:{name}"]
        assert {key: extra.settings[key] for key in names} == {key: headline.settings[key] for key in names}
        assert extra.view.explainer.average == headline.explainer.average
        alike = {"layers": list(choices.layers), "aug_smooth": True, "scaled": "none", "grid": "image"}
        explainer = Explainer(extra.view.explainer.model, extra.view.explainer.method, **alike)
        maps = explainer(pixels, [[0, 2], [1]]).maps.relu().numpy()
        made = [one for _, output in sorted(extra.view.run(images, targets)) for one in output.maps]
        np.testing.assert_allclose(np.array(made), maps, rtol=1e-4, atol=1e-6)
    # A method of pixels has no layers, but averages over the copies; a control of no image averages nothing.
    pixel, control = (extras[f"strict:{name}"].settings for name in ("saliency", "random"))
    assert (pixel["layers"], pixel["aug_smooth"]) == (control["layers"], True) == ([], True)
    assert extras["strict:saliency"].view.explainer.average.aug_smooth
    assert not control["aug_smooth"]
