"""The network inside its wrappers: nothing that is read off it depends on them, nor on its precision."""

from __future__ import annotations

import types

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from torchvice.assessment import MapSettings
from torchvice.assessment.views import views_of
from torchvice.errors import ViceError
from torchvice.explain import Explainer
from torchvice.models.bare import bare
from torchvice.models.build import preprocessing
from variants import slow_but


class Around(nn.Module):
    """A module of the user's own around a network."""

    def __init__(self, network, change=lambda outputs: outputs):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, images):
        return self.change(self.network(images))


def network(name="test_resnet", **arguments):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=3, **arguments).eval()


def compiled(model):
    return torch.compile(model, backend="eager")


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        compiled,
        lambda model: compiled(nn.DataParallel(model)),
        lambda model: nn.DataParallel(compiled(model)),
        torch.optim.swa_utils.AveragedModel,
    ],
)
def test_wrappers_change_nothing(wrap):
    model = network()
    expected, found = Explainer(model), Explainer(wrap(model))
    assert found.site == expected.site
    assert found.method == expected.method
    assert torch.equal(found(IMAGES, [[0], [1]]).maps, expected(IMAGES, [[0], [1]]).maps)


@pytest.mark.parametrize("wrap", [nn.DataParallel, compiled])
def test_a_wrapper_inside_has_the_names_of_the_network_and_stays(wrap):
    inner = network()
    model = Around(wrap(inner))
    model.network(IMAGES)  # compiled code without hooks exists before a map is requested
    explainer = Explainer(model)
    assert explainer.site == Explainer(Around(inner)).site
    maps = explainer(IMAGES, [[0], [1]]).maps
    assert torch.equal(maps, Explainer(inner)(IMAGES, [[0], [1]]).maps)
    assert model.network is not inner


def test_a_module_around_a_network_does_not_change_what_is_read_off_it():
    model = network("test_vit")
    assert preprocessing(Around(model)) == preprocessing(model)
    assert preprocessing(model).mean == (0.5, 0.5, 0.5)  # not ImageNet's, which any other network gets
    images = torch.randn(1, 3, 160, 160)
    site = Explainer(model).site
    assert Explainer(Around(model)).site.layer == f"network.{site.layer}"
    assert torch.equal(Explainer(Around(model))(images, [[0]]).maps, Explainer(model)(images, [[0]]).maps)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-5), (torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_models_of_any_precision_are_assessed(dtype, near):
    settings = MapSettings(view_size=64, crop=64, batch_size=2, device="cpu")
    images = [np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8) for i in range(2)]
    targets = np.array([[1, 0, 0], [0, 1, 1]])
    expected = views_of(network(), ("paper", "strict"), settings)
    views = views_of(network().to(dtype), ("paper", "strict"), settings)
    for protocol, view in views.items():
        values, outputs = dict(expected[protocol].run(images, targets)), dict(view.run(images, targets))
        assert view.explainer.method == expected[protocol].explainer.method
        for i in range(2):
            assert outputs[i].logits.dtype == np.float32
            assert outputs[i].maps[0].dtype == np.float32
            np.testing.assert_allclose(outputs[i].logits, values[i].logits, atol=near)


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        (lambda z: {"logits": z, "loss": None}, True),
        (lambda z: types.SimpleNamespace(logits=z), True),
        (lambda z: (z, torch.zeros(len(z), 5, 2, 2)), True),
        (lambda z: (z, z + 1), False),
        (lambda z: {"scores": z}, False),
    ],
)
def test_logits_are_found_in_what_a_model_returns(change, taken):
    model = network()
    if not taken:
        with pytest.raises(ViceError, match=r"must return logits \(N, C\), .* (tuple|dict of scores)\.\s+Wrap it in a"):
            Explainer(Around(model, change))
        return
    maps = Explainer(Around(model, change))(IMAGES, [[0], [1]])
    assert torch.equal(maps.logits, Explainer(model)(IMAGES, [[0], [1]]).logits)


def test_models_that_cannot_be_run_are_refused_in_a_sentence():
    with torch.device("meta"):
        meta = network()
    exported = torch.export.export(network(), (torch.zeros(2, 3, 64, 64),))
    with torch.inference_mode():
        inference = network()
    cases = {
        "on the meta device": meta,
        "under torch.inference_mode": inference,
        "torch.export": exported.module(),
        "is a ExportedProgram": exported,
        "is the function <lambda>": lambda images: images,
        "must be initialised": nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyLinear(3)),
        "scripted": Around(torch.jit.trace(network(), IMAGES, check_trace=False)),
    }
    for message, model in cases.items():
        for refused in (bare, Explainer, lambda model: views_of(model, ("strict",), MapSettings())):
            with pytest.raises(ViceError, match=message):
                refused(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    for name in ("fc.weight", "layer1.0.bn1.running_var"):
        model = network()
        model.state_dict()[name].fill_(value)
        with pytest.raises(ViceError, match=f"`{name}` holds NaN or infinity"):
            views_of(model, ("strict",), MapSettings(device="cpu"))
    model = network()
    model.fc.weight.data.fill_(float("nan"))
    with pytest.raises(ViceError, match=r"`fc\.weight` holds NaN"):
        Explainer(model)


@pytest.mark.parametrize(
    ("name", "side", "layer"),
    slow_but([("swin_t", 224, "features.7.1.norm1"), ("swin_v2_t", 256, None)], ("swin_t", 224, "features.7.1.norm1")),
)
def test_torchvisions_swin(name, side, layer):
    torch.manual_seed(0)
    explainer = Explainer(getattr(torchvision.models, name)(weights=None, num_classes=3))
    assert layer in (None, explainer.site.layer)
    assert explainer.site.layout == ("nhwc" if layer else "nchw")
    maps = explainer(torch.randn(1, 3, side, side), [[1]]).maps
    assert maps.shape == (1, side // 32, side // 32)
    assert bool(maps.any())


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_networks_of_other_channels_are_refused_with_a_way_out_that_works(channels):
    other = network(in_chans=channels)
    if channels != 1:
        with pytest.raises(ViceError, match=rf"3 channels \(RGB\), but takes {channels}\.\s+Wrap it in a module"):
            Explainer(other)

    class FromRgb(Around):
        def forward(self, images):
            return self.network(images.mean(1, keepdim=True).expand(-1, channels, -1, -1))

    assert Explainer(FromRgb(other))(IMAGES, [[0], [1]]).maps.shape[0] == 2
