"""Networks that run in bfloat16 or float16, and with channels last: maps in float32, close to those in float32."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from torchvice import Explainer, ViceError
from torchvice.explain import METHODS

# Relative to the largest value of a map. bfloat16 has 8 bits; squares of gradients and scores double the error.
CLOSE = {"bfloat16": 0.16, "float16": 0.05}
# Methods that run in their own precision, or do not read the network: the same maps to the bit.
RELEVANCE = ("transformer_attribution", "attnlrp", "cp_lrp", "attnlrp_gamma", "lrp_zplus")
RELEVANCE += ("libragrad", "libragrad_gradcam", "libragrad_attention")
EXACT = (*RELEVANCE, "random", "center", "foreground")
# Differences of logits, and divisions by sums near 0 in transformers: too coarse to compare.
NOISY = [(name, method) for name in ("test_resnet", "test_vit") for method in ("ablationcam",)]
NOISY += [("test_vit", "xgradcam"), ("test_vit", "reciprocam")]
SLOW = ("rise", "occlusion")  # thousands of passes
ALWAYS = ("cam", "gradcam", "layercam", "ablationcam", "attnlrp", "rollout", "random")  # the others in the slow tests


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = timm.create_model(name, num_classes=3).eval()
    return made


def images_for(model: nn.Module, n: int = 2) -> torch.Tensor:
    side = model.pretrained_cfg["input_size"][-1]
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def works_with(name: str, method: str) -> bool:
    if METHODS[method].reads == "patches":
        return name == "test_vit"
    return (name, method) != ("test_vit", "cam")


CASES = [
    pytest.param(name, method, marks=() if method in ALWAYS else pytest.mark.slow)
    for name in ("test_resnet", "test_vit")
    for method in METHODS
    if works_with(name, method) and method not in SLOW and (method in RELEVANCE or METHODS[method].reads != "pixels")
]


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "method"), CASES)
def test_maps_of_a_lower_precision_are_close_and_float32(name: str, method: str, precision: str) -> None:
    model = network(name)
    images, labels = images_for(model), [[0, 2], [1]]
    expected = Explainer(model, method)(images, labels)
    found = Explainer(model, method, precision=precision)(images, labels)  # type: ignore[arg-type]
    assert found.maps.dtype == found.logits.dtype == torch.float32
    assert next(model.parameters()).dtype == torch.float32
    assert torch.allclose(found.logits, expected.logits, atol=0.05)
    if method in EXACT:
        assert torch.equal(found.maps, expected.maps)
        return
    assert not torch.equal(found.logits, expected.logits)  # the network did run in another precision
    if (name, method) in NOISY:
        return
    size = expected.maps.abs().amax((1, 2), keepdim=True)
    assert float(((found.maps - expected.maps) / size).abs().max()) < CLOSE[precision]


def test_channels_last_changes_the_layout_alone() -> None:
    model = network("test_resnet")
    images, seen = images_for(model), []
    plain, last = Explainer(model, "gradcam"), Explainer(model, "gradcam", channels_last=True)
    handle = model.layer1.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    expected, found = plain(images, [[0], [1]]), last(images, [[0], [1]])
    handle.remove()
    assert seen == [False, True]
    assert torch.allclose(found.maps, expected.maps, atol=1e-5)
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_logits_and_activations_run_in_the_precision_too() -> None:
    model = network("test_resnet")
    images = images_for(model)
    plain, low = Explainer(model, "gradcam"), Explainer(model, "gradcam", precision="bfloat16")
    assert low.logits(images).dtype == low.activations(images).dtype == torch.float32
    assert torch.equal(low.logits(images), low(images, [[0], [0]]).logits)
    assert not torch.equal(low.activations(images), plain.activations(images))
    assert torch.equal(plain.logits(images), Explainer(model, "gradcam", precision="float32").logits(images))


def test_a_wrong_precision_is_refused() -> None:
    with pytest.raises(ViceError, match="`precision` must be one of float32, bfloat16, float16, but is 'half'"):
        Explainer(network("test_resnet"), precision="half")  # type: ignore[arg-type]
    with pytest.raises(ViceError, match="must go with weights in float32, but those of ResNet are bfloat16"):
        Explainer(network("test_resnet").bfloat16(), precision="float16")
