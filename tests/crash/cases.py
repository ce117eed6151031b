"""The commands whose writing calls fail: what each needs, and what of its files must be the same after a new start."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash.forked import run
from crash.shim import State

__all__ = ["IMAGES", "SHARD", "Case", "World"]

Command = list[str]
IMAGES = 5
SHARD = 3  # images; of IMAGES, so that there are two
SETTINGS: dict[str, Any] = {
    "trainer.epochs": 2,
    "trainer.batch_size": 4,
    "model.name": "test_resnet",
    "model.arguments": {},
    "assess.batch_size": 1,
    "data.workers": 0,
}
NETWORK = ("--model", "test_resnet", "--view-size", "64", "--crop", "64", "--batch-size", "1", "--workers", "1")


@dataclass(frozen=True)
class Case:
    """A command, and what it needs and leaves.

    Attributes:
        command: what a call of fails; it writes to the watched folder alone.
        before: commands that come first, undisturbed.
        again: what completes it after a failure, in place of the same command.
        statuses: with which it may end where a call failed; 1 says of a study that a run failed and the others went on.
        content: what of a file must be the same; None: the file may differ, or be missing.
    """

    command: Command
    before: Sequence[Command] = ()
    again: Callable[[Path], Command] | None = None
    statuses: tuple[int, ...] = (0, 2)
    content: Callable[[Path], str | None] = field(default=lambda path: digest(path.read_bytes()))


def digest(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:12]


def of_training(path: Path) -> str | None:
    """Weights and state of the optimiser of a checkpoint; logs of the attempts differ, and so does what is timed."""
    import torch

    if "logs" in path.parts:
        return None
    if path.suffix != ".ckpt" or ".part" in path.name:
        return digest(path.read_bytes())
    held = torch.load(path, weights_only=True)
    told = [held["epoch"], held["global_step"], _plain(held["state_dict"]), _plain(held["optimizer_states"])]
    return digest(repr(told))


def _plain(value: Any) -> Any:
    if hasattr(value, "numpy"):
        return digest(value.numpy().tobytes())
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def of_study(path: Path) -> str | None:
    """The numbers without the seconds; figures and pages are drawn of them."""
    import pyarrow.parquet as pq

    if path.name in ("log.txt", "lock") or path.suffix == ".csv":
        return None
    if path.name == "study.json":
        state = json.loads(path.read_text())
        return digest(repr([_untimed(state.get("row", {})), state.get("asked")]))
    if path.suffix == ".parquet" and path.stem in ("table", "comparisons"):
        return digest(repr([_untimed(row) for row in pq.read_table(path).to_pylist()]))
    return of_training(path)


def of_page(path: Path) -> str | None:
    """The page; what the study wrote before it stays."""
    return digest(path.read_bytes()) if path.suffix == ".html" else of_study(path)


def of_models(path: Path) -> str | None:
    """The rows without the seconds."""
    if path.name == "models.csv":
        with open(path, newline="") as file:
            return digest(repr([row | {"seconds": ""} for row in csv.DictReader(file)]))
    if path.name == "models.json":
        held = json.loads(path.read_text())
        return digest(repr(held | {"models": {name: row | {"seconds": 0} for name, row in held["models"].items()}}))
    return digest(path.read_bytes())


def _untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.endswith("_seconds")}


class World:
    """A small set of digits, weights, and the folder that is watched."""

    def __init__(self, root: Path, library_state: Path, images: int = IMAGES, shard: int = SHARD) -> None:
        import timm
        import torch

        from torchvice.assessment.pipeline import assess
        from torchvice.data.digits import write_digits

        self.root, self.watched, self.beside = root, root / "watched", root / "beside"
        self.beside.mkdir(parents=True)
        self.data, self.weights = root / "digits", root / "weights.pth"
        write_digits(self.data, train=8, val=4, test=images, size=48)
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet", num_classes=10).state_dict(), self.weights)
        assess.__kwdefaults__["shard_size"] = shard
        self.state = State(library_state)
        self.cases = self._cases()

    def _cases(self) -> dict[str, Case]:
        table, page = str(self.watched / "table"), str(self.watched / "page")
        plain = ["assess", *NETWORK, "--weights", str(self.weights), "--data", str(self.data), "--split", "test"]
        plain += ["--out", table]
        none = [*plain, "--controls", "none", "--without", "none"]
        strict = [*none, "--protocol", "strict"]
        train, study = self._with_settings(["train", "demo"]), ["study", str(self._study())]
        return {
            "assess": Case([*plain, "--controls", "cheap"]),
            "strict": Case(strict),
            "add": Case([*none[:-4], "--also", "mirror", "--without", "none"], [none]),
            "amend": Case(
                [
                    *none[:-2],
                    "--without",
                    "object,patch",
                    "--faithfulness",
                    "deletion,road,steps=3,shares=0.5,orders=1",
                ],
                [none],
            ),
            "report": Case(["report", table, "--out", f"{page}.html"], [none]),
            "folder": Case(["report", table, "--out", page, "--folder"], [none]),
            "measure": Case(["measure", table, "--replicates", "100", "--figures", str(self.watched / "f")], [strict]),
            "train": Case(train, again=self._resumed(train, "demo/config.yaml"), content=of_training),
            "callback": self._callback(train),
            "pretrain": self._pretrain(),
            "study": Case(study, statuses=(0, 1, 2), content=of_study),
            "page": Case(["report", str(self.watched / "study"), "--out", f"{page}.html"], [study], content=of_page),
            "models": self._models(strict),
            "rank": self._rank(strict),
        }

    def _with_settings(self, command: Command) -> Command:
        settings = SETTINGS | {"data.root": self.data, "work_dir": self.watched}
        return [*command, *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]

    def _resumed(self, command: Command, begun: str) -> Callable[[Path], Command]:
        return lambda folder: [*command, "--resume"] if (folder / begun).is_file() else command

    def _callback(self, train: Command) -> Case:
        """A training that measures VICE after its epoch, and draws the figures for TensorBoard."""
        settings = ("epochs=1", "vice_every_n_epochs=1", "vice_images=3", "vice_figures=true")
        command = [*train, *(part for setting in settings for part in ("-o", f"trainer.{setting}"))]
        return Case(command, again=self._resumed(command, "demo/config.yaml"), content=of_training)

    def _pretrain(self) -> Case:
        command = [*self._with_settings(["pretrain", "demo"]), "--out", str(self.watched / "pretrained")]
        command += ["--scheme", "byol", "--choice", "hidden=16", "--choice", "outputs=8"]
        return Case(command, again=self._resumed(command, "pretrained/pretraining.json"), content=of_training)

    def _models(self, strict: Command) -> Case:
        """Two networks in one command, one with a file of weights and one without."""
        listed = self.root / "models.txt"
        listed.write_text(f"test_resnet {self.weights}\ntest_byobnet\n")
        one = len(["assess", "--model", "test_resnet"])
        rest = [part for part in strict[one:] if part not in ("--weights", str(self.weights))]
        command = ["assess", "--models", str(listed), "--random-weights", "0", *rest]
        return Case(command, statuses=(0, 1, 2), content=of_models)

    def _rank(self, strict: Command) -> Case:
        tables = [f"{self.watched / 'table'}{number}" for number in (1, 2)]
        out = strict.index("--out") + 1
        methods = ("gradcam", "layercam")
        before = [
            [*strict[:out], table, *strict[out + 1 :], "--method", method]
            for table, method in zip(tables, methods, strict=True)
        ]
        page = str(self.watched / "rank")
        written = ["--json", f"{page}.json", "--csv", f"{page}.csv", "--out", f"{page}.html"]
        return Case(["rank", *tables, "--replicates", "100", "--processes", "1", *written], before)

    def _study(self) -> Path:
        path = self.root / "study.yaml"
        settings = SETTINGS | {"data.root": str(self.data), "trainer.epochs": 1}
        study = {
            "base": "demo",
            "folder": str(self.watched / "study"),
            "settings": settings,
            "seeds": [1],
            "axes": {"optimizer.weight_decay": [0.05, 0.0]},
            "measure": {"replicates": 100, "controls": "none", "protocols": ["strict"]},
            "where": {"jobs": 1, "cpus": 1},
        }
        path.write_text(json.dumps(study))
        return path

    def start(self, case: Case) -> None:
        """Make the folder that the command finds, undisturbed, and keep a copy."""
        shutil.rmtree(self.watched, ignore_errors=True)
        self.watched.mkdir()
        self.state.set(self.watched)
        for command in case.before:
            ended = run(command, self.beside)
            assert ended.status == 0, ended
        shutil.rmtree(self.root / "start", ignore_errors=True)
        shutil.copytree(self.watched, self.root / "start", copy_function=shutil.copy2)

    def reset(self) -> None:
        """Put the copy back."""
        shutil.rmtree(self.watched)
        shutil.copytree(self.root / "start", self.watched, copy_function=shutil.copy2)

    def contents(self, case: Case) -> dict[str, str | None]:
        """What must be the same, by the path of each file."""
        files = (path for path in sorted(self.watched.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.watched)): case.content(path) for path in files}
