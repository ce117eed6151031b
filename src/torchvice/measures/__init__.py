"""Samples -> Measures: every number, from the table alone."""

from torchvice.measures.compare import compare
from torchvice.measures.legacy import measure_table
from torchvice.measures.pairs import Pairs, fold_of, true_pairs
from torchvice.measures.protocols import measure
from torchvice.measures.quadrants import QUADRANTS, Quadrants, quadrants_of
from torchvice.measures.qualities import QUALITIES, quality_of
from torchvice.measures.result_table import ResultTable, explanations_table, models_table, numbers_table
from torchvice.measures.rows import Comparison
from torchvice.measures.sheet import Diagrams, Measures
from torchvice.measures.verdict import Verdict

__all__ = [
    "QUADRANTS",
    "QUALITIES",
    "Comparison",
    "Diagrams",
    "Measures",
    "Pairs",
    "Quadrants",
    "ResultTable",
    "Verdict",
    "compare",
    "explanations_table",
    "fold_of",
    "measure",
    "measure_table",
    "models_table",
    "numbers_table",
    "quadrants_of",
    "quality_of",
    "true_pairs",
]
