"""Effect of each regulariser on batches, weights or epochs, and exact resuming."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, WeightAveraging
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from torchvice.config import Settings
from torchvice.config.sections import RegularisationSettings
from torchvice.data import VocDataset
from torchvice.data.transforms import TrainTransform
from torchvice.errors import ViceError
from torchvice.models.build import build_model
from torchvice.runs import Run
from torchvice.training.averaging import AveragedWeights
from torchvice.training.callback import ViceCallback
from torchvice.training.mixing import Mixing
from torchvice.training.module import Classifier
from torchvice.training.run import _network, train

Make = Callable[..., Settings]
CLASSES = ("red", "green", "blue")


def checkpoint(run: Run) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run.checkpoint("last"), weights_only=True)
    return content


def network(settings: Settings) -> torch.nn.Module:
    from rich.console import Console

    return _network(settings, 3, True, Console(quiet=True))[0]


def batch(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.arange(n, dtype=torch.float32).reshape(n, 1, 1, 1).expand(n, 3, 8, 8).clone()
    return images, (torch.rand(n, 3, generator=generator) > 0.5).float()


def test_nothing_is_on_by_default(settings: Make) -> None:
    images, targets = batch()
    mixing = Mixing(settings().regularisation)
    mixed = mixing(images, targets)
    assert not mixing
    assert mixed[0] is images
    assert mixed[1] is targets
    module = Classifier(network(settings()), settings(), CLASSES)
    logits = torch.randn(6, 3)
    assert torch.equal(module.training_loss(logits, targets), module.loss(logits, targets))


def test_mixup_mixes_labels_like_pixels() -> None:
    images, targets = batch()
    kept = images.clone()
    torch.manual_seed(1)
    mixed, soft = Mixing(RegularisationSettings(mixup=0.8))(images, targets)
    assert torch.equal(images, kept)
    # Image i holds i everywhere, its partner i - 1 (the first one 5): the share can be read off any pixel.
    share = float(mixed[1, 0, 0, 0])  # share * 1 + (1 - share) * 0
    assert 0 < share < 1
    assert torch.allclose(mixed, share * images + (1 - share) * images.roll(1, 0))
    assert torch.allclose(soft, share * targets + (1 - share) * targets.roll(1, 0), atol=1e-6)


def test_cutmix_weighs_labels_by_the_pixels_that_are_left() -> None:
    images, targets = batch()
    torch.manual_seed(3)
    mixed, soft = Mixing(RegularisationSettings(cutmix=1.0))(images, targets)
    own = mixed == images
    share = float(own[1, 0].float().mean())
    assert 0 < share < 1
    assert torch.equal(torch.where(own, images, images.roll(1, 0)), mixed)  # every pixel is of one of both
    assert torch.allclose(soft, share * targets + (1 - share) * targets.roll(1, 0), atol=1e-6)


def test_with_both_a_batch_gets_one_and_the_chance_is_kept() -> None:
    images, targets = batch()
    mixing = Mixing(RegularisationSettings(mixup=1.0, cutmix=1.0, mix_probability=0.5))
    torch.manual_seed(0)
    seen = {"none": 0, "mixup": 0, "cutmix": 0}
    for _ in range(400):
        mixed, _ = mixing(images, targets)
        whole = bool((mixed == mixed.round()).all())  # pasted pixels stay whole numbers
        seen["none" if mixed is images else "cutmix" if whole else "mixup"] += 1
    assert abs(seen["none"] - 200) < 40  # four standard errors of 10
    assert abs(seen["mixup"] - seen["cutmix"]) < 60


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_are_smoothed_in_training_alone(smoothing: float, settings: Make) -> None:
    chosen = settings(f"regularisation.label_smoothing={smoothing}")
    module = Classifier(network(chosen), chosen, CLASSES)
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    targets = torch.tensor([[1.0, 0.0, 0.0]])
    soft = torch.tensor([[0.9, 0.1, 0.1]]) if smoothing else targets
    wanted = functional.binary_cross_entropy_with_logits(logits, soft)
    assert torch.allclose(module.training_loss(logits, targets), wanted)
    assert torch.allclose(module.loss(logits, targets), functional.binary_cross_entropy_with_logits(logits, targets))
    exclusive = settings(f"regularisation.label_smoothing={smoothing}", "data.exclusive=true")
    module = Classifier(network(exclusive), exclusive, CLASSES)
    spread = targets * (1 - smoothing) + smoothing / 3
    assert torch.allclose(module.training_loss(logits, targets), -(spread * logits.log_softmax(1)).sum())


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_does_not_round_targets(settings: Make, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[torch.Tensor] = []
    loss = Classifier.training_loss

    def note(self: Classifier, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        shares.append(targets)
        return loss(self, logits, targets)

    monkeypatch.setattr(Classifier, "training_loss", note)
    train(settings("regularisation.mixup=1", f"trainer.precision={precision}"), progress=False)
    assert {targets.dtype for targets in shares} == {torch.float32}
    assert any(bool((targets.bfloat16() != targets).any()) for targets in shares)


def test_mixed_exclusive_targets_stay_soft(settings: Make) -> None:
    chosen = settings("regularisation.mixup=1", "data.exclusive=true")
    module = Classifier(network(chosen), chosen, CLASSES)
    logits, soft = torch.randn(1, 3), torch.tensor([[0.7, 0.3, 0.0]])
    assert torch.allclose(module.training_loss(logits, soft), -(soft * logits.log_softmax(1)).sum())


def test_dropout_and_stochastic_depth_reach_timm_and_change_a_batch(settings: Make) -> None:
    images = torch.rand(4, 3, 32, 32)
    for override, kind in (("dropout=0.5", "Dropout"), ("drop_path=0.5", "DropPath")):
        chosen = settings("model={name: test_vit, arguments: {img_size: 32}}", f"regularisation.{override}")
        model = network(chosen).train()
        assert any(type(m).__name__ == kind for m in model.modules())
        with torch.no_grad():
            torch.nn.init.normal_(model.get_parameter("head.weight"))
            assert not torch.equal(model(images), model(images))
            model.eval()
            assert torch.equal(model(images), model(images))
    with pytest.raises(ViceError, match=r"`model\.arguments\.drop_rate` and `regularisation\.dropout` must not both"):
        network(settings("model.arguments.drop_rate=0.1", "regularisation.dropout=0.2"))
    with pytest.raises(ViceError, match=r"takes no argument `drop_path_rate`[\s\S]*regularisation\.drop_path"):
        network(settings("model={name: vgg11}", "regularisation.drop_path=0.2"))


def test_norms_and_biases_can_be_spared_from_decay(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings("regularisation.decay_norms=false", "optimizer.weight_decay=0.1", "optimizer.name=sgd")
    module = Classifier(network(chosen), chosen, CLASSES)
    groups = {group["weight_decay"]: group["params"] for group in module._parameter_groups(0.1)}
    assert set(groups) == {0.0, 0.1}
    assert all(p.ndim == 1 for p in groups[0.0])
    assert all(p.ndim > 1 for p in groups[0.1])
    assert sum(map(len, groups.values())) == len(list(module.model.parameters()))
    # One step without a gradient: what decays shrinks by rate times decay, the rest stays.
    before = {n: p.detach().clone() for n, p in module.model.named_parameters()}
    optimizer = torch.optim.SGD(module._parameter_groups(0.1), lr=0.5, weight_decay=0.1)
    for parameter in module.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in module.model.named_parameters():
        factor = 1.0 if before[name].ndim == 1 else 1 - 0.5 * 0.1
        assert torch.allclose(parameter.detach(), factor * before[name])


def test_a_transformers_position_embedding_is_spared_as_timm_says(settings: Make) -> None:
    chosen = settings("model={name: test_vit, arguments: {img_size: 32}}", "regularisation.decay_norms=false")
    module = Classifier(network(chosen), chosen, CLASSES)
    spared = {id(p) for group in module._parameter_groups(0.1) if not group["weight_decay"] for p in group["params"]}
    assert id(module.model.get_parameter("pos_embed")) in spared


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (40, 48, 3), dtype=np.uint8)


def test_erasing_makes_one_box_zero() -> None:
    plain = TrainTransform(32, flip=False, view="warp", mean=(0, 0, 0), std=(1, 1, 1))
    erasing = TrainTransform(32, flip=False, view="warp", mean=(0, 0, 0), std=(1, 1, 1), erase=1.0)
    whole = plain(picture())
    for seed in range(5):
        torch.manual_seed(seed)
        erased = erasing(picture())
        gone = (erased == 0).all(0)
        rows, columns = gone.any(1).nonzero().squeeze(1), gone.any(0).nonzero().squeeze(1)
        assert gone[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # one box, without holes
        assert int(gone.sum()) == len(rows) * len(columns)
        assert 0.01 < gone.float().mean() < 0.36
        assert torch.equal(erased[:, ~gone], whole[:, ~gone])
    with pytest.raises(ViceError, match="`erase` must be a probability"):
        TrainTransform(32, erase=2)


def test_randaugment_changes_the_window_and_follows_the_seed() -> None:
    augment = TrainTransform(32, flip=False, view="warp", randaugment=(2, 15))
    plain = TrainTransform(32, flip=False, view="warp")(picture())
    made = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        made.append(augment(picture()))
    assert torch.equal(made[0], made[1])
    assert sum(not torch.equal(image, plain) for image in made[1:]) >= 3
    assert all(image.shape == (3, 32, 32) and torch.isfinite(image).all() for image in made)
    with pytest.raises(ViceError, match="`randaugment` must be"):
        TrainTransform(32, randaugment=(0, 9))


def test_the_average_is_that_of_the_steps_and_is_what_is_saved(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    end = Classifier.on_train_batch_end

    def note(self: Classifier, *args: Any) -> None:
        seen.append(self.model.get_parameter("fc.weight").detach().clone())
        end(self, *args)

    monkeypatch.setattr(Classifier, "on_train_batch_end", note)
    run = train(settings("regularisation.ema=0.7", "trainer.epochs=2"), progress=False)
    average = seen[0].clone()
    for updates, weight in enumerate(seen[1:], start=1):
        kept = min(0.7, (1 + updates) / (10 + updates))
        average = kept * average + (1 - kept) * weight
    saved = checkpoint(run)
    assert torch.allclose(run.model("last").get_parameter("fc.weight"), average, atol=1e-6)
    assert torch.allclose(saved["current_model_state"]["model.fc.weight"], seen[-1])
    assert not torch.allclose(average, seen[-1])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The weights of the classifier each time that ViceCallback looks at the network."""
    seen: list[torch.Tensor] = []
    views = ViceCallback._views

    def note(self: ViceCallback, pl_module: Any) -> Any:
        seen.append(pl_module.model.get_parameter("fc.weight").detach().clone())
        return views(self, pl_module)

    monkeypatch.setattr(ViceCallback, "_views", note)
    return seen


def test_vice_is_measured_of_the_average(settings: Make, shown: list[torch.Tensor]) -> None:
    watch = ("trainer.vice_every_n_epochs=1", "trainer.vice_images=4")
    run = train(settings("regularisation.ema=0.7", *watch), progress=False)
    assert torch.equal(shown[-1], run.model("last").get_parameter("fc.weight"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [WeightAveraging, EMAWeightAveraging])
def test_vice_is_measured_of_lightnings_own_average(
    settings: Make, shown: list[torch.Tensor], tmp_path: Path, kind: type[WeightAveraging]
) -> None:
    chosen = settings("trainer.epochs=1")
    data = VocDataset(chosen.data.root, "val")
    vice = ViceCallback(data, images=3, protocols=["strict"], view_size=32, crop=32, outputs="logits", workers=0)
    kept = ModelCheckpoint(tmp_path, "end", save_on_train_epoch_end=True)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[kind(), vice, kept], max_epochs=1,
    )  # fmt: skip
    module = Classifier(network(chosen), chosen, CLASSES)
    images, targets = torch.rand(8, 3, 32, 32), torch.eye(3)[torch.arange(8) % 3]
    trainer.fit(module, DataLoader(TensorDataset(images, targets), batch_size=4))
    saved = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert torch.equal(shown[-1], saved["state_dict"]["model.fc.weight"])
    assert not torch.equal(shown[-1], saved["current_model_state"]["model.fc.weight"])


def test_a_loss_that_is_not_finite_after_the_first_epoch_ends_a_training_with_patience(
    settings: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = Classifier.loss

    def late(self: Classifier, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return loss(self, logits, targets) * (1 if self.current_epoch else float("nan"))

    monkeypatch.setattr(Classifier, "loss", late)
    chosen = settings("regularisation.patience=2", "trainer.epochs=3")
    for resume in (False, True):
        with pytest.raises(ViceError, match="validation loss must be finite"):
            train(chosen, resume=resume)
        assert checkpoint(Run(chosen.folder))["epoch"] == 0
    assert "it stopped early after epoch 1" in capsys.readouterr().err


def test_patience_ends_a_training_and_a_resume_leaves_it_ended(
    settings: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    # At rate 1e-12 no epoch is better than the first by anything that float32 could show.
    still = ("optimizer.lr=1e-12", "optimizer.name=sgd", "regularisation.patience=2", "trainer.epochs=9")
    frozen = ("model.linear_probe=true",)  # BatchNorm's statistics rest as well
    run = train(settings(*still, *frozen), progress=False)
    assert checkpoint(run)["epoch"] == 2  # the first, and two that are no better
    assert torch.load(run.checkpoint("best"), weights_only=True)["epoch"] == 0
    train(settings(*still, *frozen), resume=True)
    assert "it stopped early after epoch 3" in capsys.readouterr().err
    assert checkpoint(run)["epoch"] == 2


HARD = (
    "regularisation.mixup=0.4",
    "regularisation.cutmix=1",
    "regularisation.label_smoothing=0.1",
    "regularisation.dropout=0.2",
    "regularisation.erase=0.5",
    "regularisation.swap_background=0.5",
    "regularisation.erase_object=0.2",
    "regularisation.randaugment=[2, 9]",
    "regularisation.ema=0.9",
    "regularisation.decay_norms=false",
    "regularisation.patience=5",
    "transform.flip=true",
)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_resume_sees_the_same_batches(
    settings: Make, workers: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    batches: dict[str, list[float]] = {}
    step = Classifier.training_step

    def note(self: Classifier, batch: Any, batch_idx: int) -> torch.Tensor:
        def look(images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            images, targets = mixing(images, targets)
            batches.setdefault(self.settings.session_name, []).append(float(images.double().sum() + targets.sum()))
            return images, targets

        mixing = self.mixing
        monkeypatch.setattr(self, "mixing", look)
        loss = step(self, batch, batch_idx)
        monkeypatch.setattr(self, "mixing", mixing)
        return loss

    monkeypatch.setattr(Classifier, "training_step", note)
    further = (*HARD, f"data.workers={workers}")
    whole = train(settings("session_name=whole", "trainer.epochs=3", *further), progress=False)
    train(settings("session_name=parts", "trainer.epochs=2", *further), progress=False)
    parts = train(settings("session_name=parts", "trainer.epochs=3", *further), resume=True, progress=False)
    assert len(batches["whole"]) == 15
    assert batches["whole"] == batches["parts"]
    assert len(set(batches["whole"])) == 15  # and no epoch repeats another
    a, b = checkpoint(whole), checkpoint(parts)
    for kept in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, b[kept][name]) for name, value in a[kept].items())


def test_the_run_hands_out_the_plain_network(settings: Make) -> None:
    run = train(settings("regularisation.dropout=0.3"), progress=False)
    plain = build_model("test_resnet", 3)
    assert run.model("last").state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dropout=1", "`regularisation.dropout` must be less than 1"),
        ("mixup=-1", "`regularisation.mixup` must be greater than or equal to 0"),
        ("erase=2", "`regularisation.erase` must be less than or equal to 1"),
        ("swap_background=1.1", "`regularisation.swap_background` must be less than or equal to 1"),
        ("erase_object=-0.1", "`regularisation.erase_object` must be greater than or equal to 0"),
        ("patience=0", "`regularisation.patience` must be greater than or equal to 1"),
        ("randaugment=[2]", "`regularisation.randaugment` "),
        ("cutmixx=1", "`regularisation.cutmixx` is not a setting"),
    ],
)
def test_values_out_of_range_raise(settings: Make, override: str, said: str) -> None:
    with pytest.raises(ViceError) as caught:
        settings(f"regularisation.{override}")
    assert said in str(caught.value)


def test_a_moving_average_forgets_the_first_weights_of_a_short_training() -> None:
    average = AveragedWeights(0.999)
    share = math.prod(average.decay_at(updates) for updates in range(1, 20))
    assert share < 1e-5  # a decay of 0.999 alone would leave 98 %
    assert average.decay_at(100_000) == 0.999
