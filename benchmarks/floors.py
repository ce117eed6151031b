"""Every method, assess and the curve against their floors: what they cannot do without, at this machine's rate.

The floor of a method is the bare forward passes that its definition needs, and the other products that it needs, run
alone: of each convolution, linear layer and attention the gradient with respect to its input, on tensors of its
shape. For the forward pass itself, its products alone are the floor. The floor of assess is a bare forward pass over
the same files, that of the curve reading them. Times are CPU seconds, the lowest of some rounds, in turns.

    python benchmarks/floors.py [--rounds 5] [--threads 1] [--only resnet50 vit_small_patch16_224 passes assess curve]
    python benchmarks/floors.py --tiny
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from curve import read_only, write_files
from gpu_assess import MEAN, STD, Jpegs, assess_part, write_jpegs
from machine import processor, vector_units
from torch import nn
from torch.nn import functional

from torchvice import Explainer
from torchvice.commands.evaluate import evaluate
from torchvice.data.transforms import normalise
from torchvice.data.warping import warp
from torchvice.explain.dense import dense
from torchvice.files.process import keep_freed_memory
from torchvice.models.families import module_at

LABELS = (3, 11)
CNN, VIT, ATTRIBUTION, CURVE, ASSESS = 1.10, 1.15, 1.3, 2.2, 1.15  # targets: at most this many times the floor
FAMILY = ("gradcam", "gradcampp", "xgradcam", "hirescam", "layercam", "eigencam", "eigengradcam")
Work = Callable[[], object]


@dataclass(frozen=True)
class Product:
    """A product of a forward pass: `name` of its module, its values in `x`, and its weight, or None for attention."""

    name: str
    module: nn.Module
    x: torch.Tensor

    def forward(self) -> object:
        """The product alone."""
        if isinstance(self.module, nn.Conv2d):
            m = self.module
            return functional.conv2d(self.x, m.weight, None, m.stride, m.padding, m.dilation, m.groups)
        if isinstance(self.module, nn.Linear):
            return functional.linear(self.x, self.module.weight)
        q, k, v = self.x
        return (q @ k.transpose(-2, -1)) @ v

    def backward(self) -> object:
        """The gradient with respect to the input alone: one product, or four of attention."""
        if isinstance(self.module, nn.Conv2d):
            m, shape = self.module, self.x.shape
            sides = [
                (n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, p, d, k, s in zip(shape[2:], m.padding, m.dilation, m.kernel_size, m.stride, strict=True)
            ]  # type: ignore[arg-type]
            gradient = self.x.new_ones((shape[0], m.out_channels, *sides))
            return nn.grad.conv2d_input(shape, m.weight, gradient, m.stride, m.padding, m.dilation, m.groups)  # type: ignore[arg-type]
        if isinstance(self.module, nn.Linear):
            return dense(self.x.new_ones((*self.x.shape[:-1], self.module.out_features)), self.module.weight.T)
        q, k, v = self.x
        square = q.new_ones((*q.shape[:-1], k.shape[-2]))
        return square.transpose(-2, -1) @ v, v @ v.transpose(-2, -1), square @ k, square.transpose(-2, -1) @ q

    def rows(self, n: int) -> Product:
        """The same product for the first n tokens."""
        return Product(self.name, self.module, self.x[:, :n].contiguous())

    def double(self) -> Product:
        """The same product in double precision; its weight is a copy."""
        module = self.module
        if isinstance(module, nn.Linear | nn.Conv2d):
            module = type(module).__new__(type(module))
            module.__dict__ = {**self.module.__dict__, "_parameters": {"weight": self.module.weight.detach().double()}}
        return Product(self.name, module, self.x.double())


def products_of(model: nn.Module, images: torch.Tensor) -> list[Product]:
    """All products of a forward pass, in their order."""
    found: list[Product] = []

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args: found.append(Product(name, module, args[0].detach()))

    def attend(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[torch.Tensor]) -> None:
            n, length, channels = args[0].shape
            heads = module.num_heads
            x = torch.randn(3, n, heads, length, channels // heads)  # type: ignore[operator,arg-type]
            found.append(Product(name, module, x))

        return hook

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            handles.append(module.register_forward_pre_hook(keep(name)))
        elif name.endswith("attn"):
            handles.append(module.register_forward_pre_hook(attend(name)))
    with torch.inference_mode(False), torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return found


def behind(model: nn.Module, products: Sequence[Product], explainer: Explainer) -> list[Product]:
    """The products between the explained layer and the logits."""
    names = [name for name, _ in model.named_modules()]
    site = names.index(explainer.site.layer)
    module_at(model, explainer.site.layer)
    inside = explainer.site.layer + "."
    return [p for p in products if names.index(p.name) > site and not p.name.startswith(inside)]


def run_all(products: Sequence[Product], how: str, times: int = 1) -> Work:
    """Run the products, or their gradients, one after the other."""
    calls = [getattr(product, how) for product in products]

    def work() -> None:
        for _ in range(times):
            for call in calls:
                call()

    return work


def lowest(works: dict[str, Work], rounds: int) -> dict[str, float]:
    """The lowest CPU seconds of each, in turns; a round before does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            begin = time.process_time()
            work()
            if turn:
                times[name].append(time.process_time() - begin)
    return {name: min(seconds) for name, seconds in times.items()}


def attribution_products(products: Sequence[Product], labels: int) -> list[Work]:
    """What transformer attribution needs beside a double pass: relevance twice and gradients once a label, sizes once.

    Behind the last block's attention only the class token has relevance and gradients; nothing before the first block's
    attention needs any. Relevance of a linear layer is one product for each sign of the weights, that of a product of
    attention two, and scores are computed once more, in double.
    """
    blocks = [p for p in products if p.name.startswith("blocks.")]
    last = max(int(p.name.split(".")[1]) for p in blocks)
    needed = []
    for p in blocks:
        number, part = int(p.name.split(".")[1]), p.name.rpartition(".")[2]
        if number == 0 and part in ("qkv", "attn"):
            continue
        needed.append(p.rows(1) if number == last and part in ("proj", "fc1", "fc2") else p)
    layers = [p for p in needed if isinstance(p.module, nn.Linear)]
    attention = [p for p in needed if not isinstance(p.module, nn.Linear)]
    return [
        run_all(layers, "forward"),  # absolute values, for the sizes
        run_all(layers, "backward", 3 * labels),
        run_all(attention, "backward", 2 * labels),
        run_all([p.double() for p in attention], "forward"),
    ]


def report(kind: str, floor: float, taken: float, target: float | None) -> bool:
    """Print a row; whether the target, if there is one, is met."""
    ratio = taken / floor
    met = "" if target is None else f"{target:.2f}, {'met' if ratio <= target else 'MISSED'}"
    print(f"| {kind} | {floor * 1e3:.1f} | {taken * 1e3:.1f} | {ratio:.2f} | {met} |", flush=True)
    return target is None or ratio <= target


def one_pass(name: str, batch: int, side: int, rounds: int) -> bool:
    """The methods of one forward pass on a network; whether all targets are met."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=20).eval()
    images, asked = torch.randn(batch, 3, side, side), [LABELS] * batch
    products, vit = products_of(model, images), hasattr(model, "blocks")
    met = True

    def bare() -> None:
        with torch.inference_mode():
            model(images)

    for method in (
        "forward",
        *(() if vit else ("cam",)),
        *FAMILY,
        *(("rollout", "attention_gradient", "generic_attention") if vit else ()),
    ):
        parts: list[Work] = [run_all(products, "forward")]
        works: dict[str, Work] = {"taken": bare}
        if method != "forward":
            explainer = Explainer(model, method)
            works = {"taken": lambda run=explainer: run(images, asked)}  # type: ignore[misc,dict-item]
            parts = [bare, run_all(_backward_of(model, products, explainer), "backward", len(LABELS))]
        works["floor"] = lambda parts=parts: [part() for part in parts]  # type: ignore[misc]
        times = lowest(works, rounds)
        target = (VIT if vit else CNN) if method in FAMILY else None
        met &= report(f"{name}: {method}", times["floor"], times["taken"], target)
    if vit:
        explainer = Explainer(model, "transformer_attribution")
        exact, doubled = copy.deepcopy(model).double(), images.double()

        def bare_double() -> None:
            with torch.inference_mode():
                exact(doubled)

        parts = [bare_double, *attribution_products(products, len(LABELS))]
        works = {"taken": lambda: explainer(images, asked), "floor": lambda: [part() for part in parts]}
        times = lowest(works, max(1, rounds // 2))
        met &= report(f"{name}: transformer_attribution", times["floor"], times["taken"], ATTRIBUTION)
    return met


def _backward_of(model: nn.Module, products: Sequence[Product], explainer: Explainer) -> list[Product]:
    """The products whose gradients a method needs, for one label."""
    method = explainer.method
    if method in ("cam", "eigencam", "rollout"):
        return []
    if method in ("attention_gradient", "generic_attention"):
        first = "blocks.0." if method == "generic_attention" else products[-2].name.rpartition(".mlp")[0]
        start = next(i for i, p in enumerate(products) if p.name.startswith(first) and p.name.endswith("proj"))
        return list(products[start:])
    return behind(model, products, explainer)


def many_passes(name: str, side: int, rounds: int) -> None:
    """The methods of many passes, one image with one label: their floor is the products of all passes."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=20).eval()
    images = torch.randn(1, 3, side, side)
    explainer = Explainer(model, "gradcam")
    channels = explainer.activations(images).shape[1]
    full = images.expand(32, -1, -1, -1).contiguous()
    passes, heads = products_of(model, full), behind(model, products_of(model, full), explainer)
    backward, head = run_all(passes, "backward"), run_all(heads, "forward")

    def forward() -> None:
        with torch.inference_mode():
            model(full)

    chunks = channels / 32
    floors: dict[str, tuple[float, float, float]] = {  # batches of 32: forward, backward, from the layer on
        "scorecam": (chunks, 0, 0),
        "ablationcam": (0, 0, chunks),
        "saliency": (2 / 32, 1 / 32, 0),
        "smoothgrad": (26 / 32, 25 / 32, 0),
        "integrated_gradients": (51 / 32, 50 / 32, 0),
    }
    times = lowest({"forward": forward, "backward": backward, "head": head}, rounds)
    for method, (ahead, back, tail) in floors.items():
        floor = ahead * times["forward"] + back * times["backward"] + tail * times["head"]
        run = Explainer(model, method)
        taken = lowest({"taken": lambda run=run: run(images, [[3]])}, 1)["taken"]  # type: ignore[misc,dict-item]
        report(f"{name}, 1 image of {side} pixels: {method}", floor, taken, None)


def assessment(name: str, count: int, side: int, rounds: int) -> bool:
    """assess under `strict` against a bare forward pass over the same images."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=20).eval()
    setting = {"model": model, "network": name, "side": side, "batch": 16, "device": "cpu", "method": "gradcam"}
    setting |= {"precision": None, "channels_last": False}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        jpegs, tables = write_jpegs(root / "images", count, 1), iter(range(1000))
        works: dict[str, Work] = {
            "taken": lambda: assess_part(jpegs, setting, root / f"table{next(tables)}", 1),
            "floor": lambda: forward_over(jpegs, model, side),
        }
        times = lowest(works, max(1, rounds // 2))
    return report(f"{name}: assess of {count} JPEGs", times["floor"], times["taken"], ASSESS)


def forward_over(jpegs: Jpegs, model: nn.Module, side: int) -> None:
    """Read all images and masks, and run the network on them."""
    with torch.inference_mode():
        for start in range(0, len(jpegs), 16):
            part = range(start, min(start + 16, len(jpegs)))
            for index in part:
                jpegs.mask(index)
            model(torch.stack([normalise(warp(jpegs.image(index), side), MEAN, STD) for index in part]))


def curve(count: int, rounds: int) -> bool:
    """The curve of sixty thresholds against reading the files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = write_files(root, count)
        works: dict[str, Work] = {
            "taken": lambda: evaluate(names, root / "maps", root / "masks", workers=1),
            "floor": lambda: read_only(root, names),
        }
        times = lowest(works, max(3, rounds))
    return report(f"curve of {count} images", times["floor"], times["taken"], CURVE)


def main() -> int:
    """Print the table; returns 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parts = ["resnet50", "vit_small_patch16_224", "passes", "assess", "curve"]
    parser.add_argument("--only", nargs="+", default=parts, choices=parts)
    parser.add_argument("--tiny", action="store_true", help="small networks, to try the script")
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    torch.set_num_threads(options.threads)
    tiny, rounds = options.tiny, 1 if options.tiny else options.rounds
    print(f"{processor()}, {vector_units()}, {options.threads} threads, torch {torch.__version__}\n")
    print("| what | floor, ms | taken, ms | ratio | at most |\n|---|---:|---:|---:|---|")
    met = True
    if "resnet50" in options.only:
        met &= one_pass(*(("test_resnet", 2, 64) if tiny else ("resnet50", 8, 224)), rounds)
    if "vit_small_patch16_224" in options.only:
        met &= one_pass(*(("test_vit", 2, 160) if tiny else ("vit_small_patch16_224", 8, 224)), rounds)
    if "passes" in options.only:
        many_passes(*(("test_resnet", 64) if tiny else ("resnet18", 112)), rounds)
    if "assess" in options.only:
        met &= assessment(*(("test_resnet", 4, 64) if tiny else ("resnet50", 160, 224)), rounds)
    if "curve" in options.only:
        met &= curve(2 if tiny else 16, rounds)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
