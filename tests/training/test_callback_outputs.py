"""ViceCallback and `samples_of` refuse outputs that look like probabilities, unless they are told what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from torchvice.assessment import MapSettings, samples_of
from torchvice.assessment.views import views_of
from torchvice.config import Settings
from torchvice.data import VocDataset
from torchvice.errors import ViceError
from torchvice.models.build import build_model
from torchvice.training.callback import ViceCallback
from torchvice.training.run import _vice_callbacks

SIZES: dict[str, Any] = {"view_size": 32, "crop": 32, "method": "gradcam", "layer": "0.layer4"}


class Module(lightning.LightningModule):
    """A network with a last step of its own, that learns nothing."""

    def __init__(self, end: torch.nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(build_model("test_resnet", 3), end)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return self.model(batch[0]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0)


def fit(callback: ViceCallback, module: Module, epochs: int = 1) -> None:
    loader = DataLoader(TensorDataset(torch.rand(2, 3, 32, 32)), batch_size=2)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback], max_epochs=epochs,
    )  # fmt: skip
    trainer.fit(module, loader)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("end", [torch.nn.Sigmoid(), torch.nn.Softmax(1)])
def test_probabilities_are_not_measured_unless_they_are_named(colours: Path, end: torch.nn.Module) -> None:
    data = VocDataset(colours, "val")
    callback, module = ViceCallback(data, images=5, **SIZES), Module(end)
    with pytest.warns(UserWarning, match=r"not measured after this epoch: (?s:.*)outputs='probabilities'") as warned:
        fit(callback, module, epochs=2)
    assert callback.measures is None
    assert len([w for w in warned if "not measured" in str(w.message)]) == 2  # the training went on
    for outputs in ("probabilities", "logits"):
        callback = ViceCallback(data, images=5, **SIZES, outputs=outputs)  # type: ignore[arg-type]
        fit(callback, Module(end))
        assert callback.measures is not None


@pytest.mark.filterwarnings("ignore")
def test_logits_that_lay_in_0_to_1_at_first_are_measured_later(colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["early", ""])
    monkeypatch.setattr("torchvice.training.callback._refusal", lambda found: next(answers))
    callback = ViceCallback(VocDataset(colours, "val"), images=5, protocols=["strict"], **SIZES)
    fit(callback, Module(torch.nn.Identity()), epochs=3)  # a third look would have no answer
    assert callback.measures is not None


@pytest.mark.filterwarnings("ignore")
def test_they_are_looked_at_once_a_fit(colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        "torchvice.training.callback.refuse_probabilities", lambda outputs, _: seen.append(outputs.shape)
    )
    callback = ViceCallback(VocDataset(colours, "val"), images=5, protocols=["strict"], **SIZES)
    for _ in range(2):
        fit(callback, Module(torch.nn.Identity()), epochs=3)
    assert seen == [(5, 3)] * 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("outputs", "count"), [(None, 1), ("softmax", 0), ("logits", 0)])
def test_a_softmax_that_assess_would_take_is_said(colours: Path, outputs: Any, count: int) -> None:
    data, end = VocDataset(colours, "val"), torch.nn.Linear(3, 1000)
    groups = [[10 * c, 10 * c + 1] for c in range(3)]
    callback = ViceCallback(data, images=5, protocols=["strict"], class_map=groups, outputs=outputs, **SIZES)
    with catch_warnings(record=True) as warned:
        simplefilter("always")
        fit(callback, Module(end))
    assert len([w for w in warned if "takes those of this network as logits of a softmax" in str(w.message)]) == count


def test_a_training_of_torchvice_is_never_ended_by_it(settings: Any, colours: Path) -> None:
    chosen: Settings = settings("trainer.vice_every_n_epochs=1")
    (callback,) = _vice_callbacks(chosen, VocDataset(colours, "val"))
    assert callback.settings.outputs == "logits"


def test_a_table_in_memory_refuses_them_too(colours: Path) -> None:
    data, model = VocDataset(colours, "val"), Module(torch.nn.Sigmoid()).model
    with pytest.raises(ViceError, match="must be logits, but all outputs of 3 rows"):
        samples_of(views_of(model, ("strict",), MapSettings(**SIZES)), data, [0, 1, 2])
    views = views_of(model, ("strict",), MapSettings(**SIZES, outputs="probabilities"))
    assert np.isfinite(samples_of(views, data, [0, 1, 2]).images.logits).all()
