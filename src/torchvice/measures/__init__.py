"""Samples -> Measures: every number, from the table alone."""

from torchvice.measures.legacy import measure_table
from torchvice.measures.pairs import Pairs, fold_of, true_pairs
from torchvice.measures.protocols import measure
from torchvice.measures.quadrants import QUADRANTS, Quadrants, quadrants_of
from torchvice.measures.sheet import Diagrams, Measures

__all__ = [
    "QUADRANTS",
    "Diagrams",
    "Measures",
    "Pairs",
    "Quadrants",
    "fold_of",
    "measure",
    "measure_table",
    "quadrants_of",
    "true_pairs",
]
