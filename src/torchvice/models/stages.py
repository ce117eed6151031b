"""Stages: where a convolutional network has its last map of each size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.models.families import MapSite, layout_of, site_of
from torchvice.models.probe import Probe, SpatialLayout, TensorRecord, covers_all_uses, gradients_of, probe
from torchvice.models.sizes import input_size

__all__ = ["stages"]

_known: WeakKeyDictionary[nn.Module, dict[tuple[MapSite, int], tuple[MapSite, ...]]] = WeakKeyDictionary()


def stages(model: nn.Module, site: MapSite, count: int) -> tuple[MapSite, ...]:
    """The last maps of the stages before a site, and the site: `count` sizes, the finest first.

    The last map of a stage is the output, of this size, of the outermost module that gives one; of several the latest.
    So `layer3` counts in a ResNet, not the first convolution of `layer4`, which is of the same size. A module that runs
    several times a pass has several maps, and is left out, and so is one of several readers of a map that returns it as
    it is, such as a dropout.

    Args:
        model: the network, of which a pass is made; the answer is remembered.
        site: the coarsest map, such as `locate` finds it.
        count: of sizes, at least one.

    Raises:
        ViceError: fewer sizes, or tokens at the site, as in transformers.

    Example:
        >>> import timm
        >>> from torchvice.models.families import locate
        >>> model = timm.create_model("resnet18")
        >>> [stage.layer for stage in stages(model, locate(model), 3)]
        ['layer2', 'layer3', 'global_pool']
    """
    known = _known.setdefault(model, {})
    if (site, count) not in known:
        with torch.inference_mode(False), torch.enable_grad():
            known[site, count] = _found(model, site, count)
    return known[site, count]


def _found(model: nn.Module, site: MapSite, count: int) -> tuple[MapSite, ...]:
    if site.layout == "tokens":
        raise ViceError(
            f"The network must have maps of {count} sizes, but {type(model).__name__} has tokens at `{site.layer}`.",
            "A method of one layer: method='layercam'.",
        )
    result = probe(model, input_size(model))
    sites = list(itertools.islice(_before(model, result, site), count - 1))[::-1]
    if len(sites) < count - 1:
        raise ViceError(
            f"The network must have maps of {count} sizes, but {type(model).__name__} has {len(sites) + 1} up to "
            f"`{site.layer}`.",
            "A method of one layer: method='layercam'.",
        )
    return (*sites, site)


def _before(model: nn.Module, result: Probe, site: MapSite) -> Iterator[MapSite]:
    """Yield the last map of each finer size than the site's, the coarsest first."""
    at = [place for place, one in enumerate(result.records) if (one.layer, one.where) == (site.layer, site.where)]
    own = layout_of(model, result.records[at[-1]].tensor, result.size) if at else None
    by_size: dict[tuple[int, int], list[tuple[TensorRecord, SpatialLayout]]] = {}
    if own is not None:
        for record, layout in _maps(model, result, at[-1])[::-1]:  # the latest first
            if all(mine > other for mine, other in zip(layout.grid, own.grid, strict=True)):
                by_size.setdefault(layout.grid, []).append((record, layout))
    for grid in sorted(by_size):
        outermost = sorted(by_size[grid], key=lambda one: one[0].layer.count("."))
        covering = (one for one in outermost if covers_all_uses(result.outputs, one[0], result))
        yield from (site_of(*one, result.size) for one in itertools.islice(covering, 1))


def _maps(model: nn.Module, result: Probe, end: int) -> list[tuple[TensorRecord, SpatialLayout]]:
    """The maps before a record that a logit depends on, with their layouts.

    Tables of positions have a layout, too, but no gradient: they do not depend on the image.
    """
    found = []
    for record in result.records[:end]:
        layout = layout_of(model, record.tensor, result.size) if record.where == "output" else None
        if layout is None or layout.layout == "tokens" or result.calls[record.layer] > 1:
            continue
        if record.tensor.requires_grad and not _is_attention(record.tensor):
            found.append((record, layout))
    gradients, problem = gradients_of(result.outputs.flatten()[0], [record.tensor for record, _ in found])
    return found if problem else [one for one, slope in zip(found, gradients, strict=True) if slope is not None]


def _is_attention(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds weights of attention, which have as many rows as there are tokens, and no places."""
    return bool((tensor >= 0).all()) and torch.allclose(tensor.sum(-1), tensor.new_ones(()), atol=1e-3)
