"""The explanation engine against pytorch-grad-cam, torchcam and captum: Grad-CAM for two labels an image.

All tools make the same maps (checked before timing) of the same batch, with the same network, in one process and in
turns; medians. A forward pass under no_grad is timed as well. Needs the extra `benchmarks`.

    python benchmarks/explain.py [--networks resnet50 vit_small_patch16_224] [--repeats 15] [--threads 2]
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import timm
import torch
from machine import processor
from torch import nn

from torchvice import Explainer
from torchvice.files.process import keep_freed_memory
from torchvice.models.families import module_at, token_grid

BATCH, SIDE, LABELS = 8, 224, (3, 11)


def ours(model: nn.Module, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    """torchvice: one forward pass, one short backward pass per label."""
    explainer = Explainer(model, "gradcam")
    return lambda: explainer(images, [LABELS] * len(images)).maps.reshape(len(images), 2, -1)


def grad_cam(model: nn.Module, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    """pytorch-grad-cam: a forward and a whole backward pass for each label; its raw maps."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    site = Explainer(model, "gradcam").site
    grid = token_grid(model, images)

    def reshape(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[:, site.prefix_tokens :].transpose(1, 2).unflatten(2, grid)

    layer = model.layer4 if site.where == "input" else module_at(model, site.layer)
    cam = GradCAM(model, [layer], reshape_transform=reshape if site.layout == "tokens" else None)

    def run() -> torch.Tensor:
        found = []
        for label in LABELS:
            cam(images, [ClassifierOutputTarget(label)] * len(images))
            weights = cam.activations_and_grads.gradients[-1].mean((2, 3))
            found.append(torch.einsum("nd,ndhw->nhw", weights, cam.activations_and_grads.activations[-1]))
        return torch.stack(found, 1).flatten(2)

    return run


def torchcam(model: nn.Module, images: torch.Tensor) -> Callable[[], torch.Tensor] | None:
    """torchcam: convolutional networks only; one forward pass, a backward pass for each label."""
    if not hasattr(model, "layer4"):
        return None
    from torchcam.methods import GradCAM

    cam = GradCAM(model, model.layer4)

    def run() -> torch.Tensor:
        model.zero_grad()
        outputs = model(images)
        maps = [
            cam(label, outputs, normalized=False, retain_graph=number == 0)[0] for number, label in enumerate(LABELS)
        ]
        return torch.stack(maps, 1).flatten(2)

    return run


def captum(model: nn.Module, images: torch.Tensor) -> Callable[[], torch.Tensor] | None:
    """captum's LayerGradCam: convolutional networks only; a forward and a backward pass for each label."""
    if not hasattr(model, "layer4"):
        return None
    from captum.attr import LayerGradCam

    cam = LayerGradCam(model, model.layer4)
    return lambda: torch.stack([cam.attribute(images, label)[:, 0] for label in LABELS], 1).flatten(2)


PEERS = {"pytorch_grad_cam": grad_cam, "torchcam": torchcam, "captum": captum}


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether the maps of a tool equal ours, except for its ReLU and a scale per map."""
    a, b = (maps.detach().float().clamp(min=0).flatten(0, 1) for maps in (found, expected))
    a, b = (maps / maps.amax(1, keepdim=True).clamp(min=1e-12) for maps in (a, b))
    return torch.allclose(a, b, atol=1e-3)


def measure(name: str, repeats: int) -> None:
    """Print the medians of one network, and every tool relative to torchvice and to a forward pass."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=20).eval()
    images = torch.randn(BATCH, 3, SIDE, SIDE)

    def bare() -> torch.Tensor:
        with torch.no_grad():
            return model(images)

    tools: dict[str, Callable[[], torch.Tensor]] = {"bare forward": bare, "torchvice": ours(model, images)}
    expected = tools["torchvice"]()
    for peer, make in PEERS.items():
        run = None
        if importlib.util.find_spec(peer) is not None:
            run = make(model, images)
        if run is None:
            continue
        print(f"  {peer}: {'same maps' if same(run(), expected) else 'DIFFERENT MAPS'}")
        tools[peer] = run
    times: dict[str, list[float]] = {tool: [] for tool in tools}
    for _ in range(repeats):
        for tool, run in tools.items():
            begin = time.perf_counter()
            run()
            times[tool].append(time.perf_counter() - begin)
    medians = {tool: statistics.median(seconds) for tool, seconds in times.items()}
    for tool, seconds in medians.items():
        ratio, passes = seconds / medians["torchvice"], seconds / medians["bare forward"]
        print(f"  {tool:18s} {seconds * 1e3:8.1f} ms   {ratio:6.2f} x torchvice   {passes:6.2f} x a bare forward pass")


def main() -> None:
    """Measure the networks of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "vit_small_patch16_224"])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    torch.set_num_threads(options.threads)
    print(processor())
    for name in options.networks:
        setting = f"batch {BATCH}, {SIDE} pixels, 2 labels per image, {options.threads} threads"
        print(f"{name}, {setting}, median of {options.repeats}")
        measure(name, options.repeats)


if __name__ == "__main__":
    main()
