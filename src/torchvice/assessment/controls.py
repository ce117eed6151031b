"""Controls: explanations that know less than the headline, to compare its score with. `CONTROLS` lists them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.assessment.extras import Extra, explainer_like
from torchvice.assessment.images import Read
from torchvice.assessment.rows import SingleMap
from torchvice.samples import Samples

if TYPE_CHECKING:
    import torch

    from torchvice.assessment.views import View, ViewOutput

__all__ = ["CONTROLS", "CONTROL_SETS", "SEED", "Control", "without_row"]

SEED = 0


def _random_weights(headline: View, name: str) -> Extra:
    """The headline's method on the same network with random weights; it takes a pass."""
    from torchvice.assessment.randomised import randomised

    explainer = explainer_like(headline, headline.explainer.method, randomised(headline.explainer.model, SEED))
    return Extra.of_view(headline.variant(f"strict:{name}", explainer, labels="true"), "control", weights_seed=SEED)


def _shuffled(headline: View, name: str) -> Extra:
    """The headline's maps, each counted against the region of another image of the class."""
    settings = _settings(headline, name)

    def made(read: Read, output: ViewOutput, classes: list[int]) -> Iterator[SingleMap]:
        return _onto_partners(str(settings["view"]), read, output, classes)

    return Extra(f"strict:{name}", "control", settings, made=made, partners=True)


def _without_network(headline: View, name: str) -> Extra:
    """The maps of a method that does not use the network, see `torchvice.explain.controls`."""
    settings = _settings(headline, name)
    settings |= {"method": name, "site": None, "scales": [1.0], "mirror": False, "eigen_smooth": False}
    settings |= {"layers": [], "aug_smooth": False}
    if name == "foreground":
        settings["normalisation"] = "none"

    def made(read: Read, output: ViewOutput, classes: list[int]) -> Iterator[SingleMap]:
        return _painted(name, settings["normalisation"], headline, read, output, classes)

    return Extra(f"strict:{name}", "control", settings, made=made)


def _settings(headline: View, name: str) -> dict[str, Any]:
    return {**headline.settings, "role": "control", "labels": "true", "control": name, "seed": SEED}


@dataclass(frozen=True)
class Control:
    """A control: `make(headline, name)` gives its explanation; a `cheap` one takes no pass in addition to the
    headline's."""

    name: str
    cheap: bool
    make: Callable[[View, str], Extra]


CONTROLS = {
    control.name: control
    for control in (
        Control("random", True, _without_network),
        Control("center", True, _without_network),
        Control("foreground", True, _without_network),
        Control("shuffled", True, _shuffled),
        Control("random_weights", False, _random_weights),
    )
}

# The values of `--controls` and of a study's `controls`.
CONTROL_SETS: dict[str, tuple[str, ...]] = {
    "all": tuple(CONTROLS),
    "cheap": tuple(name for name, control in CONTROLS.items() if control.cheap),
    "none": (),
}


def _onto_partners(view: str, read: Read, output: ViewOutput, classes: list[int]) -> Iterator[SingleMap]:
    """The headline's maps, each against another image's region of the class; the maps are kept with the headline."""
    for row, c in enumerate(output.classes):
        if c in classes and c in read.partners:
            region = read.partners[c]
            yield SingleMap(c + 1, output.status[row], _resized(view, read, output, region.size)[row], region, None)


def _resized(view: str, read: Read, output: ViewOutput, size: tuple[int, int]) -> np.ndarray:
    """The maps (M, H, W) of an image, at the size of another one.

    Where the view pads one of the two, the part of the other that it shows is not the part that the maps are of: the
    maps are put to their place in their own image, and this is resized.
    """
    import torch

    from torchvice.assessment.finished import is_padded
    from torchvice.explain import upsample

    own = (read.image.shape[0], read.image.shape[1])
    if not (is_padded(view, own) or is_padded(view, size)):
        return output.full(size)
    return upsample(torch.from_numpy(output.full(own)), size).numpy()


def _painted(
    name: str, normalisation: Any, headline: View, read: Read, output: ViewOutput, classes: list[int]
) -> Iterator[SingleMap]:
    """The maps of a method that does not use the network, on the grid of the headline's maps, without a pass.

    Random numbers depend on the stored image, the class and the seed.
    """
    from torchvice.explain import map_status
    from torchvice.explain.methods import method_named

    assert read.region is not None
    low = method_named(name).run(_scene(headline, read, output, classes))[1]
    full = headline.finished([low], read.region.size, normalisation)
    status = map_status(low)
    for row, c in enumerate(classes):
        yield SingleMap(c + 1, status[row], full[row], read.region, low[row].numpy())


def _scene(headline: View, read: Read, output: ViewOutput, classes: list[int]) -> Any:
    """A scene whose logits are known already; of the activations only the size counts."""
    import torch

    from torchvice.explain.scene import Pass, Scene

    size = headline.control_grid(output)

    class Known(Scene):
        def run_network(self, gradients: bool) -> Pass:
            nothing = torch.zeros(1, 1, *size)
            return Pass(torch.as_tensor(output.logits)[None], nothing, nothing)

    pixels: torch.Tensor = torch.tensor(read.image)[None]
    explainer = headline.explainer
    return Known(explainer.model, pixels, explainer.site, None, [(0, c) for c in classes], seed=SEED)


def without_row(samples: Samples) -> dict[str, int]:
    """{control: true (image, class) pairs of `strict` with mask pixels that it has no row for}; only what happened.

    Of `shuffled`, whose class no other image's mask holds.
    """
    if "strict" not in samples.protocols:
        return {}
    images, headline = samples.of_protocol("strict").images, samples.of_protocol("strict").regions
    truth = dict(zip(images.image_id.tolist(), images.targets, strict=True))
    rows = zip(headline.image_id.tolist(), headline.label.tolist(), headline.mask_pixels.tolist(), strict=True)
    pairs = {(image, label) for image, label, pixels in rows if label and pixels and truth[image][label - 1]}
    found = {}
    for name, settings in samples.manifest["explanations"].items():
        if settings["role"] == "control":
            mine = samples.regions.where(np.flatnonzero(samples.regions.explanation == name))
            found[name] = len(pairs - set(zip(mine.image_id.tolist(), mine.label.tolist(), strict=True)))
    return {name: count for name, count in found.items() if count}
