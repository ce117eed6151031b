"""Every way out of the refusals of explanations is done: of methods, layers, attention, relevance and choices."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from torchvice import Explainer
from torchvice.assessment.map_settings import MapSettings
from torchvice.assessment.plugins import load_plugin
from torchvice.assessment.views import views_of
from torchvice.errors import ViceError
from torchvice.explain import METHODS, Choices, FaithfulnessChoices, Scene, method, register
from torchvice.explain.attention import capture_attention
from torchvice.explain.gradient import cam
from torchvice.explain.input_relevance import RULES
from torchvice.explain.memory import halve_on_oom
from torchvice.explain.relevance import relevance_method
from torchvice.explain.surrogate import surrogate
from torchvice.models.families import MapSite
from ways_out import tried

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LABELS = [[0], [1]]
CFG = {"input_size": (3, 32, 32)}
RGB = [np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(2)]
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 3}
SITE = MapSite("blocks.0.norm1", "output", "tokens", 1)


class Toy(nn.Module):
    """Two layers and a linear classifier, for images of 32 x 32; its outputs may be changed."""

    default_cfg = CFG

    def __init__(self, change=None, classes=3):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 4, stride=4), nn.Conv2d(4, 6, 1)
        self.act, self.fc, self.change = nn.ReLU(), nn.Linear(6, classes), change
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, images):
        logits = self.fc(self.act(self.second(self.first(images).relu())).mean((2, 3)))
        return logits if self.change is None else self.change(logits)


def vit(name="vit_tiny_patch16_224", **settings):
    torch.manual_seed(0)
    return timm.create_model(name, **{**VIT, **settings}).eval()


def swin():
    torch.manual_seed(0)
    return torchvision.models.SwinTransformer([4, 4], 24, [1, 1], [1, 2], [4, 4], num_classes=3).eval()


def explained(model, name="auto", images=IMAGES, labels=LABELS, **how):
    found = Explainer(model, name, **how)(images, labels)
    assert len(found.maps) == 2
    return found


def looked(model, say=None, **settings):
    """The logits of two images by the settings of maps."""
    how = {"method": "gradcam", "view_size": 32, "crop": 32, "batch_size": 2, "device": "cpu", **settings}
    view = views_of(model, ("strict",), MapSettings(**how), say=say)["strict"]
    return np.stack([seen.logits for _, seen in view.run(RGB, np.eye(2, 3, dtype=int))])


def way_out_of(wrong):
    with pytest.raises(ViceError) as caught:
        wrong()
    return caught.value.way_out


def suggested(wrong, pattern=r"`(.+?)`"):
    """What the way out of a refusal names."""
    found = re.search(pattern, way_out_of(wrong))
    assert found is not None, way_out_of(wrong)
    return found[1]


@pytest.fixture
def own_methods():
    """Methods that a test registers are gone after it."""
    before = dict(METHODS)
    yield METHODS
    METHODS.clear()
    METHODS.update(before)


class Twice(nn.Module):
    """Attention whose rows have the sum 2."""

    def forward(self, weights):
        return 2 * weights


def of_sum_two():
    model = vit()
    model.blocks[1].attn.attn_drop = Twice()
    return model


def xcit():
    torch.manual_seed(0)
    return timm.create_model("xcit_nano_12_p16_224", img_size=32, depth=1, num_classes=3).eval()


class ViTForImageClassification(Toy):
    """Of transformers by its name alone, as in a version whose attention cannot be read."""


def without_patches():
    model = vit(global_pool="map", class_token=False)
    model.patch_embed.patch_size = None
    return model


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (Toy, "rollout", "has no sequence of blocks"),
        (swin, "generic_attention", "attends within windows only"),
        (lambda: vit(global_pool="map", class_token=False), "rollout", "pools by 'map'"),
        (of_sum_two, "generic_attention", "must sum to 1"),
        (lambda: vit("vit_small_patch16_18x2_224"), "attention_gradient", "must have one attention"),
        (lambda: vit(attn_layer="diff"), "rollout", "subtracts two attentions"),
        (xcit, "rollout", "must attend between"),
        (ViTForImageClassification, "rollout", "is not in this version of transformers"),
        (ViTForImageClassification, "legrad", "must know how ViTForImageClassification makes logits"),
        (lambda: vit(global_pool="avg"), "transformer_attribution", "pools by 'avg'"),
        (vit, "cam", "does not at `blocks.1.norm1`"),
        (lambda: Toy(lambda z: z.sin()), "attnlrp", "none for torch's `sin`"),
    ],
)
def test_a_method_that_does_not_take_a_network_is_replaced_by_gradcam(build, name, message):
    model = build()

    def wrong():
        return explained(model, name)

    with pytest.raises(ViceError, match=message):
        wrong()
    for other in re.findall(r"'(\w+)'", way_out_of(wrong))[-1:]:
        assert other == "gradcam"
        found = tried(wrong, "'gradcam'", lambda other=other: explained(model, other))
        assert torch.isfinite(found.maps).all()


def test_a_network_without_a_grid_of_patches():
    model, site = without_patches(), MapSite("patch_embed.proj")
    with pytest.raises(ViceError, match="must have a grid of patches, but has none"):
        explained(model, "legrad", site=site)
    name = suggested(lambda: explained(model, "legrad", site=site), r"method='(\w+)'")
    found = tried(
        lambda: explained(model, "legrad", site=site),
        "which works with every network",
        lambda: explained(model, name, site=site),
    )
    assert found.maps.shape == (2, 4, 4)


def test_cam_itself_needs_a_linear_head():
    model = vit()

    def scene(head=None):
        return Scene(model, IMAGES, MapSite("blocks.0.norm1", "output", "tokens", 1), head, [(0, 0)])

    found = tried(lambda: cam(scene()), "Use method='gradcam'", lambda: METHODS["gradcam"].maps_of(scene()))
    assert found[1].shape == (1, 4, 4)


def test_relevance_of_another_transformer_is_of_its_attention():
    model = vit(global_pool="avg")

    def wrong():
        return explained(model, "transformer_attribution")

    name = suggested(wrong, r"method='(\w+)' for other transformers")
    says = "Use method='generic_attention' for other transformers"
    assert tried(wrong, says, lambda: explained(model, name)).maps.shape == (2, 4, 4)


def test_relevance_on_apples_gpus_is_computed_on_the_cpu():
    scene = Scene(vit(), IMAGES, SITE, None, [(0, 0), (1, 1)])
    apple = Scene(vit(), SimpleNamespace(device=torch.device("mps")), SITE, None, [(0, 0)])
    run = relevance_method()
    says = "Move the model and the images to the CPU."
    with torch.no_grad():
        assert tried(lambda: run(apple), says, lambda: run(scene))[1].shape == (2, 4, 4)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_attention_is_captured_of_the_original_model():
    model = vit()
    scripted = torch.jit.trace(model, IMAGES, check_trace=False)

    def last(called):
        with torch.no_grad(), capture_attention(model) as kept:
            called(IMAGES)
        return kept.last

    says = "Give the original model, not its compiled or scripted form."
    assert tried(lambda: last(scripted), says, lambda: last(model)).shape == (2, 2, 17, 17)


def test_rules_see_the_functions_of_the_original_model():
    model = Toy().eval()
    scripted = nn.Sequential(torch.jit.trace(model, IMAGES))

    def outputs(network):
        with surrogate(network, "attnlrp", RULES["attnlrp"]):
            return network(IMAGES)

    assert tried(lambda: outputs(scripted), "Give the original model.", lambda: outputs(model)).shape == (2, 3)


def test_captum_is_installed(monkeypatch):
    pytest.importorskip("captum")

    def without():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "captum.attr", None)
            return explained(Toy(), "saliency")

    says = "pip install 'torchvice[captum]'"
    assert tried(without, says, lambda: explained(Toy(), "saliency")).maps.shape == (2, 32, 32)


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        ({"view": "crop", "scales": (0.5, 1)}, "Use view='warp' or 'whole'.", {"view": "warp", "scales": (0.5, 1)}),
        ({"view": "crop", "scales": (0.5, 1)}, "Use view='warp' or 'whole'.", {"view": "whole", "scales": (0.5, 1)}),
    ],
)
def test_choices(wrong, says, right):
    assert tried(lambda: Choices(**wrong), says, lambda: Choices(**right)).scales == (0.5, 1)


def test_choices_of_the_command():
    name = suggested(lambda: Choices.parse(["true"]), r"Names: .*(mirror),")
    assert tried(lambda: Choices.parse(["true"]), "Names: ", lambda: Choices.parse([f"{name}=true"])).mirror
    near = suggested(lambda: Choices.parse(["miror=true"]))
    assert tried(
        lambda: Choices.parse(["miror=true"]), "Did you mean `mirror`?", lambda: Choices.parse([f"{near}=true"])
    ).mirror


def test_measures_of_faithfulness():
    near = suggested(lambda: FaithfulnessChoices(("deletio",)))
    found = tried(lambda: FaithfulnessChoices(("deletio",)), "Did you mean", lambda: FaithfulnessChoices((near,)))
    assert found.measures == ("deletion",)
    known = suggested(lambda: FaithfulnessChoices(()), r"Known: (.+)\.")
    found = tried(lambda: FaithfulnessChoices(()), "Known:", lambda: FaithfulnessChoices(tuple(known.split(", "))))
    assert found == FaithfulnessChoices()


def test_images_of_another_kind():
    transform = torchvision.transforms.Compose(
        [torchvision.transforms.ToTensor(), torchvision.transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    )
    right = torch.stack([transform(image) for image in RGB])
    says = "Normalise them as the model expects, with torchvision's transforms."
    for wrong in (np.stack(RGB), torch.tensor(np.stack(RGB)).permute(0, 3, 1, 2)):
        found = tried(lambda wrong=wrong: explained(Toy(), images=wrong), says, lambda: explained(Toy(), images=right))
        assert found.logits.shape == (2, 3)


def test_images_of_another_size():
    large = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    found = tried(
        lambda: explained(vit(), images=large),
        "Resize the images to the network's input size.",
        lambda: explained(vit(), images=nn.functional.interpolate(large, (32, 32))),
    )
    assert found.maps.shape == (2, 4, 4)


class Alone(Toy):
    """Takes one image at a time."""

    def forward(self, images):
        if len(images) > 1:
            raise RuntimeError("one image at a time")
        return super().forward(images)


class Sized(Toy):
    """Takes images of 16 x 16 only."""

    def forward(self, images):
        if images.shape[-1] != 16:
            raise RuntimeError("16 x 16")
        return super().forward(images)


def test_images_that_the_network_does_not_take():
    sides = suggested(lambda: explained(Alone()), r"model\.eval\(\)\(torch\.rand\((.+?)\)\)")

    def by_itself():
        with pytest.raises(RuntimeError, match="one image at a time"):
            Alone().eval()(torch.rand(tuple(map(int, sides.split(", ")))))

    tried(lambda: explained(Alone()), "Try it by itself", by_itself)
    says = "One image at a time: --batch-size 1 (batch_size=1)."
    assert tried(lambda: looked(Alone()), says, lambda: looked(Alone(), batch_size=1)).shape == (2, 3)
    says = "Images of another size: --view-size SIDE (view_size=SIDE)."
    model = Sized()
    model.pretrained_cfg = {"input_size": (3, 16, 16)}
    assert tried(lambda: looked(model), says, lambda: looked(model, view_size=16)).shape == (2, 3)


def test_images_one_at_a_time_for_an_explainer():
    explainer = Explainer(Alone(), "gradcam")
    found = tried(
        lambda: explainer(IMAGES, LABELS),
        "An Explainer: one image a call.",
        lambda: [explainer(IMAGES[i : i + 1], LABELS[i : i + 1]).maps for i in range(2)],
    )
    torch.testing.assert_close(torch.cat(found), explained(Toy(), "gradcam").maps)  # threads share out sums otherwise


def test_a_classifier_of_zeros_is_trained():
    zeros = Toy()
    nn.init.zeros_(zeros.fc.weight)

    def trained():
        zeros.load_state_dict(Toy().state_dict())
        return explained(zeros, "gradcam")

    found = tried(lambda: explained(zeros, "gradcam"), "Load the weights of a trained classifier.", trained)
    assert found.maps.any()


def test_a_layer_whose_output_is_not_used():
    model = vit(global_pool="token")
    site = {"layout": "tokens", "prefix_tokens": 1, "stride": (8, 8)}
    found = tried(
        lambda: explained(model, "gradcam", site=MapSite("blocks.1", **site)),
        "Name an earlier layer, if the classifier does not use the output of this one; if the outputs are 0 and 1 to "
        "the last digit, let the network return its logits.",
        lambda: explained(model, "gradcam", site=MapSite("blocks.0", **site)),
    )
    assert found.maps.any()


def test_one_output_has_no_similar_classes():
    model, labels = Toy(classes=1), [[0], [0]]
    name = suggested(lambda: explained(model, "finercam", labels=labels), r"method='(\w+)'")
    found = tried(
        lambda: explained(model, "finercam", labels=labels),
        "Use method='gradcam'.",
        lambda: explained(model, name, labels=labels),
    )
    assert found.logits.shape == (2, 1)


def test_a_view_that_does_not_fit_in_memory():
    room = 100

    def work(side):
        def pass_of(part):
            if len(part) * side > room:
                raise torch.OutOfMemoryError("no room")
            return [side] * len(part)

        return halve_on_oom([0], pass_of, lambda _: None)

    def on_the_cpu():
        return halve_on_oom([0], lambda part: [0] * len(part), lambda _: None)

    says = "Use a smaller view (--view-size) or the CPU (--device cpu)."
    assert tried(lambda: work(224), says, lambda: work(96)) == [96]
    assert tried(lambda: work(224), says, on_the_cpu) == [0]
    assert looked(Toy(), view_size=16, device="cpu").shape == (2, 3)


def test_precision_of_weights_that_are_not_float32():
    model = Toy().bfloat16()
    says = "Leave `precision` out, or convert the network: model.float()."
    found = tried(lambda: explained(model, precision="bfloat16"), says, lambda: explained(model))
    assert found.maps.dtype == torch.float32
    found = tried(
        lambda: explained(model, precision="bfloat16"), says, lambda: explained(model.float(), precision="bfloat16")
    )
    assert found.maps.dtype == torch.float32


class Written(Toy):
    """What the gradient needs is overwritten behind the first layer."""

    def forward(self, images):
        maps = self.second(self.first(images).relu())
        squares = maps * maps.sigmoid()
        maps.add_(1)
        return self.fc(squares.mean((2, 3)))


@pytest.mark.parametrize("name", ["scorecam", "eigencam"])
def test_a_gradient_that_torch_refuses(name):
    model = Written()
    says = "--layer NAME --method scorecam (layer='NAME', method='scorecam'), or eigencam."
    found = tried(
        lambda: explained(model, "gradcam", layer="first"), says, lambda: explained(model, name, layer="first")
    )
    assert found.maps.shape == (2, 8, 8)


def test_methods_of_layers_and_of_channels():
    def of_toy(name, **how):
        return explained(Toy(), name, **how)

    for wrong, how, says in (
        ("occlusion", {"layer": "first"}, "; or name no layer."),
        ("occlusion", {"layers": ["first"]}, "; or name no layer."),
        ("cam", {"layers": ["act", "first"]}, "Use one of "),
    ):
        names = re.search(r"Use one of (.+?)[;.]", way_out_of(lambda wrong=wrong, how=how: of_toy(wrong, **how)))[1]
        assert len(names.split(", ")) > 5
        for name in names.split(", "):
            found = tried(
                lambda wrong=wrong, how=how: of_toy(wrong, **how),
                says,
                lambda name=name, how=how: of_toy(name, **how),
            )
            assert found.maps.shape == (2, 8, 8), name
    found = tried(lambda: of_toy("occlusion", layer="first"), "or name no layer.", lambda: of_toy("occlusion"))
    assert len(found.maps) == 2


def test_smoothing_of_channels():
    def wrong():
        return explained(Toy(), "eigencam", eigen_smooth=True)

    names = suggested(wrong, r"Use one of (.+?);")
    for name in names.split(", "):
        found = tried(wrong, "Use one of", lambda name=name: explained(Toy(), name, eigen_smooth=True))
        assert found.maps.shape == (2, 8, 8), name
    found = tried(wrong, "or leave eigen_smooth out.", lambda: explained(Toy(), "eigencam"))
    assert found.maps.shape == (2, 8, 8)


def flat(scene):
    result = scene.run_network(gradients=False)
    scene.targets_of(result.outputs)
    return result.outputs, torch.zeros(len(scene.pairs), 4, 4)


def test_names_of_methods(own_methods):
    how = {"needs": "nothing", "cost": "1 forward", "paper": "none"}
    tried(lambda: register("gradcam", **how)(flat), "Choose another one.", lambda: register("gradcam_too", **how)(flat))
    assert explained(Toy(), "gradcam_too").maps.shape == (2, 4, 4)
    tried(lambda: method("flat map")(flat), "Rename it.", lambda: method("flat_map")(flat))
    assert explained(Toy(), "flat_map").maps.shape == (2, 4, 4)
    near = suggested(lambda: explained(Toy(), "grad-cam"))
    found = tried(lambda: explained(Toy(), "grad-cam"), "Did you mean `gradcam`?", lambda: explained(Toy(), near))
    assert found.maps.shape == (2, 8, 8)


PLUGIN = """
import torch
from torchvice.explain import method

@method("level_of_ways_out")
def level(scene):
    result = scene.run_network(gradients=False)
    scene.targets_of(result.outputs)
    return result.outputs, torch.zeros(len(scene.pairs), 4, 4)
"""


def test_a_method_of_a_plugin(own_methods, tmp_path):
    path, name = tmp_path / "level.py", "level_of_ways_out"

    def with_plugin(text):
        path.write_text(text)
        load_plugin(path)
        return explained(Toy(), name)

    says = "A method of your own: --plugin FILE."
    assert tried(lambda: explained(Toy(), name), says, lambda: with_plugin(PLUGIN)).maps.shape == (2, 4, 4)
    says = "Correct the file. An example: docs/explanations.md, Add a method."
    wrong = PLUGIN.replace("return result.outputs", "return 1 / 0")
    assert tried(lambda: with_plugin(wrong), says, lambda: with_plugin(PLUGIN)).maps.shape == (2, 4, 4)
    page = (Path(__file__).parents[2] / "docs" / "explanations.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"## Add a method\n.*?```python\n(.*?)```", page, re.DOTALL)
    (name,) = re.findall(r'@method\(\s*"(\w+)"', example) or re.findall(r'@\w+\(\s*"(\w+)"', example)
    assert with_plugin(example).maps.shape == (2, 8, 8)


def softmaxed(classes=3):
    return Toy(lambda z: z.softmax(1), classes)


def test_a_softmax_needs_outputs_beside_those_of_a_class():
    model, labels = Toy(classes=1), [[0], [0]]
    found = tried(
        lambda: explained(model, labels=labels, outputs="softmax"),
        "Give --outputs logits (outputs='logits').",
        lambda: explained(model, labels=labels, outputs="logits"),
    )
    assert found.logits.shape == (2, 1)


IMAGENETS = {"class_map": [[0, 1], [2], [3]], "say": lambda _: None}


def test_probabilities_of_a_softmax_are_asked_for_by_its_name():
    found = tried(
        lambda: looked(softmaxed(1000), **IMAGENETS),
        "Ask for it by its name: --outputs softmax (outputs='softmax') takes their logarithms.",
        lambda: looked(softmaxed(1000), **IMAGENETS, outputs="softmax"),
    )
    np.testing.assert_allclose(found, looked(Toy(classes=1000), **IMAGENETS, outputs="softmax"), rtol=1e-3, atol=1e-3)
    per_cent = Toy(lambda z: 100 * z.softmax(1), 1000)
    found = tried(
        lambda: looked(per_cent, **IMAGENETS),
        "Divide them by 100, and ask for it by its name: --outputs softmax (outputs='softmax')",
        lambda: looked(Toy(lambda z: 100 * z.softmax(1) / 100, 1000), **IMAGENETS, outputs="softmax"),
    )
    np.testing.assert_allclose(found, looked(softmaxed(1000), **IMAGENETS, outputs="softmax"), rtol=1e-3, atol=1e-3)


def test_outputs_that_look_like_probabilities():
    sigmoid = Toy(lambda z: (z / 9).sigmoid(), 1000)
    found = tried(
        lambda: looked(sigmoid, **IMAGENETS),
        "Give --outputs probabilities (outputs='probabilities').",
        lambda: looked(sigmoid, **IMAGENETS, outputs="probabilities"),
    )
    expected = looked(Toy(lambda z: z / 9, 1000), **IMAGENETS, outputs="logits")
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)


def test_an_explainer_of_probabilities_of_a_softmax():
    found = tried(
        lambda: explained(softmaxed(), outputs="softmax"),
        "An Explainer: give it the network without its softmax.",
        lambda: explained(Toy(), outputs="softmax"),
    )
    assert found.logits.shape == (2, 3)


def test_an_explainer_of_probabilities():
    sigmoid = Toy(lambda z: (z / 9).sigmoid(), 50)
    found = tried(
        lambda: explained(sigmoid, outputs="softmax"),
        "An Explainer: give it the network without its sigmoid.",
        lambda: explained(Toy(lambda z: z / 9, 50)),
    )
    assert found.logits.shape == (2, 50)


@pytest.mark.parametrize("scale", [float("inf"), float("nan"), 0.0, -1.0, 9.0])
def test_scales_are_finite_and_no_larger_than_the_memory(scale):
    says = "Give sizes relative to the view: scales=0.75,1 (scales=(0.75, 1))."
    right = {"text": Choices.parse(["scales=0.75,1"]), "python": Choices(scales=(0.75, 1))}
    for wrong in (lambda: Choices.parse([f"scales=1,{scale}"]), lambda: Choices(scales=(1, scale))):
        assert tried(wrong, says, lambda: right["text"]) == right["python"]


def test_the_noise_of_road_is_finite():
    for noise in (float("nan"), float("inf")):
        with pytest.raises(ViceError, match=f"`noise` a finite number from 0, but they are 20, 3 and {noise}"):
            FaithfulnessChoices(noise=noise)


def test_a_batch_that_does_not_fit_in_the_memory_of_a_cpu_is_halved():
    sizes, shrunk = [], []

    def work(part):
        sizes.append(len(part))
        if len(part) > 2:
            torch.empty(1 << 62, dtype=torch.uint8)  # what torch raises on a CPU
        return list(part)

    with pytest.warns(UserWarning, match="Out of memory: continuing with batches of 4 images."):
        assert halve_on_oom(list(range(7)), work, shrunk.append) == list(range(7))
    assert shrunk == [4, 2, 2]
    assert max(sizes[-2:]) <= 2

    def never(part):
        return torch.empty(1 << 62, dtype=torch.uint8)

    def other(part):
        raise RuntimeError("of another kind")

    says = "Use a smaller view (--view-size)."
    assert tried(lambda: halve_on_oom([0], never, shrunk.append), says, lambda: halve_on_oom([0], list, print)) == [0]
    with pytest.raises(RuntimeError, match="of another kind"):
        halve_on_oom([0, 1], other, shrunk.append)
