"""Choices: every decision between a network and a map on [0, 1], named, with its default and the reason for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from torchvice.errors import ViceError, did_you_mean
from torchvice.explain.maps import Normalisation

__all__ = ["MOST_SCALE", "Choices", "paper_choices"]

MOST_SCALE = 8  # of the view: 64 times its pixels

Order = Literal["resize-first", "normalise-first", "normalise-first-via-view", "normalise-twice-via-view"]


@dataclass(frozen=True)
class Choices:
    """What is shown to the network and how its maps are made; kept in the manifest of a table.

    Args:
        labels: whose maps: the "true" labels, since the question is whether the evidence for a label lies on its
            object; the "predicted" ones (logit above 0), which also show the classifier's errors; "both"; or class
            indices.
        view: "warp", the whole image resized to a square: one pass gives logits and map; "whole", at its own size (not
            for networks of one size); "crop", the centre of that size, outside of which the map is 0.
        scales: sizes relative to the view, one pass each. One: more passes are another network.
        mirror: whether the mirror image is shown too, at every scale.
        combine: "mean" of the passes, so that their number does not scale a map that is not normalised; "sum" as
            published.
        normalisation: see `torchvice.explain.normalise`. "max" keeps 0 as no evidence, which min-max throws away.
        order: "resize-first", so that the maximum is that of the map that is counted; "normalise-first", at low
            resolution, each pass on its own; "normalise-first-via-view", which also resizes twice, to the view and then
            to the image; "normalise-twice-via-view", which normalises at the size of the view once more, as the
            published transformer pipeline does.
        eigen_smooth: the first principal component of the weighted activations instead of their sum, its sign fixed; it
            applies to `paper` too, whose documented transformer command uses it.
        layers: names of several layers whose maps are averaged; none: the network's own, or `layer`.
        aug_smooth: six passes instead of one, the image and its mirror image, each times 0.9, 1 and 1.1, as published
            with pytorch-grad-cam; unlike `mirror`, which shows mirrored pixels, it also changes the contrast.
        scaled: how the maps of layers and passes are scaled before their mean: "minmax", each to [0, 1]; "none".
        grid: where maps of several layers are averaged: on the "finest" grid, or at the "image"'s size, as published.

    Raises:
        ViceError: any other value.
    """

    labels: Literal["true", "predicted", "both"] | tuple[int, ...] = "true"
    view: Literal["warp", "whole", "crop"] = "warp"
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    combine: Literal["mean", "sum"] = "mean"
    normalisation: Normalisation = "max"
    order: Order = "resize-first"
    eigen_smooth: bool = False
    layers: tuple[str, ...] = ()
    aug_smooth: bool = False
    scaled: Literal["minmax", "none"] = "minmax"
    grid: Literal["finest", "image"] = "finest"

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name in ("view", "combine", "normalisation", "order", "scaled", "grid"):
            known = get_args(hints[name])
            if getattr(self, name) not in known:
                raise ViceError(f"`{name}` must be one of {', '.join(known)}, but is {getattr(self, name)!r}.")
        if isinstance(self.labels, str) and self.labels not in ("true", "predicted", "both"):
            raise ViceError(f"`labels` must be true, predicted, both or class indices, but is {self.labels!r}.")
        if not self.scales or not all(0 < scale <= MOST_SCALE for scale in self.scales):  # nor NaN
            raise ViceError(
                f"`scales` must be numbers above 0 and at most {MOST_SCALE}, but is {self.scales}.",
                "Give sizes relative to the view: scales=0.75,1 (scales=(0.75, 1)).",
            )
        if self.view == "crop" and self.scales != (1.0,):
            raise ViceError(f"A crop has one scale, 1, but `scales` is {self.scales}.", "Use view='warp' or 'whole'.")

    @classmethod
    def parse(cls, settings: Sequence[str]) -> Choices:
        """Choices from "name=value" texts, such as "mirror=true", "scales=0.5,1,1.5" or "labels=predicted".

        Raises:
            ViceError: a text of another form, an unknown name, or a value that does not fit.

        Example:
            >>> Choices.parse(["mirror=true", "scales=0.5,1"]).scales
            (0.5, 1.0)
        """
        known = [f.name for f in fields(cls)]
        values: dict[str, Any] = {}
        for text in settings:
            name, equals, value = text.partition("=")
            if not equals:
                raise ViceError(f"A choice must be NAME=VALUE, but is {text!r}.", f"Names: {', '.join(known)}.")
            if name not in known:
                raise ViceError(f"A choice must have a known name, but is {name!r}.", did_you_mean(name, known))
            values[name] = _read(name, value)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def differing(self) -> dict[str, Any]:
        """The choices that are not the default, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def _read(name: str, value: str) -> Any:
    """A choice's value from its text."""
    if name in ("mirror", "eigen_smooth", "aug_smooth"):
        if value.lower() not in ("true", "false"):
            raise ViceError(f"`{name}` must be true or false, but is {value!r}.")
        return value.lower() == "true"
    if name == "layers":
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if name == "scales" or (name == "labels" and value[:1].isdigit()):
        kind = float if name == "scales" else int
        try:
            return tuple(kind(part) for part in value.split(","))
        except ValueError:
            raise ViceError(f"`{name}` must be numbers with commas between, but is {value!r}.") from None
    return value


def paper_choices(convolutional: bool) -> Choices:
    """What the published pipeline shows to a network.

    A convolutional network's map is made of the whole image and its mirror image, a transformer's of a square warp.
    """
    if convolutional:
        return Choices(view="whole", mirror=True, combine="sum", normalisation="paper")
    return Choices(view="warp", normalisation="minmax", order="normalise-twice-via-view")
