"""The sections of the settings: what each value may be, and what it is when nothing is said."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "AssessSettings",
    "DataSettings",
    "ModelSettings",
    "OptimizerSettings",
    "RegularisationSettings",
    "ScheduleSettings",
    "Section",
    "TrainerSettings",
    "TransformSettings",
]

# Of the pixels in [0, 1], red, green, blue; the constants that ImageNet training made customary.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Magnitude = Annotated[int, Field(ge=0, le=30)]
Hue = Annotated[float, Field(ge=0, le=0.5)]


class Section(BaseModel):
    """A group of settings: frozen, no unknown names, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would read `epochs: true` as one epoch.
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind in (int, float, int | None, float | None):
            raise ValueError("must be a number")
        return value


class DataSettings(Section):
    """Where the images, labels and masks are, and which split serves what."""

    root: str = "voc12"
    train_split: str = "train_aug"
    selection_split: str = "val"  # its loss chooses the checkpoint `best`
    eval_split: str = "val"  # what is measured
    classes: tuple[str, ...] | None = None  # None: classes.txt of the root, else VOC's twenty
    labels: Literal["auto", "cls_labels", "annotations", "masks"] = "auto"
    masks: str | None = None  # the folder's name; None: SegmentationClassAug where it is, else SegmentationClass
    exclusive: bool = False  # one label an image: the classes are alternatives; checked, never guessed
    workers: int = Field(default=4, ge=0)


class ModelSettings(Section):
    """The network: a timm name and what it starts from."""

    name: str
    pretrained: bool = True
    weights: str | None = None  # a file to start from; it goes before `pretrained`
    # How that file was pre-trained; auto: told by its keys (models/schemes.py).
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
    arguments: dict[str, Any] = {}  # passed on to timm.create_model
    linear_probe: bool = False

    @field_validator("arguments", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value


class TransformSettings(Section):
    """From image to network input. Lengths in pixels; jitter is brightness, contrast, saturation, hue."""

    crop: int = Field(default=224, ge=1)
    view: Literal["crop", "warp"] = "crop"
    resize: tuple[int, int] | None = (448, 768)
    flip: bool = True
    jitter: tuple[NotNegative, NotNegative, NotNegative, Hue] | None = (0.3, 0.3, 0.3, 0.1)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD

    @field_validator("resize")
    @classmethod
    def _ordered(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 1 <= value[0] <= value[1]:
            raise ValueError("must be two lengths in pixels, the smaller one first")
        return value


class OptimizerSettings(Section):
    """The optimiser; `lr` is the full rate that the schedule multiplies. `momentum` is SGD's alone."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)


class ScheduleSettings(Section):
    """How the rate goes over the training (training/schedule.py). `warmup` is warmup_cosine's alone."""

    name: Literal["warmup_cosine", "paper", "one_cycle", "constant"] = "warmup_cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)  # of all steps


class RegularisationSettings(Section):
    """What keeps a network from learning its images by heart, beside optimizer.weight_decay; nothing of it is on.

    `ema` averages the weights over the steps, and the average is what is validated, saved and measured; `patience` ends
    the training after so many epochs without a lower val/loss.
    """

    decay_norms: bool = True  # false: no weight decay on norms and biases, nor where timm says that it harms
    dropout: Share = 0.0  # timm's drop_rate
    drop_path: Share = 0.0  # stochastic depth, timm's drop_path_rate
    label_smoothing: Share = 0.0  # several labels: towards one half; exclusive ones: towards 1/C
    mixup: NotNegative = 0.0  # alpha of the Beta that weighs two images; 0: none
    cutmix: NotNegative = 0.0  # alpha of the Beta that sizes the pasted box; with mixup, one of both for each batch
    mix_probability: Probability = 1.0  # of a batch to be mixed at all
    erase: Probability = 0.0  # of an image to lose a random box
    randaugment: tuple[Count, Magnitude] | None = None  # operations, magnitude of 30
    ema: Share = 0.0  # decay by step, such as 0.999
    patience: int | None = Field(default=None, ge=1)  # epochs


class TrainerSettings(Section):
    """How long and on what; the names are those of Lightning's Trainer."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=16, ge=1)  # per device
    precision: Literal[
        "32-true", "16-mixed", "bf16-mixed", "bf16-true", "16-true", "64-true", "32", "16", "bf16", "64"
    ] = "32-true"
    accelerator: str = "auto"
    devices: Literal["auto"] | int | tuple[int, ...] = 1  # more of them: the batch grows with their number
    strategy: str = "auto"
    num_nodes: int = Field(default=1, ge=1)
    accumulate: int = Field(default=1, ge=1)  # batches per step of the optimiser
    clip: float | None = Field(default=None, gt=0)  # norm of the gradient
    deterministic: bool = False
    # VICE and ECE-ML of some images of the selection split, logged after every n-th epoch; 0: never.
    vice_every_n_epochs: int = Field(default=0, ge=0)
    vice_images: int = Field(default=200, ge=3)
    vice_figures: bool = False

    @field_validator("precision", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("devices", mode="before")
    @classmethod
    def _some_devices(cls, value: Any) -> Any:
        if isinstance(value, bool) or value == 0:
            raise ValueError("must be `auto`, a number of devices or a list of their indices")
        return value


class AssessSettings(Section):
    """How the trained model is looked at."""

    # The side of the square view, pixels; None: the network's input size.
    view_size: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
