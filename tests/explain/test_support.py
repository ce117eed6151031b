"""Which networks of timm each method takes: all of timm's small test networks, by every method without captum."""

import pytest
import timm
import torch

from torchvice import Explainer, ViceError
from torchvice.explain import METHODS

# A member of most kinds of network in timm: convolutional, with norm-free and depthwise layers, Mamba-like, ViTs.
NETWORKS = timm.list_models("test_*")
ATTENDING = {
    *("rollout", "attention_gradient", "generic_attention", "legrad", "libragrad_attention"),
    "transformer_attribution",
}
# "cam" needs a pooled linear head; maps of pixels need nothing of a network, and many passes.
OTHERS = {"cam", *(name for name, method in METHODS.items() if method.reads == "pixels")}
EVERYWHERE = set(METHODS) - ATTENDING - OTHERS
LABELS = [[0, 2]]


def image_of(model):
    size = model.pretrained_cfg["input_size"][1:]
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_methods_of_layers_take_every_network_and_attention_is_refused_with_a_way_out(network):
    torch.manual_seed(0)
    model = timm.create_model(network, num_classes=4).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    images, refused = image_of(model), {}
    for method in sorted(EVERYWHERE | ATTENDING):
        try:
            found = Explainer(model, method, batch_size=64)(images, LABELS)
        except ViceError as error:
            refused[method] = error.way_out
            continue
        assert torch.isfinite(found.maps).all(), method
    assert set(refused) <= {*ATTENDING, "refinecam"}  # of which the last needs maps of three sizes
    assert all(refused.values())  # a way out each
    # LeGrad takes what rollout takes, and networks that pool by attention.
    assert ("legrad" in refused) <= ("rollout" in refused)
