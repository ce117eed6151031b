"""Some classes of a dataset: targets, masks and boxes without the others."""

from __future__ import annotations

import numpy as np
import pytest

from torchvice import ViceError
from torchvice.data.selected import select_classes


class Whole:
    classes, records, root = ("a", "b", "c"), [1], "there"
    targets = np.array([[1, 0, 1]], np.uint8)

    def __len__(self):
        return 1

    def mask(self, _):
        return np.array([[0, 1, 2], [3, 255, 3]], np.uint8)

    def boxes(self, _):
        return np.array([2, 0]), np.array([[0, 0, 1, 1], [1, 1, 2, 2]])


def test_other_classes_are_background():
    part = select_classes(Whole(), ["b", "c"])
    assert (part.classes, part.all_classes) == (("b", "c"), ("a", "b", "c"))
    assert part.targets.tolist() == [[0, 1]]
    assert part.mask(0).tolist() == [[0, 0, 1], [2, 255, 2]]
    classes, boxes = part.boxes(0)
    assert (classes.tolist(), boxes.tolist()) == ([1], [[0, 0, 1, 1]])
    assert (part.root, len(part)) == ("there", 1)


def test_all_classes_are_the_dataset_itself():
    whole = Whole()
    assert select_classes(whole, ["a", "b", "c"]) is whole


@pytest.mark.parametrize(("names", "message"), [([], "At least one class"), (["d"], "`d` is no class")])
def test_wrong_names_are_refused(names, message):
    with pytest.raises(ViceError, match=message):
        select_classes(Whole(), names)
