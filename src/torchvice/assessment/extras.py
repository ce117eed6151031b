"""Extra: an explanation of the view of `strict` in addition to the headline, and how its maps are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.assessment.faithfulness import with_faithfulness
from torchvice.assessment.images import Batch, Read
from torchvice.assessment.region import Region
from torchvice.assessment.rows import Rows, SingleMap

if TYPE_CHECKING:
    from torch import nn

    from torchvice.assessment.views import View, ViewOutput
    from torchvice.explain import Explainer, FaithfulnessChoices

__all__ = ["Extra", "count_extras", "explainer_like"]


@dataclass(frozen=True)
class Extra:
    """A further explanation.

    Attributes:
        explanation: its id.
        role: "control", "method", "retest" or "labels". Controls are counted class by class: maps that are the same for
            all classes would tie everywhere, and the lowest class would win every pixel.
        settings: its entry in the manifest.
        view: the view that makes it; None: `made` makes it from the headline's output.
        made: makes the maps from the image, the headline's output and the true classes.
        partners: whether it needs the regions of other images.
        faithfulness: how the faithfulness of its maps is measured; None: not at all.
    """

    explanation: str
    role: str
    settings: dict[str, Any]
    view: View | None = None
    made: Callable[[Read, ViewOutput, list[int]], Iterator[SingleMap]] | None = None
    partners: bool = False
    faithfulness: FaithfulnessChoices | None = None

    @classmethod
    def of_view(cls, view: View, role: str, **settings: Any) -> Extra:
        """The explanation that a view makes in passes of its own."""
        return cls(view.explanation, role, {"role": role, **view.settings, **settings}, view)

    def with_faithfulness(self, choices: FaithfulnessChoices | None) -> Extra:
        """The same with faithfulness, if it is another method."""
        if choices is None or self.role != "method":
            return self
        settings = {**self.settings, "faithfulness": choices.to_dict()}
        return replace(self, faithfulness=choices, settings=settings)


def explainer_like(headline: View, method: str, model: nn.Module, eigen_smooth: bool | None = None) -> Explainer:
    """An explainer at the headline's layer, or layers if the method has any, that averages as the headline's does."""
    from torchvice.explain import METHODS, Explainer

    like = headline.explainer
    same: dict[str, Any] = {"site": like.site}
    if like.average is not None:
        if headline.choices.layers and METHODS[method].any_layer:
            same = {"layers": [site.layer for site in like.average.sites]}
        same |= {"aug_smooth": like.average.aug_smooth, "scaled": like.average.scaled, "grid": like.average.grid}
    return Explainer(
        model,
        method,
        **same,
        class_map=like.class_map,
        outputs=like.outputs,
        seed=like.seed,
        batch_size=like.batch_size,
        eigen_smooth=like.eigen_smooth if eigen_smooth is None else eigen_smooth,
        precision=like.precision,
        channels_last=like.channels_last,
    )


def count_extras(
    extras: Sequence[Extra],
    rows: Mapping[str, Rows],
    batch: Batch,
    headline: Mapping[int, ViewOutput],
    advance: Callable[[int], None],
) -> None:
    """Make the maps of the extras and count them.

    Args:
        rows: by explanation, where its rows go.
        batch: the images, including those without a region, which get no rows.
        headline: the headline's output by position; read by extras without a view.
        advance: called with the number of images done.
    """
    from torchvice.assessment.device_counts import with_counts

    images, masked = batch.images, np.flatnonzero(batch.masked).tolist()
    for extra in extras:
        outputs = _outputs(extra, batch, masked, headline)
        made = with_faithfulness(extra.view, images, outputs, extra.faithfulness)
        for (position, output, columns), counts in with_counts(made, batch.reads, extra.role != "control"):
            read, image_id = batch.reads[position], batch.image_ids[position]
            assert read.region is not None
            if extra.role != "control":
                rows[extra.explanation].count(image_id, extra.explanation, output, read.region, columns, counts)
            else:
                classes = np.flatnonzero(batch.targets[position]).tolist()
                maps = extra.made(read, output, classes) if extra.made else _single_maps(output, read.region)
                for single in maps:
                    rows[extra.explanation].count_single(image_id, extra.explanation, single)
            advance(1)
        advance(len(images) - len(masked))


def _outputs(
    extra: Extra, batch: Batch, masked: list[int], headline: Mapping[int, ViewOutput]
) -> Iterator[tuple[int, ViewOutput]]:
    """By position, the outputs that an extra's maps are made from: of its own view, or of the headline."""
    if extra.view is None:
        yield from ((position, headline[position]) for position in masked)
    elif masked:
        images = batch.images
        for place, output in extra.view.run([images[position] for position in masked], batch.targets[masked]):
            yield masked[place], output


def _single_maps(output: ViewOutput, region: Region) -> Iterator[SingleMap]:
    full = output.full(region.size)
    for row, c in enumerate(output.classes):
        yield SingleMap(c + 1, output.status[row], full[row], region, output.maps[row])
