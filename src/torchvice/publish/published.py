"""What is published of a model: its headline numbers, and how they were made, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchvice.measures import Measures
from torchvice.measures.catalogue import shown_in
from torchvice.measures.wording import interval_text

__all__ = ["Published", "headline", "how_made"]


@dataclass(frozen=True)
class Published:
    """A number: its `path`, `label` and `value`, and the ends of its 95 % interval, None without one.

    `doubt` says why the interval is not reliable; empty where it is.
    """

    path: str
    label: str
    value: float
    low: float | None = None
    high: float | None = None
    doubt: str = ""

    @property
    def interval(self) -> str:
        """The interval in words; empty without one."""
        if self.low is None or self.high is None:
            return ""
        return f"95 % interval {interval_text(self.low, self.high)}{' (not reliable)' if self.doubt else ''}"


def headline(measures: Measures) -> list[Published]:
    """The numbers that stand next to each other where models are compared, if they are defined."""
    found = []
    for measure in shown_in("headline"):
        value = float(getattr(measures, measure.section).get(measure.name, math.nan))
        if math.isfinite(value):
            limits = measures.intervals.get(measure.path, {})
            ends, path = (limits.get("low"), limits.get("high")), measure.path
            doubt = measures.notes.get(path, "") if limits.get("reliable") is False else ""
            found.append(Published(path, measure.full_label, value, *ends, doubt))
    return found


def how_made(measures: Measures, manifest: Mapping[str, Any], path: str) -> str:
    """Protocol, maps, images and version of a number, as one line."""
    protocol = "paper" if path.startswith("paper.") else "strict"
    explanation = manifest["protocols"].get(protocol, {}).get("explanation", "")
    method = manifest["explanations"].get(explanation, {}).get("method", "")
    parts = [f"torchvice {manifest['versions'].get('torchvice', '')}".strip(), f"protocol {protocol}"]
    return ", ".join([*parts, *([f"maps by {method}"] if method else []), f"{measures.images} images"])
