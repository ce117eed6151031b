"""The last feature map of every family of networks, and whether class activation mapping is exact."""

import json

import pytest
import timm
import torch
from timm.models.vgg import VGG
from torch import nn

from torchvice import Explainer, ViceError
from torchvice.models.families import MapSite, linear_head, locate, module_at, token_grid
from torchvice.models.sizes import input_size

# One small member of each kind; the paper's own networks in full size are in the slow test below.
SMALL = {
    "test_resnet": ("global_pool", "input", "nchw", "cam"),
    "test_efficientnet": ("global_pool", "input", "nchw", "cam"),
    "test_convnext": ("head.global_pool", "input", "nchw", "gradcam"),
    "test_vit": ("blocks.5.norm1", "output", "tokens", "gradcam"),
}
PAPER = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "res2net50_48w_2s",
    "efficientnet_b4",
    "resnest14d",
    "resnest26d",
    "resnest50d",
    "resnest101e",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "vit_large_patch16_224",
    "swin_base_patch4_window7_224",
    "swin_base_patch4_window12_384",
    "swinv2_base_window8_256",
    "swinv2_cr_base_224",
    "swin_s3_base_224",
]
# Networks of a few blocks on small images: name, arguments, then layer, where, layout, prefix tokens and grid.
TINY = {"num_classes": 4, "img_size": 64}
VIT = {**TINY, "embed_dim": 24, "depth": 2, "num_heads": 2}
SHRUNKEN = {
    "class token": ("vit_tiny_patch16_224", VIT, "blocks.1.norm1", "output", "tokens", 1, (4, 4)),
    "registers": (
        "vit_small_patch14_reg4_dinov2",
        {**VIT, "img_size": 56},
        "blocks.1.norm1",
        "output",
        "tokens",
        5,
        (4, 4),
    ),
    "distilled": ("deit_tiny_distilled_patch16_224", VIT, "blocks.1.norm1", "output", "tokens", 2, (4, 4)),
    "mean": ("vit_base_patch16_gap_224", VIT, "norm", "output", "tokens", 0, (4, 4)),
    "mean and class token": (
        "vit_tiny_patch16_224",
        {**VIT, "global_pool": "avg"},
        "norm",
        "output",
        "tokens",
        1,
        (4, 4),
    ),
    "map": ("vit_base_patch16_siglip_224", VIT, "attn_pool", "input", "tokens", 0, (4, 4)),
    "norm behind": ("vit_base_patch16_xp_224", VIT, "blocks.1.in_norm", "output", "tokens", 1, (4, 4)),
    "beit": ("beit_base_patch16_224", VIT, "norm", "output", "tokens", 1, (4, 4)),
    "eva": ("eva02_tiny_patch14_224", {**VIT, "img_size": 56}, "norm", "output", "tokens", 1, (4, 4)),
    "eva norm behind": (
        "eva_giant_patch14_clip_224",
        {**VIT, "img_size": 56, "use_post_norm": True, "global_pool": "token"},
        "blocks.0",
        "output",
        "tokens",
        1,
        (4, 4),
    ),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {**TINY, "embed_dim": 8, "depths": (1, 2), "num_heads": (2, 2), "window_size": 4},
        "layers.1.blocks.1.norm1",
        "output",
        "nhwc",
        0,
        (8, 8),
    ),
    "swin v2": (
        "swinv2_tiny_window8_256",
        {**TINY, "embed_dim": 8, "depths": (1, 2), "num_heads": (2, 2), "window_size": 4},
        "head.global_pool",
        "input",
        "nhwc",
        0,
        (8, 8),
    ),
    "class attention": ("cait_xxs24_224", VIT, "blocks_token_only.1.norm1", "output", "tokens", 1, (4, 4)),
    "mixer": ("gmlp_ti16_224", TINY, "norm", "output", "tokens", 0, (4, 4)),
    "several stages": (
        "twins_svt_small",
        {**TINY, "embed_dims": (8, 16), "num_heads": (1, 2), "depths": (1, 1), "wss": (4, 4), "sr_ratios": (2, 1)},
        "norm",
        "output",
        "tokens",
        0,
        (8, 8),
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_site_and_method(name):
    model = timm.create_model(name, num_classes=4)
    site = locate(model)
    assert (site.layer, site.where, site.layout, Explainer(model).method) == SMALL[name]


@pytest.mark.parametrize("kind", SHRUNKEN)
def test_site_of_transformers(kind):
    name, arguments, layer, where, layout, prefix, grid = SHRUNKEN[kind]
    model = timm.create_model(name, **arguments)
    site = locate(model)
    assert (site.layer, site.where, site.layout, site.prefix_tokens) == (layer, where, layout, prefix)
    with torch.no_grad():
        for parameter in model.parameters():  # fresh layer scales hide the rest
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.1)
    images = torch.randn(2, 3, *input_size(model), generator=torch.Generator().manual_seed(1))
    found = Explainer(model)(images, [[0, 3], [1]])
    assert found.maps.shape == (3, *grid)
    assert torch.isfinite(found.maps).all()
    assert (found.maps[0] - found.maps[1]).abs().max() > 0
    assert "ok" in found.status
    # The same place, whatever the weights are.
    assert locate(model) == site


@pytest.mark.parametrize("kind", ["class token", "mean", "swin", "mixer", "several stages"])
def test_a_changed_corner_of_the_image_changes_that_corner_of_the_map(kind):
    name, arguments, *_, grid = SHRUNKEN[kind]
    model = timm.create_model(name, **arguments).eval()
    site = locate(model)
    layer, seen = module_at(model, site.layer), []
    handle = layer.register_forward_hook(lambda _, __, output: seen.append(output))
    image = torch.randn(1, 3, *input_size(model), generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[:, :, :32, 32:] += 3  # above right
    with torch.no_grad():
        model(image), model(changed)
    handle.remove()
    before, after = (site.to_maps(tensor, site.grid(image)) for tensor in seen)
    change = (after - before).abs().mean((0, 1))
    h, w = grid
    above, below = change[: h // 2], change[h // 2 :]
    quarters = [part.mean().item() for rows in (above, below) for part in (rows[:, : w // 2], rows[:, w // 2 :])]
    assert max(quarters) == quarters[1]


def test_a_vgg_is_read_before_its_first_full_layer_swallows_the_map():
    model = VGG(cfg=[4, "M", 8, "M", 8, "M", 8, "M", 8, "M"], num_classes=3, mlp_ratio=0.01)
    site = locate(model)
    assert (site.layer, site.where) == ("pre_logits", "input")
    assert Explainer(model)(torch.randn(1, 3, 224, 224), [[0]]).maps.shape == (1, 7, 7)


class Shown(nn.Sequential):
    """Layers for images of 32 x 32."""

    default_cfg = {"input_size": (3, 32, 32)}  # noqa: RUF012


def test_what_is_no_map_is_refused_with_the_reason():
    with pytest.raises(ViceError, match="from `0` on its maps have a single position"):
        locate(Shown(nn.Conv2d(3, 4, 32), nn.Flatten(), nn.Linear(4, 2)))
    with pytest.raises(ViceError, match="none of its modules returns one"):
        locate(Shown(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)))
    with pytest.raises(ViceError, match=r"must return logits \(N, C\), but returns shape \(1, 4, 32, 32\)"):
        locate(Shown(nn.Conv2d(3, 4, 1)))
    with pytest.raises(ViceError, match="must run on an image"):
        locate(Shown(nn.Linear(5, 2)))


class Blind(nn.Module):
    """Has a map, whose logits look at one place of it."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 16, stride=16)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.features(x)[:, :, 0, 0])


def test_logits_that_do_not_look_at_the_map():
    with pytest.raises(ViceError, match="at `features` the gradient of a logit is zero at 99% of the positions"):
        locate(Blind())


def test_a_classifier_of_zeros_hides_no_place():
    for name in ("test_resnet", "test_vit"):
        model = timm.create_model(name, num_classes=4)
        site = locate(model)
        with torch.no_grad():
            model.get_classifier().weight.zero_()
        assert locate(model) == site


class Repeating(nn.Module):
    """The same block twice: its output is no one tensor."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 8, stride=8)
        self.block = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.block(self.block(self.stem(x))).mean((2, 3)))


def test_a_module_that_runs_twice_is_passed_over():
    assert locate(Repeating()) == MapSite("stem")


def test_a_named_layer_is_read_off_its_shape():
    name, arguments, *_ = SHRUNKEN["registers"]
    assert locate(timm.create_model(name, **arguments), "blocks.0") == MapSite(
        "blocks.0", "output", "tokens", 5, (14.0, 14.0)
    )
    name, arguments, *_ = SHRUNKEN["swin"]
    swin = timm.create_model(name, **arguments)
    assert Explainer(swin, layer="layers.0").site == MapSite("layers.0", "output", "nhwc")
    assert Explainer(swin, layer="layers.0")(torch.randn(1, 3, 64, 64), [[2]]).maps.shape == (1, 16, 16)
    assert locate(timm.create_model("test_resnet"), "layer2") == MapSite("layer2")


def test_other_sizes_and_aspects():
    vit = timm.create_model("vit_tiny_patch16_224", **VIT, dynamic_img_size=True)
    assert Explainer(vit)(torch.randn(1, 3, 96, 64), [[0]]).maps.shape == (1, 6, 4)
    twins, site = SHRUNKEN["several stages"], MapSite("norm", layout="tokens", stride=(8, 8))
    model = timm.create_model(twins[0], **twins[1])
    assert locate(model) == site
    assert Explainer(model)(torch.randn(1, 3, 64, 128), [[0]]).maps.shape == (1, 8, 16)
    assert site.grid(torch.zeros(1, 3, 65, 56)) == (9, 7)
    assert MapSite("norm").grid(torch.zeros(1, 3, 64, 64)) is None
    assert token_grid(vit, torch.zeros(1, 3, 65, 32)) == (5, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_networks_of_the_paper(name):
    depth = {"depth": 6} if "large" in name else {}
    model = timm.create_model(name, num_classes=20, **depth)
    images = torch.randn(1, 3, *input_size(model), generator=torch.Generator().manual_seed(0))
    explainer = Explainer(model)
    found = explainer(images, [[1, 7]])
    assert found.maps.shape[0] == 2
    assert min(found.maps.shape[1:]) >= 7
    assert torch.isfinite(found.maps).all()
    assert (found.maps[0] - found.maps[1]).abs().max() > 0
    # Swin as published is read before its pool, where the literature does; its later versions at the pool.
    assert explainer.method == ("gradcam" if name.startswith(("vit", "swin_")) else "cam")


def test_a_max_pool_is_not_a_mean():
    model = timm.create_model("test_resnet", num_classes=4, global_pool="max")
    assert linear_head(model, locate(model)) is None
    assert Explainer(model).method == "gradcam"


def test_probing_leaves_modes_alone():
    model = timm.create_model("test_resnet", num_classes=4)
    model.train()
    model.layer2.eval()
    before = [module.training for module in model.modules()]
    running = model.bn1.running_mean.clone() if hasattr(model, "bn1") else None
    assert linear_head(model, locate(model)) is model.fc
    assert [module.training for module in model.modules()] == before
    if running is not None:
        assert torch.equal(running, model.bn1.running_mean)


def test_tokens_become_maps_row_by_row():
    tokens = torch.arange(1 + 6, dtype=torch.float32).reshape(1, 7, 1)  # one class token, then 2 x 3 patches
    maps = MapSite("x", layout="tokens", prefix_tokens=1).to_maps(tokens, (2, 3))
    assert maps.tolist() == [[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]]
    with pytest.raises(ViceError, match="tokens"):
        MapSite("x", layout="tokens", prefix_tokens=1).to_maps(tokens, (2, 2))


def test_channels_last_become_channels_first():
    tensor = torch.arange(12.0).reshape(1, 2, 3, 2)
    assert torch.equal(MapSite("x", layout="nhwc").to_maps(tensor, None), tensor.permute(0, 3, 1, 2))


def test_input_size():
    assert input_size(timm.create_model("vit_tiny_patch16_224", img_size=96)) == (96, 96)
    assert input_size(timm.create_model("gmlp_ti16_224", img_size=96)) == (96, 96)
    # Its patch embedding stands behind a stem that halves the image.
    assert input_size(timm.create_model("visformer_tiny")) == (224, 224)
    assert input_size(nn.Linear(1, 1)) == (224, 224)


def test_unknown_module_names_the_nearest():
    with pytest.raises(ViceError, match="layer4"):
        module_at(timm.create_model("test_resnet"), "layer44")


def test_a_linear_head_behind_an_in_place_relu_does_not_take_the_map_before_it():
    model = Shown(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert linear_head(model, MapSite("0")) is None
    assert linear_head(model, MapSite("1")) is model[4]
    assert linear_head(model, locate(model)) is model[4]


def test_networks_of_torchvision():
    from torchvision.models import resnet18

    model = resnet18(num_classes=5)
    site = locate(model)
    assert (site, linear_head(model, site)) == (MapSite("avgpool", "input"), model.fc)
    image = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    cam = Explainer(model)(image, [[1, 3]])
    assert cam.maps.shape == (2, 3, 2)
    named = Explainer(model, "gradcam", layer="layer4")(image, [[1, 3]])
    torch.testing.assert_close(named.maps * 6, cam.maps, rtol=1e-4, atol=1e-5)  # the mean of 6 places


class Tokens(nn.Module):
    """A class token behind the patches, of 8 x 16 pixels, and attention to them."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, (8, 16), stride=(8, 16))
        self.token = nn.Parameter(torch.ones(1, 1, 6))
        self.joined = nn.Identity()
        self.mix = nn.MultiheadAttention(6, 1, batch_first=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = self.joined(torch.cat([patches, self.token.expand(len(x), -1, -1)], 1))
        return self.fc(self.mix(tokens[:, -1:], tokens, tokens)[0][:, 0])


def grid_of_eight(tokens):
    return tokens[:, :-1].transpose(1, 2).unflatten(2, (4, 2))


def test_any_module_with_a_function_that_makes_maps_of_its_output():
    model = Tokens().eval()
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    site = MapSite("joined", reshape=grid_of_eight)
    found = Explainer(model, "gradcam", site=site)(image, [[0], [2]])
    assert found.maps.shape == (2, 4, 2)
    # The same through the embedding, whose (N, D, h, w) is what the tokens are made of.
    direct = Explainer(model, "gradcam", layer="embed")(image, [[0], [2]])
    torch.testing.assert_close(found.maps, direct.maps)
    stated = json.loads(json.dumps(site.to_dict()))
    assert stated["reshape"].endswith("test_families.grid_of_eight")
    assert json.loads(json.dumps(MapSite("x", stride=(8, 16)).to_dict()))["stride"] == [8, 16]
    with pytest.raises(ViceError, match=r"must turn the \(2, 9, 6\) of `joined` into \(N, D, h, w\)"):
        Explainer(model, "gradcam", site=MapSite("joined", reshape=lambda tokens: tokens))(image, [[0], [2]])


class Patches(nn.Module):
    """Tokens from patches of 8 x 16 pixels, with one in front."""

    def __init__(self):
        super().__init__()
        self.tokens = Tokens()
        self.order = nn.Identity()

    def forward(self, x):
        inner = self.tokens
        patches = inner.embed(x).flatten(2).transpose(1, 2)
        tokens = self.order(torch.cat([inner.token.expand(len(x), -1, -1), patches], 1))
        return inner.fc(inner.mix(tokens[:, :1], tokens, tokens)[0][:, 0])


def test_a_hand_made_token_network_by_its_site():
    model = Patches().eval()
    image = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    site = MapSite("order", layout="tokens", prefix_tokens=1, stride=(8, 16))
    found = Explainer(model, "gradcam", site=site)(image, [[1]])
    torch.testing.assert_close(found.maps, Explainer(model, "gradcam", layer="tokens.embed")(image, [[1]]).maps)
    with pytest.raises(ViceError, match="Give their layout"):
        Explainer(model, "gradcam", site=MapSite("order", layout="tokens", prefix_tokens=1))(image, [[1]])
