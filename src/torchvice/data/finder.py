"""Find files by name: in any case of the suffix, and in either of Unicode's normal forms."""

from __future__ import annotations

import filecmp
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError
from torchvice.files import read_json

__all__ = [
    "Finder",
    "composed",
    "existing",
    "existing_files",
    "existing_folder",
    "first_other",
    "refuse_spelling",
    "refuse_table",
]


def composed(name: str) -> str:
    """Return `name` in Unicode's composed form (NFC): file systems and programs write the same name in two forms."""
    return unicodedata.normalize("NFC", name)


class Finder:
    """Find files of a folder by stem; one listing is faster than thousands of checks.

    Args:
        folder: may be missing.
        suffixes: those of the files, in lower case, in the order of precedence.
    """

    def __init__(self, folder: Path, suffixes: tuple[str, ...]) -> None:
        self.folder, self.files = folder, dict[str, list[str]]()
        names = os.listdir(folder) if folder.is_dir() else []
        suffix_of = {name: os.path.splitext(name)[1] for name in names}
        order = {suffix: place for place, suffix in enumerate((*suffixes, *(s.upper() for s in suffixes)))}
        for name in sorted(names, key=lambda name: (order.get(suffix_of[name], len(order)), name)):
            if suffix_of[name].lower() in suffixes:
                self.files.setdefault(composed(name.removesuffix(suffix_of[name])), []).append(name)

    def all(self, stem: str) -> list[Path]:
        """All files of a stem, the first of which is to be read."""
        return [self.folder / name for name in self.files.get(composed(stem), ())]

    def __call__(self, stem: str) -> Path | None:
        return next(iter(self.all(stem)), None)


def existing(file: Path) -> list[Path]:
    """The file, or the one whose path differs in Unicode's normal form only; empty without one."""
    return existing_files(_spellings(file))[:1]


def existing_folder(folder: Path) -> Path | None:
    """The folder, or the one whose path differs in Unicode's normal form only; None without one."""
    return next((path for path in _spellings(folder) if path.is_dir()), None)


def _spellings(path: Path) -> Iterator[Path]:
    """The path as it is, and with its last parts in each of Unicode's normal forms."""
    yield path
    if str(path).isascii():
        return
    for place in reversed(range(len(path.parts))):
        for form in ("NFC", "NFD"):
            yield Path(*path.parts[:place], *(unicodedata.normalize(form, part) for part in path.parts[place:]))


def existing_files(paths: Iterable[Path]) -> list[Path]:
    """Return those of the paths that are files."""
    return [path for path in paths if path.is_file()]


def refuse_spelling(folder: Path, name: str, also: Sequence[str] = (), way_out: str | None = None) -> None:
    """Refuse a file that would be passed over for its spelling: other case, or one of the names in `also`.

    Args:
        folder: may be missing.
        name: of the file that is read, in lower case.
        also: names in lower case.
        way_out: for a file called as in `also`; None: to rename it.

    Raises:
        ViceError: `folder` has such a file, and none called `name`.
    """
    if not folder.is_dir() or (folder / name).exists():
        return
    for entry in sorted(os.listdir(folder)):
        if entry.lower() in (name, *also):
            renamed = f"Rename it to {name}." if way_out is None or entry.lower() == name else way_out
            raise ViceError(f"The file must be called {name}, but {folder} has {entry}.", renamed)


def refuse_table(folder: Path) -> None:
    """Refuse a folder that `vice assess` wrote, or one inside it: its figures would be read as images.

    Args:
        folder: may be missing.

    Raises:
        ViceError: it holds the manifest of a table; the message names the dataset of the table.
    """
    for table in (folder, folder.absolute().parent):
        if (dataset := _dataset_of_table(table)) is not None:
            inside = "is" if table == folder else "belongs to"
            root = dataset.get("root")
            was = f", which was {root} for this table." if isinstance(root, str) else "."
            raise ViceError(
                f"{folder} {inside} a table of vice assess, not a dataset.", f"Give the folder of the dataset{was}"
            )


def _dataset_of_table(folder: Path) -> dict[str, Any] | None:
    """What the table of a folder says of its dataset; None: there is no table."""
    file = folder / "manifest.json"
    try:
        content = read_json(file) if file.is_file() else {}
    except (ViceError, OSError):
        return None
    if not {"schema", "dataset", "thresholds"} <= content.keys():
        return None
    return content["dataset"] if isinstance(content["dataset"], dict) else {}


def first_other(files: Sequence[Path]) -> Path | None:
    """Return the first of the files whose content is not that of `files[0]`, or None."""
    return next((file for file in files[1:] if not filecmp.cmp(files[0], file, shallow=False)), None)
