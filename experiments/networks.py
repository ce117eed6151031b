"""Sweep over timm: explain one small network of every module, and list which ones work and where.

Run with `make networks`, about five minutes on one thread; it updates docs/networks.md.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchvice.errors import ViceError, did_you_mean
from torchvice.explain import Explainer, Explanation
from torchvice.models.build import classifier_names
from torchvice.models.families import MapSite
from torchvice.models.sizes import input_size

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
HEAD = "| module | network | image | `auto` | layer | layout | map |\n|---|---|---|---|---|---|---|\n"
CLASSES = 10
# Two images with several labels each, since some maps of a network with random weights are zero after their ReLU.
LABELS = ((0, 1, 2), (3, 4, 5))
_LARGEST, _SHRUNK = 300, 224
# Differences below this share of the largest value are rounding.
_SAME = 1e-4


@dataclass(frozen=True)
class Row:
    """Result for one module of timm.

    `network`: the tested network, "" if the module has no classifier; `image`: its side in pixels; `method`: the choice
    of "auto"; `site`: the explained layer; `grid`: (h, w) of the map; `reason`: why it is not supported, else "";
    `seconds`: duration.
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
        """Whether the maps are meaningful."""
        return not self.reason


def sweep(modules: Sequence[str] | None = None, progress: Callable[[Row], None] | None = None) -> list[Row]:
    """Explain one small member, at random weights, of each module of timm.

    Args:
        modules: names of timm's modules; None: all of `timm.list_modules()`.
        progress: called with every new row.

    Returns:
        One row per module; a network that fails has a row with its reason.

    Raises:
        ViceError: an unknown module.
    """
    import timm

    known = timm.list_modules()
    rows = []
    for module in known if modules is None else modules:
        if module not in known:
            raise ViceError(f"A module must be one of timm's, but is {module!r}.", did_you_mean(module, known))
        network = small_member(module)
        row = explain_network(module, network) if network else Row(module, reason="no member is a classifier")
        rows.append(row)
        if progress is not None:
            progress(row)
        gc.collect()
    return rows


def small_member(module: str) -> str:
    """Name of the classifier of a timm module with the least parameters times pixels; "" if there is no classifier.

    Networks are built on torch's meta device, without memory. timm's miniature networks for tests are left out.
    """
    import timm

    best, least = "", float("inf")
    for name in timm.list_models(module=module):
        if name.startswith("test_"):
            continue
        try:
            with torch.device("meta"):
                model = timm.create_model(name, num_classes=CLASSES)
        except Exception:  # a constructor that needs real numbers: use the other members
            continue
        cost = sum(parameter.numel() for parameter in model.parameters()) * _side(name) ** 2
        if cost < least and classifier_names(model):
            best, least = name, cost
    return best or _first_classifier(timm.list_models(module=module))


def _first_classifier(names: Sequence[str]) -> str:
    """Name of the published classifier with the smallest images; "" if there is none."""
    import timm

    published = [name for name in names if (config := timm.get_pretrained_cfg(name)) and config.num_classes]
    return min(published, key=_side, default="")


def _side(name: str) -> int:
    """Side of a network's images in pixels."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return 224 if config is None else int(config.input_size[-1])


def explain_network(module: str, network: str) -> Row:
    """Explain two random images, several labels each, with a network at random weights, and check the maps.

    A network is supported if all maps are finite and have more than one place, not all of them are zero after their
    ReLU, they vary over the places, and those of two labels differ. The caller's RNG state is restored.
    """
    start = time.perf_counter()
    image = 0
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = built(network)
        size = input_size(model)
        image = size[1]
        explainer = Explainer(model)
        images = torch.randn((len(LABELS), 3, *size), generator=torch.Generator().manual_seed(1))
        explanation = explainer(images, LABELS)
    except Exception as error:  # any failure of any network is a row of the table
        reason = error.message if isinstance(error, ViceError) else f"{type(error).__name__}: {error}"
        return Row(module, network, image, reason=" ".join(reason.split()), seconds=time.perf_counter() - start)
    grid = (explanation.maps.shape[1], explanation.maps.shape[2])
    seconds = time.perf_counter() - start
    return Row(module, network, image, explainer.method, explainer.site, grid, fault_of(explanation), seconds)


def built(network: str) -> nn.Module:
    """Build the network with random weights; networks for large images are built for smaller ones where possible.

    Weights that are initialised with zeros (classifiers and last norms of some families) would make maps empty:
    matrices are set to noise, norms to one.
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


def fault_of(explanation: Explanation) -> str:
    """Describe what is wrong with the maps; "" if nothing is."""
    maps = explanation.maps
    if not bool(torch.isfinite(maps).all()):
        return "the maps are not finite"
    if maps[0].numel() < 2:
        return "the maps have a single place"
    if "ok" not in explanation.status:
        return f"the maps are {' and '.join(sorted(set(explanation.status)))} for every label"
    size = maps.abs().amax((1, 2))
    spread = maps.amax((1, 2)) - maps.amin((1, 2))
    if bool((spread <= _SAME * size).all()):
        return "the maps are the same at every place"
    if bool((maps[0] - maps[1]).abs().amax() <= _SAME * size[:2].amax()):
        return "the maps of two labels are the same"
    return ""


def page(rows: Sequence[Row], text: str) -> str:
    """Replace the share of supported modules and the table in the text of docs/networks.md by those of the rows."""
    import timm

    supported = sum(row.supported for row in rows)
    share = f"{supported} of {len(rows)} modules ({supported / max(len(rows), 1):.0%}) of timm {timm.__version__} work"
    text, replaced = re.subn(r"\d+ of \d+ modules \(\d+%\) of timm \S+ work", share, text)
    before, head, _ = text.partition(HEAD)
    if replaced != 1 or not head:
        raise ViceError("The page must hold one share of modules and one table, but does not.")
    return before + head + "".join(f"{_line(row)}\n" for row in sorted(rows, key=lambda row: row.module))


def _line(row: Row) -> str:
    """Format a row of the table."""
    if row.site is None or row.reason:
        reason = row.reason.replace("|", "/")
        return f"| {row.module} | {row.network or '-'} | {row.image or '-'} | **no** | {reason} | - | - |"
    prefix = f" after {row.site.prefix_tokens}" if row.site.prefix_tokens else ""
    place = f"`{row.site.layer}`" + (" (input)" if row.site.where == "input" else "")
    side = f"{row.grid[0]} x {row.grid[1]}"
    return (
        f"| {row.module} | {row.network} | {row.image} | {row.method} | {place} | {row.site.layout}{prefix} | {side} |"
    )


def _print_row(row: Row) -> None:
    verdict = "yes" if row.supported else f"NO: {row.reason}"
    print(f"{row.module:28s} {row.network:36s} {row.seconds:6.1f} s  {verdict}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    PAGE.write_text(page(sweep(progress=_print_row), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
