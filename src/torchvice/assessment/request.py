"""Extras: what is requested of the view of `strict` in addition to its maps, and the explanations that follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from torchvice.assessment.controls import CONTROLS
from torchvice.assessment.extras import Extra, explainer_like
from torchvice.errors import ViceError, did_you_mean

if TYPE_CHECKING:
    from torchvice.assessment.views import View
    from torchvice.explain import FaithfulnessChoices

__all__ = ["Extras", "ExtrasKeywords", "extras_of", "scale_of"]


class ExtrasKeywords(TypedDict, total=False):
    """The fields of `Extras` as keyword arguments."""

    controls: bool | Sequence[str] | None
    also: Sequence[str]
    faithfulness: str | Sequence[str] | FaithfulnessChoices


@dataclass(frozen=True)
class Extras:
    """What is requested of the view of `strict` in addition to its maps.

    Args:
        controls: names from `CONTROLS`; None: those of the table that is resumed, all of a new table.
        also: names of methods; "mirror" and "scaleFACTOR" (the headline's method on the mirror image, or on one of
            FACTOR the size); "predicted" (the maps of the predicted labels).
        faithfulness: what is measured of the maps of `strict` and of the methods in `also`; None: nothing.

    Raises:
        ViceError: an unknown name, or a control in `also`.
    """

    controls: tuple[str, ...] | None = ()
    also: tuple[str, ...] = ()
    faithfulness: FaithfulnessChoices | None = None

    def __post_init__(self) -> None:
        from torchvice.explain import METHODS

        for name in self.controls or ():
            if name not in CONTROLS:
                raise ViceError(f"A control must be one of {', '.join(CONTROLS)}, but is {name!r}.")
        for name in self.also:
            if name in CONTROLS:
                raise ViceError(f"{name!r} is a control, not a further explanation.", "Use `controls` (--controls).")
            if name not in (*METHODS, "mirror", "predicted") and scale_of(name) is None:
                known = [*(method for method in METHODS if method not in CONTROLS), "mirror", "scale0.75", "predicted"]
                expected = "`also` must name a method, mirror, scaleFACTOR or predicted"
                raise ViceError(f"{expected}, but is {name!r}.", did_you_mean(name, known))

    @classmethod
    def of(
        cls,
        controls: bool | Sequence[str] | None = False,
        also: Sequence[str] = (),
        faithfulness: str | Sequence[str] | FaithfulnessChoices | None = None,
    ) -> Extras:
        """A request as `torchvice.assess` takes it: `controls` True for all; `faithfulness` also as texts."""
        from torchvice.explain import FaithfulnessChoices

        if isinstance(controls, bool):
            controls = tuple(CONTROLS) if controls else ()
        if not isinstance(faithfulness, FaithfulnessChoices):
            texts = [faithfulness] if isinstance(faithfulness, str) else list(faithfulness or ())
            faithfulness = FaithfulnessChoices.parse(texts) if texts else None
        return cls(None if controls is None else tuple(dict.fromkeys(controls)), tuple(also), faithfulness)

    def for_table(self, folder: Path) -> Extras:
        """The same request with the controls of the table in a folder, where `controls` is None."""
        from torchvice.samples import ShardFolder

        table = ShardFolder(folder)
        if self.controls is not None:
            return self
        if not table.manifest_path.is_file() or not table.shards():
            return replace(self, controls=tuple(CONTROLS))
        manifest = table.manifest()
        known = manifest["explanations"] | manifest["adding"]
        names = (name.partition(":")[2] for name, settings in known.items() if settings["role"] == "control")
        return replace(self, controls=tuple(names))


def extras_of(headline: View, request: Extras) -> list[Extra]:
    """The requested further explanations of a headline, the view of `strict`.

    Controls, retests and other labels have no faithfulness.

    Raises:
        ViceError: a method that does not fit the network, or a control that is the headline.
    """
    names = request.controls or ()
    for name in names:
        if f"strict:{name}" == headline.explanation:
            raise ViceError(f"`strict:{name}` is the headline, and cannot be a control too.", "Use --controls none.")
    extras = [CONTROLS[name].make(headline, name) for name in names]
    extras += [_further(headline, name) for name in request.also if name != headline.explainer.method]
    by_id = {extra.explanation: extra.with_faithfulness(request.faithfulness) for extra in extras}
    return list(by_id.values())


def _further(headline: View, name: str) -> Extra:
    from torchvice.explain import METHODS

    factor = scale_of(name)
    if name == "mirror":
        return Extra.of_view(headline.variant("strict:mirror", flipped=True), "retest")
    if factor is not None:
        scales = tuple(factor * size for size in headline.choices.scales)
        return Extra.of_view(headline.variant(f"strict:scale{factor:g}", scales=scales), "retest")
    if name == "predicted":
        return Extra.of_view(headline.variant("strict:predicted", labels="predicted"), "labels")
    smooth = headline.choices.eigen_smooth and METHODS[name].sums_channels
    explainer = explainer_like(headline, name, headline.explainer.model, smooth)
    return Extra.of_view(headline.variant(f"strict:{name}", explainer, eigen_smooth=smooth), "method")


def scale_of(name: str) -> float | None:
    """The factor of "scaleFACTOR", above 0; None for any other name.

    Example:
        >>> scale_of("scale0.75"), scale_of("scale0"), scale_of("mirror")
        (0.75, None, None)
    """
    match = re.fullmatch(r"scale(\d+(?:\.\d+)?|\.\d+)", name)
    return float(match[1]) if match and float(match[1]) > 0 else None
