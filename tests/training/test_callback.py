"""ViceCallback: what it logs is what assess and measure say, and the training does not notice that it is there."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing
from torch.utils.data import DataLoader, TensorDataset

from tables import scenes, table_of
from torchvice import assess, measure
from torchvice.config import Settings, dump_settings
from torchvice.data import VocDataset
from torchvice.data.items import ItemDataset
from torchvice.errors import ViceError
from torchvice.measures import Measures
from torchvice.models.build import build_model, weights_hash
from torchvice.runs import Run
from torchvice.samples import Samples
from torchvice.training.callback import ViceCallback, gathered, joined
from torchvice.training.module import Classifier
from torchvice.training.run import train

Make = Callable[..., Settings]
LOGGED = ("vice/strict", "vice/paper", "ece_ml/strict", "ece_ml/paper")
# How the tests assess. Outputs are named: those of a network that hardly learned may lie in [0, 1].
HOW: dict[str, Any] = {"view_size": 32, "crop": 32, "device": "cpu", "outputs": "logits"}


class Part:
    """Some images of a dataset, as a dataset."""

    exclusive = False

    def __init__(self, whole: VocDataset, rows: list[int]) -> None:
        self.whole, self.rows, self.classes = whole, rows, whole.classes
        self.records, self.targets = [whole.records[i] for i in rows], whole.targets[rows]

    def image(self, index: int) -> np.ndarray:
        return self.whole.image(self.rows[index])

    def mask(self, index: int) -> np.ndarray | None:
        return self.whole.mask(self.rows[index])


def trained(run: Run) -> torch.nn.Module:
    """In the memory format of the training: maps of one pixel, as here, depend on the last bit."""
    return run.model("last").to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def logged(run: Run) -> list[dict[str, str]]:
    with open(run.logs / "version_0" / "metrics.csv") as file:
        return [row for row in csv.DictReader(file) if row.get("ece_ml/strict")]


def measured_again(run: Run, folder: Path) -> Measures:
    """The measures of the 11 of the run's 16 validation images that the callback draws, from a table of their own."""
    drawn = sorted(np.random.default_rng(2022).permutation(16)[:11].tolist())
    pixels = {name: getattr(run.settings.transform, name) for name in ("mean", "std")}
    return measure(assess(trained(run), Part(run.dataset("val"), drawn), out=folder, **HOW, **pixels), replicates=0)


def test_the_training_is_the_same_with_it_and_the_numbers_are_those_of_measure(
    settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Dropout and augmentation draw from the chance that has to be given back.
    more = ("trainer.epochs=3", "transform.flip=true", "model.arguments.drop_rate=0.2")
    without = train(settings("session_name=without", *more), progress=False)
    looked = train(settings("session_name=looked", *more, "trainer.vice_every_n_epochs=3", "trainer.vice_images=11"))
    for which in ("best", "last"):
        a, b = (torch.load(run.checkpoint(which), weights_only=True) for run in (without, looked))
        assert a["state_dict"].keys() == b["state_dict"].keys()
        assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())
        assert weights_hash(without.model(which)) == weights_hash(looked.model(which))
    rows = logged(looked)
    assert [row["epoch"] for row in rows] == ["2"]
    assert "  VICE " in capsys.readouterr().err.splitlines()[-1]

    found = measured_again(looked, tmp_path / "table")
    for protocol in ("paper", "strict"):
        for name in ("vice", "ece_ml"):
            value = getattr(found, protocol)[name]
            assert float(rows[0][f"{name}/{protocol}"]) == pytest.approx(value, abs=1e-6, nan_ok=True)
    assert not np.isnan(found.strict["vice"])


def fit(callback: ViceCallback, settings: Settings, data: VocDataset, **trainer: Any) -> lightning.Trainer:
    """A training of the user's own: one step an epoch."""
    images, targets = torch.rand(4, 3, 32, 32), torch.tensor(data.targets[:4]).float()
    loader = DataLoader(TensorDataset(images, targets), batch_size=4)
    module = Classifier(build_model("test_resnet", 3), settings, data.classes)
    chosen = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback], **{"max_epochs": 1, **trainer},
    )  # fmt: skip
    chosen.fit(module, loader)
    return chosen


@pytest.mark.filterwarnings("ignore")
def test_exactly_the_measures_of_these_images(settings: Make, colours: Path, tmp_path: Path) -> None:
    chosen, data = settings(), VocDataset(colours, "val")
    callback = ViceCallback("val", images=9, seed=5, view_size=32, crop=32, outputs="logits")
    trainer = fit(callback, chosen, data)
    model = trainer.lightning_module.model
    expected = measure(assess(model, Part(data, callback.rows), out=tmp_path, **HOW), replicates=0)
    assert callback.measures is not None
    for section in ("paper", "strict", "classification", "localisation"):
        np.testing.assert_equal(getattr(callback.measures, section), getattr(expected, section))
    assert len(callback.rows) == callback.measures.images == 9
    for name in LOGGED:
        part, protocol = name.split("/")
        value = getattr(expected, protocol)[part]
        assert float(trainer.callback_metrics[name]) == pytest.approx(value, abs=1e-6, nan_ok=True)


@pytest.mark.filterwarnings("ignore")
def test_items_and_a_folder_are_data_as_for_assess(settings: Make, colours: Path) -> None:
    data = VocDataset(colours, "val")
    items = [(data.image(place), data.mask(place)) for place in range(6)]
    callback = ViceCallback(items, classes=data.classes, protocols="strict", view_size=32)
    assert isinstance(callback.dataset, ItemDataset)
    trainer = fit(callback, settings(), data, max_epochs=1)
    assert "vice/strict" in trainer.callback_metrics
    assert len(ViceCallback(colours).dataset.records) == len(data.records)  # type: ignore[union-attr]
    with pytest.raises(ViceError, match="`classes` are those of the dataset"):
        ViceCallback(data, classes=data.classes)
    with pytest.raises(ViceError, match="An item must be a pair or a dictionary, but is 'int'"):
        ViceCallback([1, 2])


@pytest.mark.filterwarnings("ignore")
def test_every_n_epochs_and_one_protocol(settings: Make, colours: Path) -> None:
    data, seen = VocDataset(colours, "val"), []

    class Counting(ViceCallback):
        def _views(self, pl_module: Any) -> Any:
            seen.append(pl_module.current_epoch)
            return super()._views(pl_module)

    trainer = fit(Counting(data, every_n_epochs=2, protocols=["strict"], view_size=32), settings(), data, max_epochs=5)
    assert seen == [0, 1, 3]  # before the first, then after the second and the fourth
    assert "vice/strict" in trainer.callback_metrics
    assert "vice/paper" not in trainer.callback_metrics


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_half_precision_is_looked_at_in_float32(settings: Make, colours: Path, precision: str) -> None:
    data = VocDataset(colours, "val")
    callback = ViceCallback(data, protocols=["strict"], view_size=32, outputs="logits")
    trainer = fit(callback, settings(), data, precision=precision)
    assert callback.measures is not None
    assert not np.isnan(callback.measures.strict["ece_ml"])
    kept = {p.dtype for p in trainer.lightning_module.model.parameters()}
    assert kept == {torch.bfloat16 if precision == "bf16-true" else torch.float32}


@pytest.mark.filterwarnings("ignore")
def test_what_is_borrowed_is_given_back_also_after_an_error(settings: Make, colours: Path) -> None:
    data = VocDataset(colours, "val")
    callback = ViceCallback(data, images=5, view_size=32, crop=32, outputs="logits")
    trainer = fit(callback, settings(), data)
    module = trainer.lightning_module
    module.train()
    module.model.layer4.eval()  # a part that stays still

    def world() -> tuple[Any, ...]:
        modes = [part.training for part in module.modules()]
        grads = [p.requires_grad for p in module.parameters()]
        hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())
        return modes, grads, hooks, torch.get_rng_state().tolist(), torch.is_grad_enabled()

    before = world()
    logs: list[str] = []
    module.log = lambda name, *_, **__: logs.append(name)
    callback.on_train_epoch_end(trainer, module)
    assert logs == ["vice/paper", "ece_ml/paper", "vice/strict", "ece_ml/strict"]
    assert world() == before

    class Broken(VocDataset):
        def mask(self, index: int) -> np.ndarray | None:
            torch.rand(3)
            raise ViceError("The mask is damaged.")

    callback.dataset = Broken(colours, "val")
    with pytest.raises(ViceError, match="damaged"):
        callback.on_train_epoch_end(trainer, module)
    assert world() == before


@pytest.mark.filterwarnings("ignore")
def test_undefined_is_nan_and_said(settings: Make, colours: Path) -> None:
    class Unmasked(VocDataset):
        def mask(self, index: int) -> np.ndarray | None:
            return None

    data = Unmasked(colours, "val")
    with pytest.warns(UserWarning, match=r"vice/strict is undefined: .* at least three"):
        trainer = fit(ViceCallback(data, view_size=32, crop=32, outputs="logits"), settings(), data)
    assert np.isnan(float(trainer.callback_metrics["vice/strict"]))
    assert 0 <= float(trainer.callback_metrics["ece_ml/strict"]) <= 1


@pytest.mark.filterwarnings("ignore")
def test_mistakes_are_told_before_an_epoch_is_spent(settings: Make, colours: Path) -> None:
    data = VocDataset(colours, "val")
    for arguments, said in (({"every_n_epochs": 0}, "every_n_epochs"), ({"images": 2}, "images"),
                            ({"protocols": ["draft"]}, "protocols")):  # fmt: skip
        with pytest.raises(ViceError, match=f"`{said}` must be"):
            ViceCallback(data, **arguments)
    with pytest.raises(ViceError, match="must have its network as `net`"):
        fit(ViceCallback(data, network="net"), settings(), data)
    with pytest.raises(ViceError, match="magic"):
        fit(ViceCallback(data, method="magic"), settings(), data)
    with pytest.raises(ViceError, match="`split` must name a list"):
        fit(ViceCallback("nothing"), settings(), data)


@pytest.mark.filterwarnings("ignore")
def test_datasets_that_assess_refuses_are_refused_before_an_epoch_is_spent(settings: Make, colours: Path) -> None:
    class Repeated(Part):
        """A dataset class of the user's own: two images have one id."""

        def __init__(self, whole: VocDataset) -> None:
            super().__init__(whole, [0, 1, 1])

    class Flipped(Part):
        def image(self, index: int) -> np.ndarray:
            image = super().image(index)
            return image[:, ::-1] if np.random.default_rng().random() < 0.5 else image

    data = VocDataset(colours, "val")
    items = [{"image": data.image(place), "mask": data.mask(place), "id": "a"} for place in range(3)]
    for wrong, said in (
        (lambda: ViceCallback(Repeated(data)), "Image ids must be unique"),
        (lambda: ViceCallback(Flipped(data, list(range(9)))), "the same image each time"),
        (lambda: ViceCallback(items, classes=data.classes), "Every item must have an id of its own"),
        (lambda: ViceCallback(None), "needs data, but none are given"),
        (lambda: ViceCallback("val", classes=data.classes), "`classes` are those of the dataset"),
    ):
        with pytest.raises(ViceError, match=said):
            wrong()
    data.records = [data.records[0], *data.records[1:-1], data.records[0]]
    with pytest.raises(ViceError, match="Image ids must be unique"):
        fit(ViceCallback(data), settings(), VocDataset(colours, "val"))
    other = Part(VocDataset(colours, "val"), list(range(9)))
    other.classes, other.targets = (*other.classes, "more"), np.pad(other.targets, ((0, 0), (0, 1)))
    with pytest.raises(ViceError, match="must have an output for each of 4 classes, but has 3"):
        fit(ViceCallback(other, view_size=32), settings(), VocDataset(colours, "val"))
    other = Part(VocDataset(colours, "val"), list(range(9)))
    other.exclusive, other.targets = True, np.ones_like(other.targets)
    with pytest.raises(ViceError, match="Exclusive targets have one label per image"):
        fit(ViceCallback(other, view_size=32), settings(), VocDataset(colours, "val"))


@pytest.mark.filterwarnings("ignore")
def test_the_files_of_a_split_are_checked_when_the_fit_begins(settings: Make, colours: Path, tmp_path: Path) -> None:
    root = shutil.copytree(colours, tmp_path / "data")
    data = VocDataset(root, "val")
    data.records[1].image.write_bytes(b"")
    with pytest.raises(ViceError, match="Every image and mask must be readable and of the same size, but 1 of the"):
        fit(ViceCallback("val", view_size=32), settings(f"data.root={root}"), data)


# ---- several processes


def halves() -> list[Samples]:
    whole = table_of(scenes(9))
    first = set(np.unique(whole.images.image_id)[::3].tolist())
    parts = []
    for side in (True, False):
        rows = {name: np.array([(i in first) is side for i in getattr(whole, name).image_id])
                for name in ("images", "regions", "maps")}  # fmt: skip
        parts.append(Samples(whole.manifest, *(getattr(whole, name).where(mask) for name, mask in rows.items())))
    return parts


def test_joined_parts_measure_the_whole() -> None:
    assert measure(joined(halves())).to_json() == measure(table_of(scenes(9))).to_json()
    assert measure(gathered(table_of(scenes(9)))).to_json() == measure(table_of(scenes(9))).to_json()


def worker(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", store=distributed.FileStore(f"{folder}/store", 2), rank=rank, world_size=2)
    try:
        found = [measure(gathered(halves()[rank])), measure(gathered(table_of(scenes(9)) if rank else None))]
        Path(folder, f"{rank}.json").write_text(json.dumps([each.to_json() for each in found]))
    finally:
        distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_measure_the_whole(tmp_path: Path) -> None:
    run: Callable[..., Any] = multiprocessing.spawn
    run(worker, args=(str(tmp_path),), nprocs=2)
    expected = json.loads(json.dumps(measure(table_of(scenes(9))).to_json()))
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [expected, expected]


def test_no_process_with_images() -> None:
    with pytest.raises(ViceError, match="no process has any"):
        gathered(None)


SCRIPT = """
import json, sys
from torchvice.config import load_settings
from torchvice.training.run import train
if __name__ == "__main__":
    train(load_settings(sys.argv[1]), progress=False)
"""


@pytest.mark.slow
def test_two_devices_log_the_numbers_of_the_whole(settings: Make, tmp_path: Path) -> None:
    chosen = settings(
        "trainer.devices=2", "trainer.strategy=ddp", "trainer.vice_every_n_epochs=1", "trainer.vice_images=11"
    )
    (tmp_path / "settings.yaml").write_text(dump_settings(chosen))
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, tmp_path / "script.py", tmp_path / "settings.yaml"], env=environment, check=True)
    run = Run(chosen.folder)
    found = measured_again(run, tmp_path / "table")
    row = logged(run)[0]
    for name in LOGGED:
        part, protocol = name.split("/")
        value = getattr(found, protocol)[part]
        assert float(row[name] or "nan") == pytest.approx(value, abs=1e-5, nan_ok=True), name
