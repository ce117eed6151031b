"""Samples -> Measures: every number, from the table alone."""

from torchvice.measures.legacy import measure_table
from torchvice.measures.pairs import Pairs, fold_of, true_pairs
from torchvice.measures.protocols import measure
from torchvice.measures.sheet import Diagrams, Measures

__all__ = ["Diagrams", "Measures", "Pairs", "fold_of", "measure", "measure_table", "true_pairs"]
