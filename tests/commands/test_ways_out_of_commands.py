"""Each way out that the functions behind the commands name, done."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import torchvice.commands.evaluate as evaluating
from tables import Scene, scenes, table_of
from torchvice.assessment import MapSettings
from torchvice.assessment.images import contents_of
from torchvice.cli.demo import demo
from torchvice.commands.cases import case_of
from torchvice.commands.compare import compare_paths
from torchvice.commands.demo import OwnData, _check_folder, _own, _trained
from torchvice.commands.draw import draw_all
from torchvice.commands.evaluate import Evaluation, evaluate
from torchvice.commands.explain import _of_unlabelled, _with_labels
from torchvice.commands.measure import measure_path, read_limits
from torchvice.commands.report import check_paths, write_report
from torchvice.commands.tables import dataset_of, load_samples
from torchvice.config import dump_settings, load_settings
from torchvice.data import open_dataset, open_images
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.explain import Choices
from torchvice.interop import write_legacy_maps
from torchvice.measures import measure
from torchvice.samples import Samples
from torchvice.study.table import write_table
from ways_out import tried


@dataclass
class Record:
    image_id: str


class Made:
    """The dataset of scenes: grey images."""

    classes = ("cat", "dog", "bus")

    def __init__(self, made: list[Scene]) -> None:
        self.scenes, self.records = made, [Record(scene.image_id) for scene in made]
        self.targets = np.array([scene.targets for scene in made], np.uint8)

    def image(self, index: int) -> np.ndarray:
        return np.full((3, 4, 3), index, np.uint8)

    def mask(self, index: int) -> np.ndarray | None:
        mask = self.scenes[index].mask
        return None if mask is None else np.array(mask, np.uint8)


SCENES = scenes(12, seed=3)
SAMPLES, MADE = table_of(SCENES), Made(SCENES)


def shown(image_id: str, label: str) -> Any:
    return case_of(SAMPLES, MADE, image_id, label)


def test_an_image_and_a_class_are_suggested() -> None:
    first = SCENES[0]
    label = Made.classes[first.true()[0]]
    found = tried(
        lambda: shown(f"{first.image_id}.jpg", label),
        f"Did you mean `{first.image_id}`?",
        lambda: shown(first.image_id, label),
    )
    assert found.image_id == first.image_id
    found = tried(
        lambda: shown(first.image_id, label.upper()), f"Did you mean `{label}`?", lambda: shown(first.image_id, label)
    )
    assert found.class_name == label


def test_a_class_with_a_map_is_chosen() -> None:
    scene = next(one for one in SCENES if one.mask and len(one.true()) < len(Made.classes))
    own = [Made.classes[c] for c in scene.true()]
    other = next(name for name in Made.classes if name not in own)
    for name in own:
        found = tried(
            lambda: shown(scene.image_id, other),
            f"It has maps of: {', '.join(own)}.",
            lambda name=name: shown(scene.image_id, name),
        )
        assert found.class_name == name


def test_an_image_with_a_mask_is_explained() -> None:
    bare, masked = (next(one for one in SCENES if (one.mask is None) is without) for without in (True, False))
    found = tried(
        lambda: shown(bare.image_id, Made.classes[bare.true()[0]]),
        "images without a mask are not explained",
        lambda: shown(masked.image_id, Made.classes[masked.true()[0]]),
    )
    assert found.mask is not None


def test_the_labels_of_maps_are_named_once() -> None:
    labelled: Any = Made(SCENES)
    given = MapSettings(choices=replace(Choices(), labels="predicted"))
    for settings, labels in ((given, None), (MapSettings(), "both")):
        found = tried(
            lambda: _with_labels(given, "both", labelled),
            "Remove one.",
            lambda settings=settings, labels=labels: _with_labels(settings, labels, labelled),
        )
        assert found.choices.labels == ("predicted" if labels is None else "both")
    for wrong, right, labels in (("dgo", "dog", (1,)), ("Predicted", "predicted", "predicted")):
        found = tried(
            lambda wrong=wrong: _with_labels(MapSettings(), wrong, labelled),
            f"Did you mean `{right}`?",
            lambda right=right: _with_labels(MapSettings(), right, labelled),
        )
        assert found.choices.labels == labels


def test_maps_of_images_without_labels_are_of_predicted_or_named_classes(tmp_path: Path) -> None:
    def maps(labels: str | None) -> Any:
        settings = _with_labels(MapSettings(), labels, Made(SCENES))
        return _of_unlabelled(settings, labels, None, lambda sentence: None).choices.labels

    for says, labels, found in (
        ("Give --labels predicted", "predicted", "predicted"),
        ("or the names of classes,", "cat,bus", (0, 2)),
    ):
        assert tried(lambda: maps("true"), says, lambda labels=labels: maps(labels)) == found
    for folder, value in (("photos", 9), ("masks", 255)):
        (tmp_path / folder).mkdir()
        pixels = np.zeros((8, 8, 3) if folder == "photos" else (8, 8), np.uint8)
        pixels[2:5] = value
        Image.fromarray(pixels).save(tmp_path / folder / "a.png")

    def labelled() -> Any:
        dataset = open_images(tmp_path / "photos", masks=tmp_path / "masks", classes=["cat"])
        return _with_labels(MapSettings(), "true", dataset).choices.labels

    assert tried(lambda: maps("true"), "or the labels: --masks DIR,", labelled) == "true"


# ---- the demo


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "digits"
    write_digits(root, train=4, val=2, test=2, size=48)
    return root


def test_another_folder_is_chosen_for_the_demo(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    tried(lambda: _check_folder(tmp_path / "demo"), "Choose another --out.", lambda: _check_folder(tmp_path / "other"))


def test_the_demo_names_a_split_of_the_data(digits: Path) -> None:
    own = OwnData(digits, "test_resnet")
    (setting,) = re.findall(r"-o ([\w.]+)=SPLIT", "Name another one: -o data.train_split=SPLIT.")
    found = tried(lambda: _own(own, [f"{setting}=learn"]), f"-o {setting}=SPLIT", lambda: _own(own, [f"{setting}=val"]))
    assert found.data.train_split == "val"


def test_data_without_lists_get_a_list_of_each_split(digits: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(digits, root)
    lists = {name: (root / f"{name}.txt").read_text() for name in ("train", "val", "test")}
    for file in root.rglob("*.txt"):
        file.unlink()

    def with_lists() -> Any:
        for name, text in lists.items():
            (root / f"{name}.txt").write_text(text)
        return _own(OwnData(root, "test_resnet"), [])

    says = "See docs/your-data.md: a list of each split."
    found = tried(lambda: _own(OwnData(root, "test_resnet"), []), says, with_lists)
    assert (found.data.train_split, found.data.eval_split) == ("train", "test")
    assert (Path(__file__).parents[2] / "docs" / "your-data.md").is_file()


def trained(data: Path, out: Path, *more: str) -> Any:
    small = ["trainer.epochs=1", "transform.crop=32", "model.name=test_resnet", "model.arguments={}"]
    small += [f"data.root={data}", "data.workers=0", "trainer.batch_size=2", "trainer.accelerator=cpu"]
    settings = load_settings("demo", [f"session_name={out.name}", f"work_dir={out.parent}", *small, *more])
    return _trained(settings, out, lambda sentence: None)


def test_another_demo_has_another_folder(digits: Path, tmp_path: Path) -> None:
    trained(digits, tmp_path / "demo")
    (out,) = re.findall(r"--out (\S+)", f"vice demo --out {tmp_path / 'demo'}-2")
    run = tried(
        lambda: trained(digits, tmp_path / "demo", "seed=3"),
        f"For another run choose another folder: vice demo --out {out}",
        lambda: trained(digits, Path(out), "seed=3"),
    )
    assert run.folder == Path(out)


def test_a_demo_that_is_resumed_keeps_the_way_out_of_its_training(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "set")
    out = tmp_path / "demo"
    trained(tmp_path / "set", out)
    (tmp_path / "set").rename(tmp_path / "sets")

    def restored() -> Any:
        (tmp_path / "sets").rename(tmp_path / "set")
        return trained(tmp_path / "set", out)

    assert tried(lambda: trained(tmp_path / "set", out), "Give the folder that holds VOC2012/JPEGImages", restored)


# ---- evaluate


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two images of two classes: masks, their perfect maps in npy, and label maps in png."""
    for name in ("a", "b"):
        mask = np.array([[1, 0, 2], [0, 2, 255]], np.uint8)
        for folder in ("masks", "png"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / folder / f"{name}.png")
        write_legacy_maps(tmp_path / "npy" / f"{name}.npy", [0, 1], np.stack([mask == 1, mask == 2]).astype(float))
    return tmp_path


def scored(root: Path, names: str = "ab", **how: Any) -> Evaluation:
    kind, masks = how.pop("kind", "npy"), how.pop("masks", "masks")
    predictions = root / how.pop("predictions", kind)
    given = {"num_classes": 2, "workers": 1, "protocol": "strict", **how}
    return evaluate(list(names), predictions, root / masks, kind=kind, **given)


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        ({"kind": "pgn"}, "Did you mean `png`?", {"kind": "png"}),
        ({"thresholds": [30]}, "Give for example 0.3;", {"thresholds": [0.3]}),
        ({"ji_threshold": 0.304}, "The nearest one is 0.3.", {"ji_threshold": 0.3}),
        ({"num_classes": 1, "kind": "png"}, "Give the number of classes of the files,", {"num_classes": 2}),
        ({"names": "abc"}, "or remove these images from the list.", {"names": "ab"}),
        ({"predictions": "png"}, "Give the kind of the files (npy, npz, png),", {"kind": "png"}),
        ({"masks": "npy"}, "or give the folder that holds their masks.", {"masks": "masks"}),
    ],
)
def test_maps_are_scored_as_it_is_said(files: Path, wrong: dict[str, Any], says: str, right: dict[str, Any]) -> None:
    found = tried(lambda: scored(files, **wrong), says, lambda: scored(files, **{**wrong, **right}))
    assert found.best_mean_iou == pytest.approx(1, abs=1e-9)


def test_the_nearest_threshold_is_said_with_all_its_digits(files: Path) -> None:
    def scores(threshold: float) -> Evaluation:
        return scored(files, thresholds=[0.1, 1 / 3], ji_threshold=threshold)

    with pytest.raises(ViceError) as caught:
        scores(0.3)
    (nearest,) = re.findall(r"The nearest one is ([\d.]+\d)", caught.value.way_out)
    found = tried(lambda: scores(0.3), f"The nearest one is {nearest}", lambda: scores(float(nearest)))
    assert found.image_ji is not None


def test_images_without_a_mask_are_removed_from_the_list(files: Path) -> None:
    (files / "masks" / "b.png").unlink()
    found = tried(lambda: scored(files), "Remove these images from the list,", lambda: scored(files, names="a"))
    assert found.images == 1


def test_maps_of_another_range_are_scaled(files: Path) -> None:
    mask = np.array([[1, 0, 2], [0, 2, 0]])
    planes = np.stack([mask == 1, mask == 2]) * 255.0
    write_legacy_maps(files / "npy" / "a.npy", [0, 1], planes)

    def scaled() -> Evaluation:
        write_legacy_maps(files / "npy" / "a.npy", [0, 1], planes / 255)
        return scored(files, names="a", thresholds=[128 / 255])

    says = "if the maps have another range, scale them to [0, 1]."
    found = tried(lambda: scored(files, names="a", thresholds=[128]), says, scaled)
    assert found.outside_images == 0


def rewritten(files: Path, write: Callable[[Path], None], **how: Any) -> Evaluation:
    write(files)
    return scored(files, names="a", **how)


def test_label_maps_hold_classes(files: Path) -> None:
    def write(factor: int) -> Callable[[Path], None]:
        labels = np.array([[1, 0, 2], [0, 2, 0]]) if factor == 1 else np.array([[255, 0, 255], [0, 255, 0]])
        return lambda root: Image.fromarray(labels.astype(np.uint8)).save(root / "png" / "a.png")

    found = tried(
        lambda: rewritten(files, write(255), kind="png"),
        "Write class c, counted from 0, as label c + 1.",
        lambda: rewritten(files, write(1), kind="png"),
    )
    assert found.best_mean_iou == pytest.approx(1, abs=1e-9)


def test_classes_of_maps_are_counted_from_zero_and_maps_are_as_large_as_the_image(files: Path) -> None:
    planes = np.stack([np.eye(2, 3)] * 2)

    def write(classes: list[int], side: int = 3) -> Callable[[Path], None]:
        return lambda root: write_legacy_maps(root / "npy" / "a.npy", classes, planes[:, :, :side]) and None

    for wrong, says in (
        (write([1, 2]), "Number the classes from 0, without background: class c is label c + 1 of the masks."),
        (write([0, 1], 2), "Save every prediction in the size of its image, as (H, W)."),
    ):
        found = tried(lambda wrong=wrong: rewritten(files, wrong), says, lambda: rewritten(files, write([0, 1])))
        assert found.images == 1


def test_one_worker_runs_in_this_process(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def died(*_: Any, **__: Any) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(evaluating, "CHUNK", 1)
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", died)
    found = tried(lambda: scored(files, workers=2), "Use --processes 1 (workers=1),", lambda: scored(files, workers=1))
    assert found.images == 2


def test_masks_of_another_folder_are_named_or_their_classes_counted(files: Path) -> None:
    for folder in ("labels/train", "labels/val"):
        shutil.copytree(files / "masks", files / folder)
    text = "names: {cat: 1, dog: 2}\nvoid: 255\nmasks: labels/train\n"

    def with_description(text: str, num_classes: int | None = None) -> Evaluation:
        (files / "dataset.yaml").write_text(text)
        return scored(files, masks="labels/val", num_classes=num_classes)

    for says, right in (
        ("Name that folder there,", lambda: with_description(text.replace("train", "val"))),
        ("or give the number of classes (--classes)", lambda: with_description(text, 2)),
    ):
        found = tried(lambda: with_description(text), says, right)
        assert found.best_mean_iou == pytest.approx(1, abs=1e-9)


# ---- tables, measure, compare and report


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a dataset of twelve scenes, and a RUN that was assessed on it."""
    monkeypatch.chdir(tmp_path)
    made = scenes(12)
    voc = tmp_path / "data" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    for scene in made:
        Image.fromarray(np.full((60, 80, 3), 77, np.uint8)).save(voc / "JPEGImages" / f"{scene.image_id}.png")
        if scene.mask is not None:
            mask = np.kron(np.array(scene.mask), np.ones((20, 20))).astype(np.uint8)
            Image.fromarray(mask).save(voc / "SegmentationClass" / f"{scene.image_id}.png")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(scene.image_id for scene in made))
    np.save(tmp_path / "data" / "cls_labels.npy", {s.image_id: np.array(s.targets) for s in made}, allow_pickle=True)
    table = table_of(made, dataset={"root": "data", "split": "val"})
    contents = contents_of(open_dataset("data", "val", classes=table.classes))
    held = Samples({**table.manifest, "contents": contents}, table.images, table.regions, table.maps)
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(dump_settings(load_settings("demo")))
        held.save(tmp_path / name / "assess" / "val")
    return tmp_path


def test_a_path_is_suggested_and_a_table_has_a_manifest(home: Path) -> None:
    found = tried(lambda: load_samples("rum"), "Did you mean `run`?", lambda: load_samples("run"))
    assert len(found.images) == 24
    says = "A RUN has a config.yaml, a table a manifest.json."
    for right in ("run", "run/assess/val"):
        assert tried(lambda: load_samples("run/assess"), says, lambda right=right: load_samples(right)).classes


def test_the_folder_of_the_first_run_is_that_of_the_demo(home: Path) -> None:
    (name,) = re.findall(r"a first RUN, (\S+)\.", "vice demo makes a first RUN, runs/demo.")
    assert inspect.signature(demo).parameters["out"].default.default == Path(name)

    def made() -> Samples:
        shutil.copytree("run", name)
        return load_samples(name)

    found = tried(lambda: load_samples("first"), f"vice demo makes a first RUN, {name}.", made)
    assert len(found.images) == 24


def test_a_split_that_was_assessed_is_selected(home: Path) -> None:
    shutil.copytree("run/assess/val", "run/assess/mini")
    says = "Assessed: mini, val."
    for name in ("mini", "val"):
        assert tried(lambda: load_samples("run", "test"), says, lambda name=name: load_samples("run", name)).classes
    found = tried(lambda: load_samples("run"), "Select one: --split NAME.", lambda: load_samples("run", "val"))
    assert found.classes


def test_what_has_no_effect_is_left_out(home: Path) -> None:
    table = "run/assess/val"
    found = tried(lambda: load_samples(table, "test"), "Leave it out.", lambda: load_samples(table))
    assert found.classes
    tried(
        lambda: measure_path(table, num_classes=9, replicates=0),
        "Leave it out.",
        lambda: measure_path(table, replicates=0),
    )
    (home / "table.csv").write_text("name_image,loss,miou\na,0.1,0.8\nb,0.4,0.5\nc,0.9,0.1\n")
    for option in ({"split": "val"}, {"quality": "recall"}, {"seed": 1}, {"replicates": 100}):
        found = tried(
            lambda option=option: measure_path("table.csv", **option),
            "Leave it out.",
            lambda: measure_path("table.csv"),
        )
    assert found.measures.paper["vice"] == pytest.approx(0.998, abs=1e-3)


def test_changed_masks_are_restored_or_assessed_again(home: Path) -> None:
    file = sorted((home / "data" / "VOC2012" / "SegmentationClass").iterdir())[0]
    before = file.read_bytes()
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(file)

    def page() -> str:
        return write_report(["run"], replicates=0).read_text(encoding="utf-8")

    def assessed() -> str:
        table = load_samples("run")
        contents = contents_of(dataset_of(table))
        again = Samples({**table.manifest, "contents": contents}, table.images, table.regions, table.maps)
        again.save(home / "again")
        return write_report(["again"], replicates=0).read_text(encoding="utf-8")

    def restored() -> str:
        file.write_bytes(before)
        return page()

    assert 'id="data"' in tried(page, "or assess the model again.", assessed)
    assert 'id="data"' in tried(page, "Restore them,", restored)


def test_a_file_to_measure_is_a_csv_or_a_folder_is_given(home: Path) -> None:
    for right in ("run", "run/assess/val"):
        found = tried(
            lambda: measure_path("run/config.yaml"),
            "Give a RUN or a table's folder.",
            lambda right=right: measure_path(right, replicates=0),
        )
        assert found.samples is not None


def test_a_limit_is_a_measure_and_a_value() -> None:
    found = measure(SAMPLES, replicates=0)
    for wrong in ("vice", "vice=high", "=0.3", "vice=nan"):
        lower = tried(
            lambda wrong=wrong: read_limits([wrong]), "--fail-under vice=0.3.", lambda: read_limits(["vice=0.3"])
        )
    assert len(lower(found)) == (not found.strict["vice"] >= 0.3)


def test_compared_models_are_different(home: Path) -> None:
    shutil.copytree("run", "third")
    found = tried(
        lambda: compare_paths(["run", "run", "other"], replicates=100),
        "Remove one.",
        lambda: compare_paths(["run", "other"], replicates=100),
    )
    assert len(found.models) == 2


def test_a_folder_compared_with_itself_has_another_in_its_place(home: Path) -> None:
    found = tried(
        lambda: compare_paths(["run", "run"], replicates=100),
        "Name another RUN or table in place of one.",
        lambda: compare_paths(["run", "other"], replicates=100),
    )
    assert len(found.models) == 2


def test_a_study_and_several_runs_have_reports_of_their_own(home: Path) -> None:
    study = home / "study"
    study.mkdir()
    write_table([{"run": "a", "seed": 1, "status": "finished"}], study / "table")
    for paths, compare in (([study], True), ([study, "run"], True)):
        tried(
            lambda paths=paths, compare=compare: check_paths(paths, compare),
            f"Run: vice report {study}",
            lambda: check_paths([study], False),
        )
    tried(lambda: check_paths(["run", "other"], False), "Add --compare.", lambda: check_paths(["run", "other"], True))
    tried(lambda: check_paths(["run"], True), "Give two or more RUNs.", lambda: check_paths(["run", "other"], True))


def test_a_page_without_its_images_is_written_elsewhere_or_without_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "elsewhere").mkdir()

    def page(folder: Path, run: str = "run", **how: Any) -> Path:
        monkeypatch.chdir(folder)
        return write_report([home / run], replicates=0, **how)

    for says, folder, how in (
        ("Change to the folder in which the assessment was started,", home, {}),
        ("or write the page without images: --no-images.", home / "elsewhere", {"pictures": False}),
    ):
        found = tried(lambda: page(home / "elsewhere"), says, lambda folder=folder, how=how: page(folder, **how))
        assert found.is_file()
    table_of(scenes(12), dataset={"root": "", "split": None}).save(home / "objects")
    found = tried(
        lambda: page(home, "objects"),
        "Write the page without images: --no-images.",
        lambda: page(home, "objects", pictures=False),
    )
    assert found.is_file()


def test_a_demo_is_not_written_among_other_things(digits: Path, tmp_path: Path) -> None:
    tried(lambda: _check_folder(digits), "Give a new or empty folder.", lambda: _check_folder(tmp_path))
    (tmp_path / "config.yaml").touch()
    _check_folder(tmp_path)  # a run that is resumed


def test_letters_that_the_font_lacks_are_said_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    said: list[str] = []
    measured: Any = SimpleNamespace(measures=measure(table_of(scenes(12)), replicates=0), samples=None)
    draw_all(measured, tmp_path / "figures", "模型", said.append)
    assert [sentence for sentence in said if "font" in sentence] == [
        "The font of the figures lacks some letters, which are drawn as boxes: 型模"
    ]
    assert not [one for one in recwarn if "Glyph" in str(one.message)]


def test_a_csv_is_no_model_to_compare(home: Path) -> None:
    (home / "orig.csv").write_text("name_image,loss,miou\n")
    found = tried(
        lambda: compare_paths(["run", "orig.csv"], replicates=100),
        "vice measure FILE.csv",
        lambda: compare_paths(["run", "other"], replicates=100),
    )
    assert len(found.models) == 2
    with pytest.raises(ViceError, match=r"orig\.csv is a file"):
        compare_paths(["run", "orig.csv"], replicates=100)


def test_one_folder_twice_is_no_report(home: Path) -> None:
    with pytest.raises(ViceError, match="one folder is named twice") as caught:
        write_report(["run", "run"])
    assert "Name another RUN or table" in caught.value.way_out


def test_one_table_under_two_names_is_no_second_model(home: Path) -> None:
    """As two seeds of a group it would make the difference look surer than it is."""
    table = next(path.parent for path in Path("run").rglob("manifest.json"))
    for again in (Path("run").resolve(), table):
        with pytest.raises(ViceError, match="one folder is named twice"):
            compare_paths(["run", again, "other"], replicates=100)


def test_few_replicates_give_no_interval(home: Path) -> None:
    found = tried(
        lambda: measure_path("run", replicates=3),
        "0 for no intervals, or 2000",
        lambda: measure_path("run", replicates=0),
    )
    assert "strict.vice" not in found.measures.intervals


def test_a_table_is_calibrated_on_another_table(home: Path) -> None:
    folder = home / "run"
    table = next(path.parent for path in folder.rglob("manifest.json"))
    with pytest.raises(ViceError, match="--calibrate-on must be the folder of a table") as caught:
        measure_path(table, replicates=0, calibrate_on="val")
    assert "a RUN in place of the table" in caught.value.way_out


def test_the_page_is_html(home: Path) -> None:
    for wrong in ("x.pdf", "x.docx"):
        page = tried(
            lambda wrong=wrong: write_report(["run"], wrong, replicates=0),
            "Give --out x.html",
            lambda: write_report(["run"], "x.html", pictures=False, replicates=0),
        )
        assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert write_report(["run"], "page", pictures=False, replicates=0).is_file()  # no ending says nothing else
    assert not (home / "x.pdf").exists()


def test_a_folder_is_no_page(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "there").mkdir()
    (home / "file").touch()
    for right, folder in ((Path("there/report.html"), False), (Path("there"), True)):
        with monkeypatch.context() as patch:
            patch.setattr("torchvice.commands.report.measure_path", None)  # nothing is measured before
            with pytest.raises(ViceError, match=r"--out must be a file, but there is a folder") as caught:
                write_report(["run"], "there")
        assert caught.value.way_out == "Give --out there/report.html, or add --folder."
        assert write_report(["run"], right, folder=folder, pictures=False, replicates=0).is_file()
    page = tried(
        lambda: write_report(["run"], "file", folder=True),
        "or leave out --folder.",
        lambda: write_report(["run"], "file", pictures=False, replicates=0),
    )
    assert page == Path("file")


def test_a_page_of_several_is_of_one_protocol(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scenes(12)
    for name in ("old", "older"):
        table_of(made, ("paper",), dataset={"root": "data", "split": "val"}).save(home / name)
    (home / "orig.csv").write_text("name_image,loss,miou\n")
    with monkeypatch.context() as patch:
        patch.setattr("torchvice.commands.report.measure_path", None)  # nothing is measured before
        with pytest.raises(ViceError, match="but old was assessed under `paper` only") as caught:
            write_report(["run", "old"])
        with pytest.raises(ViceError, match=r"orig\.csv is a file"):
            write_report(["run", "orig.csv"])
    assert "vice assess ... --protocol strict, into another folder" in caught.value.way_out
    for paths in (["run", "other"], ["old", "older"]):
        assert write_report(paths, "two.html", pictures=False, replicates=100).is_file()
