"""Attention and maps of torchvision's and transformers' networks are those of the same weights in timm."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from torchvice import Explainer, ViceError
from torchvice.explain.attention import capture_attention

METHODS = ("rollout", "attention_gradient", "generic_attention")
IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
LABELS = [[3, 1], [], [4]]
PARTS = {
    "norm1": "ln_1",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}


def of_timm(**settings):
    """A small ViT of timm with random weights, none of them zero, and those weights by name."""
    torch.manual_seed(0)
    sizes = {"img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3, "mlp_ratio": 2, "num_classes": 5}
    model = timm.create_model("vit_tiny_patch16_224", **{**sizes, **settings}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model, model.state_dict()


def of_torchvision(weights):
    model = torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=3, num_heads=3, hidden_dim=48, mlp_dim=96, num_classes=5
    ).eval()
    named = {"class_token": "cls_token", "encoder.pos_embedding": "pos_embed"}
    for kind in ("weight", "bias"):
        named |= {f"conv_proj.{kind}": f"patch_embed.proj.{kind}", f"encoder.ln.{kind}": f"norm.{kind}"}
        named |= {f"heads.head.{kind}": f"head.{kind}"}
        for i in range(3):
            block, mine = f"encoder.layers.encoder_layer_{i}", f"blocks.{i}"
            named |= {f"{block}.{theirs}.{kind}": f"{mine}.{ours}.{kind}" for ours, theirs in PARTS.items()}
            named[f"{block}.self_attention.in_proj_{kind}"] = f"{mine}.attn.qkv.{kind}"
    model.load_state_dict({name: weights[other] for name, other in named.items()})
    return model


def state_of(model):
    return [(sorted(vars(m)), len(m._forward_hooks), m.training) for m in model.modules()]


def assert_same_maps(model, twin, site, methods=(*METHODS, "gradcam", "layercam")):
    before = state_of(model)
    for method in methods:
        explainer, expected = Explainer(model, method), Explainer(twin, method)
        assert explainer.site.layer == site
        assert (explainer.site.layout, explainer.site.prefix_tokens) == ("tokens", expected.site.prefix_tokens)
        found, expected = explainer(IMAGES, LABELS), expected(IMAGES, LABELS)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.maps, expected.maps, rtol=1e-3, atol=1e-6)
        assert found.maps.shape == (3, 4, 4)
    assert state_of(model) == before
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_torchvisions_vit():
    twin, weights = of_timm()
    assert_same_maps(of_torchvision(weights), twin, "encoder.layers.encoder_layer_2.ln_1")


def test_an_untrained_vit_of_torchvision_has_a_map():
    # Its classifier is zero: no gradient would reach any layer.
    model = torchvision.models.VisionTransformer(64, 16, 2, 3, 48, 96, num_classes=5)
    assert Explainer(model).site.layer == "encoder.layers.encoder_layer_1.ln_1"
    assert not model.heads.head.weight.any()


def test_an_exception_inside_the_pass_restores_torchvisions_vit():
    model = of_torchvision(of_timm()[1])
    before = state_of(model)

    def stop(*_):
        raise RuntimeError("stop")

    handle = model.heads.register_forward_hook(stop)
    with torch.no_grad(), pytest.raises(RuntimeError, match="stop"), capture_attention(model, -1):
        model(IMAGES)
    handle.remove()
    assert state_of(model) == before
    assert torch.is_grad_enabled()


def test_only_the_last_block_is_captured_where_only_it_is_needed():
    model = of_torchvision(of_timm()[1])
    with torch.no_grad(), capture_attention(model, -1) as kept:
        model(IMAGES)
    assert len(kept.weights) == 1
    assert kept.last.shape == (3, 3, 17, 17)
    assert kept.last.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_torchvisions_swin_has_no_global_attention(method):
    model = torchvision.models.SwinTransformer([4, 4], 24, [1, 1], [1, 2], [4, 4], num_classes=3)
    with pytest.raises(ViceError, match="attends within windows only") as refused:
        Explainer(model, method)(IMAGES, LABELS)
    assert "gradcam" in refused.value.way_out


# Of transformers, where it is installed.
SIZES = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
SIZES |= {"image_size": 64, "patch_size": 16, "layer_norm_eps": 1e-6}


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers")


def of_transformers(model, weights, base="vit"):
    """Copy timm's weights into a ViT of transformers, whatever its version calls its parts."""
    own, copied = model.state_dict(), {}
    for name in own:
        for old, new in (
            (rf"{base}.embeddings.cls_token", "cls_token"),
            (rf"{base}.embeddings.position_embeddings", "pos_embed"),
            (rf"{base}.embeddings.patch_embeddings.projection.", "patch_embed.proj."),
            (rf"{base}.layernorm.", "norm."),
            ("classifier.", "head."),
        ):
            if name.startswith(old):
                copied[name] = weights[name.replace(old, new)]
        if name in copied or "layer" not in name or name.startswith(f"{base}.layernorm"):
            continue
        number = next(part for part in name.split(".") if part.isdigit())
        kind = name.rpartition(".")[2]
        place = f"blocks.{number}"
        if "q_proj" in name or "query" in name:
            copied[name] = weights[f"{place}.attn.qkv.{kind}"][:48]
        elif "k_proj" in name or "key" in name:
            copied[name] = weights[f"{place}.attn.qkv.{kind}"][48:96]
        elif "v_proj" in name or "value" in name:
            copied[name] = weights[f"{place}.attn.qkv.{kind}"][96:]
        elif "attention" in name:
            copied[name] = weights[f"{place}.attn.proj.{kind}"]
        else:
            ours = {"before": "norm1", "after": "norm2", "fc1": "mlp.fc1", "intermediate": "mlp.fc1"}
            found = [new for old, new in ours.items() if old in name] or ["mlp.fc2"]
            copied[name] = weights[f"{place}.{found[0]}.{kind}"]
    model.load_state_dict(copied)
    return model.eval()


@pytest.mark.slow
def test_transformers_vit(transformers):
    twin, weights = of_timm()
    config = transformers.ViTConfig(**SIZES, num_labels=5)
    model = of_transformers(transformers.ViTForImageClassification(config), weights)
    implementation = model.config._attn_implementation
    site = next(n for n, _ in model.named_modules() if n.endswith("2.layernorm_before"))
    assert_same_maps(model, twin, site)
    for method in ("attnlrp", "cp_lrp", "attnlrp_gamma", "lrp_zplus", "libragrad_gradcam", "libragrad_attention"):
        found, expected = Explainer(model, method)(IMAGES, LABELS).maps, Explainer(twin, method)(IMAGES, LABELS).maps
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert model.config._attn_implementation == implementation

    class Around(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images)

    around = Explainer(Around(model), "gradcam")
    assert around.site.layer == f"network.{site}"
    torch.testing.assert_close(around(IMAGES, LABELS).maps, Explainer(twin, "gradcam")(IMAGES, LABELS).maps)


@pytest.mark.slow
def test_other_networks_of_transformers(transformers):
    t = transformers
    swin = {"image_size": 64, "embed_dim": 24, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    vision = {**SIZES, "model_type": "siglip_vision_model"}
    made = {
        "deit": t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(**SIZES, num_labels=5)),
        "siglip": t.SiglipForImageClassification(t.SiglipConfig(vision_config=vision, num_labels=5)),
        "dinov2": t.Dinov2ForImageClassification(t.Dinov2Config(**SIZES, num_labels=5)),
        "registers": t.Dinov2WithRegistersForImageClassification(t.Dinov2WithRegistersConfig(**SIZES, num_labels=5)),
        "swin": t.SwinForImageClassification(t.SwinConfig(**swin, num_labels=5)),
        "convnext": t.ConvNextForImageClassification(
            t.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], image_size=64, num_labels=5)
        ),
    }
    prefix = {"deit": 2, "siglip": 0, "dinov2": 1, "registers": 5}
    for name, model in made.items():
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        explainer = Explainer(model, "gradcam")
        explanation = explainer(IMAGES, LABELS)
        assert explanation.logits.shape == (3, 5)
        assert explanation.maps.shape[1:] != (1, 1)
        assert name not in prefix or explainer.site.prefix_tokens == prefix[name]
        assert name != "swin" or explainer.site.layer.endswith("layernorm_before")
        for method in METHODS:
            if name in ("deit", "siglip", "dinov2", "registers"):
                maps = Explainer(model, method)(IMAGES, LABELS).maps
                assert maps.shape == (3, 4, 4)
                assert bool(maps.flatten(1).any(1).all())
                continue
            with pytest.raises(ViceError, match=r"has no sequence of blocks|windows"):
                Explainer(model, method)(IMAGES, LABELS)


def copied(model, names):
    """Load timm's tensors into a network of transformers; `names` gives the tensor of each part."""
    own = {name: names(name) for name in model.state_dict() if not name.endswith("mask_token")}
    found = model.load_state_dict(own, strict=False)
    assert not found.unexpected_keys
    assert all(name.endswith("mask_token") for name in found.missing_keys)
    return model.eval()


def part_of(weights, name):
    """The tensor of timm's ViT or BEiT for a part of a block of transformers' DINOv2 or BEiT."""
    number = next(part for part in name.split(".") if part.isdigit())
    kind, block = name.rpartition(".")[2], f"blocks.{number}."
    for place, short in enumerate("qkv"):
        if f".{short}_proj." in name or f".{ {'q': 'query', 'k': 'key', 'v': 'value'}[short] }." in name:
            if kind == "bias" and f"{block}attn.{short}_bias" in weights:
                return weights[f"{block}attn.{short}_bias"]
            return weights[f"{block}attn.qkv.{kind}"].chunk(3)[place]
    for theirs, ours in (
        ("relative_position_bias_table", "attn.relative_position_bias_table"), ("lambda_1", "gamma_1"),
        ("lambda_2", "gamma_2"), ("layer_scale1", "ls1.gamma"), ("layer_scale2", "ls2.gamma"),
    ):  # fmt: skip
        if theirs in name:
            return weights[block + ours]
    ours = {"before": "norm1", "norm1": "norm1", "after": "norm2", "norm2": "norm2", "fc1": "mlp.fc1"}
    ours |= {"intermediate": "mlp.fc1", "attention": "attn.proj"}
    found = [new for old, new in ours.items() if old in name.removeprefix("beit.")] or ["mlp.fc2"]
    return weights[f"{block}{found[0]}.{kind}"]


def outside(weights, name, base):
    """The tensor of timm's network for a part of transformers' outside of the blocks; None: a part of a block."""
    for theirs, ours in (
        (f"{base}.embeddings.cls_token", "cls_token"), (f"{base}.embeddings.position_embeddings", "pos_embed"),
        (f"{base}.embeddings.patch_embeddings.projection.", "patch_embed.proj."), (f"{base}.layernorm.", "norm."),
        (f"{base}.pooler.layernorm.", "fc_norm."), ("classifier.", "head."),
    ):  # fmt: skip
        if name.startswith(theirs):
            return weights[name.replace(theirs, ours)]
    return None


@pytest.mark.slow
def test_transformers_beit(transformers):
    torch.manual_seed(0)
    sizes = {"img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3, "mlp_ratio": 2, "num_classes": 5}
    twin = timm.create_model("beit_base_patch16_224", **sizes).eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    weights = twin.state_dict()
    config = transformers.BeitConfig(**{**SIZES, "num_labels": 5, "use_relative_position_bias": True})

    def names(name):
        found = outside(weights, name, "beit")
        return part_of(weights, name) if found is None else found

    model = copied(transformers.BeitForImageClassification(config), names)
    # Other methods explain the input of the pooler here, a module that timm does not have.
    assert_same_maps(model, twin, "beit.pooler", METHODS)


@pytest.mark.slow
def test_transformers_dinov2(transformers, monkeypatch):
    # timm has no classifier of class token and mean of the patches side by side: its ViT is given one.
    twin, weights = of_timm(init_values=0.5)
    config = transformers.Dinov2Config(**SIZES, mlp_ratio=2, num_labels=5)
    head = nn.Linear(96, 5)

    def names(name):
        if name.startswith("classifier."):
            return head.state_dict()[name.removeprefix("classifier.")]
        found = outside(weights, name, "dinov2")
        return part_of(weights, name) if found is None else found

    model = copied(transformers.Dinov2ForImageClassification(config), names)
    twin.forward_head = lambda tokens: head(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1))
    half = torch.tensor([0.5, *[0.5 / 16] * 16])
    expected = {}
    with monkeypatch.context() as patch:
        patch.setattr("torchvice.explain.attention.pooling_weights", lambda *_: half)
        for method in METHODS:
            expected[method] = Explainer(twin, method)(IMAGES, LABELS)
    for method in METHODS:
        found = Explainer(model, method)(IMAGES, LABELS)
        torch.testing.assert_close(found.logits, expected[method].logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.maps, expected[method].maps, rtol=1e-3, atol=1e-6)
