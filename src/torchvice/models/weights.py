"""Read weights files without running any code in them."""

from __future__ import annotations

import os
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError, did_you_mean
from torchvice.files import existing_file
from torchvice.models.encoder_files import TrainedHere, training_of
from torchvice.models.weight_files import WRITTEN_BY, no_tensors, weights_kind

if TYPE_CHECKING:
    import torch

__all__ = ["StateDict", "read_content", "read_state_dict", "read_weights"]


# torchvision's files of DenseNet have the names of its first version: denselayer1.norm.1.weight is norm1.weight.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def read_content(path: str | os.PathLike[str], also: Sequence[type] = ()) -> tuple[Any, dict[str, str]]:
    """Load everything in a .pth, .pt, .ckpt, .bin or .safetensors file on the CPU. No code in the file runs.

    The format is that of the content, whatever the file's name says.

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
    kind = weights_kind(path)
    try:
        if kind == "safetensors":
            from safetensors import safe_open
            from safetensors.torch import load_file

            with safe_open(path, framework="pt") as tensors:
                metadata = dict(tensors.metadata() or {})
            return load_file(path), metadata
        # Opened here, since torch.load goes by the suffix.
        with path.open("rb") as file, torch.serialization.safe_globals(list(also)):
            return torch.load(file, map_location="cpu", weights_only=True), {}
    except Exception as error:  # pickle, zip and safetensors raise different types
        raise _unreadable(path, error, kind) from None


def _unreadable(path: Path, error: Exception, kind: str) -> ViceError:
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    convert = "Extract the tensors without running code: vice weights convert FILE OUT.safetensors."
    byol = f"If it is BYOL's: {convert[0].lower()}{convert[1:]} Else, "
    if path.suffix not in (".pkl", ".pickle") or zipfile.is_zipfile(path):
        byol = ""
    if refused:
        way_out = "If you trust the file, load it and save its state_dict: torch.save(model.state_dict(), FILE)."
        if byol:
            way_out = f"{byol}{way_out[0].lower()}{way_out[1:]}"
        elif refused.group(1) == "argparse.Namespace":
            way_out = convert
        return ViceError(
            f"The weights {path} must hold tensors only, but contain the Python object {refused.group(1)}.", way_out
        )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0].rstrip(".")
    with path.open("rb") as file:
        foreign = kind == "torch" and not file.read(2).startswith((b"\x80", b"PK"))
    # torch's answers to bytes that are no pickle at all: a sentence, the number of a byte, or the state of its stack.
    if reason == "Weights only load failed" or foreign:
        reason = "the bytes are not those of a saved model"
    way_out = f"Give a file that {WRITTEN_BY}. If it is one, it is damaged: copy or save it again."
    if byol:
        trusted = "if you trust the file, load it and save its state_dict: torch.save(model.state_dict(), FILE)."
        way_out = f"{byol}{trusted} {way_out}"
    return ViceError(f"The weights {path} cannot be read: {reason[:200]}.", way_out)


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
        raise no_tensors(f"The weights {path}", content)
    return {str(name): value for name, value in tensors}


@dataclass(frozen=True)
class StateDict:
    """The tensors of a file that are closest to a network's.

    `tensors` by the network's names, with those that are too many under the same prefix; `key` says where in the file
    they are, by keys and prefix; `left_out` names the other tensors of the same dictionary; `trained` is what the file
    says of a training by torchvice.
    """

    tensors: dict[str, torch.Tensor]
    key: str
    left_out: tuple[str, ...]
    trained: TrainedHere = field(default_factory=TrainedHere)


def read_state_dict(
    path: str | os.PathLike[str],
    shapes: Mapping[str, Sequence[int]],
    key: str | None = None,
    any_shape: Collection[str] = (),
) -> StateDict:
    """Find the weights of a network in a file, under any keys and any prefix of names: those that fit decide.

    Args:
        path: see `read_content`.
        shapes: of the network's tensors, by name.
        key: which of several sets of weights, as the error for several names them.
        any_shape: names of tensors whose shape does not matter.

    Returns:
        The only set that has every tensor but `num_batches_tracked`, which old files lack; else the closest one.

    Raises:
        ViceError: as `read_content`; a file without tensors, with several sets that fit but differ, or without `key`.
    """
    content, metadata = read_content(path)
    found = _closest_set(path, content, shapes, key, any_shape)
    return replace(found, trained=training_of(path, content, metadata))


def _closest_set(
    path: str | os.PathLike[str],
    content: Any,
    shapes: Mapping[str, Sequence[int]],
    key: str | None,
    any_shape: Collection[str],
) -> StateDict:
    """Find the set that `read_state_dict` returns in the content of a file."""
    needed = {name for name in shapes if not name.endswith("num_batches_tracked")}
    sets = _sets(content, needed)
    if not sets:
        raise no_tensors(f"The weights {path}", content)
    if key is not None:
        if key not in sets:
            whole = [label for label, (count, _) in sets.items() if label and 2 * count >= len(needed)]
            way_out = (
                did_you_mean(key, whole) if whole else "Leave --weights-key out: the file has one set, without a name."
            )
            raise ViceError(f"The weights {path} have no set called {key!r}.", way_out)
        return sets[key][1]
    fitting = [found for count, found in sets.values() if count == len(needed) and _fits(found, shapes, any_shape)]
    if not fitting:
        return max(sets.values(), key=lambda pair: (pair[0], len(pair[1].tensors)))[1]
    if any(not _same(fitting[0], other, needed) for other in fitting[1:]):
        names = [f"`{each.key}`" if each.key else "the names without prefix" for each in fitting]
        raise ViceError(
            f"The weights {path} hold {len(fitting)} different sets that fit the network: {', '.join(names)}.",
            f"Choose one: --weights-key {fitting[-1].key} in vice assess, `key` in load_weights; or save it by itself.",
        )
    return fitting[0]


def _sets(content: Any, needed: Collection[str]) -> dict[str, tuple[int, StateDict]]:
    """Find the sets of tensors under every key and prefix, with the number of names that the network needs."""
    sets: dict[str, tuple[int, StateDict]] = {}
    for keys, tensors in _dictionaries(content):
        counts: Counter[str] = Counter({"": 0})
        for name in tensors:
            starts = [0, *(i + 1 for i, letter in enumerate(name) if letter == ".")]
            counts.update(name[:start] for start in starts if name[start:] in needed)
        for prefix, count in counts.items():
            inside = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
            label = ".".join(part for part in (keys, prefix.rstrip(".")) if part)
            sets[label] = count, StateDict(inside, label, tuple(n for n in tensors if not n.startswith(prefix)))
    return sets


def _fits(found: StateDict, shapes: Mapping[str, Sequence[int]], any_shape: Collection[str]) -> bool:
    tensors = found.tensors
    return all(tuple(tensors[n].shape) == tuple(shapes[n]) for n in shapes if n in tensors and n not in any_shape)


def _same(one: StateDict, other: StateDict, names: Collection[str]) -> bool:
    import torch

    return all(torch.equal(one.tensors[name], other.tensors[name]) for name in names)


def _dictionaries(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Yield (keys joined by dots, tensors) of every dictionary that holds tensors, to a depth of three."""
    import torch

    if not isinstance(content, Mapping):
        return
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield ".".join(keys), {_OLD_DENSENET.sub(r"\1\2.", name): value for name, value in tensors.items()}
    for name, value in content.items():
        # Lightning's weight averaging keeps the weights that training continues with next to the averaged ones.
        if len(keys) < 3 and name != "current_model_state":
            yield from _dictionaries(value, (*keys, str(name)))
