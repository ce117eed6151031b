"""Each way out that a pre-training names, done."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import torch

from torchvice.config import Settings
from torchvice.models.build import build_model
from torchvice.training.recipes import Mae, recipe_of
from ways_out import tried

pytest.importorskip("lightly", reason="the extra `pretrain` is not installed")

from torchvice.training.pretrain import _check_batches, pretrain
from torchvice.training.selfsupervised import ByolModule, MaeModule, pooled

Make = Callable[..., Settings]
SMALL = {"byol": ("hidden=16", "outputs=8"), "mae": ("decoder_width=16", "decoder_depth=1", "decoder_heads=2")}
VIT = "model={name: test_vit, arguments: {img_size: 32}}"


def pretrained(settings: Settings, scheme: str, *choices: str) -> Path:
    return pretrain(settings, scheme, [*SMALL[scheme], *choices], progress=False)


def test_lightly_is_installed(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "pip install 'torchvice[pretrain]'"
    find = importlib.util.find_spec

    def installed() -> Path:
        monkeypatch.setattr(importlib.util, "find_spec", find)
        return pretrained(settings(), "byol")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert tried(lambda: pretrained(settings(), "byol"), says, installed).is_file()
    assert any(re.match(r"lightly\b.*extra == .pretrain.", line) for line in requires("torchvice") or [])


def test_a_second_pretraining_has_another_folder(settings: Make, tmp_path: Path) -> None:
    def trained(folder: Path) -> Path:
        chosen = settings("session_name=other")
        return pretrain(chosen, "byol", SMALL["byol"], folder=folder, progress=False)

    trained(tmp_path / "one")
    assert tried(lambda: trained(tmp_path / "one"), "--out DIR", lambda: trained(tmp_path / "two")).is_file()


def checked(settings: Settings, images: Sequence[int], scheme: str = "byol", devices: int = 1) -> None:
    _check_batches(settings, images, scheme, devices)  # type: ignore[arg-type]


def test_a_batch_has_two_images_and_no_more_than_there_are(settings: Make) -> None:
    one = settings("trainer.batch_size=1")
    for says, right, scheme in (
        ("Try -o trainer.batch_size=64,", settings("trainer.batch_size=64"), "byol"),
        ("or --scheme mae.", one, "mae"),
    ):
        tried(
            lambda: checked(one, range(100)),
            says,
            lambda right=right, scheme=scheme: checked(right, range(100), scheme),
        )
    for devices, size in ((1, 41), (2, 20)):
        tried(
            lambda devices=devices: checked(settings("trainer.batch_size=64"), range(41), devices=devices),
            f"Try -o trainer.batch_size={size}.",
            lambda devices=devices, size=size: checked(
                settings(f"trainer.batch_size={size}"), range(41), devices=devices
            ),
        )


def test_too_few_images_for_the_devices_have_fewer_of_them(settings: Make) -> None:
    tried(
        lambda: checked(settings("trainer.batch_size=4"), range(3), devices=2),
        "-o trainer.devices=1",
        lambda: checked(settings("trainer.batch_size=3"), range(3), devices=1),
    )


def test_a_scheme_and_its_settings_are_suggested() -> None:
    recipe: Any = tried(lambda: recipe_of("moco", True), "Did you mean `moco_v3`?", lambda: recipe_of("moco_v3", True))
    assert recipe.temperature == 1
    recipe = tried(
        lambda: recipe_of("byol", True, ["hiden=64"]),
        "Did you mean `hidden`?",
        lambda: recipe_of("byol", True, ["hidden=64"]),
    )
    assert recipe.hidden == 64


def test_a_network_pools_its_features() -> None:
    images = torch.zeros(1, 3, 32, 32)

    def of(name: str, **arguments: Any) -> torch.Tensor:
        return pooled(build_model(name, 1, arguments=arguments).eval(), images)

    wrong = {"img_size": 32, "global_pool": ""}
    for says, name, arguments in (
        ("Leave out model.arguments.global_pool,", "test_vit", {"img_size": 32}),
        ("or choose another network.", "test_resnet", {}),
    ):
        found = tried(
            lambda: of("test_vit", **wrong), says, lambda name=name, arguments=arguments: of(name, **arguments)
        )
        assert found.ndim == 2


def test_a_loss_that_diverges_has_a_lower_rate(settings: Make) -> None:
    def trained(name: str, rate: str) -> Path:
        return pretrained(settings(VIT, f"session_name={name}", "trainer.epochs=1"), "mae", "optimizer=sgd", rate)

    says = "Start again with a lower rate in another folder: --choice lr=100 --out DIR."
    assert tried(lambda: trained("a", "lr=1000"), says, lambda: trained("b", "lr=100")).is_file()


def test_masked_images_are_of_a_plain_transformer_or_another_scheme() -> None:
    recipe = recipe_of("mae", False, SMALL["mae"])
    assert isinstance(recipe, Mae)

    def masked(name: str) -> MaeModule:
        with torch.device("meta"):
            network = build_model(name, 1)
        return MaeModule(network, recipe, 8, 0)

    (name,) = re.findall(r"vit_\w+", "Choose a network such as vit_base_patch16_224,")
    found: Any = tried(lambda: masked("test_resnet"), f"Choose a network such as {name},", lambda: masked(name))
    assert found.patch == 16
    byol: Any = recipe_of("byol", True, SMALL["byol"])
    other = tried(
        lambda: masked("test_resnet"),
        "or another scheme.",
        lambda: ByolModule(build_model("test_resnet", 1), byol, 8, 96),
    )
    assert isinstance(other, ByolModule)
