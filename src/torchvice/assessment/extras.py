"""Extras: explanations of strict's view beside the headline: controls, other methods, retests, other labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.assessment.checks import CHEAP, CONTROLS, check_names, scale_of
from torchvice.assessment.faithfulness import with_faithfulness
from torchvice.assessment.images import Read
from torchvice.assessment.region import Region
from torchvice.assessment.rows import Rows, SingleMap
from torchvice.errors import ViceError

if TYPE_CHECKING:
    import torch

    from torchvice.assessment.views import View, ViewOutput
    from torchvice.explain import FaithfulnessChoices

__all__ = ["CHEAP", "CONTROLS", "Extra", "count_extras", "extras_of"]

SEED = 0


@dataclass(frozen=True)
class Extra:
    """A further explanation.

    Attributes:
        explanation: its id.
        role: "control", "method", "retest" or "labels". Controls are counted class by class: maps that are the same for
            all classes would tie everywhere, and the lowest class would win every pixel.
        settings: what the manifest says.
        view: what the network is shown for it; None: `made` makes it of the headline.
        made: the maps, from the image, what the headline saw of it, and its true classes.
        partners: whether it wants the regions of other images.
        faithful: whether its maps' faithfulness is asked for, and how.
    """

    explanation: str
    role: str
    settings: dict[str, Any]
    view: View | None = None
    made: Callable[[Read, ViewOutput, list[int]], Iterator[SingleMap]] | None = None
    partners: bool = False
    faithful: FaithfulnessChoices | None = None


def extras_of(
    headline: View, controls: bool | Sequence[str], also: Sequence[str], faithful: FaithfulnessChoices | None = None
) -> list[Extra]:
    """The further explanations that are asked for.

    Args:
        headline: the view of `strict`.
        controls: True: all of CONTROLS; False: none; else names of them.
        also: methods, "mirror", "scaleFACTOR" and "predicted".
        faithful: whether the faithfulness of the methods is asked for; controls, retests and other labels have none.

    Raises:
        ViceError: an unknown name, or a method that does not fit the network.
    """
    check_names(controls, also)
    names = list(CONTROLS) if controls is True else [] if controls is False else list(controls)
    for name in names:
        if f"strict:{name}" == headline.explanation:
            raise ViceError(f"`strict:{name}` is the headline, and cannot be a control too.", "Take --controls none.")
    found = [_control(headline, name) for name in dict.fromkeys(names)]
    further = [_further(headline, name) for name in also if name != headline.explainer.method]
    found += [_asked(extra, faithful) for extra in further]
    return list({extra.explanation: extra for extra in found}.values())


def _asked(extra: Extra, faithful: FaithfulnessChoices | None) -> Extra:
    if faithful is None or extra.role != "method":
        return extra
    return replace(extra, faithful=faithful, settings={**extra.settings, "faithfulness": faithful.to_dict()})


def _control(headline: View, name: str) -> Extra:
    explanation = f"strict:{name}"
    if name == "random_weights":
        from torchvice.assessment.randomised import randomised

        explainer = _explainer(headline, headline.explainer.method, randomised(headline.explainer.model, SEED))
        view = headline.variant(explanation, explainer, labels="true")
        return Extra(explanation, "control", {**_settings(view, "control"), "weights_seed": SEED}, view)
    settings = {**headline.settings, "role": "control", "labels": "true", "control": name, "seed": SEED}
    if name == "shuffled":
        return Extra(explanation, "control", settings, made=_onto_partners, partners=True)
    settings |= {"method": name, "site": None, "scales": [1.0], "mirror": False, "eigen_smooth": False}
    if name == "foreground":
        settings["normalisation"] = "none"

    def made(read: Read, seen: ViewOutput, classes: list[int]) -> Iterator[SingleMap]:
        return _painted(name, settings["normalisation"], headline, read, seen, classes)

    return Extra(explanation, "control", settings, made=made)


def _further(headline: View, name: str) -> Extra:
    from torchvice.explain import METHODS

    factor = scale_of(name)
    if name == "mirror":
        return _passing(headline.variant("strict:mirror", flipped=True), "retest")
    if factor is not None:
        scales = tuple(factor * size for size in headline.choices.scales)
        return _passing(headline.variant(f"strict:scale{factor:g}", scales=scales), "retest")
    if name == "predicted":
        return _passing(headline.variant("strict:predicted", labels="predicted"), "labels")
    smooth = headline.choices.eigen_smooth and METHODS[name].sums_channels
    explainer = _explainer(headline, name, headline.explainer.model, smooth)
    return _passing(headline.variant(f"strict:{name}", explainer, eigen_smooth=smooth), "method")


def _passing(view: View, role: str) -> Extra:
    return Extra(view.explanation, role, _settings(view, role), view)


def _settings(view: View, role: str) -> dict[str, Any]:
    return {"role": role, **view.settings}


def _explainer(headline: View, method: str, model: Any, eigen_smooth: bool | None = None) -> Any:
    """An explainer at the headline's layer."""
    from torchvice.explain import Explainer

    like = headline.explainer
    return Explainer(
        model,
        method,
        site=like.site,
        class_map=like.class_map,
        seed=like.seed,
        batch_size=like.batch_size,
        eigen_smooth=like.eigen_smooth if eigen_smooth is None else eigen_smooth,
    )


def _onto_partners(read: Read, seen: ViewOutput, classes: list[int]) -> Iterator[SingleMap]:
    """The headline's maps, each against another image's region of the class; the maps are kept with the headline."""
    for row, c in enumerate(seen.classes):
        if c in classes and c in read.partners:
            region = read.partners[c]
            yield SingleMap(c + 1, seen.status[row], seen.full(region.size)[row], region, None)


def _painted(
    name: str, normalisation: Any, headline: View, read: Read, seen: ViewOutput, classes: list[int]
) -> Iterator[SingleMap]:
    """The maps of a method that asks nothing of the network, as fine as the headline's; no pass is made for them.

    Random numbers hang on the stored image, the class and the seed.
    """
    from torchvice.explain import map_status
    from torchvice.explain.methods import method_named

    assert read.region is not None
    low = method_named(name).run(_scene(headline, read, seen, classes))[1]
    full = headline.finished([low], read.region.size, normalisation)
    status = map_status(low)
    for row, c in enumerate(classes):
        yield SingleMap(c + 1, status[row], full[row], read.region, low[row].numpy())


def _scene(headline: View, read: Read, seen: ViewOutput, classes: list[int]) -> Any:
    """A scene that has been looked at already: the logits are known, and of the activations only the size counts."""
    import torch

    from torchvice.explain.scene import Pass, Scene

    # Where the headline explains no label of the image, a stride of 32 is as good as any.
    size = seen.maps[0].shape if seen.maps else (max(1, headline.side // 32),) * 2

    class Known(Scene):
        def run_network(self, gradients: bool) -> Pass:
            nothing = torch.zeros(1, 1, *size)
            return Pass(torch.as_tensor(seen.logits)[None], nothing, nothing)

    pixels: torch.Tensor = torch.tensor(read.image)[None]
    explainer = headline.explainer
    return Known(explainer.model, pixels, explainer.site, None, [(0, c) for c in classes], seed=SEED)


def count_extras(
    extras: Sequence[Extra],
    rows: Mapping[str, Rows],
    part: Sequence[Read],
    image_ids: Sequence[str],
    targets: np.ndarray,
    found: dict[int, ViewOutput],
    advance: Callable[[int], None],
) -> None:
    """Make the maps of the extras and count them.

    Args:
        rows: where those of each explanation go.
        part: the images, those without a region too, which have no rows.
        image_ids, targets: theirs, (N,) and (N, C).
        found: what the headline saw, by position; asked for where an extra is made of it.
        advance: told how many images are done.
    """
    images = [read.image for read in part]
    masked = [position for position, read in enumerate(part) if read.region is not None]
    for extra in extras:
        looked = _looked(extra, part, targets, masked, found)
        for position, seen, mine in with_faithfulness(extra.view, images, looked, extra.faithful):
            read, image_id = part[position], image_ids[position]
            assert read.region is not None
            if extra.role != "control":
                rows[extra.explanation].count(image_id, extra.explanation, seen, read.region, mine)
            else:
                classes = np.flatnonzero(targets[position]).tolist()
                for alone in _alone(seen, read.region) if extra.made is None else extra.made(read, seen, classes):
                    rows[extra.explanation].count_alone(image_id, extra.explanation, alone)
            advance(1)
        advance(len(part) - len(masked))


def _looked(
    extra: Extra, part: Sequence[Read], targets: np.ndarray, masked: list[int], found: dict[int, ViewOutput]
) -> Iterator[tuple[int, ViewOutput]]:
    if extra.view is None:
        yield from ((position, found[position]) for position in masked)
    elif masked:
        for place, seen in extra.view.look([part[position].image for position in masked], targets[masked]):
            yield masked[place], seen


def _alone(seen: ViewOutput, region: Region) -> Iterator[SingleMap]:
    full = seen.full(region.size)
    for row, c in enumerate(seen.classes):
        yield SingleMap(c + 1, seen.status[row], full[row], region, seen.maps[row])
