"""Sweep: one small member of every module of timm, explained; the page that says which networks work, and where.

`python -m torchvice.explain.sweep` prints that page, docs/networks.md.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchvice.errors import ViceError, did_you_mean
from torchvice.explain.engine import Explainer, Explanation
from torchvice.models.build import classifier_names
from torchvice.models.families import MapSite, input_size

__all__ = ["Row", "judge", "page", "small_member", "sweep"]

CLASSES = 10
# Two images, several labels each: at random weights some maps are zero after their ReLU, and rightly so.
LABELS = ((0, 1, 2), (3, 4, 5))
_LARGEST, _SHRUNK = 300, 224
# Relative to the largest value: less is rounding.
_SAME = 1e-4


@dataclass(frozen=True)
class Row:
    """What the sweep found of a module of timm.

    `network` the member that was tried, "" if there is none; `image` the side in pixels; `method` what "auto" picks and
    `site` where; `grid` (h, w) of the map; `reason` why it is not supported, "" if it is; `seconds` it took.
    """

    module: str
    network: str = ""
    image: int = 0
    method: str = ""
    site: MapSite | None = None
    grid: tuple[int, int] = (0, 0)
    reason: str = ""
    seconds: float = 0.0

    @property
    def supported(self) -> bool:
        """Whether the maps say something."""
        return not self.reason


def sweep(modules: Sequence[str] | None = None, progress: Callable[[Row], None] | None = None) -> list[Row]:
    """Explain one small member, at random weights, of each module of timm.

    Args:
        modules: names of timm's modules; None: all of `timm.list_modules()`.
        progress: told every row when it is there.

    Raises:
        ViceError: an unknown module. A network that fails is a row with its reason, never left out.
    """
    import timm

    known = timm.list_modules()
    rows = []
    for module in known if modules is None else modules:
        if module not in known:
            raise ViceError(f"A module must be one of timm's, but is {module!r}.", did_you_mean(module, known))
        network = small_member(module)
        row = judge(module, network) if network else Row(module, reason="no member is a classifier")
        rows.append(row)
        if progress is not None:
            progress(row)
        gc.collect()
    return rows


def small_member(module: str) -> str:
    """The network of a timm module with the least parameters times pixels; "" if none is a classifier.

    They are built without memory (on torch's meta device). timm's own miniatures for tests are left out, since nobody
    uses them.
    """
    import timm

    best, least = "", float("inf")
    for name in timm.list_models(module=module):
        if name.startswith("test_"):
            continue
        try:
            with torch.device("meta"):
                model = timm.create_model(name, num_classes=CLASSES)
        except Exception:  # a constructor that needs real numbers: judged by the members that do not
            continue
        cost = sum(parameter.numel() for parameter in model.parameters()) * _side(name) ** 2
        if cost < least and classifier_names(model):
            best, least = name, cost
    return best or _first_classifier(timm.list_models(module=module))


def _first_classifier(names: Sequence[str]) -> str:
    import timm

    published = [name for name in names if (config := timm.get_pretrained_cfg(name)) and config.num_classes]
    return min(published, key=_side, default="")


def _side(name: str) -> int:
    import timm

    config = timm.get_pretrained_cfg(name)
    return 224 if config is None else int(config.input_size[-1])


def judge(module: str, network: str) -> Row:
    """Explain two random images with a network at random weights, several labels each, and judge the maps.

    Supported means: all maps are finite and have more than one place, not all of them are zero after their ReLU, they
    vary over the places, and those of two labels differ. The caller's random state comes back as it was.
    """
    began = time.perf_counter()
    image = 0
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _built(network)
        size = input_size(model)
        image = size[1]
        explainer = Explainer(model)
        images = torch.randn((len(LABELS), 3, *size), generator=torch.Generator().manual_seed(1))
        found = explainer(images, LABELS)
    except Exception as error:  # any failure of any network is a row of the table
        reason = error.message if isinstance(error, ViceError) else f"{type(error).__name__}: {error}"
        return Row(module, network, image, reason=" ".join(reason.split()), seconds=time.perf_counter() - began)
    grid = (found.maps.shape[1], found.maps.shape[2])
    seconds = time.perf_counter() - began
    return Row(module, network, image, explainer.method, explainer.site, grid, _fault(found), seconds)


def _built(network: str) -> nn.Module:
    """The network with random weights; one for large images is built for smaller ones, if its family allows it.

    Weights that start at zero (classifiers and last norms of some families) would hide the rest: matrices get noise,
    norms one.
    """
    import timm

    attempts: list[dict[str, Any]] = [{}]
    if _side(network) > _LARGEST:
        smaller = {"pretrained_cfg_overlay": {"input_size": (3, _SHRUNK, _SHRUNK)}}
        attempts = [{**smaller, "img_size": _SHRUNK}, smaller, {}]
    for number, arguments in enumerate(attempts):
        try:
            model: nn.Module = timm.create_model(network, num_classes=CLASSES, **arguments)
            break
        except TypeError:  # no such argument
            if number + 1 == len(attempts):
                raise
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("bias") and not bool(parameter.any()):
                parameter.normal_(std=0.02) if parameter.ndim > 1 else parameter.fill_(1.0)
    return model


def _fault(found: Explanation) -> str:
    """What is wrong with the maps; empty: nothing."""
    maps = found.maps
    if not bool(torch.isfinite(maps).all()):
        return "the maps are not finite"
    if maps[0].numel() < 2:
        return "the maps have a single place"
    if "ok" not in found.status:
        return f"the maps are {' and '.join(sorted(set(found.status)))} for every label"
    size = maps.abs().amax((1, 2))
    spread = maps.amax((1, 2)) - maps.amin((1, 2))
    if bool((spread <= _SAME * size).all()):
        return "the maps are the same at every place"
    if bool((maps[0] - maps[1]).abs().amax() <= _SAME * size[:2].amax()):
        return "the maps of two labels are the same"
    return ""


def page(rows: Sequence[Row]) -> str:
    """The rows as a page in Markdown."""
    import timm

    good = [row for row in rows if row.supported]
    share = f"{len(good)} of {len(rows)} modules ({len(good) / max(len(rows), 1):.0%})"
    table = [
        "| module | network | image | `auto` | layer | layout | map |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in sorted(rows, key=lambda row: row.module)),
    ]
    return _PAGE.format(share=share, timm=timm.__version__, table="\n".join(table))


def _line(row: Row) -> str:
    if row.site is None or row.reason:
        reason = row.reason.replace("|", "/")
        return f"| {row.module} | {row.network or '-'} | {row.image or '-'} | **no** | {reason} | - | - |"
    prefix = f" after {row.site.prefix_tokens}" if row.site.prefix_tokens else ""
    place = f"`{row.site.layer}`" + (" (input)" if row.site.where == "input" else "")
    side = f"{row.grid[0]} x {row.grid[1]}"
    return (
        f"| {row.module} | {row.network} | {row.image} | {row.method} | {place} | {row.site.layout}{prefix} | {side} |"
    )


_PAGE = """# Networks

torchvice finds by itself where a network keeps its last map: {share} of timm {timm} work, each tried
with its smallest classifier at random weights. The table is made by

    python -m torchvice.explain.sweep > networks.md && mv networks.md docs/networks.md

in about five minutes on one thread.

## How the place is found

`locate(model)` shows the network one random image and looks at every tensor that its modules make. A tensor shows
places if two of its dimensions have the image's aspect, or if its tokens without class, distillation and register
tokens do. The last such tensor is taken: what goes into the global pool, or the last output before it, provided that
a logit looks at it. That is checked: the gradient of the largest logit must reach at least a quarter of the places
and nine tenths of the channels. Behind the last attention of a network with a class token it reaches no patch; the
search goes on backward and ends at the norm in front of that attention (`blocks.11.norm1` of a ViT), as the
literature does by hand. A network that ends in a mean over its tokens is read at its last norm, through which
everything passes. A map of a single place is no map: a VGG is read at what enters its first fully
connected layer. One rule goes by name: Swin is read at its last block's first norm, as usual in the literature.

`auto` is class activation mapping (`cam`) where a mean over the places and one linear layer make the logits, which is
tried out rather than looked up, and `gradcam` elsewhere.

Supported means: two random images, three labels each, give maps that are finite, have more than one place, vary over
the places and differ between labels, and not all of them are zero after their ReLU. Weights that a family starts at
zero are filled for this, matrices with noise and norms with one; a network whose classifier is all zero has no
explanation until it is trained. Networks for images above 300 pixels are built for 224 where they allow it.

Networks that join several scales at the end (CoaT, CrossViT, EfficientViM) are read at one of them; the others are
then not in the map.

## Other networks

Any `torch.nn.Module` from images (N, 3, H, W) to logits (N, C) is searched in the same way. If it finds nothing, or
not what you want, name the place:

    Explainer(model, layer="features.7")                     # its layout is read off its output's shape
    Explainer(model, site=MapSite("encoder.norm", layout="tokens", prefix_tokens=1, stride=(16, 16)))
    Explainer(model, site=MapSite("neck", reshape=lambda t: t.unflatten(1, (14, 14)).permute(0, 3, 1, 2)))

`MapSite` is in `torchvice.models.families`. `layout` is `nchw`, `nhwc` or `tokens`; `stride` the pixels between two
patches; `reshape` a function that only rearranges the tensor into (N, D, h, w). Where the logits do not look at the
place, the engine refuses and says so.

## Table

`(input)`: the tensor that enters the layer; else the one that leaves it. `after k`: behind k tokens that are no patch.

{table}
"""


def _said(row: Row) -> None:
    verdict = "yes" if row.supported else f"NO: {row.reason}"
    print(f"{row.module:28s} {row.network:36s} {row.seconds:6.1f} s  {verdict}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(page(sweep(progress=_said)), end="")
