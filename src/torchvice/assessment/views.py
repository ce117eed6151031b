"""Views: what a protocol shows a network of an image, and how the maps are brought back to the image's size.

`strict` resizes the whole image once: one forward pass gives logits and map. `paper` shows three views: a centre crop
for the loss, the whole image and its mirror image for a convolutional network's map, a square warp for a transformer's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from torchvice.assessment.adapted import adapted, positive_of
from torchvice.assessment.ahead import has_free_core, made_ahead
from torchvice.assessment.asked_labels import labels_of, twice
from torchvice.assessment.device_counts import counted_on
from torchvice.assessment.finished import Finished, ViewOutput
from torchvice.assessment.map_settings import BATCH_SIZE, MapSettings, as_protocols, resolve_device
from torchvice.assessment.outputs import chosen_outputs
from torchvice.data.transforms import center_crop, normalise
from torchvice.data.warping import warp_all
from torchvice.errors import ViceError
from torchvice.explain import METHODS, Choices, Explainer, map_status, paper_choices
from torchvice.explain.engine import check_layer
from torchvice.explain.kind import is_convolutional
from torchvice.explain.memory import halve_on_oom
from torchvice.models.adapt import converted_channels
from torchvice.models.bare import check_finite
from torchvice.models.stages import stages

if TYPE_CHECKING:
    from torchvice.assessment.images import Batch

__all__ = ["View", "ViewOutput", "is_convolutional", "views_of"]

Warp = Callable[[Sequence[np.ndarray], Sequence[tuple[int, int]], str], list[np.ndarray]]


class View(Finished):
    """A way of showing images to a network.

    Args:
        protocol: `paper` or `strict`.
        explainer: gives logits and maps.
        settings: sizes, normalisation, batch size and device; what they leave open is the network's own.
        choices: how the maps are made; None: as `settings` say for `strict`, as published for `paper`.
        flipped: the mirror image is shown instead of the image, and its maps are mirrored back.
        exclusive: the predicted label is the likeliest one, rather than all labels with a logit above 0.
        explanation: the id of its maps; None: the protocol and the method.

    Attributes:
        name: of the view that the logits belong to. explanation: the id of its maps. settings: of its maps, for
        the manifest. map_settings: what it was made with, complete. side: pixels of a square view or centre crop.
    """

    def __init__(
        self,
        protocol: str,
        explainer: Explainer,
        settings: MapSettings,
        *,
        choices: Choices | None = None,
        flipped: bool = False,
        exclusive: bool = False,
        explanation: str | None = None,
    ) -> None:
        self.map_settings = settings = settings.for_model(explainer.model)
        if choices is None:
            choices = settings.choices if protocol == "strict" else paper_choices(is_convolutional(explainer))
        self.protocol, self.explainer, self.choices = protocol, explainer, choices
        self.transform = settings.transform if protocol == "strict" else None
        side = settings.view_size if protocol == "strict" else settings.crop
        assert side is not None  # `for_model` saw to it
        assert settings.batch_size is not None
        assert settings.mean is not None
        assert settings.std is not None
        self.side, self.batch_size, self.mean, self.std = side, settings.batch_size, settings.mean, settings.std
        if self.transform is not None:
            self.transform.check(choices, grey=converted_channels(explainer.model) == 1)
            self.mean, self.std = self.transform.mean, self.transform.std
        self.interpolation = (settings.interpolation if protocol == "strict" else None) or "bilinear"
        self.device = resolve_device(settings.device)
        self.warp_all: Warp = warp_all  # `Reads.warp_all`, where models share their inputs
        self.flipped, self.exclusive = flipped, exclusive
        self.separate_logits = protocol == "paper" and choices.view != "crop"  # they come from the centre crop
        shown = "whole" if choices.view == "whole" else f"{choices.view}{self.side}"
        shown = shown if self.transform is None else self.transform.view
        self.name = f"crop{self.side}" if self.separate_logits else shown
        self.explanation = explanation or f"{protocol}:{explainer.method}"
        self.settings = self._stored(shown)

    def _stored(self, shown: str) -> dict[str, Any]:
        """The settings of the maps for the manifest; `shown` names what of an image they are of."""
        explainer = self.explainer
        stored: dict[str, Any] = {
            "protocol": self.protocol,
            "method": explainer.method,
            "site": explainer.site.to_dict(),
            "seed": explainer.seed,
            **self.choices.to_dict(),
            "view": shown,
            "eigen_smooth": explainer.eigen_smooth,
            "flipped": self.flipped,
        }
        if self.transform is not None:
            stored["transform"] = self.transform.to_dict()
        names = ("precision", "channels_last", *(["interpolation"] if self.protocol == "strict" else []))
        stored |= {name: value for name, value in self.map_settings.to_dict().items() if name in names}
        if (sizes := METHODS[explainer.method].sizes) > 1:
            stored["stages"] = [one.layer for one in stages(explainer.model, explainer.site, sizes)]
        if explainer.plugin is not None:
            stored["plugin"] = dict(explainer.plugin)
        return stored

    def __repr__(self) -> str:
        chosen = [f"{name}={value!r}" for name, value in self.choices.differing().items() if name != "view"]
        chosen += ["flipped"] if self.flipped else []
        parts = [self.explanation, f"logits on {self.name}", f"maps on {self.settings['view']}", *chosen]
        return f"View({', '.join(parts)}, {self.explainer!r})"

    def variant(
        self, explanation: str, explainer: Explainer | None = None, flipped: bool = False, **choices: Any
    ) -> View:
        """The same view under another id, with another explainer, with the mirror image or with other choices."""
        return View(
            self.protocol,
            explainer or self.explainer,
            self.map_settings,
            choices=replace(self.choices, **choices),
            flipped=flipped,
            exclusive=self.exclusive,
            explanation=explanation,
        )

    def run(
        self, images: Sequence[np.ndarray], targets: np.ndarray, explained: Sequence[bool] | None = None
    ) -> Iterator[tuple[int, ViewOutput]]:
        """Show images and yield (position, ViewOutput), grouped by batch rather than in the order of the images.

        Args:
            images: (H, W, 3) uint8 each.
            targets: (N, C), 0 or 1, the true labels.
            explained: whether an image's maps are needed; None: of all images.
        """
        wanted = [True] * len(images) if explained is None else list(explained)
        logits: dict[int, np.ndarray] = {}
        if self.separate_logits:
            for part in _chunks(range(len(images)), self.batch_size):
                logits.update(zip(part, self._halving(part, lambda some: self._crop_logits(images, some)), strict=True))
        groups = self._groups(images, [i for i in range(len(images)) if wanted[i] or not self.separate_logits])
        # A transform is the user's, and perhaps not made for threads.
        ahead = self.transform is None and has_free_core(self.device)
        for part, shown in made_ahead(groups, lambda part: self._first_pass(images, part), ahead):

            def work(some: Sequence[int], whole: int = len(part), shown: Callable[[], torch.Tensor] = shown) -> Any:
                first = shown() if len(some) == whole else self._first_pass(images, some)
                return self._explained(images, targets, wanted, some, first)

            for position, output in zip(part, self._halving(part, work), strict=True):
                yield position, replace(output, logits=logits[position]) if self.separate_logits else output
        for i in (i for i in range(len(images)) if self.separate_logits and not wanted[i]):
            yield i, ViewOutput(logits[i], [], [], [], _nothing)

    def of_batch(self, batch: Batch, explained: Sequence[bool] | None = None) -> Iterator[tuple[int, ViewOutput]]:
        """Show the images of a batch, see `run`."""
        return self.run(batch.images, batch.targets, explained)

    def control_grid(self, output: ViewOutput) -> tuple[int, int]:
        """(h, w) of the maps of controls without a network: that of the view's own maps."""
        if output.maps:
            return int(output.maps[0].shape[0]), int(output.maps[0].shape[1])
        side = max(1, self.side // 32)  # where no label is explained, a stride of 32 is as good as any
        return side, side

    def _halving(self, part: Sequence[int], work: Callable[[Sequence[int]], list[Any]]) -> list[Any]:
        return halve_on_oom(part, work, self._shrink, self.explainer.halve_batch)

    def _shrink(self, size: int) -> None:
        self.batch_size = min(self.batch_size, size)
        self.explainer.batch_size = min(self.explainer.batch_size, size)

    def _crop_logits(self, images: Sequence[np.ndarray], part: Sequence[int]) -> list[np.ndarray]:
        crops = torch.stack([center_crop(self._tensor(images[i]), self.side) for i in part]).to(self.device)
        return list(self.explainer(crops, [[]] * len(part)).logits.float().cpu().numpy())

    def _tensor(self, image: np.ndarray) -> torch.Tensor:
        return normalise(image, self.mean, self.std)

    def _groups(self, images: Sequence[np.ndarray], members: list[int]) -> Iterator[Sequence[int]]:
        """Batches that can go through together: of one size, and no more pixels than a batch of square views."""
        if self.choices.view != "whole":
            yield from _chunks(members, self.batch_size)
            return
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i in members:
            by_size[images[i].shape[:2]].append(i)
        passes = 2 if self.choices.mirror else 1
        for (height, width), same in by_size.items():
            yield from _chunks(same, max(1, self.batch_size * self.side**2 // (passes * height * width)))

    def pixels(self, image: np.ndarray) -> torch.Tensor:
        """(3, H, W) what the first pass of a map shows of an image (H, W, 3) uint8, normalised, on the CPU."""
        shown = self._shown(image, self.choices.scales[0])
        return shown.flip(-1) if self.flipped else shown

    def shown_size(self, image: np.ndarray, scale: float | None = None) -> tuple[int, int]:
        """(H, W) of what is shown of an image; None: of the first pass."""
        if self.choices.view == "crop":
            return self.side, self.side
        scale = self.choices.scales[0] if scale is None else scale
        sides = (self.side, self.side) if self.choices.view == "warp" else image.shape[:2]
        return max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale))

    def shown_groups(
        self, images: Sequence[np.ndarray], positions: Sequence[int]
    ) -> Iterator[tuple[tuple[int, int], Sequence[int], int]]:
        """Group images that are shown at one size, with no more pixels at once than a batch of square views.

        Yields:
            (H, W) of what is shown of them; their positions; how many such images pass the network at once.
        """
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for position in positions:
            by_size[self.shown_size(images[position])].append(position)
        for (height, width), same in by_size.items():
            most = max(1, self.batch_size * self.side**2 // (height * width))
            for part in _chunks(same, most):
                yield (height, width), part, most

    def _shown(self, image: np.ndarray, scale: float) -> torch.Tensor:
        if self.transform is not None:
            return self.transform(image)
        if self.choices.view == "crop":
            return center_crop(self._tensor(image), self.side)
        return self._tensor(self.warp_all([image], [self.shown_size(image, scale)], self.interpolation)[0])

    def _first_pass(self, images: Sequence[np.ndarray], part: Sequence[int]) -> torch.Tensor:
        """What the first pass shows of some images, (N, 3, H, W)."""
        return self._batch([images[i] for i in part], self.choices.scales[0])

    def _batch(self, images: Sequence[np.ndarray], scale: float) -> torch.Tensor:
        """What is shown of images, (N, 3, H, W); for a GPU they are resized side by side, as it waits meanwhile."""
        if self.device.type != "cuda" or self.transform is not None or self.choices.view == "crop":
            return torch.stack([self._shown(image, scale) for image in images])
        sizes = [self.shown_size(image, scale) for image in images]
        return torch.stack([self._tensor(pixels) for pixels in self.warp_all(images, sizes, self.interpolation)])

    def _explained(
        self,
        images: Sequence[np.ndarray],
        targets: np.ndarray,
        wanted: Sequence[bool],
        part: Sequence[int],
        first_pass: torch.Tensor,
    ) -> list[ViewOutput]:
        """Logits and maps of some images, over all scales and mirrorings; the first pass gives logits and labels."""
        asked = np.array([targets[i] * wanted[i] for i in part]), [wanted[i] for i in part]
        labels = labels_of(self.choices, self.exclusive, *asked)
        passes: list[torch.Tensor] = []
        for turn, scale in enumerate(self.choices.scales):
            batch = (self._batch([images[i] for i in part], scale) if turn else first_pass).to(self.device)
            if self.flipped:
                batch = batch.flip(-1)
            if self.choices.mirror:
                batch = torch.cat([batch, batch.flip(-1)])
            explanation = self.explainer(batch, twice(labels) if self.choices.mirror else labels)
            if turn == 0:
                logits = explanation.logits[: len(part)].float().cpu().numpy()
                pairs = explanation.pairs[explanation.pairs[:, 0] < len(part)].tolist()
                labels = [[c for i, c in pairs if i == row] for row in range(len(part))]
            halves = explanation.maps.split(len(pairs)) if len(pairs) else ()
            passes += [half.flip(-1) if (number == 1) != self.flipped else half for number, half in enumerate(halves)]
        # One pass of the maps of a batch to the CPU, where a map is of one pass.
        kept = list(passes[0].cpu().numpy()) if len(passes) == 1 else None
        status = map_status(passes[0]) if len(passes) == 1 else None
        outputs, first = [], 0
        for row, own in enumerate(labels):
            mine, first = slice(first, first + len(own)), first + len(own)
            low = [maps[mine] for maps in passes] if own else []
            if kept is None or status is None or not own:
                outputs.append(self._output(logits[row], own, low))
            else:
                outputs.append(ViewOutput(logits[row], own, kept[mine], list(status[mine]), *self._full(low)))
        return outputs

    def _output(self, logits: np.ndarray, classes: list[int], low: list[torch.Tensor]) -> ViewOutput:
        if not low:
            return ViewOutput(logits, [], [], [], _nothing)
        kept = low[0] if len(low) == 1 else self.combined(low, _finest(low))
        return ViewOutput(logits, classes, list(kept.cpu().numpy()), list(map_status(kept)), *self._full(low))

    def _full(self, low: list[torch.Tensor]) -> tuple[Callable[..., np.ndarray], Callable[..., torch.Tensor] | None]:
        """What makes the full maps of an image: as an array, and on a GPU as a tensor."""
        return (
            lambda size, placed=True: self.finished(low, size, placed=placed),
            (lambda size: self.finished_tensor(low, size)) if counted_on(low[0].device) else None,
        )


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _finest(low: list[torch.Tensor]) -> tuple[int, int]:
    best = max(low, key=lambda maps: maps.shape[1] * maps.shape[2])
    return int(best.shape[1]), int(best.shape[2])


def _nothing(size: tuple[int, int], placed: bool = True) -> np.ndarray:
    return np.zeros((0, *size), np.float32)


def _check_choices(protocols: Sequence[str], settings: MapSettings) -> None:
    """Check that no choice is given that no protocol uses: `paper` is as published, but for `eigen_smooth`."""
    unused = [name for name in settings.choices.differing() if name != "eigen_smooth"]
    if settings.transform is not None and "strict" not in protocols:
        raise ViceError(
            "The transform must be for the protocol strict, but only paper is made, which is as published.",
            "Make the maps of strict (--protocol strict), or leave the transform out.",
        )
    if unused and "strict" not in protocols:
        raise ViceError(
            f"The choice `{unused[0]}` must be for the protocol strict, but only paper is made, which is as published.",
            "Make the maps of strict (--protocol strict), or leave the choice out.",
        )


def views_of(
    model: nn.Module,
    protocols: str | Sequence[str],
    settings: MapSettings,
    *,
    exclusive: bool = False,
    passes: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, View]:
    """The view of each protocol, in the order `paper`, `strict`; the model is moved to the device.

    Args:
        model, passes: as for `torchvice.assess`.
        protocols: "paper", "strict" or both.
        settings: see `MapSettings`.
        exclusive: as for `View`.
        say: called with a sentence where outputs that nobody named are taken as those of a softmax, see
            `torchvice.assessment.outputs.chosen_outputs`; None: they are logits.

    Raises:
        ViceError: a layer or method that does not fit the network, a layer with a method whose map is not of a layer,
            choices for `paper` alone, or as `as_protocols`.
    """
    protocols = as_protocols(protocols)
    _check_choices(protocols, settings)
    model = adapted(model, settings, exclusive)
    check_finite(model)
    model.to(resolve_device(settings.device))
    if settings.site is not None:
        check_layer(model, settings.method, "site")
    explainers, settings = _explainers(model, settings, exclusive, passes, say)
    views: dict[str, View] = {
        protocol: View(protocol, explainers[protocol], settings, exclusive=exclusive)
        for protocol in ("paper", "strict")
        if protocol in protocols
    }
    if len({view.name for view in views.values()}) < len(views):  # the rows of a table are told apart by it
        views["strict"].name += "-strict"
    return views


def _explainers(
    model: nn.Module,
    settings: MapSettings,
    exclusive: bool,
    passes: Callable[[int, int], None] | None,
    say: Callable[[str], None] | None,
) -> tuple[dict[str, Explainer], MapSettings]:
    """The explainer of each protocol, and the settings with the kind of outputs that was chosen; see `views_of`."""
    choices = settings.choices
    groups = None if positive_of(settings.class_map) is not None else settings.class_map
    common: dict[str, Any] = {"layer": settings.layer, "site": settings.site, "class_map": groups}
    common |= {"eigen_smooth": choices.eigen_smooth, "progress": passes}
    common |= {"batch_size": settings.batch_size or BATCH_SIZE}
    common |= {"precision": settings.precision, "channels_last": settings.channels_last}
    of_strict = explainer = Explainer(model, settings.method, **common)
    if say is not None and not exclusive:
        settings = chosen_outputs(explainer, settings, say)
    if choices.layers or choices.aug_smooth:  # of `strict` only: `paper` is as published
        common |= {"layers": choices.layers or None, "aug_smooth": choices.aug_smooth}
        of_strict = Explainer(model, settings.method, scaled=choices.scaled, grid=choices.grid, **common)
    if settings.outputs == "softmax":
        explainer.outputs = of_strict.outputs = "log_softmax" if exclusive else "softmax"
    return {"paper": explainer, "strict": of_strict}, settings
