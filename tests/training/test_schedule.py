"""Learning rate schedules, against values computed by hand."""

import math

import pytest
import torch

from torchvice.errors import ViceError
from torchvice.training.schedule import learning_rate, paper_factor, warmup_cosine_factor


def rates(name: str, steps: int, steps_per_epoch: int, warmup: float = 0.05, lr: float = 0.01) -> list[float]:
    """The rate that each step of the optimiser uses."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr, momentum=0.9)
    schedule = learning_rate(optimizer, name, steps=steps, steps_per_epoch=steps_per_epoch, warmup=warmup)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_paper_is_zero_then_fifths_then_full_then_a_tenth() -> None:
    expected = [0, 0.2, 0.4, 0.6, 0.8, *[1.0] * 11, *[0.1] * 4]
    assert [paper_factor(epoch) for epoch in range(20)] == pytest.approx(expected, abs=1e-15)


def test_paper_changes_between_epochs_only() -> None:
    found = rates("paper", 60, 3)
    assert found == pytest.approx([0.01 * paper_factor(step // 3) for step in range(60)], abs=1e-15)
    assert found[:6] == pytest.approx([0, 0, 0, 0.002, 0.002, 0.002], abs=1e-15)


def test_warmup_cosine_by_hand() -> None:
    # 10 steps, 20 % of them a line: 1/2, 1; then (1 + cos(pi k / 8)) / 2 for k = 0 ... 7.
    expected = [0.5, 1.0, *[(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]]
    assert rates("warmup_cosine", 10, 5, 0.2, 1.0) == pytest.approx(expected, abs=1e-12)
    assert warmup_cosine_factor(6, 10, 0.2) == pytest.approx(0.5)
    assert warmup_cosine_factor(10, 10, 0.2) == pytest.approx(0)
    assert warmup_cosine_factor(99, 10, 0.2) == pytest.approx(0)


def test_warmup_cosine_at_its_edges() -> None:
    assert rates("warmup_cosine", 1, 1, 0.0, 1.0) == [1.0]
    assert rates("warmup_cosine", 1, 1, 0.99, 1.0) == [1.0]
    for steps in (2, 7, 100):
        for warmup in (0.0, 0.3, 0.9):
            found = rates("warmup_cosine", steps, 1, warmup, 1.0)
            assert max(found) == pytest.approx(1)
            assert min(found) > 0


def test_one_cycle_goes_up_for_three_tenths_and_down_to_almost_nothing() -> None:
    found = rates("one_cycle", 100, 10)
    assert found[0] == pytest.approx(0.01 / 25)
    assert found.index(max(found)) == 29
    assert max(found) == pytest.approx(0.01)
    assert found[-1] == pytest.approx(0.01 / 25e4)


@pytest.mark.parametrize(("given", "cycled"), [(0.0, False), (0.5, False), (0.85, True), (0.9, True), (0.99, False)])
def test_one_cycle_moves_a_momentum_in_its_range_and_leaves_others_as_set(given: float, cycled: bool) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.01, momentum=given)
    schedule = learning_rate(optimizer, "one_cycle", steps=100, steps_per_epoch=10)
    found = []
    for _ in range(100):
        found.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        schedule.step()
    assert (min(found), max(found)) == pytest.approx((0.85, 0.95) if cycled else (given, given))


def test_one_cycle_moves_the_first_beta() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], 0.01)
    learning_rate(optimizer, "one_cycle", steps=100, steps_per_epoch=10)
    assert optimizer.param_groups[0]["betas"][0] == pytest.approx(0.95)


def test_constant_is_constant_and_others_are_refused() -> None:
    assert rates("constant", 5, 1) == [0.01] * 5
    with pytest.raises(ViceError, match="but is 'cosine'"):
        rates("cosine", 5, 1)
