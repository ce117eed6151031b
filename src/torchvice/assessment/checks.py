"""Asked: what is asked for is checked by its names alone, before a model is built or looked at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchvice.errors import ViceError, did_you_mean

if TYPE_CHECKING:
    from torchvice.explain import Choices, FaithfulnessChoices

__all__ = ["CHEAP", "CONTROLS", "NAMED_CONTROLS", "check_asked", "check_names", "scale_of"]

# Made of the headline's pass; the last one takes a pass of its own.
CHEAP = ("random", "center", "foreground", "shuffled")
CONTROLS = (*CHEAP, "random_weights")
# What `--controls` and the `controls` of a study are called, as `torchvice.assess` takes it.
NAMED_CONTROLS: dict[str, bool | tuple[str, ...]] = {"all": True, "cheap": CHEAP, "none": False}


def check_asked(
    protocols: Sequence[str],
    *,
    method: str = "auto",
    layer: str | None = None,
    choices: Choices | None = None,
    controls: bool | Sequence[str] = False,
    also: Sequence[str] = (),
    faithful: FaithfulnessChoices | None = None,
    device: str = "auto",
) -> None:
    """Check the arguments of `torchvice.assess` that can be told without a model.

    Whether the network has the layer, and whether the method fits it, is told once it is there.

    Raises:
        ViceError: an unknown name, choices that exclude each other, a device that is not there, or further explanations
            without `strict`.
    """
    from torchvice.assessment.views import check_layers, resolve_device
    from torchvice.explain.methods import method_named

    if not protocols or set(protocols) - {"paper", "strict"}:
        raise ViceError(f"`protocols` must be 'paper', 'strict' or both, but is {tuple(protocols)}.")
    check_layers(layer, choices)
    if method != "auto":
        found = method_named(method)
        if choices is not None:
            found.check(choices.eigen_smooth, len(choices.layers))
    check_names(controls, also)
    if "strict" not in protocols and (controls or also or faithful):
        raise ViceError(
            "Controls, further explanations and faithfulness are of strict's view, but `strict` is not assessed."
        )
    resolve_device(device)


def check_names(controls: bool | Sequence[str], also: Sequence[str]) -> None:
    """Check the names of controls and further explanations.

    Raises:
        ViceError: an unknown name, or a control among the further explanations.
    """
    from torchvice.explain import METHODS

    for name in () if isinstance(controls, bool) else controls:
        if name not in CONTROLS:
            raise ViceError(f"A control must be one of {', '.join(CONTROLS)}, but is {name!r}.")
    for name in also:
        if name in CONTROLS:
            raise ViceError(f"{name!r} is a control, and counted as one.", "Ask for it by `controls` (--controls all).")
        if name not in (*METHODS, "mirror", "predicted") and scale_of(name) is None:
            known = [*(method for method in METHODS if method not in CONTROLS), "mirror", "scale0.75", "predicted"]
            expected = "`also` must name a method, mirror, scaleFACTOR or predicted"
            raise ViceError(f"{expected}, but is {name!r}.", did_you_mean(name, known))


def scale_of(name: str) -> float | None:
    """The factor of "scaleFACTOR", above 0; None for any other name.

    Example:
        >>> scale_of("scale0.75"), scale_of("scale0"), scale_of("mirror")
        (0.75, None, None)
    """
    found = re.fullmatch(r"scale(\d+(?:\.\d+)?|\.\d+)", name)
    return float(found[1]) if found and float(found[1]) > 0 else None
