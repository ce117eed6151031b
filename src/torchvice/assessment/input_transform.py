"""InputTransform: the user's own way from an image to the input of the network, and the name of what it shows."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch

from torchvice.assessment.code_digest import code_digest, holds_functions
from torchvice.data.probing import TRIES, Shown, refuse_random, shown_by, transformed
from torchvice.data.random_state import rng_seeded
from torchvice.errors import ViceError
from torchvice.explain import Choices
from torchvice.samples.placing import box_of

__all__ = ["InputTransform", "transform_named"]

SIZES = ((480, 640), (640, 400), (300, 300))  # (H, W) of the images that tell what is shown
REPEATED = 16  # images at the start that are sent through it twice
GEOMETRIES = (
    "Supported: Resize((S, S)); Resize(R), CenterCrop(S); Resize((R, R)), CenterCrop(S); CenterCrop(S); the long side "
    "resized and the image padded around its centre."
)


class InputTransform:
    """A function from a PIL image to (3, S, S), for model and map alike under `strict`.

    Which part of an image it shows is found by sending ramps through it, once for some sizes at the start and once for
    each size of image that it meets.

    Args:
        function: such as a torchvision Compose, the transforms of torchvision's weights, timm's create_transform, or an
            image processor of transformers.
        name: for messages and the manifest; None: that of the function.
        sha256: digest of the file that it comes from; None: of the source of a function that has a name, and of the
            code of lambdas, closures and objects.

    Attributes:
        view: name of what it shows: "warp224", "short256-crop224" ..., see `torchvice.samples.placing.box_of`.
        side: pixels. mean, std: of images on [0, 1], as it normalises them.

    Raises:
        ViceError: on first use: what `torchvice.data.probing.shown_by` refuses, or another geometry.
    """

    def __init__(self, function: Callable[[Any], Any], name: str | None = None, sha256: str | None = None) -> None:
        if not callable(function):
            raise ViceError(
                f"`transform` must be a function from a PIL image to a tensor, but is a {type(function).__name__}."
            )
        self.function, self.sha256 = function, sha256 or _of_source(function)
        self.code_sha256 = None if sha256 else _of_code(function, self.sha256)
        self.name: str = name or str(getattr(function, "__qualname__", type(function).__name__))
        self._checked: set[tuple[int, int]] = set()
        self._repeated = 0

    def __repr__(self) -> str:
        return f"InputTransform({self.name})"

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """(3, S, S) float32 of an image (H, W, 3) uint8.

        Raises:
            ViceError: what it shows of an image of this size is not what `view` says.
        """
        size = (image.shape[0], image.shape[1])
        if size not in self._checked:
            shown = shown_by(self.function, size, self.name)
            if shown.side != self.side or _error(self.view, size, shown) > 1:
                raise self._unknown(size, shown)
            self._checked.add(size)
        made = transformed(self.function, image, self.name)
        if made.shape[1] != self.side:
            raise ViceError(
                f"The transform {self.name} must give {self.side} pixels, but gives {made.shape[1]}.",
                "Give every image the same size, such as Resize((224, 224)).",
            )
        if self._repeated < REPEATED:
            self._repeated += 1
            with rng_seeded(self._repeated):
                refuse_random(made, transformed(self.function, image, self.name), self.name)
        return made

    @functools.cached_property
    def _found(self) -> tuple[str, Shown]:
        found = {size: shown_by(self.function, size, self.name, tries=TRIES) for size in SIZES}
        first = found[SIZES[0]]
        errors = {
            view: max(_error(view, size, shown) if shown.side == first.side else 9.0 for size, shown in found.items())
            for view in _candidates(first, SIZES[0])
        }
        best = min(errors, key=lambda view: round(errors[view], 2))
        if errors[best] > 1:
            raise self._unknown(SIZES[0], first)
        return best, first

    @property
    def view(self) -> str:
        """The name of what is shown of an image."""
        return self._found[0]

    @property
    def side(self) -> int:
        """Pixels of the square input."""
        return self._found[1].side

    @property
    def mean(self) -> tuple[float, ...]:
        """Of images on [0, 1], per channel."""
        return self._found[1].mean

    @property
    def std(self) -> tuple[float, ...]:
        """Of images on [0, 1], per channel."""
        return self._found[1].std

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest: its name, what it shows, and what it is made of where that is known."""
        text = repr(self.function)
        known = None if re.search(r" at 0x[0-9a-f]+", text) else text
        plain: dict[str, Any] = {"name": self.name, "view": self.view}
        plain |= {name: [round(value, 4) for value in getattr(self, name)] for name in ("mean", "std")}
        code = _of_code(self.function, self.sha256) if self.code_sha256 else None
        # An object that changes while it is used, such as one that counts, has no digest.
        digests = {"sha256": self.sha256, "code_sha256": code if code == self.code_sha256 else None, "repr": known}
        return plain | {name: value for name, value in digests.items() if value}

    @property
    def is_known(self) -> bool:
        """Whether the manifest says what it is made of, so that another one is noticed."""
        return bool(self.to_dict().keys() & {"sha256", "code_sha256", "repr"})

    def check(self, choices: Choices, grey: bool) -> None:
        """Check that no choice says what the transform says; `grey`: that it gives grey images, as the network takes.

        Raises:
            ViceError: the choice `view` or `scales`, or channels with other means.
        """
        shown = {"view": choices.view != "warp", "scales": choices.scales != (1.0,)}
        if wrong := [name for name, given in shown.items() if given]:
            raise ViceError(
                f"The transform {self.name} says what is shown of an image, but so does the choice `{wrong[0]}`"
                f"{' (scaleFACTOR, too)' if wrong[0] == 'scales' else ''}.",
                "Leave one of them out.",
            )
        if grey and len({round(value, 3) for value in self.mean}) > 1:
            raise ViceError(
                f"The transform {self.name} must give grey images for a network of one channel, but its channels have "
                f"the means {', '.join(f'{value:.3f}' for value in self.mean)}.",
                "Put Grayscale() before ToTensor(), and one number into Normalize(...).",
            )

    def _unknown(self, size: tuple[int, int], shown: Shown) -> ViceError:
        ends = [start + shown.side * scale for start, scale in zip((shown.top, shown.left), shown.scales, strict=True)]
        return ViceError(
            f"The transform {self.name} must show a part of images that torchvice knows, but of {size[0]} x {size[1]} "
            f"pixels it shows rows {round(shown.top)} to {round(ends[0])} and columns {round(shown.left)} to "
            f"{round(ends[1])}, "
            f"on {shown.side} x {shown.side}.",
            GEOMETRIES,
        )


def _of_source(function: Any) -> str | None:
    """The digest of a function's source, where Python knows it; not of a lambda, whose line holds other things."""
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        return None
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def _of_code(function: Any, source: str | None) -> str | None:
    """The digest of the code where the source, or the text of a Compose, does not say all."""
    if isinstance(function, FunctionType):
        return code_digest(function) if source is None or function.__closure__ or function.__defaults__ else None
    unknown = re.search(r" at 0x[0-9a-f]+", repr(function))
    return code_digest(function) if unknown or holds_functions(function) else None


def _candidates(shown: Shown, size: tuple[int, int]) -> list[str]:
    """Names of views that would show as much of an image that is wider than high."""
    side = shown.side
    height, width = (length / scale for length, scale in zip(size, shown.scales, strict=True))
    resized = (("short", height), ("long", width), ("warp", height))
    names = [f"{how}{round(length)}-crop{side}" for how, length in resized]
    return [f"warp{side}", f"crop{side}", *names]


def _error(view: str, size: tuple[int, int], shown: Shown) -> float:
    """The largest distance of an edge that was found from what the name says; 1: what is allowed.

    That is 1.5 pixels of the input or of the image, or 1 % of the image: the ramps are read as exactly as that.
    """
    top, left, height, width = box_of(view, size) or (0, 0, *size)
    ends = ((top, top + height, shown.top, shown.scales[0]), (left, left + width, shown.left, shown.scales[1]))
    return max(
        max(abs(low - start), abs(high - start - shown.side * scale)) / max(1.5 * scale, 1.5, 0.01 * length)
        for (low, high, start, scale), length in zip(ends, size, strict=True)
    )


def transform_named(text: str | os.PathLike[str]) -> InputTransform:
    """The transform FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION. Its code runs.

    Raises:
        ViceError: no such file, module or function, an error in its code, or nothing that can be called.
    """
    from torchvice.files import sha256
    from torchvice.models.functions import found_in_code

    function, file = found_in_code(str(text), "transform")
    if not callable(function):
        raise ViceError(f"{text} must be a function, but is a {type(function).__name__}.", "Name the transform itself.")
    place, _, name = str(text).rpartition(":")
    label = f"{Path(place).name if place.endswith('.py') else place}:{name}"
    return InputTransform(function, label, None if file is None else sha256(file))
