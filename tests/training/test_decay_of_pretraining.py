"""Weight decay of pre-training: what it rises to, and that LARS scales layers without it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from torchvice.config import Settings
from torchvice.errors import ViceError

pytest.importorskip("lightly", reason="the extra `pretrain` is not installed")

from torchvice.training.pretrain import pretrain
from torchvice.training.selfsupervised import SelfSupervised

Make = Callable[..., Settings]
SMALL = {"byol": ("hidden=16", "outputs=8"), "dino": ("hidden=16", "outputs=32", "bottleneck=8", "local_views=0")}


def pretrained(chosen: Settings, scheme: str, *choices: str) -> dict[str, Any]:
    weights = pretrain(chosen, scheme, [*SMALL[scheme], *choices], progress=False)
    content: dict[str, Any] = torch.load(weights.parent / "checkpoints" / "last.ckpt", weights_only=True)
    return content


def decays(content: dict[str, Any]) -> list[float]:
    return [group["weight_decay"] for group in content["optimizer_states"][0]["param_groups"]]


def test_dinos_decay_rises_from_0(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rising: list[float] = []
    step = SelfSupervised.optimizer_step

    def note(self: Any, *args: Any, **kwargs: Any) -> None:
        step(self, *args, **kwargs)
        rising.append(self.optimizers().param_groups[1]["weight_decay"])

    monkeypatch.setattr(SelfSupervised, "optimizer_step", note)
    content = pretrained(settings(), "dino", "weight_decay=0", "last_weight_decay=0.4")
    # Half a cosine over five steps: 0.2 (1 - cos(k pi / 4)).
    assert rising == pytest.approx([0, 0.2 * (1 - 0.5**0.5), 0.2, 0.2 * (1 + 0.5**0.5), 0.4])
    assert decays(content) == [0, 0.4]  # norms and biases never decay


def test_dinos_decay_may_fall_to_0_or_stay_there(settings: Make) -> None:
    assert decays(pretrained(settings(), "dino", "weight_decay=0.1", "last_weight_decay=0")) == [0, 0]
    # One group, as checkpoints of earlier versions have it.
    content = pretrained(settings("session_name=none"), "dino", "weight_decay=0", "last_weight_decay=0")
    assert decays(content) == [0]


def test_a_pretraining_that_an_earlier_version_started_without_decay_is_refused(settings: Make) -> None:
    choices = [*SMALL["dino"], "weight_decay=0"]
    last = pretrain(settings(), "dino", choices, progress=False).parent / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    optimizer = content["optimizer_states"][0]
    numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
    optimizer["param_groups"] = [{**optimizer["param_groups"][0], "params": numbers}]
    torch.save(content, last)
    with pytest.raises(ViceError, match=r"an earlier version .* with `weight_decay` 0 .*\s.*--out DIR"):
        pretrain(settings(), "dino", choices, resume=True, progress=False)


def test_lars_scales_the_rates_of_layers_without_decay(settings: Make, tmp_path: Path) -> None:
    few = ("trainer.epochs=1", "trainer.batch_size=41")  # one step
    choices = ("optimizer=lars", "warmup=0", "lr=1")
    starts, moved = {}, {}
    for decay in ("0", "1e-6"):
        chosen = settings(*few, f"session_name=decay-{decay}")
        seen: list[torch.Tensor] = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                SelfSupervised,
                "on_train_start",
                lambda self, seen=seen: seen.append(self.network.get_parameter("conv1.0.weight").detach().clone()),
            )
            content = pretrained(chosen, "byol", *choices, f"weight_decay={decay}")
        starts[decay], moved[decay] = seen[0], content["state_dict"]["network.conv1.0.weight"] - seen[0]
    assert torch.equal(starts["0"], starts["1e-6"])
    # The layer moves by rate x 0.001 of its norm (Ginsburg's trust coefficient), with a negligible decay or without.
    rate = 41 / 256
    assert float(moved["0"].norm()) == pytest.approx(rate * 0.001 * float(starts["0"].norm()), rel=1e-3)
    assert torch.allclose(moved["0"], moved["1e-6"], rtol=1e-3, atol=1e-9)
    assert decays(content)[1] == 1e-6
