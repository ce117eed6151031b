"""Explanations: images -> class activation maps."""

from torchvice.explain.choices import Choices, paper_choices
from torchvice.explain.engine import Explainer, Explanation
from torchvice.explain.faithfulness import Asked, Faithfulness, FaithfulnessChoices, faithfulness
from torchvice.explain.maps import map_status, normalise, upsample
from torchvice.explain.methods import METHODS, Method, register
from torchvice.explain.scene import Scene

__all__ = [
    "METHODS",
    "Asked",
    "Choices",
    "Explainer",
    "Explanation",
    "Faithfulness",
    "FaithfulnessChoices",
    "Method",
    "Scene",
    "faithfulness",
    "map_status",
    "normalise",
    "paper_choices",
    "register",
    "upsample",
]
