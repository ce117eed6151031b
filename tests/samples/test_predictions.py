"""Loss, probability, prediction and confidence: `strict` follows exclusive targets, `paper` stays as published."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tables import scenes, table_of
from torchvice.errors import ViceError
from torchvice.fiftyone.sample import SampleTable, sample_document
from torchvice.measures import measure
from torchvice.measures.legacy import legacy_table
from torchvice.metrics import sample_loss, sigmoid
from torchvice.report import cases_of
from torchvice.samples import Samples
from torchvice.study.job import _loss


def exclusive_table(protocols: tuple[str, ...]) -> Samples:
    made = [replace(s, targets=(0, 1, 0), mask=None) for s in scenes(6)]
    return table_of(made, protocols, targets="exclusive")


def test_strict_takes_the_softmax_of_exclusive_targets() -> None:
    strict = exclusive_table(("paper", "strict")).of_protocol("strict")
    odds = np.exp(strict.images.logits.astype(float))
    expected = odds / odds.sum(axis=1, keepdims=True)
    assert strict.exclusive
    np.testing.assert_allclose(strict.probabilities, expected, rtol=1e-12)
    np.testing.assert_allclose(strict.losses, -np.log(expected[:, 1]), rtol=1e-12)
    np.testing.assert_array_equal(strict.predicted, expected == expected.max(axis=1, keepdims=True))


@pytest.mark.parametrize("protocols", [("paper",), ("paper", "strict")])
def test_paper_stays_as_published_for_exclusive_targets(protocols: tuple[str, ...]) -> None:
    samples = exclusive_table(protocols)
    paper = samples.of_protocol("paper")
    expected = sigmoid(paper.images.logits)
    assert not paper.exclusive
    assert paper.probabilities.dtype == np.float32
    np.testing.assert_array_equal(paper.probabilities, expected)
    np.testing.assert_array_equal(paper.predicted, expected > 0.5)
    np.testing.assert_array_equal(paper.losses, sample_loss(paper.images.logits, paper.images.targets))
    np.testing.assert_array_equal(legacy_table(samples).loss, paper.losses)


def test_page_study_and_fiftyone_show_the_numbers_of_a_paper_only_table() -> None:
    samples = exclusive_table(("paper",))
    paper = samples.of_protocol("paper")
    page = cases_of(samples)
    np.testing.assert_array_equal(page.probability, paper.probabilities)
    np.testing.assert_array_equal(page.predicted, paper.predicted)
    np.testing.assert_array_equal(page.loss, paper.losses)
    assert (page.predicted.sum(axis=1) != 1).any()  # a softmax would predict one class
    assert _loss(samples) == paper.losses.mean()
    table = SampleTable.of(samples, ())
    for row in range(len(page)):
        sample = sample_document(table, row, lambda *_: "")
        assert sample["loss"] == paper.losses[row]
        assert len(sample["predictions"]["classifications"]) == paper.predicted[row].sum()
        likely = sample["ground_truth"]["classifications"][0]
        assert likely["probability"] == pytest.approx(paper.probabilities[row, 1])
        assert likely["loss"] == pytest.approx(-np.log(paper.probabilities[row, 1]), rel=1e-5)


def test_the_published_accuracy_is_that_of_the_predictions_shown() -> None:
    samples = exclusive_table(("paper",))
    shown = cases_of(samples).accuracy
    assert measure(samples, replicates=0).paper["ml_accuracy"] == pytest.approx(shown.mean())


def test_a_protocol_that_was_not_assessed_is_refused() -> None:
    with pytest.raises(ViceError, match="not assessed under `strict`, only under `paper`"):
        exclusive_table(("paper",)).of_protocol("strict")
    assert exclusive_table(("paper",)).protocols == ("paper",)
