"""torchvice.ray: batches of any images in any order give the table of `torchvice.assess`, also from Ray with a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch

import torchvice
from command import status_of
from torchvice.data import VocDataset, open_dataset
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.ray import Assessor, collect
from torchvice.runs import Run
from torchvice.samples import Samples, ShardFolder
from ways_out import tried

SIZES = {"view_size": 64, "crop": 64, "batch_size": 4, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
FULL = {"controls": True, "without": ["object", "background", "patch"]}  # the defaults of `vice assess`


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=2, val=4, test=10, size=48)
    return root


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=10).eval()


@pytest.fixture(scope="module")
def expected(model: Any, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    out = tmp_path_factory.mktemp("table")
    return torchvice.assess(model, VocDataset(digits, "test"), out=out, shard_size=4, **FULL, **SIZES)


@pytest.fixture(scope="module")
def ids(digits: Path) -> np.ndarray:
    return np.array([record.image_id for record in open_dataset(digits, "test").records])


@pytest.fixture(scope="module")
def assessor(model: Any, digits: Path) -> Assessor:
    return Assessor(model, digits, split="test", **SIZES)


@pytest.fixture(scope="module")
def written(assessor: Assessor, ids: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of all images: in another order, in batches of several sizes, one image in two of them."""
    folder = tmp_path_factory.mktemp("rows") / "rows"
    order = np.random.default_rng(0).permutation(len(ids))
    batches = [order[:3], order[3:4], order[4:9], order[8:]]
    write(folder, [assessor({"image_id": ids[batch]}) for batch in batches])
    return folder


def write(folder: Path, tables: Sequence[pa.Table]) -> None:
    folder.mkdir()
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")


def assert_same(found: Samples, expected: Samples) -> None:
    """The same rows in the same order; floats may differ in their last digits, as batches hold other images."""
    for part in ("images", "regions", "maps"):
        columns = vars(getattr(found, part))
        for name, column in vars(getattr(expected, part)).items():
            if name == "map":
                for a, b in zip(columns[name], column, strict=True):
                    np.testing.assert_allclose(a.astype(float), b.astype(float), atol=1e-3)  # float16
            elif column.dtype.kind == "f":
                np.testing.assert_allclose(columns[name], column, rtol=1e-4, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(columns[name], column, err_msg=name)
                assert columns[name].dtype == column.dtype
    manifests = [{k: v for k, v in one.manifest.items() if k != "files"} for one in (found, expected)]
    assert manifests[0] == manifests[1]
    assert found.manifest["finished"]


def test_the_table_of_assess(written: Path, model: Any, digits: Path, expected: Samples, tmp_path: Path) -> None:
    assert_same(collect(written, tmp_path / "t", shard_size=4), expected)
    steps: list[tuple[int, int]] = []

    def again(**more: Any) -> Samples:
        return torchvice.assess(
            model, VocDataset(digits, "test"), out=tmp_path / "t", shard_size=4, **FULL, **SIZES, **more
        )

    assert_same(again(progress=lambda *step: steps.append(step)), expected)
    assert {done for done, _ in steps} == {steps[0][1]}  # nothing is left to do
    assert again(also=["gradcam"]).manifest["added"] == ["strict:gradcam"]


def test_the_table_of_the_command(digits: Path, model: Any, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "w.pth")
    options = {"view_size": 64, "crop": 64, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    words = [
        "--view-size",
        "64",
        "--crop",
        "64",
        "--mean",
        "0.5,0.5,0.5",
        "--std",
        "0.25,0.25,0.25",
        "--without",
        "none",
    ]
    named = ("--model", "test_resnet", "--weights", tmp_path / "w.pth", "--data", digits)
    assert status_of("assess", *named, *words, "--controls", "cheap", "--out", tmp_path / "command") == 0
    cheap = ["random", "center", "foreground", "shuffled"]
    function = Assessor(
        "test_resnet", digits, weights=tmp_path / "w.pth", controls=cheap, without="none", workers=1, **options
    )
    names = np.array([record.image_id for record in open_dataset(digits).records])
    write(tmp_path / "rows", [function({"image_id": names})])
    assert_same(collect(tmp_path / "rows", tmp_path / "t"), Samples.load(tmp_path / "command"))


def test_the_table_of_a_run(digits: Path, tmp_path: Path) -> None:
    root = shutil.copytree(digits, tmp_path / "set")
    given = [f"data.root={root}", f"work_dir={tmp_path}", "trainer.epochs=1", "trainer.batch_size=4"]
    given += ["model.name=test_resnet", "model.arguments={}"]
    assert status_of("train", "demo", *(word for one in given for word in ("-o", one))) == 0
    run = tmp_path / "demo"
    assert status_of("assess", run, "--without", "none", "--out", tmp_path / "command") == 0
    function = Assessor(run=run, without="none")
    names = np.array([record.image_id for record in Run(run).dataset().records])
    write(tmp_path / "rows", [function({"image_id": names})])
    assert_same(collect(tmp_path / "rows", tmp_path / "t"), Samples.load(tmp_path / "command"))
    moved = root.rename(tmp_path / "moved")
    with pytest.raises(ViceError, match="but that is not there") as caught:
        Assessor(run=run, without="none")
    assert "--data DIR" in caught.value.way_out
    assert status_of("assess", run, "--data", moved, "--without", "none", "--out", tmp_path / "elsewhere") == 0
    write(tmp_path / "more", [Assessor(run=run, data=moved, without="none")({"image_id": names})])
    assert_same(collect(tmp_path / "more", tmp_path / "u"), Samples.load(tmp_path / "elsewhere"))


def test_pixels_and_paths_of_read_images(assessor: Assessor, digits: Path, ids: np.ndarray, written: Path) -> None:
    dataset = open_dataset(digits, "test")
    paths = np.array([str(dataset.records[place].image) for place in (5, 2)])
    pixels = np.empty(2, dtype=object)  # as Ray has images of several sizes
    pixels[:] = [dataset.image(place) for place in (5, 2)]
    by_id = assessor({"image_id": ids[[5, 2]]})
    by_path = assessor({"path": paths, "image": pixels})
    assert by_path["path"].to_pylist() == paths.tolist()
    assert repr(by_path.drop_columns("path").to_pydict()) == repr(by_id.to_pydict())  # NaN equals NaN here
    other = assessor({"path": paths, "image": [255 - image for image in pixels], "size": np.zeros(2)})
    assert other["files"].equals(by_id["files"])
    assert not other["images"].equals(by_id["images"])  # these pixels, not those of the file


def test_pixels_that_are_not_as_stored(assessor: Assessor, ids: np.ndarray) -> None:
    smaller = np.zeros((1, 24, 24, 3), np.uint8)
    found = tried(
        lambda: assessor({"image_id": ids[:1], "image": smaller}),
        "Read images in their own size, or give their ids alone.",
        lambda: assessor({"image_id": ids[:1]}),
    )
    assert found.num_rows == 1
    with pytest.raises(ViceError, match=r"must hold arrays \(H, W, 3\) of uint8, but one is uint8 \(48, 48\)"):
        assessor({"image_id": ids[:1], "image": np.zeros((1, 48, 48), np.uint8)})


def test_batches_that_name_no_images(assessor: Assessor, ids: np.ndarray, digits: Path, model: Any) -> None:
    with pytest.raises(ViceError, match=r"must be one of the dataset's, but '/tmp/test_0001\.jpg' is not") as caught:
        assessor({"path": np.array(["/tmp/test_0001.jpg"])})
    assert "`test_0000" in caught.value.way_out
    with pytest.raises(ViceError, match="must have each image once, but has 'test_00001' twice"):
        assessor({"image_id": ids[[1, 0, 1]]})
    with pytest.raises(ViceError, match="`image_id` or `path`, but has image, x"):
        assessor({"x": np.zeros(1), "image": np.zeros((1, 48, 48, 3), np.uint8)})
    with pytest.raises(ViceError, match="or a run, but neither is given"):
        Assessor()
    with pytest.raises(ViceError, match="A run has its own model and classes, but `model` is given too"):
        Assessor(model, run=digits)
    with pytest.raises(ViceError, match="but `masks` is given too"):
        Assessor(run=digits, masks="masks")
    with pytest.raises(ViceError, match="`data` must be a folder where `run` is given, but is <torchvice"):
        Assessor(run=digits, data=VocDataset(digits, "test"))
    with pytest.raises(ViceError, match="Give one dataset: `data` and `images` are both given"):
        Assessor(model, digits, images="photos")
    with pytest.raises(ViceError, match="`mask_values` goes with `images`, which is not given"):
        Assessor(model, digits, mask_values="1=polyp")
    with pytest.raises(ViceError, match="but `weights` is given too"):
        Assessor(run=digits, weights="w.pth")
    with pytest.raises(ViceError, match="`checkpoint` names a checkpoint of a run"):
        Assessor(model, digits, checkpoint="last")
    with pytest.raises(ViceError, match="`weights` goes with the name of a network, but `model` is a network"):
        Assessor(model, digits, weights="w.pth")
    with pytest.raises(ViceError, match="`split` names a list of the folder `data`"):
        Assessor(model, VocDataset(digits, "test"), split="test")


# ---- collect


def test_a_killed_collect_resumes(written: Path, expected: Samples, tmp_path: Path, monkeypatch: Any) -> None:
    append, calls = ShardFolder.append, list[int]()

    def once(self: ShardFolder, *parts: Any, **options: Any) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        append(self, *parts, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ShardFolder, "append", once)
        with pytest.raises(KeyboardInterrupt):
            collect(written, tmp_path / "t", shard_size=4)
    assert ShardFolder(tmp_path / "t").shards() == [0]
    assert_same(collect(written, tmp_path / "t", shard_size=4), expected)
    assert_same(collect(written, tmp_path / "t", shard_size=4), expected)  # and once more changes nothing


def test_rows_that_are_missing(written: Path, expected: Samples, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "rows")
    (tmp_path / "rows" / "1.parquet").rename(tmp_path / "1.parquet")
    with pytest.raises(ViceError, match=r"for each of the 10 images of the dataset, but holds 9; image \d is missing"):
        collect(tmp_path / "rows", tmp_path / "t")
    assert not (tmp_path / "t").exists()

    def assessed() -> Samples:
        (tmp_path / "1.parquet").rename(tmp_path / "rows" / "1.parquet")
        return collect(tmp_path / "rows", tmp_path / "t", shard_size=4)

    found = tried(lambda: collect(tmp_path / "rows", tmp_path / "t"), "Assess the missing images", assessed)
    assert_same(found, expected)


def test_rows_of_two_assessments(written: Path, model: Any, digits: Path, ids: np.ndarray, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "rows")
    other = Assessor(model, digits, split="test", **{**SIZES, "view_size": 32})
    pq.write_table(other({"image_id": ids[:1]}), tmp_path / "rows" / "other.parquet")
    with pytest.raises(
        ViceError, match=r"those of .*other.parquet differ from those of .*0.parquet in .*`map_settings`"
    ):
        collect(tmp_path / "rows", tmp_path / "t")


def test_files_that_are_no_rows(written: Path, tmp_path: Path) -> None:
    with pytest.raises(ViceError, match=r"must hold the Parquet files of an Assessor's rows, but has none"):
        collect(tmp_path, tmp_path / "t")
    shutil.copytree(written, tmp_path / "rows")
    file = tmp_path / "rows" / "0.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ViceError, match=r"0.parquet must hold rows of an Assessor, but does not"):
        collect(tmp_path / "rows", tmp_path / "t")
    pq.write_table(pa.table({"index": [0]}), file)
    with pytest.raises(ViceError, match="it has no column assessment"):
        collect(tmp_path / "rows", tmp_path / "t")
    table = pq.read_table(written / "0.parquet")
    pq.write_table(table.drop_columns("maps"), file)
    with pytest.raises(ViceError, match="it has no column maps"):
        collect(tmp_path / "rows", tmp_path / "t")
    place = table.column_names.index("regions")
    pq.write_table(table.set_column(place, "regions", [list(range(table.num_rows))]), file)
    found = tried(
        lambda: collect(tmp_path / "rows", tmp_path / "u"),
        "Delete it, and assess its images again into the same folder.",
        lambda: shutil.copy(written / "0.parquet", file) and collect(tmp_path / "rows", tmp_path / "u"),
    )
    assert found.manifest["finished"]


def test_the_module_loads_neither_ray_nor_torch() -> None:
    program = "import sys, torchvice.ray; print(sorted({'ray', 'torch', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- Ray itself


def recorded(calls: Path, until: Path | None = None) -> type[Assessor]:
    """An Assessor that notes its process and the images of each batch; a class of a function goes to workers whole.

    With `until` it fails at its fourth batch, once that folder holds files.
    """

    class Recorded(Assessor):
        def __call__(self, batch: Any) -> pa.Table:
            with open(calls, "a") as file:
                file.write(f"{os.getpid()} {' '.join(batch['image_id'])}\n")
            if until is not None and len(calls.read_text().splitlines()) == 4:
                end = time.monotonic() + 300
                while time.monotonic() < end and not list(until.glob("*.parquet")):
                    time.sleep(0.1)
                raise RuntimeError("fails at the fourth batch")
            return super().__call__(batch)

    return Recorded


def images_of(calls: Path) -> list[str]:
    return [name for line in calls.read_text().splitlines() for name in line.split()[1:]]


@pytest.fixture
def cluster() -> Any:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    pytest.importorskip("ray.data", reason="the extra `ray` is not installed")
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.data.DataContext.get_current().checkpoint_config = None
    ray.shutdown()


@pytest.mark.slow
def test_ray_data_with_a_killed_worker(
    cluster: Any, model: Any, digits: Path, ids: np.ndarray, expected: Samples, tmp_path: Path
) -> None:
    calls, killed = tmp_path / "calls", list[int]()
    calls.touch()

    def kill() -> None:
        end = time.monotonic() + 300
        while time.monotonic() < end and len(lines := calls.read_text().splitlines()) < 2:
            time.sleep(0.01)
        killed.append(int(lines[-1].split()[0]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    (
        cluster.data.from_items([{"image_id": name} for name in ids.tolist()], override_num_blocks=5)
        .map_batches(
            recorded(calls),
            fn_constructor_kwargs={"model": model, "data": str(digits), "split": "test", **SIZES},
            batch_size=2,
            compute=cluster.data.ActorPoolStrategy(size=2),
        )
        .write_parquet(str(tmp_path / "rows"))
    )
    killer.join()
    assert len(killed) == 1
    assert len(images_of(calls)) > len(ids)  # what the killed worker had begun was begun again
    assert_same(collect(tmp_path / "rows", tmp_path / "t", shard_size=4), expected)


@pytest.mark.slow
def test_a_checkpoint_of_ray_data_resumes(
    cluster: Any, model: Any, digits: Path, ids: np.ndarray, expected: Samples, tmp_path: Path
) -> None:
    checkpoint = pytest.importorskip("ray.data.checkpoint", reason="this Ray has no checkpoints")
    calls, folder, data = tmp_path / "calls", tmp_path / "checkpoint", cluster.data
    data.from_items([{"image_id": name} for name in ids.tolist()]).write_parquet(str(tmp_path / "ids"))
    data.DataContext.get_current().checkpoint_config = checkpoint.CheckpointConfig(
        id_column="image_id", checkpoint_path=str(folder), delete_checkpoint_on_success=False
    )

    def run(until: Path | None) -> list[str]:
        calls.write_text("")
        data.read_parquet(str(tmp_path / "ids")).repartition(5).map_batches(
            recorded(calls, until),
            fn_constructor_kwargs={"model": model, "data": str(digits), "split": "test", **SIZES},
            batch_size=2,
            compute=data.ActorPoolStrategy(size=1),
        ).write_parquet(str(tmp_path / "rows"), mode="append")
        return images_of(calls)

    with pytest.raises(Exception, match="fails at the fourth batch"):
        run(folder)
    failed = images_of(calls)[-2:]
    again = run(None)
    assert set(failed) <= set(again)
    assert len(again) < len(ids)
    assert_same(collect(tmp_path / "rows", tmp_path / "t", shard_size=4), expected)
