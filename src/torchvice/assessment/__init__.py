"""assess: run a model once over a dataset. The river: image -> logits and map -> counts -> Samples."""

from torchvice.assessment.headline import samples_of
from torchvice.assessment.images import Dataset
from torchvice.assessment.parts import WHOLE, Part
from torchvice.assessment.pipeline import assess

__all__ = ["WHOLE", "Dataset", "Part", "assess", "samples_of"]
