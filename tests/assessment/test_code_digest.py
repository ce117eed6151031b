"""Digests of lambdas, closures and objects: equal for the same content, another for each change; resume notices it."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torchvision import transforms

import torchvice
from torchvice.assessment.code_digest import code_digest
from torchvice.assessment.input_transform import InputTransform
from torchvice.assessment.ledger import differences
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError

SHIFT = 1


def nested(image):
    return image + 2


def with_global(shift):
    """A function like those of a notebook, whose globals change."""
    names = {"SHIFT": shift}
    exec("def shifted(image):\n    return image + SHIFT", names)
    return names["shifted"]


def with_inner_global(shift):
    """The global is named only by a function inside the function."""
    names = {"SHIFT": shift}
    exec("def shifted(image):\n    def inner():\n        return image + SHIFT\n    return inner()", names)
    return names["shifted"]


def closure(value):
    return lambda image: image + value


class Counts:
    def __init__(self, side):
        self.side, self.calls = side, 0

    def __call__(self, image):
        self.calls += 1
        return to_tensor(image.resize((self.side, self.side)))


def to_tensor(image):
    return torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255 - 0.5


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (closure, (1, 2)),
        (closure, (np.zeros(3), np.ones(3))),
        (closure, (torch.zeros(3), torch.ones(3))),
        (closure, (closure(1), closure(2))),
        (closure, ({"a": [1, {2}]}, {"a": [1, {3}]})),
        (with_global, (1, 2)),
        (with_inner_global, (1, 2)),
        (lambda value: lambda image, by=value: image + by, (1, 2)),
        (lambda value: functools.partial(nested, value), (1, 2)),
        (lambda value: Counts(value).__call__, (1, 2)),
        (Counts, (1, 2)),
        (lambda value: transforms.Compose([transforms.Lambda(closure(value))]), (1, 2)),
        (lambda value: transforms.Resize(value), (1, 2)),
    ],
)
def test_equal_for_the_same_content_and_another_for_a_change(make, values):
    first, again, other = (code_digest(make(value)) for value in (values[0], values[0], values[1]))
    assert first == again
    assert first != other
    assert first.startswith("3.")


def test_the_code_counts_and_its_place_does_not():
    one, same = (lambda image: image + 1), (lambda image: image + 1)
    other = lambda image: image - 1  # noqa: E731
    assert code_digest(one) == code_digest(same) != code_digest(other)


def test_what_cannot_be_read_has_none():
    assert code_digest(closure(object())) is None
    recursive = {}
    recursive["self"] = recursive
    assert code_digest(closure(recursive)) is not None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return VocDataset(write_digits(tmp_path_factory.mktemp("digits"), train=2, val=4, test=2, size=48), "val")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    pooled = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), *pooled, torch.nn.Linear(8, 10))


def filtered(how):
    """Two ways of resizing, which show the same and normalise alike."""
    return lambda image: to_tensor(image.resize((32, 32), how))


def test_a_changed_lambda_is_noticed_on_resume(data, model, tmp_path, told):
    how = {"out": tmp_path / "a", "protocols": ["strict"], "device": "cpu", "outputs": "logits", "progress": False}
    torchvice.assess(model, data, transform=filtered(2), **how)
    torchvice.assess(model, data, transform=filtered(2), also=["gradcam"], **how)
    assert "can be compared" not in told()
    with pytest.raises(ViceError, match=r"`code_sha256` of `transform` is .* in the table, but .* now"):
        torchvice.assess(model, data, transform=filtered(3), **how)
    counts, how["out"] = Counts(32), tmp_path / "b"
    for said in (False, True):  # the first makes the table
        torchvice.assess(model, data, transform=counts, **how)
        assert ("Counts has no code that can be compared" in told()) == said


def test_manifests_of_named_functions_and_compositions_stay_as_they_were():
    plain = InputTransform(nested)
    assert plain.sha256
    assert plain.code_sha256 is None
    assert InputTransform(transforms.Compose([transforms.Resize(8)])).code_sha256 is None
    assert InputTransform(transforms.Compose([transforms.Lambda(closure(1))])).code_sha256


def test_digests_of_other_pythons_and_of_older_tables_are_not_compared():
    held = {"code_sha256": "3.11:a"}
    assert differences(held, {"code_sha256": "3.11:b"})
    assert not differences(held, {"code_sha256": "3.12:b"})
    assert not differences({}, held)
