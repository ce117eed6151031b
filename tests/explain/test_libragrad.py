"""LibraGrad: equal to autograd through a pass in which the constants are detached by hand."""

import pytest
import torch
from test_input_relevance import LABELS, close, small
from torch.nn import functional

from torchvice import Explainer, ViceError
from torchvice.explain.gradient import gradcam
from torchvice.explain.libragrad import LIBRAGRAD
from torchvice.explain.surrogate_rules import CP_LRP


def norm(layer, x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt().detach() * layer.weight + layer.bias


def balanced(model, images):
    """Logits, the attention of every block as leaves, and the input of the last block's attention as a leaf."""
    x, attentions = model._pos_embed(model.patch_embed(images)), []
    for number, block in enumerate(model.blocks):
        entered = norm(block.norm1, x)
        if number + 1 == len(model.blocks):
            entered = entered + 0
            entered.retain_grad()
        q, k, v = block.attn.qkv(entered).unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT * block.attn.scale).softmax(-1).detach().requires_grad_()
        attentions.append(weights)
        x = x + block.attn.proj((weights @ v).transpose(1, 2).flatten(2))
        hidden = block.mlp.fc1(norm(block.norm2, x))
        x = x + block.mlp.fc2(hidden * (0.5 + 0.5 * torch.erf(hidden / 2**0.5)).detach())
    return model.head(norm(model.norm, x)[:, 0]), attentions, entered


def test_equals_autograd_with_detached_constants():
    model, images = small()
    for block in model.blocks:
        block.attn.fused_attn = False
    cams = Explainer(model, "libragrad_gradcam")(images, LABELS)
    rows = Explainer(model, "libragrad_attention")(images, LABELS)
    for row, (image, c) in enumerate(cams.pairs.tolist()):
        logits, attentions, entered = balanced(model, images[image : image + 1])
        logits[0, c].backward()
        torch.testing.assert_close(cams.logits[image], logits[0].detach())
        gradient, value = (t.detach()[:, 1:].mT.unflatten(2, (4, 4)) for t in (entered.grad, entered))
        close(cams.maps[row], (gradcam(value, gradient) * value).sum(1)[0])
        joint = torch.eye(17)
        for weights in attentions:
            joint = joint + (weights * weights.grad).detach().clamp(min=0).mean(1)[0] @ joint
        close(rows.maps[row], joint[0, 1:].reshape(4, 4))


def test_its_input_times_gradient_is_cp_lrp():
    assert LIBRAGRAD is CP_LRP
    model, images = small()
    found = [Explainer(model, method)(images, LABELS).maps for method in ("libragrad", "cp_lrp")]
    assert torch.equal(*found)


@pytest.mark.parametrize("method", ["libragrad_gradcam", "libragrad_attention"])
def test_the_model_and_the_plain_methods_stay_as_they_are(method):
    model, images = small()
    plain = {"libragrad_gradcam": "gradcam", "libragrad_attention": "generic_attention"}[method]
    before = Explainer(model, plain)(images, LABELS).maps
    state = [(m.training, sorted(vars(m)), len(m._forward_hooks)) for m in model.modules()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Explainer(model, method)(images, LABELS)
    assert set(found.status) == {"ok"}
    assert not torch.allclose(found.maps, before)
    assert Explainer(model, method)(images, [[], [], []]).maps.shape[0] == 0
    with pytest.raises(ViceError, match="below 5"):
        Explainer(model, method)(images, [[5], [], []])
    assert state == [(m.training, sorted(vars(m)), len(m._forward_hooks)) for m in model.modules()]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(Explainer(model, plain)(images, LABELS).maps, before)


def test_torchvision_and_layers():
    from test_foreign_attention import of_torchvision

    model, images = small(mlp_ratio=2)
    model.norm.eps = model.blocks[0].norm1.eps
    twin = of_torchvision(model.state_dict())
    for method in ("libragrad_gradcam", "libragrad_attention"):
        close(Explainer(twin, method)(images, LABELS).maps, Explainer(model, method)(images, LABELS).maps)
    earlier = Explainer(model, "libragrad_gradcam", layer="blocks.1.norm1")(images, LABELS)
    assert earlier.maps.shape == (3, 4, 4)
    assert functional.cosine_similarity(earlier.maps[0].flatten(), earlier.maps[1].flatten(), 0) < 0.999
