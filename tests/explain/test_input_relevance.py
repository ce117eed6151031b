"""AttnLRP, CP-LRP and their relatives: equal to relevance layer by layer, and nothing of the model changed."""

import contextlib

import pytest
import timm
import torch
from explicit_relevance import explicit_relevance, of_norm
from torch import nn
from torch.nn import functional

from torchvice import Explainer, ViceError
from torchvice.explain.input_relevance import patch_side
from torchvice.explain.surrogate import surrogate
from torchvice.explain.surrogate_rules import ATTNLRP, CP_LRP
from torchvice.models.families import MapSite

METHODS = {"attnlrp": ATTNLRP, "cp_lrp": CP_LRP}
EVERY = [*METHODS, "attnlrp_gamma", "lrp_zplus"]
LABELS = [[3, 1], [], [4]]


def small(name="vit_tiny_patch16_224", **settings):
    """A small ViT of timm with random weights, none of them zero, and three images."""
    torch.manual_seed(0)
    sizes = {"img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3, "num_classes": 5}
    model = timm.create_model(name, **{**sizes, **settings}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model, torch.randn(3, 3, 64, 64)


def of_patches(pixels, side=16):
    return functional.avg_pool2d(pixels, side) * side**2


def close(found, expected, far=1e-5):
    """Equal up to a share of the largest value of each map."""
    largest = expected.abs().amax((-2, -1), keepdim=True)
    torch.testing.assert_close(found.double() / largest, expected.double() / largest, rtol=0, atol=far)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fused", [True, False])
def test_equals_relevance_layer_by_layer(method, fused):
    model, images = small()
    for block in model.blocks:
        block.attn.fused_attn = fused
    double = Explainer(model.double(), method)(images, LABELS)
    with torch.no_grad():
        expected = [
            explicit_relevance(model, images[i : i + 1].double(), c, method != "attnlrp")
            for i, c in double.pairs.tolist()
        ]
    expected = of_patches(torch.stack(expected))
    close(double.maps, expected)
    single = Explainer(model.float(), method)(images, LABELS)
    assert single.maps.dtype == torch.float32
    close(single.maps, expected, 1e-4)
    torch.testing.assert_close(single.logits, model(images).detach())


@pytest.mark.parametrize("method", EVERY)
def test_torchvisions_network_has_the_maps_of_the_same_weights_in_timm(method):
    from test_foreign_attention import of_torchvision

    model, images = small(mlp_ratio=2)
    model.norm.eps = model.blocks[0].norm1.eps
    twin = of_torchvision(model.state_dict())
    found, expected = Explainer(twin, method)(images, LABELS), Explainer(model, method)(images, LABELS)
    close(found.maps, expected.maps)
    torch.testing.assert_close(found.logits, expected.logits)


@pytest.mark.parametrize("method", EVERY)
def test_labels_and_images_are_a_batch(method):
    model, images = small()
    whole = Explainer(model, method)(images, LABELS)
    assert whole.pairs.tolist() == [[0, 3], [0, 1], [2, 4]]
    for row, (image, c) in enumerate(whole.pairs.tolist()):
        close(Explainer(model, method)(images[image : image + 1], [[c]]).maps[0], whole.maps[row])
    assert Explainer(model, method)(images, [[], [], []]).maps.shape[0] == 0
    predicted = Explainer(model, method)(images, "predicted")
    assert predicted.pairs.tolist() == (model(images) > 0).nonzero().tolist()


@pytest.mark.parametrize(
    ("name", "settings", "grid"),
    [
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1), "num_heads": (3, 3), "window_size": 4}, 16),
        ("mixer_s16_224", {}, 4),
        pytest.param("eva02_tiny_patch14_224", {"patch_size": 16}, 4, marks=pytest.mark.slow),
        pytest.param("test_convnext", {}, 16, marks=pytest.mark.slow),
        ("test_efficientnet", {}, 64),
    ],
)
def test_other_networks(name, settings, grid):
    torch.manual_seed(0)
    sizes = {"img_size": 64} if hasattr(timm.create_model(name), "patch_embed") or "mixer" in name else {}
    model = timm.create_model(name, num_classes=5, **sizes, **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    images = torch.randn(2, 3, 64, 64)
    for method in METHODS:
        found = Explainer(model, method)(images, [[0], [1, 2]])
        assert found.maps.shape == (3, grid, grid)
        assert set(found.status) == {"ok"}
        torch.testing.assert_close(found.logits, model(images).detach(), rtol=1e-4, atol=1e-5)


def test_the_side_of_patches():
    assert patch_side(timm.create_model("test_vit")) == (16, 16)
    assert patch_side(timm.create_model("test_resnet")) == (1, 1)
    assert patch_side(nn.Linear(2, 2)) == (1, 1)


class Steps(nn.Module):
    """A network of one step between two linear layers."""

    def __init__(self, step):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.step, self.last = nn.Linear(3 * 16, 6), step, nn.Linear(6, 3)

    def forward(self, images):
        return self.last(self.step(self.first(images.flatten(1))))


def written_to(x):
    y = x * x.abs()
    y[:, :1] += x[:, :1]
    return y


STEPS = {
    "written to": written_to,
    "relu": functional.relu,
    "in place": lambda x: functional.relu(x, inplace=True),
    "silu": functional.silu,
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gate": lambda x: functional.silu(x) * (x + 1),
    "added in place": lambda x: x.clone().add(1).__iadd__(x),
    "rms": lambda x: functional.rms_norm(x, (6,), eps=1e-6),
    "rms in steps": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "group norm": lambda x: functional.group_norm(x, 2),
    "layer norm": lambda x: functional.layer_norm(x, (6,)),
    "length 1": lambda x: functional.normalize(x, dim=1),
    "length 1 in steps": lambda x: x / x.norm(dim=1, keepdim=True),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
    "einsum": lambda x: torch.einsum("ni,nj->nij", x, x)[:, 0],
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_keeps_the_relevance(name):
    # Without a bias the relevance of the pixels sums to the logit: every step passes on what it gets.
    model = Steps(STEPS[name]).double().eval()
    model.last.bias.data.zero_()
    model.first.bias.data.zero_()
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64).requires_grad_()
    with surrogate(model, "attnlrp", ATTNLRP):
        outputs = model(images)
    torch.testing.assert_close(outputs, model(images), rtol=1e-12, atol=1e-12)
    relevance = images * torch.autograd.grad(outputs[:, 1].sum(), images)[0]
    lost = {"gate": None, "added in place": None}  # their constants take a part
    if name not in lost:
        torch.testing.assert_close(relevance.flatten(1).sum(1), outputs[:, 1], rtol=1e-10, atol=1e-12)
    assert bool(relevance.any())


def test_a_step_without_a_rule_is_refused():
    model = Steps(torch.sin).eval()
    with pytest.raises(ViceError, match="none for torch's `sin`"), surrogate(model, "attnlrp", ATTNLRP):
        model(torch.randn(1, 3, 4, 4, requires_grad=True))
    scripted = nn.Sequential(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)))
    with pytest.raises(ViceError, match="scripted"), surrogate(scripted, "attnlrp", ATTNLRP):
        pass


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("method", EVERY)
def test_the_model_is_restored(fails, caller, method):
    model, images = small()
    model.train()
    model.blocks[0].eval()
    model.grad_checkpointing = True
    model.blocks[1].requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def state():
        return [
            (m.training, sorted(vars(m)), len(m._forward_hooks), [p.requires_grad for p in m.parameters()])
            for m in model.modules()
        ]

    expected = state()
    explainer = Explainer(model, method, site=MapSite("blocks.0"))
    with caller(), pytest.raises(ViceError, match="below 5") if fails else contextlib.nullcontext():
        explainer(images, [[0], [1], [5 if fails else 2]])
    assert state() == expected
    assert model.grad_checkpointing
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_error_in_the_pass_restores_the_model():
    model, _ = small()
    model.requires_grad_(True)
    with pytest.raises(ViceError), surrogate(model, "attnlrp", {}):
        model(torch.zeros(1, 3, 64, 64, requires_grad=True))
    assert all(parameter.requires_grad for parameter in model.parameters())
    model(torch.zeros(1, 3, 64, 64, requires_grad=True)).sum().backward()


def test_autocast_of_the_caller_changes_nothing():
    model, images = small()
    for method in METHODS:
        expected = Explainer(model, method)(images, LABELS)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = Explainer(model, method)(images, LABELS)
        assert torch.equal(found.maps, expected.maps)


@pytest.mark.parametrize("method", ["attnlrp", "lrp_zplus"])
def test_memory_is_flat(method):
    import gc

    model, images = small()
    explainer = Explainer(model, method)

    def tensors():
        explainer(images, LABELS)
        gc.collect()
        return sum(isinstance(one, torch.Tensor) for one in gc.get_objects())

    tensors()
    assert tensors() == tensors()


def test_with_constant_attention_the_relevance_is_complete():
    # FullGrad completeness: relevance of pixels, positions and biases together is the logit.
    for settings in ({}, {"reg_tokens": 2, "init_values": 0.1}):
        model, images = small(**settings)
        model, images = model.double().requires_grad_(False), images.double()
        constants = [
            p
            for n, p in model.named_parameters()
            if "norm" not in n and ("bias" in n or "pos_embed" in n or "token" in n)
        ]
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.bias.zero_()
        with surrogate(model, "cp_lrp", CP_LRP):
            leaves = [one.requires_grad_() for one in (images, *constants)]
            logit = model(images)[:, 2].sum()
        gradients = torch.autograd.grad(logit, leaves)
        total = sum((leaf * gradient).sum() for leaf, gradient in zip(leaves, gradients, strict=True))
        torch.testing.assert_close(total, logit, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("exact_norm", "far"), [(True, 1e-5), (False, 5e-4)])
def test_equals_lxt_layer_by_layer(exact_norm, far):
    # LXT adds a constant to the divisor in its layer norm; without it the maps are equal.
    lxt = pytest.importorskip("lxt.explicit.functional")
    model, images = small()
    model = model.double()
    found = Explainer(model, "attnlrp")(images, [[3]] * 3)
    for image, one in zip(images.double(), found.maps, strict=True):
        close(one, of_patches(of_lxt(lxt, model, image[None], 3, exact_norm)[None])[0], far)


class _ByHand(torch.autograd.Function):
    """A function whose backward pass carries relevance, as LXT's: `rule` of the input, the output and its relevance."""

    @staticmethod
    def forward(ctx, value, function, rule):
        ctx.value, ctx.rule = value.detach(), rule
        ctx.output = function(ctx.value)
        return ctx.output.clone()

    @staticmethod
    def backward(ctx, relevance):
        return ctx.rule(ctx.value, ctx.output, relevance), None, None


def passed_on(value, function):
    return _ByHand.apply(value, function, lambda _, __, relevance: relevance)


def of_lxt(lxt, model, image, output, exact_norm):
    """Relevance (H, W) of one image (1, 3, H, W) by the rules of LXT, whose backward pass carries relevance itself."""
    model.requires_grad_(False)
    side, image = model.patch_embed.patch_size[0], image.clone().requires_grad_()

    def linear(value, layer):
        return lxt.linear_epsilon(value, layer.weight.flatten(1), layer.bias, 1e-12)

    def norm(value, layer):
        if exact_norm:
            return _ByHand.apply(value, layer, lambda x, y, relevance: of_norm(x, layer, y, relevance))
        return lxt.layer_norm(value, layer.weight, layer.bias, layer.eps)

    columns = image.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    patches = lxt.add2(linear(columns, model.patch_embed.proj), model.pos_embed[:, 1:], False, 1e-12)
    x = torch.cat([model.cls_token + model.pos_embed[:, :1], patches], 1)
    for block in model.blocks:
        qkv = linear(norm(x, block.norm1), block.attn.qkv)
        q, k, v = qkv.unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        products = lxt.matmul(q, k.mT.contiguous(), False, 1e-12)
        scores = passed_on(products, lambda x: x * model.blocks[0].attn.scale)
        mixed = lxt.matmul(lxt.softmax(scores, -1, scores.dtype), v, False, 1e-12).transpose(1, 2).flatten(2)
        x = lxt.add2(x, linear(mixed, block.attn.proj), False, 1e-12)
        hidden = passed_on(linear(norm(x, block.norm2), block.mlp.fc1), functional.gelu)
        x = lxt.add2(x, linear(hidden, block.mlp.fc2), False, 1e-12)
    logits = linear(norm(x, model.norm)[:, 0], model.head)
    logits[0, output].backward(logits[0, output].detach())
    return image.grad[0].sum(0)
