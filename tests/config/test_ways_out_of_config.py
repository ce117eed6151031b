"""Each way out that the reader of settings names, done."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchvice.config import Settings, load_settings
from torchvice.config.settings import ORIGINAL_NAMES
from ways_out import tried


def value(settings: Settings, path: str) -> object:
    found: object = settings
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(
    ("given", "says", "name"),
    [
        ("optimizer.rl=0.1", "optimizer.lr, ", "optimizer.lr"),
        ("optimizer.l_r=0.1", "Did you mean `optimizer.lr`?", "optimizer.lr"),
        ("lr=0.1", "Did you mean `optimizer.lr`?", "optimizer.lr"),
        ("optimiser.lr=0.1", "Did you mean `optimizer.lr`?", "optimizer.lr"),
        ("weight_dcay=0.1", "Did you mean `optimizer.weight_decay`?", "optimizer.weight_decay"),
        ("optimizer.colour=0.1", "Known: ", "optimizer.lr"),
        ("batch_sise=2", "`trainer.batch_size` or `assess.batch_size`?", "trainer.batch_size"),
        ("batch_sise=2", "`trainer.batch_size` or `assess.batch_size`?", "assess.batch_size"),
        ("batch_size=2", "`assess.batch_size`", "assess.batch_size"),
        ("batch_size=2", "`trainer.batch_size`", "trainer.batch_size"),
        ("seeed=2", "Did you mean `seed`?", "seed"),
    ],
)
def test_a_setting_that_is_suggested_is_one(given: str, says: str, name: str) -> None:
    number = given.partition("=")[2]
    found = tried(lambda: load_settings("demo", [given]), says, lambda: load_settings("demo", [f"{name}={number}"]))
    assert value(found, name) == float(number)


@pytest.mark.parametrize(("original", "name"), ORIGINAL_NAMES.items())
def test_a_name_of_the_original_has_another_one_here(original: str, name: str) -> None:
    given = {"transform.crop": 64, "model.name": "resnet18"}.get(name, "val")
    found = tried(
        lambda: load_settings("demo", [f"{original}={given}"]),
        f"The original's `{original}` is `{name}` here.",
        lambda: load_settings("demo", [f"{name}={given}"]),
    )
    assert value(found, name) == given


def test_a_preset_is_suggested() -> None:
    found = tried(lambda: load_settings("resnet-50"), "Did you mean `resnet50`?", lambda: load_settings("resnet50"))
    assert found.model.name == "resnet50.tv_in1k"


def test_a_setting_that_is_missing_is_given(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("seed: 3\n")
    says = "For example -o model.name=VALUE."
    found = tried(lambda: load_settings(file), says, lambda: load_settings(file, ["model.name=resnet18"]))
    assert (found.seed, found.model.name) == (3, "resnet18")


def test_a_section_has_the_settings_that_are_listed(tmp_path: Path) -> None:
    def loaded(line: str) -> Settings:
        (tmp_path / "own.yaml").write_text(f"model:\n  name: resnet18\n{line}\n")
        return load_settings(tmp_path / "own.yaml")

    found = tried(lambda: loaded("optimizer: adamw"), "It has: name, ", lambda: loaded("optimizer:\n  name: adamw"))
    assert found.optimizer.name == "adamw"
