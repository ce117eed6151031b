"""Softmax classifiers: the log-odds of a class's probability, by hand and by a plain reference; maps do not change."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from scipy.special import logit, softmax

from torchvice.errors import ViceError
from torchvice.explain import Explainer
from torchvice.explain.softmax import softmax_logits

OUTPUTS = np.random.default_rng(0).normal(0, 3, (16, 7))
GROUPS = [[0], [1, 2], [3, 4, 5], [2]]


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_the_log_odds_are_those_of_the_summed_probabilities(groups):
    p = softmax(OUTPUTS, axis=1)
    of_class = p if groups is None else np.stack([p[:, group].sum(1) for group in groups], 1)
    made = softmax_logits(torch.tensor(OUTPUTS), groups)
    np.testing.assert_allclose(made.numpy(), logit(of_class), rtol=1e-9)
    np.testing.assert_allclose(softmax_logits(torch.tensor(OUTPUTS), groups, log=True).numpy(), np.log(of_class))
    np.testing.assert_allclose(softmax_logits(torch.tensor(OUTPUTS).half(), groups), logit(of_class), atol=0.05)


def test_probabilities_that_round_to_0_and_1_keep_their_log_odds():
    made = softmax_logits(torch.tensor([[0.0, 300.0], [70.0, -70.0]]))
    assert made.dtype == torch.float32
    assert made.tolist() == [[-300.0, 300.0], [140.0, -140.0]]


def test_what_has_no_log_odds_is_refused():
    with pytest.raises(ViceError, match=r"all 1 outputs belong to one\.\s.*--outputs logits"):
        softmax_logits(torch.zeros(2, 1))
    with pytest.raises(ViceError, match="all 3 outputs belong to one"):
        softmax_logits(torch.zeros(2, 3), [[0], [0, 1, 2]])
    for p in (torch.tensor(OUTPUTS).softmax(1), torch.tensor(OUTPUTS).float().softmax(1).half()):
        with pytest.raises(ViceError, match=r"have the sum 1 already\.\s.*--outputs softmax"):
            softmax_logits(p, GROUPS)
    torch.testing.assert_close(
        softmax_logits(torch.tensor(OUTPUTS).log_softmax(1)), softmax_logits(torch.tensor(OUTPUTS))
    )


@pytest.mark.parametrize("method", ["cam", "gradcam", "scorecam"])
def test_logits_are_log_odds_and_maps_explain_the_largest_output(method):
    torch.manual_seed(0)
    model, images = timm.create_model("test_resnet", num_classes=7), torch.randn(3, 3, 64, 64)
    raw = Explainer(model, method)(images, [[0, 2], [1], []])
    plain = Explainer(model, method, class_map=GROUPS)(images, [[0, 2], [1], []])
    made = Explainer(model, method, class_map=GROUPS, outputs="softmax")
    found = made(images, [[0, 2], [1], []])
    torch.testing.assert_close(found.logits, softmax_logits(raw.logits, GROUPS))
    torch.testing.assert_close(made.logits(images), found.logits)
    assert torch.equal(found.maps, plain.maps)
    assert "outputs='softmax'" in repr(made)
    predicted = made(images, "predicted").pairs.tolist()
    p = raw.logits.softmax(1)
    assert predicted == [[i, c] for i in range(3) for c, group in enumerate(GROUPS) if p[i, group].sum() > 0.5]


def test_an_unknown_word_is_refused():
    with pytest.raises(ViceError, match="must be one of logits, softmax, log_softmax, but is 'sigmoid'"):
        Explainer(timm.create_model("test_resnet"), outputs="sigmoid")
