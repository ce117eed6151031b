"""Arguments of the Python interface: what numpy and torch give is taken, and plausible mistakes are one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torchvice
from torchvice import Explainer, Samples, ViceError, metrics
from torchvice.assessment import Extras, MapSettings
from torchvice.commands.cases import show_case
from torchvice.data import VocDataset, from_items, open_dataset, open_images
from torchvice.data.digits import write_digits
from torchvice.explain import Choices
from torchvice.measures import compare
from torchvice.models.build import build_model
from torchvice.training.callback import ViceCallback
from torchvice.training.pretrain import pretrain
from torchvice.training.run import train

IMAGES = torch.zeros(2, 3, 64, 64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> VocDataset:
    root = tmp_path_factory.mktemp("set")
    write_digits(root, train=1, val=1, test=3, size=48)
    return VocDataset(root, "test")


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("test_resnet", 10).eval()


@pytest.fixture(scope="module")
def assess(model: torch.nn.Module, data: VocDataset) -> Callable[..., Samples]:
    def run(out: Any, **more: Any) -> Samples:
        options = {"view_size": 64, "crop": 64, "protocols": "strict", "controls": "none", "progress": False, **more}
        return torchvice.assess(model, data, out=out, **options)

    return run


@pytest.fixture(scope="module")
def samples(assess: Callable[..., Samples], tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return assess(tmp_path_factory.mktemp("table") / "t", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), batch_size=2)


@pytest.mark.parametrize(
    "given",
    [
        {"mean": np.full(3, 0.5), "std": torch.full((3,), 0.5), "view_size": np.int64(64), "batch_size": 2.0},
        {"mean": [0.5] * 3, "std": [0.5] * 3, "crop": torch.tensor(64), "class_map": np.arange(10)[:, None]},
        {"mean": [0.5] * 3, "std": [0.5] * 3, "device": torch.device("cpu"), "shard_size": np.int32(128)},
    ],
)
def test_numbers_of_numpy_and_torch_make_the_same_table(
    given: dict[str, Any], samples: Samples, assess: Callable[..., Samples], tmp_path: Path
) -> None:
    found = assess(tmp_path / "t", **{"batch_size": 2, **given})
    assert np.array_equal(found.images.logits, samples.images.logits)
    settings, expected = (json.loads(json.dumps(one.manifest["map_settings"])) for one in (found, samples))
    changed = {name for name in expected if settings[name] != expected[name]}
    assert changed <= {"device", "class_map"}
    assert settings["class_map"] in (None, [[c] for c in range(10)])


OF_ASSESS: list[tuple[dict[str, Any], str, str]] = [
    ({"mean": 0.5}, "`mean` must be a list of numbers, but is 0.5.", "[R, G, B]"),
    ({"std": "0.5"}, "`std` must be a list of numbers, but is '0.5'.", "[R, G, B]"),
    ({"view_size": (64, 64)}, "`view_size` must be a whole number (pixels), but is (64, 64).", ""),
    ({"crop": 64.5}, "`crop` must be a whole number (pixels), but is 64.5.", ""),
    ({"batch_size": "8"}, "`batch_size` must be a whole number (images), but is '8'.", "1 or more"),
    ({"workers": -1}, "`workers` must be at least 0 (threads), but is -1.", "Leave it out"),
    ({"workers": None}, "`workers` must be a whole number (threads), but is None.", "Leave it out"),
    ({"shard_size": 0}, "`shard_size` must be at least 1 (images), but is 0.", "Leave it out"),
    ({"out": 3}, "`out` must be a path, but is 3.", ""),
    ({"made_by": "me"}, "`made_by` must be a dictionary, but is 'me'.", ""),
    ({"settings": {"crop": 64}}, "`settings` must be torchvice.assessment.MapSettings, but is", "by name"),
    ({"extras": {"also": ()}}, "`extras` must be torchvice.assessment.Extras, but is", "by name"),
    ({"choices": {"view": "crop"}}, "`choices` must be torchvice.explain.Choices, but is", "Choices(NAME=VALUE, ...)"),
    ({"class_map": [["cat"]]}, "`class_map` must be a list with the outputs of each class", ""),
    ({"class_map": [0, 1]}, "`class_map` must be a list with the outputs of each class", ""),
]


@pytest.mark.parametrize(("given", "said", "way_out"), OF_ASSESS)
def test_a_mistake_of_assess_is_one_sentence(
    given: dict[str, Any], said: str, way_out: str, assess: Callable[..., Samples], tmp_path: Path
) -> None:
    with pytest.raises(ViceError) as caught:
        assess(**{"out": tmp_path / "t", **given})
    assert caught.value.message.startswith(said)
    assert way_out in caught.value.way_out
    assert not list(tmp_path.iterdir())


def test_the_ways_out_work(assess: Callable[..., Samples], tmp_path: Path) -> None:
    given = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "choices": Choices(view="crop"), "batch_size": 1}
    assert len(assess(tmp_path / "t", settings=MapSettings(crop=64), extras=Extras(also=()), **given).images) == 3


LABELS: list[tuple[Any, str, str]] = [
    ([0, 1], "such as [[3], [0, 5]], but is [0, 1].", "[[c] for c in labels]"),
    (0, "such as [[3], [0, 5]], but is 0.", ""),
    ([["cat"], ["dog"]], "such as [[3], [0, 5]], but is [['cat'], ['dog']].", ""),
    (torch.tensor([0, 1]), "`labels` must be (N, C) of 0 and 1, but has shape (2,).", "labels[:, None].tolist()"),
    (torch.tensor([[0], [1]]), "`labels` must be (N, 10) of 0 and 1, but has shape (2, 1).", "labels.tolist()"),
    (torch.tensor([[0, 7], [1, 2]]), "`labels` must be (N, C) of 0 and 1, but holds other numbers.", "labels.tolist()"),
]


@pytest.mark.parametrize(("labels", "said", "way_out"), LABELS)
def test_labels_of_another_form_are_refused(labels: Any, said: str, way_out: str, model: torch.nn.Module) -> None:
    with pytest.raises(ViceError) as caught:
        Explainer(model, "gradcam")(IMAGES, labels)
    assert said in caught.value.message
    assert way_out in caught.value.way_out
    if "tolist" in way_out or "for c in" in way_out:
        followed = eval(caught.value.way_out.split(": ")[1].rstrip("."), {"labels": labels})
        pairs = Explainer(model, "gradcam")(IMAGES, followed).pairs.tolist()
        assert pairs[0] == [0, 0]
        assert len(pairs) == torch.as_tensor(labels).numel()


def test_other_functions_say_what_they_need(samples: Samples, data: VocDataset, model: torch.nn.Module) -> None:
    mistakes: list[tuple[Callable[[], Any], str]] = [
        (lambda: torchvice.measure("runs/x"), "`samples` must be a table, but is 'runs/x'"),  # type: ignore[arg-type]
        (lambda: torchvice.measure(samples, replicates=100.5), "`replicates` must be a whole number"),  # type: ignore[arg-type]
        (lambda: torchvice.measure(samples, seed="a"), "`seed` must be a whole number"),  # type: ignore[arg-type]
        (lambda: Samples.load(None), "`folder` must be a path, but is None"),  # type: ignore[arg-type]
        (lambda: compare([samples, samples]), "`models` must be tables by name"),  # type: ignore[arg-type]
        (lambda: compare({"a": "runs/a", "b": "runs/b"}), "`models` must be tables by name, but is 'runs/a'"),  # type: ignore[dict-item]
        (lambda: torchvice.rank("runs/none"), "there is nothing at runs/none"),
        (lambda: torchvice.rank([None]), "`tables` must be a path, but is None"),  # type: ignore[list-item]
        (lambda: torchvice.evaluate(None, "a", "b"), "`image_ids` must be a list of names"),  # type: ignore[arg-type]
        (lambda: torchvice.evaluate(["x"], None, "b"), "`predictions` must be a path"),  # type: ignore[arg-type]
        (lambda: open_dataset(None, "val"), "`root` must be a path, but is None"),  # type: ignore[arg-type]
        (lambda: open_images(None), "`images` must be a path, but is None"),  # type: ignore[arg-type]
        (
            lambda: from_items([{"image": np.zeros((8, 8, 3), np.uint8), "labels": 0}], classes=2),
            "`classes` must be a list of different class names, but is 2",
        ),  # type: ignore[arg-type]
        (lambda: show_case(None, data, "test_00000", 1), "`samples` must be a table"),  # type: ignore[arg-type]
        (lambda: show_case(samples, None, "test_00000", 1), "`dataset` must be a dataset with classes"),  # type: ignore[arg-type]
        (lambda: Explainer(model, layer=model.layer3), "`layer` must name a module of the model, but is"),
        (lambda: ViceCallback(data, protocols="stric"), "`protocols` must be 'paper', 'strict' or both"),  # type: ignore[arg-type]
        (lambda: train("demo"), "`settings` must be settings, but is 'demo'"),  # type: ignore[arg-type]
        (lambda: pretrain("demo", "byol"), "`settings` must be settings, but is 'demo'"),  # type: ignore[arg-type]
    ]
    for call, said in mistakes:
        with pytest.raises(ViceError) as caught:
            call()
        assert said in caught.value.message
        assert len(caught.value.message) < 250


def test_measures_of_other_things_than_numbers_are_one_sentence() -> None:
    mistakes: list[tuple[Callable[[], Any], str]] = [
        (lambda: metrics.sigmoid("abc"), "`logits` must be an array of numbers"),
        (lambda: metrics.pair_log_likelihood([[1, 2], [1]]), "`logits` must be an array of numbers"),
        (lambda: metrics.share_interval([0.5, 2], [1, 1]), "`events` must hold 0 and 1"),
        (lambda: metrics.maximum_calibration_error(np.ones(3)), "`reliability` must be what `reliability`"),  # type: ignore[arg-type]
        (lambda: metrics.relative_foreground_sensitivity([0.1], 0.2), "`foreground_changed` must have 0 dimensions"),  # type: ignore[arg-type]
        (lambda: metrics.iou_curve([[[0.5]]], [0], np.zeros((1, 1)), num_classes=2.5), "`num_classes` must be a whole"),  # type: ignore[arg-type]
    ]
    for call, said in mistakes:
        with pytest.raises(ViceError) as caught:
            call()
        assert said in caught.value.message
    assert metrics.sigmoid(torch.zeros(2)).dtype == np.float32
    assert metrics.sigmoid([0, 0]).dtype == np.float64
