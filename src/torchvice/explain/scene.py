"""Scene: what a method is given for a batch, and the one forward pass that most methods need."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.capture import capture
from torchvice.models.families import MapSite, token_grid

__all__ = ["Pass", "Scene"]


@dataclass(frozen=True)
class Pass:
    """What a forward pass left.

    `outputs` (N, M); `activations` (N, D, h, w) float32, detached; `leaf`, the tensor at the site as the network has
    it, from which on a graph exists where gradients were asked for.
    """

    outputs: torch.Tensor
    activations: torch.Tensor
    leaf: torch.Tensor


@dataclass(frozen=True)
class Scene:
    """A batch to explain, under the model's eval mode and without gradients unless a method switches them on.

    Args:
        model: the network.
        images: (N, 3, H, W).
        site: where its last map is.
        head: the linear classifier, if the network is a mean over places and that; else None.
        asked: (image, class) of every pair; filled by `targets_of` where `ask` says it.
        ask: from the logits (N, C) the pairs, where they hang on what the model says; None: `asked` is known.
        class_map: for every class the outputs that mean it; None: the outputs are the classes.
        seed: of methods that draw.
        batch_size: images a pass of methods that need many.
        progress: told (passes done, passes in all) by methods that need many; None: nobody is.
        eigen_smooth: whether methods that sum weighted channels take their first principal component instead.
    """

    model: nn.Module
    images: torch.Tensor
    site: MapSite
    head: nn.Linear | None
    asked: list[tuple[int, int]]
    ask: Callable[[torch.Tensor], list[tuple[int, int]]] | None = None
    class_map: Sequence[Sequence[int]] | None = None
    seed: int = 0
    batch_size: int = 32
    progress: Callable[[int, int], None] | None = None
    eigen_smooth: bool = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, M) outputs of the network.

        Raises:
            ViceError: images of a size that it does not take, or a network that is no classifier.
        """
        try:
            outputs = self.model(images)
        except AssertionError as error:  # timm's networks of one size say so this way
            reason = str(error).rstrip(".") or "an assertion of its own"
            size = f"{images.shape[2]} x {images.shape[3]}"
            raise ViceError(
                f"{type(self.model).__name__} must accept images of {size}, but says: {reason}.",
                "Give them at the network's own size.",
            ) from None
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
            came = f"shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise ViceError(f"The model must give logits (N, C), but gives {came}.", "Explain a classifier.")
        return outputs

    @property
    def asks(self) -> bool:
        """Whether any map can be asked for; known before the forward pass."""
        return self.ask is not None or bool(self.asked)

    @property
    def grid(self) -> tuple[int, int] | None:
        """(h, w) of a transformer's patches; None elsewhere."""
        if self.site.layout != "tokens":
            return None
        return self.site.grid(self.images) or token_grid(self.model, self.images)

    def look(self, gradients: bool) -> Pass:
        """The forward pass that keeps the site's tensor.

        Raises:
            ViceError: as `forward`; or the site takes no part in it.
        """
        with capture(self.model, self.site, gradients) as captured:
            outputs = self.forward(self.images)
        if captured.leaf is None:
            raise ViceError(f"`{self.site.layer}` must take part in the forward pass, but was not reached.")
        activations = self.site.to_maps(captured.leaf.detach(), self.grid).float()
        return Pass(outputs, activations, captured.leaf)

    def logits_of(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The data's logits (N, C), and the model's output (N, C) that each comes from."""
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
        """For every asked pair its image (P,) and the model's output (P,) that is explained.

        Raises:
            ViceError: a class beyond the logits.
        """
        logits, source = self.logits_of(outputs)
        if self.ask is not None:
            self.asked[:] = self.ask(logits.detach())
        pairs = torch.tensor(list(self.asked), dtype=torch.int64).reshape(-1, 2).to(outputs.device)
        if len(pairs) and int(pairs[:, 1].max()) >= logits.shape[1]:
            raise ViceError(f"A label must be below {logits.shape[1]}, but is {int(pairs[:, 1].max())}.")
        return pairs[:, 0], source[pairs[:, 0], pairs[:, 1]]

    def seed_of(self, row: int) -> int:
        """The seed of a pair's random stream, 63 bits.

        It depends on the scene's seed, the image's bytes and the class, and on nothing else: neither on the batch that
        an image is shown in nor on the global random state.
        """
        image, label = self.asked[row]
        pixels = self.images[image].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        digest = hashlib.sha256(f"{self.seed} {label} ".encode() + pixels).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def turns(self) -> list[list[int]]:
        """The pairs, grouped so that each group has an image once: one backward pass serves a group."""
        groups: list[list[int]] = []
        seen: dict[int, int] = {}
        for row, (image, _) in enumerate(self.asked):
            turn = seen.get(image, 0)
            seen[image] = turn + 1
            if turn == len(groups):
                groups.append([])
            groups[turn].append(row)
        return groups
