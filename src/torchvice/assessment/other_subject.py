"""Whether two manifests are of another network, other weights or other data, in the words of a user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchvice.data.named_values import named_values
from torchvice.errors import ViceError, brief

__all__ = ["OtherMaskValues", "other_mask_values", "other_subject", "other_weights"]

DIGITS = 8  # of a digest, in a message


def other_subject(held: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Phrases on what was assessed, network, weights, data and classes, where a table and a request differ in it.

    Args:
        held, now: manifests of the table and of the request. A field that one of them lacks is passed over.

    Example:
        >>> held = {"made_by": {"network": "resnet18"}, "model": {"type": "ResNet", "weights_sha256": "a"}}
        >>> now = {"made_by": {"network": "mine.py:net"}, "model": {"type": "Net", "weights_sha256": "b"}}
        >>> other_subject(held, now)
        ["another network ('resnet18' in the table, but 'mine.py:net' now)"]
    """
    network, weights = _network(held, now)
    return [*network, *weights, *_data(held, now), *_pair("other classes", held.get("classes"), now.get("classes"))]


def _network(held: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Phrases on the network and on its weights; none where they have another name and are the same."""
    models = held.get("model", {}), now.get("model", {})
    made = held.get("made_by", {}), now.get("made_by", {})
    digests = [str(model.get("weights_sha256", "")) for model in models]
    if not all(digests) or digests[0] == digests[1]:
        return [], []
    types = _pair("another network", *(model.get("type") for model in models))
    network = _first("another network", made, ("network", "run")) or types
    weights = _first("other weights", made, ("weights", "checkpoint"))
    if not network and not weights:
        weights = other_weights(*digests)
    return network, weights


def other_weights(held: str, now: str) -> list[str]:
    """A phrase on weights, by their digests."""
    return _pair("other weights", held[:DIGITS], now[:DIGITS])


def _data(held: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A phrase on the data; none where they lie elsewhere and are the same."""
    contents = held.get("contents", {}), now.get("contents", {})
    if contents[0] == contents[1] and "images" in contents[0]:
        return []
    return _first("other data", (held.get("dataset", {}), now.get("dataset", {})), ("root", "split", "images"))


def _first(label: str, both: tuple[Mapping[str, Any], Mapping[str, Any]], names: tuple[str, ...]) -> list[str]:
    """The phrase of the first field that differs."""
    return next(filter(None, (_pair(label, both[0].get(name), both[1].get(name)) for name in names)), [])


def _pair(label: str, held: Any, now: Any) -> list[str]:
    if held is None or now is None or held == now:
        return []
    values = ["without a folder" if value == "" else brief(value) for value in (held, now)]
    return [f"{label} ({values[0]} in the table, but {values[1]} now)"]


@dataclass(frozen=True)
class OtherMaskValues:
    """Another meaning of the values of masks: a phrase on it, and what to do for that of the table."""

    phrase: str
    as_before: str


def other_mask_values(held: Mapping[str, str], now: Mapping[str, str]) -> OtherMaskValues | None:
    """Where the values of masks meant something else in a table; None where each means the same now.

    Args:
        held, now: `chosen` of the table's dataset and of the request's. A table that does not say what values meant is
            passed over, but one of folders was then made without `mask_values`. A value that is named now only is new:
            no mask of the table's rows held it.

    Example:
        >>> other_mask_values({"mask_values": "object=1,void=2"}, {"mask_values": "void=2, object=1"})
        >>> other_mask_values({"object_value": "255"}, {"mask_values": "object=0,background=255"}).as_before
        'leave out --mask-values'
    """
    before, after = _meanings(held), _meanings(now)
    unnamed = not before and "images" in held and "mask_values" in now
    if not unnamed and all(after.get(value) == meaning for value, meaning in before.items()):
        return None
    text = held.get("mask_values")
    values = [brief(each["mask_values"]) if "mask_values" in each else "not set" for each in (held, now)]
    return OtherMaskValues(
        f"`mask_values` is {values[0]} in the table, but {values[1]} now",
        "leave out --mask-values" if text is None else f"give --mask-values {text} (mask_values={text!r})",
    )


def _meanings(chosen: Mapping[str, str]) -> dict[int, str]:
    """The meaning of values of masks: as the user named them, or of the one object that was found."""
    text = chosen.get("mask_values", f"object={chosen['object_value']}" if "object_value" in chosen else None)
    try:
        return {} if text is None else named_values(text).meanings
    except ViceError:  # a dataset class of the user's own may mean anything by it
        return {}
