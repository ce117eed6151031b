"""Maps as files against masks: the reference through the disk, every kind of file, every kind of mistake."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from torchvice.cli.app import app
from torchvice.commands.evaluate import CHUNK, Evaluation, evaluate
from torchvice.errors import ViceError
from torchvice.interop import write_legacy_maps, write_maps

REFERENCE = Path(__file__).parents[1] / "reference"


def save_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(mask.astype(np.uint8)).convert("P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(path)


@pytest.fixture
def main_set(tmp_path: Path) -> tuple[Any, list[str]]:
    """The reference's images as the original's files, and as .npz in float32."""
    reference = np.load(REFERENCE / "A_B_curve_main.npz")
    names = [str(name) for name in reference["names"]]
    for name in names:
        keys, maps = reference[f"{name}/keys"], reference[f"{name}/cams"]
        write_legacy_maps(tmp_path / "npy" / f"{name}.npy", keys, maps)
        write_maps(tmp_path / "npz" / f"{name}.npz", keys, maps, dtype=np.float32)
        save_mask(tmp_path / "masks" / f"{name}.png", reference[f"{name}/gt"])
    (tmp_path / "val.txt").write_text("\n".join(names))
    return reference, names


def small_set(folder: Path, images: int, size: tuple[int, int] = (8, 9)) -> list[str]:
    rng = np.random.default_rng(0)
    names = [f"{number:04d}" for number in range(images)]
    for name in names:
        write_legacy_maps(folder / "npy" / f"{name}.npy", [1, 19], rng.random((2, *size)))
        save_mask(folder / "masks" / f"{name}.png", rng.choice([0, 2, 20, 255], size))
    return names


def assert_same(one: Evaluation, other: Evaluation) -> None:
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_reference_through_the_disk(kind: str, main_set: tuple[Any, list[str]], tmp_path: Path) -> None:
    reference, names = main_set
    result = evaluate(tmp_path / "val.txt", tmp_path / kind, tmp_path / "masks", kind=kind, ji_threshold=0.3, workers=1)
    np.testing.assert_allclose(result.class_iou, reference["class_iou_percent"] / 100, rtol=0, atol=1e-9)
    assert result.best_threshold == reference["best_threshold"]
    assert result.images == 24
    assert result.void_images == 1
    assert result.nan_images == 0
    scores = dict(zip(result.image_ids, result.image_ji, strict=True))  # type: ignore[arg-type]
    for name, expected in zip(reference["perimage_t0.3/names_sorted"], reference["perimage_t0.3/miou"], strict=True):
        np.testing.assert_allclose(scores[str(name)], expected, rtol=0, atol=1e-9)
    content = result.to_json()
    assert len(content["class_iou"]) == 60
    assert len(content["class_iou"][0]) == 21
    assert content["best_mean_iou"] == pytest.approx(reference["best_miou_percent"] / 100, abs=1e-9)
    assert set(content["image_ji"]) == set(names)
    assert [name for name, score in content["image_ji"].items() if score is None] == ["2099_900011"]
    json.dumps(content, allow_nan=False)


def test_reference_label_maps_through_the_disk(tmp_path: Path) -> None:
    reference = np.load(REFERENCE / "A_B_png.npz")
    names = [str(name) for name in reference["names"]]
    for name in names:
        save_mask(tmp_path / "labels" / f"{name}.png", reference[f"{name}/pred"])
        save_mask(tmp_path / "masks" / f"{name}.png", reference[f"{name}/gt"])
    result = evaluate(names, tmp_path / "labels", tmp_path / "masks", kind="png")
    np.testing.assert_allclose(result.class_iou[0], reference["class_iou_percent"] / 100, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.best_mean_iou, reference["miou_percent"] / 100, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.image_ji, reference["perimage/miou"], rtol=0, atol=1e-9)  # type: ignore[arg-type]
    content = result.to_json()
    assert content["thresholds"] == [None]
    assert content["best_threshold"] is None
    assert len(content["mean_iou"]) == 1


def test_nan_images_are_counted(tmp_path: Path) -> None:
    reference = np.load(REFERENCE / "A_B_curve_nan.npz")
    names = [str(name) for name in reference["names"]]
    for name in names:
        write_legacy_maps(tmp_path / "npy" / f"{name}.npy", reference[f"{name}/keys"], reference[f"{name}/cams"])
        save_mask(tmp_path / "masks" / f"{name}.png", reference[f"{name}/gt"])
    result = evaluate(names, tmp_path / "npy", tmp_path / "masks")
    np.testing.assert_allclose(result.mean_iou, reference["miou_percent"] / 100, rtol=0, atol=1e-9)
    assert result.to_json()["nan_images"] == 1


def test_one_threshold_and_strict(main_set: tuple[Any, list[str]], tmp_path: Path) -> None:
    reference, names = main_set
    one = evaluate(names, tmp_path / "npy", tmp_path / "masks", thresholds=0.1)
    np.testing.assert_allclose(one.mean_iou, reference["miou_percent"][10:11] / 100, rtol=0, atol=1e-9)
    assert one.best_threshold == 0.1
    assert one.image_ji is not None
    strict = evaluate(names, tmp_path / "npy", tmp_path / "masks", protocol="strict", num_classes=25)
    assert np.isnan(strict.class_iou[:, 21:]).all()
    assert strict.to_json()["class_iou"][0][-1] is None
    assert strict.mean_iou == pytest.approx(np.nanmean(strict.class_iou, axis=1))


def test_workers_give_the_same_in_the_same_order(tmp_path: Path) -> None:
    names = small_set(tmp_path, 3 * CHUNK + 5)
    seen: list[tuple[int, int]] = []
    alone = evaluate(names, tmp_path / "npy", tmp_path / "masks", ji_threshold=0.2, workers=1)
    shared = evaluate(
        names,
        tmp_path / "npy",
        tmp_path / "masks",
        ji_threshold=0.2,
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert_same(alone, shared)
    assert seen == [(16, 53), (32, 53), (48, 53), (53, 53)]


def test_workers_can_be_spawned_and_import_no_torch(tmp_path: Path) -> None:
    names = small_set(tmp_path, 2 * CHUNK)
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "from torchvice.commands.evaluate import evaluate\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        f"    names = {names!r}\n"
        f"    print(evaluate(names, {str(tmp_path / 'npy')!r}, {str(tmp_path / 'masks')!r}, workers=2).images)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "32", done.stderr


def test_an_error_in_a_worker_arrives_whole(tmp_path: Path) -> None:
    names = small_set(tmp_path, 3 * CHUNK)
    damaged = tmp_path / "npy" / f"{names[20]}.npy"
    damaged.write_bytes(damaged.read_bytes()[:200])
    messages = []
    for workers in (1, 2):
        with pytest.raises(ViceError, match="cannot be read") as caught:
            evaluate(names, tmp_path / "npy", tmp_path / "masks", workers=workers)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert str(damaged) in messages[0]
    assert caught.value.way_out


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    import tracemalloc

    names = small_set(tmp_path, 6 * CHUNK, (60, 80))
    peaks = []
    for count in (CHUNK, CHUNK, 6 * CHUNK):  # the first one warms up
        tracemalloc.start()
        evaluate(names[:count], tmp_path / "npy", tmp_path / "masks", workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 80 more images cost their names and what waits for the collector; one pair of maps has 38 kB.
    assert peaks[2] - peaks[1] < 80 * 2000


def break_things(folder: Path, what: str, name: str) -> dict[str, Any]:
    """Break one thing in the folder; the arguments that differ because of it."""
    match what:
        case "map missing":
            (folder / "npy" / f"{name}.npy").unlink()
        case "mask missing":
            (folder / "masks" / f"{name}.png").unlink()
        case "size":
            save_mask(folder / "masks" / f"{name}.png", np.zeros((9, 8)))
        case "class outside":
            write_legacy_maps(folder / "npy" / f"{name}.npy", [20], np.zeros((1, 8, 9)))
        case "label outside":
            save_mask(folder / "masks" / f"{name}.png", np.full((8, 9), 21))
        case "mask damaged":
            path = folder / "masks" / f"{name}.png"
            path.write_bytes(path.read_bytes()[:60])
        case "mask in colour":
            Image.new("RGB", (9, 8)).save(folder / "masks" / f"{name}.png")
        case "labels of 0 and 255":
            for image_id in ("0000", name):
                save_mask(folder / "npy" / f"{image_id}.png", np.full((8, 9), 255))
            return {"kind": "png", "image_ids": ["0000", name]}
        case "label map damaged":
            for image_id in ("0000", name):
                save_mask(folder / "npy" / f"{image_id}.png", np.ones((8, 9)))
            path = folder / "npy" / f"{name}.png"
            path.write_bytes(path.read_bytes()[:60])
            return {"kind": "png", "image_ids": ["0000", name]}
        case "png outside":
            save_mask(folder / "npy" / f"{name}.png", np.full((8, 9), 200))
            save_mask(folder / "npy" / "0000.png", np.zeros((8, 9)))
            return {"kind": "png", "image_ids": ["0000", name]}
    return {}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("map missing", r"1 of 3 predictions are missing: `0001` has no file .*0001.npy"),
        ("mask missing", r"1 of 3 masks are missing: `0001` has no file .*0001.png"),
        ("size", r"0001.npy must have the size of its mask .*0001.png, \(9, 8\), but has \(8, 9\)"),
        ("class outside", r"0001.npy must be of classes 0 to 19, but are of \[20\]"),
        ("label map damaged", r"The label map .*npy/0001.png is damaged or truncated"),
        ("label outside", r"masks/0001.png must be 0 to 20 or 255, but one is 21"),
        ("mask damaged", "0001.png"),
        ("mask in colour", "0001.png"),
        ("labels of 0 and 255", r"label maps in .*npy must hold classes \(1 to 20\), but hold only 255 and 0"),
        ("png outside", r"npy/0001.png must be 0 to 20 or 255, but one is 200"),
    ],
)
def test_a_wrong_file_is_named(what: str, words: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"image_ids": small_set(tmp_path, 3)}
    given |= break_things(tmp_path, what, "0001")
    with pytest.raises(ViceError, match=words):
        evaluate(predictions=tmp_path / "npy", ground_truth=tmp_path / "masks", **given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_ids": []}, "at least one image"),
        ({"image_ids": ["0000", "0000"]}, "names `0000` several times"),
        ({"predictions": "nowhere"}, "folder of the predictions must exist"),
        ({"ground_truth": "nowhere"}, "folder of the masks must exist"),
        ({"kind": "jpg"}, "`kind` must be one of npy, npz, png"),
        ({"protocol": "papr"}, "Did you mean `paper`"),
        ({"num_classes": 65535}, r"`num_classes` \(--classes\) must be 1 to 65534"),
        ({"workers": 0}, r"`workers` \(--processes\) must be at least 1"),
        ({"thresholds": [0.2, 0.1]}, "rise"),
        ({"thresholds": 7}, r"must be in \[0, 1\], like the maps, but is 7"),
        ({"thresholds": [-0.1, 0.1]}, r"but is -0\.1"),
        ({"ji_threshold": 0.105}, r"one of the 60 thresholds"),
    ],
)
def test_wrong_arguments_are_told(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    names = small_set(tmp_path, 2)
    given = {"image_ids": names, "predictions": tmp_path / "npy", "ground_truth": tmp_path / "masks", **change}
    with pytest.raises(ViceError, match=words):
        evaluate(**given)


def test_an_empty_list_file(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("\n")
    with pytest.raises(ViceError, match="empty"):
        evaluate(tmp_path / "val.txt", tmp_path, tmp_path)


def test_the_ends_of_the_range_are_thresholds(tmp_path: Path) -> None:
    names = small_set(tmp_path, 2)
    assert evaluate(names, tmp_path / "npy", tmp_path / "masks", thresholds=[0, 1]).thresholds.tolist() == [0, 1]


@pytest.mark.parametrize("beside", ["VOC2012", "."])
def test_classes_are_those_that_the_data_names(beside: str, tmp_path: Path) -> None:
    """classes.txt lies in the VOC2012 folder or beside it; without one there are VOC's twenty."""
    base = tmp_path / "VOC2012"
    names = small_set(base, 3)
    (base / "JPEGImages").mkdir()
    found = evaluate(names, base / "npy", base / "masks")
    assert (found.class_iou.shape[1], found.classes[0], len(found.classes)) == (21, "aeroplane", 20)
    given = [f"thing {c}" for c in range(23)]
    (tmp_path / beside / "classes.txt").write_text("\n".join(given))
    found = evaluate(names, base / "npy", base / "masks")
    assert (found.class_iou.shape[1], list(found.classes)) == (24, given)
    assert found.to_json()["classes"] == given
    one = evaluate(names, base / "npy", base / "masks", num_classes=20)
    assert (one.class_iou.shape[1], one.classes, "classes" in one.to_json()) == (21, (), False)


def test_maps_of_irn_and_clip_es(tmp_path: Path) -> None:
    names = small_set(tmp_path, 2)
    usual = evaluate(names, tmp_path / "npy", tmp_path / "masks", thresholds=0.3)
    for key in ("high_res", "attn_highres", "cam"):
        (tmp_path / key).mkdir()
        for name in names:
            maps = np.load(tmp_path / "npy" / f"{name}.npy", allow_pickle=True).item()
            content = {"keys": np.array(list(maps)), "cam": np.zeros((2, 2, 3)), key: np.stack(list(maps.values()))}
            np.save(tmp_path / key / f"{name}.npy", content, allow_pickle=True)
        assert_same(evaluate(names, tmp_path / key, tmp_path / "masks", thresholds=0.3), usual)
    content |= {"high_res": content["cam"], "attn_highres": content["cam"]}
    np.save(tmp_path / "cam" / f"{names[0]}.npy", content, allow_pickle=True)
    with pytest.raises(ViceError, match=r"but holds keys, cam, high_res, attn_highres") as caught:
        evaluate(names, tmp_path / "cam", tmp_path / "masks")
    assert "save one of these" in caught.value.way_out


def test_values_that_no_threshold_can_cut_are_told(tmp_path: Path) -> None:
    names = small_set(tmp_path, 4)
    assert evaluate(names, tmp_path / "npy", tmp_path / "masks").outside_images == 0
    for name, value in zip(names, (np.nan, np.inf, 80, -1), strict=True):
        write_legacy_maps(tmp_path / "npy" / f"{name}.npy", [1], np.full((1, 8, 9), value))
    found = evaluate(names, tmp_path / "npy", tmp_path / "masks")
    assert (found.to_json()["nan_images"], found.to_json()["outside_images"]) == (1, 3)
    (tmp_path / "val.txt").write_text("\n".join(names))
    command = ["evaluate", "--list", tmp_path / "val.txt", "--predictions", tmp_path / "npy", "--ground-truth",
               tmp_path / "masks", "--type", "npy", "--threshold", "0.3"]  # fmt: skip
    for protocol in ("paper", "strict"):
        done = CliRunner().invoke(app, [*map(str, command), "--protocol", protocol])
        assert done.exit_code == 0, done.output
        assert "1 images have NaN in a map" in done.output
        assert "3 images have a map with values outside [0, 1]" in done.output


def test_masks_without_a_class_and_the_way_out(tmp_path: Path) -> None:
    names = small_set(tmp_path, 2)
    for name in names:
        save_mask(tmp_path / "masks" / f"{name}.png", np.eye(8, 9) * 255)
        write_legacy_maps(tmp_path / "npy" / f"{name}.npy", [0], np.eye(8, 9)[None])
    (tmp_path / "classes.txt").write_text("polyp\n")
    with pytest.raises(ViceError, match="must hold classes") as caught:
        evaluate(names, tmp_path / "npy", tmp_path / "masks")
    assert "names: {polyp: 255}" in caught.value.way_out
    (tmp_path / "dataset.yaml").write_text("names: {polyp: 255}\nmasks: masks\n")
    assert evaluate(names, tmp_path / "npy", tmp_path / "masks").best_mean_iou == pytest.approx(1, abs=1e-9)


def test_names_with_spaces_capitals_and_both_normal_forms(tmp_path: Path) -> None:
    names = small_set(tmp_path, 1)
    composed, decomposed = (unicodedata.normalize(form, "a café") for form in ("NFC", "NFD"))
    (tmp_path / "masks" / f"{names[0]}.png").rename(tmp_path / "masks" / f"{decomposed}.PNG")
    (tmp_path / "npy" / f"{names[0]}.npy").rename(tmp_path / "npy" / f"{decomposed}.npy")
    (tmp_path / "val.txt").write_text(composed, encoding="utf-8")
    assert evaluate(tmp_path / "val.txt", tmp_path / "npy", tmp_path / "masks").images == 1
