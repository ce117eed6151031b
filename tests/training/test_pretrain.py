"""Self-supervised pre-training: losses, files, errors, and exact resuming."""

import csv
import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from command import status_of
from torchvice.cli.app import main
from torchvice.config import Settings, dump_settings
from torchvice.config.sections import TransformSettings
from torchvice.data.transforms import normalise
from torchvice.data.unlabelled import UnlabelledImages
from torchvice.data.warping import warp
from torchvice.errors import ViceError
from torchvice.files import sha256
from torchvice.files.lock import locked
from torchvice.models.build import build_model
from torchvice.models.pretraining import Pretrained, load_pretrained
from torchvice.training.progress import EpochLines
from torchvice.training.recipes import RECIPES, Byol, Dino, Mae, MocoV3, recipe_of
from variants import slow_but

pytest.importorskip("lightly", reason="the extra `pretrain` is not installed")

from torchvice.training.augmentation import augmentation, small_side
from torchvice.training.pretrain import pretrain
from torchvice.training.run import train
from torchvice.training.selfsupervised import ByolModule, DinoModule, MaeModule, MocoV3Module, SelfSupervised

Make = Callable[..., Settings]

SMALL = {
    "byol": ("hidden=16", "outputs=8"),
    "moco_v3": ("hidden=16", "outputs=8"),
    "dino": ("hidden=16", "outputs=32", "bottleneck=8", "local_views=2"),
    "mae": ("decoder_width=16", "decoder_depth=1", "decoder_heads=2"),
}
VIT = "model={name: test_vit, arguments: {img_size: 32, drop_path_rate: 0.2}}"
CASES = [*(("test_resnet", scheme) for scheme in ("byol", "moco_v3", "dino")), *(("test_vit", s) for s in SMALL)]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory, colours: Path) -> Path:
    """The dataset without anything that says what an image shows."""
    root = tmp_path_factory.mktemp("unlabelled") / "set"
    shutil.copytree(colours, root)
    (root / "cls_labels.npy").unlink()
    (root / "classes.txt").unlink()
    shutil.rmtree(root / "VOC2012" / "SegmentationClass")
    return root


@pytest.fixture
def bare(settings: Make, unlabelled: Path) -> Make:
    return lambda *overrides: settings(f"data.root={unlabelled}", *overrides)


def pretrained(chosen: Settings, scheme: str, *choices: str, **how: Any) -> Path:
    return pretrain(chosen, scheme, [*SMALL[scheme], *choices], progress=False, **how)


def state_of(weights: Path) -> dict[str, torch.Tensor]:
    content = torch.load(weights.parent / "checkpoints" / "last.ckpt", weights_only=True)
    tensors: dict[str, torch.Tensor] = content["state_dict"]
    return tensors


def taken_over(weights: Path, chosen: Settings) -> tuple[torch.nn.Module, Pretrained]:
    model = build_model(chosen.model.name, 3, arguments=chosen.model.arguments)
    return model, load_pretrained(model, weights)


@pytest.mark.parametrize(
    ("name", "scheme"), slow_but(CASES, ("test_resnet", "byol"), ("test_vit", "mae"), ("test_vit", "dino"))
)
def test_a_network_learns_without_labels_and_its_file_matches_completely(bare: Make, name: str, scheme: str) -> None:
    chosen = bare(*([VIT] if name == "test_vit" else []))
    weights = pretrained(chosen, scheme)
    folder = chosen.folder.with_name(f"{chosen.session_name}-{scheme}")
    assert weights == folder / "weights.safetensors"
    written = {path.name for path in folder.iterdir()}
    assert written == {"weights.safetensors", "pretraining.json", "checkpoints", "logs"}
    model, report = taken_over(weights, chosen)
    assert (report.scheme, report.own, report.note) == (scheme, True, "")
    assert (report.matched, report.used, report.common, report.left) == (1.0, 1.0, 1.0, ())
    assert len(report.new) == 2  # the classifier's weight and bias
    # DINO's result is the network that follows, the others' the one that learns.
    prefix = "slow.0." if scheme == "dino" else "network."
    learnt, own = state_of(weights), model.state_dict()
    assert all(torch.equal(own[n], learnt[prefix + n]) for n in own if n not in report.new)
    assert all(bool(torch.isfinite(value).all()) for value in own.values())
    manifest = json.loads((folder / "pretraining.json").read_text())
    assert (manifest["asked"]["scheme"], manifest["finished"], manifest["images"]) == (scheme, 1, 41)
    assert manifest["start"] == {"from": "random weights"}
    assert manifest["asked"]["recipe"]["lr"] == recipe_of(scheme, name == "test_resnet").lr
    assert manifest["weights"] == {"file": weights.name, "tensors": report.tensors, "sha256": sha256(weights)}
    with safe_open(weights, framework="pt") as file:
        normalisation = dict.fromkeys(("mean", "std"), "[0.5, 0.5, 0.5]")
        assert file.metadata() == {"scheme": f"{scheme} by vice pretrain", **normalisation}


def test_labels_and_masks_are_never_opened(unlabelled: Path, colours: Path) -> None:
    images = UnlabelledImages(colours, "train")
    assert len(images) == 41
    assert all(record.mask is None for record in images.records)
    assert [r.image_id for r in UnlabelledImages(unlabelled, "train").records] == [r.image_id for r in images.records]


def test_slow_copies_move_by_the_momentum(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(self: SelfSupervised[Any], *_: Any) -> None:
        pair = self.network.get_parameter("conv1.0.weight"), self.slow[0].get_parameter("conv1.0.weight")
        seen.append((pair[0].detach().clone(), pair[1].detach().clone()))

    monkeypatch.setattr(SelfSupervised, "on_train_start", note)
    monkeypatch.setattr(SelfSupervised, "on_train_batch_end", note)
    pretrained(bare("trainer.epochs=2", "trainer.accumulate=2"), "byol", "momentum=0.6")
    # Five batches an epoch, the last of which makes a step of its own: six steps, after each of which it moves once.
    steps = [0, 2, 4, 5, 7, 9, 10]
    assert len(seen) == 11
    assert torch.equal(*seen[0])
    slow, last = seen[0][1], len(steps) - 2
    for k, place in enumerate(steps[1:]):
        momentum = 1 - 0.4 * (math.cos(math.pi * k / last) + 1) / 2
        slow = momentum * slow + (1 - momentum) * seen[place][0]
        assert torch.allclose(seen[place][1], slow, atol=1e-6), k
        slow = seen[place][1]
    assert not torch.equal(seen[2][0], seen[0][0])
    assert torch.equal(seen[1][1], seen[0][1])  # no step, no move


@pytest.mark.parametrize(
    "scheme", ["byol", *(pytest.param(name, marks=pytest.mark.slow) for name in ("moco_v3", "dino", "mae"))]
)
def test_a_resumed_training_equals_an_uninterrupted_one(
    bare: Make, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = ["trainer.epochs=3", "transform.flip=true", *([VIT] if scheme == "mae" else [])]
    whole = pretrained(bare("session_name=whole", *further), scheme)
    begin = EpochLines.on_train_epoch_start

    def stop(self: EpochLines, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt
        begin(self, trainer, pl_module)

    chosen = bare("session_name=parts", *further)
    with monkeypatch.context() as patched:
        patched.setattr(EpochLines, "on_train_epoch_start", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrained(chosen, scheme)
    folder = chosen.folder.with_name(f"parts-{scheme}")
    assert not (folder / "weights.safetensors").exists()
    assert json.loads((folder / "pretraining.json").read_text())["finished"] == 0
    np.random.seed(3)  # noqa: NPY002 (what was drawn before does not matter)
    parts = pretrained(chosen, scheme, resume=True)
    a, b = state_of(whole), state_of(parts)
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert sha256(whole) == sha256(parts)
    assert json.loads((folder / "pretraining.json").read_text())["finished"] == 3
    # Once more: nothing is left to be done, and the file is the same.
    assert sha256(pretrained(chosen, scheme, resume=True)) == sha256(whole)


def test_it_starts_from_other_weights_and_a_training_from_its_weights(
    bare: Make, settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = build_model("test_resnet", 7)
    torch.save(start.state_dict(), tmp_path / "start.pth")
    weights = pretrained(bare(f"model.weights={tmp_path / 'start.pth'}"), "byol", "lr=1e-12", "momentum=1")
    manifest = json.loads((weights.parent / "pretraining.json").read_text())
    assert manifest["start"]["from"].endswith("start.pth")
    assert manifest["start"]["sha256"] == sha256(tmp_path / "start.pth")
    model, _ = taken_over(weights, bare())
    assert torch.allclose(model.get_parameter("conv1.0.weight"), start.get_parameter("conv1.0.weight"), atol=1e-6)
    capsys.readouterr()
    train(settings(f"model.weights={weights}", "model.linear_probe=true"))
    said = capsys.readouterr().err
    assert "byol" in said
    assert "matched: 100.0%" in said


REFUSED = [
    ("byol", ("trainer.batch_size=1",), (), "`trainer.batch_size` must be at least 2 for byol, but is 1"),
    ("moco_v3", ("trainer.batch_size=64",), (), "at most the number of images, but is 64: train has 41"),
    ("dino", (VIT, "model.arguments.global_pool=''"), (), "pools its features, but VisionTransformer does not"),
    ("mae", (), (), "plain vision transformer with a class token, but is given ResNet"),
    ("byol", (VIT, "transform.crop=24"), (), "test_vit must take images of 24 x 24"),
    ("byol", ("data.train_split=one",), (), "at least 2 images, but one has 1"),
    ("byol", ("data.train_split=none",), (), r"`data.train_split` must name a list.*\s+.*-o data.train_split=NAME"),
    ("simclr", (), (), "scheme must be one of byol, moco_v3, dino, mae"),
    ("byol", (), ("momentun=0.9",), "`momentun` is not a setting of byol"),
    ("byol", (), ("momentum=2",), "`momentum` of byol must be less than or equal to 1, but is 2"),
    ("byol", (), ("momentum",), "must be `name=value`"),
    ("byol", ("model.weights=nowhere.pth",), (), r"nowhere\.pth does not exist"),
]


@pytest.mark.parametrize(("scheme", "overrides", "choices", "said"), REFUSED)
def test_mistakes_raise_before_anything_is_written(
    bare: Make, unlabelled: Path, scheme: str, overrides: tuple[str, ...], choices: tuple[str, ...], said: str
) -> None:
    (unlabelled / "one.txt").write_text("train_000\n")
    chosen = bare(*overrides)
    with pytest.raises(ViceError, match=said):
        pretrain(chosen, scheme, [*SMALL.get(scheme, ()), *choices], progress=False)
    assert not (chosen.folder.with_name(f"{chosen.session_name}-{scheme}") / "pretraining.json").exists()


def test_without_lightly_the_error_says_how_to_install_it(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ViceError, match="needs lightly") as refused:
        pretrain(bare(), "byol")
    assert "torchvice[pretrain]" in str(refused.value)


def test_a_pretraining_does_not_resume_with_other_settings(bare: Make) -> None:
    with pytest.raises(ViceError, match="No pre-training to resume found"):
        pretrained(bare(), "byol", resume=True)
    pretrained(bare(), "byol")
    with pytest.raises(ViceError, match="already holds a pre-training"):
        pretrained(bare(), "byol")
    for overrides, choices, name in (
        (["seed=3"], [], "seed"),
        (["trainer.epochs=2"], [], r"trainer\.epochs"),
        ([], ["momentum=0.5"], r"recipe\.momentum"),
    ):
        with pytest.raises(ViceError, match=f"`{name}` was .* and is "):
            pretrained(bare(*overrides), "byol", *choices, resume=True)
    folder = bare().folder.with_name(f"{bare().session_name}-byol")
    with pytest.raises(ViceError, match="`scheme` was 'byol' and is 'dino'"):
        pretrained(bare(), "dino", resume=True, folder=folder)


def test_a_diverged_loss_ends_it(bare: Make) -> None:
    with pytest.raises(ViceError, match="must stay finite"):
        pretrained(bare(VIT, "trainer.epochs=4"), "mae", "optimizer=sgd", "lr=1e30")


def test_the_command(bare: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = bare()
    chosen.folder.parent.mkdir(parents=True)
    file = chosen.folder.parent / "settings.yaml"
    file.write_text(dump_settings(chosen))
    out = chosen.folder.parent / "elsewhere"
    choices = [word for choice in SMALL["byol"] for word in ("--choice", choice)]
    words = ["vice", "pretrain", str(file), "--scheme", "byol", "--out", str(out), "-o", "seed=1", *choices]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    told = capsys.readouterr()
    assert f"Next: vice train {file} -o model.weights={out / 'weights.safetensors'}" in told.out.replace("\n", "")
    assert "train: 41 images, without labels" in told.err
    assert "epoch 1/1  train loss" in told.err
    assert "val" not in told.err


def test_the_next_command_trains_the_same_network_on_the_same_data(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(colours, tmp_path / "my set")
    shared = (f"data.root={tmp_path / 'my set'}", "model.name=test_resnet", "model.arguments={}", "transform.crop=32")
    machine = (f"work_dir={tmp_path}", "trainer.epochs=1", "trainer.batch_size=8", "trainer.accelerator=cpu")
    start = ("model.pretrained=false", "model.scheme=byol")
    given = [word for text in (*shared, *machine, *start) for word in ("-o", text)]
    choices = [word for choice in SMALL["byol"] for word in ("--choice", choice)]
    assert status_of("pretrain", "demo", "--scheme", "byol", *given, *choices) == 0
    command = re.search(r"Next: vice (train demo .*)", capsys.readouterr().out)
    assert command is not None
    words = shlex.split(command[1])
    weights = tmp_path / "demo-byol" / "weights.safetensors"
    assert words[2:] == [w for text in (*shared, "model.scheme=auto", f"model.weights={weights}") for w in ("-o", text)]
    assert status_of(*words, *(word for text in machine for word in ("-o", text))) == 0
    assert (tmp_path / "demo" / "checkpoints" / "best.ckpt").is_file()


# The losses, by plain loops.


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


def quiet(module: SelfSupervised[Any]) -> Any:
    """The module outside a training, which logs nothing."""
    module.log_spread = lambda features: None  # type: ignore[method-assign]
    return module.eval()  # running statistics: an image's features are then its own


def some_views(count: int, n: int = 3, side: int = 32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 3, side, side, generator=generator) for _ in range(count)]


def resnet() -> Any:
    torch.manual_seed(0)
    return build_model("test_resnet", 1)


WIDTH = 96  # of test_resnet's features


def test_byols_loss_is_the_papers() -> None:
    module = quiet(ByolModule(resnet(), Byol(hidden=16, outputs=8), 3, WIDTH))
    views = some_views(2)
    said = [module.predictor(module.projector(module.features(module.network, view))) for view in views]
    wanted = [module.slow[1](module.features(module.slow[0], view)) for view in views]
    pairs = [(said[0][i], wanted[1][i]) for i in range(3)] + [(said[1][i], wanted[0][i]) for i in range(3)]
    loop = sum(2 - 2 * cosine(a, b) for a, b in pairs) / 3
    assert float(module.loss(views)) == pytest.approx(loop, abs=1e-5)


def test_mocos_loss_contrasts_an_image_with_the_others() -> None:
    module = quiet(MocoV3Module(resnet(), MocoV3(hidden=16, outputs=8, temperature=0.3), 3, WIDTH))
    views = some_views(2)
    queries = [module.predictor(module.projector(module.features(module.network, view))) for view in views]
    keys = [module.slow[1](module.features(module.slow[0], view)) for view in views]
    loop = 0.0
    for q, k in ((queries[0], keys[1]), (queries[1], keys[0])):
        for i in range(3):
            weights = [math.exp(cosine(q[i], k[j]) / 0.3) for j in range(3)]
            loop -= 2 * 0.3 * math.log(weights[i] / sum(weights)) / 3
    assert float(module.loss(views)) == pytest.approx(loop, abs=1e-5)


def test_dinos_loss_compares_every_other_view_and_the_centre_moves() -> None:
    recipe = Dino(hidden=16, outputs=12, bottleneck=8, local_views=1)
    module = quiet(DinoModule(resnet(), recipe, 3, WIDTH))
    views = [*some_views(2), *some_views(1, side=16)]
    said = [module.projector(module.features(module.network, view)) for view in views]
    wanted = [module.slow[1](module.features(module.slow[0], view)) for view in views[:2]]
    pairs = [(t, s) for t in range(2) for s in range(3) if t != s]
    loop = -sum(
        float(((wanted[t][i] / 0.04).softmax(0) * (said[s][i] / 0.1).log_softmax(0)).sum())
        for t, s in pairs
        for i in range(3)
    )
    assert float(module.loss(views)) == pytest.approx(loop / (len(pairs) * 3), abs=1e-4)
    centre = 0.1 * torch.cat(wanted).mean(0)
    assert torch.allclose(module.distance.center.flatten(), centre, atol=1e-6)


def test_maes_loss_covers_the_masked_patches_only() -> None:
    network = build_model("test_vit", 1, arguments={"img_size": 32})
    module = quiet(MaeModule(network, Mae(decoder_width=16, decoder_depth=1, decoder_heads=2), 3, 0))
    with torch.no_grad():
        module.pixels.weight.zero_()
        module.pixels.bias.zero_()
    images = some_views(1)[0]
    # Nothing is predicted: the error is the mean square of a patch with its mean off, over its variance (n - 1).
    size = 3 * module.patch**2
    assert float(module.loss([images])) == pytest.approx((size - 1) / size, abs=1e-4)
    # Of four patches one is shown: the loss does not depend on what is in it, only on what is hidden.
    module.recipe = Mae(decoder_width=16, decoder_depth=1, decoder_heads=2, normalised=False)
    torch.manual_seed(5)
    before = float(module.loss([images]))
    errors = [
        float(images[:, :, y : y + 16, x : x + 16].pow(2).mean(dim=(1, 2, 3))[i])
        for i in range(3)
        for y in (0, 16)
        for x in (0, 16)
    ]
    torch.manual_seed(5)
    noise = torch.rand(3, 5)
    noise[:, 0] = -1
    shown = noise.argsort(1)[:, 1] - 1  # behind the class token
    loop = sum(e for i in range(3) for p, e in enumerate(errors[4 * i : 4 * i + 4]) if p != shown[i]) / 9
    assert before == pytest.approx(loop, rel=1e-5)


def test_dinos_last_layer_is_frozen_first_and_the_decay_grows(bare: Make) -> None:
    last = "last_layer.weight_v"
    fixed = state_of(pretrained(bare("session_name=a"), "dino"))
    assert torch.allclose(fixed[f"projector.{last}"], fixed[f"slow.1.{last}"], atol=1e-6)
    choices = ("fixed_epochs=0", "last_weight_decay=0.3", "weight_decay=0.1", "lr=1")
    moved = pretrained(bare("session_name=b"), "dino", *choices)
    assert not torch.allclose(state_of(moved)[f"projector.{last}"], state_of(moved)[f"slow.1.{last}"], atol=1e-4)
    content = torch.load(moved.parent / "checkpoints" / "last.ckpt", weights_only=True)
    assert [group["weight_decay"] for group in content["optimizer_states"][0]["param_groups"]] == [0.0, 0.3]


# The views.


def picture(height: int = 24, width: int = 24) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_views_have_the_settings_side_mean_std_and_flip() -> None:
    image = picture()
    look = TransformSettings(crop=16, flip=False, mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
    plain = normalise(warp(image, 16), look.mean, look.std)
    show = augmentation(Byol(jitter=0, blur=0, least_area=1), look)
    mirrored = augmentation(Byol(jitter=0, blur=0, least_area=1), look.model_copy(update={"flip": True}))
    for _ in range(8):
        assert all(torch.allclose(view, plain, atol=1e-5) for view in show(Image.fromarray(image)))
    seen = {
        bool(torch.allclose(view, plain, atol=1e-5)) for _ in range(12) for view in mirrored(Image.fromarray(image))
    }
    assert seen == {True, False}


def test_dino_has_small_views_in_whole_patches() -> None:
    look = TransformSettings(crop=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    views = augmentation(Dino(local_views=3), look, patch=16)(Image.fromarray(picture(50, 70)))
    assert [tuple(view.shape) for view in views] == [(3, 64, 64)] * 2 + [(3, 32, 32)] * 3
    assert small_side(Byol(), 224, 16) == 0
    assert len(augmentation(Mae(), look)(Image.fromarray(picture()))) == 1


def test_the_published_numbers_are_the_defaults() -> None:
    assert {name: recipe_of(name, False).optimizer for name in RECIPES} == dict.fromkeys(RECIPES, "adamw")
    byol, moco = recipe_of("byol", True), recipe_of("moco_v3", True)
    assert isinstance(byol, Byol)
    assert isinstance(moco, MocoV3)
    assert (byol.optimizer, byol.lr, byol.weight_decay, byol.momentum) == ("lars", 0.45, 1e-6, 0.99)
    assert (moco.optimizer, moco.temperature, recipe_of("moco_v3", False).warmup) == ("lars", 1.0, 0.13)


def test_a_slow_copy_has_no_dropout(bare: Make) -> None:
    network = build_model("test_vit", 1, arguments={"img_size": 32, "drop_path_rate": 0.5, "drop_rate": 0.5})
    module = ByolModule(network, Byol(hidden=16, outputs=8), 3, network.num_features)  # type: ignore[arg-type]
    module.train()
    images = some_views(1)[0]
    slow = [module.features(module.slow[0], images) for _ in range(2)]
    fast = [module.features(module.network, images) for _ in range(2)]
    assert torch.equal(*slow)
    assert not torch.equal(*fast)


# What it is good for, and on two devices.


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray], np.ndarray]:
    """The folder of the first 500 of scikit-learn's digits, 32 x 32; and the first 900 with their classes."""
    from sklearn.datasets import load_digits

    root, data = tmp_path_factory.mktemp("digits"), load_digits()
    grey = [Image.fromarray((image * 15.9).astype(np.uint8)).resize((32, 32), 3) for image in data.images[:900]]
    images = [np.array(image.convert("RGB")) for image in grey]
    (root / "VOC2012" / "JPEGImages").mkdir(parents=True)
    for place, image in enumerate(images[:500]):
        Image.fromarray(image).save(root / "VOC2012" / "JPEGImages" / f"d{place:03d}.png")
    (root / "train.txt").write_text("\n".join(f"d{place:03d}" for place in range(500)) + "\n")
    return root, images, data.target[:900]


def probed(model: Any, images: list[np.ndarray], classes: np.ndarray, look: TransformSettings) -> float:
    """Accuracy on the last 400 of a linear classifier of the features, learnt from 100 images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from torchvice.training.selfsupervised import pooled

    inputs = torch.stack([normalise(image, look.mean, look.std) for image in images])
    with torch.no_grad():
        features = pooled(model.eval(), inputs).numpy()
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000))
    return float(linear.fit(features[:100], classes[:100]).score(features[500:], classes[500:]))


@pytest.mark.slow
def test_features_of_digits_are_better_than_untrained_ones(settings: Make, digits: Any) -> None:
    root, images, classes = digits
    trainer = "trainer={epochs: 8, batch_size: 50, accelerator: cpu}"
    chosen = settings(f"data.root={root}", trainer)
    choices = ["optimizer=adamw", "lr=1e-2", "weight_decay=1e-4", "temperature=0.2", "least_area=0.4"]
    weights = pretrain(chosen, "moco_v3", [*choices, "hidden=256", "outputs=64"], progress=False)
    torch.manual_seed(chosen.seed)
    random = build_model("test_resnet", 10)
    learnt = build_model("test_resnet", 10)
    assert load_pretrained(learnt, weights).matched == 1.0
    with open(weights.parent / "logs" / "version_0" / "metrics.csv") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert losses[-1] < 0.95 * losses[0]
    before, after = (probed(model, images, classes, chosen.transform) for model in (random, learnt))
    assert after > before + 0.03, (before, after)


TWO = """
import sys, torch
from torchvice.config import load_settings
from torchvice.training.pretrain import pretrain
from torchvice.training.selfsupervised import SelfSupervised

def on_train_end(self):
    torch.save({"state": self.state_dict(), "world": self.trainer.world_size}, f"{sys.argv[2]}/{self.global_rank}.pt")

SelfSupervised.on_train_end = on_train_end
if __name__ == "__main__":
    pretrain(load_settings(sys.argv[1]), "moco_v3", ["hidden=16", "outputs=8"], progress=False)
"""


@pytest.mark.slow
def test_two_devices_learn_the_same_network(bare: Make, tmp_path: Path) -> None:
    chosen = bare("trainer.devices=2", "trainer.strategy=ddp", "trainer.epochs=2")
    (tmp_path / "settings.yaml").write_text(dump_settings(chosen))
    (tmp_path / "script.py").write_text(TWO)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "settings.yaml", tmp_path]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["world"] == second["world"] == 2
    trained = [n for n in first["state"] if "running" not in n and "num_batches" not in n]
    assert all(torch.equal(first["state"][n], second["state"][n]) for n in trained)
    weights = chosen.folder.with_name(f"{chosen.session_name}-moco_v3") / "weights.safetensors"
    model, report = taken_over(weights, chosen)
    assert report.matched == 1.0
    own = model.state_dict()
    inside = [n for n in trained if n.startswith("network.") and not n.startswith("network.fc.")]
    assert all(torch.equal(own[n.removeprefix("network.")], first["state"][n]) for n in inside)


def test_a_second_pre_training_in_the_folder_is_refused(bare: Make) -> None:
    chosen = bare()
    folder = chosen.folder.with_name(f"{chosen.session_name}-byol")
    with (
        locked(folder / "training.lock", "x"),
        pytest.raises(ViceError, match=r"A pre-training in .* is already running: process"),
    ):
        pretrained(chosen, "byol")
    assert not list(folder.iterdir())[1:]
