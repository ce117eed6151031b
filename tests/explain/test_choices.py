"""Choices: each named decision does what it says, and the manifest keeps it."""

import numpy as np
import pytest
import timm
import torch

from torchvice import Explainer, ViceError
from torchvice.assessment import MapSettings
from torchvice.assessment.views import View, views_of
from torchvice.data.transforms import center_crop, normalise, uncrop
from torchvice.data.warping import warp
from torchvice.explain import Choices, paper_choices, upsample
from torchvice.explain import normalise as normalise_maps

PIXELS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "device": "cpu"}


@pytest.fixture(scope="module")
def explainer():
    torch.manual_seed(0)
    return Explainer(timm.create_model("test_resnet", num_classes=5), "gradcam")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in ((70, 90, 3), (64, 64, 3), (70, 90, 3))]


TARGETS = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=np.uint8)


def look(explainer, images, choices, targets=TARGETS):
    view = View("strict", explainer, MapSettings(view_size=64, batch_size=2, choices=choices, **PIXELS))
    return dict(view.run(images, targets))


def low(explainer, pixels, classes):
    return explainer(normalise(pixels, PIXELS["mean"], PIXELS["std"])[None], [classes]).maps.clamp(min=0)


def test_the_default_is_one_pass_of_the_warp(explainer, images):
    seen = look(explainer, images, Choices())
    expected = normalise_maps(upsample(low(explainer, warp(images[0], 64), [0, 3]), (70, 90)), "max")
    np.testing.assert_allclose(seen[0].full((70, 90)), expected, atol=1e-5)
    assert seen[0].classes == [0, 3]
    assert seen[2].classes == []
    assert seen[2].full((70, 90)).shape == (0, 70, 90)


@pytest.mark.parametrize("combine", ["mean", "sum"])
def test_scales_and_mirror_are_summed_or_averaged_after_the_relu(explainer, images, combine):
    chosen = Choices(scales=(1.0, 1.5), mirror=True, combine=combine, normalisation="none")
    seen = look(explainer, images, chosen)
    total = torch.zeros(1, 64, 64)
    for side in (64, 96):
        pixels = warp(images[1], side)
        total += upsample(low(explainer, pixels, [1]), (64, 64))
        total += upsample(low(explainer, np.ascontiguousarray(pixels[:, ::-1]), [1]), (64, 64)).flip(-1)
    expected = total / 4 if combine == "mean" else total
    np.testing.assert_allclose(seen[1].full((64, 64)), expected, rtol=1e-4, atol=1e-5)


def test_order_matters_and_is_as_named(explainer, images):
    small = low(explainer, warp(images[0], 64), [0, 3])
    first = look(explainer, images, Choices(order="normalise-first"))[0].full((70, 90))
    np.testing.assert_allclose(first, upsample(normalise_maps(small, "max"), (70, 90)), atol=1e-5)
    via = look(explainer, images, Choices(order="normalise-first-via-view"))[0].full((70, 90))
    np.testing.assert_allclose(via, upsample(upsample(normalise_maps(small, "max"), (64, 64)), (70, 90)), atol=1e-5)
    twice = look(explainer, images, Choices(order="normalise-twice-via-view"))[0].full((70, 90))
    at_view = normalise_maps(upsample(normalise_maps(small, "max"), (64, 64)), "max")
    np.testing.assert_allclose(twice, upsample(at_view, (70, 90)), atol=1e-5)
    assert at_view.amax((1, 2)).tolist() == [1, 1]


def test_labels(explainer, images):
    logits = look(explainer, images, Choices())[0].logits
    predicted = np.flatnonzero(logits > 0).tolist()
    assert look(explainer, images, Choices(labels="predicted"))[0].classes == predicted
    assert look(explainer, images, Choices(labels="both"))[0].classes == sorted({0, 3, *predicted})
    fixed = look(explainer, images, Choices(labels=(4, 2)))
    assert [fixed[i].classes for i in range(3)] == [[4, 2]] * 3
    mirrored = look(explainer, images, Choices(labels="predicted", mirror=True))
    assert mirrored[0].classes == predicted


def test_the_whole_view_keeps_the_images_own_size(explainer, images):
    seen = look(explainer, images, Choices(view="whole"))
    expected = normalise_maps(upsample(low(explainer, images[0], [0, 3]), (70, 90)), "max")
    np.testing.assert_allclose(seen[0].full((70, 90)), expected, atol=1e-5)


def test_a_crop_says_nothing_outside(explainer, images):
    seen = look(explainer, images, Choices(view="crop"))
    crop = center_crop(normalise(images[0], PIXELS["mean"], PIXELS["std"]), 64)[None]
    inner = normalise_maps(upsample(explainer(crop, [[0, 3]]).maps.clamp(min=0), (64, 64)), "max")
    full = seen[0].full((70, 90))
    np.testing.assert_allclose(full, uncrop(inner, (70, 90)), atol=1e-5)
    assert not full[:, :3].any()
    assert not full[:, :, :13].any()


@pytest.mark.parametrize("size", [(7, 9), (10, 10), (12, 5), (3, 3)])
def test_uncrop_inverts_the_crop(size):
    tensor = torch.arange(size[0] * size[1], dtype=torch.float32).reshape(size) + 1
    back = uncrop(center_crop(tensor, 6), size)
    kept = back != 0
    assert torch.equal(back[kept], tensor[kept])
    assert kept.sum() == min(6, size[0]) * min(6, size[1])


def test_percentile_is_not_ruled_by_one_pixel():
    maps = torch.ones(1, 20, 20) * 0.5
    maps[0, 0, 0] = 100
    found = normalise_maps(maps, "percentile")
    assert found[0, 5, 5] == 1
    assert found.max() == 1
    single = torch.zeros(1, 20, 20)
    single[0, 3, 3] = 4.0
    assert normalise_maps(single, "percentile")[0, 3, 3] == 1


def test_the_manifest_keeps_every_choice(explainer):
    choices = Choices(mirror=True, normalisation="minmax")
    view = View("strict", explainer, MapSettings(view_size=64, batch_size=2, choices=choices, **PIXELS))
    assert view.settings["mirror"] is True
    assert view.settings["normalisation"] == "minmax"
    assert view.settings["view"] == "warp64"
    assert set(Choices().to_dict()) <= set(view.settings)
    assert isinstance(view, View)


def test_the_published_choices():
    assert paper_choices(convolutional=True) == Choices(view="whole", mirror=True, combine="sum", normalisation="paper")
    assert paper_choices(convolutional=False).view == "warp"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mirrors=true", "Did you mean `mirror`"),
        ("mirror", "NAME=VALUE"),
        ("mirror=perhaps", "true or false"),
        ("scales=1,x", "numbers"),
        ("scales=0", "above 0"),
        ("normalisation=sigmoid", "one of"),
        ("labels=all", "true, predicted, both"),
        ("view=corner", "warp, whole, crop"),
    ],
)
def test_a_wrong_choice_is_told(text, said):
    with pytest.raises(ViceError, match=said):
        Choices.parse([text])


def test_a_crop_has_one_scale():
    with pytest.raises(ViceError, match="one scale"):
        Choices(view="crop", scales=(0.5, 1.0))
    assert Choices.parse(["labels=3,1"]).labels == (3, 1)
    assert Choices.parse([]) == Choices()


def test_out_of_memory_halves_the_batch_and_goes_on(explainer, images, monkeypatch):
    expected = {i: seen.full((8, 8)) for i, seen in look(explainer, images, Choices()).items()}
    whole = type(explainer).__call__

    def small(self, batch, labels):
        if len(batch) > 1:
            raise torch.OutOfMemoryError("no room")
        return whole(self, batch, labels)

    monkeypatch.setattr(type(explainer), "__call__", small)
    with pytest.warns(UserWarning, match="batches of 1 images"):
        found = look(explainer, images, Choices())
    for i, seen in found.items():
        np.testing.assert_allclose(seen.full((8, 8)), expected[i], atol=1e-5)
    monkeypatch.setattr(type(explainer), "__call__", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(ViceError, match="one image"), pytest.warns(UserWarning, match="Out of GPU memory"):
        look(explainer, images, Choices())


@pytest.mark.parametrize("method", ["scorecam", "occlusion", "smoothgradcampp"])
def test_the_copies_of_a_single_image_are_halved_too(images, method):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=5).eval()
    expected = look(Explainer(model, method), images[1:2], Choices(), TARGETS[1:2])[0].full((8, 8))
    sizes = []

    def small(_, given):
        sizes.append(len(given[0]))
        if len(given[0]) > 10:
            raise torch.OutOfMemoryError("no room")

    explainer = Explainer(model, method)
    handle = model.register_forward_pre_hook(small)
    with pytest.warns(UserWarning, match="Out of GPU memory: continuing with passes of 8 copies of an image"):
        found = look(explainer, images[1:2], Choices(), TARGETS[1:2])[0].full((8, 8))
    handle.remove()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert [size for size in sizes if size > 8] == [25 if method == "smoothgradcampp" else 32, 16]


def test_eigen_smoothing_is_a_choice_of_both_protocols(images):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=5)
    smooth = Explainer(model, "gradcam", eigen_smooth=True)
    settings = MapSettings(method="gradcam", view_size=64, batch_size=2, choices=Choices(eigen_smooth=True), **PIXELS)
    view = View("strict", smooth, settings)
    assert view.settings["eigen_smooth"] is True
    plain = look(Explainer(model, "gradcam"), images, Choices())[0].full((8, 8))
    assert not np.allclose(dict(view.run(images, TARGETS))[0].full((8, 8)), plain)


def of_views(model, choices, passes=None, **more):
    how = {"batch_size": 2, "view_size": 64, "crop": 64, "method": "gradcam", "choices": choices, **PIXELS, **more}
    return views_of(model, ["paper", "strict"], MapSettings(**how), passes=passes)


def test_several_layers_and_looks_are_those_of_the_explainer_and_of_strict_alone(explainer, images):
    chosen = Choices(layers=("layer3", "layer4"), aug_smooth=True, normalisation="none")
    views = of_views(explainer.model, chosen)
    assert views["paper"].explainer.average is None
    settings = views["strict"].settings
    assert (settings["layers"], settings["aug_smooth"], settings["grid"]) == (["layer3", "layer4"], True, "finest")
    pixels = normalise(warp(images[1], 64), PIXELS["mean"], PIXELS["std"])[None]
    alone = Explainer(explainer.model, "gradcam", layers=["layer3", "layer4"], aug_smooth=True)(pixels, [[1]])
    seen = dict(views["strict"].run(images, TARGETS))[1]
    np.testing.assert_allclose(seen.full((64, 64)), upsample(alone.maps, (64, 64)), rtol=1e-4, atol=1e-6)


def test_a_layer_is_named_once(explainer):
    with pytest.raises(ViceError, match="both `layer` and the choice `layers`"):
        of_views(explainer.model, Choices(layers=("layer3",)), layer="layer4")
    assert Choices.parse(["layers=layer3, layer4", "aug_smooth=true", "grid=image"]).layers == ("layer3", "layer4")
    with pytest.raises(ViceError, match="`scaled` must be one of minmax, none"):
        Choices(scaled="max")


def test_methods_of_many_passes_tell_how_many_are_done(explainer, images):
    told = []
    view = of_views(
        explainer.model, Choices(), method="scorecam", passes=lambda done, total: told.append((done, total))
    )
    list(view["strict"].run(images[:1], TARGETS[:1]))
    assert told
    assert told[-1][0] == told[-1][1] > 1
