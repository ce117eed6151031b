"""The Metric classes: one pass, merged states and two real processes give the number of the pure function."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing
from torchmetrics import Metric, MetricCollection

from torchvice.errors import ViceError
from torchvice.metrics import multilabel_ece, multilabel_reliability, pair_vice, vice
from torchvice.metrics.iou import CurveCounter, iou_curve
from torchvice.metrics.modules import ImageVice, MeanIoUCurve, MultilabelCalibrationError, PairVice

CUTS = [0, 5, 12, 30, 40]  # four batches


def columns(seed: int = 0, n: int = CUTS[-1]) -> dict[str, list[Any]]:
    """The arguments of `update` for n images."""
    rng = np.random.default_rng(seed)
    quality = rng.random(n)
    logits = 4 * quality + rng.normal(size=n)
    targets = (rng.random((n, 3)) < 0.5).astype(np.int64)
    targets[:, 0] |= targets.sum(1) == 0
    maps = [rng.random((2, 6, 7), dtype=np.float32) for _ in range(n)]
    masks = [rng.choice([0, 1, 2, 3, 255], (6, 7)) for _ in range(n)]
    return {
        "vice": [torch.tensor(1e3 - logits), torch.tensor(quality)],
        "pairs": [torch.tensor(logits), torch.tensor(quality)],
        "paper": [torch.tensor(rng.random((n, 3))), torch.tensor(targets)],
        "strict": [torch.tensor(rng.random((n, 3))), torch.tensor(targets)],
        "iou": [[torch.tensor(m) for m in maps], [[0, 2]] * n, [torch.tensor(m) for m in masks]],
    }


def metrics() -> dict[str, Metric]:
    return {
        "vice": ImageVice(),
        "pairs": PairVice(),
        "paper": MultilabelCalibrationError(),
        "strict": MultilabelCalibrationError(10, "strict"),
        "iou": MeanIoUCurve(3, [0.0, 0.3, 0.6, 0.9], "strict"),
    }


def expected(data: dict[str, list[Any]]) -> dict[str, Any]:
    return {
        "vice": vice(*data["vice"]).value,
        "pairs": pair_vice(*data["pairs"]).value,
        "paper": multilabel_ece(*data["paper"]),
        "strict": multilabel_ece(*data["strict"], 10, "strict"),
        "iou": iou_curve(*data["iou"], 3, [0.0, 0.3, 0.6, 0.9], "strict").mean_iou.tolist(),
    }


def batch(data: dict[str, list[Any]], name: str, number: int) -> list[Any]:
    return [column[CUTS[number] : CUTS[number + 1]] for column in data[name]]


NAMES = tuple(metrics())


@pytest.mark.parametrize("name", NAMES)
def test_one_pass_is_the_pure_function_and_reset_forgets(name: str) -> None:
    metric, data = metrics()[name], columns()
    for _ in range(2):
        for number in range(4):
            metric.update(*batch(data, name, number))
        found = metric.compute()
        assert found.dtype == torch.float64
        assert found.tolist() == pytest.approx(expected(data)[name], abs=1e-12)
        metric.reset()


@pytest.mark.parametrize("name", NAMES)
def test_forward_gives_the_batch_and_keeps_the_whole(name: str) -> None:
    metric, data = metrics()[name], columns()
    for number in range(4):
        part = {key: batch(data, key, number) for key in NAMES}
        assert metric(*part[name]).tolist() == pytest.approx(expected(part)[name], abs=1e-12)
    assert metric.compute().tolist() == pytest.approx(expected(data)[name], abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_merged_states_are_one_pass(name: str) -> None:
    data, parts = columns(), [metrics()[name] for _ in range(3)]
    for number, place in enumerate((0, 1, 0, 1)):  # the third saw nothing
        parts[place].update(*batch(data, name, number))
    parts[0].merge_state(parts[2])
    parts[0].merge_state(parts[1])
    assert parts[0].compute().tolist() == pytest.approx(expected(data)[name], abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_state_goes_on(name: str) -> None:
    data, first, second = columns(), metrics()[name], metrics()[name]
    assert not first.state_dict()
    first.persistent(True)
    second.persistent(True)
    for number in range(4):
        metric = first if number < 2 else second
        metric.update(*batch(data, name, number))
        if number == 1:
            second.load_state_dict(first.state_dict())
    assert second.compute().tolist() == pytest.approx(expected(data)[name], abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_seen_is_nan_and_said(name: str) -> None:
    metric = metrics()[name]
    with pytest.warns(UserWarning, match=r"is undefined: .*(no image|at least three).*"):
        assert torch.isnan(metric.compute()).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_goes_in_and_float64_is_kept(dtype: torch.dtype) -> None:
    data = columns()
    low = {name: [column.to(dtype) if name != "iou" and column.is_floating_point() else column for column in data[name]]
           for name in NAMES}  # fmt: skip
    for name, metric in metrics().items():
        metric.half()  # as a network's .half() would
        metric.update(*low[name])
        wide = {key: [c.float() if torch.is_tensor(c) else c for c in value] for key, value in low.items()}
        assert metric.compute().tolist() == pytest.approx(expected(wide)[name], abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_states_keep_their_precision_in_a_module_of_another(name: str, dtype: torch.dtype) -> None:
    data, module = columns(), torch.nn.Linear(1, 1)
    module.metric = metrics()[name]
    for number in range(4):  # Lightning calls `to` with precision="bf16-true", also between batches
        module.to(dtype).metric.update(*batch(data, name, number))
    states = [getattr(module.metric, key) for key in module.metric._defaults]
    tensors = [tensor for state in states for tensor in (state if isinstance(state, list) else [state])]
    assert {tensor.dtype for tensor in tensors} <= {torch.float64, torch.int64}
    assert module.metric.compute().tolist() == pytest.approx(expected(data)[name], abs=1e-12)
    module.metric.reset()
    module.half().metric.update(*data[name])
    assert module.metric.compute().tolist() == pytest.approx(expected(data)[name], abs=1e-12)
    assert module.weight.dtype == torch.float16


def test_states_follow_the_device() -> None:
    device = "cuda" if torch.cuda.is_available() else "meta"
    for name, metric in metrics().items():
        moved = metric.to(device)
        assert {t.device.type for t in moved._defaults.values() if torch.is_tensor(t)} <= {device}, name
    if device == "cuda":
        data = columns()
        for name, metric in metrics().items():
            metric.to(device).update(*batch(data, name, 0))
            metric.update(*[[t.to(device) if torch.is_tensor(t) else t for t in c] if isinstance(c, list)
                            else c.to(device) for c in batch(data, name, 1)])  # fmt: skip
            assert metric.compute().device.type == device


def test_a_batch_of_none_counts_nothing() -> None:
    data = columns()
    for name, metric in metrics().items():
        metric.update(*(column[:0] for column in data[name]))
        metric.update(*data[name])
        assert metric.compute().tolist() == pytest.approx(expected(data)[name], abs=1e-12)


def test_undefined_images() -> None:
    loss, quality = [0.1, 0.4, 0.9, 0.5], [0.8, 0.5, 0.1, float("nan")]
    metric, lenient = ImageVice(), ImageVice("omit")
    for each in (metric, lenient):
        each.update(loss, quality)
    with pytest.warns(UserWarning, match="of 1 of 4 images is NaN"):
        assert torch.isnan(metric.compute())
    assert lenient.compute().item() == pytest.approx(vice(loss, quality, "omit").value, abs=1e-12)
    assert (lenient.co_moments().n, lenient.co_moments().undefined) == (3, 1)
    constant = ImageVice()
    constant.update([0.1, 0.4, 0.9], [0.3, 0.3, 0.3])
    with pytest.warns(UserWarning, match="must vary"):
        assert torch.isnan(constant.compute())
    calibration = MultilabelCalibrationError()
    calibration.update([[0.1, 0.2]], [[0, 0]])
    with pytest.warns(UserWarning, match="neither label nor prediction"):
        assert torch.isnan(calibration.compute())


def test_mistakes_raise() -> None:
    with pytest.raises(ViceError, match="nan_policy"):
        ImageVice("drop")
    with pytest.raises(ViceError, match="protocol"):
        MultilabelCalibrationError(protocol="draft")  # type: ignore[arg-type]
    with pytest.raises(ViceError, match="one length"):
        PairVice().update([1.0, 2.0], [0.5])
    with pytest.raises(ViceError, match="Logits become probabilities"):
        MultilabelCalibrationError().update([[3.0]], [[1]])
    with pytest.raises(ViceError, match="one length"):
        MeanIoUCurve(3).update([[[[0.5]]]], [[0], [1]], [np.array([[1]])])
    with pytest.raises(ViceError, match="infinity"):
        ImageVice().update([float("inf")], [0.5])


def test_counts_of_elsewhere_and_the_whole_curve() -> None:
    maps, classes, masks = columns()["iou"]
    seen, counted = MeanIoUCurve(3, [0.1, 0.5]), MeanIoUCurve(3, [0.1, 0.5])
    seen.update(maps, classes, masks)
    elsewhere = CurveCounter(3, [0.1, 0.5])
    for part in (slice(0, 10), slice(10, None)):
        one = MeanIoUCurve(3, [0.1, 0.5])
        one.update(maps[part], classes[part], masks[part])
        elsewhere.images += int(one.images)
        for name in ("intersection", "predicted", "mask_pixels"):
            setattr(elsewhere, name, getattr(elsewhere, name) + getattr(one, name).numpy())
    counted.update(counts=elsewhere)
    for name, value in vars(seen.curve()).items():
        np.testing.assert_array_equal(getattr(counted.curve(), name), value)
    assert seen.curve().class_iou.shape == (2, 4)
    with pytest.raises(ViceError, match="same classes and thresholds"):
        counted.update(counts=CurveCounter(2, [0.1, 0.5]))


def test_the_diagram_behind_the_number() -> None:
    probabilities, targets = columns()["strict"]
    metric = MultilabelCalibrationError(10, "strict")
    metric.update(probabilities, targets)
    for name, value in vars(multilabel_reliability(probabilities, targets, 10, "strict")).items():
        np.testing.assert_allclose(getattr(metric.reliability(), name), value, rtol=1e-13)


def test_a_collection_takes_them() -> None:
    data = columns()
    both = MetricCollection({"paper": MultilabelCalibrationError(), "strict": MultilabelCalibrationError(10, "strict")})
    for number in range(4):
        both.update(*batch(data, "paper", number))
    found = both.compute()
    assert found["paper"].item() == pytest.approx(multilabel_ece(*data["paper"]), abs=1e-12)
    assert found["strict"].item() == pytest.approx(multilabel_ece(*data["paper"], 10, "strict"), abs=1e-12)


def equal_then_different(kind: str) -> tuple[list[Metric], list[list[Any]]]:
    """Metrics of one class with other settings, and two batches: their states are equal after the first."""
    if kind == "calibration":
        metrics: list[Metric] = [MultilabelCalibrationError(), MultilabelCalibrationError(protocol="strict")]
        # One of two labels is predicted: its accuracy is 1/2 under `paper`, its precision 1 under `strict`.
        return metrics, [[torch.tensor([[0.9, 0.1]]), torch.tensor([[1, 0]])],
                         [torch.tensor([[0.9, 0.1]]), torch.tensor([[1, 1]])]]  # fmt: skip
    if kind == "thresholds":
        curves: list[Metric] = [MeanIoUCurve(2, [0.1, 0.5]), MeanIoUCurve(2, [0.2, 0.6])]
    else:
        curves = [MeanIoUCurve(2, [0.1, 0.5], void=void) for void in (255, 2)]
    return curves, [[[torch.tensor([[[0.9, 0.0]]])], [[0]], [torch.tensor([[1, 0]])]],
                    [[torch.tensor([[[0.15, 0.55]]])], [[0]], [torch.tensor([[1, 2]])]]]  # fmt: skip


@pytest.mark.parametrize("kind", ["calibration", "thresholds", "void"])
def test_a_collection_keeps_metrics_of_other_settings_apart(kind: str) -> None:
    single, batches = equal_then_different(kind)
    collection = MetricCollection({str(place): metric.clone() for place, metric in enumerate(single)})
    for values in batches:
        collection.update(*values)
        for metric in single:
            metric.update(*values)
    expected = [metric.compute().tolist() for metric in single]
    assert expected[0] != expected[1]
    assert [value.tolist() for value in collection.compute().values()] == expected
    with pytest.raises(ValueError, match="settings_"):
        single[0].merge_state(single[1])


def test_a_collection_shares_the_state_of_equal_settings() -> None:
    curves = {name: MeanIoUCurve(2, [0.1, 0.5], name) for name in ("paper", "strict")}
    policies = {name: ImageVice(name) for name in ("propagate", "omit")}
    for metrics, values in ((curves, equal_then_different("void")[1][0]), (policies, [[0.1, 0.4], [0.8, 0.5]])):
        collection = MetricCollection(metrics)
        collection.update(*values)
        assert len(collection.compute_groups) == 1


# ---- two processes

SHARES = {"uneven": ((0, 2, 3), (1,)), "nothing": ((0, 1, 2, 3), ()), "other": ((), (0, 1, 2, 3))}


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        data, found = columns(), {}
        for share, numbers in SHARES.items():
            for name, metric in metrics().items():
                for number in numbers[rank]:
                    metric.update(*batch(data, name, number))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # compute before update, on the process without a batch
                    found[f"{share} {name}"] = metric.compute().tolist()
                if numbers[rank]:  # the sync is undone: the process has its own part again
                    assert metric._update_count == len(numbers[rank])
                    again = metric.compute().tolist()
                    assert again == found[f"{share} {name}"]
        Path(folder, f"{rank}.json").write_text(json.dumps(found))
    finally:
        distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_number_of_one(tmp_path: Path) -> None:
    run: Callable[..., Any] = multiprocessing.spawn
    run(worker, args=(str(tmp_path),), nprocs=2)
    wanted = expected(columns())
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert len(found) == 15
        for key, value in found.items():
            assert value == pytest.approx(wanted[key.split()[1]], abs=1e-12), (rank, key)
