"""The same network with random weights: what its architecture alone makes of an image."""

from __future__ import annotations

import copy

import torch
from torch import nn

from torchvice.errors import ViceError

__all__ = ["randomised"]


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with random weights, on the model's device; the model and the global random state stay as they were.

    Every module that can is set back to its initialisation (`reset_parameters`; a batch norm forgets its statistics
    too). Parameters of the others with two or more dimensions, such as embeddings of places, are shuffled: they keep
    their values, and lose their order. So are those that `reset_parameters` does not reach, as in pruned layers
    (`weight_orig`). All are drawn on the CPU, so that the weights do not depend on the device.

    Raises:
        ViceError: no weights that could be drawn, as in quantised networks; or a module whose `forward` is a function
            of the caller's, which would still run the caller's modules.

    References:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
    """
    _check(model)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    made = copy.deepcopy(model).cpu()
    generator, beside = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    state = torch.random.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        with torch.no_grad():
            for module in made.modules():
                reset = getattr(module, "reset_parameters", None)
                own = [parameter for parameter in module.parameters(recurse=False) if parameter.ndim >= 2]
                if not callable(reset):
                    _shuffle(own, generator)
                    continue
                before = [parameter.clone() for parameter in own]
                reset()
                _shuffle([p for p, old in zip(own, before, strict=True) if torch.equal(p, old)], beside)
    finally:
        torch.random.set_rng_state(state)
    return made.to(device)


def _shuffle(parameters: list[nn.Parameter], generator: torch.Generator) -> None:
    for parameter in parameters:
        order = torch.randperm(parameter.numel(), generator=generator)
        parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))


def _check(model: nn.Module) -> None:
    way_out = "Leave this control out: --controls cheap."
    if not any(parameter.ndim >= 2 for parameter in model.parameters()):
        raise ViceError("The control random_weights must draw weights, but the network has no parameters.", way_out)
    for name, module in model.named_modules():
        forward = vars(module).get("forward")
        if forward is not None and getattr(forward, "__self__", None) is not module:
            raise ViceError(
                f"The control random_weights must copy the network, but `{name or type(module).__name__}` has a "
                "forward that was assigned to it, and a copy would still run the modules that this function knows.",
                f"Write the forward in the class. {way_out}",
            )
