"""The models of one command in a folder: which table each has, and what is done. `models.csv` is for readers."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol

from torchvice.assessment.ledger import differences
from torchvice.errors import ViceError
from torchvice.files import atomic, read_json, write_json
from torchvice.files.lock import locked
from torchvice.samples import ShardFolder

__all__ = ["ListedModel", "ModelRow", "ModelStates"]

SCHEMA = 1
STATES, TABLE = "models.json", "models.csv"
State = Literal["waiting", "done", "failed"]


class ListedModel(Protocol):
    """A network of a list, see `torchvice.models.listed.ListedModel`."""

    @property
    def name(self) -> str:
        """Of the network."""

    @property
    def weights(self) -> Path | None:
        """Its file of weights."""

    @property
    def side(self) -> int:
        """Pixels of its input, as far as they are known."""

    @property
    def label(self) -> str:
        """What tells it from the others."""


@dataclass(frozen=True)
class ModelRow:
    """A row of `models.csv`.

    Attributes:
        name, weights: of the network, as listed; "" without a file.
        state, reason: "waiting", "done" or "failed", and why.
        images: in the table so far. seconds: spent on it, over all starts of the command. batch_size: images per pass
            at the end; 0: not known. folder: of its table, beside `models.csv`.
    """

    name: str
    weights: str
    state: State
    reason: str
    images: int
    seconds: float
    batch_size: int
    folder: str


class ModelStates:
    """The rows of a folder, which several processes may change at the same time.

    Args:
        out: the folder; made where it is missing.
        models: of this command, each once; rows of others stay.
        request: what all tables have in common, as JSON; `extras` of it may differ from one command to the next. Each
            row holds those that its table was finished with: tables with others are opened again.

    Raises:
        ViceError: the folder holds tables of another request, or is damaged.
    """

    def __init__(self, out: Path, models: Sequence[ListedModel], request: Mapping[str, Any]) -> None:
        self.out, self.models = out, list(models)
        self.extras = json.loads(json.dumps(request["extras"]))
        out.mkdir(parents=True, exist_ok=True)
        with self._changed() as content:
            known = content.setdefault("request", dict(request))
            fixed = [{name: value for name, value in one.items() if name != "extras"} for one in (known, request)]
            if wrong := differences(*(json.loads(json.dumps(one)) for one in fixed)):
                raise ViceError(
                    f"The tables in {out} were made with other options: {'; '.join(wrong)}.",
                    "Give the same options, or another folder (--out).",
                )
            rows = content.setdefault("models", {})
            for row in rows.values():
                row.setdefault("extras", known["extras"])  # rows of earlier versions have none of their own
            content["request"] = dict(request)
            for model in self.models:
                if model.label not in rows:
                    weights = "" if model.weights is None else str(model.weights)
                    folder = _free(model, {row["folder"] for row in rows.values()})
                    new = ModelRow(model.name, weights, "waiting", "", 0, 0.0, 0, folder)
                    rows[model.label] = {**asdict(new), "file": _stamp(model), "extras": self.extras}
            content["models"] = {name: rows[name] for name in (*(model.label for model in self.models), *rows)}

    def rows(self) -> list[ModelRow]:
        """The rows of the models of this command, in their order."""
        content = self._read()["models"]
        return [_row(content[model.label]) for model in self.models]

    def unfinished(self) -> tuple[list[ListedModel], list[ListedModel]]:
        """The models that something is left to do for: those that wait, and those that failed before."""
        content = self._read()["models"]
        left = [model for model in self.models if not self._is_done(model, content[model.label])]
        failed = [model for model in left if content[model.label]["state"] == "failed"]
        return [model for model in left if model not in failed], failed

    def is_done(self, model: ListedModel) -> bool:
        """Whether the table is finished, by its row and its manifest, and weights and extras are as they were."""
        return self._is_done(model, self._read()["models"][model.label])

    def _is_done(self, model: ListedModel, entry: Mapping[str, Any]) -> bool:
        table = ShardFolder(self.out / entry["folder"])
        same = entry["state"] == "done" and entry["file"] == _stamp(model) and entry["extras"] == self.extras
        try:
            return same and table.manifest_path.is_file() and bool(table.manifest().get("finished"))
        except ViceError:  # it is damaged: the model fails, and its row says so
            return False

    def put(self, model: ListedModel, seconds: float, **values: Any) -> ModelRow:
        """Change the row of a model; `seconds` are added."""
        with self._changed() as content:
            entry = content["models"][model.label]
            values |= {"seconds": round(entry["seconds"] + seconds, 3), "file": _stamp(model), "extras": self.extras}
            entry |= values
        return _row(entry)

    def _read(self) -> dict[str, Any]:
        path = self.out / STATES
        if not path.is_file():
            return {"schema": SCHEMA}
        content = read_json(path, "The list of models", "Restore it, or give another folder (--out).")
        if content.get("schema") != SCHEMA:
            raise ViceError(
                f"{path} must have schema {SCHEMA}, but has {content.get('schema')}.", "Give another folder (--out)."
            )
        return content

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """The content of the folder inside the block, locked; written at the end, unless an error is raised."""
        with locked(self.out / "models.lock", f"A change of {self.out / STATES}", wait=True, keep=False):
            content = self._read()
            yield content
            self._write(content)

    def _write(self, content: Mapping[str, Any]) -> None:
        """Put both files in place: first the one that this class reads."""
        write_json(self.out / STATES, content)
        text = io.StringIO(newline="")
        names = [column.name for column in fields(ModelRow)]
        writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(content["models"].values())
        with atomic(self.out / TABLE) as path:
            path.write_text(text.getvalue(), encoding="utf-8")


def _row(entry: Mapping[str, Any]) -> ModelRow:
    return ModelRow(**{column.name: entry[column.name] for column in fields(ModelRow)})


def _stamp(model: ListedModel) -> list[int] | None:
    """Size and time of change of a file of weights: another one is noticed without reading it."""
    try:
        found = None if model.weights is None else model.weights.stat()
    except OSError:  # it is missing: the model fails, and its row says so
        return None
    return None if found is None else [found.st_size, found.st_mtime_ns]


def _free(model: ListedModel, taken: set[str]) -> str:
    """A folder's name that no other model has: safe on every file system, and the same in every start."""
    stem = "" if model.weights is None else f"_{model.weights.stem}"
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{model.name}{stem}").strip("._-") or "model"
    lower = {name.lower() for name in taken}
    number, name = 1, safe
    while name.lower() in lower:
        number, name = number + 1, f"{safe}-{number + 1}"
    return name
