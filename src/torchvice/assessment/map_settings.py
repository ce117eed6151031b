"""MapSettings: how an image is shown to a model and how its maps are made, in one record that is checked once."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from torchvice.data.warping import check_interpolation, check_unit
from torchvice.errors import ViceError, as_numbers, as_whole, brief, check_kind, did_you_mean, names_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from torchvice.assessment.input_transform import InputTransform
    from torchvice.assessment.outputs import Outputs
    from torchvice.explain import Choices
    from torchvice.explain.precision import Precision
    from torchvice.models.families import MapSite

__all__ = ["MapKeywords", "MapSettings", "Protocols", "as_protocols", "packed", "resolve_device"]

BATCH_SIZE = 32
Protocols = Literal["paper", "strict"] | Sequence[Literal["paper", "strict"]]
LEAST_SIDE, MOST_SIDE = 8, 16384  # pixels of what a network is shown: smaller images have no places, larger no room


class MapKeywords(TypedDict, total=False):
    """The fields of `MapSettings` as keyword arguments; None leaves a field at its default."""

    method: str
    layer: str | None
    site: MapSite | None
    class_map: Sequence[Sequence[int]] | None
    choices: Choices | None
    view_size: int | None
    crop: int | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    interpolation: str | None
    batch_size: int | None
    device: str
    outputs: Outputs | None
    output: str | None
    transform: InputTransform | Callable[[Any], Any] | None
    precision: Precision | None
    channels_last: bool


def _default_choices() -> Choices:
    from torchvice.explain import Choices

    return Choices()


def _as_class_map(groups: Any) -> list[list[int]] | None:
    """A class map as lists of outputs, from lists, tuples, arrays or tensors."""
    if groups is None:
        return None
    with contextlib.suppress(TypeError):  # a group or an output of another kind
        return [[operator.index(output) for output in group] for group in groups]
    raise ViceError(
        "`class_map` must be a list with the outputs of each class, in the order of the data's classes, such as "
        f"[[3], [0, 5]], but is {brief(groups)}.",
        "Of a dictionary: [groups[name] for name in dataset.classes]. A file or a name such as 'imagenet-voc': "
        "torchvice.runs.class_maps.read_class_map(file, dataset.classes, outputs).",
    )


@dataclass(frozen=True)
class MapSettings:
    """How an image is shown to a model and how its maps are made; kept in the manifest of a table.

    Args:
        method, layer, site, class_map: as for `torchvice.Explainer`.
        choices: how `strict` makes its maps, see `torchvice.explain.Choices`; values other than the defaults make a
            labelled sensitivity. `paper` is as published.
        view_size: pixels, the side to which `strict` resizes the whole image; None: the network's input size.
        crop: pixels, the side of the centre crop on which `paper` takes the loss; None: the network's input size.
        mean, std: per channel, the normalisation of images on [0, 1], one number for a network of one channel; None:
            timm's values for the network, ImageNet's for any other network.
        interpolation: how `strict` resizes images: "nearest", "bilinear", "bicubic" or "lanczos"; None: bilinear, which
            `paper` always takes.
        batch_size: images per forward pass, fewer where whole images pass at their own size; None: 32, or the value in
            the settings of a RUN.
        device: "auto" (CUDA if available, else the CPU) or a torch device.
        outputs: "logits"; "probabilities", whose logits are taken; or "softmax", the logits of a softmax over all
            outputs, see `torchvice.explain.softmax.softmax_logits`; None: logits, and outputs that look like
            probabilities are refused.
        output: as for `torchvice.Explainer`.
        transform: the user's own, for `strict`: from a PIL image to (3, S, S), size and normalisation included, see
            `torchvice.assessment.input_transform.InputTransform`; `paper` is as published, with `mean` and `std`.
        precision, channels_last: as for `torchvice.Explainer`, for both protocols; the numbers of the paper need None.

    Raises:
        ViceError: an unknown method, a layer given twice, a value out of range, choices that exclude each other or that
            the method does not support, a device that is not available, or a view size beside a transform.
    """

    method: str = "auto"
    layer: str | None = None
    site: MapSite | None = None
    class_map: Sequence[Sequence[int]] | None = None
    choices: Choices = field(default_factory=_default_choices)
    view_size: int | None = None
    crop: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    interpolation: str | None = None
    batch_size: int | None = None
    device: str = "auto"
    outputs: Outputs | None = None
    output: str | None = None
    transform: InputTransform | None = None
    precision: Precision | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        from torchvice.explain import Choices
        from torchvice.explain.methods import method_named
        from torchvice.explain.precision import check_precision

        check_precision(self.precision)
        for name in ("mean", "std"):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, as_numbers(name, values, "Give a number for each channel: [R, G, B]."))
        check_unit(self.mean, self.std)
        object.__setattr__(self, "class_map", _as_class_map(self.class_map))
        object.__setattr__(self, "device", str(self.device))
        check_kind("choices", self.choices, Choices, "torchvice.explain.Choices", "Give Choices(NAME=VALUE, ...).")
        given = {"`layer`": self.layer, "`site`": self.site, "the choice `layers`": self.choices.layers or None}
        names = [name for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise ViceError(f"A layer is named once, but both {names[0]} and {names[1]} are given.")
        self._check_sizes()
        if self.interpolation is not None:
            check_interpolation(self.interpolation)
        if self.method != "auto":
            method_named(self.method).check(self.choices.eigen_smooth, len(self.choices.layers))
        if self.outputs not in (None, "logits", "probabilities", "softmax"):
            raise ViceError(f"`outputs` must be 'logits', 'probabilities' or 'softmax', but is {self.outputs!r}.")
        if self.device != "auto":
            resolve_device(self.device)
        if self.transform is not None:
            self._check_transform()

    def _check_sizes(self) -> None:
        for name, least, unit in (("batch_size", 1, "images"), ("view_size", None, "pixels"), ("crop", None, "pixels")):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, as_whole(name, value, least, unit, "Give 1 or more." if least else ""))
        for name in ("view_size", "crop"):
            value = getattr(self, name)
            if value is not None and not LEAST_SIDE <= value <= MOST_SIDE:
                raise ViceError(
                    f"`{name}` must be {LEAST_SIDE} to {MOST_SIDE} (pixels), but is {value}.",
                    f"Leave `{name}` out (--{name.replace('_', '-')}): the network's own size is taken.",
                )

    def _check_transform(self) -> None:
        from torchvice.assessment.input_transform import InputTransform

        given: Any = self.transform  # a function, too
        transform = given if isinstance(given, InputTransform) else InputTransform(given)
        object.__setattr__(self, "transform", transform)
        if self.view_size not in (None, transform.side):
            raise ViceError(
                f"The transform {transform.name} gives {transform.side} pixels, but `view_size` is {self.view_size}.",
                "Leave `view_size` out.",
            )
        if self.interpolation is not None:
            raise ViceError(
                f"The transform {transform.name} resizes images itself, but `interpolation` is {self.interpolation!r}.",
                "Leave `interpolation` out.",
            )

    def completed(self, **values: Unpack[MapKeywords]) -> MapSettings:
        """The same settings with `values` in place of the fields that are None."""
        missing: dict[str, Any] = {name: value for name, value in values.items() if getattr(self, name) is None}
        if self.transform is not None:
            missing.pop("interpolation", None)
        if self.transform is not None and "view_size" in missing:
            missing["view_size"] = self.transform.side
        return replace(self, **missing)

    @property
    def given_side(self) -> int | None:
        """Pixels of the images that the network will be shown, as far as they are given."""
        return self.view_size or (self.crop if self.transform is None else self.transform.side)

    def for_model(self, model: nn.Module) -> MapSettings:
        """The same settings with the input size and the normalisation of a network, where none are given."""
        from torchvice.models.adapt import converted_channels
        from torchvice.models.build import preprocessing
        from torchvice.models.zero_shot import ZeroShot

        expected = preprocessing(model)
        side = max(expected.size)
        known: dict[str, Any] = {"mean": expected.mean, "std": expected.std}
        if isinstance(model, ZeroShot):  # its logits lie between 0 and the scale, and look like per cent
            known["outputs"] = "logits"
        settings = self._for_one_channel() if converted_channels(model) == 1 else self
        return settings.completed(view_size=side, crop=side, batch_size=BATCH_SIZE, **known)

    def _for_one_channel(self) -> MapSettings:
        """The same settings with three equal numbers for a mean or std that is one number."""
        given: dict[str, Any] = {name: tuple(value) for name in ("mean", "std") if (value := getattr(self, name))}
        for name, values in given.items():
            if len(set(values)) != 1 or len(values) not in (1, 3):
                message = f"`{name}` must be one number for a network of one channel, but is {values}."
                raise ViceError(message, f"Give that of the grey images of its training: --{name} NUMBER.")
            given[name] = values[:1] * 3
        return replace(self, **given)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.output is None:  # tables of earlier versions do not have it
            del plain["output"]
        if self.precision in (None, "float32"):  # likewise
            del plain["precision"]
        if not self.channels_last:  # likewise
            del plain["channels_last"]
        if self.interpolation in (None, "bilinear"):  # likewise
            del plain["interpolation"]
        if self.transform is None:  # likewise
            del plain["transform"]
        else:
            plain["transform"] = self.transform.to_dict()
        return plain | {"site": self.site and self.site.to_dict(), "choices": self.choices.to_dict()}


def packed(keywords: Mapping[str, Any], settings: MapSettings | None = None, others: Sequence[str] = ()) -> MapSettings:
    """The settings with the fields that keyword arguments name; `others` are further names a caller may have meant.

    Raises:
        ViceError: an unknown keyword; or as `MapSettings`.
    """
    known = [f.name for f in fields(MapSettings)]
    for name in keywords:
        if name not in known:
            raise ViceError(f"Unknown keyword argument `{name}`.", did_you_mean(name, [*known, *others]))
    given = {name: value for name, value in keywords.items() if value is not None}
    settings = MapSettings() if settings is None else settings
    check_kind("settings", settings, MapSettings, "torchvice.assessment.MapSettings", "Give its fields by name.")
    return replace(settings, **given)


def as_protocols(protocols: str | Sequence[str]) -> tuple[str, ...]:
    """The protocols that are named by one text or several.

    Raises:
        ViceError: an unknown protocol, or none at all.
    """
    names = names_of(protocols)
    if not names or set(names) - {"paper", "strict"}:
        raise ViceError(f"`protocols` must be 'paper', 'strict' or both, but is {protocols!r}.")
    return names


def resolve_device(device: str) -> torch.device:
    """The device of that name; "auto" is CUDA if available, else the CPU.

    Raises:
        ViceError: it is not available.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        message = f"The device {device!r} must be available, but is not: {reason}."
        raise ViceError(message, "Use --device cpu.") from None
    return place
