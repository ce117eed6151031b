"""Where networks keep their last map, by family; and whether class activation mapping is exact for them."""

import pytest
import timm
import torch
from torch import nn

from torchvice import Explainer, ViceError
from torchvice.models.families import MapSite, input_size, linear_head, locate, module_at

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
    "swin_base_patch4_window7_224",
]


@pytest.mark.parametrize("name", SMALL)
def test_site_and_method(name):
    model = timm.create_model(name, num_classes=4)
    site = locate(model)
    assert (site.layer, site.where, site.layout, Explainer(model).method) == SMALL[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_networks_of_the_paper(name):
    model = timm.create_model(name, num_classes=20)
    images = torch.randn(1, 3, *input_size(model), generator=torch.Generator().manual_seed(0))
    explainer = Explainer(model)
    found = explainer(images, [[1, 7]])
    assert found.maps.shape[0] == 2
    assert min(found.maps.shape[1:]) >= 7
    assert torch.isfinite(found.maps).all()
    assert explainer.method == ("gradcam" if name.startswith(("vit", "swin")) else "cam")


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
    assert input_size(nn.Linear(1, 1)) == (224, 224)


def test_unknown_module_names_the_nearest():
    with pytest.raises(ViceError, match="layer4"):
        module_at(timm.create_model("test_resnet"), "layer44")
