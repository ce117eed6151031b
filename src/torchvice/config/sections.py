"""Sections of the settings: type, range and default of every value."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

# Per channel (red, green, blue), for pixels in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Names of Lightning's loggers; `auto`: csv, and tensorboard where it is installed.
LOGGERS = ("csv", "tensorboard", "wandb", "mlflow", "comet")

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Portion = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Magnitude = Annotated[int, Field(ge=0, le=30)]
Hue = Annotated[float, Field(ge=0, le=0.5)]


def _one_folder(value: str) -> str:
    if re.search(r"[/\\\0]", value) or not value.strip(". "):
        raise ValueError("must be the name of one folder, without slashes")
    return value


FolderName = Annotated[str, AfterValidator(_one_folder)]


class Section(BaseModel):
    """A group of settings: frozen, no unknown names, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would accept `epochs: true` as one epoch.
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind in (int, float, int | None, float | None):
            raise ValueError("must be a number")
        return value


class DataSettings(Section):
    """Location of images, labels and masks, and the split for each purpose."""

    root: str = "voc12"
    train_split: str = "train_aug"
    selection_split: str = "val"  # the checkpoint with the least loss on it is `best`
    eval_split: str = "val"  # the split to assess and measure
    classes: tuple[str, ...] | None = None  # None: classes.txt in `root`, otherwise the 20 of VOC
    labels: Literal["auto", "cls_labels", "annotations", "masks"] = "auto"
    masks: str | None = None  # name of the folder; None: SegmentationClassAug if it exists, otherwise SegmentationClass
    exclusive: bool = False  # one label per image, the classes exclude each other; checked, never guessed
    workers: int = Field(default=4, ge=0)


class ModelSettings(Section):
    """The network: timm's name and the weights to start from."""

    name: str
    pretrained: bool = True
    weights: str | None = None  # a file to start from; takes precedence over `pretrained`
    # Pre-training scheme of that file; auto: recognised by its keys (models/schemes.py).
    scheme: Literal[
        "auto",
        "supervised",
        "moco_v1",
        "moco_v2",
        "moco_v3",
        "moco_v3_momentum",
        "byol",
        "dino",
        "dino_student",
        "densecl",
        "mae",
        "beit",
    ] = "auto"
    arguments: dict[str, Any] = {}  # passed to timm.create_model
    linear_probe: bool = False

    @field_validator("arguments", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value


class TransformSettings(Section):
    """Transform from image to network input. Lengths in pixels; jitter is (brightness, contrast, saturation, hue).

    Where `crop`, `interpolation`, `mean` or `std` is None, the weights decide (training/network_input.py). The settings
    that a training writes hold the values that they had.
    """

    crop: int | None = Field(default=224, ge=1)
    view: Literal["crop", "warp", "resized_crop"] = "crop"
    resize: tuple[int, int] | None = (448, 768)
    area: tuple[Portion, Portion] = (0.35, 1.0)  # share of the image that a resized_crop shows
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)  # its width over its height
    flip: bool = True
    jitter: tuple[NotNegative, NotNegative, NotNegative, Hue] | None = (0.3, 0.3, 0.3, 0.1)
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = "bilinear"
    mean: tuple[float, float, float] | None = None
    std: tuple[Positive, Positive, Positive] | None = None

    @property
    def side(self) -> int:
        """`crop` of settings that are complete, as those that a training writes."""
        assert self.crop is not None
        return self.crop

    @field_validator("resize")
    @classmethod
    def _ordered(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 1 <= value[0] <= value[1]:
            raise ValueError("must be two lengths in pixels, the smaller one first")
        return value

    @field_validator("area", "ratio")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("must be two numbers, the smaller one first")
        return value


class OptimizerSettings(Section):
    """The optimiser. The schedule multiplies the rates; `momentum` is for SGD, and one_cycle moves 0.85 to 0.95."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.01, gt=0)
    backbone_lr: float | None = Field(default=None, gt=0)  # rate of all but the classifier; None: `lr`
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)


class ScheduleSettings(Section):
    """Learning rate schedule (training/schedule.py). `warmup` is for warmup_cosine only."""

    name: Literal["warmup_cosine", "paper", "one_cycle", "constant"] = "warmup_cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)  # share of all steps


class RegularisationSettings(Section):
    """Regularisation in addition to optimizer.weight_decay; everything is off by default.

    `ema` averages the weights over the steps; the average is validated, saved and measured. `patience` stops training
    after so many epochs without a lower val/loss.
    """

    decay_norms: bool = True  # false: no weight decay on norms, biases and timm's no_weight_decay list
    dropout: Share = 0.0  # timm's drop_rate
    drop_path: Share = 0.0  # stochastic depth, timm's drop_path_rate
    label_smoothing: Share = 0.0  # towards 1/2 for multi-label targets, towards 1/C for exclusive ones
    mixup: NotNegative = 0.0  # alpha of the Beta distribution of the mixing weight; 0: off
    cutmix: NotNegative = 0.0  # alpha of the Beta distribution of the box size; with mixup, each batch gets one of both
    mix_probability: Probability = 1.0  # probability that a batch is mixed
    erase: Probability = 0.0  # probability that a random box of an image is erased
    # With masks (training/repairing.py): probability that the objects lie on the background of another image, and
    # probability that the object of one label is removed together with its label.
    swap_background: Probability = 0.0
    erase_object: Probability = 0.0
    randaugment: tuple[Count, Magnitude] | None = None  # number of operations, magnitude out of 30
    ema: Share = 0.0  # decay per step, such as 0.999
    patience: int | None = Field(default=None, ge=1)  # epochs


class TrainerSettings(Section):
    """Length of the training and its devices; named as in Lightning's Trainer."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=16, ge=1)  # per device
    precision: Literal[
        "32-true", "16-mixed", "bf16-mixed", "bf16-true", "16-true", "64-true", "32", "16", "bf16", "64"
    ] = "32-true"
    accelerator: str = "auto"
    devices: Literal["auto"] | int | tuple[int, ...] = 1  # the effective batch grows with their number
    strategy: str = "auto"
    num_nodes: int = Field(default=1, ge=1)
    accumulate: int = Field(default=1, ge=1)  # batches per optimiser step; the last one of an epoch may have fewer
    clip: float | None = Field(default=None, gt=0)  # greatest norm of the gradient
    deterministic: bool = False
    # Log VICE and ECE-ML of `vice_images` images of the selection split after every n-th epoch; 0: never.
    vice_every_n_epochs: int = Field(default=0, ge=0)
    vice_images: int = Field(default=200, ge=3)
    vice_figures: bool = False
    loggers: Literal["auto"] | tuple[Literal["csv", "tensorboard", "wandb", "mlflow", "comet"], ...] = "auto"

    @field_validator("precision", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("devices", mode="before")
    @classmethod
    def _at_least_one_device(cls, value: Any) -> Any:
        if isinstance(value, bool) or value == 0:
            raise ValueError("must be `auto`, a number of devices or a list of their indices")
        return value


class AssessSettings(Section):
    """Input of the model when it is assessed."""

    # Side of the square view in pixels; None: the network's input size.
    view_size: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
