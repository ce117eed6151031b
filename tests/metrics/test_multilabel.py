"""multilabel: accuracy, F1, precision and recall, average precision, under both protocols."""

from __future__ import annotations

import csv
import math
from dataclasses import astuple, fields

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import reference
from torchvice.errors import ViceError
from torchvice.metrics import (
    average_precision,
    confidence,
    mean_average_precision,
    multilabel_accuracy,
    multilabel_f1,
    precision_recall,
    sample_accuracy,
    top_one_accuracy,
)
from torchvice.metrics.multilabel import sample_f1, sample_precision

ORIGINAL = np.load(reference.FILES / "D_metrics.npz")
with open(reference.FILES / "D_metrics.csv", newline="") as file:
    TABLE = {row["set"]: row for row in csv.DictReader(file)}
# Ties in the scores make the original's average precision depend on its sort.
TIED = ("half_exact_zero_one", "never_above_half", "on_bin_edges")

# Multiples of 1/16 make ties and exact halves likely.
PROBABILITIES = hnp.arrays(np.float64, (6, 4), elements=st.integers(0, 16).map(lambda level: level / 16))
TARGETS = hnp.arrays(np.uint8, (6, 4), elements=st.integers(0, 1))


def of(name: str) -> tuple[np.ndarray, np.ndarray]:
    return ORIGINAL[f"{name}/prob"], ORIGINAL[f"{name}/target"]


@pytest.mark.parametrize("name", TABLE)
def test_accuracy_and_f1_of_the_original(name: str) -> None:
    published = TABLE[name]
    accuracy = float(published["accuracy"] or "nan")
    assert multilabel_accuracy(*of(name)) == pytest.approx(accuracy, abs=1e-5, nan_ok=True)
    assert multilabel_f1(*of(name)) == pytest.approx(float(published["f1_sklearn"]), abs=1e-5)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(("threshold", "k"), [(0.5, None), (0.3, None), (None, 3), (0.5, 2)])
def test_precision_and_recall_of_the_original(name: str, threshold: float | None, k: int | None) -> None:
    if threshold is None and name == "never_above_half":
        pytest.skip("of equal probabilities the original takes others among the three likeliest")
    found = precision_recall(*of(name), threshold=threshold, top_k=k)
    published = [float(TABLE[name][f"{m}|thr={threshold},k={k}"]) / 100 for m in ("CP", "CR", "CF1", "OP", "OR", "OF1")]
    assert astuple(found) == pytest.approx(published, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in TIED])
def test_average_precision_of_the_original(name: str) -> None:
    found = average_precision(*of(name))
    assert np.nan_to_num(found) == pytest.approx(np.nan_to_num(ORIGINAL[f"{name}/ap_per_class"]), abs=1e-5)
    assert mean_average_precision(*of(name)) == pytest.approx(float(TABLE[name]["mAP"]) / 100, abs=1e-5)


@pytest.mark.parametrize("name", TABLE)
def test_confidence_of_the_original(name: str) -> None:
    found = confidence(of(name)[0], inclusive=True)
    assert found == pytest.approx(ORIGINAL[f"{name}/confidence_ece"], abs=1e-6)


def test_confidence_of_the_original_table() -> None:
    each = np.load(reference.FILES / "C_each_loss.npz")
    assert confidence(each["sigmoid"]) == pytest.approx(each["confidence"], abs=1e-5)


def test_confidence_by_hand() -> None:
    # Predicted 0.9 and 0.7: mean 0.8. None predicted: the largest, 0.4. One half is predicted where it is included.
    rows = [[0.9, 0.7, 0.2], [0.4, 0.1, 0.2], [0.5, 0.9, 0.0]]
    assert confidence(rows).tolist() == pytest.approx([0.8, 0.4, 0.9])
    assert confidence(rows, inclusive=True).tolist() == pytest.approx([0.8, 0.4, 0.7])


def test_accuracy_f1_and_precision_by_hand() -> None:
    # Predicted {0, 1}, true {1, 2}: intersection 1, union 3, sizes 2 + 2. None predicted, the likeliest true: 0, 0, 1.
    p, y = [[0.9, 0.8, 0.1], [0.1, 0.2, 0.3]], [[0, 1, 1], [0, 0, 1]]
    predicted = np.array(p) > 0.5
    assert sample_accuracy(predicted, y).tolist() == pytest.approx([1 / 3, 0])
    assert sample_f1(predicted, y).tolist() == pytest.approx([1 / 2, 0])
    assert sample_precision(p, y).tolist() == pytest.approx([1 / 2, 1])
    assert multilabel_accuracy(p, y) == pytest.approx(1 / 6)
    assert multilabel_f1(p, y) == pytest.approx(1 / 4)


def test_neither_label_nor_prediction() -> None:
    p, y = [[0.9], [0.1]], [[1], [0]]
    assert np.isnan(sample_accuracy([[0], [1]], [[0], [1]])).tolist() == [True, False]
    assert math.isnan(multilabel_accuracy(p, y))  # 0/0, as published
    assert multilabel_accuracy(p, y, "strict") == 1.0
    assert multilabel_f1(p, y) == 0.5  # counts 0, as published
    assert multilabel_f1(p, y, "strict") == 1.0
    assert math.isnan(multilabel_accuracy([[0.1]], [[0]], "strict"))
    assert sample_precision([[0.1]], [[0]]).tolist() == [0.0]


def test_one_half_is_no_prediction_except_in_precision_and_recall() -> None:
    assert multilabel_accuracy([[0.5]], [[1]]) == 0.0
    assert precision_recall([[0.5]], [[1]]).op == 1.0
    assert multilabel_accuracy([[0.5]], [[1]], threshold=0.4) == 1.0


@settings(deadline=None)
@given(PROBABILITIES, TARGETS)
def test_rows_are_the_plain_loops(p: np.ndarray, y: np.ndarray) -> None:
    predicted = p > 0.5
    assert confidence(p) == pytest.approx([reference.confidence(row) for row in p])
    for found, loop in (
        (sample_accuracy(predicted, y), reference.jaccard),
        (sample_f1(predicted, y), reference.dice),
        (sample_precision(p, y), reference.precision),
    ):
        assert found == pytest.approx([loop(row, true) for row, true in zip(p, y, strict=True)], nan_ok=True)
        assert ((found >= 0) & (found <= 1) | np.isnan(found)).all()


@settings(deadline=None, max_examples=50)
@given(PROBABILITIES, TARGETS)
def test_accuracy_and_f1_are_those_of_scikit_learn(p: np.ndarray, y: np.ndarray) -> None:
    predicted, some = p > 0.5, (p > 0.5).any(1) | y.any(1)
    if some.any():
        accuracy = sklearn.metrics.jaccard_score(y[some], predicted[some], average="samples", zero_division=0)
        assert multilabel_accuracy(p, y, "strict") == pytest.approx(accuracy)
    assert multilabel_f1(p, y) == pytest.approx(
        sklearn.metrics.f1_score(y, predicted, average="samples", zero_division=0)
    )


@settings(deadline=None, max_examples=50)
@given(PROBABILITIES, TARGETS, st.integers(1, 15).map(lambda level: level / 16))
def test_precision_and_recall_are_the_plain_loop_and_scikit_learn(p: np.ndarray, y: np.ndarray, cut: float) -> None:
    found, predicted = precision_recall(p, y, threshold=cut), p >= cut
    loop = reference.precision_recall(predicted, y)
    assert {field.name: getattr(found, field.name) for field in fields(found)} == pytest.approx(loop)
    for average, ours in (("macro", (found.cp, found.cr)), ("micro", (found.op, found.or_))):
        peer = sklearn.metrics.precision_recall_fscore_support(y, predicted, average=average, zero_division=0)
        assert ours == pytest.approx(peer[:2])


def test_cf1_is_the_harmonic_mean_of_cp_and_cr_and_not_the_mean_f1() -> None:
    # Class 0: precision 1, recall 1/2; class 1: precision 1/2, recall 1. CP = CR = CF1 = 3/4; the mean F1 is 2/3.
    p, y = [[0.9, 0.9], [0.1, 0.9]], [[1, 1], [1, 0]]
    found = precision_recall(p, y)
    assert (found.cp, found.cr, found.cf1) == (0.75, 0.75, 0.75)
    # Three predictions, two of them right, of three labels.
    assert (found.op, found.or_, found.of1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_top_k_predicts_the_likeliest_whatever_their_probability() -> None:
    found = precision_recall([[0.1, 0.3, 0.2]], [[0, 1, 1]], threshold=None, top_k=2)
    assert (found.op, found.or_) == (1.0, 1.0)
    # More than there are classes is all of them; of equal ones the first.
    assert precision_recall([[0.1, 0.3]], [[0, 1]], threshold=None, top_k=9).op == 0.5
    assert precision_recall([[0.3, 0.3]], [[1, 0]], threshold=None, top_k=1).op == 1.0


@settings(deadline=None, max_examples=50)
@given(PROBABILITIES, TARGETS)
def test_average_precision_is_the_plain_loop_and_scikit_learn(p: np.ndarray, y: np.ndarray) -> None:
    found = average_precision(p, y)
    assert found == pytest.approx(
        [reference.average_precision(p[:, c].tolist(), y[:, c].tolist()) for c in range(4)], nan_ok=True
    )
    shown = np.flatnonzero(y.any(0))
    peers = [sklearn.metrics.average_precision_score(y[:, c], p[:, c]) for c in shown]
    assert found[shown] == pytest.approx(peers)
    assert np.isnan(np.delete(found, shown)).all()


@settings(deadline=None, max_examples=50)
@given(PROBABILITIES, TARGETS, st.permutations(range(6)))
def test_average_precision_is_blind_to_order_and_rising_maps(p: np.ndarray, y: np.ndarray, order: list[int]) -> None:
    found = average_precision(p, y)
    assert average_precision(p[order], y[order]) == pytest.approx(found, nan_ok=True)
    assert np.array_equal(average_precision(np.exp(3 * p) - 7, y), found, equal_nan=True)  # logits serve as well
    assert ((found > 0) & (found <= 1) | np.isnan(found)).all()


def test_average_precision_by_hand() -> None:
    # Falling scores: true, false, true: precisions 1/1 and 2/3, mean 5/6. All tied: 2/3 at every true image.
    assert average_precision([[0.9], [0.8], [0.1]], [[1], [0], [1]])[0] == pytest.approx(5 / 6)
    assert average_precision([[0.5], [0.5], [0.5]], [[1], [0], [1]])[0] == pytest.approx(2 / 3)
    # Infinite logits are ties as well.
    assert average_precision([[np.inf], [np.inf], [0.0]], [[1], [0], [0]])[0] == pytest.approx(1 / 2)


def test_a_class_that_no_image_shows() -> None:
    p, y = [[0.9, 0.2], [0.1, 0.1]], [[1, 0], [0, 0]]
    assert mean_average_precision(p, y) == 0.5  # counts 0 and is divided by all C, as published
    assert mean_average_precision(p, y, "strict") == 1.0
    assert math.isnan(mean_average_precision([[0.9]], [[0]], "strict"))
    assert mean_average_precision([[0.9]], [[0]]) == 0.0


def test_no_image_at_all() -> None:
    nothing = np.zeros((0, 3))
    for protocol in ("paper", "strict"):
        assert math.isnan(multilabel_accuracy(nothing, nothing, protocol))
        assert math.isnan(multilabel_f1(nothing, nothing, protocol))
    assert astuple(precision_recall(nothing, nothing)) == (0.0,) * 6
    assert np.isnan(average_precision(nothing, nothing)).all()
    assert confidence(nothing).shape == sample_precision(nothing, nothing).shape == (0,)


def test_tensors_and_lists_serve_alike_and_inputs_stay() -> None:
    rows, labels = [[0.75, 0.5, 0.25]], [[1, 0, 1]]
    tensor = torch.tensor(rows, dtype=torch.bfloat16, requires_grad=True)
    for measure in (multilabel_accuracy, multilabel_f1, mean_average_precision, precision_recall, sample_precision):
        array, targets = np.array(rows), np.array(labels)
        array.setflags(write=False)
        targets.setflags(write=False)
        expected = measure(array, targets)  # type: ignore[operator]
        assert measure(tensor, torch.tensor(labels, dtype=torch.bool)) == expected  # type: ignore[operator]
        assert measure(rows, labels) == expected  # type: ignore[operator]
    assert confidence(tensor).tolist() == [0.75]


@pytest.mark.parametrize("measure", [multilabel_accuracy, multilabel_f1, sample_precision, precision_recall])
@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([[1.5, 0.2]], [[1, 0]], r"must lie in \[0, 1\], but span 0.2 to 1.5"),
        ([[-0.5, 0.2]], [[1, 0]], r"must lie in \[0, 1\]"),
        ([[0.5, 0.2]], [[1, 0, 0]], r"must be \(N, C\) like `probabilities`"),
        ([[0.5, 0.2]], [[1, 255]], "0 and 1 only, but holds 255"),
        ([[np.nan, 0.2]], [[1, 0]], "row 0 holds NaN"),
        ([0.5, 0.2], [1, 0], "must have 2 dimensions"),
    ],
)
def test_wrong_arguments(measure: object, p: list, y: list, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ViceError, match=message):
        measure(p, y)  # type: ignore[operator]


def test_more_wrong_arguments() -> None:
    with pytest.raises(ViceError, match="`protocol` must be 'paper' or 'strict', but is 'lenient'"):
        multilabel_accuracy([[0.5]], [[1]], "lenient")  # type: ignore[arg-type]
    with pytest.raises(ViceError, match="both are None"):
        precision_recall([[0.5]], [[1]], threshold=None)
    with pytest.raises(ViceError, match="`top_k` must be at least 1, but is 0"):
        precision_recall([[0.5]], [[1]], threshold=None, top_k=0)
    for measure in (sample_accuracy, sample_f1):
        with pytest.raises(ViceError, match="`predicted` must hold 0 and 1 only, but holds 0"):
            measure([[0.7]], [[1]])  # a probability is no decision
        with pytest.raises(ViceError, match=r"must be \(N, C\) like `predicted`"):
            measure([[1, 0]], [[1]])
    with pytest.raises(ViceError, match="must have 2 dimensions"):
        confidence([0.5, 0.2])


def test_top_one_accuracy() -> None:
    # By hand: right, wrong, and a tie that goes to the first class.
    z, y = [[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 1.0, 0.0]], [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert top_one_accuracy(z, y) == pytest.approx(1 / 3)
    rng = np.random.default_rng(0)
    z, label = rng.normal(size=(200, 5)), rng.integers(0, 5, 200)
    theirs = sklearn.metrics.top_k_accuracy_score(label, z, k=1, labels=range(5))
    assert top_one_accuracy(z, np.eye(5)[label]) == pytest.approx(theirs)
    assert math.isnan(top_one_accuracy(np.zeros((0, 3)), np.zeros((0, 3))))
    with pytest.raises(ViceError, match="one label in every row"):
        top_one_accuracy([[1.0, 0.0]], [[1, 1]])
