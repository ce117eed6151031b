"""Explanations: images -> class activation maps."""

# isort: off
# Each of these modules registers its methods; METHODS keeps this order.
from torchvice.explain import gradient, gradient_variants, perturbation, hiding, attention, legrad  # noqa: F401
from torchvice.explain import relevance, input_relevance, libragrad, attribution, controls  # noqa: F401
# isort: on

from torchvice.explain.choices import Choices, paper_choices
from torchvice.explain.engine import Explainer, Explanation
from torchvice.explain.faithfulness import Faithfulness, FaithfulnessChoices, MapRequest, faithfulness
from torchvice.explain.maps import map_status, normalise, upsample
from torchvice.explain.methods import METHODS, Method, method, register
from torchvice.explain.scene import Scene

__all__ = [
    "METHODS",
    "Choices",
    "Explainer",
    "Explanation",
    "Faithfulness",
    "FaithfulnessChoices",
    "MapRequest",
    "Method",
    "Scene",
    "faithfulness",
    "map_status",
    "method",
    "normalise",
    "paper_choices",
    "register",
    "upsample",
]
