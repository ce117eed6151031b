"""How every run of a study is assessed and measured: `measure` in its file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from torchvice.assessment import Extras, MapSettings
from torchvice.assessment.controls import CONTROL_SETS
from torchvice.config import Section
from torchvice.errors import ViceError
from torchvice.measures.qualities import check_quality

__all__ = ["AssessmentRequest", "check_names"]


def _as_list(value: Any) -> Any:
    """A single text is one name, as on the command line."""
    return [value] if isinstance(value, str) else value


_NAMES = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list), WithJsonSchema(_NAMES)]


class AssessmentRequest(Section):
    """How every run is assessed and measured, see `torchvice.assess` and `torchvice.measure`."""

    protocols: tuple[Literal["paper", "strict"], ...] = ("paper", "strict")
    method: str = "auto"
    also: Names = ()
    controls: Literal["all", "cheap", "none"] = "all"
    faithfulness: Names = ()
    without: Names = ("auto",)
    quality: str = "ji"
    replicates: int = Field(default=2000, ge=100)

    @property
    def extras(self) -> Extras:
        """What is requested in addition to the maps, as `torchvice.assess` takes it; no controls without `strict`."""
        controls = CONTROL_SETS[self.controls] if "strict" in self.protocols else ()
        without = self.without if "strict" in self.protocols else ()
        return Extras.of(controls, self.also, self.faithfulness, "auto" if without == ("auto",) else without)


def check_names(request: AssessmentRequest, where: str) -> None:
    """Check the names of methods, qualities and the like; the message has the key and the file `where` it stands.

    Raises:
        ViceError: an unknown name.
    """
    try:
        MapSettings(method=request.method)
        check_quality(request.quality)
        _ = request.extras
    except ViceError as error:
        message = re.sub(r"^`(\w+)`", lambda name: f"`measure.{name[1]}` of {where}", error.message)
        # Words of commands that `vice study` does not have.
        way_out = error.way_out.replace(" A method of your own: --plugin FILE.", "")
        raise ViceError(message, way_out.replace("`controls` (--controls)", "measure.controls")) from None
