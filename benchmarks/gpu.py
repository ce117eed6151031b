"""explain, relevance and assess on a GPU, against forward passes in the same run, and whether they are right there.

It needs torch, timm and torchvice; no network access, no weights: all networks are random. Sections run one after the
other. What fails is a row with its reason; what does not fit before the deadline is a row, too. Rows are printed as
they are measured, then as a Markdown table and as JSON.

    python benchmarks/gpu.py [--until 540] [--sections explain relevance ...] [--json FILE]
    python benchmarks/gpu.py --device cpu --tiny
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from gpu_assess import PATH, Jpegs, assess_part, assess_rate, forward_rate, network, write_jpegs
from machine import processor
from relevance import published

from torchvice import Explainer
from torchvice.assessment.device_counts import counts_of
from torchvice.explain import METHODS, dense, normalise, rules, upsample
from torchvice.explain.precision import autocast, laid_out
from torchvice.metrics.overlap import competing_overlap, own_histograms
from torchvice.metrics.own_map import own_maps

SHARE_OF_FORWARD = 0.85  # of a bare forward pass over the same loader, for an assessment
MAPS_A_SECOND = 1000  # transformer attribution on an H100
TIMES_PUBLISHED = 10
FAMILY = ("gradcam", "gradcampp", "xgradcam", "hirescam", "layercam")
MODES = {
    "float32": ("ieee", None, False),
    "TF32": ("tf32", None, False),
    "bfloat16, channels last": ("tf32", "bfloat16", True),
}


@dataclass
class Bench:
    """What all sections share: the device, the sizes, the deadline, and the rows so far."""

    device: str
    tiny: bool
    deadline: float
    rows: list[dict[str, Any]] = field(default_factory=list)

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def row(self, section: str, what: str, value: float | None, unit: str, **more: Any) -> None:
        """Keep and print a row.

        Optional are `ratio` and what it is `of`, the least value that is the `target`, or the least ratio, `least`, and
        a `note`.
        """
        row = {"section": section, "what": what, "value": value, "unit": unit, **more}
        if value is not None and ("target" in row or "least" in row):
            row["met"] = value >= row["target"] if "target" in row else row["ratio"] >= row["least"]
        self.rows.append(row)
        print("|", " | ".join(cells(row)), "|", flush=True)

    @contextlib.contextmanager
    def guarded(self, section: str, what: str, least: float = 5) -> Iterator[bool]:
        """Turn a failure inside the block into a row; gives whether there is time for it."""
        if self.left() < least:
            self.row(section, what, None, "", note="no time left")
            yield False
            return
        try:
            yield True
        except Exception as error:  # a section must not end the others
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.row(section, what, None, "", note=reason[:400])
        if self.device != "cpu":
            with contextlib.suppress(Exception):
                torch.cuda.empty_cache()

    def seconds(self, work: Callable[[], Any], least: float = 0.6) -> float:
        """Seconds of one call, the mean of as many as fit in `least` seconds, after two that do not count."""
        for _ in range(1 if self.tiny else 2):
            work()
        synchronise(self.device)
        begin, calls = time.perf_counter(), 0
        while not calls or (time.perf_counter() - begin < least and not self.tiny):
            work()
            synchronise(self.device)
            calls += 1
        return (time.perf_counter() - begin) / calls


def cells(row: dict[str, Any]) -> list[str]:
    """The cells of a row of the table."""
    value = "failed" if row["value"] is None else f"{row['value']:.4g} {row['unit']}"
    ratio = f"{row['ratio']:.3g} x {row['of']}" if "ratio" in row else ""
    target = f"{row['target']:g}" if "target" in row else f"{row['least']:g} x" if "least" in row else ""
    target += {True: ", met", False: ", MISSED", None: ""}[row.get("met")]
    return [row["section"], row["what"], value, ratio, target, str(row.get("note", "")).replace("|", "/")]


def synchronise(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        torch.cuda.synchronize()


@contextlib.contextmanager
def products(precision: str) -> Iterator[None]:
    """Compute products and convolutions of float32 as "ieee" or in "tf32" inside the block."""
    owners: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv", torch.backends.cudnn)]
    new = all(hasattr(owner, "fp32_precision") for owner in owners)  # since torch 2.9
    name, chosen = ("fp32_precision", precision) if new else ("allow_tf32", precision == "tf32")
    before = [getattr(owner, name) for owner in owners]
    for owner in owners:
        setattr(owner, name, chosen)
    try:
        yield
    finally:
        for owner, setting in zip(owners, before, strict=True):
            setattr(owner, name, setting)


def explain(bench: Bench) -> None:
    """Images a second of the Grad-CAM family, against a bare forward pass; the images lie on the device."""
    name, sides, batches = ("test_resnet", 64, (2,)) if bench.tiny else ("resnet50", 224, (64, 256))
    for mode, (precision, low, last) in MODES.items():
        for batch in batches:
            with bench.guarded("explain", f"{name}, {mode}, batch {batch}") as time_left:
                if time_left:
                    with products(precision):
                        _explain_mode(bench, name, sides, batch, mode, low, last)


def _explain_mode(bench: Bench, name: str, side: int, batch: int, mode: str, low: str | None, last: bool) -> None:
    model = timm.create_model(name, pretrained=False, num_classes=20).eval().to(bench.device)
    bare = timm.create_model(name, pretrained=False, num_classes=20).eval().to(bench.device)
    images = torch.randn(batch, 3, side, side, device=bench.device)
    shown = laid_out(images, last)
    if last:  # the fastest that a user would write
        bare = bare.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward() -> None:
        with torch.inference_mode(), autocast(low, bench.device):
            bare(shown)

    rate = batch / bench.seconds(forward)
    what = f"{name}, {mode}, batch {batch}"
    bench.row("explain", f"{what}: bare forward pass", rate, "images/s")
    for method in FAMILY:
        for labels in ((3,), (3, 11)) if method == "gradcam" else ((3,),):
            explainer = Explainer(model, method, precision=low, channels_last=last)  # type: ignore[arg-type]
            asked = [labels] * batch
            own = batch / bench.seconds(lambda run=explainer, asked=asked: run(images, asked))  # type: ignore[misc]
            many = f"{len(labels)} label{'s' if len(labels) > 1 else ''}"
            bench.row("explain", f"{what}: {method}, {many}", own, "images/s", ratio=own / rate, of="forward")


def relevance(bench: Bench) -> None:
    """Maps a second of transformer attribution and generic attention, against the published rule one by one."""
    for name in ("test_vit",) if bench.tiny else ("vit_small_patch16_224", "vit_base_patch16_224"):
        with bench.guarded("relevance", name) as time_left, products("ieee"):
            if time_left:
                _relevance_of(bench, name)


def _relevance_of(bench: Bench, name: str) -> None:
    model = timm.create_model(name, pretrained=False, num_classes=20).eval().to(bench.device)
    side = model.pretrained_cfg["input_size"][-1]
    images = torch.randn(2 if bench.tiny else 64, 3, side, side, device=bench.device)
    rule = 1 / bench.seconds(lambda: published(model, images[:1], 3))
    bench.row("relevance", f"{name}: published rule, one by one", rule, "maps/s")
    for method in ("transformer_attribution", "generic_attention"):
        explainer = Explainer(model, method)
        for batch in (2,) if bench.tiny else (1, 8, 64):
            what = f"{name}: {method}, {batch} images x 2 labels"
            with bench.guarded("relevance", what) as time_left:
                if time_left:
                    asked, shown = [(3, 11)] * batch, images[:batch]
                    rate = 2 * batch / bench.seconds(lambda run=explainer, a=asked, s=shown: run(s, a))  # type: ignore[misc]
                    more = {"ratio": rate / rule, "of": "published"}
                    if method == "transformer_attribution" and batch == 64:
                        bench.row("relevance", what, rate, "maps/s", target=MAPS_A_SECOND)
                        more["least"] = TIMES_PUBLISHED
                    bench.row("relevance", what, rate, "maps/s", **more)
    _split_products(bench, name, model, images, rule)
    low = Explainer(model, "generic_attention", precision="bfloat16")
    rate = 2 * len(images) / bench.seconds(lambda: low(images, [(3, 11)] * len(images)))
    bench.row("relevance", f"{name}: generic_attention, {len(images)} images x 2 labels, bfloat16", rate, "maps/s")


def _split_products(bench: Bench, name: str, model: torch.nn.Module, images: torch.Tensor, rule: float) -> None:
    """Transformer attribution with each product as three of TF32, of high and low halves: its gain and its cost."""
    explainer, asked = Explainer(model, "transformer_attribution"), [(3, 11)] * len(images)
    what = f"{name}: transformer_attribution, products in three of TF32, {len(images)} images x 2 labels"
    with bench.guarded("relevance", what) as time_left:
        if not time_left:
            return
        expected, before = explainer(images, asked).maps, (dense.dense, rules.dense)
        try:
            dense.dense = rules.dense = split_product
            found = explainer(images, asked).maps
            rate = 2 * len(images) / bench.seconds(lambda: explainer(images, asked))
        finally:
            dense.dense, rules.dense = before
        away = ((found - expected).abs().amax((1, 2)) / expected.amax((1, 2)).clamp(min=1e-30)).max()
        note = f"not in torchvice; maps differ by {float(away):.1e} of their maximum"
        bench.row("relevance", what, rate, "maps/s", ratio=rate / rule, of="published", note=note)


def split_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left @ right^T from products of TF32, whose numbers have 10 bits: high x high + high x low + low x high."""
    if left.dtype != torch.float32:
        return left @ right.T
    first, second = (
        (one.view(torch.int32) & -8192).view(torch.float32) for one in (left.contiguous(), right.contiguous())
    )
    with products("tf32"):
        return (first @ (right - second).T).add_((left - first) @ second.T).add_(first @ second.T)


def correctness(bench: Bench) -> None:
    """Logits and maps of every method on the device against the CPU, in full precision."""
    for name in ("test_resnet", "test_vit"):
        for method, entry in METHODS.items():
            if (name == "test_resnet" and entry.reads == "patches") or (name, method) == ("test_vit", "cam"):
                continue
            with bench.guarded("correctness", f"{name}: {method}") as time_left, products("ieee"):
                if time_left:
                    _compare(bench, name, method, entry.cost)


def _compare(bench: Bench, name: str, method: str, cost: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=3).eval()
    side = model.pretrained_cfg["input_size"][-1]
    images, labels = torch.randn(2, 3, side, side), [[0, 2], [1]]
    expected = Explainer(model, method)(images, labels)
    found = Explainer(model.to(bench.device), method)(images.to(bench.device), labels)
    size = expected.maps.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)
    maps = float(((found.maps.cpu() - expected.maps) / size).abs().max())
    logits = float((found.logits.cpu() - expected.logits).abs().max())
    note = f"logits differ by {logits:.1e}; {cost}" + ("" if maps < 1e-3 else "; MORE THAN 1e-3")
    bench.row("correctness", f"{name}: {method}", maps, "of the map's maximum", note=note)


def counting(bench: Bench) -> None:
    """Images a second whose maps are counted on the device, and whether every count is numpy's."""
    rng, sizes = np.random.default_rng(0), [(60, 80)] * 4 if bench.tiny else [(375, 500), (333, 500)] * 16
    classes = [rng.choice(20, 1 + number % 2, replace=False).tolist() for number in range(len(sizes))]
    coarse = [torch.from_numpy(rng.random((len(own), 7, 7)).astype(np.float32)) for own in classes]
    masks = [rng.choice(np.array([0, 255, *range(1, 21)], np.uint8), size) for size in sizes]
    with bench.guarded("counting", "maps on the device") as time_left:
        if not time_left:
            return
        maps = [normalise(upsample(low, size), "max") for low, size in zip(coarse, sizes, strict=True)]
        there = [planes.to(bench.device) for planes in maps]
        found, wrong = counts_of(there, classes, masks, 256) or [], 0
        begin = time.perf_counter()
        for counts, planes, own, mask in zip(found, maps, classes, masks, strict=True):
            overlap, (inside, outside) = competing_overlap(planes, own, mask), own_histograms(planes, own, mask)
            columns = vars(own_maps(planes, own, mask))
            pairs = [(getattr(counts.overlap, name), getattr(overlap, name)) for name in ("predicted", "intersection")]
            pairs += [(counts.inside, inside), (counts.outside, outside)]
            pairs += [(getattr(counts.own, n), values) for n, values in columns.items() if not n.startswith("energy")]
            wrong += sum(not np.array_equal(a, b, equal_nan=True) for a, b in pairs)
        there_is = len(sizes) / (time.perf_counter() - begin)
        rate = len(sizes) / bench.seconds(lambda: counts_of(there, classes, masks, 256))
        note = "every count is numpy's" if not wrong else f"{wrong} arrays DIFFER from numpy's"
        bench.row("counting", "maps on the device", rate, "images/s", ratio=rate / there_is, of="numpy", note=note)


def memory(bench: Bench) -> None:
    """Bytes that are still allocated after some hundred batches, more than after the first ten."""
    batches, size = (12, 2) if bench.tiny else (300, 32)
    cases = [("test_resnet", "gradcam", None), ("test_resnet", "gradcam", "bfloat16")]
    cases += [("test_vit", "generic_attention", None), ("test_vit", "transformer_attribution", None)]
    for name, method, low in cases:
        what = f"{name}: {method}{', bfloat16' if low else ''}, {batches} batches of {size}"
        with bench.guarded("memory", what) as time_left:
            if not time_left:
                continue
            model = timm.create_model(name, pretrained=False, num_classes=20).eval().to(bench.device)
            side = model.pretrained_cfg["input_size"][-1]
            images = torch.randn(size, 3, side, side, device=bench.device)
            explainer, held = Explainer(model, method, precision=low), []  # type: ignore[arg-type]
            for _ in range(batches):
                explainer(images, [(3, 11)] * size)
                held.append(allocated(bench.device))
                if bench.left() < 5:
                    break
            note = f"{held[-1] / 2**20:.1f} MiB after {len(held)} batches"
            bench.row("memory", what, held[-1] - held[min(9, len(held) - 1)], "bytes more", note=note)


def allocated(device: str) -> int:
    """Bytes that tensors hold on the device; on the CPU, the process's own pages."""
    if device != "cpu":
        return int(torch.cuda.memory_allocated())
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * 4096 if pages.exists() else 0


def assess(bench: Bench) -> None:
    """Images a second of an assessment of JPEGs, against bare forward passes over the same files."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name, side, count, batch = ("test_resnet", 64, 24, 8) if bench.tiny else ("resnet50", 224, 4096, 64)
    cores = min(cores, 2) if bench.tiny else cores
    setting: dict[str, Any] = {"network": name, "side": side, "batch": batch, "device": bench.device}
    setting |= {"precision": "bfloat16", "channels_last": True, "method": "gradcam"}
    what = f"{name}, bfloat16, {count} JPEGs of 375 x 500"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        with bench.guarded("assess", "making the images", 30 if not bench.tiny else 5) as time_left:
            if not time_left:
                return
            jpegs = write_jpegs(root / "images", count, cores)
        forward = 0.0
        for masks in (False, True):
            kind = f"{what}: forward, {cores} readers{', masks read too' if masks else ''}"
            with bench.guarded("assess", kind, 20 if not bench.tiny else 5) as time_left, products("tf32"):
                if time_left:
                    rate = forward_rate(jpegs, setting, cores, masks)
                    forward = forward or rate
                    bench.row("assess", kind, rate, "images/s")
        _assess_rates(bench, root, what, count, setting, forward, cores)


def _assess_rates(
    bench: Bench, root: Path, what: str, count: int, setting: dict[str, Any], forward: float, cores: int
) -> None:
    """The rows of one process, and of several."""
    kind = f"{what}: assess, 1 process, {cores} threads read"
    with bench.guarded("assess", kind, 20 if not bench.tiny else 5) as time_left:
        if time_left:
            few = min(count, 512)
            one = {**setting, "model": network(setting)}
            assess_part(Jpegs(root / "images", 2 * setting["batch"]), one, root / "warm", cores)
            begin = time.perf_counter()
            assess_part(Jpegs(root / "images", few), one, root / "one", cores)
            rate = few / (time.perf_counter() - begin)
            bench.row("assess", kind, rate, "images/s", note=f"of {few} images; {PATH}")
    for processes in sorted({max(1, cores // 2), cores}):
        kind = f"{what}: assess, {processes} processes"
        with bench.guarded("assess", kind, 40 if not bench.tiny else 5) as time_left:
            if time_left:
                rate = assess_rate(root, count, setting, processes)
                more = {"ratio": rate / forward, "of": "forward", "least": SHARE_OF_FORWARD} if forward else {}
                bench.row("assess", kind, rate, "images/s", **more)


SECTIONS = {f.__name__: f for f in (explain, relevance, correctness, counting, memory, assess)}


def described(device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    on = torch.cuda.get_device_name() if device != "cpu" else processor()
    versions = {"torch": torch.__version__, "timm": timm.__version__}
    return {"device": on, "processor": processor(), "cores": os.cpu_count(), **versions}


def main() -> None:
    """Run the sections of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="small networks and few images, to try the script")
    parser.add_argument("--until", type=float, default=540, metavar="SECONDS", help="no section begins later")
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--json", type=Path, help="file that gets the rows after each section")
    options = parser.parse_args()
    bench = Bench(options.device, options.tiny, time.monotonic() + options.until)
    machine, begin = described(options.device), time.monotonic()
    print(machine, flush=True)
    for name in options.sections:
        with bench.guarded(name, name) as time_left:
            if time_left:
                started = time.monotonic()
                SECTIONS[name](bench)
                print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
        if options.json:
            options.json.write_text(json.dumps({"machine": machine, "rows": bench.rows}, indent=1))
    if not options.json:
        print(json.dumps({"machine": machine, "rows": bench.rows}))
    print(f"\n{time.monotonic() - begin:.0f} s\n")
    print("| section | what | value | ratio | target | note |\n|---|---|---:|---:|---|---|")
    for row in bench.rows:
        print("|", " | ".join(cells(row)), "|")


if __name__ == "__main__":
    main()
