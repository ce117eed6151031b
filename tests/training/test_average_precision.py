"""val/mAP: the mean over the classes that occur in the selection split."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from torchvice.config import Settings
from torchvice.models.build import build_model
from torchvice.training.module import Classifier

Make = Callable[..., Settings]


def logged(settings: Settings, logits: Sequence[Sequence[float]], targets: Sequence[Sequence[int]]) -> float:
    """The val/mAP of a validation that sees these logits (N, C) in two batches."""
    classes = [f"class {number}" for number in range(len(logits[0]))]
    module: Any = Classifier(build_model("test_resnet", len(classes)), settings, classes)
    found: dict[str, torch.Tensor] = {}
    module.log = lambda name, value, **_: found.update({name: value})
    module.forward = lambda images: images
    for part in (slice(0, 2), slice(2, None)):
        module.validation_step((torch.tensor(logits[part]), torch.tensor(targets[part]).float()), 0)
    module.on_validation_epoch_end()
    return float(found["val/mAP"])


LOGITS = [[2.0, -1.0, 0.5], [-2.0, 1.0, 0.1], [1.0, 0.0, -3.0], [0.5, 3.0, 2.0]]


def test_classes_that_do_not_occur_are_left_out(settings: Make) -> None:
    # By score, the first class has its positives in places 1 and 3: (1 / 1 + 2 / 3) / 2; the second in place 1: 1.
    targets = [[1, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert logged(settings(), LOGITS, targets) == pytest.approx((5 / 6 + 1) / 2)
    scores, positives = np.array(LOGITS), np.array(targets)
    independent = [average_precision_score(positives[:, place], scores[:, place]) for place in range(2)]
    assert logged(settings(), LOGITS, targets) == pytest.approx(np.mean(independent))


def test_all_classes_count_where_all_occur(settings: Make) -> None:
    targets = [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0]]
    independent = average_precision_score(np.array(targets), np.array(LOGITS), average="macro")
    assert logged(settings(), LOGITS, targets) == pytest.approx(independent)


@pytest.mark.parametrize("classes", [1, 3])
def test_without_any_positive_it_is_undefined(settings: Make, classes: int) -> None:
    assert math.isnan(logged(settings(), [row[:classes] for row in LOGITS], [[0] * classes] * 4))


def test_one_class(settings: Make) -> None:
    assert logged(settings(), [row[:1] for row in LOGITS], [[1], [0], [0], [1]]) == pytest.approx(5 / 6)
