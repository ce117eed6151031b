"""Weights files: what is in them, read without running anything."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.files import existing_file

if TYPE_CHECKING:
    import torch

__all__ = ["read_content", "read_weights"]


def read_content(path: str | os.PathLike[str], also: Sequence[type] = ()) -> tuple[Any, dict[str, str]]:
    """All that a .pth, .pt, .ckpt, .bin or .safetensors file holds, on the CPU. Nothing in it can run.

    Args:
        path: the file.
        also: classes beside tensors and plain containers that may be built; only such as do nothing when they are.

    Returns:
        (content, metadata): the second is a safetensors file's own, else empty.

    Raises:
        ViceError: no such file, damaged, or asking for other Python objects.
    """
    import torch

    path = existing_file(path, "The weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open
            from safetensors.torch import load_file

            with safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
            return load_file(path), metadata
        with torch.serialization.safe_globals(list(also)):
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except Exception as error:  # pickle, zip and safetensors each have exceptions of their own
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ViceError:
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    convert = "Its tensors come out without running anything: vice weights convert FILE OUT.safetensors."
    if refused:
        way_out = "Where you trust the file, save its state_dict alone: torch.save(model.state_dict(), FILE)."
        if refused.group(1) == "argparse.Namespace" or path.suffix == ".pkl":
            way_out = convert
        return ViceError(
            f"The weights {path} must hold tensors only, but ask for the Python object {refused.group(1)}.", way_out
        )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0].rstrip(".")
    return ViceError(f"The weights {path} cannot be read: {reason[:200]}.", convert if path.suffix == ".pkl" else "")


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The tensors of a .pth, .pt, .ckpt, .bin or .safetensors file, by name, on the CPU. Nothing in it can run.

    A checkpoint's wrapping (`state_dict`, `model` or `network`) is taken off; prefixes stay (`load_weights`).

    Raises:
        ViceError: no such file, damaged, holding other things than tensors, or asking to run code.
    """
    import torch

    content, _ = read_content(path)
    for wrapping in ("state_dict", "model", "network"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapping), Mapping):
            content = content[wrapping]
            break
    tensors = content.items() if isinstance(content, Mapping) else ()
    if not tensors or not all(isinstance(value, torch.Tensor) for _, value in tensors):
        raise ViceError(
            f"The weights {path} must be named tensors, but are {_what(content)}.",
            "A state_dict is needed, as it is or under `state_dict`, `model` or `network`.",
        )
    return {str(name): value for name, value in tensors}


def _what(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    return f"a dictionary of {', '.join(map(str, list(content)[:5]))}" if content else "an empty dictionary"
