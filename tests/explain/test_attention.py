"""Attention: the weights that are borrowed, what is made of them, and networks that have none to give."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from torchvice import Explainer, ViceError
from torchvice.data.transforms import normalise
from torchvice.explain import Scene
from torchvice.explain.attention import (
    attention_gradient,
    capture_attention,
    generic_attention,
    pooling_weights,
    rollout,
    rollout_row,
)
from torchvice.models.families import MapSite

REFERENCE = Path(__file__).parents[1] / "reference"
METHODS = {"rollout": rollout, "attention_gradient": attention_gradient, "generic_attention": generic_attention}
SITE = MapSite("blocks.0.norm1", "output", "tokens", 1)
SMALL = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3, "num_classes": 5}


def small(name="vit_tiny_patch16_224", **settings):
    torch.manual_seed(0)
    model = timm.create_model(name, **{**SMALL, **settings})
    # Of timm's initial values some are zero, the classifier's for one, and would leave no gradient.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval(), torch.randn(3, 3, 64, 64)


def explained(model, images, method, asked):
    with torch.no_grad():
        return METHODS[method](Scene(model, images, SITE, None, list(asked)))[1]


def attentions_by_hand(model, image, output):
    """(heads, L, L) of every block of a standard ViT for one image, and the gradients of an output at them."""
    x, weights = model.norm_pre(model._pos_embed(model.patch_embed(image))), []
    for block in model.blocks:
        q, k, v = block.attn.qkv(block.norm1(x)).unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights.append((q @ k.transpose(-2, -1) * block.attn.scale).softmax(-1))
        x = x + block.attn.proj((weights[-1] @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    score = model.forward_head(model.norm(x))[0, output]
    return [w.detach()[0] for w in weights], [g[0] for g in torch.autograd.grad(score, weights)]


def by_hand(method, model, image, output, read, prefix):
    """The map (h w,) of one image by the formulas of the papers, whole matrices multiplied."""
    weights, gradients = attentions_by_hand(model, image, output)
    eye = torch.eye(weights[0].shape[-1])
    weighted = [(w * g).clamp(min=0).mean(0) for w, g in zip(weights, gradients, strict=True)]
    if method == "rollout":
        joint = eye
        for weight in weights:
            mixed = weight.mean(0) + eye
            joint = mixed / mixed.sum(-1, keepdim=True) @ joint
    elif method == "attention_gradient":
        joint = weighted[-1]
    else:
        joint = eye
        for change in weighted:
            joint = joint + change @ joint
        joint = joint - eye  # 0 in the class token's row at the patches
    return joint[read].mean(0)[prefix:]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "settings", "read", "prefix"),
    [
        ("vit_tiny_patch16_224", {}, [0], 1),
        ("vit_tiny_patch16_224", {"reg_tokens": 3}, [0], 4),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, list(range(1, 17)), 1),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False}, list(range(16)), 0),
        ("deit_tiny_distilled_patch16_224", {}, [0, 1], 2),
    ],
)
def test_equals_the_formulas(method, name, settings, read, prefix):
    model, images = small(name, **settings)
    asked = [(0, 1), (0, 3), (2, 0)]
    maps = explained(model, images, method, asked)
    assert maps.shape == (3, 4, 4)
    for found, (image, output) in zip(maps, asked, strict=True):
        expected = by_hand(method, model, images[image : image + 1], output, read, prefix).reshape(4, 4)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_the_last_layer_equals_the_published_attention():
    published, found = np.load(REFERENCE / "G_lrp.npz"), np.load(REFERENCE / "H_gradcam.npz")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=20, embed_dim=48, depth=3, num_heads=4).eval()
    model.load_state_dict({key[3:]: torch.tensor(found[key]) for key in found if key.startswith("sd/")})
    image = normalise(found["resized_rgb"][0], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad(), capture_attention(model) as kept:
        model(image[None])
    np.testing.assert_allclose(kept.weights[-1].mean(1)[0, 0, 1:], published["method/last_layer_attn"], atol=1e-6)
    every = np.stack([weights.mean(1)[0, ::7, ::7] for weights in kept.weights])
    np.testing.assert_allclose(every, published["method/block_attn_mean"], atol=1e-6)


def test_read_out_by_hand():
    # (1, 0) (I + B) (I + A) with A = [[0, 1], [0, 0]], B = [[1, 0], [2, 0]]: (2, 0) (I + A) = (2, 2).
    a, b = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
    assert rollout_row([b, a], torch.tensor([1.0, 0.0])).tolist() == [[2.0, 2.0]]
    assert rollout_row([a, b], torch.tensor([1.0, 0.0])).tolist() == [[4.0, 1.0]]


def test_rollout_spreads_one_over_the_tokens():
    # Rows that sum to 1 keep summing to 1: the map and the prefix tokens share 1, and every label has the same map.
    model, images = small(global_pool="avg", class_token=False)
    maps = explained(model, images, "rollout", [(0, 0), (0, 4), (1, 2)])
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(3))
    assert torch.equal(maps[0], maps[1])


def test_a_scaled_output_scales_the_gradient_method():
    model, images = small()
    before = explained(model, images, "attention_gradient", [(1, 2)])
    with torch.no_grad():
        model.head.weight[2] *= 3
    torch.testing.assert_close(explained(model, images, "attention_gradient", [(1, 2)]), 3 * before)


@pytest.mark.parametrize(
    ("name", "settings", "prefix"),
    [
        ("beit_base_patch16_224", {}, 1),
        ("beitv2_base_patch16_224", {"global_pool": "token"}, 1),
        ("eva02_tiny_patch14_224", {"patch_size": 16}, 1),
        ("vit_relpos_small_patch16_224", {}, 0),
        ("vit_small_patch16_18x2_224", {}, None),
        ("deit3_small_patch16_224", {}, 1),
        ("vit_base_patch16_rope_reg1_gap_256", {}, 1),
    ],
)
def test_relatives(name, settings, prefix):
    model, images = small(name, **settings)
    if prefix is None:  # two attentions side by side in a block
        with pytest.raises(ViceError, match="one attention"):
            explained(model, images, "rollout", [(0, 0)])
        return
    assert model.num_prefix_tokens == prefix
    for method in METHODS:
        maps = explained(model, images, method, [(0, 0), (2, 4)])
        assert maps.shape == (2, 4, 4)
        assert bool((maps >= 0).all())
        assert bool(maps.flatten(1).any(1).all())


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("test_resnet", {}, "no sequence of blocks"),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "depths": (1, 1), "embed_dim": 24, "num_heads": (1, 2)},
            "windows",
        ),
        ("xcit_nano_12_p16_224", {"img_size": 64, "depth": 1}, "tokens"),
        ("vit_tiny_patch16_224", {**SMALL, "global_pool": "map"}, "pools by 'map'"),
        ("test_vit", {"attn_layer": "diff", "img_size": 64}, "subtracts"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_networks_without_global_attention_are_refused(name, settings, reason, method):
    if "attn_layer" in settings and "attn_layer" not in inspect.signature(VisionTransformer).parameters:
        pytest.skip("an older timm without differential attention")
    model = timm.create_model(name, **settings).eval()
    with pytest.raises(ViceError, match=reason) as refusal:
        explained(model, torch.zeros(1, 3, 64, 64), method, [(0, 0)])
    assert "gradcam" in refusal.value.way_out


def test_the_share_of_tokens():
    model, _ = small()
    assert pooling_weights(model, 17, 1).tolist() == [1.0] + [0.0] * 16
    pooled, _ = small(global_pool="avg", pool_include_prefix=True)
    torch.testing.assert_close(pooling_weights(pooled, 17, 1), torch.full((17,), 1 / 17))


def flags(model):
    return [(getattr(m, "fused_attn", None), len(m._forward_hooks), m.training) for m in model.modules()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_model_is_restored(method, fails, caller):
    model, images = small()
    model.blocks[1].attn.fused_attn = False  # a mixture must survive
    model.blocks[0].train()
    model.set_grad_checkpointing(True)
    before = flags(model)
    explainer = Explainer(model, method, site=SITE)
    with caller():
        if fails:
            with pytest.raises(ViceError, match="below 5"):
                explainer(images, [[0], [5], []])
        else:
            explainer(images.clone(), [[0], [1, 2], []])
        assert torch.is_grad_enabled() == (caller is torch.enable_grad)
    assert flags(model) == before
    assert model.grad_checkpointing
    assert "_torchvice_capture" not in vars(model)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_an_exception_inside_the_pass_restores_the_model():
    model, images = small()
    before = flags(model)

    def stop(*_):
        raise RuntimeError("stop")

    handle = model.norm.register_forward_hook(stop)
    with torch.no_grad(), pytest.raises(RuntimeError, match="stop"), capture_attention(model, 0):
        model(images)
    handle.remove()
    assert flags(model) == before
    assert torch.is_grad_enabled()
    with torch.no_grad():
        with capture_attention(model, 0):
            assert model(images).requires_grad
        assert not torch.is_grad_enabled()


def test_a_model_is_captured_once_at_a_time():
    model, _ = small()
    with capture_attention(model), pytest.raises(ViceError, match="once at a time"), capture_attention(model):
        pass


@pytest.mark.parametrize("method", METHODS)
def test_batches_labels_and_order(method):
    model, images = small()
    labels = [[3, 1, 0], [], [4]]
    whole = Explainer(model, method, site=SITE)(images, labels)
    assert whole.pairs.tolist() == [[0, 3], [0, 1], [0, 0], [2, 4]]
    for row, (image, c) in enumerate(whole.pairs.tolist()):
        one = Explainer(model, method, site=SITE)(images[image : image + 1], [[c]])
        torch.testing.assert_close(one.maps[0], whole.maps[row], rtol=1e-4, atol=1e-7)
    turned = Explainer(model, method, site=SITE)(images.flip(0), labels[::-1])
    torch.testing.assert_close(turned.maps[-3:], whole.maps[:3], rtol=1e-4, atol=1e-7)
    nothing = Explainer(model, method, site=SITE)(images, [[], [], []])
    assert nothing.maps.shape == (0, 4, 4)
    torch.testing.assert_close(nothing.logits, whole.logits)
    said = Explainer(model, method, site=SITE)(images, "predicted")
    assert said.pairs.tolist() == (said.logits > 0).nonzero().tolist()


def test_a_frozen_model_and_autocast():
    model, images = small()
    expected = Explainer(model, "generic_attention", site=SITE)(images, [[0]] * 3).maps
    model.requires_grad_(False)
    frozen = Explainer(model, "generic_attention", site=SITE)(images, [[0]] * 3).maps
    torch.testing.assert_close(frozen, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = Explainer(model, "generic_attention", site=SITE)(images, [[0]] * 3).maps
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=0.2, atol=0.1 * float(expected.max()))


def test_the_only_attended_token_is_where_the_map_is():
    # Keys that answer to one patch only: whatever asks, the class token's attention goes there.
    model, images = small(depth=1, class_token=True)
    with torch.no_grad():
        model.patch_embed.proj.weight.zero_()
        model.pos_embed.zero_()
        model.pos_embed[0, 6, :24] = 9.0  # patch 5
        model.blocks[0].norm1 = nn.Identity()
        model.blocks[0].attn.qkv.weight.copy_(torch.cat([torch.eye(48)] * 3))
        model.blocks[0].attn.qkv.bias.fill_(1.0)
    maps = explained(model, images, "rollout", [(0, 0)])
    assert int(maps[0].flatten().argmax()) == 5


def test_a_pass_that_reaches_no_attention_raises():
    model, _ = small()
    with capture_attention(model) as kept:
        pass
    with pytest.raises(ViceError, match="compiled"):
        _ = kept.last


def test_a_hybrid_finds_its_grid_by_the_site():
    # Patches of a convolutional stem's map are of 1 x 1 places, 16 x 16 pixels.
    model, images = small("vit_base_r50_s16_224")
    for method in METHODS:
        found = Explainer(model, method)(images, [[0], [], [1]])
        assert found.maps.shape == (2, 4, 4)


@pytest.mark.parametrize("method", ["rollout", "generic_attention", "libragrad_attention"])
def test_blocks_that_attend_between_different_tokens_are_refused(method):
    # Its first blocks attend between patches alone, and its last two with the class token.
    model = timm.create_model("convit_tiny", img_size=32, depth=3, local_up_to_layer=2, embed_dim=12, num_classes=5)
    with pytest.raises(ViceError, match="between the same tokens, but one attends between 4 and a later one between 5"):
        Explainer(model.eval(), method)(torch.randn(1, 3, 32, 32), [[0]])
    assert Explainer(model, "gradcam")(torch.randn(1, 3, 32, 32), [[0]]).maps.shape == (1, 2, 2)


def test_what_patches_keep_of_themselves_does_not_hide_the_map_of_a_mean():
    """At random weights attention times its gradient is tiny beside the identity, which gives every patch the same."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, num_classes=3, global_pool="avg").eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    maps = explained(model, images, "generic_attention", [(0, 1)])
    assert maps.std() > 0.05 * maps.mean() > 0
