"""standing_out: which classes have more events than the others predict; level, power and invariances."""

from __future__ import annotations

import numpy as np

from torchvice.metrics.standing_out import classes_that_stand_out, holm_over_witnesses


def planted(classes: int = 10, pairs: int = 100, extra: float = 0.5, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Events at a rate of 0.1, in class 0 with a share `extra` of shortcut pairs; smaller objects have more events."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), pairs)
    size = np.exp(np.minimum(-2 + 0.8 * rng.normal(size=len(label)), 0))
    rate = 1 / (1 + np.exp(2.2 + 0.6 * (np.log(size) + 2)))
    return (rng.random(len(label)) < rate) | ((label == 0) & (rng.random(len(label)) < extra)), label, size


def test_the_planted_class_is_named_and_no_other() -> None:
    test = classes_that_stand_out(*planted(), 10)
    adjusted, named = holm_over_witnesses({"elsewhere": test, "again": test})
    assert np.flatnonzero(named).tolist() == [0]
    assert adjusted["elsewhere"][0] < 0.05 < adjusted["elsewhere"][1:].min()
