"""Relevance: equal to the published maps, rules against loops, and nothing of the model changed."""

import contextlib
import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional

from torchvice import Explainer, ViceError
from torchvice.data.transforms import normalise
from torchvice.explain import Scene, upsample
from torchvice.explain import normalise as normalise_maps
from torchvice.explain.attention import rollout_row
from torchvice.explain.relevance import _split_by_memory, attention_relevances, record_trace, relevance_method
from torchvice.explain.rules import (
    add_scales,
    copy_rule,
    inverse,
    inverse_total,
    linear_rule,
    product_gradients,
    safe_divide,
)
from torchvice.models.families import MapSite

REFERENCE = Path(__file__).parents[1] / "reference"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# The same method the slow way: one image and class at a time, every rule by automatic differentiation.


def _plain_divide(a, b):
    shifted = b + 1e-9
    return torch.where(b != 0, a / torch.where(shifted == 0, 1e-9, shifted), torch.zeros_like(a))


def _plain_rule(function, inputs, relevance):
    """x_i * sum_j (dz_j / dx_i) R_j / z_j."""
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in inputs]
        z = function(*inputs)
        slopes = torch.autograd.grad(z, inputs, _plain_divide(relevance, z.detach()))
    return [x.detach() * slope for x, slope in zip(inputs, slopes, strict=True)]


def _plain_linear(x, weight, relevance):
    def positive_products(up, down):
        return functional.linear(up, weight.clamp(min=0)) + functional.linear(down, weight.clamp(max=0))

    return sum(_plain_rule(positive_products, [x.clamp(min=0), x.clamp(max=0)], relevance))


def _plain_add(a, b, relevance):
    parts = _plain_rule(torch.add, [a, b], relevance)
    sums = [part.sum() for part in parts]
    both = sums[0].abs() + sums[1].abs()
    return [
        p * _plain_divide(_plain_divide(s.abs(), both) * relevance.sum(), s) for p, s in zip(parts, sums, strict=True)
    ]


def _plain_forward(model, image):
    """What the slow way needs of each block of one image, with a graph from the first attention on."""
    x = model.norm_pre(model._pos_embed(model.patch_embed(image)))
    kept = []
    for block in model.blocks:
        before, entered = x, block.norm1(x)
        q, k, v = block.attn.qkv(entered).unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * block.attn.scale).softmax(-1)
        if not weights.requires_grad:
            weights.requires_grad_()
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        attended = block.attn.proj(mixed)
        middle = before + attended
        second = block.norm2(middle)
        hidden = block.mlp.act(block.mlp.fc1(second))
        mapped = block.mlp.fc2(hidden)
        x = middle + mapped
        kept.append((before, entered, q, k, v, weights, mixed, attended, middle, second, hidden, mapped))
    return model.norm(x), kept


def plain_attribution(model, image, output):
    """(h w,) of one image (1, 3, H, W) and one output, by the published rules one after the other."""
    model.requires_grad_(False)
    with torch.enable_grad():
        tokens, kept = _plain_forward(model, image)
        logits = model.head(tokens[:, 0])
        gradients = torch.autograd.grad(logits[0, output], [block[5] for block in kept])
    detached = [[tensor.detach() for tensor in block] for block in kept]
    tokens = tokens.detach()
    relevance = functional.one_hot(torch.tensor([output]), logits.shape[1]).to(image)
    relevance = _plain_linear(tokens[:, 0], model.head.weight, relevance)
    (relevance,) = _plain_rule(lambda t: t[:, 0], [tokens], relevance)
    cams = []
    for block, (before, entered, q, k, v, weights, mixed, attended, middle, second, hidden, mapped) in zip(
        reversed(model.blocks), reversed(detached), strict=True
    ):
        skip, branch = _plain_add(middle, mapped, relevance)
        branch = _plain_linear(second, block.mlp.fc1.weight, _plain_linear(hidden, block.mlp.fc2.weight, branch))
        relevance = sum(middle * _plain_divide(r, middle) for r in (skip, branch))
        skip, branch = _plain_add(before, attended, relevance)
        branch = _plain_linear(mixed, block.attn.proj.weight, branch)
        branch = branch.unflatten(2, (block.attn.num_heads, -1)).transpose(1, 2)
        of_weights, of_v = (r / 2 for r in _plain_rule(torch.matmul, [weights, v], branch))
        cams.append((gradients[len(detached) - 1 - len(cams)] * of_weights).clamp(min=0).mean(1)[0])
        of_q, of_k = (r / 2 for r in _plain_rule(lambda a, b: a @ b.transpose(-2, -1), [q, k], of_weights))
        branch = torch.stack([of_q, of_k, of_v], 2).permute(0, 3, 2, 1, 4).flatten(2)
        branch = _plain_linear(entered, block.attn.qkv.weight, branch)
        relevance = sum(before * _plain_divide(r, before) for r in (skip, branch))
    joint = torch.eye(len(cams[0]), dtype=image.dtype)
    for cam in reversed(cams):
        joint = joint + cam @ joint
    return joint[0, 1:]


@pytest.fixture(scope="module")
def published():
    return np.load(REFERENCE / "G_lrp.npz")


@pytest.fixture(scope="module")
def tiny():
    """The published network, and its images. The original's last norm has eps 1e-5 where timm's has 1e-6."""
    found = np.load(REFERENCE / "H_gradcam.npz")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=20, embed_dim=48, depth=3, num_heads=4).eval()
    model.load_state_dict({key[3:]: torch.tensor(found[key]) for key in found if key.startswith("sd/")})
    model.norm.eps = 1e-5
    return model, torch.stack([normalise(rgb, MEAN, STD) for rgb in found["resized_rgb"]])


@contextlib.contextmanager
def last_norm(model, eps):
    before, model.norm.eps = model.norm.eps, eps
    try:
        yield
    finally:
        model.norm.eps = before


def scene_of(model, images, asked):
    return Scene(model, images, MapSite("blocks.0.norm1", "output", "tokens", 1), None, asked)


def scaled(maps):
    return normalise_maps(maps.double(), "minmax")


def small(name="vit_tiny_patch16_224", **settings):
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=64, depth=3, embed_dim=48, num_heads=3, num_classes=5, **settings)
    # Of timm's initial values some are zero, and with them the relevance of what they multiply.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval(), torch.randn(3, 3, 64, 64)


def test_equals_the_published_maps(tiny, published):
    model, images = tiny
    expected = torch.tensor(published["lrp_raw"]).flatten(0, 1)
    asked = [(image, int(c)) for image, row in enumerate(published["classes"]) for c in row]
    with torch.no_grad():
        _, double = relevance_method(torch.float64)(scene_of(model, images, list(asked)))
        outputs, single = relevance_method()(scene_of(model, images, list(asked)))
        with last_norm(model, 1e-6):
            _, timms = relevance_method()(scene_of(model, images, list(asked)))
    torch.testing.assert_close(double, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(timms.double(), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(scaled(single), scaled(expected), rtol=0, atol=3e-6)
    torch.testing.assert_close(scaled(timms), scaled(expected), rtol=0, atol=1e-5)
    assert outputs.dtype == torch.float32
    np.testing.assert_allclose(outputs, published["logits_norm_eps_1e5"], atol=1e-5)


def test_the_published_pipeline_to_the_image_size(tiny, published):
    model, images = tiny
    found = Explainer(model, "transformer_attribution")(images, published["classes"].tolist())
    maps = normalise_maps(upsample(found.maps, (224, 224)), "minmax").reshape(3, 2, 224, 224)
    # The reference is in single precision throughout, which moved the maps of the last image by up to 1.5e-2.
    for name, pair, far in zip(published["names"], maps, (1e-4, 1e-3, 1.6e-2), strict=True):
        np.testing.assert_allclose(pair[:, ::6, ::6], published[f"{name}/heatmap224"], atol=far)
        full = upsample(pair, tuple(published[f"{name}/size"]))
        np.testing.assert_allclose(full[:, ::6, ::6], published[f"{name}/cam_fullres"], atol=far)


def relevances(model, images, pairs):
    """Of every block, from the first to the last, the attention (N, heads, L, L) and its relevance (P, heads, L, L)."""
    image, output = torch.tensor(pairs).T
    assert image.tolist() == list(range(len(images)))
    model = doubled(model)
    with torch.no_grad(), record_trace(model, torch.float64) as trace:
        model(images.double())
    found = [r.flatten(0, 1) for r in attention_relevances(model, trace, output[:, None])][::-1]
    return [trace.outputs[f"blocks.{i}.attn.attn_drop"] for i in range(len(found))], found


def doubled(model):
    return copy.deepcopy(model).double().requires_grad_(False)


def test_the_published_variants_of_relevance(tiny, published):
    model, images = tiny
    attentions, found = relevances(model, images[:1], [(0, int(published["method/class"]))])
    means = [r.clamp(min=0).mean(1) for r in found]
    read = torch.eye(197)[0]
    close = {"rtol": 1e-3, "atol": 1e-6}
    np.testing.assert_allclose(rollout_row(means[::-1], read)[:, 1:], published["method/rollout"], **close)
    np.testing.assert_allclose(means[-1][0, 0, 1:], published["method/last_layer"], **close)
    np.testing.assert_allclose(means[1][0, 0, 1:], published["method/second_layer"], **close)
    np.testing.assert_allclose(attentions[-1].mean(1)[0, 0, 1:], published["method/last_layer_attn"], **close)


def test_equals_automatic_differentiation():
    for name in ("vit_tiny_patch16_224", "deit_tiny_patch16_224"):
        model, images = small(name)
        exact = doubled(model)
        expected = [plain_attribution(exact, images[i : i + 1].double(), c).reshape(4, 4) for i, c in ((0, 1), (2, 4))]
        with torch.no_grad():
            _, double = relevance_method(torch.float64)(scene_of(model, images, [(0, 1), (2, 4)]))
            _, single = relevance_method()(scene_of(model, images, [(0, 1), (2, 4)]))
        torch.testing.assert_close(double, torch.stack(expected), rtol=1e-7, atol=1e-12)
        torch.testing.assert_close(scaled(single), scaled(double), rtol=0, atol=1e-4)


def test_safe_divide_by_hand():
    total = torch.tensor([2.0, 0.0, -4.0, -1e-9], dtype=torch.float64)
    found = safe_divide(torch.tensor([1.0, 1.0, 1.0, 1e-9], dtype=torch.float64), total)
    torch.testing.assert_close(found, torch.tensor([0.5, 0.0, -0.25, 1.0], dtype=torch.float64), rtol=1e-8, atol=0)


def test_the_linear_rule_by_hand_and_in_a_loop():
    # y = 2*1 + (-1)*(-3) + ... : products 2, 3 and -5; only 2 and 3 share, 2/5 and 3/5.
    x = torch.tensor([[2.0, -1.0, 5.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0, -3.0, -1.0]], dtype=torch.float64)
    found = linear_rule(x, weight, torch.ones(1, 1, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([[0.4, 0.6, 0.0]], dtype=torch.float64), rtol=1e-8, atol=0)
    for product in (None, x @ weight.T):
        assert inverse_total(x, weight, product).item() == pytest.approx(1 / 5)

    generator = torch.Generator().manual_seed(1)
    x, weight, relevance = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((2, 1, 3, 4), (5, 4), (2, 2, 3, 5))
    )
    expected = torch.zeros(2, 2, 3, 4, dtype=torch.float64)
    for n, k, t, j in itertools.product(range(2), range(2), range(3), range(5)):
        products = [max(0.0, float(x[n, 0, t, i] * weight[j, i])) for i in range(4)]
        for i in range(4):
            if sum(products):
                expected[n, k, t, i] += float(relevance[n, k, t, j]) * products[i] / (sum(products) + 1e-9)
    torch.testing.assert_close(linear_rule(x, weight, relevance), expected)
    single = linear_rule(x.float(), weight.float(), relevance.float())
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-6)


def test_an_output_without_positive_products_gives_nothing():
    found = linear_rule(torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, -1.0]]), torch.ones(1, 1))
    assert found.tolist() == [[0.0, 0.0]]
    # Sums of many products, whose rounding errors are not 0 and must not pass for a positive product.
    generator = torch.Generator().manual_seed(4)
    value, weight = torch.rand((7, 1, 300), generator=generator), -torch.rand((9, 300), generator=generator)
    assert not bool(inverse_total(value, weight, value @ weight.T).any())
    assert not bool(linear_rule(value, weight, torch.ones(7, 2, 9)).any())


def test_the_product_rule_in_a_loop():
    generator = torch.Generator().manual_seed(2)
    shapes = ((1, 1, 2, 3), (1, 1, 3, 4), (1, 2, 2, 4))  # two labels of one image
    left, right, relevance = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    product = left @ right
    to_left, to_right = (torch.zeros(1, 2, *factor.shape[2:], dtype=torch.float64) for factor in (left, right))
    for label, i, j, k in itertools.product(range(2), range(2), range(4), range(3)):
        term = left[0, 0, i, k] * right[0, 0, k, j]
        share = term * relevance[0, label, i, j] / (product[0, 0, i, j] + 1e-9) / 2
        to_left[0, label, i, k] += share
        to_right[0, label, k, j] += share
    found = product_gradients(left, right, relevance * inverse(product) / 2)
    torch.testing.assert_close(left * found[0], to_left)
    torch.testing.assert_close(right * found[1], to_right)


def added(a, b, relevance):
    """Both parts of the relevance of a + b."""
    share = safe_divide(relevance, a + b)
    return [part * share * scale for part, scale in zip((a, b), add_scales(a, b, a + b, share), strict=True)]


def test_the_add_rule_by_hand():
    # Parts of y = (4, 2): a takes 3/4 of 1 and 4/2 of 1, b 1/4 and -2/2. Sums 2.75 and -0.75, of 3.5 together: a keeps
    # 2.75 / 3.5 of the total 2, b 0.75 / 3.5 of it, each in the proportions of its parts.
    a, b = (torch.tensor([[[row]]], dtype=torch.float64) for row in ([3.0, 4.0], [1.0, -2.0]))
    found = added(a, b, torch.ones(1, 1, 1, 2, dtype=torch.float64))
    scale = 2 / 3.5
    torch.testing.assert_close(
        torch.cat(found),
        torch.tensor([[[[0.75, 2.0]]], [[[-0.25, 1.0]]]], dtype=torch.float64) * scale,
        rtol=1e-7,
        atol=0,
    )


def test_rules_keep_the_sum():
    generator = torch.Generator().manual_seed(3)
    a, b, relevance = (torch.randn((4, 1, 6, 8), generator=generator, dtype=torch.float64) for _ in range(3))
    # Forty inputs: no output is without a positive product.
    value, weight, given = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 1, 6, 40), (9, 40), (4, 1, 6, 9))
    )
    sums = {
        "linear": (linear_rule(value, weight, given).sum((1, 2, 3)), given),
        "add": (sum(added(a, b, relevance)).sum((1, 2, 3)), relevance),
        "copy": (copy_rule(a, relevance).sum((1, 2, 3)), relevance),
    }
    for found, before in sums.values():
        torch.testing.assert_close(found, before.sum((1, 2, 3)), rtol=1e-5, atol=1e-6)
    product = a @ b.transpose(2, 3)
    share = torch.randn(product.shape, generator=generator, dtype=torch.float64)
    found = product_gradients(a, b.transpose(2, 3), share * inverse(product) / 2)
    for factor, gradient in zip((a, b.transpose(2, 3)), found, strict=True):
        torch.testing.assert_close((factor * gradient).sum((1, 2, 3)), share.sum((1, 2, 3)) / 2, rtol=1e-5, atol=1e-6)


def test_relevance_is_conserved_through_the_network(tiny, monkeypatch):
    # What the head gives, 1, arrives at both sums of each block.
    sums = []

    def spy(first, second, total, share):
        sums.append((total * share).flatten(1).sum(1))
        return add_scales(first, second, total, share)

    monkeypatch.setattr("torchvice.explain.relevance.add_scales", spy)
    model, images = tiny
    relevances(model, images, [(0, 2), (1, 9), (2, 13)])
    assert len(sums) == 2 * 3
    torch.testing.assert_close(torch.stack(sums), torch.ones(6, 3, dtype=torch.float64), rtol=0, atol=1e-4)


def test_labels_and_images_are_a_batch(monkeypatch):
    model, images = small()
    labels = [[3, 1, 0], [], [4]]
    whole = Explainer(model, "transformer_attribution")(images, labels)
    assert whole.maps.shape == (4, 4, 4)
    assert whole.pairs.tolist() == [[0, 3], [0, 1], [0, 0], [2, 4]]
    for row, (image, c) in enumerate(whole.pairs.tolist()):
        one = Explainer(model, "transformer_attribution")(images[image : image + 1], [[c]])
        torch.testing.assert_close(scaled(one.maps)[0], scaled(whole.maps)[row], rtol=0, atol=1e-4)
        torch.testing.assert_close(one.logits[0], whole.logits[image])
    turned = Explainer(model, "transformer_attribution")(images.flip(0), labels[::-1])
    torch.testing.assert_close(scaled(turned.maps)[-3:], scaled(whole.maps)[:3], rtol=0, atol=1e-4)
    monkeypatch.setattr("torchvice.explain.relevance._BUDGET", 1)  # one pair at a time
    apart = Explainer(model, "transformer_attribution")(images, labels)
    torch.testing.assert_close(scaled(apart.maps), scaled(whole.maps), rtol=0, atol=1e-4)
    torch.testing.assert_close(apart.logits, whole.logits)
    pairs = [tuple(pair) for pair in whole.pairs.tolist()]
    parts = list(_split_by_memory(scene_of(model, images, pairs), torch.float32))
    assert parts == [([0], [[0]]), ([0], [[1]]), ([0], [[2]]), ([2], [[3]]), ([1], [[]])]
    alone = list(_split_by_memory(scene_of(model, images, [(2, 3)]), torch.float32))
    assert alone == [([0], [[]]), ([1], [[]]), ([2], [[0]])]


def test_predicted_labels_and_none():
    model, images = small()
    found = Explainer(model, "transformer_attribution")(images, "predicted")
    logits = model(images).detach()
    assert found.pairs.tolist() == (logits > 0).nonzero().tolist()
    nothing = Explainer(model, "transformer_attribution")(images, [[], [], []])
    assert nothing.maps.shape == (0, 4, 4)
    torch.testing.assert_close(nothing.logits, logits)


def test_registers_distillation_and_layer_scale():
    for name, settings, prefix in (
        ("vit_small_patch16_224", {"reg_tokens": 4, "class_token": True}, 5),
        ("deit_tiny_distilled_patch16_224", {}, 2),
        ("vit_small_patch14_reg4_dinov2", {"patch_size": 16}, 5),
        ("vit_tiny_patch16_224", {"qk_norm": True, "pre_norm": True}, 1),
    ):
        model, images = small(name, **settings)
        assert model.num_prefix_tokens == prefix
        found = Explainer(model, "transformer_attribution", site=MapSite("blocks.0"))(images, [[0, 1]] * 3)
        assert found.maps.shape == (6, 4, 4)
        assert set(found.status) == {"ok"}
        with torch.no_grad():
            exact = relevance_method(torch.float64)(scene_of(model, images, [tuple(p) for p in found.pairs.tolist()]))[
                1
            ]
        torch.testing.assert_close(scaled(found.maps), scaled(exact), rtol=0, atol=1e-3)


def test_a_distilled_network_shares_relevance_between_its_two_tokens():
    model, images = small("deit_tiny_distilled_patch16_224")
    _, both = relevances(model, images[:1], [(0, 1)])
    assert bool(both[-1][0, :, :2].any(-1).all())
    with torch.no_grad():
        model.head_dist.weight.zero_()  # the second token is not read
    _, one = relevances(model, images[:1], [(0, 1)])
    assert bool(one[-1][0, :, 0].any())
    assert not bool(one[-1][0, :, 1:].any())


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_model_is_restored(fails, caller):
    model, images = small()
    model.train()
    model.blocks[0].eval()
    model.blocks[1].attn.fused_attn = False
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = [(m.training, getattr(m, "fused_attn", None), len(m._forward_hooks)) for m in model.modules()]
    explainer = Explainer(model, "transformer_attribution", site=MapSite("blocks.0"))
    with caller():
        if fails:
            with pytest.raises(ViceError, match="below 5"):
                explainer(images, [[0], [1], [5]])
        else:
            explainer(images, [[0], [1], [2]])
        assert torch.is_grad_enabled() == (caller is torch.enable_grad)
    assert state == [(m.training, getattr(m, "fused_attn", None), len(m._forward_hooks)) for m in model.modules()]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_autocast_of_the_caller_changes_nothing():
    model, images = small()
    expected = Explainer(model, "transformer_attribution")(images, [[0]] * 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Explainer(model, "transformer_attribution")(images, [[0]] * 3)
    torch.testing.assert_close(scaled(found.maps), scaled(expected.maps), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("test_resnet", {}, "ResNet"),
        ("beit_base_patch16_224", {"img_size": 64, "depth": 1, "embed_dim": 48, "num_heads": 3}, "Beit"),
        ("test_vit", {"global_pool": "avg"}, "avg"),
        ("test_vit", {"num_classes": 0}, "Identity"),
    ],
)
def test_networks_without_rules_are_refused(name, settings, reason):
    model = timm.create_model(name, **settings).eval()
    images = torch.zeros(1, 3, 64, 64)
    with torch.no_grad(), pytest.raises(ViceError, match=reason):
        relevance_method()(scene_of(model, images, [(0, 0)]))
