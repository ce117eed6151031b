"""Networks of users in unusual states: assessed with the right numbers, or refused with a way out that works."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import prune

import torchvice
from torchvice.assessment import behaviour
from torchvice.assessment.behaviour import say_doubts, turned
from torchvice.assessment.randomised import randomised
from torchvice.errors import ViceError
from torchvice.explain import Explainer
from torchvice.models.adapt import output_count

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
HOW = {"view_size": 32, "crop": 32, "device": "cpu", "protocols": ["strict"], "progress": False, "outputs": "logits"}


class Net(nn.Module):
    """Two convolutions, mean pooling and a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.fc = nn.Linear(16, 2)

    def maps(self, x):
        return self.b(self.a(x).relu()).relu()

    def forward(self, x):
        return self.fc(self.maps(x).mean((2, 3)))


class Data:
    """Three images with both of two classes."""

    classes = ("a", "b")
    records = tuple(SimpleNamespace(image_id=str(i)) for i in range(3))
    targets = np.ones((3, 2), np.uint8)

    def image(self, index):
        return np.random.default_rng(index).integers(0, 255, (32, 32, 3)).astype(np.uint8)

    def mask(self, index):
        return np.repeat([[0, 1, 2, 0]], 32, 0).repeat(8, 1)


def assessed(model, out, **how):
    return torchvice.assess(model, Data(), out=out, **(HOW | how))


def test_a_network_that_normalises_its_images_in_place_sees_each_image_once():
    class InPlace(Net):
        def forward(self, x):
            return super().forward(x.sub_(0.5).div_(0.25))

    class Apart(Net):
        def forward(self, x):
            return super().forward((x - 0.5) / 0.25)

    before = IMAGES.clone()
    for method in ("auto", "gradcam", "scorecam"):
        found = Explainer(InPlace(), method)(IMAGES, [[0, 1], [1]])
        expected = Explainer(Apart(), method)(IMAGES, [[0, 1], [1]])
        torch.testing.assert_close(found.logits, expected.logits)
        torch.testing.assert_close(found.maps, expected.maps)
    assert torch.equal(IMAGES, before)


class NoGrad(Net):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class Inference(Net):
    @torch.inference_mode()
    def forward(self, x):
        return super().forward(x)


class Detached(Net):
    def forward(self, x):
        return self.fc(self.maps(x).detach().mean((2, 3)))


class ThroughNumpy(Net):
    def forward(self, x):
        return torch.tensor(super().forward(x).detach().numpy())


class WritesOver(Net):
    """Changes a tensor that the gradient needs."""

    def forward(self, x):
        y = torch.sigmoid(self.b(self.a(x)))
        return self.fc(y.exp_().mean((2, 3)))


class Wrapped(Net):
    """A dictionary with another tensor beside the logits, after a change of the images in place."""

    def forward(self, x):
        features = self.maps(x.mul_(2)).mean((2, 3))
        return {"features": features, "logits": self.fc(features)}


class Doubled(Net):
    def forward(self, x):
        return super().forward(2 * x)


@pytest.mark.parametrize("method", ["saliency", "smoothgrad", "integrated_gradients", "ablationcam", "hirescam"])
def test_every_method_takes_the_logits_out_of_what_a_network_returns(method):
    if method in ("saliency", "smoothgrad", "integrated_gradients"):
        pytest.importorskip("captum")
    found, expected = (Explainer(kind(), method)(IMAGES, [[0, 1], [1]]) for kind in (Wrapped, Doubled))
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.maps, expected.maps)


@pytest.mark.parametrize("kind", [NoGrad, Inference, Detached, ThroughNumpy, WritesOver])
def test_a_network_without_gradients_is_refused_and_the_way_out_works(kind, tmp_path):
    with pytest.raises(ViceError, match="gradient") as refused:
        assessed(kind(), tmp_path / "a")
    assert "method='scorecam'" in refused.value.way_out
    samples = assessed(kind(), tmp_path / "b", layer="b", method="scorecam")
    assert set(samples.regions.status.tolist()) <= {"ok", "zero", "none"}
    if kind is WritesOver:
        with pytest.raises(ViceError, match=r"let a gradient pass from its logits to `b`, but torch raises: one of"):
            Explainer(kind(), "gradcam", layer="b")(IMAGES, [[0], [1]])


class Classes(Net):
    def forward(self, x):
        return nn.functional.one_hot(super().forward(x).argmax(1), 2)


class Decided(Net):
    def forward(self, x):
        return super().forward(x).argmax(1)


class Two(Net):
    def forward(self, x):
        features = self.maps(x).mean((2, 3))
        return features, self.fc(features)


def test_outputs_that_are_no_scores_or_several_are_refused(tmp_path):
    for how in ({}, {"layer": "b"}):
        with pytest.raises(ViceError, match=r"must return logits \(N, C\), but returns int64 of shape"):
            assessed(Classes(), tmp_path, **how)
        with pytest.raises(ViceError, match=r"but returns int64 of shape \(\d,\)\."):
            assessed(Decided(), tmp_path, **how)
    assert output_count(Classes()) is None  # the command asks for it before it looks for a layer
    with pytest.raises(ViceError, match=r"but returns tuple\.\s.*output='NAME'\), here 0: \(1, 16\) or 1: \(1, 2\)\."):
        assessed(Two(), tmp_path)
    plain = assessed(Net(), tmp_path / "plain").images.logits
    np.testing.assert_array_equal(assessed(Two(), tmp_path / "named", output="1").images.logits, plain)


class WideHead(Net):
    def __init__(self):
        super().__init__()
        self.fc.double()

    def forward(self, x):
        return self.fc(self.maps(x).mean((2, 3)).double())


def test_layers_of_several_types_are_one_network():
    wide, plain = Explainer(WideHead(), layer="b"), Explainer(Net(), layer="b")
    torch.testing.assert_close(wide(IMAGES, [[0], [1]]).maps, plain(IMAGES, [[0], [1]]).maps)


def test_a_forward_that_was_compiled_by_itself_is_the_network_and_a_copy_is_its_own():
    model = timm.create_model("test_resnet", num_classes=2)
    expected = Explainer(model)(IMAGES, [[0], [1]])
    model.forward = torch.compile(model.forward, backend="eager")
    explainer = Explainer(model)
    torch.testing.assert_close(explainer(IMAGES, [[0], [1]]).maps, expected.maps)
    drawn = Explainer(randomised(explainer.model), site=explainer.site)(IMAGES, [[0], [1]])
    assert not torch.allclose(drawn.logits, expected.logits)
    assert "forward" in vars(model)  # the caller's model stays as it was


def test_a_forward_that_was_assigned_has_no_random_copy():
    model = Net()
    model.forward = lambda x: model.fc(model.maps(x).mean((2, 3)))
    with pytest.raises(ViceError, match="`Net` has a forward that was assigned to it"):
        randomised(model)


def test_pruned_networks_have_their_own_layer_and_a_random_copy():
    plain, pruned = (timm.create_model("test_resnet", num_classes=2) for _ in range(2))
    prune.l1_unstructured(pruned.fc, "weight", 0.3)
    assert Explainer(pruned).site == Explainer(plain).site
    drawn = randomised(pruned)
    assert not torch.equal(drawn.fc.weight_orig, pruned.fc.weight_orig)
    assert torch.equal(drawn.fc.weight_mask, pruned.fc.weight_mask)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_networks_that_compute_activations_again_have_the_same_maps(name):
    torch.manual_seed(0)
    model, images = timm.create_model(name, num_classes=2), torch.randn(2, 3, 160, 160)
    expected = Explainer(model, "gradcam")(images, [[0, 1], [1]])
    model.set_grad_checkpointing(True)
    torch.testing.assert_close(Explainer(model, "gradcam")(images, [[0, 1], [1]]).maps, expected.maps)
    assert model.grad_checkpointing


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_of_one_size_is_shown_the_size_that_is_given(channels, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(channels, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = assessed(model, tmp_path / "a", view_size=28, crop=None, protocols=["paper", "strict"])
        assert samples.manifest["map_settings"]["crop"] == 28
        with pytest.raises(ViceError, match=rf"\(1, {channels}, 224, 224\), but its forward raises") as refused:
            assessed(model, tmp_path / "b", view_size=None, crop=None)
    assert "--view-size SIDE" in refused.value.way_out
    assert not hasattr(model, "pretrained_cfg")


def test_quantised_networks_need_a_method_without_gradients(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(*layers).eval(), {nn.Linear}, torch.qint8)
    with pytest.raises(ViceError, match="there is no gradient") as refused:
        assessed(model, tmp_path / "a")
    assert "method='scorecam'" in refused.value.way_out
    samples = assessed(model, tmp_path / "b", layer="1", method="scorecam")
    assert len(samples.manifest["model"]["weights_sha256"]) == 64
    with pytest.raises(ViceError, match="random_weights must draw weights"):
        randomised(nn.Sequential(nn.ReLU()))


def test_an_exported_program_names_its_way_out():
    program = torch.export.export(Net().eval(), (IMAGES,))
    for model in (program, program.module()):
        with pytest.raises(ViceError, match=r"\.\s+Give the module that was exported\."):
            Explainer(model)


class Dropped(Net):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class Noisy(Net):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x))


class OfTheBatch(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(16, track_running_stats=False)

    def forward(self, x):
        return self.fc(self.norm(self.maps(x)).relu().mean((2, 3)))


class StaysInTraining(Net):
    """Its batch norm is never put into eval mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(16, momentum=0.0)

    def eval(self):
        return self

    def forward(self, x):
        return self.fc(self.norm(self.maps(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("kind", [Dropped, Noisy, OfTheBatch, StaysInTraining])
def test_networks_whose_outputs_change_are_said(kind):
    said = []
    say_doubts(Explainer(kind(), layer="b"), 64, said.append)
    assert len(said) == 1
    assert "shown again, beside another one, has other outputs" in said[0]


def test_other_networks_are_not_said(tmp_path, told):
    said = []
    networks = [Net(), Net().double(), Net().bfloat16(), WideHead(), timm.create_model("test_vit", num_classes=2)]
    for network in [*networks, timm.create_model("test_resnet", num_classes=1000)]:
        say_doubts(Explainer(network), None, said.append)
    assert not said
    assessed(Noisy(), tmp_path)
    assert "is not steady" in told()


class Cropping(Net):
    """Crops its images itself, to the middle half of each side."""

    def forward(self, x):
        h, w = x.shape[2] // 4, x.shape[3] // 4
        return super().forward(x[:, :, h:-h, w:-w])


def test_a_network_that_crops_its_images_is_said(tmp_path, told):
    said = []
    say_doubts(Explainer(Cropping()), 64, said.append)
    assert said[0].startswith("The network does not see the 16 pixels at the top and 16 at the bottom of its images")
    say_doubts(Explainer(nn.Sequential(nn.ConstantPad2d(-8, 0), Net())), 64, said.append)
    assert "the 8 pixels at the top and 8 at the bottom" in said[1]
    assert "give it as the transform" in said[1]
    assessed(Cropping(), tmp_path)
    assert "does not see the 8 pixels" in told()


@pytest.mark.parametrize("side", [64, 70, 100, 127])
def test_a_rest_of_patches_at_one_side_is_no_crop(side):
    """A strided convolution without padding drops the last columns, at one side only."""
    said = []
    say_doubts(Explainer(nn.Sequential(nn.Conv2d(3, 3, 16, 16), Net())), side, said.append)
    assert not [sentence for sentence in said if "one position" not in sentence]
    assert len(said) == (side < 96)  # 5 patches and fewer end in a map of one position


def test_a_map_of_one_position_is_said_and_its_ways_out_help():
    """Of a network whose layer is known without a pass, too."""
    network = timm.create_model("resnet18", num_classes=2)

    def said(side, **how):
        sentences = []
        say_doubts(Explainer(network, **how), side, sentences.append)
        return sentences

    (sentence,) = said(32)
    assert "The map of `global_pool` has one position for an image of 32 x 32 pixels" in sentence
    assert "Show larger images (--view-size), or name an earlier layer (--layer)." in sentence
    assert not said(64)
    assert not said(32, layer="layer3", method="gradcam")
    assert not said(32, method="saliency")  # whose map is of pixels


class Placed(nn.Module):
    """Shows its network the images otherwise than they are."""

    def __init__(self, network, place):
        super().__init__()
        self.network, self.place = network, place

    def forward(self, x):
        return self.network(self.place(x))


@pytest.mark.parametrize(
    "name", ["test_resnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("test_vit", "test_convnext"))]
)
@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda x: x.flip(-1), "mirror its images itself, left to right"),
        (lambda x: x.flip(-2), "mirror its images itself, upside down"),
        (lambda x: x.flip(-1, -2), "turn its images itself"),
        (lambda x: x.transpose(-1, -2), "turn its images itself"),
        (lambda x: x, ""),
    ],
)
def test_a_network_that_mirrors_or_turns_its_images_is_said(name, place, words):
    torch.manual_seed(0)
    said = []
    say_doubts(Explainer(Placed(timm.create_model(name, num_classes=3), place)), 160, said.append)
    assert len(said) == bool(words)
    assert words in "".join(said)


class Averaged(nn.Module):
    """The mean of the logits of an image and of its mirror image, in one order or the other."""

    def __init__(self, mirrored_last):
        super().__init__()
        torch.manual_seed(0)
        self.network, self.mirrored_last = timm.create_model("test_resnet", num_classes=3), mirrored_last

    def forward(self, x):
        shown = (x, x.flip(-1)) if self.mirrored_last else (x.flip(-1), x)
        return sum(self.network(one) for one in shown) / 2


@pytest.mark.parametrize("mirrored_last", [True, False])
def test_of_a_layer_that_runs_twice_the_last_run_counts_and_both_are_said(mirrored_last):
    """The doubts look at the run that the map is of: only where that is the mirror image it lies in the wrong place."""
    network = Averaged(mirrored_last).eval()
    with pytest.raises(ViceError, match=r"`network\.layer4.*`, which returns one, runs 2 times") as refused:
        Explainer(network)
    assert "Name the layer" in refused.value.way_out
    explainer, said = Explainer(network, "layercam", layer="network.layer4"), []
    say_doubts(explainer, 160, said.append)
    assert any("`network.layer4` runs 2 times for an image: the map is of the last run alone" in one for one in said)
    assert any("mirror its images itself, left to right" in one for one in said) == mirrored_last
    image = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    alone = Explainer(network.network, "layercam", layer="layer4")
    expected = alone(image.flip(-1) if mirrored_last else image, [[1]]).maps
    torch.testing.assert_close(explainer(image, [[1]]).maps * 2, expected, rtol=1e-4, atol=1e-6)


# Shifts (down, across) of an EfficientNet-Lite0 that was fine-tuned on photographs, for six images of noise.
WEAKLY_PLACED = [
    ((0.087, 0.052), (0.051, 0.050)),  # alone it looks as if the network turned the image
    ((0.060, -0.027), (-0.034, 0.016)),
    ((0.084, -0.021), (0.005, -0.007)),
    ((0.077, -0.010), (-0.014, 0.019)),
    ((0.121, 0.070), (0.041, 0.041)),
    ((0.077, -0.005), (-0.023, 0.009)),
]


def test_one_image_of_noise_does_not_say_that_a_network_turns_its_images(monkeypatch):
    assert turned(WEAKLY_PLACED[:1]) == "turn its images itself"
    assert not turned(WEAKLY_PLACED)
    flipped = [((-a, b), (-c, d)) for (a, b), (c, d) in WEAKLY_PLACED]
    assert turned(flipped) == "turn or mirror its images itself"  # across, the place is not known well enough
    network, seen = timm.create_model("test_resnet", num_classes=3), []

    def measured(*_):
        seen.append(WEAKLY_PLACED[len(seen) % len(WEAKLY_PLACED)])
        return seen[-1]

    monkeypatch.setattr(behaviour, "shifts", measured)
    said = []
    say_doubts(Explainer(network), 160, said.append)
    assert not said
    assert len(seen) > len(WEAKLY_PLACED)


def test_outputs_that_change_are_said_at_the_size_that_is_shown(tmp_path, told):
    """Dropout of pixels averages out over a large image, and does not over a small one."""
    torch.manual_seed(0)
    assessed(nn.Sequential(nn.Dropout(0.3), Net()).train(), tmp_path / "in_training")  # eval mode switches it off
    assert "not steady" not in told()

    class Lossy(Net):
        def forward(self, x):
            return super().forward(nn.functional.dropout(x, 0.3, training=True))

    assessed(Lossy(), tmp_path / "lossy")
    assert "is not steady" in told()


def test_a_mask_of_minus_infinity_is_no_broken_weight(tmp_path):
    network = Net()
    network.register_buffer("mask", torch.triu(torch.full((4, 4), -torch.inf), 1))
    assessed(network, tmp_path / "t")
    network.register_buffer("other", torch.tensor([torch.nan]))
    with pytest.raises(ViceError, match=r"but `other` holds NaN or infinity"):
        assessed(network, tmp_path / "u")


def test_logarithms_of_sigmoids_are_said(tmp_path, told):
    class Logarithms(Net):
        def forward(self, x):
            return nn.functional.logsigmoid(super().forward(x)).repeat(1, 20)

    class Many(Data):
        classes = tuple(map(str, range(40)))
        targets = np.tile(np.ones((3, 1), np.uint8), (1, 40))

    torchvice.assess(Logarithms(), Many(), out=tmp_path, **(HOW | {"outputs": None}))
    said = " ".join(told().split())
    assert "No output of the first 3 images is above 0: as logits, they say that no image has any class." in said


@pytest.mark.parametrize("output", [1, "1"])
def test_an_output_is_chosen_by_its_number(output, tmp_path):
    class Two(Net):
        def forward(self, x):
            z = super().forward(x)
            return z.repeat(1, 5), z

    chosen = assessed(Two(), tmp_path / "two", output=output)
    np.testing.assert_array_equal(chosen.images.logits, assessed(Net(), tmp_path / "one").images.logits)


def test_networks_of_images_and_texts_name_the_way_out(tmp_path):
    class Towers(Net):
        def encode_text(self, texts):
            raise NotImplementedError

    with pytest.raises(
        ViceError, match=r"Towers compares images with texts.*\s+.*zero_shot\(model, tokenizer, classes\)"
    ):
        assessed(Towers(), tmp_path)


def test_an_untrained_classifier_of_zeros_is_named(tmp_path):
    network = Net()
    nn.init.zeros_(network.fc.weight)
    with pytest.raises(ViceError, match=r"The classifier of Net must be trained, but all its weights are 0"):
        assessed(network, tmp_path, method="gradcam", layer="b")


@pytest.mark.parametrize(
    "given",
    [{"a": [1], "b": [0]}, {0: [1]}, [1, 0], "imagenet-voc", [[0], "1"]],
    ids=["names", "numbers", "flat", "ready", "text"],
)
def test_a_class_map_of_another_form_is_refused_with_the_way_out(given, tmp_path):
    with pytest.raises(
        ViceError, match=r"`class_map` must be a list with the outputs of each class.*\s+Of a dictionary"
    ):
        assessed(Net(), tmp_path, class_map=given)


def test_the_way_out_of_a_dictionary(tmp_path):
    groups = {"b": [0], "a": [1]}
    swapped = assessed(Net(), tmp_path / "a", class_map=[groups[name] for name in Data.classes])
    plain = assessed(Net(), tmp_path / "b")
    np.testing.assert_array_equal(swapped.images.logits, plain.images.logits[:, ::-1])


def test_a_mean_of_0_to_255_is_refused_with_the_numbers_to_give(tmp_path):
    given = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
    with pytest.raises(
        ViceError, match=r"on \[0, 1\], but is \(123.675, .*\s+.*--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
    ):
        assessed(Net(), tmp_path, **given)
    assessed(Net(), tmp_path, mean=(1.0, 0, 0), std=(1, 1, 1 / 255))  # unusual, but of images on [0, 1]
