"""Lists of networks: a file with a name a line, a wildcard of timm's names, or all of timm."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchvice.errors import ViceError, near_path
from torchvice.models.named import source_of

__all__ = ["ListedModel", "listed_models"]

_WILD = "*?["
_FORMS = "a file with a name a line, a wildcard of timm's names such as 'resnet*', or all"


@dataclass(frozen=True)
class ListedModel:
    """A network of a list.

    Attributes:
        name: see `torchvice.models.named.source_of`. weights: a local file, or None.
        side: pixels of its input as timm states it, so that networks of one size follow each other; 0: not stated.
    """

    name: str
    weights: Path | None = None
    side: int = 0

    @property
    def label(self) -> str:
        """What tells it from the others: the name, and the file where there is one."""
        return self.name if self.weights is None else f"{self.name} {self.weights}"


def listed_models(text: str, pretrained: bool = False) -> list[ListedModel]:
    """The networks that `--models` names, each once.

    Args:
        text: a file with a name a line, which a file of weights may follow, and comments behind #; a wildcard of timm's
            names, with the tags of their weights where it has a dot (`*.in1k`); or "all".
        pretrained: whether a wildcard means networks with pretrained weights only, each under the tag of its weights.

    Raises:
        ViceError: neither a file nor a wildcard, no network, a name of no known form, or one that is there twice.
    """
    if Path(text).is_file():
        models = _of_file(Path(text))
    elif text == "all" or any(sign in text for sign in _WILD):
        models = _of_timm("*" if text == "all" else text, pretrained)
    else:
        near = near_path(Path(text), folder=False)
        raise ViceError(f"--models must be {_FORMS}, but is {text!r}.", near or f"One network: --model {text}.")
    seen: set[str] = set()
    for one in models:
        if one.label in seen:
            raise ViceError(f"A model must be listed once, but `{one.label}` is there twice.", "Remove one of the two.")
        seen.add(one.label)
    return models


def _of_file(path: Path) -> list[ListedModel]:
    """The networks of a file. Weights are looked for from the folder of the command, then from that of the file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ViceError(
            f"The list {path} must be a text in UTF-8, but is not.", "Write a name a line; for one network: --model."
        ) from None
    models = []
    for number, line in enumerate(lines, 1):
        words = _words(line, f"Line {number} of {path}")
        if len(words) > 2:
            raise ViceError(
                f"Line {number} of {path} must be a name and perhaps a file of weights, but is {line.strip()!r}.",
                "Quote names with spaces.",
            )
        if words:
            source_of(words[0])
            weights = None if len(words) == 1 else _found(words[1], path, number)
            models.append(ListedModel(words[0], weights, _stated_side(words[0])))
    if not models:
        raise ViceError(f"The list {path} must name a network a line, but names none.")
    return models


def _words(line: str, what: str) -> list[str]:
    """The words of a line without its comment; backslashes stay, since paths of Windows have them."""
    parts = shlex.shlex(line, posix=True)
    parts.whitespace_split, parts.commenters, parts.escape = True, "#", ""
    try:
        return list(parts)
    except ValueError:
        raise ViceError(f"{what} must have an even number of quotes, but is {line.strip()!r}.") from None


def _found(text: str, beside: Path, number: int) -> Path:
    given = Path(os.path.expanduser(text))
    for path in (given, beside.parent / given):
        if path.is_file():
            return path
    raise ViceError(f"Line {number} of {beside} must name a file of weights, but {text} does not exist.")


def _of_timm(pattern: str, pretrained: bool) -> list[ListedModel]:
    import timm

    tagged = pretrained or "." in pattern
    names: Sequence[str] = timm.list_models(pattern, pretrained=tagged)
    if not names:
        way_out = "timm.list_models() lists the names, timm.list_pretrained() those with tags."
        raise ViceError(f"No network of timm matches {pattern!r}.", way_out)
    return [ListedModel(name, None, _stated_side(name)) for name in names]


def _stated_side(name: str) -> int:
    source, own = source_of(name)
    if source != "timm":
        return 0
    from torchvice.models.build import stated_preprocessing

    stated = stated_preprocessing(own)
    return 0 if stated is None else max(stated.size)
