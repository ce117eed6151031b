"""assess: run a model once over a dataset. Image to logits and maps, maps to counts, counts to `Samples`."""

from torchvice.assessment.from_maps import assess_maps
from torchvice.assessment.headline import samples_of
from torchvice.assessment.images import Dataset
from torchvice.assessment.map_settings import MapKeywords, MapSettings, packed
from torchvice.assessment.parts import WHOLE, Part
from torchvice.assessment.pipeline import assess
from torchvice.assessment.request import Extras

__all__ = [
    "WHOLE",
    "Dataset",
    "Extras",
    "MapKeywords",
    "MapSettings",
    "Part",
    "assess",
    "assess_maps",
    "packed",
    "samples_of",
]
