"""Read BYOL's checkpoints, pickles of Haiku parameters, without Haiku, JAX or dill and without running code."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torchvice.errors import ViceError
from torchvice.files import read_pickle
from torchvice.models.schemes import Encoder

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["read_byol"]

# Haiku's immutable mappings in all its versions, and the named tuples of BYOL and of its optimiser.
_MAPPINGS = r"haiku\..*:(FlatMapping|FlatMap|frozendict|to_immutable_dict|FlatComponents)"
_TUPLES = r"(.*\.)?(byol_experiment|eval_experiment|__main__|optimizers|transform|_src\..*):_?\w*State"
_ARRAYS = r"jax\..*:_?reconstruct\w*array|dill\._dill:_create_array"

_LAYERS = {"conv_0": "conv1", "conv_1": "conv2", "conv_2": "conv3", "shortcut_conv": "downsample.0"}
_LAYERS |= {"batchnorm_0": "bn1", "batchnorm_1": "bn2", "batchnorm_2": "bn3", "shortcut_batchnorm": "downsample.1"}
_LAYERS |= {"initial_conv": "conv1", "initial_batchnorm": "bn1"}
_PARAMETERS = {"w": "weight", "scale": "weight", "offset": "bias"}
_STATISTICS = {"mean_ema": "running_mean", "var_ema": "running_var"}


def _kind(module: str, name: str) -> str | None:
    """Return the kind of a class in the pickle: mapping, tuple or array; None: refused."""
    path = f"{module}:{name}"
    if path == "dill._dill:_create_namedtuple":
        return "named tuple"
    for pattern, kind in ((_MAPPINGS, "mapping"), (_ARRAYS, "array"), (_TUPLES, "tuple")):
        if re.fullmatch(pattern, path):
            return kind
    return None


def read_byol(path: str | os.PathLike[str]) -> Encoder:
    """Load the online ResNet of a BYOL checkpoint under timm's names, without projector, predictor and classifier.

    Args:
        path: a pickle of {experiment_state: (online_params, target_params, online_state, target_state, ...), ...}.

    Raises:
        ViceError: no such file, a damaged one, a pickle of anything but arrays and containers, or no ResNet.
    """
    content = read_pickle(path, "The BYOL checkpoint", _kind)
    state = content.get("experiment_state") if isinstance(content, Mapping) else None
    if isinstance(state, Mapping):
        parameters, statistics = state.get("online_params"), state.get("online_state")
    elif isinstance(state, tuple) and len(state) >= 3:
        parameters, _, statistics = state[:3]
    else:
        parameters = statistics = None
    if not isinstance(parameters, Mapping) or not isinstance(statistics, Mapping):
        raise ViceError(
            f"The BYOL checkpoint {path} must hold `experiment_state` with the online network's parameters and "
            "state, but does not.",
            "Expected: a file of deepmind-research/byol, such as pretrain_res50x1.pkl.",
        )
    tensors: dict[str, torch.Tensor] = {}
    left: list[str] = []
    for module, values in (*parameters.items(), *statistics.items()):
        for name, value in values.items():
            target = _timms_name(str(module), str(name))
            if target:
                tensors[target] = _tensor(value, name == "w")
            elif not re.search(r"_ema$", str(module)) or name == "average":
                left.append(f"{module}.{name}")
    if "conv1.weight" not in tensors:
        raise ViceError(f"The BYOL checkpoint {path} must hold a ResNet, but has no initial_conv.")
    return Encoder("byol", tensors, tuple(left))


def _timms_name(module: str, name: str) -> str:
    """Translate `res_net50/~/block_group_0/~/block_1/~/conv_0`, `w` to `layer1.1.conv1.weight`; "": no part of it."""
    words = [word for word in module.split("/") if word != "~"]
    if not words[0].startswith("res_net"):
        return ""
    place = ""
    if len(words) > 2 and words[1].startswith("block_group_"):
        place = f"layer{int(words[1].rpartition('_')[2]) + 1}.{int(words[2].rpartition('_')[2])}."
        words = words[2:]
    layer = _LAYERS.get(words[1]) if len(words) > 1 else None
    if layer is None:
        return ""
    if len(words) > 2:
        statistic = _STATISTICS.get(words[2])
        return f"{place}{layer}.{statistic}" if statistic and name == "average" else ""
    return f"{place}{layer}.{_PARAMETERS[name]}" if name in _PARAMETERS else ""


def _tensor(value: np.ndarray, kernel: bool) -> torch.Tensor:
    """Convert kernels from (h, w, in, out) to (out, in, h, w); scales and statistics from (1, 1, 1, D) to (D,)."""
    import torch

    tensor = torch.from_numpy(value.copy())
    return tensor.permute(3, 2, 0, 1).contiguous() if kernel else tensor.reshape(-1)
