"""Networks without a file of weights: pretrained ones from a cache, and random ones."""

from __future__ import annotations

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from torchvice.errors import ViceError
from torchvice.models.build import weights_hash
from torchvice.models.named import Start, model_by_name
from ways_out import tried

HASH = "0123456789abcdef0123456789abcdef01234567"


def started(name, weights=None, arguments=None, **start):
    return model_by_name(name, weights, arguments, start=Start(**start))


def test_random_weights_follow_from_their_seed_and_are_said():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    made = started("test_resnet", seed=3, outputs=7)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(3)
    assert weights_hash(made.model) == weights_hash(timm.create_model("test_resnet", num_classes=7))
    assert weights_hash(made.model) == weights_hash(started("test_resnet", seed=3, outputs=7).model)
    assert weights_hash(made.model) != weights_hash(started("test_resnet", seed=4, outputs=7).model)
    assert (made.outputs, made.made_by) == (7, {"network": "test_resnet", "random_weights": 3})
    assert made.notes == ("The weights are random (seed 3): the numbers are those of an untrained network.",)


def test_random_weights_of_torchvision_and_with_arguments():
    made = started("torchvision:shufflenet_v2_x0_5", seed=0, outputs=4)
    assert (made.outputs, made.size, made.made_by["random_weights"]) == (4, 224, 0)
    assert made.model(torch.zeros(2, 3, 64, 64)).shape == (2, 4)
    made = started("test_vit", None, {"img_size": 64}, seed=0, outputs=4)
    assert made.made_by["arguments"] == {"img_size": 64}
    assert started("test_vit", seed=0).outputs == 1000  # as its pretrained weights have


def test_pretrained_weights_come_from_the_cache_with_their_tag(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=1000)
    place = tmp_path / "models--timm--test_resnet.r160_in1k"
    snapshot = place / "snapshots" / HASH
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(HASH)
    save_file(model.state_dict(), snapshot / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    made = started("test_resnet", pretrained=True)
    assert weights_hash(made.model) == weights_hash(model)
    assert made.outputs == 1000
    assert made.made_by == {"network": "test_resnet", "pretrained": "test_resnet.r160_in1k"}
    assert made.notes == ()
    with pytest.raises(ViceError, match="The pretrained weights of test_vit are not in the cache"):
        started("test_vit", pretrained=True)


def test_weights_are_given_once(tmp_path):
    with pytest.raises(ViceError, match="exclude each other"):
        started("test_resnet", pretrained=True, seed=0)
    path = tmp_path / "w.pth"
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), path)
    right = tried(lambda: started("test_resnet", path, seed=0), "Remove one.", lambda: started("test_resnet", path))
    assert right.outputs == 3
    assert right.notes == ()


def test_a_network_with_its_own_weights_or_without_pretrained_ones(tmp_path):
    code = tmp_path / "net.py"
    code.write_text("import torch\n\n\ndef build():\n    return torch.nn.Flatten()\n")
    name = f"{code}:build"
    assert tried(lambda: started(name, seed=0), "Leave --random-weights out.", lambda: started(name)).outputs is None
    with pytest.raises(ViceError, match="--pretrained is for timm's networks, but the network is 'torchvision:"):
        started("torchvision:resnet18", pretrained=True)
    with pytest.raises(ViceError, match="must be a timm name, but is 'resnet18_nope'"):
        started("resnet18_nope", pretrained=True)
    bare = next(
        name for name in timm.list_models("vit_*", pretrained=True) if not timm.get_pretrained_cfg(name).num_classes
    )
    with pytest.raises(ViceError, match="timm has pretrained weights without a classifier of"):
        started(bare, pretrained=True)
