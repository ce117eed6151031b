"""Settings: presets, overrides, and error messages."""

from pathlib import Path

import pytest
import yaml

from torchvice.config import Settings, dump_settings, load_settings, override_settings, preset_names
from torchvice.errors import ViceError


@pytest.mark.parametrize("name", ["demo", "finetune", "resnet50", "vision_transformer"])
def test_presets_load_and_survive_writing_and_reading(name: str, tmp_path: Path) -> None:
    settings = load_settings(name)
    file = tmp_path / "config.yaml"
    file.write_text(dump_settings(settings))
    assert load_settings(file) == settings
    assert settings.session_name == name
    assert settings.folder == Path("runs") / name


def test_the_presets_are_there() -> None:
    assert preset_names() == ["demo", "finetune", "resnet50", "vision_transformer"]


@pytest.mark.parametrize("name", ["resnet50", "vision_transformer"])
def test_paper_presets_hold_the_papers_recipe(name: str) -> None:
    s = load_settings(name)
    assert (s.seed, s.trainer.epochs, s.trainer.batch_size) == (2022, 20, 16)
    optimizer = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
    assert s.optimizer.model_dump(exclude_none=True) == optimizer
    assert (s.transform.crop, s.transform.resize, s.transform.flip) == (224, (448, 768), True)
    assert s.transform.jitter == (0.3, 0.3, 0.3, 0.1)
    assert s.transform.interpolation == "bilinear"  # mean and std: tests/training/test_network_input.py
    assert (s.data.train_split, s.data.selection_split, s.data.eval_split) == ("train_aug", "val", "val")


def test_demo_does_not_measure_the_images_that_chose_its_checkpoint() -> None:
    data = load_settings("demo").data
    assert len({data.train_split, data.selection_split, data.eval_split}) == 3


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.lr=1e-2", 0.01),  # text in YAML 1.1, a number for everybody else
        ("optimizer.lr=1", 1.0),
        ("transform.jitter=null", None),
        ("transform.resize=[100, 200]", (100, 200)),
        ("trainer.devices=[0, 1]", (0, 1)),
        ("trainer.devices=2", 2),
        ("trainer.precision=16", "16"),
        ("session_name=2022", "2022"),
        ("session_name=0010", "0010"),
        ("session_name=on", "on"),
        ("session_name=lr=0.01", "lr=0.01"),
        ("model.arguments.drop_rate=1e-1", 0.1),
        ("model.arguments.channels=[8, 16]", [8, 16]),
        ("model.arguments.block.kind=no", "no"),
        ("model.pretrained=false", False),
    ],
)
def test_overrides_are_typed(override: str, value: object) -> None:
    found: object = load_settings("resnet50", [override])
    for name in override.partition("=")[0].split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_later_overrides_win_and_sections_are_merged() -> None:
    s = load_settings("demo", ["trainer.epochs=3", "trainer={epochs: 4, batch_size: 5}"])
    assert (s.trainer.epochs, s.trainer.batch_size, s.trainer.accelerator) == (4, 5, "auto")
    s = load_settings("demo", ["model.arguments.channels=[8, 8, 8, 8]"])
    assert s.model.arguments == {"channels": [8, 8, 8, 8], "output_stride": 16}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimiser.lr=1", ["`optimiser.lr` is not a setting", "Did you mean `optimizer.lr`?"]),
        ("optimizer.lrr=1", ["`optimizer.lrr`", "Did you mean `optimizer.lr`?"]),
        ("optimizer.learning_rate=1", ["Known: optimizer.name, optimizer.lr"]),
        ("lr=1", ["`lr`", "Did you mean `optimizer.lr`?"]),
        ("data.batch_size=0", ["Did you mean `trainer.batch_size` or `assess.batch_size`?"]),
        ("model.epochs=1", ["Did you mean `trainer.epochs`?"]),
        ("transform.mean=[1, 2]", ["`transform.mean` must be 3 values, but is [1, 2]."]),
        ("transform.std=[1, 2, 3, 4]", ["`transform.std` must be 3 values, but is [1, 2, 3, 4]."]),
        ("regularisation.randaugment=[1]", ["`regularisation.randaugment` must be 2 values, but is [1]."]),
        ("epoch=1", ["Did you mean `trainer.epochs`?"]),
        ("seed.x=1", ["`seed.x` is not a setting"]),
        ("network=resnet50", ["The original's `network` is `model.name` here."]),
        ("optimizer.lr=fast", ["`optimizer.lr` must be a valid number, but is 'fast'."]),
        ("optimizer.lr=-1", ["`optimizer.lr` must be greater than 0, but is -1."]),
        ("optimizer.lr=.nan", ["`optimizer.lr` must be a finite number"]),
        ("trainer.epochs=2.5", ["`trainer.epochs` must be a valid integer, but is 2.5."]),
        ("trainer.epochs=true", ["`trainer.epochs` must be a number, but is True."]),
        ("trainer.devices=0", ["`trainer.devices` must be `auto`, a number of devices"]),
        ("trainer=5", ["`trainer` must be a section, but is 5.", "It has: epochs,"]),
        ("transform.jitter=[1, 2]", ["`transform.jitter` must be 4 values, like [0.3, 0.3, 0.3, 0.1], but is [1, 2]."]),
        ("transform.std=[1, 1, 0]", ["`transform.std` must be greater than 0"]),
        ("transform.resize=[9, 8]", ["must be two lengths in pixels, the smaller one first"]),
        ("data.labels=guess", ["'auto', 'cls_labels', 'annotations' or 'masks', but is 'guess'"]),
        ("session_name=a/b", ["`session_name` must be the name of one folder"]),
        ("session_name=..", ["`session_name` must be the name of one folder"]),
        ("optimizer.lr=[", ["The value of `optimizer.lr`, line 1, must be YAML"]),
        ("optimizer.lr", ["An override must be `section.name=value`, but is 'optimizer.lr'."]),
    ],
)
def test_wrong_overrides_raise_one_sentence(override: str, said: list[str]) -> None:
    with pytest.raises(ViceError) as caught:
        load_settings("resnet50", [override])
    for part in said:
        assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\ndata:\n  root: [a\nb: c\n", "line 4, must be YAML"),
        ("seed: 1\nmodel: {name: resnet18}\nseed: 2\n", "line 3, must be YAML, but is not: `seed` occurs twice"),
        ("model: {nam: resnet18}\n", "`model.nam` is not a setting in"),
        ("- 1\n", "must hold settings"),
        ("seed: 1\n", "`model.name` must be given"),
        ("model: {name: !!python/name:os.system x}\n", "must be YAML"),
    ],
)
def test_wrong_files_name_file_and_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ViceError) as caught:
        load_settings(file)
    assert said in str(caught.value)
    if "must be given" not in said:
        assert str(file) in str(caught.value)


def test_a_file_may_be_short(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {name: resnet18}\ntrainer:\n  # all as it is\n")
    settings = load_settings(file)
    assert (settings.session_name, settings.trainer.epochs) == ("mine", 20)


def test_the_folder_of_a_run_means_its_config_where_it_lies_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = load_settings("demo", ["optimizer.lr=1e-4", "session_name=a", "work_dir=elsewhere"])
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_settings(chosen))
    assert load_settings(run) == load_settings(str(run)) == override_settings(chosen, [f"work_dir={tmp_path / 'runs'}"])
    monkeypatch.chdir(run)
    assert load_settings(".").folder == load_settings("../a").folder.resolve() == run
    with pytest.raises(ViceError, match=r"must be a file, but .* is a folder"):
        load_settings(tmp_path)
    (tmp_path / "demo").mkdir()  # a preset's name means the preset
    (tmp_path / "demo" / "config.yaml").write_text(dump_settings(chosen))
    monkeypatch.chdir(tmp_path)
    assert load_settings("demo").optimizer.lr == 3e-3


def test_unknown_presets_and_files() -> None:
    with pytest.raises(ViceError, match="Did you mean `resnet50`"):
        load_settings("resnet5O")
    with pytest.raises(ViceError, match=r"The settings must be a file, but nowhere\.yaml does not exist"):
        load_settings("nowhere.yaml")


@pytest.mark.parametrize(
    "text", ["1e-2", "1e5", "yes", "12:30", "null", "0010", "true", "~", "1_000", "", "#x: y", "é"]
)
def test_text_stays_text_through_a_file_for_both_generations_of_yaml(text: str, tmp_path: Path) -> None:
    settings = Settings.model_validate({"session_name": "s", "model": {"name": "n", "arguments": {"a": text}}})
    file = tmp_path / "config.yaml"
    file.write_text(dump_settings(settings), encoding="utf-8")
    assert load_settings(file).model.arguments == {"a": text}
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["model"]["arguments"] == {"a": text}


def test_settings_are_frozen() -> None:
    settings = load_settings("demo")
    with pytest.raises(ValueError):
        settings.seed = 1  # type: ignore[misc]
    with pytest.raises(ValueError):
        settings.trainer.epochs = 1  # type: ignore[misc]
