"""Every way out of the refusals of networks is done: of wrappers, outputs, channels, layers and the probe."""

from __future__ import annotations

import re

import numpy as np
import pytest
import timm
import torch
from torch import nn

from torchvice import Explainer
from torchvice.assessment.map_settings import MapSettings
from torchvice.assessment.views import views_of
from torchvice.errors import ViceError
from torchvice.models.bare import bare, check_finite
from torchvice.models.families import MapSite, locate, module_at
from torchvice.models.probe import probe
from ways_out import tried

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LABELS = [[0], [1]]
CFG = {"input_size": (3, 32, 32)}
RGB = [np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(2)]


class Toy(nn.Module):
    """A map and a linear classifier, for images of 32 x 32; its outputs may be changed."""

    default_cfg = CFG

    def __init__(self, change=None, classes=3, channels=3):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.features, self.act = nn.Conv2d(channels, 4, 4, stride=4), nn.ReLU()
        self.fc = nn.Linear(4, classes)
        self.change = change
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, images):
        logits = self.fc(self.act(self.features(images)).mean((2, 3)))
        return logits if self.change is None else self.change(logits)


class Shown(nn.Sequential):
    """Layers for images of 32 x 32."""

    default_cfg = CFG


class Around(nn.Module):
    """A module around a network that changes its outputs, or its images before."""

    def __init__(self, network, after=lambda outputs: outputs, before=lambda images: images):
        super().__init__()
        self.network, self.after, self.before = network, after, before

    def forward(self, images):
        return self.after(self.network(self.before(images)))


def suggested(wrong, pattern=r"`(.+?)`"):
    """What the way out of a refusal names."""
    with pytest.raises(ViceError) as caught:
        wrong()
    found = re.search(pattern, caught.value.way_out)
    assert found is not None, caught.value.way_out
    return found[1]


def explained(model, method="auto", images=IMAGES, **how):
    found = Explainer(model, method, **how)(images, LABELS)
    assert len(found.maps) == 2
    return found


def looked(model, **settings):
    """The logits of two images by the settings of maps."""
    exclusive = settings.pop("exclusive", False)
    how = {"method": "gradcam", "view_size": 32, "crop": 32, "batch_size": 2, "device": "cpu", **settings}
    view = views_of(model, ("strict",), MapSettings(**how), exclusive=exclusive)["strict"]
    return np.stack([seen.logits for _, seen in view.run(RGB, np.eye(2, 3, dtype=int))])


def test_an_output_that_is_not_there():
    both = Toy(lambda z: {"scores": z, "more": z + 1, "loss": None})
    key = suggested(lambda: explained(both, output="score"))
    found = tried(
        lambda: explained(both, output="score"), "Did you mean `scores`?", lambda: explained(both, output=key)
    )
    assert torch.equal(found.logits, explained(Toy()).logits)
    loss = Toy(lambda z: {"loss": None})
    found = tried(
        lambda: explained(loss, output="loss"),
        "Wrap it in a module whose forward returns the tensor of logits.",
        lambda: explained(Around(Toy())),
    )
    assert torch.equal(found.logits, explained(Toy()).logits)
    found = tried(lambda: explained(Toy(), output="0"), "Leave --output out.", lambda: explained(Toy()))
    assert torch.equal(found.logits, explained(Toy()).logits)


def test_an_output_by_its_number():
    two = Toy(lambda z: (z, z + 1))
    number = suggested(lambda: explained(two, output="2"), r"Known: (\d), \d\.")
    found = tried(lambda: explained(two, output="2"), "Known: 0, 1.", lambda: explained(two, output=number))
    assert torch.equal(found.logits, explained(Toy()).logits)


def test_a_class_without_outputs_of_its_own():
    model = Toy(classes=4)
    data = {"exclusive": True}
    logits = tried(
        lambda: looked(model, class_map=[[], [0]], **data),
        "Name outputs for both classes in the class map.",
        lambda: looked(model, class_map=[[1, 2, 3], [0]], **data),
    )
    assert logits.shape == (2, 2)


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        (Toy(lambda z: z[:, :, None, None]), "Wrap it in a module whose forward returns one logit an image", None),
        (Toy(lambda z: z[:, :, None, None]), "or give another model", Toy()),
        (Toy(lambda z: z.argmax(1, keepdim=True)), "return the floating-point scores, before argmax", Toy()),
    ],
)
def test_outputs_that_are_no_logits(wrong, says, right):
    right = right or Around(wrong, lambda outputs: outputs[:, :, 0, 0])
    assert torch.equal(tried(lambda: explained(wrong), says, lambda: explained(right)).logits, explained(Toy()).logits)


def test_one_of_two_outputs_is_named():
    two = Toy(lambda z: (z, z + 1))
    number = suggested(lambda: explained(two), r"here (\d): \(\d, 3\) or")
    says = "name it: --output NAME (output='NAME')"
    found = tried(lambda: explained(two), says, lambda: explained(two, output=number))
    assert torch.equal(found.logits, explained(Toy()).logits)
    named = Toy(lambda z: {"scores": z})
    found = tried(
        lambda: explained(named),
        "Wrap it in a module whose forward returns the tensor of logits",
        lambda: explained(Around(named, lambda outputs: outputs["scores"])),
    )
    assert torch.equal(found.logits, explained(Toy()).logits)
    logits = tried(lambda: looked(named), says, lambda: looked(named, output="scores"))
    np.testing.assert_allclose(logits, looked(Toy()))


def test_models_that_are_no_modules_or_take_no_hooks():
    model = Toy().eval()
    traced = torch.jit.trace(model, IMAGES, check_trace=False)
    exported = torch.export.export(model, (IMAGES,))
    cases = [
        (model.forward, "the module that it calls."),
        (exported, "Give the module that was exported."),
        (exported.module(), "Give the module that was exported."),
        (traced, "Give the unscripted model."),
    ]
    expected = explained(model).logits
    for wrong, says in cases:
        found = tried(lambda wrong=wrong: explained(wrong), says, lambda: explained(model))
        assert torch.equal(found.logits, expected)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("test_resnet", "Build it"),
        (Toy().state_dict(), "load_state_dict"),
        (Toy, "Call it"),
        (timm.create_model, "Call it"),
    ],
)
def test_what_stands_for_a_model_is_built_first(wrong, says):
    def right():
        model = Toy()
        model.load_state_dict(Toy().state_dict())
        return explained(model)

    tried(lambda: explained(wrong), says, right)


def test_models_that_are_not_built_yet():
    lazy = Shown(nn.Conv2d(3, 4, 4, stride=4), nn.Flatten(), nn.LazyLinear(3))

    def after_a_pass():
        lazy(torch.zeros(1, 3, 32, 32))
        return explained(lazy)

    assert tried(lambda: explained(lazy), "Run it once on an image.", after_a_pass).logits.shape == (2, 3)
    with torch.device("meta"):
        meta = Toy.__new__(Toy)
        nn.Module.__init__(meta)
        meta.fc = nn.Linear(4, 3)

    def on_the_cpu():
        model = Toy()
        model.load_state_dict(Toy().state_dict())
        return explained(model)

    found = tried(lambda: bare(meta), "Build the model on the CPU, and load its weights.", on_the_cpu)
    assert torch.equal(found.logits, explained(Toy()).logits)
    with torch.inference_mode():
        inference = Toy()
    with torch.no_grad():
        outside = Toy()
    says = "Build or load the model outside of it; torch.no_grad can be used."
    found = tried(lambda: explained(inference), says, lambda: explained(outside))
    assert torch.equal(found.logits, explained(Toy()).logits)


def test_weights_that_are_not_finite_are_those_of_an_earlier_checkpoint():
    earlier, last = Toy(), Toy()
    last.fc.weight.data.fill_(torch.nan)
    tried(lambda: check_finite(last), "Use an earlier checkpoint", lambda: check_finite(earlier))
    tried(lambda: explained(last), "Use an earlier checkpoint", lambda: explained(earlier))


class Detached(Toy):
    """Its map has no gradient, but its logits have one."""

    def forward(self, images):
        return super().forward(images).detach() + 0 * images.mean((1, 2, 3))[:, None]


class Written(Toy):
    """What the gradient needs is overwritten."""

    def forward(self, images):
        maps = self.act(self.features(images))
        squares = maps * maps.sigmoid()
        maps.add_(1)
        return self.fc(squares.mean((2, 3)))


class Blind(Toy):
    """Its logits look at one place of the map."""

    def forward(self, images):
        return self.fc(self.features(images)[:, :, 0, 0])


class WithoutGradients(Toy):
    def forward(self, images):
        with torch.no_grad():
            return super().forward(images)


@pytest.mark.parametrize("kind", [Detached, WithoutGradients])
@pytest.mark.parametrize("method", ["scorecam", "eigencam"])
def test_networks_without_gradients_are_explained_without(kind, method):
    model = kind()
    says = "--layer NAME --method scorecam (layer='NAME', method='scorecam'), or eigencam."
    found = tried(lambda: explained(model), says, lambda: explained(model, method=method, layer="features"))
    assert found.maps.shape == (2, 8, 8)
    logits = tried(lambda: looked(model), says, lambda: looked(model, method=method, layer="features"))
    assert logits.shape == (2, 3)


def test_a_gradient_that_torch_refuses():
    model = Written()
    says = "--layer NAME --method scorecam (layer='NAME', method='scorecam'), or eigencam."
    for method in ("scorecam", "eigencam"):
        found = tried(lambda: explained(model), says, lambda method=method: explained(model, method, layer="features"))
        assert found.maps.shape == (2, 8, 8)


def test_a_map_that_is_not_found_is_named():
    says = "Name the layer: layer='...', or site=MapSite(layer, layout=..., ...) if its output is not (N, D, h, w)."
    found = tried(lambda: explained(Blind()), says, lambda: explained(Blind(), "gradcam", layer="features"))
    assert found.maps.shape == (2, 8, 8)
    single = Shown(nn.Conv2d(3, 4, 32), nn.Flatten(), nn.Linear(4, 3))
    found = tried(lambda: explained(single), says, lambda: explained(single, layer="0"))
    assert found.maps.shape == (2, 1, 1)
    flat = Shown(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
    site = MapSite("0", reshape=lambda tensor: tensor.unflatten(1, (3, 32, 32)))
    found = tried(lambda: explained(flat), says, lambda: explained(flat, "gradcam", site=site))
    assert found.maps.shape == (2, 32, 32)


def test_a_layer_that_is_not_there():
    layer = suggested(lambda: explained(Toy(), layer="feature"))
    found = tried(
        lambda: explained(Toy(), layer="feature"), "Did you mean `features`?", lambda: explained(Toy(), layer=layer)
    )
    assert found.maps.shape == (2, 8, 8)
    known = suggested(lambda: module_at(Toy(), "xyz"), r"Known: (\w+),")
    assert tried(lambda: module_at(Toy(), "xyz"), "Known:", lambda: module_at(Toy(), known)) is not None


def test_logits_that_are_not_finite():
    wrong, right = Toy(lambda z: z / (z - z)), Toy(lambda z: z / (1 + z.abs()))
    says = "Look in its forward for a division by zero, a logarithm of zero or an overflow."
    tried(lambda: explained(wrong), says, lambda: explained(right))
    half = Toy(lambda z: z * 60000).half()
    says = "A model in float16 may need float32: model.float()."
    tried(lambda: explained(half), says, lambda: explained(half.float()))


def small_vit(**settings):
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=3, **sizes, **settings).eval()


def test_a_layer_without_places():
    model = Toy()
    found = tried(
        lambda: explained(model, "gradcam", layer="fc"),
        "Choose an earlier layer",
        lambda: explained(model, "gradcam", layer="features"),
    )
    assert found.maps.shape == (2, 8, 8)
    vit = small_vit(class_token=False, global_pool="avg")
    layer = "blocks.1.norm1"
    found = tried(
        lambda: explained(vit, "gradcam", site=MapSite(layer)),
        "in Python: Explainer(model, site=MapSite(layer, layout='tokens', prefix_tokens=..., stride=...))",
        lambda: explained(vit, "gradcam", site=MapSite(layer, layout="tokens")),
    )
    assert found.maps.shape == (2, 4, 4)


def test_the_tokens_of_a_network_with_a_class_token():
    layer = "blocks.1.norm1"
    found = tried(
        lambda: explained(small_vit(), "gradcam", site=MapSite(layer, layout="tokens")),
        "site=MapSite(layer, layout=..., prefix_tokens=..., stride=...)",
        lambda: explained(small_vit(), "gradcam", site=MapSite(layer, layout="tokens", prefix_tokens=1, stride=(8, 8))),
    )
    assert found.maps.shape == (2, 4, 4)


class Tokens(nn.Module):
    """Tokens of patches of 8 x 8, without a module that timm would know."""

    default_cfg = CFG

    def __init__(self):
        super().__init__()
        self.embed, self.order, self.fc = nn.Conv2d(3, 6, 8, stride=8), nn.Identity(), nn.Linear(6, 3)

    def forward(self, images):
        return self.fc(self.order(self.embed(images).flatten(2).transpose(1, 2)).mean(1))


def test_tokens_whose_grid_is_not_known():
    found = tried(
        lambda: explained(Tokens(), "gradcam", site=MapSite("order", layout="tokens")),
        "Give their layout: Explainer(model, site=MapSite(layer, layout=...",
        lambda: explained(Tokens(), "gradcam", site=MapSite("order", layout="tokens", stride=(8, 8))),
    )
    assert found.maps.shape == (2, 4, 4)


class Fixed(nn.Module):
    """Takes images of 32 x 32 only."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 2, 3), nn.Linear(2 * 30 * 30, 3)

    def forward(self, images):
        return self.head(self.layer(images).relu().flatten(1))


class Named(Fixed):
    """Takes its images by a name and with a mask."""

    def forward(self, mask, *, pixels):
        return super().forward(pixels * mask)


def test_a_network_that_does_not_run_on_the_probes_image():
    def wrong():
        return locate(Fixed())

    shape = suggested(wrong, r"model\.eval\(\)\(torch\.zeros\((.+?)\)\)")

    def by_itself():
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            Fixed().eval()(torch.zeros(tuple(map(int, shape.split(", ")))))

    tried(wrong, "Try it by itself: model.eval()(torch.zeros(1, 3, 224, 224)).", by_itself)

    def with_a_size():
        model = Fixed()
        model.pretrained_cfg = {"input_size": (3, 32, 32)}
        return locate(model)

    says = "model.pretrained_cfg = {'input_size': (3, height, width)}"
    assert tried(wrong, says, with_a_size).layer == "layer"
    logits = tried(
        lambda: looked(Fixed(), view_size=None, crop=None),
        "--view-size SIDE (view_size=SIDE)",
        lambda: looked(Fixed(), view_size=32, crop=None),
    )
    assert logits.shape == (2, 3)

    class Wrapped(nn.Module):
        default_cfg = CFG

        def __init__(self):
            super().__init__()
            self.network = Named()

        def forward(self, images):
            return self.network(torch.ones_like(images), pixels=images)

    says = "or takes them by a name or in a dictionary, wrap it in a module whose forward(images) calls it."
    assert tried(lambda: explained(Named()), says, lambda: explained(Wrapped())).maps.shape[0] == 2


@pytest.mark.parametrize("channels", [2, 4])
def test_a_network_of_other_channels_is_wrapped(channels):
    model = Toy(channels=channels)

    def to_its_channels(images):
        return images.mean(1, keepdim=True).expand(-1, channels, -1, -1)

    wrapped = Around(model, before=to_its_channels)
    wrapped.pretrained_cfg = {"input_size": (3, 32, 32)}
    found = tried(
        lambda: probe(model, (32, 32)),
        "Wrap it in a module whose forward converts RGB images to its channels.",
        lambda: explained(wrapped),
    )
    assert found.maps.shape == (2, 8, 8)
