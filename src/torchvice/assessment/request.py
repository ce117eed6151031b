"""Extras: what is requested of the view of `strict` in addition to its maps, and the explanations that follow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from torchvice.assessment.controls import CONTROL_SETS, CONTROLS
from torchvice.assessment.extras import Extra, explainer_like
from torchvice.assessment.map_settings import MapKeywords, MapSettings, as_protocols, packed
from torchvice.data.open import FOLDERS, FolderKeywords
from torchvice.errors import ViceError, check_kind, did_you_mean, names_of
from torchvice.explain.choices import MOST_SCALE

if TYPE_CHECKING:
    from torchvice.assessment.views import View
    from torchvice.data.filling import InterventionChoices
    from torchvice.explain import FaithfulnessChoices

__all__ = ["AssessKeywords", "Extras", "ExtrasKeywords", "check_request", "extras_of", "packed_with_extras", "scale_of"]


class ExtrasKeywords(TypedDict, total=False):
    """The fields of `Extras` as keyword arguments."""

    controls: bool | str | Sequence[str] | None
    also: str | Sequence[str]
    faithfulness: str | Sequence[str] | FaithfulnessChoices
    without: str | Sequence[str] | InterventionChoices | None


class AssessKeywords(MapKeywords, ExtrasKeywords, FolderKeywords):
    """The keyword arguments of `torchvice.assess` that become `MapSettings`, `Extras` and a dataset."""


@dataclass(frozen=True)
class Extras:
    """What is requested of the view of `strict` in addition to its maps.

    Args:
        controls: names from `CONTROLS`; None: those of the table that is resumed, all of a new table.
        also: names of methods; "mirror" and "scaleFACTOR" (the headline's method on the mirror image, or on one of
            FACTOR the size); "predicted" (the maps of the predicted labels).
        faithfulness: what is measured of the maps of `strict` and of the methods in `also`; None: nothing.
        without: what of the images is replaced to see whether the labels are still found; None: nothing; "auto": what
            the table that is resumed says, the defaults of `InterventionChoices` for a new table.

    Raises:
        ViceError: an unknown name, or a control in `also`.
    """

    controls: tuple[str, ...] | None = ()
    also: tuple[str, ...] = ()
    faithfulness: FaithfulnessChoices | None = None
    without: InterventionChoices | Literal["auto"] | None = None

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
                expected = f"`also` must name a method, mirror, scaleFACTOR (at most {MOST_SCALE}) or predicted"
                raise ViceError(f"{expected}, but is {name!r}.", did_you_mean(name, known))

    @classmethod
    def of(
        cls,
        controls: bool | str | Sequence[str] | None = False,
        also: str | Sequence[str] = (),
        faithfulness: str | Sequence[str] | FaithfulnessChoices | None = None,
        without: str | Sequence[str] | InterventionChoices | None = None,
    ) -> Extras:
        """A request as `torchvice.assess` takes it: `controls` also True or the name of a set."""
        from torchvice.data.filling import InterventionChoices
        from torchvice.explain import FaithfulnessChoices

        if isinstance(controls, bool):
            controls = "all" if controls else "none"
        if not isinstance(faithfulness, FaithfulnessChoices):
            texts = [faithfulness] if isinstance(faithfulness, str) else list(faithfulness or ())
            faithfulness = FaithfulnessChoices.parse(texts) if texts else None
        if isinstance(controls, str) and controls in CONTROL_SETS:
            controls = CONTROL_SETS[controls]
        names = None if controls is None else names_of(controls)
        if isinstance(without, InterventionChoices) or without == "auto":
            return cls(names, names_of(also), faithfulness, without)  # type: ignore[arg-type]
        texts = [without] if isinstance(without, str) else list(without or ())
        replaced = InterventionChoices.parse(texts) if texts and texts != ["none"] else None
        return cls(names, names_of(also), faithfulness, replaced)

    def for_table(self, folder: Path) -> Extras:
        """The same request with what the table in a folder has, where `controls` is None or `without` "auto"."""
        from torchvice.data.filling import InterventionChoices
        from torchvice.samples import ShardFolder

        table = ShardFolder(folder)
        controls = tuple(CONTROLS)
        without: InterventionChoices | None = InterventionChoices()
        if table.manifest_path.is_file() and table.shards():
            manifest = table.manifest(resumed=True)
            known = manifest["explanations"] | manifest["adding"]
            names = [name.partition(":")[2] for name, settings in known.items() if settings["role"] == "control"]
            controls = tuple(names)
            without = next((_choices(one["interventions"]) for one in known.values() if "interventions" in one), None)
        return replace(
            self,
            controls=controls if self.controls is None else self.controls,
            without=without if self.without == "auto" else self.without,
        )


def _choices(plain: Mapping[str, Any]) -> InterventionChoices:
    """The choices that a manifest holds.

    Raises:
        ViceError: a manifest that was edited.
    """
    from torchvice.data.filling import InterventionChoices

    try:
        return InterventionChoices(**{**plain, "treatments": tuple(plain["treatments"])})
    except (KeyError, TypeError):
        message = "The manifest's `interventions` must be as vice assess wrote them, but are not."
        raise ViceError(
            message, "Restore the manifest, or delete the table's folder and run vice assess again."
        ) from None


def packed_with_extras(
    keywords: Mapping[str, Any], settings: MapSettings | None = None, extras: Extras | None = None
) -> tuple[MapSettings, Extras]:
    """Both records with the fields that keyword arguments name; those that name the data are passed over.

    Raises:
        ViceError: as `packed` and `Extras`.
    """
    extras = Extras() if extras is None else extras
    check_kind("extras", extras, Extras, "torchvice.assessment.Extras", "Give its fields by name.")
    names = [f.name for f in fields(Extras)]
    of_maps = {name: value for name, value in keywords.items() if name not in (*names, *FOLDERS)}
    of_extras = {name: value for name, value in keywords.items() if name in names}
    return packed(of_maps, settings, [*names, *FOLDERS]), Extras.of(**{**vars(extras), **of_extras})


def check_request(protocols: str | Sequence[str], extras: Extras) -> None:
    """Check that the protocols are known, and that `strict` is assessed where extras of its view are requested.

    Raises:
        ViceError: an unknown protocol, or extras without `strict`.
    """
    protocols = as_protocols(protocols)
    requested = extras.controls or extras.also or extras.faithfulness or extras.without not in (None, "auto")
    if "strict" not in protocols and requested:
        names = "Controls, `also`, `faithfulness` and `without`"
        raise ViceError(
            f"{names} need the view of `strict`, but `strict` is not assessed.",
            "Assess strict, too: --protocol strict or both.",
        )


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
    layers = headline.choices.layers if METHODS[name].any_layer else ()
    explainer = explainer_like(headline, name, headline.explainer.model, smooth)
    return Extra.of_view(headline.variant(f"strict:{name}", explainer, eigen_smooth=smooth, layers=layers), "method")


def scale_of(name: str) -> float | None:
    """The factor of "scaleFACTOR", above 0 and at most 8, where images have 64 times the pixels; None for other names.

    Example:
        >>> scale_of("scale0.75"), scale_of("scale0"), scale_of("mirror")
        (0.75, None, None)
    """
    match = re.fullmatch(r"scale(\d+(?:\.\d+)?|\.\d+)", name)
    return float(match[1]) if match and 0 < float(match[1]) <= MOST_SCALE else None
