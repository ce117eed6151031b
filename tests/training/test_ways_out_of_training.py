"""Each way out that a training names, done."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from torchvice.config import Settings
from torchvice.data import VocDataset
from torchvice.errors import ViceError
from torchvice.models.build import build_model
from torchvice.training.callback import ViceCallback
from torchvice.training.module import Classifier
from torchvice.training.regularising import check_repair, dropout_arguments
from torchvice.training.run import _check_forward, _check_loss, train
from ways_out import tried

Make = Callable[..., Settings]
SGD = ("optimizer.name=sgd", "optimizer.momentum=0", "optimizer.weight_decay=0")


def quietly(settings: Settings, **how: Any) -> Any:
    return train(settings, progress=False, **how)


def test_a_training_that_diverges_has_a_lower_rate_or_a_clip(settings: Make) -> None:
    def trained(*overrides: str) -> Any:
        return quietly(settings(*SGD, "optimizer.lr=100", *overrides))

    says = "Start again with a lower rate under another name: -o optimizer.lr=10 -o session_name=NAME,"
    run = tried(trained, says, lambda: trained("session_name=a", "optimizer.lr=10"))
    assert run.checkpoint("last").is_file()
    run = tried(
        lambda: trained("session_name=b"),
        "or with -o trainer.clip=1 in place of the rate.",
        lambda: trained("session_name=c", "trainer.clip=1"),
    )
    assert run.checkpoint("last").is_file()


def test_a_training_with_adamw_that_diverges_has_a_lower_rate_alone(settings: Make) -> None:
    def trained(*overrides: str) -> Any:
        return quietly(settings("optimizer.name=adamw", *overrides))

    with pytest.raises(ViceError, match="must be finite") as caught:
        trained("optimizer.lr=1e3")
    way_out = re.findall(r"-o ([\w.]+=[\w.+-]*\w)", caught.value.way_out)
    assert way_out == ["optimizer.lr=100", "session_name=NAME"]
    assert trained("optimizer.lr=1e3", *way_out).checkpoint("last").is_file()


def test_a_clip_that_is_set_is_not_said(settings: Make) -> None:
    with pytest.raises(ViceError, match="must stay finite") as caught:
        quietly(settings("optimizer.lr=1e4", "trainer.clip=1"))
    assert "clip" not in caught.value.way_out


def test_a_damaged_checkpoint_is_left_for_another_name_or_its_weights(settings: Make, tmp_path: Path) -> None:
    run = quietly(settings())
    last = run.checkpoint("last")
    whole = torch.load(last, weights_only=True)["state_dict"]
    weights = {name.removeprefix("model."): tensor for name, tensor in whole.items() if name.startswith("model.")}

    def resumed(content: bytes) -> Any:
        last.write_bytes(content)
        return quietly(settings("trainer.epochs=2"), resume=True)

    torch.save(weights, tmp_path / "weights.pth")
    file = (tmp_path / "weights.pth").read_bytes()
    other = tried(
        lambda: resumed(file[:1000]),
        "Start again under another name: -o session_name=NAME.",
        lambda: quietly(settings("session_name=other")),
    )
    assert other.checkpoint("last").is_file()
    other = tried(
        lambda: resumed(file),
        "To start from weights only: -o model.weights=FILE.",
        lambda: quietly(settings("session_name=third", f"model.weights={tmp_path / 'weights.pth'}")),
    )
    assert other.checkpoint("last").is_file()


def test_a_training_is_begun_resumed_or_called_otherwise(settings: Make) -> None:
    begun = tried(
        lambda: quietly(settings(), resume=True),
        "To start, leave out --resume.",
        lambda: quietly(settings()),
    )
    assert begun.checkpoint("last").is_file()
    for says, right in (
        ("Resume it (--resume),", lambda: quietly(settings(), resume=True)),
        ("or choose another name: -o session_name=NAME.", lambda: quietly(settings("session_name=other"))),
    ):
        assert tried(lambda: quietly(settings()), says, right).checkpoint("last").is_file()


def test_a_training_resumes_with_its_settings_or_is_another_one(settings: Make) -> None:
    quietly(settings())
    for says, right in (
        ("Restore the setting,", lambda: quietly(settings(), resume=True)),
        (
            "or start another run: -o session_name=NAME.",
            lambda: quietly(settings("optimizer.lr=1e-3", "session_name=other")),
        ),
    ):
        run = tried(lambda: quietly(settings("optimizer.lr=1e-3"), resume=True), says, right)
        assert run.checkpoint("last").is_file()


@pytest.mark.parametrize("right", ["data.exclusive=true", "loss=multilabel"])
def test_the_cross_entropy_has_exclusive_classes(right: str, settings: Make) -> None:
    wrong = ("loss=cross_entropy", "data.exclusive=false")
    tried(
        lambda: _check_loss(settings(*wrong), 3),
        f"-o {right}",
        lambda: _check_loss(settings(*wrong, right), 3),
    )


def test_exclusive_classes_have_another_background_in_place_of_an_erased_object(
    settings: Make, one_colour: Path
) -> None:
    data = VocDataset(one_colour, "train")
    tried(
        lambda: check_repair(settings("data.exclusive=true", "regularisation.erase_object=0.5"), data),
        "Use -o regularisation.swap_background=0.5 instead.",
        lambda: check_repair(settings("data.exclusive=true", "regularisation.swap_background=0.5"), data),
    )


def test_repairing_has_masks_or_is_left_out(settings: Make, colours: Path, tmp_path: Path) -> None:
    root = tmp_path / "unmasked"
    shutil.copytree(colours, root)
    masks = root / "VOC2012" / "SegmentationClass"
    masks.rename(root / "kept")
    asked = settings("regularisation.swap_background=0.5")

    def checked(chosen: Settings) -> str:
        return check_repair(chosen, VocDataset(root, "train"))

    assert tried(lambda: checked(asked), "or leave the setting out.", lambda: checked(settings())) == ""

    def with_masks() -> str:
        (root / "kept").rename(masks)
        return checked(asked)

    assert tried(lambda: checked(asked), "Add masks (see docs/your-data.md),", with_masks) == ""
    assert (Path(__file__).parents[2] / "docs" / "your-data.md").is_file()


@pytest.mark.parametrize(
    ("wrong", "says", "right", "found"),
    [
        (
            ("model.linear_probe=true", "regularisation.drop_path=0.1"),
            "Leave out one of the two;",
            ("regularisation.drop_path=0.1",),
            {"drop_path_rate": 0.1},
        ),
        (
            ("model.linear_probe=true", "regularisation.drop_path=0.1"),
            "`regularisation.dropout` works with a linear probe.",
            ("model.linear_probe=true", "regularisation.dropout=0.1"),
            {"drop_rate": 0.1},
        ),
        (
            ("model.arguments.drop_rate=0.2", "regularisation.dropout=0.1"),
            "Leave out model.arguments.drop_rate.",
            ("regularisation.dropout=0.1",),
            {"drop_rate": 0.1},
        ),
        (
            ("model.arguments.drop_path_rate=0.2", "regularisation.drop_path=0.1"),
            "Leave out model.arguments.drop_path_rate.",
            ("regularisation.drop_path=0.1",),
            {"drop_path_rate": 0.1},
        ),
    ],
)
def test_a_rate_is_given_once(
    wrong: tuple[str, ...], says: str, right: tuple[str, ...], found: dict[str, float], settings: Make
) -> None:
    assert (
        tried(lambda: dropout_arguments(settings(*wrong)), says, lambda: dropout_arguments(settings(*right))) == found
    )


def test_the_network_and_the_images_have_one_size() -> None:
    def checked(crop: int, size: int) -> None:
        arguments = {"img_size": size, "embed_dim": 24, "depths": [1, 1, 1, 1]}
        name = "swin_tiny_patch4_window7_224"
        _check_forward(build_model(name, 3, arguments=arguments), crop, 3, name)

    tried(lambda: checked(96, 64), "Set transform.crop to the network's size,", lambda: checked(64, 64))
    tried(lambda: checked(96, 64), "-o model.arguments.img_size=SIZE.", lambda: checked(96, 96))


def test_a_batch_that_is_halved_fits_into_the_accelerator(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Classifier.training_step

    def limited(self: Classifier, batch: Any, batch_idx: int) -> torch.Tensor:
        if len(batch[0]) > 4:
            raise torch.cuda.OutOfMemoryError
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", limited)
    run = tried(
        lambda: quietly(settings()),
        "Halve it (-o trainer.batch_size=4) and double -o trainer.accumulate.",
        lambda: quietly(settings("session_name=half", "trainer.batch_size=4", "trainer.accumulate=2")),
    )
    assert run.checkpoint("last").is_file()


class Bare(lightning.LightningModule):
    """A module of the user's own, without settings, whose network is called `net`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = build_model("test_resnet", 3)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, targets = batch
        return nn.functional.binary_cross_entropy_with_logits(self.net(images), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fitted(callback: ViceCallback, targets: torch.Tensor) -> ViceCallback:
    loader = DataLoader(TensorDataset(torch.rand(4, 3, 32, 32), targets), batch_size=4)
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
        max_epochs=1,
    )
    trainer.fit(Bare(), loader)
    return callback


@pytest.mark.filterwarnings("ignore")
def test_a_module_of_the_users_own_gets_its_network_and_a_dataset(colours: Path) -> None:
    data = VocDataset(colours, "val")
    targets = torch.tensor(data.targets[:4]).float()
    how: dict[str, Any] = {"protocols": ["strict"], "view_size": 32, "outputs": "logits"}
    callback = tried(
        lambda: fitted(ViceCallback(data, **how), targets),
        "Name the attribute that gives the logits: network=...",
        lambda: fitted(ViceCallback(data, network="net", **how), targets),
    )
    assert callback.measures is not None
    callback = tried(
        lambda: fitted(ViceCallback("val", network="net", **how), targets),
        "Give a dataset in place of the split's name.",
        lambda: fitted(ViceCallback(data, network="net", **how), targets),
    )
    assert callback.measures is not None
