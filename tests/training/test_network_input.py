"""The input of a training: what the weights expect, unless the settings say otherwise."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from torchvice.assessment import assess
from torchvice.config import IMAGENET_MEAN, IMAGENET_STD, Settings, dump_settings, load_settings, override_settings
from torchvice.files import sha256, write_text
from torchvice.models.build import build_model, stated_preprocessing
from torchvice.models.encoder_files import Normalisation, save_encoder
from torchvice.models.pretraining import check_weights, convert_weights, load_pretrained
from torchvice.runs import Run
from torchvice.runs.subject import subject_from_run
from torchvice.study.identity import key_of
from torchvice.training.module import Classifier
from torchvice.training.network_input import described_input, expected_input, with_input
from torchvice.training.pretrain import pretrain
from torchvice.training.run import train

Make = Callable[..., Settings]
HALF = (0.5, 0.5, 0.5)  # test_resnet's mean and std in timm's data config
OPEN_CROP = ("transform.view=resized_crop", "transform.interpolation=null")


def test_a_training_normalises_as_its_weights_expect(settings: Make, capsys: pytest.CaptureFixture[str]) -> None:
    asked = settings()
    assert asked.transform.mean is None
    run = train(asked)
    assert (run.settings.transform.mean, run.settings.transform.std) == (HALF, HALF)
    assert "Input: mean 0.5, std 0.5, as timm states for test_resnet." in capsys.readouterr().err
    subject = subject_from_run(run)
    assert (subject.settings.mean, subject.settings.std) == (HALF, HALF)


def test_given_values_win_and_a_difference_is_said(
    settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(build_model("test_resnet", 7).state_dict(), tmp_path / "start.pth")
    given = "transform={mean: [0.4, 0.5, 0.6], std: [0.25, 0.25, 0.25]}"
    run = train(settings(given, f"model.weights={tmp_path / 'start.pth'}"))
    assert run.settings.transform.mean == (0.4, 0.5, 0.6)
    said = capsys.readouterr().err
    assert "The settings give mean 0.4,0.5,0.6, std 0.25, but timm states for test_resnet mean 0.5, std 0.5." in said


def test_the_papers_presets_have_the_papers_normalisation() -> None:
    for name in ("resnet50", "vision_transformer"):
        chosen = load_settings(name)
        stated = stated_preprocessing(chosen.model.name)
        assert stated is not None
        complete = with_input(chosen, stated).transform
        assert (complete.mean, complete.interpolation, complete.crop) == (IMAGENET_MEAN, "bilinear", 224)


def test_published_weights_of_moco_and_its_like_expect_imagenet(tmp_path: Path) -> None:
    start = build_model("test_resnet", 7).state_dict()
    encoder = {f"module.base_encoder.{name}": value for name, value in start.items() if not name.startswith("fc.")}
    torch.save({"state_dict": encoder}, tmp_path / "moco.pth")
    model = build_model("test_resnet", 3)
    report = load_pretrained(model, tmp_path / "moco.pth")
    assert report.scheme == "moco_v3"
    assert expected_input(model, report).mean == IMAGENET_MEAN
    assert expected_input(model, replace(report, own=True)).mean == HALF  # a file of ours that does not say: timm's
    asked = load_settings("demo", ["transform.std=[1, 1, 1]"])
    expected = expected_input(model, report)
    said = described_input(asked, with_input(asked, expected), expected, report)
    assert said.startswith("Input: mean 0.485,0.456,0.406, as moco_v3 was published with.")


IMAGENETS = "transform={mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"


def small_pretraining(colours: Path, tmp_path: Path, *overrides: str) -> Settings:
    small = ["model={name: test_resnet, pretrained: false}", f"data.root={colours}", f"work_dir={tmp_path}"]
    small += ["transform.crop=32", "data.workers=0", "trainer={epochs: 1, batch_size: 16, accelerator: cpu}"]
    return load_settings("finetune", [*small, *overrides])


def test_weights_of_vice_pretrain_expect_what_they_were_trained_with(
    settings: Make, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lightly", reason="the extra `pretrain` is not installed")
    chosen = small_pretraining(colours, tmp_path, IMAGENETS)
    weights = pretrain(chosen, "byol", ["hidden=8", "outputs=8"], progress=False)
    with safe_open(weights, framework="pt") as file:
        metadata = {"mean": "[0.485, 0.456, 0.406]", "scheme": "byol by vice pretrain", "std": "[0.229, 0.224, 0.225]"}
        assert file.metadata() == metadata
    capsys.readouterr()
    run = train(settings(f"model.weights={weights}"))
    assert (run.settings.transform.mean, run.settings.transform.std) == (IMAGENET_MEAN, IMAGENET_STD)
    told = capsys.readouterr().err
    assert "Input: mean 0.485,0.456,0.406, std 0.229,0.224,0.225, as weights.safetensors was trained with." in told
    resumed = train(settings(f"model.weights={weights}", "trainer.epochs=2"), resume=True)
    assert resumed.settings.transform.mean == IMAGENET_MEAN
    assert "The settings give" not in capsys.readouterr().err
    # Files of earlier versions have only the manifest, which must be theirs.
    save_file(load_file(weights), weights, metadata={"scheme": "byol by vice pretrain"})
    assert check_weights(build_model("test_resnet", 3), weights).normalisation is None
    manifest = json.loads((weights.parent / "pretraining.json").read_text())
    manifest["weights"]["sha256"] = sha256(weights)
    write_text(weights.parent / "pretraining.json", json.dumps(manifest))
    report = check_weights(build_model("test_resnet", 3), weights)
    assert report.normalisation == Normalisation(IMAGENET_MEAN, IMAGENET_STD)
    convert_weights(weights, tmp_path / "copy.safetensors")  # which has no manifest beside it
    assert check_weights(build_model("test_resnet", 3), tmp_path / "copy.safetensors").normalisation is not None
    for broken in ("{", "[]", "{}", json.dumps({**manifest, "asked": {"transform": {"mean": None, "std": None}}})):
        write_text(weights.parent / "pretraining.json", broken)
        assert check_weights(build_model("test_resnet", 3), weights).normalisation is None


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    contents = set()
    for _ in range(12):
        weights = {"b": torch.ones(2, 3), "a": torch.zeros(5, dtype=torch.float16)}
        save_encoder(tmp_path / "x.safetensors", weights, "byol", Normalisation(IMAGENET_MEAN, IMAGENET_STD))
        contents.add((tmp_path / "x.safetensors").read_bytes())
        found = load_file(tmp_path / "x.safetensors")
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert len(contents) == 1


def test_the_checkpoint_of_a_run_expects_what_the_run_was_trained_with(
    settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(settings("session_name=first", IMAGENETS), progress=False).checkpoint("best")
    convert_weights(first, tmp_path / "first.safetensors")
    for number, start in enumerate((first, tmp_path / "first.safetensors")):
        run = train(settings(f"session_name=second{number}", f"model.weights={start}"))
        assert (run.settings.transform.mean, run.settings.transform.std) == (IMAGENET_MEAN, IMAGENET_STD)
        assert f"std 0.229,0.224,0.225, as {start.name} was trained with." in capsys.readouterr().err
    half = "transform={mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
    train(settings("session_name=third", f"model.weights={first}", half))
    theirs = "mean 0.485,0.456,0.406, std 0.229,0.224,0.225"
    said = f"The settings give mean 0.5, std 0.5, but {first.name} was trained with {theirs}."
    assert said in capsys.readouterr().err


def test_what_is_left_open_is_said_with_its_source(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=3)
    torch.save(model.state_dict(), tmp_path / "start.pth")
    report = replace(load_pretrained(model, tmp_path / "start.pth"), normalisation=Normalisation((0.1,) * 3, (1,) * 3))
    asked, expected = load_settings("finetune", ["model.name=test_vit"]), expected_input(model, report)
    said = described_input(asked, with_input(asked, expected), expected, report)
    timms = "crop 160, interpolation bicubic, as timm states for test_vit"
    assert said.startswith(f"Input: {timms}; mean 0.1, std 1, as start.pth was trained with.")


def test_size_and_interpolation_are_the_networks_where_they_are_left_open() -> None:
    model = timm.create_model("test_vit", num_classes=3)  # 160 pixels, bicubic, crop share 0.95
    asked = load_settings("finetune")
    expected = expected_input(model)
    complete = with_input(asked, expected)
    assert (complete.transform.crop, complete.transform.interpolation) == (160, "bicubic")
    assert complete.assess.view_size == 160
    assert with_input(override_settings(asked, ["assess.view_size=96"]), expected).assess.view_size == 96
    said = described_input(asked, complete, expected, None)
    assert "crop 160, interpolation bicubic, mean 0.5, std 0.5" in said
    assert "the whole image, not the central 0.95 of the sides" in said


def test_the_table_of_a_run_holds_how_images_were_resized(settings: Make, tmp_path: Path) -> None:
    run = train(settings(*OPEN_CROP, "transform.interpolation=bicubic", "assess.view_size=null"), progress=False)
    assert run.settings.assess.view_size == 32
    subject = subject_from_run(run)
    options: dict[str, Any] = {"controls": (), "without": None, "progress": False, "settings": subject.settings}
    assess(subject.model, subject.dataset, out=tmp_path / "table", **options)
    held = json.loads((tmp_path / "table" / "manifest.json").read_text())["map_settings"]
    assert (held["view_size"], held["interpolation"]) == (32, "bicubic")


def test_a_run_of_an_earlier_version_resumes_with_its_own_normalisation(settings: Make) -> None:
    asked = settings()
    run = train(asked, progress=False)
    usual = ["transform.mean=[0.485, 0.456, 0.406]", "transform.std=[0.229, 0.224, 0.225]"]
    write_text(run.config, dump_settings(override_settings(run.settings, usual)))
    resumed = train(settings("trainer.epochs=2"), resume=True, progress=False)
    assert Run(resumed.folder).settings.transform.mean == IMAGENET_MEAN


def test_the_backbone_has_a_rate_of_its_own(settings: Make) -> None:
    model = build_model("test_resnet", 3)
    for decay_norms in ("true", "false"):
        chosen = settings("optimizer.backbone_lr=1e-5", f"regularisation.decay_norms={decay_norms}")
        module = Classifier(model, chosen, ("a", "b", "c"))
        groups = module._with_rates(module._parameter_groups(0.05))
        rates = {id(own): group["lr"] for group in groups for own in group["params"]}
        assert len(rates) == len(list(model.parameters()))
        expected = {n: 5e-3 if n.startswith("fc.") else 1e-5 for n, _ in model.named_parameters()}
        assert {name: rates[id(own)] for name, own in model.named_parameters()} == expected


@pytest.mark.parametrize(
    "further",
    [
        (),
        pytest.param(
            ("trainer.precision=bf16-mixed", "model.linear_probe=true", "regularisation.dropout=0.2"),
            marks=pytest.mark.slow,
        ),
        ("regularisation={cutmix: 1.0, randaugment: [2, 9], label_smoothing: 0.1, patience: 1, ema: 0}",),
        pytest.param(
            ("regularisation.swap_background=0.5", "data.workers=1", "transform.area=[0.5, 0.9]"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_recipe_for_fine_tuning_trains(
    settings: Make, colours: Path, tmp_path: Path, further: tuple[str, ...]
) -> None:
    small = ["model={name: test_resnet, pretrained: false}", "transform.crop=32", f"data.root={colours}"]
    small += [f"work_dir={tmp_path}", "data.workers=0", "trainer={epochs: 2, batch_size: 8, accelerator: cpu}"]
    run = train(load_settings("finetune", [*small, *further]), progress=False)
    assert run.settings.transform.interpolation == "bilinear"  # test_resnet's
    assert run.settings.assess.view_size == 32


def test_pretraining_normalises_as_its_start_expects_and_resumes_so(colours: Path, tmp_path: Path) -> None:
    asked = small_pretraining(colours, tmp_path)
    choices = ["hidden=8", "outputs=8"]
    folder = pretrain(asked, "byol", choices, progress=False).parent
    manifest = json.loads((folder / "pretraining.json").read_text())
    assert manifest["asked"]["transform"] == {"crop": 32, "flip": True, "mean": [0.5] * 3, "std": [0.5] * 3}
    for name, usual in (("mean", [0.485, 0.456, 0.406]), ("std", [0.229, 0.224, 0.225])):  # an earlier version's
        manifest["asked"]["transform"][name] = usual
    write_text(folder / "pretraining.json", json.dumps(manifest))
    pretrain(asked, "byol", choices, resume=True, progress=False)
    assert json.loads((folder / "pretraining.json").read_text())["asked"]["transform"]["mean"][0] == 0.485


def test_keys_of_studies_follow_the_normalisation() -> None:
    usual = ["transform.mean=[0.485, 0.456, 0.406]", "transform.std=[0.229, 0.224, 0.225]"]
    resnet, lite = load_settings("resnet50"), load_settings("resnet50", ["model.name=tf_efficientnet_lite0"])
    assert key_of(resnet) == key_of(override_settings(resnet, usual)) == "0060128cf3"  # as before there was a choice
    half = ["transform.mean=[0.5, 0.5, 0.5]", "transform.std=[0.5, 0.5, 0.5]"]
    assert key_of(lite) == key_of(override_settings(lite, half)) != key_of(override_settings(lite, usual))
