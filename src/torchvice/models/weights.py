"""Read weights files without running any code in them."""

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
    """Load everything in a .pth, .pt, .ckpt, .bin or .safetensors file on the CPU. No code in the file runs.

    Args:
        path: the file.
        also: further classes that may be unpickled; only classes whose construction has no effect.

    Returns:
        (content, metadata): metadata is that of a safetensors file, otherwise empty.

    Raises:
        ViceError: no such file, a damaged one, or one that needs other Python objects.
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
    except Exception as error:  # pickle, zip and safetensors raise different types
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ViceError:
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    convert = "Extract the tensors without running code: vice weights convert FILE OUT.safetensors."
    if refused:
        way_out = "If you trust the file, load it and save its state_dict: torch.save(model.state_dict(), FILE)."
        if refused.group(1) == "argparse.Namespace" or path.suffix == ".pkl":
            way_out = convert
        return ViceError(
            f"The weights {path} must hold tensors only, but contain the Python object {refused.group(1)}.", way_out
        )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0].rstrip(".")
    return ViceError(f"The weights {path} cannot be read: {reason[:200]}.", convert if path.suffix == ".pkl" else "")


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Load the named tensors of a .pth, .pt, .ckpt, .bin or .safetensors file on the CPU. No code in the file runs.

    The dictionary is unwrapped from `state_dict`, `model` or `network`; prefixes of names stay (see `load_weights`).

    Raises:
        ViceError: no such file, a damaged one, or one that holds anything but tensors.
    """
    import torch

    content, _ = read_content(path)
    for key in ("state_dict", "model", "network"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = content.items() if isinstance(content, Mapping) else ()
    if not tensors or not all(isinstance(value, torch.Tensor) for _, value in tensors):
        raise ViceError(
            f"The weights {path} must be named tensors, but are {_description(content)}.",
            "Save a state_dict, either directly or under the key `state_dict`, `model` or `network`.",
        )
    return {str(name): value for name, value in tensors}


def _description(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    return f"a dictionary of {', '.join(map(str, list(content)[:5]))}" if content else "an empty dictionary"
