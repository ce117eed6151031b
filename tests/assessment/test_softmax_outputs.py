"""Softmax networks on images of several labels: log-odds of the softmax, said where nobody named the outputs."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from scipy.special import logit, softmax

import torchvice
from torchvice.assessment.map_settings import MapSettings
from torchvice.assessment.outputs import check_number, chosen_outputs
from torchvice.assessment.views import views_of
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.explain import Explainer
from torchvice.models.prompts import Prompts
from torchvice.models.zero_shot import ZeroShot

SETTINGS = {"view_size": 64, "crop": 64, "device": "cpu", "protocols": ["strict"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return VocDataset(write_digits(tmp_path_factory.mktemp("digits"), train=2, val=6, test=2, size=48), "val")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=1000).eval()


def raw_outputs(model, data):
    """(N, 1000) of the view of `strict`."""
    view = views_of(model, ["strict"], MapSettings(view_size=64, crop=64, device="cpu"))["strict"]
    images = torch.stack([view.pixels(data.image(i)) for i in range(len(data.records))])
    with torch.no_grad():
        return model(images).double().numpy()


def test_log_odds_of_the_softmax_are_taken_and_said(data, model, tmp_path, told):
    groups = [[c, c + 20] for c in range(len(data.classes))]
    outputs = raw_outputs(model, data)
    samples = torchvice.assess(model, data, out=tmp_path / "a", class_map=groups, **SETTINGS)
    said = told()
    assert said.count("the log-odds of its softmax probability (--outputs softmax)") == 1
    p = softmax(outputs, axis=1)
    expected = logit(np.stack([p[:, group].sum(1) for group in groups], 1))
    np.testing.assert_allclose(samples.images.logits, expected, rtol=1e-4)
    assert samples.manifest["map_settings"]["outputs"] == "softmax"
    plain = torchvice.assess(model, data, out=tmp_path / "b", class_map=groups, outputs="logits", **SETTINGS)
    assert "softmax" not in told()
    np.testing.assert_allclose(
        plain.images.logits, np.stack([outputs[:, group].max(1) for group in groups], 1), rtol=1e-3, atol=1e-5
    )
    for mine, others in zip(samples.maps.map, plain.maps.map, strict=True):  # the maps are of the largest output
        np.testing.assert_array_equal(mine, others)
    with pytest.raises(ViceError, match="`outputs` is 'softmax' in the table, but 'logits' now"):
        torchvice.assess(model, data, out=tmp_path / "a", class_map=groups, outputs="logits", **SETTINGS)


def test_a_table_of_logits_is_added_to_as_it_is(data, model, tmp_path, told):
    groups = [[c] for c in range(len(data.classes))]
    first = torchvice.assess(model, data, out=tmp_path, class_map=groups, outputs="logits", **SETTINGS)
    told()
    again = torchvice.assess(model, data, out=tmp_path, class_map=groups, also=["gradcam"], **SETTINGS)
    np.testing.assert_array_equal(first.images.logits, again.images.logits)
    assert "strict:gradcam" in again.manifest["explanations"]
    assert "softmax" not in told()


def test_of_one_label_an_image_the_softmax_is_over_the_classes(tmp_path, model):
    images = [np.full((32, 32, 3), value, np.uint8) for value in (0, 120, 250)]
    items = [(image, label) for image, label in zip(images, (0, 1, 2), strict=True)]
    groups = [[0, 1], [2], [3]]
    how = {"classes": ["a", "b", "c"], "class_map": groups, "outputs": "softmax", **SETTINGS}
    samples = torchvice.assess(model, items, out=tmp_path, **how)
    assert samples.exclusive
    z = Explainer(model)(torch.stack([_shown(model, image) for image in images]), [[]] * 3).logits.double().numpy()
    p = np.stack([softmax(z, axis=1)[:, group].sum(1) for group in groups], 1)
    np.testing.assert_allclose(samples.of_protocol("strict").probabilities, p / p.sum(1, keepdims=True), rtol=1e-4)


def _shown(model, image):
    view = views_of(model, ["strict"], MapSettings(view_size=64, crop=64, device="cpu"))["strict"]
    return view.pixels(image)


def of_text(bias):
    """A zero-shot classifier of three classes, of a small network."""
    tower = timm.create_model("test_resnet", num_classes=4)
    texts = torch.nn.functional.normalize(torch.randn(3, 4), dim=1)
    pixels = ((64, 64), (0.5,) * 3, (0.5,) * 3)
    return ZeroShot(tower, texts, torch.tensor(50.0), bias, pixels, Prompts.of(("a", "b", "c"))).eval()


def test_which_networks_are_noticed(model):
    def chosen(network, **settings):
        said = []
        found = chosen_outputs(
            Explainer(network, class_map=settings.get("class_map")), MapSettings(**settings), said.append
        )
        return found.outputs, " ".join(said)

    assert chosen(timm.create_model("test_resnet", num_classes=5)) == (None, "")
    assert chosen(timm.create_model("test_resnet", num_classes=5), class_map=[[0], [1]]) == (None, "")
    outputs, said = chosen(model, class_map=[[0], [1]])
    assert outputs == "softmax"
    assert "ImageNet's 1000 outputs" in said
    assert "--outputs logits" in said
    outputs, said = chosen(model)
    assert outputs is None
    assert "--outputs softmax" in said
    outputs, said = chosen(of_text(None))
    assert outputs == "softmax"
    assert "zero-shot classifier" in said
    assert chosen(of_text(torch.tensor(-10.0))) == (None, "")
    for named in ("logits", "softmax", "probabilities"):
        assert chosen(model, outputs=named) == (named, "")


@pytest.mark.parametrize("change", [lambda z: z.softmax(1), torch.sigmoid, lambda z: 100 * z.softmax(1)])
def test_outputs_that_are_no_logits_are_refused(change, data, model, tmp_path):
    model.fc.register_forward_hook(lambda _, __, z: change(z))
    groups = [[c] for c in range(len(data.classes))]
    way_out = "probabilities" if change is torch.sigmoid else "softmax"
    with pytest.raises(ViceError, match=rf"(?s)softmax is taken of logits, but .*--outputs {way_out}"):
        torchvice.assess(model, data, out=tmp_path, class_map=groups, method="gradcam", **SETTINGS)


def test_the_number_of_outputs_takes_no_pass_of_its_own(model):
    explainer = Explainer(model)
    passes = []
    explainer.model.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(ViceError, match="output for each of 20 classes, but has 1000"):
        check_number(explainer, 20, exclusive=False)
    assert not passes
    explainer = Explainer(model, "gradcam", site=explainer.site)
    passes.clear()
    with pytest.raises(ViceError, match="output for each of 20 classes, but has 1000"):
        check_number(explainer, 20, exclusive=False)
    assert len(passes) == 1
