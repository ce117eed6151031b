"""Find the last feature map of a network that has spatial positions, and how its tensor is laid out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from torchvice.errors import ViceError, brief, did_you_mean, errors_quoted
from torchvice.models.bare import check_finite, described, not_logits
from torchvice.models.probe import (
    WITHOUT_GRADIENTS,
    Layout,
    Probe,
    SpatialLayout,
    TensorRecord,
    covers_all_uses,
    gradients_of,
    probe,
    spatial_layout,
    zero_heads,
)
from torchvice.models.sizes import input_size, patch_grid

__all__ = ["MapSite", "linear_head", "locate", "located", "module_at", "token_grid"]

# Least share of positions and of channels with a nonzero gradient. Below the first a tensor feeds single tokens or a
# maximum, below the second it holds keys and values without queries: it is not the last map.
_LEAST_POSITIONS, _LEAST_CHANNELS = 0.25, 0.9
_LEAST_PRUNED = 0.02  # share of channels that the classifier of a network with pruned weights still reads
_MAX_CANDIDATES = 200
_ATTENTION = re.compile("attn|attention|att(?![a-z])")  # in a module's name; not `attributes`, `pattern`


@dataclass(frozen=True)
class MapSite:
    """The tensor that explanations are made from.

    Args:
        layer: name of the module in the model.
        where: `input` (the first argument) or `output` of the module.
        layout: `nchw` (N, D, h, w), `nhwc` (N, h, w, D) or `tokens` (N, prefix + h w, D).
        prefix_tokens: number of class, distillation and register tokens before the patches.
        stride: pixels (down, across) between two patches; None: the model's patch embedding has them.
        reshape: instead of a layout, a function that rearranges the tensor into (N, D, h, w).
    """

    layer: str
    where: Literal["input", "output"] = "output"
    layout: Layout = "nchw"
    prefix_tokens: int = 0
    stride: tuple[float, float] | None = None
    reshape: Callable[[torch.Tensor], torch.Tensor] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a manifest; a function is given by its name."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["stride"] = None if self.stride is None else list(self.stride)
        if self.reshape is not None:
            module = getattr(self.reshape, "__module__", "?")
            plain["reshape"] = f"{module}.{getattr(self.reshape, '__qualname__', type(self.reshape).__qualname__)}"
        return plain

    def grid(self, image: torch.Tensor) -> tuple[int, int] | None:
        """Return the patch grid (h, w) of images (N, 3, H, W) by the stride; None without a stride."""
        if self.stride is None:
            return None
        # Rounded up, as by strided convolutions and padded patch embeddings.
        down, across = (math.ceil(image.shape[i - 2] / self.stride[i] - 1e-6) for i in (0, 1))
        return down, across

    def to_maps(self, tensor: torch.Tensor, grid: tuple[int, int] | None) -> torch.Tensor:
        """Rearrange the tensor into (N, D, h, w).

        Args:
            tensor: tensor of the layer.
            grid: (h, w) of the patches; needed for tokens only.

        Raises:
            ViceError: the tensor does not have the layout.
        """
        if self.reshape is not None:
            with errors_quoted(f"`reshape` must turn the {tuple(tensor.shape)} of `{self.layer}` into (N, D, h, w)"):
                maps: Any = self.reshape(tensor)
            if not isinstance(maps, torch.Tensor) or maps.ndim != 4 or maps.shape[0] != tensor.shape[0]:
                actual = tuple(maps.shape) if isinstance(maps, torch.Tensor) else type(maps).__name__
                raise ViceError(
                    f"`reshape` must turn the {tuple(tensor.shape)} of `{self.layer}` into (N, D, h, w), "
                    f"but returns {actual}."
                )
            return maps
        if self.layout == "tokens":
            patches = tensor.shape[1] - self.prefix_tokens if tensor.ndim == 3 else -1
            if grid is None or patches != grid[0] * grid[1]:
                found = f"{self.prefix_tokens} + {grid} tokens" if grid else "tokens whose stride its site states"
                raise ViceError(
                    f"`{self.layer}` must return {found}, but returns {tuple(tensor.shape)}.",
                    "Give their layout: Explainer(model, site=MapSite(layer, layout=..., prefix_tokens=..., "
                    "stride=...)).",
                )
            return tensor[:, self.prefix_tokens :].transpose(1, 2).unflatten(2, grid)
        if tensor.ndim != 4:
            raise ViceError(
                f"`{self.layer}` must return a map of four dimensions, but returns shape {tuple(tensor.shape)}.",
                "Choose an earlier layer. Of the tokens of a transformer, in Python: Explainer(model, site=MapSite("
                "layer, layout='tokens', prefix_tokens=..., stride=...)).",
            )
        return tensor.permute(0, 3, 1, 2) if self.layout == "nhwc" else tensor


def module_at(model: nn.Module, name: str) -> nn.Module:
    """Return the module with a name.

    Raises:
        ViceError: no module has the name; the message suggests the closest one.
    """
    modules = dict(model.named_modules())
    if name not in modules or not name:
        raise ViceError(
            f"`layer` must name a module of the model, but is {brief(name)}.",
            did_you_mean(name, [m for m in modules if m]),
        )
    return modules[name]


def locate(model: nn.Module, layer: str | None = None) -> MapSite:
    """Find the last feature map of a network with a random image: one forward pass and short backward passes.

    For transformers with tokens and for Swin it is the output of the last block's first norm, for other networks the
    input of the global pool, or the last tensor with spatial positions. The gradient of the largest logit must reach
    its positions and channels. After the last attention of a network with a class token it does not, so the search
    continues with earlier tensors.

    Args:
        model: the network; it is restored afterwards.
        layer: use the output of this module instead of searching; its gradient is not checked.

    Raises:
        ViceError: no tensor of the network has more than one position and a gradient; the message gives the reason.

    References:
        The layers for ViT and Swin are those of pytorch-grad-cam's documentation.
    """
    return located(model, layer)[0]


def located(model: nn.Module, layer: str | None = None) -> tuple[MapSite, torch.Tensor | None]:
    """Return what `locate` does, and the logits (1, M) of the same pass; None: it gives none.

    Raises:
        ViceError: as `locate`.
    """
    result = probe(model, input_size(model), gradients=layer is None)
    given = result.outputs
    logits = given.detach() if isinstance(given, torch.Tensor) and given.ndim == 2 else None
    if layer is not None:
        outputs = [record for record in result.records if record.layer == layer and record.where == "output"]
        layout = layout_of(model, outputs[-1].tensor, result.size) if outputs else None
        return MapSite(layer) if layout is None else site_of(outputs[-1], layout, result.size), logits
    with torch.inference_mode(False), torch.enable_grad():
        return _first_with_gradient(model, result), logits


def _first_with_gradient(model: nn.Module, result: Probe) -> MapSite:
    """Return the first candidate that the gradient of the largest logit reaches."""
    score = _largest_logit(model, result.outputs)
    if not score.requires_grad:
        raise ViceError(
            f"{type(model).__name__} must have logits with a gradient, but they have none: its forward runs without "
            "gradients (no_grad, inference_mode, quantised layers, NumPy), or detaches what they are made of.",
            WITHOUT_GRADIENTS,
        )
    single, refused = "", ""
    for record in [*_of_swin(model, result), *_candidates(model, result)]:
        layout = layout_of(model, record.tensor, result.size)
        if layout is None:
            continue
        if layout.grid == (1, 1):
            single = single or record.layer
            continue
        if not covers_all_uses(result.outputs, record, result):
            continue
        site = site_of(record, layout, result.size)
        reason = _gradient_problem(score, record.tensor, site, layout.grid)
        if not reason:
            return site
        refused = refused or f"at `{record.layer}` {reason}"
    if not refused and single:
        refused = f"from `{single}` on its maps have a single position, and no earlier one has the image's aspect ratio"
    check_finite(model)
    reason = refused or _runs_often(model, result) or "none of its modules returns one"
    raise ViceError(
        f"{type(model).__name__} must have a map that its logits depend on, but {reason}.",
        WITHOUT_GRADIENTS
        if reason.endswith("there is no gradient") or "raises" in reason
        else "Name the layer: layer='...', or site=MapSite(layer, layout=..., ...) if its output is not (N, D, h, w).",
    )


def _runs_often(model: nn.Module, result: Probe) -> str:
    """Why no candidate was found, if a module that returns a map runs several times; "" if none does."""
    for record in reversed(result.records):
        runs = result.calls[record.layer]
        if record.where == "output" and runs > 1 and _positions(layout_of(model, record.tensor, result.size)) > 1:
            return f"`{record.layer}`, which returns one, runs {runs} times for an image (named, the last counts)"
    return ""


def _largest_logit(model: nn.Module, outputs: Any) -> torch.Tensor:
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or not outputs.is_floating_point():
        raise not_logits(model, outputs)
    largest = outputs.amax()
    if not bool(torch.isfinite(largest.detach())):
        check_finite(model)
        bad = int((~torch.isfinite(outputs.detach())).sum())
        raise ViceError(
            f"{type(model).__name__} must return finite logits, but {bad} of {outputs.numel()} are NaN or infinite for "
            "a random image, although its weights are finite.",
            "Look in its forward for a division by zero, a logarithm of zero or an overflow. A model in float16 may "
            "need float32: model.float().",
        )
    return largest


def _of_swin(model: nn.Module, result: Probe) -> list[TensorRecord]:
    """Return the output of Swin's last norm1, as in the literature, although a later map is pooled.

    By the block, which timm and torchvision name alike. Their Swin V2 has other blocks, whose norm1 is after attention.
    """
    norms = {"SwinTransformerBlock": "norm1", "SwinLayer": "layernorm_before"}  # the second in transformers
    names = [f"{name}.{norms[kind]}" for name, m in model.named_modules() if (kind := type(m).__name__) in norms]
    return [r for r in result.records if r.where == "output" and r.layer in names[-1:]]


def _candidates(model: nn.Module, result: Probe) -> Iterator[TensorRecord]:
    """Yield the input of the global pool, then the outputs of modules, the last one first.

    Outputs, because a hook on one covers all its uses; an input, or what a module passes through, may be one use of
    several, see `covers_all_uses`. Modules that run twice have no single tensor. Inside an attention, queries, keys and
    values only look like maps.
    """
    every = [
        (index, record, layout)
        for index, record in enumerate(result.records)
        if record.where == "output"
        and result.calls[record.layer] == 1
        and record.tensor.requires_grad
        and (layout := layout_of(model, record.tensor, result.size)) is not None
    ]
    outside = [one for one in every if not _ATTENTION.search(one[1].layer)]
    # A network that is itself called an attention has no map outside of one.
    outputs = outside if any(_positions(layout) > 1 for *_, layout in outside) else every
    spatial = [index for index, _, layout in outputs if _positions(layout) > 1]
    pool = _pool(model, result, spatial[-1] if spatial else -1)
    if pool is not None:
        yield pool
    yield from [record for _, record, _ in outputs[::-1]][:_MAX_CANDIDATES]


def _positions(layout: SpatialLayout | None) -> int:
    return 0 if layout is None else layout.grid[0] * layout.grid[1]


def _pool(model: nn.Module, result: Probe, after: int) -> TensorRecord | None:
    """Return the input of the first module after record `after` that reduces a map to one position, or contains it."""
    containers = []
    for index in range(after + 1, len(result.records)):
        record = result.records[index]
        layout = layout_of(model, record.tensor, result.size)
        if record.where != "input" or layout is None or _positions(layout) < 2 or result.calls[record.layer] > 1:
            continue
        outputs = [r.tensor for r in result.records[index:] if r.layer == record.layer and r.where == "output"]
        channels = record.tensor.shape[1 if layout.layout == "nchw" else -1]
        if outputs and outputs[0].numel() == channels:
            return record
        if outputs and (outputs[0].ndim == 2 or _positions(layout_of(model, outputs[0], result.size)) == 1):
            containers.append(record)
    return containers[0] if containers else None


def layout_of(model: nn.Module, tensor: torch.Tensor, size: tuple[int, int]) -> SpatialLayout | None:
    """Recognise a tensor's layout with the help of the attributes of timm's networks."""
    model = described(model)
    numbers = (getattr(model, name, None) for name in ("num_features", "num_prefix_tokens"))
    channels, prefix = (number if isinstance(number, int) else None for number in numbers)
    channels_last = str(getattr(model, "output_fmt", "")).upper().endswith("NHWC")
    return spatial_layout(tensor, size, channels, prefix, patch_grid(model, size), channels_last)


def site_of(record: TensorRecord, layout: SpatialLayout, size: tuple[int, int]) -> MapSite:
    """The site of a recorded tensor that is laid out so, for images of this size."""
    stride = (size[0] / layout.grid[0], size[1] / layout.grid[1]) if layout.layout == "tokens" else None
    return MapSite(record.layer, record.where, layout.layout, layout.prefix_tokens, stride)


def _gradient_problem(score: torch.Tensor, tensor: torch.Tensor, site: MapSite, grid: tuple[int, int]) -> str:
    """Say why the logit does not depend on the tensor's positions and channels; "" if it does."""
    if not tensor.requires_grad:
        return "there is no gradient"
    gradients, problem = gradients_of(score, [tensor])
    gradient = gradients[0] if gradients else None
    if gradient is None:
        return problem or "there is no gradient"
    gradient = site.to_maps(gradient, grid).float()
    if not bool(torch.isfinite(gradient).all()):
        return "the gradient is not finite"
    nonzero = gradient[0] != 0
    positions, channels = nonzero.any(0).float().mean().item(), nonzero.flatten(1).any(1).float().mean().item()
    if positions < _LEAST_POSITIONS:
        return f"the gradient of a logit is zero at {1 - positions:.0%} of the positions"
    if site.where == "input" and channels >= _LEAST_PRUNED:  # of a global pool: there are no keys and values
        channels = 1.0
    if channels < _LEAST_CHANNELS:
        return f"the gradient of a logit is zero in {1 - channels:.0%} of the channels"
    activation = site.to_maps(tensor.detach(), grid).flatten(2)
    # All zero is possible with untrained weights; any other constant is a pooled vector, expanded again.
    constant = bool(activation.any()) and bool((activation == activation[..., :1]).all())
    return "the activations are the same at every position" if constant else ""


def token_grid(model: nn.Module, image: torch.Tensor, site: MapSite | None = None) -> tuple[int, int] | None:
    """Return the patch grid (h, w) of images (N, 3, H, W), by the site's stride if it has one, else by the patches.

    None for a network without patch embedding, and for a site that is not of tokens.
    """
    if site is not None and site.layout != "tokens":
        return None
    by_stride = None if site is None else site.grid(image)
    return by_stride or patch_grid(model, (image.shape[-2], image.shape[-1]))


def _is_outputs(tensor: torch.Tensor, outputs: Any) -> bool:
    """Whether a tensor is the network's outputs, or the same numbers in another shape: a squeezed head."""
    if not isinstance(outputs, torch.Tensor) or tensor.numel() != outputs.numel():
        return tensor is outputs
    return tensor.data_ptr() == outputs.data_ptr()


def linear_head(model: nn.Module, site: MapSite) -> nn.Linear | None:
    """Return the linear classifier if it makes the logits of exactly the mean of the map over its positions, else None.

    Tested with a random image: a max pool, a norm or a further layer between the map and the classifier fails, and so
    does a classifier with another forward than `nn.Linear`. Class activation mapping is exact only if the test passes.

    References:
        Zhou et al., Learning deep features for discriminative localization, CVPR 2016.
    """
    if site.layout == "tokens":
        return None
    try:
        result = probe(model, input_size(model), gradients=False)
    except ViceError:
        return None
    maps = [r for r in result.records if r.layer == site.layer and r.where == site.where and r.intact]
    heads = [r.layer for r in result.records if r.where == "output" and _is_outputs(r.tensor, result.outputs)]
    linear = [name for name in heads if isinstance(module_at(model, name), nn.Linear)]
    if not maps or not linear:
        return None
    (pooled, *_) = [r.tensor for r in result.records if r.layer == linear[0] and r.where == "input"]
    try:
        mean = site.to_maps(maps[-1].tensor, None).mean((2, 3))
    except ViceError:
        return None
    head = module_at(model, linear[0])
    if not isinstance(head, nn.Linear) or mean.shape != pooled.shape or not _close(mean.to(pooled.dtype), pooled):
        return None
    # By the probe a classifier of zeros has random outputs.
    return head if head in zero_heads(model) or _is_linear(head, pooled, result.outputs) else None


def _is_linear(head: nn.Linear, pooled: torch.Tensor, outputs: torch.Tensor) -> bool:
    """Whether the outputs are those of the head's weights: a subclass may compute more, a step in place may follow."""
    try:
        expected = functional.linear(pooled.to(head.weight.dtype), head.weight, head.bias)
        return _close(expected.to(outputs.dtype), outputs)
    except RuntimeError:  # weights of another shape, packed in four bits
        return False


def _close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found.flatten(), expected.flatten(), rtol=1e-3, atol=1e-4)
