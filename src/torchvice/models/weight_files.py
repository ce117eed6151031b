"""Recognise the format of a weights file by its content; name what is no weights file."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torchvice.errors import ViceError

__all__ = ["WRITTEN_BY", "no_tensors", "weights_kind"]

WRITTEN_BY = "torch.save or safetensors wrote (.pth, .pt, .ckpt, .bin, .safetensors)"
_DOWNLOAD = "Download the file itself."
# First bytes, what they are, and the way out.
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it stands for", "Fetch it: git lfs pull."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it."),
    (b"BZh", "a bzip2 archive", "Unpack it."),
    (b"\xfd7zXZ", "an xz archive", "Unpack it."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it."),
    (b"Rar!", "a RAR archive", "Unpack it."),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "Unpack it."),
    (b"\x89HDF", "an HDF5 file, as Keras writes them", "Convert the weights to those of the network in PyTorch."),
    (b"\x93NUMPY", "a NumPy array", "Save a state_dict: torch.save(model.state_dict(), FILE)."),
    (b"GGUF", "a GGUF file", "Give the weights as safetensors."),
    (b"%PDF", "a PDF", _DOWNLOAD),
    (b"\x89PNG", "an image", _DOWNLOAD),
    (b"\xff\xd8\xff", "an image", _DOWNLOAD),
)
_PAGES = ("<!doctype", "<html", "<?xml", "<head", "<!--")


def weights_kind(path: Path) -> Literal["safetensors", "torch"]:
    """Return the format of a weights file, by its first bytes.

    Raises:
        ViceError: the content is that of another kind of file; the message says which.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ViceError(
            f"The weights {path} cannot be read: {error.strerror or error}.",
            "Check that it is there, and that you may read it.",
        ) from None
    if not head:
        raise ViceError(f"The weights {path} must be a file of tensors, but are an empty file.", _DOWNLOAD)
    for start, what, way_out in _OTHERS:
        if head.startswith(start):
            raise _no_weights(path, what, way_out)
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= path.stat().st_size:
        return "safetensors"
    if head.startswith(b"PK"):
        _check_zip(path)
    elif _is_text(head):
        raise _text(path, head.decode("utf-8", "replace"))
    elif len(head) > 262 and head[257:262] == b"ustar" and not _is_old_torch(path):
        raise _no_weights(path, "a tar archive", "Unpack it.")
    return "safetensors" if path.suffix == ".safetensors" and not head.startswith((b"PK", b"\x80")) else "torch"


def no_tensors(what: str, content: Any) -> ViceError:
    """The error of a file without named tensors; `what` names it in the message."""
    if not isinstance(content, Mapping):
        found = f"a {type(content).__name__}"
    else:
        found = f"a dictionary of {', '.join(map(str, list(content)[:5]))}" if content else "an empty dictionary"
    return ViceError(
        f"{what} must be named tensors, but are {found}.", "Save a state_dict: torch.save(model.state_dict(), FILE)."
    )


def _no_weights(path: Path, what: str, way_out: str) -> ViceError:
    return ViceError(f"The weights {path} must be a file of tensors, but are {what}.", way_out)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:  # the last character may be cut
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return all(letter.isprintable() or letter in "\n\r\t\ufeff" for letter in text)


def _text(path: Path, text: str) -> ViceError:
    start = text.lstrip("\ufeff \n\r\t")
    if start.lower().startswith(_PAGES):
        return _no_weights(path, "a web page (HTML)", "Download the file itself, not the page that links to it.")
    if start.startswith(("{", "[")):
        try:
            shards = sorted(set(json.loads(path.read_text("utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
            return _no_weights(path, "a JSON text", _DOWNLOAD)
        names = ", ".join(map(str, shards[:3]))
        way_out = "Join them in one file: load each with safetensors.torch.load_file, and save all of their tensors."
        return _no_weights(path, f"the index of {len(shards)} files that hold them ({names})", way_out)
    what = f"a text that begins with {start[:40].splitlines()[0]!r}" if start else "blank"
    return _no_weights(path, what, f"Give a file that {WRITTEN_BY}; if it should be one, download it again.")


def _check_zip(path: Path) -> None:
    """Check that a zip archive is torch's, which has a data.pkl, and no program."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # torch says what is damaged
    if any(name.endswith("/constants.pkl") for name in names):
        way_out = "Save its state_dict: torch.save(torch.jit.load(FILE).state_dict(), OUT)."
        raise _no_weights(path, "a TorchScript program", way_out)
    if any(name.endswith("data.pkl") for name in names):
        return
    if any(name.endswith((".npy", ".keras", "model.weights.h5")) for name in names):
        raise _no_weights(path, "a file of NumPy or Keras", "Convert the weights to those of the network in PyTorch.")
    if any("exported_program" in name or "/models/" in name for name in names):
        raise _no_weights(path, "a program of torch.export", "Save the state_dict of the module that was exported.")
    raise _no_weights(path, "a zip archive of other files", "Unpack it.")


def _is_old_torch(path: Path) -> bool:
    """Whether a tar archive is a file of torch before 0.1.10."""
    try:
        with tarfile.open(path) as archive:
            return "storages" in archive.getnames()
    except (tarfile.TarError, OSError):
        return False
