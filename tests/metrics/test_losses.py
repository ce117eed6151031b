"""losses: the soft-margin loss, the sigmoid in its own precision, the likelihood of a pair, and those of one label."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import reference
from torchvice.errors import ViceError
from torchvice.metrics import cross_entropy, pair_log_likelihood, sample_loss, sigmoid, softmax
from torchvice.metrics.losses import log_softmax, logits_and_targets, zero_one

ORIGINAL = np.load(reference.FILES / "C_each_loss.npz")
LOGITS = hnp.arrays(np.float64, (4, 3), elements=st.floats(-15, 15))
TARGETS = hnp.arrays(np.uint8, (4, 3), elements=st.integers(0, 1))


def test_loss_by_hand() -> None:
    # p = 1/2, 3/4: a label at 1/2 costs ln 2; no label at 3/4 costs -ln(1/4) = 2 ln 2; their mean is 1.5 ln 2.
    assert sample_loss([[0.0, math.log(3)]], [[1, 0]])[0] == pytest.approx(1.5 * math.log(2), abs=1e-15)


@settings(deadline=None, max_examples=50)
@given(LOGITS, TARGETS)
def test_loss_is_the_plain_loop_and_torch(logits: np.ndarray, targets: np.ndarray) -> None:
    found = sample_loss(logits, targets)
    peer = torch.nn.functional.multilabel_soft_margin_loss(
        torch.tensor(logits), torch.tensor(targets.astype(float)), reduction="none"
    )
    assert found == pytest.approx(peer.numpy(), abs=1e-12)
    assert found == pytest.approx(reference.sample_loss(logits.tolist(), targets.tolist()), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(LOGITS, TARGETS, st.permutations(range(4)), st.permutations(range(3)))
def test_loss_hangs_on_no_order_and_is_symmetric(
    logits: np.ndarray, targets: np.ndarray, rows: list, columns: list
) -> None:  # type: ignore[type-arg]
    found = sample_loss(logits, targets)
    assert (found >= 0).all()
    assert np.array_equal(sample_loss(logits[rows], targets[rows]), found[rows])
    assert sample_loss(logits[:, columns], targets[:, columns]) == pytest.approx(found, abs=1e-12)
    # ln p of a label is ln(1 - p) of none at the opposite logit.
    assert sample_loss(-logits, 1 - targets) == pytest.approx(found, abs=1e-12)


def test_loss_stays_exact_where_the_sigmoid_saturates() -> None:
    # softplus(1000) = 1000, and softplus(-1000) underflows to 0; an infinite logit is 0 or infinity.
    found = sample_loss([[1000.0], [1000.0], [np.inf], [-np.inf]], [[0], [1], [1], [1]])
    assert found.tolist() == [1000.0, 0.0, 0.0, np.inf]


def test_loss_is_the_original_one() -> None:
    assert sample_loss(ORIGINAL["logits"], ORIGINAL["labels"]) == pytest.approx(ORIGINAL["loss"], abs=1e-5)


def test_loss_of_nothing_is_nothing() -> None:
    assert sample_loss(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tensors_and_lists_serve_alike(dtype: torch.dtype) -> None:
    logits, targets = [[0.5, -1.0], [2.0, 0.0]], [[1, 0], [0, 1]]
    tensor = torch.tensor(logits, dtype=dtype, requires_grad=True)
    expected = sample_loss(np.array(logits), np.array(targets))
    assert np.array_equal(sample_loss(tensor, torch.tensor(targets)), expected)
    assert np.array_equal(sample_loss(logits, np.array(targets, dtype=bool)), expected)
    assert np.array_equal(pair_log_likelihood(tensor[0]), pair_log_likelihood(logits[0]))
    assert tensor.grad is None


def test_inputs_are_never_written_to() -> None:
    logits, targets = np.array([[0.5, -1.0]]), np.array([[1.0, 0.0]])
    logits.setflags(write=False)
    targets.setflags(write=False)
    sample_loss(logits, targets)
    sigmoid(logits)
    pair_log_likelihood(logits)


def test_masks_in_place_of_targets_are_told_apart() -> None:
    with pytest.raises(ViceError, match="0 and 1 only, but holds 5"):
        sample_loss([[0.0, 0.0]], [[5, 0]])
    with pytest.raises(ViceError, match=r"must be \(N, C\) like `logits` \(1, 2\)") as error:
        sample_loss([[0.0, 0.0]], [[1, 0, 1]])
    assert "drop it with targets[:, 1:]" in error.value.way_out
    with pytest.raises(ViceError) as error:
        sample_loss([[0.0, 0.0]], [[1, 0], [0, 1]])
    assert not error.value.way_out


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        ([0.0], [[1]], "`logits` must have 2 dimensions"),
        ([[0.0]], [1], "`targets` must have 2 dimensions"),
        ([[0.0], [np.nan]], [[1], [1]], "row 1 holds NaN"),
        ([[0.0]], [[np.nan]], "0 and 1 only, but holds nan"),
        (np.zeros((2, 0)), np.zeros((2, 0)), "at least one class"),
        ([["a"]], [[1]], "array of numbers"),
    ],
)
def test_wrong_arguments(logits: object, targets: object, message: str) -> None:
    with pytest.raises(ViceError, match=message):
        sample_loss(logits, targets)  # type: ignore[arg-type]


def test_checked_pairs_are_float64_and_named() -> None:
    values, truth = logits_and_targets([[1]], [[True]], "scores")
    assert values.dtype == truth.dtype == np.float64
    with pytest.raises(ViceError, match="`scores`"):
        logits_and_targets([1], [[True]], "scores")
    assert zero_one("flags", [True, False], ndim=1).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8])
def test_targets_of_a_byte_are_taken_as_they_lie(dtype: type) -> None:
    # A table of 50,000 images and 1,000 classes has 50 MB of them, and 400 MB as float64.
    targets = np.array([[1, 0], [0, 1]], dtype)
    truth = zero_one("targets", targets)
    assert np.shares_memory(truth, targets)
    assert truth.tolist() == [[1, 0], [0, 1]]
    assert (truth - 1).min() == -1  # signed, so that a difference is one


@pytest.mark.parametrize("wrong", [np.array([[2]], np.uint8), np.array([[-1]], np.int8), np.array([[200]], np.uint8)])
def test_targets_of_a_byte_are_checked(wrong: np.ndarray) -> None:
    with pytest.raises(ViceError, match=f"0 and 1 only, but holds {wrong[0, 0]}"):
        zero_one("targets", wrong)


def test_sigmoid_by_hand_and_against_the_original() -> None:
    assert sigmoid([math.log(3), -math.log(3), 0.0]).tolist() == pytest.approx([0.75, 0.25, 0.5], abs=1e-15)
    assert sigmoid(ORIGINAL["logits"]) == pytest.approx(ORIGINAL["sigmoid"], abs=1e-6)
    assert np.array_equal(sigmoid(ORIGINAL["logits"]) > 0.5, ORIGINAL["prediction_mask"])


def test_sigmoid_keeps_float32_where_it_decides() -> None:
    # 0.5 + 1e-8 / 4 is 0.5 in float32, where the spacing is 6e-8: no prediction there, one in float64.
    tiny = np.array([1e-8], dtype=np.float32)
    assert sigmoid(tiny).dtype == np.float32
    assert sigmoid(tiny)[0] == 0.5
    assert sigmoid(tiny.astype(float))[0] > 0.5
    assert sigmoid(np.array([0], dtype=np.int64)).dtype == np.float64


def test_sigmoid_saturates_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    for dtype in (np.float32, np.float64):
        found = sigmoid(np.array([-np.inf, -1e6, 1e6, np.inf], dtype=dtype))
        assert found.tolist() == [0, 0, 1, 1]
    assert not recwarn.list


@given(st.floats(-700, 700))
def test_likelihood_of_a_pair_is_the_log_of_its_probability(z: float) -> None:
    found = float(pair_log_likelihood(z))
    assert found <= 0
    # ln p - ln(1 - p) = z
    assert found - float(pair_log_likelihood(-z)) == pytest.approx(z, abs=1e-9)


def test_likelihood_by_hand_and_at_the_ends() -> None:
    found = pair_log_likelihood([[math.log(3), -1000.0], [np.inf, -np.inf]])
    assert found.shape == (2, 2)
    assert found.ravel().tolist() == pytest.approx([math.log(0.75), -1000.0, 0.0, -np.inf])


def test_cross_entropy_by_hand() -> None:
    # Logits 0 and ln 3: probabilities 1/4 and 3/4.
    z = [[0.0, math.log(3)]] * 2
    assert softmax(z)[0].tolist() == pytest.approx([0.25, 0.75])
    assert cross_entropy(z, [[1, 0], [0, 1]]).tolist() == pytest.approx([math.log(4), math.log(4 / 3)])


@settings(deadline=None, max_examples=50)
@given(LOGITS, st.lists(st.integers(0, 2), min_size=4, max_size=4), st.floats(-50, 50))
def test_cross_entropy_is_that_of_torch_and_hangs_on_no_shift(z: np.ndarray, label: list[int], shift: float) -> None:
    found = cross_entropy(z, np.eye(3)[label])
    theirs = torch.nn.functional.cross_entropy(torch.tensor(z), torch.tensor(label), reduction="none")
    assert found == pytest.approx(theirs.numpy(), abs=1e-12)
    assert cross_entropy(z + shift, np.eye(3)[label]) == pytest.approx(found, abs=1e-9)
    assert softmax(z).sum(axis=1) == pytest.approx(np.ones(4))
    assert log_softmax(z) == pytest.approx(torch.log_softmax(torch.tensor(z), 1).numpy(), abs=1e-12)


def test_cross_entropy_stays_exact_where_the_softmax_is_0() -> None:
    assert cross_entropy([[1000.0, 0.0, -1e4]], [[0, 1, 0]]).tolist() == [1000.0]
    assert softmax([[0.0, -np.inf]]).tolist() == [[1.0, 0.0]]
    assert cross_entropy([[5.0]], [[1]]).tolist() == [0.0]
    assert cross_entropy(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)


def test_one_label_in_every_row() -> None:
    for targets, message in (([[0, 0]], "row 0 has 0"), ([[1, 1]], "row 0 has 2")):
        with pytest.raises(ViceError, match=message) as error:
            cross_entropy([[1.0, 2.0]], targets)
        assert "exclusive=False" in error.value.way_out
    for wrong in (np.inf, np.nan):
        with pytest.raises(ViceError, match="must be finite"):
            softmax([[0.0, wrong]])
    with pytest.raises(ViceError, match="at least one class"):
        log_softmax(np.zeros((2, 0)))
