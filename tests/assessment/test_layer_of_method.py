"""A layer that the user names for a method whose map is not of a layer is refused; further explanations need none."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from torchvice import Explainer, ViceError
from torchvice.assessment import Extras, MapSettings
from torchvice.assessment.request import extras_of
from torchvice.assessment.views import views_of
from torchvice.explain import METHODS, Choices
from torchvice.models.families import MapSite
from variants import slow_but

ATTENTION = [
    "rollout",
    "attention_gradient",
    "generic_attention",
    "legrad",
    "transformer_attribution",
    "libragrad_attention",
]
PIXELS = [
    "rise",
    "occlusion",
    "attnlrp",
    "cp_lrp",
    "attnlrp_gamma",
    "lrp_zplus",
    "libragrad",
    "saliency",
    "smoothgrad",
    "integrated_gradients",
]


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=3).eval()


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3).eval()


def test_the_methods_without_a_layer_are_those_of_attention_and_of_pixels():
    assert [name for name, method in METHODS.items() if method.reads == "patches"] == ATTENTION
    assert [name for name, method in METHODS.items() if method.reads == "pixels"] == PIXELS


@pytest.mark.parametrize("method", slow_but([*ATTENTION, *PIXELS], "rollout", "legrad", "occlusion", "attnlrp"))
def test_a_layer_is_refused_where_the_map_is_not_of_a_layer(vit, method):
    said = rf"must go with a method whose map is of one layer, but '{method}' is not.*\n.*or name no layer"
    for given in ({"layer": "blocks.0.norm1"}, {"site": MapSite("blocks.0.norm1", layout="tokens", prefix_tokens=1)}):
        with pytest.raises(ViceError, match=f"`{next(iter(given))}` {said}"):
            views_of(vit, ("strict",), MapSettings(method=method, **given))
    with pytest.raises(ViceError, match=f"`layer` {said}"):
        Explainer(vit, method, layer="blocks.0.norm1")
    for refuses in (
        lambda: MapSettings(method=method, choices=Choices(layers=("blocks.0.norm1",))),
        lambda: Explainer(vit, method, layers=["blocks.0.norm1"]),
    ):
        with pytest.raises(ViceError, match=f"`layers` {said}"):
            refuses()
    assert views_of(vit, ("strict",), MapSettings(method=method))["strict"].explainer.method == method


def test_cam_and_the_methods_of_layers_take_one_as_before(resnet):
    cam = MapSettings(method="cam", choices=Choices(layers=("layer4",)))
    assert views_of(resnet, ("strict",), cam)["strict"].explainer.site.layer == "layer4"
    for method in ("cam", "random", "gradcam"):
        assert Explainer(resnet, method, layer="layer4").site.layer == "layer4"
    with pytest.raises(ViceError, match="`layers` must go with a method whose map is of one layer, but 'cam' is not"):
        MapSettings(method="cam", choices=Choices(layers=("layer3", "layer4")))


@pytest.mark.parametrize("chosen", [{"layer": "layer3"}, {"choices": Choices(layers=("layer3",))}])
def test_further_explanations_stand_next_to_a_chosen_layer(resnet, chosen):
    headline = views_of(resnet, ("strict",), MapSettings(method="gradcam", view_size=64, **chosen))["strict"]
    (extra,) = extras_of(headline, Extras(controls=(), also=("saliency",)))
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    ((_, output),) = extra.view.run([image], np.array([[0, 1, 0]]))
    alone = Explainer(resnet, "saliency")(headline.pixels(image)[None], [[1]]).maps
    np.testing.assert_allclose(output.maps[0], alone[0], rtol=1e-4, atol=1e-8)


class Picky(nn.Module):
    """A network whose own layer is not found: it refuses random images."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        if x.min() < 0:
            raise ValueError("only images above 0")
        return self.features(x).mean((2, 3))


def test_a_network_whose_layer_is_not_found_needs_a_named_one():
    with pytest.raises(ViceError, match="only images above 0"):
        Explainer(Picky(), "saliency")
    found = Explainer(Picky(), "saliency", layer="features")(torch.rand(1, 3, 4, 4), [[0]])
    assert found.maps.shape == (1, 4, 4)
