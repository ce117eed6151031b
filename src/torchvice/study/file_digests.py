"""Digests of the files that a study's runs are made of, kept in its folder so that a changed file is noticed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError
from torchvice.files import read_json, sha256, write_json

__all__ = ["FileDigests", "pretrained_digest"]

FILE = "checkpoints.json"
SCHEMA = 1


class FileDigests:
    """SHA-256 of files, by path. A file of the same size and time of change is not read again.

    Args:
        home: folder of the study, which may be missing.

    Attributes:
        changed: checkpoints that have other contents than at the last start of the study.

    Raises:
        ViceError: checkpoints.json of the folder is damaged.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.changed: list[str] = []
        content = read_json(home / FILE, "The digests of a study") if (home / FILE).is_file() else {}
        if content and content.get("schema") != SCHEMA:
            raise ViceError(f"{home / FILE} must have schema {SCHEMA}, but has {content.get('schema')}.", "Delete it.")
        self._before: Mapping[str, Any] = content
        self._files: dict[str, Any] = {}
        self._checkpoints: dict[str, Any] = {}

    def of_file(self, path: str | os.PathLike[str]) -> str:
        """The digest of a file; that of the last start if it is gone, and "" if it was never there."""
        before = self._before.get("files", {}).get(str(path))
        try:
            state = os.stat(path)
        except OSError:
            state = None
        if state is None or not os.path.isfile(path):
            if before is not None:
                self._files[str(path)] = before
            return str(before["sha256"]) if before else ""
        stamp = [state.st_size, state.st_mtime_ns]
        known = self._files.get(str(path), before)
        digest = str(known["sha256"]) if known is not None and known["stamp"] == stamp else sha256(path)
        if before is not None and digest != before["sha256"] and str(path) not in self.changed:
            self.changed.append(str(path))
        self._files[str(path)] = {"sha256": digest, "stamp": stamp}
        return digest

    def knows(self, path: Path) -> bool:
        """Whether a checkpoint was planned at the last start."""
        return str(path) in self._before.get("checkpoints", {})

    def of_checkpoint(self, path: Path) -> str:
        """The digest of the file of a checkpoint, see `file_of`."""
        return self.of_file(self.file_of(path))

    def file_of(self, path: Path) -> str:
        """The file of a checkpoint: itself, or `best` of a RUN."""
        return str(self._entry(path)["file"])

    def run_of(self, path: Path) -> dict[str, Any] | None:
        """The `folder`, `seed`, `model`, `transform` and `assess` of the RUN that has a checkpoint; None: no RUN."""
        found: dict[str, Any] | None = self._entry(path)["run"]
        return found

    def _entry(self, path: Path) -> dict[str, Any]:
        if str(path) not in self._checkpoints:
            entry = _entry_of(path) if path.exists() else self._before["checkpoints"][str(path)]
            self._checkpoints[str(path)] = entry
        found: dict[str, Any] = self._checkpoints[str(path)]
        return found

    def write(self) -> None:
        """Keep the digests for the next start; a study without checkpoints and files of weights has no such file."""
        if not self._files and not self._checkpoints:
            return
        now = {"checkpoints": self._checkpoints, "files": self._files}
        content = {"schema": SCHEMA} | {name: {**self._before.get(name, {}), **new} for name, new in now.items()}
        if content != self._before:
            write_json(self.home / FILE, content)


def _entry_of(path: Path) -> dict[str, Any]:
    """The file of a checkpoint, and the RUN that it is of."""
    from torchvice.runs import Run

    folder = path if path.is_dir() else path.parent.parent
    if path.is_dir() and not (path / "config.yaml").is_file():
        raise ViceError(
            f"A checkpoint must be a file or a RUN, but {path} is a folder without config.yaml.",
            "Name the file of its weights.",
        )
    if not path.is_dir() and not (path.parent.name == "checkpoints" and (folder / "config.yaml").is_file()):
        return {"file": str(path), "run": None}
    run = Run(folder)
    own = run.settings
    file = run.checkpoint("best" if path.is_dir() else path)
    described = {
        "folder": str(folder),
        "seed": own.seed,
        "model": own.model.model_dump(mode="json"),
        "transform": own.transform.model_dump(mode="json"),
        "assess": own.assess.model_dump(mode="json"),
    }
    return {"file": str(file), "run": described}


def pretrained_digest(network: str, digests: FileDigests) -> str:
    """What the weights that a network's source has are known by: timm's tag, the hub's revision, a folder's files.

    Raises:
        ViceError: a network that has no weights of its own.
    """
    from torchvice.models.named import source_of

    source, name = source_of(network)
    if source == "timm":
        return f"timm {_tagged(name)}"
    if source == "hf-hub":
        from torchvice.models.hub import snapshot_of

        return f"hf-hub {name.partition('@')[0]} {snapshot_of(name).name}"
    if source == "transformers":
        files = sorted(path for path in Path(name).glob("*") if path.is_file())
        text = "\n".join(f"{path.name} {digests.of_file(path)}" for path in files)
        return hashlib.sha256(text.encode()).hexdigest()
    raise ViceError(
        f"`checkpoint: pretrained` is for networks of timm, hf-hub and transformers, but the network is {network}.",
        "Name the file of its weights: checkpoint: FILE.",
    )


def _tagged(name: str) -> str:
    """The name with the tag of the pretrained weights that timm takes, such as `resnet18.a1_in1k`."""
    import timm

    try:
        config: Any = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag; building the network says so
        config = None
    tag = getattr(config, "tag", None)
    return f"{name.partition('.')[0]}.{tag}" if tag else name
