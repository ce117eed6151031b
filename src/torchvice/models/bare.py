"""The network inside its wrappers, and what it needs of its input: type, device and channels."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from torchvice.errors import ViceError

__all__ = [
    "bare",
    "check_finite",
    "described",
    "input_channels",
    "input_like",
    "is_finite",
    "logits_in",
    "non_finite",
    "non_finite_of",
    "not_logits",
    "refuse_non_finite",
    "refuse_other_types",
    "stated",
    "what_holds",
]

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)


def bare(model: Any) -> nn.Module:
    """Return the network without the wrappers of torch.compile, DataParallel, DDP and AveragedModel, also inside it.

    It shares all parameters and inner modules with `model`, so that its layers have the names of the unwrapped network.

    Raises:
        ViceError: not a module, or one that cannot be run with hooks: scripted, exported, or without data.
    """
    if not isinstance(model, nn.Module):
        kind = getattr(model, "__name__", None) if callable(model) else None
        came = (
            f"the {'class' if isinstance(model, type) else 'function'} {kind}" if kind else f"a {type(model).__name__}"
        )
        way_out = "Build it and give the module, for example timm.create_model(NAME)."
        if isinstance(model, Mapping):
            way_out = "Build the network, load its weights with model.load_state_dict, and give the network."
        elif came == "a ExportedProgram":
            way_out = "Give the module that was exported."
        elif callable(model):
            way_out = "Call it, if it builds the module; else give the module that it calls."
        raise ViceError(f"The model must be a torch.nn.Module, but is {came}.", way_out)
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            message = "The model must support hooks, but a scripted model does not."
            raise ViceError(message, "Give the unscripted model.")
        if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):
            message = "The model must support hooks and eval(), but a model of torch.export does not."
            raise ViceError(message, "Give the module that was exported.")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise ViceError(f"The model must be initialised, but `{name}` is not.", "Run it once on an image.")
        if tensor.is_meta:
            message = f"The model must have weights, but `{name}` is on the meta device."
            raise ViceError(message, "Build the model on the CPU, and load its weights.")
        if tensor.is_inference():
            message = f"The model must allow gradients, but `{name}` was made under torch.inference_mode."
            raise ViceError(message, "Build or load the model outside of it; torch.no_grad can be used.")
    return _unwrapped(model)


def _with_own_forward(model: nn.Module) -> nn.Module:
    """The module, or a copy without the compiled function that `model.forward = torch.compile(model.forward)` puts."""
    original = getattr(vars(model).get("forward"), "_torchdynamo_orig_callable", None)
    if original is None:
        return model
    model = copy.copy(model)
    if getattr(original, "__func__", None) is type(model).forward:
        del model.forward
    else:
        model.forward = original
    return model


def _unwrapped(model: nn.Module) -> nn.Module:
    while True:
        original = model.module if isinstance(model, _PARALLEL) else getattr(model, "_orig_mod", None)
        if not isinstance(original, nn.Module):
            break
        model = original
    model = _with_own_forward(model)
    children = {name: None if child is None else _unwrapped(child) for name, child in model._modules.items()}
    if all(children[name] is child for name, child in model._modules.items()):
        return model
    model = copy.copy(model)  # the caller's module keeps its wrappers
    model._modules = children
    return model


def described(model: nn.Module) -> nn.Module:
    """Return the part that describes itself: the model, or the only such network in one or two modules around it.

    Those are timm's networks, and torchvision's and transformers' with an input size of their own. So input size, mean
    and std do not depend on a module that the user wraps around the network.
    """
    level = [model]
    for _ in range(3):
        networks = [module for module in level if _is_timm(module) or stated(module, "image_size") is not None]
        if networks:
            return networks[0] if len(networks) == 1 else model
        level = [child for module in level for child in module.children()]
    return model


def _is_timm(module: nn.Module) -> bool:
    return not {"pretrained_cfg", "default_cfg"}.isdisjoint(vars(module))


def stated(module: nn.Module, name: str) -> int | tuple[int, ...] | None:
    """Return a size that a network of torchvision has as an attribute, or one of transformers in its configuration.

    Args:
        module: the network itself; timm's networks are described elsewhere.
        name: `image_size` or `patch_size`.

    Returns:
        Pixels, one number or (down, across); None: not stated.
    """
    config = vars(module).get("config")
    # An attribute of a user's own module may mean anything.
    of_torchvision = any(kind.__module__.startswith("torchvision.models") for kind in type(module).__mro__)
    holder = config if isinstance(getattr(config, "model_type", None), str) else module if of_torchvision else None
    holder = holder if hasattr(holder, name) else getattr(holder, "vision_config", None)
    value = getattr(holder, name, None)
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return tuple(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def input_like(model: nn.Module) -> torch.Tensor:
    """Return an empty tensor of the device and floating-point type of the model's weights, and so of its images."""
    with_weights = next(model.parameters(), None) is not None
    first: torch.Tensor = next(model.parameters() if with_weights else model.buffers(), torch.empty(0))
    tensors: Iterator[torch.Tensor] = model.parameters() if with_weights else model.buffers()
    dtypes = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
    return torch.empty(0, device=first.device, dtype=next(dtypes, torch.float32))


def input_channels(model: nn.Module) -> int:
    """Return the number of channels of the images that the model accepts, by its first convolution; else 3."""
    first = next((m for m in described(model).modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None)
    return first.in_channels if isinstance(first, nn.Conv2d) else 3


def non_finite(model: nn.Module) -> list[str]:
    """Return the names of the parameters and buffers that hold NaN or infinity; see `is_finite`."""
    buffers = dict(model.named_buffers())
    return non_finite_of({**dict(model.named_parameters()), **buffers}, buffers)


def non_finite_of(tensors: Mapping[str, torch.Tensor], buffers: Collection[str]) -> list[str]:
    """Return the names of a network's tensors that hold NaN or infinity; `buffers` are the names of its buffers."""
    return [name for name, value in tensors.items() if not is_finite(value, name if name in buffers else None)]


def is_finite(tensor: torch.Tensor, buffer: str | None = None) -> bool:
    """Whether a tensor of a network holds neither NaN nor infinity.

    Args:
        tensor: of any type; integers are finite.
        buffer: its name if it is a buffer and no parameter: a mask of attention holds -infinity where nothing is seen,
            running statistics never do.
    """
    if not tensor.is_floating_point():
        return True
    masking = buffer is not None and not buffer.rpartition(".")[2].startswith("running_")
    values = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    return bool((torch.isfinite(values) | torch.isneginf(values) if masking else torch.isfinite(values)).all())


def check_finite(model: nn.Module) -> None:
    """Check that no parameter and no running statistic is NaN or infinite.

    Raises:
        ViceError: one is; the message has its name.
    """
    refuse_non_finite(non_finite(model), "of the model")


def refuse_non_finite(names: Sequence[str], where: str) -> None:
    """Refuse weights if some tensors hold NaN or infinity.

    Args:
        names: of these tensors.
        where: whose weights, for the message: "of the model", or the file.

    Raises:
        ViceError: `names` is not empty.
    """
    if names:
        raise ViceError(
            f"The weights {where} must be finite, but {what_holds(names)} NaN or infinity.",
            "Use an earlier checkpoint, from before its training diverged.",
        )


def refuse_other_types(model: nn.Module, tensors: Mapping[str, torch.Tensor], path: str) -> None:
    """Refuse integers, complex numbers and sparse tensors for floating-point parameters: copying would change them.

    Raises:
        ViceError: a tensor is one; the message has its name.
    """
    for name, own in model.named_parameters():
        value = tensors.get(name, own)
        if own.is_floating_point() and not (value.is_floating_point() and value.layout == own.layout):
            came = str(value.dtype if value.layout == own.layout else value.layout).removeprefix("torch.")
            raise ViceError(
                f"The weights {path} must be dense floating-point numbers, but `{name}` is {came}.",
                "Give the file from before it was quantised or made sparse.",
            )


def what_holds(names: Sequence[str]) -> str:
    """The first of some tensors, how many more there are, and the verb.

    Example:
        >>> what_holds(["fc.weight"]), what_holds(["a", "b", "c"])
        ('`fc.weight` holds', '`a` and 2 further tensors hold')
    """
    return f"`{names[0]}`" + (f" and {len(names) - 1} further tensors hold" if len(names) > 1 else " holds")


def logits_in(outputs: Any, n: int | None = None) -> Any:
    """Return the logits in what a model returns: its tensor, its `logits`, or the only (N, C) tensor of a tuple.

    Args:
        outputs: what the model returns.
        n: number of images; one logit an image, (N,), becomes (N, 1), and (C,) of a single image (1, C). None: no shape
            is changed, nor is that of whole numbers.
    """
    if isinstance(outputs, torch.Tensor):
        scores = outputs.is_floating_point()  # whole numbers are no logits, and are named as they came
        if n is not None and scores and outputs.ndim < 2 and (n == 1 or outputs.numel() == n):
            return outputs.reshape(n, -1)
        return outputs
    inner = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if isinstance(inner, torch.Tensor):
        return logits_in(inner, n)
    if isinstance(outputs, tuple | list):
        matrices = [value for value in outputs if _is_matrix(value)]
        if len(matrices) == 1:
            return matrices[0]
    return outputs


def _is_matrix(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 2


def not_logits(model: nn.Module, outputs: Any) -> ViceError:
    """Return the error for outputs that are not logits (N, C)."""
    way_out = (
        "Wrap it in a module whose forward returns the tensor of logits, or name it: --output NAME (output='NAME')."
    )
    if isinstance(outputs, torch.Tensor):
        came = f"shape {tuple(outputs.shape)}"
        way_out = "Wrap it in a module whose forward returns one logit an image and class, or give another model."
        if not outputs.is_floating_point():
            came = f"{str(outputs.dtype).removeprefix('torch.')} of {came}"
            way_out = "Let its forward return the floating-point scores, before argmax or rounding."
    else:
        keys = f" of {', '.join(map(str, list(outputs)[:5]))}" if isinstance(outputs, Mapping) else ""
        came = f"{type(outputs).__name__}{keys}"
        if isinstance(outputs, tuple | list) and any(map(_is_matrix, outputs)):
            shapes = " or ".join(f"{n}: {tuple(one.shape)}" for n, one in enumerate(outputs) if _is_matrix(one))
            way_out = f"{way_out.rstrip('.')}, here {shapes}."
    return ViceError(f"{type(model).__name__} must return logits (N, C), but returns {came}.", way_out)
