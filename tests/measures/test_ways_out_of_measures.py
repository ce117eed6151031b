"""Each way out that `torchvice.measure` and `torchvice.compare` name, done."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torchvice
from command import status_of
from simulated import simulated
from small_networks import moving_resnet
from tables import scenes, table_of
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.explain import FaithfulnessChoices
from torchvice.files import write_npy_dict
from torchvice.interop import LegacyTable
from torchvice.measures import compare, explanations_table, measure, quality_of, true_pairs
from torchvice.measures.association import joint_statistic
from torchvice.measures.catalogue import measure_of
from torchvice.measures.compare import compare_groups
from torchvice.measures.legacy import measure_table
from torchvice.measures.stream import stream_measures
from torchvice.models.build import build_model
from torchvice.samples import Samples, ShardFolder
from ways_out import tried

SIMULATED = simulated(60)
PAIRS = true_pairs(SIMULATED)
SMALL: dict[str, Any] = {"view_size": 48, "controls": False, "without": None, "progress": False, "batch_size": 8}
ROAD = FaithfulnessChoices(("road",), shares=(0.5,), orders=2)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ways") / "digits"
    write_digits(root, train=2, val=4, test=4, size=48)
    return root


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return moving_resnet()


@pytest.fixture(scope="module")
def strict(digits: Path, network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    out = tmp_path_factory.mktemp("strict")
    return torchvice.assess(network, VocDataset(digits, "test"), out=out, protocols=("strict",), **SMALL)


@pytest.mark.parametrize("measured", [joint_statistic, lambda pairs: quality_of(pairs, "energy")])
def test_pairs_with_rows_come_from_true_pairs(measured: Callable[[Any], Any]) -> None:
    bare = replace(PAIRS, regions=None)
    tried(lambda: measured(bare), "Take them from true_pairs.", lambda: measured(true_pairs(SIMULATED)))


@pytest.mark.parametrize(
    ("given", "suggested"), [("strict.vise", "strict.vice"), ("vice", "paper.vice"), ("strict.iou", "strict.ji")]
)
def test_a_measure_has_the_path_that_is_suggested(given: str, suggested: str) -> None:
    section, _, name = suggested.rpartition(".")
    found = tried(lambda: measure_of(given), f"Did you mean `{suggested}`?", lambda: measure_of(suggested))
    assert (found.section, found.name) == (section, name)


def test_a_measure_of_this_table_is_suggested_for_one_that_it_lacks() -> None:
    found = measure(SIMULATED, replicates=0)
    path = "without.object_lost"
    value = tried(lambda: found.value(path), "Known: ", lambda: found.value("strict.vice"))
    assert value == found.strict["vice"]


def test_a_known_quality_is_suggested() -> None:
    values = tried(
        lambda: quality_of(PAIRS, "Pointing game"), "Did you mean `pointing`?", lambda: quality_of(PAIRS, "pointing")
    )
    assert len(values) == len(PAIRS)


def test_a_group_to_compare_with_is_suggested() -> None:
    models = {name: simulated(60, dependence=d) for name, d in (("a1", 1.0), ("a2", 0.9), ("b1", 0.5), ("b2", 0.4))}
    groups = {"wide": ["a1", "a2"], "narrow": ["b1", "b2"]}
    rows = tried(
        lambda: compare_groups(models, groups, against="wild", replicates=100),
        "Did you mean `wide`?",
        lambda: compare_groups(models, groups, against="wide", replicates=100),
    )
    assert {row["second"] for row in rows} == {"wide"}


def test_two_models_are_compared() -> None:
    one, other = SIMULATED, simulated(60, dependence=0.0)
    found = tried(
        lambda: compare({"a": one}, replicates=100),
        "Name a second RUN or table.",
        lambda: compare({"a": one, "b": other}, replicates=100),
    )
    assert found.images == 60


def test_a_group_names_models() -> None:
    models = {"a": SIMULATED, "b": simulated(60, dependence=0.0)}
    found = tried(
        lambda: compare(models, groups={"one": ["a"], "two": ["c"]}, replicates=100),
        "Models: a, b.",
        lambda: compare(models, groups={"one": ["a"], "two": ["b"]}, replicates=100),
    )
    assert len(found.models) == 2


def command(digits: Path, folder: Path, outputs: int, *options: Any) -> Samples:
    """The table that `vice assess` writes of a network with so many outputs."""
    torch.manual_seed(0)
    weights = folder / f"{outputs}.pth"
    model = build_model("test_resnet", outputs)
    torch.save(model.state_dict(), weights)
    out = folder / f"table{len(list(folder.iterdir()))}"
    words = ("assess", "--model", "test_resnet", "--weights", weights, "--data", digits, "--split", "test")
    words += ("--protocol", "strict", "--view-size", 48, "--controls", "none", "--without", "none", "--out", out)
    assert status_of(*words, *options) == 0
    return Samples.load(out)


def test_both_models_are_assessed_for_the_same_classes(digits: Path, tmp_path: Path) -> None:
    names = VocDataset(digits, "test").classes
    (tmp_path / "eight.json").write_text(json.dumps({name: c for c, name in enumerate(names[:8])}))
    mapped = ("--class-map", tmp_path / "eight.json")
    small, large = command(digits, tmp_path, 8, *mapped), command(digits, tmp_path, 10)
    found = tried(
        lambda: compare({"small": small, "large": large}, replicates=100),
        "a class map that leaves out the others is --class-map FILE, for each",
        lambda: compare({"small": small, "large": command(digits, tmp_path, 10, *mapped)}, replicates=100),
    )
    assert found.images > 0


def test_both_models_are_assessed_with_the_same_kind_of_targets(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_digits(root, train=2, val=2, test=6, size=48)
    labels = np.load(root / "cls_labels.npy", allow_pickle=True).item()
    write_npy_dict(root / "cls_labels.npy", {name: np.eye(10)[row.argmax()] for name, row in labels.items()})

    def assessed(kind: str) -> Samples:
        return command(root, tmp_path, 10, "--targets", kind)

    several, one = assessed("multilabel"), assessed("exclusive")
    for says, right in (
        ("Assess both with vice assess ... --targets multilabel", lambda: {"a": several, "b": assessed("multilabel")}),
        ("both with --targets exclusive", lambda: {"a": assessed("exclusive"), "b": one}),
    ):
        found = tried(
            lambda: compare({"a": several, "b": one}, replicates=100),
            says,
            lambda right=right: compare(right(), replicates=100),
        )
        assert found.images == 6


def test_both_models_are_assessed_on_the_same_dataset(
    digits: Path, network: nn.Module, strict: Samples, tmp_path: Path
) -> None:
    write_digits(tmp_path / "set", train=2, val=4, test=4, size=48, seed=1)

    def assessed(root: Path, name: str) -> Samples:
        dataset = VocDataset(root, "test")
        return torchvice.assess(network, dataset, out=tmp_path / name, protocols=("strict",), **SMALL)

    other = assessed(tmp_path / "set", "other")
    found = tried(
        lambda: compare({"a": strict, "b": other}, replicates=100),
        "Assess both on the same dataset.",
        lambda: compare({"a": strict, "b": assessed(digits, "same")}, replicates=100),
    )
    assert found.images == 4


MODEL = {"type": "Toy", "weights_sha256": "a" * 64, "class_map": None}


def of_model(images: int, seed: int, name: str, weights: str = "a") -> Samples:
    table = simulated(images, seed=seed, model={**MODEL, "weights_sha256": weights * 64})
    ids = np.array([f"{name}{i}" for i in range(images)], dtype=object)
    regions = table.regions.where(np.zeros(0, int))
    return Samples(table.manifest, replace(table.images, image_id=ids), regions, table.maps)


def test_a_scaling_is_fitted_on_another_split_of_the_same_model() -> None:
    table = simulated(60, model=MODEL)
    for wrong, says in (
        (of_model(50, 1, "val", "b"), "Assess the same model on another split with the same settings, and name that."),
        (of_model(60, 1, "image0000"), "Assess the model on another split, and name that."),
    ):
        found = tried(
            lambda wrong=wrong: measure(table, replicates=0, calibrate_on=wrong),
            says,
            lambda: measure(table, replicates=0, calibrate_on=of_model(50, 1, "val")),
        )
        assert found.scaling["fitted_on"]["images"] == 50


NAMES = np.array(["a", "b", "c"])
LABELS = [np.array([0]), np.array([1, 24]), np.array([2])]


def test_a_csv_has_one_of_two_groups_of_columns() -> None:
    loss, miou = np.array([0.1, 0.4, 0.9]), np.array([0.8, 0.5, 0.1])
    bare = LegacyTable(NAMES, loss=loss)
    says = "Add the columns of one of the two groups"
    found = tried(lambda: measure_table(bare), says, lambda: measure_table(replace(bare, miou=miou)))
    assert found.paper["vice"] == pytest.approx(0.998, abs=1e-3)
    few = [np.array([0]), np.array([1]), np.array([2])]
    found = tried(lambda: measure_table(bare), says, lambda: measure_table(replace(bare, label=few, prediction=few)))
    assert found.paper["ml_accuracy"] == 1


def test_classes_of_a_csv_are_counted_from_zero_and_their_number_is_given() -> None:
    table = LegacyTable(NAMES, label=LABELS, prediction=LABELS)
    says = "Say how many classes there are: --classes N."
    found = tried(lambda: measure_table(table), says, lambda: measure_table(table, 25))
    assert found.classification["cp"] == pytest.approx(4 / 25)
    below = LegacyTable(NAMES, label=[label - 1 for label in LABELS], prediction=[label - 1 for label in LABELS])
    found = tried(
        lambda: measure_table(below, 25),
        "Number the classes from 0.",
        lambda: measure_table(replace(below, label=LABELS, prediction=LABELS), 25),
    )
    assert found.paper["ml_accuracy"] == 1


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"


def test_a_quality_of_boxes_is_had_of_data_with_boxes(strict: Samples, network: nn.Module, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_digits(root, train=2, val=2, test=4, size=48)
    data = VocDataset(root, "test")
    annotations = root / "VOC2012" / "Annotations"
    annotations.mkdir(exist_ok=True)
    for record, row in zip(data.records, data.targets, strict=True):
        objects = "".join(f"<object><name>{data.classes[c]}</name>{BOX}</object>" for c in np.flatnonzero(row))
        (annotations / f"{record.image_id}.xml").write_text(f"<annotation>{objects}</annotation>")

    def assessed() -> Samples:
        boxed = VocDataset(root, "test", regions="boxes")
        return torchvice.assess(network, boxed, out=tmp_path / "table", protocols=("strict",), **SMALL)

    found = tried(
        lambda: quality_of(true_pairs(strict), "box_iou"),
        "Assess data with boxes.",
        lambda: quality_of(true_pairs(assessed()), "box_iou"),
    )
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", ["insertion", "deletion", "road"])
def test_a_measure_of_faithfulness_is_had_if_it_is_assessed(
    name: str, strict: Samples, digits: Path, network: nn.Module, tmp_path: Path
) -> None:
    def assessed(measure: str) -> Samples:
        how = FaithfulnessChoices.parse([measure, "steps=2", "orders=1", "shares=0.5"])
        dataset = VocDataset(digits, "test")
        options: dict[str, Any] = {**SMALL, "protocols": ("strict",), "faithfulness": how}
        return torchvice.assess(network, dataset, out=tmp_path, **options)

    found = tried(
        lambda: quality_of(true_pairs(strict), name),
        f"vice assess ... --faithfulness {name}.",
        lambda: quality_of(true_pairs(assessed(name)), name),
    )
    assert np.isfinite(found).any()


def test_road_of_an_earlier_version_is_completed_by_the_same_command(
    digits: Path, network: nn.Module, tmp_path: Path
) -> None:
    def assessed() -> Samples:
        dataset = VocDataset(digits, "test")
        return torchvice.assess(network, dataset, out=tmp_path, protocols=("strict",), faithfulness=ROAD, **SMALL)

    found = assessed()
    shards = ShardFolder(tmp_path)
    manifest = shards.manifest()
    for number in shards.shards():
        regions = shards.regions(number, None)
        shards.amend(number, replace(regions, p_blank=np.full_like(regions.p_blank, np.nan)))
    without = replace(found.regions, p_blank=np.full_like(found.regions.p_blank, np.nan))
    earlier = Samples(manifest, found.images, without, found.maps)
    values = tried(
        lambda: quality_of(true_pairs(earlier), "road"),
        "Repeat the command that measured ROAD",
        lambda: quality_of(true_pairs(assessed()), "road"),
    )
    assert np.isfinite(values).any()


class OfContrast(nn.Module):
    """A network that is moved by neither a blank image nor a strong contrast, but by what lies between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        contrast = images.flatten(1).std(dim=1, keepdim=True)
        between = torch.relu(contrast * (2.5 - contrast))
        return 1e-4 * self.fc(self.conv(images).relu().mean((2, 3))) + 40 * between


class OfBrightness(OfContrast):
    """A network that is moved by the mean colour alone, which a blurred image keeps."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.fc(self.conv(images).relu().mean((2, 3)))
        return 1e-4 * features + 2 * images.mean((1, 2, 3))[:, None]


def quality_by(network: nn.Module, digits: Path, out: Path, *texts: str) -> np.ndarray:
    how = FaithfulnessChoices.parse([*texts, "steps=2", "orders=1", "shares=0.5"])
    pixels = {"mean": (0.0, 0.0, 0.0), "std": (0.05, 0.05, 0.05)}
    options: dict[str, Any] = {
        **SMALL,
        **pixels,
        "protocols": ("strict",),
        "faithfulness": how,
        "method": "gradcam",
        "layer": "conv",
    }
    table = torchvice.assess(network.eval(), VocDataset(digits, "test"), out=out, **options)
    return quality_of(true_pairs(table), texts[0])


def test_insertion_that_a_blurred_image_does_not_move_has_another_canvas(digits: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = OfBrightness()
    found = tried(
        lambda: quality_by(network, digits, tmp_path / "blur", "insertion"),
        "--faithfulness insertion,canvas=mean",
        lambda: quality_by(network, digits, tmp_path / "mean", "insertion", "canvas=mean"),
    )
    assert np.isfinite(found).any()


@pytest.mark.parametrize("name", ["deletion", "road"])
def test_deletion_that_a_blank_image_does_not_move_has_another_end(name: str, digits: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = OfContrast()
    found = tried(
        lambda: quality_by(network, digits, tmp_path / "mean", name),
        f"--faithfulness {name},blank=blur",
        lambda: quality_by(network, digits, tmp_path / "blur", name, "blank=blur"),
    )
    assert np.isfinite(found).any()


def test_an_assessment_that_finished_no_shard_is_run_again(digits: Path, network: nn.Module, tmp_path: Path) -> None:
    def assessed() -> Samples:
        dataset = VocDataset(digits, "test")
        return torchvice.assess(network, dataset, out=tmp_path, protocols=("paper",), crop=48, **SMALL)

    def measured_again() -> Any:
        assessed()
        return stream_measures(tmp_path)

    assessed()
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()
    found = tried(lambda: stream_measures(tmp_path), "Run vice assess again.", measured_again)
    assert found.images == 4


def test_a_table_of_explanations_needs_strict() -> None:
    paper = measure(table_of(scenes(12), ("paper",)), replicates=0)
    both = measure(table_of(scenes(12)), replicates=0)
    found = tried(
        lambda: explanations_table(paper),
        "vice assess ... --protocol strict, into another folder",
        lambda: explanations_table(both),
    )
    assert found.rows


def test_a_model_is_a_seed_of_one_group() -> None:
    models = {name: simulated(60, dependence=d) for name, d in (("a", 1.0), ("b", 0.5), ("c", 0.2))}

    def compared(one: list[str], other: list[str]) -> Any:
        return compare(models, groups={"one": one, "other": other}, replicates=100)

    for one, other in ((["a", "b"], ["b", "c"]), (["a", "a"], ["b", "c"])):
        found = tried(
            lambda one=one, other=other: compared(one, other),
            "Leave it in one of them.",
            lambda: compared(["a", "b"], ["c"]),
        )
        assert len(found.models) == 3


@pytest.mark.parametrize("few", [1, 99, -1])
def test_few_replicates_give_no_interval(few: int) -> None:
    for enough in (0, 2000, 100):
        found = tried(
            lambda: measure(SIMULATED, replicates=few),
            "Give 0 for no intervals, or 2000.",
            lambda enough=enough: measure(SIMULATED, replicates=enough),
        )
        assert ("strict.vice" in found.intervals) == (enough > 0)
    found = tried(
        lambda: compare({"a": SIMULATED, "b": SIMULATED}, replicates=few),
        "Give 2000.",
        lambda: compare({"a": SIMULATED, "b": SIMULATED}, replicates=2000),
    )
    assert found.images == 60


def test_a_quality_is_of_strict() -> None:
    made = scenes(12)
    for says, right in (
        ("vice assess ... --protocol strict, into another folder", (("strict",), "energy")),
        ("Or leave the quality out.", (("paper",), "ji")),
    ):
        found = tried(
            lambda: measure(table_of(made, ("paper",)), quality="energy", replicates=0),
            says,
            lambda right=right: measure(table_of(made, right[0]), quality=right[1], replicates=0),
        )
        assert found.images
