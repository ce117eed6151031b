"""torchvice: is an image classifier right for the right reasons?

Public names are imported when they are asked for: `import torchvice` is free of torch and numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchvice import metrics
    from torchvice.assessment import assess, assess_maps
    from torchvice.commands.cases import show_case
    from torchvice.commands.evaluate import evaluate
    from torchvice.commands.rank import rank
    from torchvice.errors import ViceError
    from torchvice.explain import Explainer, Explanation
    from torchvice.measures import Measures, measure
    from torchvice.samples import Samples

__version__ = "0.1.0"

_HOMES = {
    "Explainer": "torchvice.explain",
    "Explanation": "torchvice.explain",
    "Measures": "torchvice.measures",
    "Samples": "torchvice.samples",
    "ViceError": "torchvice.errors",
    "assess": "torchvice.assessment",
    "assess_maps": "torchvice.assessment",
    "evaluate": "torchvice.commands.evaluate",
    "measure": "torchvice.measures",
    "metrics": "",
    "rank": "torchvice.commands.rank",
    "show_case": "torchvice.commands.cases",
}

__all__ = [
    "Explainer",
    "Explanation",
    "Measures",
    "Samples",
    "ViceError",
    "__version__",
    "assess",
    "assess_maps",
    "evaluate",
    "measure",
    "metrics",
    "rank",
    "show_case",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'torchvice' has no attribute {name!r}")
    if not _HOMES[name]:
        return importlib.import_module(f"torchvice.{name}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
