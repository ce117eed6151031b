"""benchmarks/verdict/association.py: no joint correlation where only other causes are at work, and one with a link."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "verdict" / "association.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("association_worlds", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


WORLDS = script()


def test_tables_are_reproducible_and_have_the_causes_that_they_name() -> None:
    first, again = (WORLDS.simulate("size", 200, 5, 3) for _ in range(2))
    for name in ("logit", "iou", "area", "extent"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert np.corrcoef(first.logit, np.log(first.area))[0, 1] > 0.4
    none, wider = WORLDS.simulate("", 200, 5, 3), WORLDS.simulate("wider", 200, 5, 3)
    assert np.array_equal(none.logit, wider.logit)
    assert np.corrcoef(wider.logit, np.log(wider.extent))[0, 1] > np.corrcoef(none.logit, np.log(none.extent))[0, 1]
    saturated = WORLDS.simulate("saturated", 200, 5, 3).logit
    assert (saturated == saturated.max()).mean() == pytest.approx(0.1, abs=0.01)
    assert ((first.iou >= 0) & (first.iou <= 1)).all()


def test_all_causes_make_vice_but_no_joint_and_a_link_makes_both() -> None:
    without = WORLDS.row(WORLDS.ALL, 300, 20, 12, 0)
    linked = WORLDS.row(f"{WORLDS.ALL}, link", 300, 20, 4, 0)
    assert without.above["VICE"] == without.above["within classes"] == 12
    assert without.above["joint"] <= 2
    assert abs(np.mean(without.values)) < 0.04
    assert linked.above["joint"] == 4


def test_small_tables_abstain() -> None:
    found = WORLDS.row(WORLDS.ALL, 50, 8, 3, 0)
    assert found.values == []
    assert found.above["joint"] == 0


def test_a_joint_within_the_margin_is_established_but_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small:
        value = 0.019

        def p_value(self, image: np.ndarray, flips: int) -> float:
            return 0.01

    monkeypatch.setattr(WORLDS.Table, "joint", lambda self: Small())
    assert WORLDS.row("", 60, 2, 3, 0).above["joint"] == 3
    assert WORLDS.row("", 60, 2, 3, 0).above["said"] == 0
    Small.value = 0.021
    assert WORLDS.row("", 60, 2, 3, 0).above["said"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("world", ["", "class difficulty", "all of these causes", "all, 5 % of masks swapped"])
def test_level_and_coverage_of_the_joint(world: str) -> None:
    # 120 tables: 5 % with two standard errors of 2 %.
    found = WORLDS.row(WORLDS.WORLDS.get(world, ""), 300, 20, 120, 200)
    assert found.above["joint"] <= 0.09 * 120
    assert found.covered >= 0.91 * 120
