"""Zero-shot classifiers of open_clip and transformers: an image tower and the encoded names of the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from torchvice.errors import ViceError
from torchvice.models.bare import bare, input_like
from torchvice.models.folders import pixels_of
from torchvice.models.probe import eval_and_frozen
from torchvice.models.prompts import Prompts

__all__ = ["ZeroShot", "zero_shot"]

_TEXTS = 128  # that are encoded at once
_WAY_OUT = "Give the processor of the model in place of its tokenizer, or `mean` and `std`."


class ZeroShot(nn.Module):
    """A classifier of class names: logits (N, C) of images (N, 3, H, W).

    The logit of a class is scale * cosine(image, texts of the class) + bias. `classifier` holds the encoded texts
    times the scale.

    Args:
        tower: images (N, 3, H, W) to features (N, D), or to a tuple that begins with them.
        texts: (C, D), the features of each class, of length 1.
        scale, bias: of the cosine.
        side: of the images in pixels. mean, std: of the channels of images on [0, 1].

    Attributes:
        prompts: the texts of each class.
    """

    def __init__(
        self,
        tower: nn.Module,
        texts: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        pixels: tuple[tuple[int, int], Sequence[float], Sequence[float]],
        prompts: Prompts,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.classifier = nn.Linear(texts.shape[1], texts.shape[0], bias=bias is not None)
        self.classifier.to(texts.device, texts.dtype)
        with torch.no_grad():
            self.classifier.weight.copy_(scale * texts)
            if bias is not None:
                self.classifier.bias.copy_(bias.expand(len(texts)))
        self.prompts = prompts
        size, mean, std = pixels
        # As networks of timm state them.
        self.pretrained_cfg = {"input_size": (3, *size), "mean": tuple(mean), "std": tuple(std)}

    @property
    def biased(self) -> bool:
        """Whether each logit has a meaning by itself, as SigLIP's; of CLIP's, only the differences have."""
        return self.classifier.bias is not None

    @property
    def network(self) -> nn.Module:
        """The network in the tower: timm's or transformers', or open_clip's own."""
        inner = getattr(self.tower, "trunk", None) or getattr(self.tower, "network", None)
        return inner if isinstance(inner, nn.Module) else self.tower

    @property
    def patch_embed(self) -> Any:
        """The patch embedding of timm's networks, else None."""
        return getattr(self.network, "patch_embed", None)

    @property
    def num_prefix_tokens(self) -> Any:
        """The number of tokens before the patches in timm's networks, else None."""
        return getattr(self.network, "num_prefix_tokens", None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of images (N, 3, H, W)."""
        features = self.tower(images)
        features = features[0] if isinstance(features, tuple | list) else features
        logits: torch.Tensor = self.classifier(functional.normalize(features, dim=-1))
        return logits


class _Vision(nn.Module):
    """The image tower of a model of transformers: images to the features that its texts are compared with."""

    def __init__(self, network: nn.Module, projection: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.projection = nn.Identity() if projection is None else projection

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.projection(self.network(pixel_values=images).pooler_output)
        return features


def zero_shot(
    model: nn.Module,
    tokenizer: Callable[..., Any],
    classes: Sequence[str],
    prompts: Prompts | Mapping[str, str | Sequence[str]] | Sequence[str] | str | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ZeroShot:
    """Make a classifier of class names; it shares the image tower with the model.

    The features of a class are the mean of those of its texts, of length 1 before and after.

    Args:
        model: of open_clip (its image tower is `visual`), or a CLIPModel or SiglipModel of transformers.
        tokenizer: open_clip's tokenizer; transformers' tokenizer or processor, which states mean and std.
        classes: names, in the order of the outputs.
        prompts: see `torchvice.models.prompts.Prompts.of`.
        mean, std: of the channels of images on [0, 1]; None: those that the model or the processor states.

    Returns:
        ZeroShot, in eval mode.

    Raises:
        ViceError: another model, prompts that do not fit the classes or are too long, or mean and std that nothing
            states.

    Example:
        model, _, _ = open_clip.create_model_and_transforms("ViT-B-32", pretrained="laion2b_s34b_b79k")
        classifier = zero_shot(model, open_clip.get_tokenizer("ViT-B-32"), dataset.classes)
        samples = torchvice.assess(classifier, dataset)
    """
    clip: Any = bare(model)
    written = prompts if isinstance(prompts, Prompts) else Prompts.of(classes, prompts)
    with eval_and_frozen(clip, gradients=False):
        tower, encode, stated = _parts_of(clip, tokenizer)
        texts = _encoded(written, encode)
    size, own_mean, own_std = stated
    mean, std = own_mean if mean is None else mean, own_std if std is None else std
    if mean is None or std is None:
        message = "A zero-shot classifier needs the mean and std of its images, but they are not stated."
        raise ViceError(message, _WAY_OUT)
    bias = getattr(clip, "logit_bias", None)
    scale = clip.logit_scale.detach().exp()
    made = ZeroShot(tower, texts, scale, None if bias is None else bias.detach(), (size, mean, std), written)
    return made.eval()


def _parts_of(clip: Any, tokenizer: Any) -> tuple[nn.Module, Callable[[list[str]], torch.Tensor], Any]:
    """The image tower, the encoder of texts, and the size, mean and std that the model states."""
    if hasattr(clip, "encode_text") and isinstance(getattr(clip, "visual", None), nn.Module):
        return _of_open_clip(clip, tokenizer)
    if hasattr(clip, "get_text_features") and hasattr(clip, "vision_model"):
        return _of_transformers(clip, tokenizer)
    raise ViceError(
        f"A zero-shot classifier needs a model of open_clip, or a CLIPModel or SiglipModel of transformers, but the "
        f"model is a {type(clip).__name__}.",
        "Write a module whose forward compares images with encoded texts, and give that.",
    )


def _encoded(prompts: Prompts, encode: Callable[[list[str]], torch.Tensor]) -> torch.Tensor:
    """The features (C, D) of each class: the mean over its texts, of length 1."""
    texts = [text for group in prompts.texts for text in group]
    parts = [encode(texts[start : start + _TEXTS]) for start in range(0, len(texts), _TEXTS)]
    features = functional.normalize(torch.cat(parts), dim=-1).split([len(group) for group in prompts.texts])
    made = functional.normalize(torch.stack([group.mean(0) for group in features]), dim=-1)
    rows: dict[tuple[float, ...], int] = {}
    for place, row in enumerate(made.float().tolist()):
        if (other := rows.setdefault(tuple(row), place)) != place:
            one, two = prompts.texts[other][0], prompts.texts[place][0]
            message = f"Each class needs prompts of its own, but {one!r} and {two!r} are the same to the model."
            raise ViceError(message, "Change one of them; if they differ, the tokenizer is not that of the model.")
    return made


def _of_open_clip(model: Any, tokenizer: Any) -> tuple[nn.Module, Callable[[list[str]], torch.Tensor], Any]:
    def encode(texts: list[str]) -> torch.Tensor:
        _check_lengths(texts, getattr(tokenizer, "encode", None), getattr(tokenizer, "context_length", None), 2)
        features: torch.Tensor = model.encode_text(tokenizer(texts).to(input_like(model).device))
        return features

    size = model.visual.image_size
    said = getattr(model.visual, "preprocess_cfg", None) or {}
    pixels = _two(size), said.get("mean"), said.get("std")
    return model.visual, encode, pixels


def _of_transformers(model: Any, processor: Any) -> tuple[nn.Module, Callable[[list[str]], torch.Tensor], Any]:
    tokenizer = getattr(processor, "tokenizer", processor)
    longest = model.config.text_config.max_position_embeddings
    # SigLIP is trained on texts that are padded to the full length, and without a mask.
    padded = getattr(model, "logit_bias", None) is not None

    def encode(texts: list[str]) -> torch.Tensor:
        _check_lengths(texts, lambda text: tokenizer(text)["input_ids"], longest, 0)
        fill = {"padding": "max_length", "max_length": longest} if padded else {"padding": True}
        inputs = tokenizer(texts, return_tensors="pt", **fill)
        names = ("input_ids",) if padded else ("input_ids", "attention_mask")
        features = model.get_text_features(**{n: inputs[n].to(input_like(model).device) for n in names if n in inputs})
        return features if isinstance(features, torch.Tensor) else features.pooler_output

    images = getattr(processor, "image_processor", None)
    _, mean, std = (None, None, None) if images is None else pixels_of(images.to_dict())
    tower = _Vision(model.vision_model, getattr(model, "visual_projection", None))
    return tower, encode, (_two(model.config.vision_config.image_size), mean, std)


def _two(size: int | Sequence[int]) -> tuple[int, int]:
    """(H, W) of a side or of two."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _check_lengths(texts: Sequence[str], tokens: Any, longest: int | None, more: int) -> None:
    """Refuse texts that the tokenizer would cut without a word."""
    if tokens is None or longest is None:
        return
    for text in texts:
        if (length := len(tokens(text)) + more) > longest:
            message = f"A prompt must have at most {longest} tokens, but one has {length}: {text[:60]!r} ..."
            raise ViceError(message, "Shorten it.")
