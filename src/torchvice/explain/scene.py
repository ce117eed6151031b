"""Scene: a batch to explain, as a method receives it, and the one forward pass that most methods need."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from torchvice.errors import ViceError, errors_quoted, reason_of
from torchvice.explain.capture import capture
from torchvice.explain.softmax import Given, softmax_logits
from torchvice.models.bare import logits_in, not_logits
from torchvice.models.families import MapSite, token_grid

__all__ = ["OutputsAndMaps", "Pass", "Scene"]

# The network's outputs (N, M) and the maps (P, h, w).
OutputsAndMaps = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Pass:
    """Result of a forward pass.

    `outputs` (N, M); `activations` (N, D, h, w) float32, detached; `leaf`, the tensor at the site in the network's own
    layout. With gradients, `leaf` is the leaf of the autograd graph.
    """

    outputs: torch.Tensor
    activations: torch.Tensor
    leaf: torch.Tensor


@dataclass(frozen=True)
class Scene:
    """A batch to explain. The model is in eval mode, and gradients are off unless a method switches them on.

    Args:
        model: the network.
        images: (N, 3, H, W).
        site: the place of the network's last map.
        head: the linear classifier, if the network ends in a mean over places and this layer; else None.
        pairs: (image, class) of every map to make; `targets_of` fills it where `pairs_from` is given.
        pairs_from: computes the pairs from the logits (N, C), for labels that depend on the prediction.
        class_map: for every class its outputs of the model; None: the outputs are the classes.
        given: what becomes of the outputs, see the argument `outputs` of `Explainer`.
        seed: seed of random methods.
        batch_size: images per pass, for methods that need many passes.
        progress: called with (passes done, total) by methods that need many passes.
        eigen_smooth: whether methods that sum weighted channels take their first principal component instead.
    """

    model: nn.Module
    images: torch.Tensor
    site: MapSite
    head: nn.Linear | None
    pairs: list[tuple[int, int]]
    pairs_from: Callable[[torch.Tensor], list[tuple[int, int]]] | None = None
    class_map: Sequence[Sequence[int]] | None = None
    given: Given = "logits"
    seed: int = 0
    batch_size: int = 32
    progress: Callable[[int, int], None] | None = None
    eigen_smooth: bool = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the network's outputs (N, M).

        Raises:
            ViceError: images of a size that the network does not accept, an error in its forward, or a network that is
                not a classifier.
        """
        kind, shape = type(self.model).__name__, tuple(images.shape)
        way_out = f"Try it by itself: model.eval()(torch.rand{shape})."
        if len(images) > 1:
            way_out += " One image at a time: --batch-size 1 (batch_size=1). An Explainer: one image a call."
        way_out += " Images of another size: --view-size SIDE (view_size=SIDE)."
        with errors_quoted(f"{kind} must run on images {shape}", way_out):
            try:
                outputs = logits_in(self.model(images.clone()), len(images))  # it may normalise them in place
            except AssertionError as error:  # how timm's networks of one size refuse others
                raise ViceError(
                    f"{kind} must accept images of {shape[2]} x {shape[3]}, but raises: "
                    f"{reason_of(error, 'an assertion without a message')}.",
                    "Resize the images to the network's input size.",
                ) from None
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or not outputs.is_floating_point():
            raise not_logits(self.model, outputs)
        return outputs

    @property
    def needs_maps(self) -> bool:
        """Whether there may be a map to make; known before the forward pass."""
        return self.pairs_from is not None or bool(self.pairs)

    @property
    def grid(self) -> tuple[int, int] | None:
        """(h, w) of a transformer's patches; None for other networks."""
        return token_grid(self.model, self.images, self.site)

    def run_network(self, gradients: bool) -> Pass:
        """Run the network forward once and keep the site's tensor.

        Raises:
            ViceError: as `forward`, or the pass does not reach the site.
        """
        with capture(self.model, self.site, gradients) as captured:
            outputs = self.forward(self.images)
        leaf = captured.reached(self.site)
        activations = self.site.to_maps(leaf.detach(), self.grid).float()
        return Pass(outputs, activations, leaf)

    def logits_of(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, C) of the data's classes, and the index (N, C) of the model's output that each is explained by.

        Raises:
            ViceError: a class map that names outputs the network lacks; or as `softmax_logits`.
        """
        logits, source = self._largest(outputs)
        if self.given != "logits":
            logits = softmax_logits(outputs, self.class_map, log=self.given == "log_softmax")
        return logits, source

    def _largest(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The largest output (N, C) of every class, and its index."""
        if self.class_map is None:
            return outputs, torch.arange(outputs.shape[1], device=outputs.device).expand(outputs.shape)
        logits, source = [], []
        for group in self.class_map:
            if not group or max(group) >= outputs.shape[1] or min(group) < 0:
                raise ViceError(f"`class_map` must name outputs 0 to {outputs.shape[1] - 1}, but holds {group}.")
            index = torch.tensor(group, device=outputs.device)
            best = outputs[:, index].max(dim=1)
            logits.append(best.values)
            source.append(index[best.indices])
        return torch.stack(logits, 1), torch.stack(source, 1)

    def targets_of(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (P,) of every pair, and the model's output (P,) that its map explains.

        Raises:
            ViceError: a class beyond the logits.
        """
        logits, source = self.logits_of(outputs)
        if self.pairs_from is not None:
            self.pairs[:] = self.pairs_from(logits.detach())
        pairs = torch.tensor(list(self.pairs), dtype=torch.int64).reshape(-1, 2).to(outputs.device)
        if len(pairs) and int(pairs[:, 1].max()) >= logits.shape[1]:
            raise ViceError(f"A label must be below {logits.shape[1]}, but is {int(pairs[:, 1].max())}.")
        return pairs[:, 0], source[pairs[:, 0], pairs[:, 1]]

    def seed_of(self, row: int) -> int:
        """Seed of a pair's random stream, 63 bits.

        It depends only on the scene's seed, the image's bytes and the class: neither on the rest of the batch nor on
        the global RNG state.
        """
        image, label = self.pairs[row]
        return self._seed(f"{self.seed} {label} ", image)

    def seed_of_image(self, image: int) -> int:
        """Seed of a random stream that all labels of an image share, see `seed_of`."""
        return self._seed(f"{self.seed} ", image)

    def _seed(self, prefix: str, image: int) -> int:
        pixels = self.images[image].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        digest = hashlib.sha256(prefix.encode() + pixels).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def backward_groups(self) -> list[list[int]]:
        """Rows of pairs, grouped so that an image occurs once per group: one backward pass serves a group."""
        groups: list[list[int]] = []
        pairs_of: Counter[int] = Counter()
        for row, (image, _) in enumerate(self.pairs):
            if pairs_of[image] == len(groups):
                groups.append([])
            groups[pairs_of[image]].append(row)
            pairs_of[image] += 1
        return groups

    def report_progress(self, done: int, total: int) -> None:
        """Call `progress`, if there is one, with the number of passes done and their total."""
        if self.progress is not None:
            self.progress(done, total)
