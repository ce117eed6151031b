"""Inputs that a thread makes while the network is at work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from torchvice.assessment import ahead as module
from torchvice.assessment import views
from torchvice.assessment.ahead import has_free_core, made_ahead
from torchvice.assessment.map_settings import MapSettings


@pytest.mark.parametrize("ahead", [True, False])
def test_things_come_in_the_order_of_their_groups(ahead: bool) -> None:
    made = [(group, get()) for group, get in made_ahead([[1], [2, 3], [4]], sum, ahead)]
    assert made == [([1], 1), ([2, 3], 5), ([4], 4)]
    assert list(made_ahead([], sum, ahead)) == []


def test_the_next_thing_is_made_before_it_is_asked_for() -> None:
    begun = threading.Event()

    def make(group: int) -> int:
        if group == 2:
            begun.set()
        return group

    found = made_ahead([1, 2], make)
    _, get = next(found)
    assert get() == 1
    assert begun.wait(10)


@pytest.mark.parametrize("ahead", [True, False])
def test_what_is_raised_comes_where_the_thing_is_asked_for(ahead: bool) -> None:
    def fail(group: int) -> int:
        raise MemoryError

    ((group, get),) = made_ahead([1], fail, ahead)
    assert group == 1
    with pytest.raises(MemoryError):
        get()


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_a_core_is_free_where_torch_does_not_take_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "processors", lambda: 2)
    with threads(1):
        assert has_free_core(torch.device("cpu"))
        assert not has_free_core(torch.device("meta"))
    with threads(2):
        assert not has_free_core(torch.device("cpu"))


def test_outputs_are_the_same_with_a_free_core_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    body = nn.Conv2d(3, 4, 3, stride=4)
    model = nn.Sequential(body, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    images = list(np.random.default_rng(0).integers(0, 256, (7, 40, 50, 3), dtype=np.uint8))
    targets = np.eye(3, dtype=np.int64)[[0, 1, 2, 0, 1, 2, 0]]
    settings = MapSettings(view_size=32, crop=32, batch_size=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    failed = []

    def outputs(free: bool, fails: bool = False) -> list[tuple[int, np.ndarray, list[np.ndarray]]]:
        monkeypatch.setattr(views, "has_free_core", lambda device: free)
        view = views.views_of(model, ["strict"], settings)["strict"]
        if fails:
            explained = view._explained

            def full(*arguments: object) -> object:
                if len(arguments[3]) == 3 and not failed:  # type: ignore[arg-type]
                    failed.append(arguments[4].mul_(0))  # type: ignore[attr-defined]
                    raise MemoryError
                return explained(*arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(view, "_explained", full)
        return [(place, output.logits, output.maps) for place, output in view.run(images, targets)]

    expected = outputs(False)
    with pytest.warns(UserWarning, match="batches of 2 images"):
        after_failure = outputs(True, fails=True)
    assert failed
    for found in (outputs(True), after_failure):
        assert [place for place, *_ in found] == [place for place, *_ in expected]
        for (_, logits, maps), (_, same, equal) in zip(found, expected, strict=True):
            np.testing.assert_allclose(logits, same, atol=1e-6)
            np.testing.assert_allclose(maps, equal, atol=1e-6)
