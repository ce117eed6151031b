"""LeGrad against torchcam 0.5 (torchvision), the authors' legrad-torch 1.1 (CLIP, SigLIP) and a plain loop (timm)."""

import importlib

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

from small_networks import drawn, perturbed
from torchvice import Explainer, ViceError
from torchvice.models.prompts import Prompts
from torchvice.models.zero_shot import ZeroShot

LABELS = [[0, 3], [4, 1]]


def of_timm(**settings):
    sizes = {"img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3, "mlp_ratio": 2, "num_classes": 5}
    return perturbed(drawn("vit_tiny_patch16_224", **{**sizes, **settings}))


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def assert_close(maps, expected):
    peak = expected.abs().amax()
    assert peak > 0
    torch.testing.assert_close(maps / peak, expected / peak, rtol=0, atol=1e-5)


def test_torchvisions_vit_is_torchcams(images):
    methods = pytest.importorskip("torchcam.methods")
    model = perturbed(torchvision.models.VisionTransformer(64, 16, 3, 3, 48, 96, num_classes=5))
    found = Explainer(model, "legrad")(images, LABELS).maps.unflatten(0, (2, 2))
    for column in range(2):
        with methods.LeGrad(model, list(model.encoder.layers)) as cam:
            (theirs,) = cam([row[column] for row in LABELS], model(images), normalized=False)
        assert_close(found[:, column], theirs.detach())


def self_attention_loop(model, image, label):
    """Block by block: the block runs again on its input, with its attention written out and differentiated."""
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(image[None]))))
    total = 0
    for block in model.blocks:
        normed, attn = block.norm1(x).detach(), block.attn
        q, k, v = attn.qkv(normed).unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * attn.scale).softmax(-1).detach().requires_grad_()
        x = x.detach() + block.ls1(attn.proj((weights @ v).transpose(1, 2).flatten(2)))
        x = x + block.ls2(block.mlp(block.norm2(x)))
        pooled = model.fc_norm(model.norm(x.mean(1)))
        logits = model.head(pooled)
        logits = logits if getattr(model, "head_dist", None) is None else (logits + model.head_dist(pooled)) / 2
        total = total + torch.autograd.grad(logits[0, label], weights)[0].relu().mean((1, 2))[0]
    return total[-16:].view(4, 4) / len(model.blocks)


@pytest.mark.parametrize(
    "settings",
    [{}, {"reg_tokens": 2}, {"global_pool": "avg", "class_token": False}, {"global_pool": "avg"}, {"init_values": 0.3}],
)
def test_vits_of_timm_are_a_loop(images, settings):
    model = of_timm(**settings)
    found = Explainer(model, "legrad")(images, LABELS)
    expected = torch.stack([self_attention_loop(model, images[i], c) for i, c in found.pairs.tolist()])
    assert_close(found.maps, expected)
    assert found.maps.min() >= 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_distilled_vit_has_the_mean_of_its_classifiers(images):
    model = timm.create_model("deit_tiny_distilled_patch16_224", img_size=64, depth=2, num_classes=5)
    model = perturbed(model)
    found = Explainer(model, "legrad")(images[:1], [[2]]).maps[0]
    assert_close(found, self_attention_loop(model, images[0], 2))


def pooling_loop(model, image, label):
    """The tokens of each block through the pooling, its attention written out and differentiated."""
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(image[None]))))
    pool, total = model.attn_pool, 0
    for block in model.blocks:
        x = block(x).detach()
        q = pool.q(pool.latent).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)
        k, v = pool.kv(model.norm(x)).unflatten(2, (2, pool.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q * pool.scale @ k.transpose(-2, -1)).softmax(-1).detach().requires_grad_()
        pooled = pool.proj((weights @ v).transpose(1, 2).flatten(2))
        pooled = (pooled + pool.mlp(pool.norm(pooled)))[:, 0]
        score = model.head(model.fc_norm(pooled))[0, label]
        total = total + torch.autograd.grad(score, weights)[0].relu().mean((1, 2))[0]
    return total.view(4, 4) / len(model.blocks)


@pytest.mark.parametrize("fused", [False, True])
def test_attention_pooling_is_a_loop(images, fused):
    model = of_timm(global_pool="map", class_token=False)
    model.attn_pool.fused_attn = fused
    found = Explainer(model, "legrad")(images, LABELS)
    expected = torch.stack([pooling_loop(model, images[i], c) for i, c in found.pairs.tolist()])
    assert_close(found.maps, expected)
    assert model.attn_pool.fused_attn is fused


def test_maps_do_not_depend_on_the_batch(images):
    for model in (of_timm(), of_timm(global_pool="map", class_token=False)):
        both = Explainer(model, "legrad")(images, LABELS).maps
        alone = Explainer(model, "legrad")(images[1:], [[1]]).maps
        torch.testing.assert_close(both[3:], alone, rtol=1e-4, atol=1e-8)
        none = Explainer(model, "legrad")(images, [[], []])
        assert none.maps.shape == (0, 4, 4)


def test_networks_that_are_not_known_are_refused(images):
    swin = torchvision.models.SwinTransformer([4, 4], 24, [1, 1], [1, 2], [4, 4], num_classes=3)
    cases = [
        (swin, "attends within windows only"),
        (timm.create_model("test_resnet", num_classes=3), "attend globally"),
    ]
    for model, reason in cases:
        with pytest.raises(ViceError, match=reason) as refused:
            Explainer(model, "legrad")(images, LABELS)
        assert "gradcam" in refused.value.way_out


def zero_shot_of(tower, texts):
    pixels = ((64, 64), (0.5,) * 3, (0.5,) * 3)
    prompts = Prompts.of([str(number) for number in range(len(texts))])
    return ZeroShot(tower, texts, torch.tensor(10.0), None, pixels, prompts).eval()


def scaled(maps):
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return (maps - low) / (high - low)


def upsampled(maps):
    return functional.interpolate(maps, scale_factor=16, mode="bilinear")


class Clip(nn.Module):
    """What legrad-torch asks of a model of open_clip."""

    def __init__(self, visual):
        super().__init__()
        self.visual = visual

    def encode_image(self, image):
        return functional.normalize(self.visual(image), dim=-1)


@pytest.mark.slow
def test_clip_is_the_authors(images):
    wrapper = pytest.importorskip("legrad").LeWrapper
    transformer = importlib.import_module("open_clip.transformer")
    torch.manual_seed(0)
    tower = perturbed(transformer.VisionTransformer(64, 16, 48, 3, 3, 2.0, output_dim=24))
    texts = functional.normalize(torch.randn(5, 24), dim=-1)
    found = Explainer(zero_shot_of(tower, texts), "legrad")(images[:1], [[3, 0]]).maps
    peer = wrapper(Clip(tower), layer_index=0)
    for row, label in enumerate((3, 0)):
        theirs = peer.compute_legrad_clip(texts[[label]], images[:1])
        torch.testing.assert_close(scaled(upsampled(found[[row], None])), theirs.detach(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_siglip_is_the_authors_but_for_the_norm_before_the_pooling(images):
    """A departure of the peer: it pools a block's tokens without the norm that precedes the pooling in the network."""
    wrapper = pytest.importorskip("legrad").LeWrapper
    timm_model = importlib.import_module("open_clip.timm_model").TimmModel
    torch.manual_seed(0)
    tower = timm_model("test_vit", 48, 160, pool="", proj="none")
    tower.trunk = of_timm(global_pool="map", class_token=False, num_classes=0)
    texts = functional.normalize(torch.randn(5, 48), dim=-1)
    with_norm = Explainer(zero_shot_of(tower, texts), "legrad")(images[:1], [[3, 0]]).maps
    norm, tower.trunk.norm = tower.trunk.norm, nn.Identity()
    without = Explainer(zero_shot_of(tower, texts), "legrad")(images[:1], [[3, 0]]).maps
    tower.trunk.norm = norm
    peer = wrapper(Clip(tower), layer_index=0)
    for row, label in enumerate((3, 0)):
        theirs = peer.compute_legrad_siglip(texts[[label]], images[:1], apply_correction=False).detach()
        torch.testing.assert_close(upsampled(scaled(without[[row], None])), theirs, rtol=0, atol=1e-5)
        assert (upsampled(scaled(with_norm[[row], None])) - theirs).abs().max() > 0.01
