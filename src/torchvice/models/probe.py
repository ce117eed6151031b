"""Probe: record the tensors of a network during one forward pass of a random image, and recognise their layout."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from torchvice.errors import ViceError, raised_by, reason_of
from torchvice.models.bare import described, input_channels, input_like, logits_in

__all__ = [
    "WITHOUT_GRADIENTS",
    "Probe",
    "SpatialLayout",
    "TensorRecord",
    "covers_all_uses",
    "eval_and_frozen",
    "evaluating",
    "gradients_of",
    "probe",
    "probe_image",
    "spatial_layout",
    "zero_heads",
]

Layout = Literal["nchw", "nhwc", "tokens"]
WITHOUT_GRADIENTS = (
    "Name the layer, and a method that needs no gradients: --layer NAME --method scorecam (layer='NAME', "
    "method='scorecam'), or eigencam."
)
_MOST_PREFIX_TOKENS = 16
_CHECKPOINTING = ("grad_checkpointing", "gradient_checkpointing", "use_checkpoint", "with_cp")  # timm's, HF's, MONAI's
# Tried if the network does not tell: none, a class token, a class and a distillation token.
_USUAL_PREFIX_TOKENS = (0, 1, 2)


@dataclass(frozen=True)
class TensorRecord:
    """Input or output tensor (1, ...) of a module; `version` is the tensor's version when it was recorded."""

    layer: str
    where: Literal["input", "output"]
    tensor: torch.Tensor
    version: int

    @property
    def intact(self) -> bool:
        """Whether the tensor is unchanged since it was recorded; an in-place ReLU may have changed it."""
        return self.tensor.is_inference() or self.tensor._version == self.version


@dataclass(frozen=True)
class SpatialLayout:
    """How a tensor stores positions: its `layout`, the number of `prefix_tokens`, and the `grid` (h, w)."""

    layout: Layout
    prefix_tokens: int
    grid: tuple[int, int]


@dataclass(frozen=True)
class Probe:
    """Result of a pass: `records` in order of time, number of `calls` of each module, `outputs`, the image's (H, W)."""

    records: tuple[TensorRecord, ...]
    calls: Counter[str]
    outputs: Any
    size: tuple[int, int]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set eval mode, and switch the checkpointing of activations off; restore both at the end, also after an error.

    A module whose class has a `train` of its own is told the mode, since it may do work: LoRA merges its weights.
    """
    modules = list(model.modules())
    modes = [(module, module.training) for module in modules]
    switches, trains = _checkpointing_of(modules), any(mode for _, mode in modes)
    try:
        if trains:  # to set a mode once more costs a small network as much as a layer
            model.eval()
        for module, name in switches:
            setattr(module, name, False)
        yield
    finally:
        for module, name in switches:
            setattr(module, name, True)
        for module, mode in modes if trains else ():  # containers first, which tell their parts
            if type(module).train is not nn.Module.train and module.training is not mode:
                module.train(mode)
        for module, mode in modes:
            if module.training is not mode:
                module.training = mode


@contextlib.contextmanager
def eval_and_frozen(model: nn.Module, gradients: bool) -> Iterator[list[torch.utils.hooks.RemovableHandle]]:
    """Set eval mode and freeze all parameters; restore both at the end, and remove the hooks added to the list."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles: list[torch.utils.hooks.RemovableHandle] = []
    with evaluating(model):
        try:
            for parameter in trainable:
                # Only gradients of the image are needed; and what networks cache in eval mode gets no graph.
                parameter.requires_grad_(False)
            with torch.inference_mode(False), torch.set_grad_enabled(gradients):
                yield handles
        finally:
            for handle in handles:
                handle.remove()
            for parameter in trainable:
                parameter.requires_grad_(True)


def _checkpointing_of(modules: Iterable[nn.Module]) -> list[tuple[nn.Module, str]]:
    """Return the modules that compute activations again in the backward pass, with the name of their switch.

    What is computed again runs without the hooks of the first pass. Timm's networks do so in eval mode, too.
    """
    return [(module, name) for module in modules for name in _CHECKPOINTING if vars(module).get(name) is True]


def probe_image(model: nn.Module, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Return the random image (1, 3, H, W) of the probe, or another one of its kind, as the model takes it."""
    return torch.randn((1, 3, *size), generator=torch.Generator().manual_seed(seed)).to(input_like(model))


def probe(model: nn.Module, size: tuple[int, int], gradients: bool = True) -> Probe:
    """Run the model on a random image and record every tensor but the image itself; the model is restored.

    A classifier whose weights are all zero, as in some untrained networks, is replaced by a random one: with zero
    weights no gradient would reach any tensor.

    Args:
        model: the network; takes (1, 3, H, W).
        size: (H, W) in pixels.
        gradients: keep the graph from the image to the outputs.

    Raises:
        ViceError: the model refuses the image.
    """
    records: list[TensorRecord] = []
    calls: Counter[str] = Counter()
    with eval_and_frozen(model, gradients) as handles:
        image = probe_image(model, size).requires_grad_(gradients).clone()  # networks may normalise it in place
        handles += [head.register_forward_hook(_random_outputs) for head in zero_heads(model)]
        for name, module in model.named_modules():
            if name:
                handles += _record(name, module, records, calls, image)
        try:
            outputs = logits_in(model(image), 1)
        except ViceError:
            raise
        except Exception as error:  # layers may raise anything
            channels = input_channels(model)
            if channels == 1:  # it does not run on grey images either, or it would be shown them
                error = _error_of(model, image[:, :1]) or error
                raise _does_not_run(model, (1, 1, *size), error) from None
            if channels != 3:
                raise ViceError(
                    f"{type(model).__name__} must accept images of 3 channels (RGB), but takes {channels}.",
                    "Wrap it in a module whose forward converts RGB images to its channels.",
                ) from None
            raise _does_not_run(model, (1, 3, *size), error) from None
    return Probe(tuple(records), calls, outputs, size)


def _error_of(model: nn.Module, image: torch.Tensor) -> Exception | None:
    try:
        model(image)
    except Exception as error:  # layers may raise anything
        return error
    return None


def _does_not_run(model: nn.Module, shape: tuple[int, ...], error: Exception) -> ViceError:
    """The error for a model that raises on an image, with the place in its code."""
    return ViceError(
        f"{type(model).__name__} must run on an image {shape}, but its forward raises {raised_by(error)}.",
        f"Try it by itself: model.eval()(torch.zeros{shape}). If it needs images of another size: --view-size SIDE "
        "(view_size=SIDE), or model.pretrained_cfg = {'input_size': (3, height, width)}. If it takes more than images, "
        "or takes them by a name or in a dictionary, wrap it in a module whose forward(images) calls it.",
    )


def gradients_of(score: torch.Tensor, tensors: Sequence[torch.Tensor]) -> tuple[Sequence[torch.Tensor | None], str]:
    """The gradients of a score, None where it does not depend on a tensor; or none, and why they cannot be computed."""
    if not tensors:
        return (), ""
    try:
        return torch.autograd.grad(score, tensors, retain_graph=True, allow_unused=True), ""
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # such as an operation in place on a tensor that the gradient needs
        return (), f"the gradient of a logit raises {reason_of(error)}"


def _record(
    name: str, module: nn.Module, records: list[TensorRecord], calls: Counter[str], image: torch.Tensor
) -> tuple[torch.utils.hooks.RemovableHandle, ...]:
    """Hook a module so that its input, output and calls are recorded."""

    def add(where: Literal["input", "output"], value: Any) -> None:
        if isinstance(value, torch.Tensor) and value is not image:
            records.append(TensorRecord(name, where, value, 0 if value.is_inference() else value._version))

    def before(_: nn.Module, args: tuple[Any, ...]) -> None:
        calls[name] += 1
        add("input", args[0] if args else None)

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if args and output is args[0] and output is not image and torch.is_grad_enabled():
            # A tensor of its own, as behind a capture: what reads the input, beside the module, does not read this.
            output = output.view_as(output)
        add("output", output)
        return output

    return module.register_forward_pre_hook(before), module.register_forward_hook(after)


def zero_heads(model: nn.Module) -> list[nn.Linear]:
    """Return the classifier's linear layers whose weights are all zero: of other networks than timm's, the last one."""
    model = described(model)
    if not hasattr(model, "get_classifier"):
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
        return [layer for layer in last if not bool(layer.weight.any())]
    classifier = model.get_classifier()  # type: ignore[operator]
    heads = classifier if isinstance(classifier, tuple | list | nn.ModuleList) else [classifier]
    layers = [layer for head in heads if isinstance(head, nn.Module) for layer in head.modules()]
    return [layer for layer in layers if isinstance(layer, nn.Linear) and not bool(layer.weight.any())]


def _random_outputs(head: nn.Linear, args: tuple[torch.Tensor, ...], _: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(0))
    return functional.linear(args[0], noise.to(head.weight.device, head.weight.dtype))


def spatial_layout(
    tensor: torch.Tensor,
    size: tuple[int, int],
    channels: int | None = None,
    prefix_tokens: int | None = None,
    patches: tuple[int, int] | None = None,
    channels_last: bool = False,
) -> SpatialLayout | None:
    """Recognise by its shape how a tensor (1, ...) stores the positions of an image (H, W); None: it stores none.

    Two dimensions with the aspect ratio of the image are the grid, the third is the channels. If that is ambiguous, as
    with equal sides, the attributes of the network decide.

    Args:
        tensor: input or output of a module.
        size: (H, W) in pixels.
        channels: channels of the map according to the network.
        prefix_tokens: number of tokens before the patches according to the network.
        patches: grid (h, w) of its patch embedding.
        channels_last: whether the network declares its maps as (N, h, w, D).

    Returns:
        SpatialLayout; its grid may be (1, 1).
    """
    if tensor.ndim not in (3, 4) or tensor.shape[0] != 1:
        return None
    if tensor.ndim == 4:
        _, a, b, c = tensor.shape
        first, last = _has_aspect((b, c), size), _has_aspect((a, b), size)
        if first and last:
            first = channels == a if channels in (a, c) and a != c else not channels_last
            last = not first
        if first:
            return SpatialLayout("nchw", 0, (b, c))
        return SpatialLayout("nhwc", 0, (a, b)) if last else None
    length = tensor.shape[1]
    if patches is not None and 0 <= length - patches[0] * patches[1] <= _MOST_PREFIX_TOKENS:
        return SpatialLayout("tokens", length - patches[0] * patches[1], patches)
    declared = [] if prefix_tokens is None else [prefix_tokens]
    for prefix in (*declared, *_USUAL_PREFIX_TOKENS):
        grid = _grid_of(length - prefix, size)
        if grid is not None:
            return SpatialLayout("tokens", prefix, grid)
    return None


def _has_aspect(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a grid (h, w) has the aspect ratio of an image (H, W) up to rounding; if square, exactly."""
    (h, w), (height, width) = grid, size
    if h > height or w > width:
        return False
    # Rounding moves a side by less than one position.
    return h == w if height == width else abs(h * width - w * height) < max(height, width)


def _grid_of(tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the grid (h, w) of so many tokens whose aspect ratio is closest to the image's; None: no grid fits."""
    grids = [(h, tokens // h) for h in range(1, tokens + 1) if tokens % h == 0]
    matching = [grid for grid in grids if _has_aspect(grid, size)]
    return min(matching, key=lambda g: abs(g[0] * size[1] - g[1] * size[0]), default=None)


def covers_all_uses(outputs: torch.Tensor, record: TensorRecord, result: Probe) -> bool:
    """Whether the outputs depend on a map only through what an edit of this record's tensor would change.

    An edit of a module's input changes what this module reads. Not so where several modules read the map, as an average
    and a maximum side by side, or one pooling and classifier for each label; nor where nobody reads the module's
    output. An edit of an output changes all that follows, but of a module that returns its input, such as a dropout in
    eval mode, not what reads that input. Tested by gradients: the part that passes there must be the whole.
    """
    first = next(r for r in result.records if _same_memory(r.tensor, record.tensor)).tensor
    behind = record.tensor
    if record.where == "input":
        made = [r.tensor for r in result.records if r.layer == record.layer and r.where == "output"]
        if len(made) != 1 or not made[0].requires_grad:
            return False
        behind = made[0]
    if behind is first or not first.requires_grad:
        return behind is first
    logits = outputs[outputs.isfinite()]  # labels that are masked are minus infinity
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)  # every label counts
    gradients, problem = gradients_of((logits * noise).sum(), [first, behind])
    if problem:
        return True  # the check of the gradient says why
    whole, of_behind = gradients
    if whole is None or of_behind is None:
        return False
    (part,) = torch.autograd.grad(behind, first, of_behind, retain_graph=True, allow_unused=True)
    return part is not None and torch.allclose(part, whole, rtol=1e-3, atol=1e-4 * whole.abs().max().item())


def _same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape
