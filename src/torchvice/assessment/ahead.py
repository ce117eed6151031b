"""The input of the next pass, made while the network is at work on the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from torchvice.metrics.parallel import processors

__all__ = ["has_free_core", "made_ahead"]

Group = TypeVar("Group")
Made = TypeVar("Made")


def has_free_core(device: torch.device) -> bool:
    """Whether a thread that makes inputs does not slow the network down: it runs on a CPU, and leaves a core free."""
    return device.type == "cpu" and torch.get_num_threads() < processors()


def made_ahead(
    groups: Iterable[Group], make: Callable[[Group], Made], ahead: bool = True
) -> Iterator[tuple[Group, Callable[[], Made]]]:
    """Each group with what gives the thing made of it; a thread makes that of the next group meanwhile.

    Args:
        groups: in their order.
        make: called once a group, if `ahead`; what it raises is raised where the thing is asked for.
        ahead: False: the things are made where they are asked for.
    """
    if not ahead:
        yield from ((group, partial(make, group)) for group in groups)
        return
    with ThreadPoolExecutor(1) as pool:
        begun: deque[tuple[Group, Future[Made]]] = deque()
        for group in groups:
            begun.append((group, pool.submit(make, group)))
            if len(begun) > 1:
                before, made = begun.popleft()
                yield before, made.result
        yield from ((group, made.result) for group, made in begun)
