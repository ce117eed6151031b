"""Every method on one small network of every module of timm: which works where, and why not elsewhere.

`python experiments/networks_methods.py` writes the section of docs/networks.md. What a network gave is kept in
records/networks_methods.json, so that a second start goes on, and adds methods that are new. Methods of a hundred
passes need no more of a network than their neighbours in docs/explanations.md, and are left out.
"""

from __future__ import annotations

import argparse
import gc
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import timm
import torch
from networks import LABELS, PAGE, built, fault_of, small_member
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain import METHODS, Explainer
from torchvice.files import read_json, write_json
from torchvice.models.sizes import input_size

LONG = ("smoothgradcampp", "scorecam", "ablationcam", "rise", "occlusion", "smoothgrad", "integrated_gradients")
CONTROLS = ("random", "center", "foreground")
SWEPT = tuple(name for name in METHODS if name not in LONG + CONTROLS)
FEW = ((0, 1),)  # labels of one image
ALIKE = ("eigencam", "rollout")  # one map for all labels, by definition
KEPT = Path(__file__).parents[1] / "records" / "networks_methods.json"
START, END = "<!-- methods -->\n", "<!-- end of methods -->\n"
# What differs between the reasons of two networks: quoted names, numbers, paths of modules, and classes.
NAMES = r"[`'\"][^`'\"]*[`'\"]|\d+|\b\w*[._]\w+\b|(?<=but )\w+|(?<=is a )\w+|(?<=is an )\w+"

# By module: its network, and the reason for each method that does not work.
Found = dict[str, tuple[str, dict[str, str]]]


def reasons_of(model: nn.Module, images: torch.Tensor, methods: Sequence[str]) -> dict[str, str]:
    """Why methods do not explain the images with a network: their refusal, or what is wrong with the maps."""
    reasons = {}
    for method in methods:
        try:
            few = METHODS[method].reads != "layer"  # passes through the whole network
            explained = Explainer(model, method)(images[:1] if few else images, FEW if few else LABELS)
        except Exception as error:  # any failure is an entry of the table
            reasons[method] = error.message if isinstance(error, ViceError) else f"{type(error).__name__}: {error}"
            continue
        fault = fault_of(explained)
        if fault and not (method in ALIKE and "two labels" in fault):
            reasons[method] = fault
    return {method: " ".join(reason.split()) for method, reason in reasons.items()}


def sweep(kept: Path, until: float) -> Found:
    """The reasons of every module that has a classifier; what the file `kept` holds is read from there.

    After `until` seconds no further module is begun. Modules that lack a method are left out.
    """
    end = time.monotonic() + until
    known = read_json(kept) if kept.is_file() else {}
    for module in timm.list_modules():
        if time.monotonic() >= end:
            break
        entry = known.get(module) or {"network": small_member(module), "methods": [], "reasons": {}}
        left = [method for method in SWEPT if method not in entry["methods"]]
        if not entry["network"] or not left:
            continue
        torch.manual_seed(0)
        model = built(entry["network"])
        images = torch.randn((len(LABELS), 3, *input_size(model)), generator=torch.Generator().manual_seed(1))
        entry["reasons"] |= reasons_of(model, images, left)
        entry["methods"] += left
        known[module] = entry
        write_json(kept, known)
        works = len(entry["methods"]) - len(entry["reasons"])
        print(f"{module:28s} {entry['network']:36s} {works} of {len(SWEPT)} methods", flush=True)
        gc.collect()
    whole = {module: entry for module, entry in sorted(known.items()) if set(SWEPT) <= set(entry["methods"])}
    return {module: (entry["network"], entry["reasons"]) for module, entry in whole.items()}


def section(found: Found) -> str:
    """The table of methods, and below it the reasons, most frequent first."""
    lines = [
        f"Tried so far: {len(found)} of timm's {len(timm.list_modules())} modules, in the order of the alphabet.\n\n"
    ]
    lines.append("| method | networks | which |\n| --- | ---: | --- |\n")
    for method in SWEPT:
        works = [module for module, (_, reasons) in found.items() if method not in reasons]
        lines.append(f"| {method} | {len(works)} of {len(found)} | {_named(works, list(found))} |\n")
    lines.append("\nWhy not, with the number of networks and methods:\n\n")
    for reason, count, example in grouped(found):
        lines.append(f"- {count}, such as {example}: {reason}\n")
    return "".join(lines)


def _named(works: Sequence[str], modules: Sequence[str]) -> str:
    """The modules on the shorter side of a method's line."""
    without = [module for module in modules if module not in works]
    if not without or not works:
        return "none" if without else "all"
    if len(works) < len(without):
        return "only " + ", ".join(works)
    return "not " + ", ".join(without)


def grouped(found: Mapping[str, tuple[str, dict[str, str]]]) -> list[tuple[str, int, str]]:
    """Reasons that differ in names alone as one: its text, how often it was given, and the first case."""
    counts: Counter[str] = Counter()
    first: dict[str, tuple[str, str]] = {}
    for module, (_, reasons) in found.items():
        for method, reason in reasons.items():
            kind = re.sub(NAMES, "#", reason)
            counts[kind] += 1
            first.setdefault(kind, (f"{method} of {module}", reason))
    return [(first[kind][1], count, first[kind][0]) for kind, count in counts.most_common()]


def main() -> None:
    """Sweep what is left, and write the section of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kept", type=Path, default=KEPT, help="what networks gave")
    parser.add_argument("--until", type=float, default=float("inf"), help="seconds after which no module is begun")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = PAGE.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ViceError("The page must hold the section of methods between its two marks, but does not.")
    PAGE.write_text(before + start + section(sweep(options.kept, options.until)) + end + after, encoding="utf-8")


if __name__ == "__main__":
    main()
