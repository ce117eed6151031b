"""BYOL, MoCo v3, DINO and MAE as LightningModules, with lightly's heads and losses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

import torch
from lightly.loss import DINOLoss, NegativeCosineSimilarity
from lightly.models import modules
from lightly.models.utils import (
    concat_all_gather,
    get_at_index,
    normalize_mean_var,
    patchify,
    random_token_mask,
    update_momentum,
)
from lightly.utils import dist
from lightly.utils.debug import std_of_l2_normalized
from lightly.utils.lars import LARS
from lightly.utils.scheduler import cosine_schedule
from lightning.pytorch import LightningModule
from timm.layers import DropPath  # type: ignore[attr-defined]
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from torch import nn
from torch.nn import functional

from torchvice.errors import ViceError
from torchvice.models.build import classifier_names
from torchvice.training.recipes import Byol, Dino, Mae, MocoV3, SchemeSettings
from torchvice.training.schedule import learning_rate
from torchvice.training.trainer import loss_of_step

__all__ = ["SCHEMES", "SelfSupervised", "is_plain", "pooled"]

_Recipe = TypeVar("_Recipe", bound=SchemeSettings)
Views = list[torch.Tensor]


def pooled(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Compute the input of a timm network's classifier, features (N, D), for images (N, 3, S, S).

    Raises:
        ViceError: the network does not pool its features.
    """
    features, timms = None, cast(Any, network)
    if hasattr(network, "forward_features") and hasattr(network, "forward_head"):
        features = timms.forward_head(timms.forward_features(images), pre_logits=True)
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise ViceError(
            f"Pre-training needs a network that pools its features, but {type(network).__name__} does not.",
            "Leave out model.arguments.global_pool, or choose another network.",
        )
    return features


class SelfSupervised(LightningModule, Generic[_Recipe]):
    """What all schemes share: the network, its optimiser, and moving averages ("slow" copies) of modules.

    Logs `train/loss`, `lr` and, except for MAE, `train/spread`: the mean standard deviation of the L2-normalised
    features, times the square root of D; 0 means collapse.

    Args:
        network: a timm network with a classifier, which is not trained.
        recipe: settings of the scheme.
        images: images per optimiser step, on all devices together.

    Attributes:
        result: name of the submodule whose weights are the result.
    """

    result = "network"

    def __init__(self, network: nn.Module, recipe: _Recipe, images: int) -> None:
        super().__init__()
        for name in classifier_names(network):
            network.get_submodule(name).requires_grad_(False)
        self.network = network.to(memory_format=torch.channels_last)
        self.recipe = recipe
        self.images = images
        self.fast: list[nn.Module] = []  # the modules that `slow` averages, in the same order
        self.slow = nn.ModuleList()
        self.decaying: list[bool] = []  # of the optimiser's groups, in the same order

    def average(self, *fast: nn.Module) -> None:
        """Keep a moving average of each module; the averages receive no gradients."""
        self.fast = list(fast)
        self.slow = nn.ModuleList(_copied(module) for module in fast).requires_grad_(False)
        for module in self.slow.modules():
            if hasattr(module, "drop_rate"):  # timm's dropout that is a function, not a module
                module.drop_rate = cast(Any, 0.0)

    def features(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Compute features (N, D) of images (N, 3, S, S)."""
        return pooled(network, images.contiguous(memory_format=torch.channels_last))

    def loss(self, views: Views) -> torch.Tensor:
        """Compute the loss of a batch: a list of views (N, 3, S, S)."""
        raise NotImplementedError

    def training_step(self, batch: Views, batch_idx: int) -> torch.Tensor:
        """Compute and log the loss of a batch."""
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]), sync_dist=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"], on_step=True, on_epoch=False)  # type: ignore[union-attr]
        return loss_of_step(loss, self.trainer, batch_idx)

    def log_spread(self, features: torch.Tensor) -> None:
        """Log the spread of the features (N, D) of a batch."""
        spread = std_of_l2_normalized(features.detach().float()) * features.shape[1] ** 0.5
        self.log("train/spread", spread, on_step=False, on_epoch=True, batch_size=len(features), sync_dist=True)

    def train(self, mode: bool = True) -> SelfSupervised[_Recipe]:
        """Set training mode; the slow copies use batch statistics too, but no dropout."""
        super().train(mode)
        for module in self.slow.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d | DropPath):
                module.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Set training mode, which Lightning does not do at the start of an epoch."""
        self.train()

    def on_train_epoch_end(self) -> None:
        """Stop a diverged training before it is saved."""
        loss = self.trainer.callback_metrics.get("train/loss")
        if loss is not None and not torch.isfinite(loss):
            raise ViceError(
                f"The training loss must stay finite, but is {float(loss)} in epoch {self.current_epoch + 1}.",
                f"Start again with a lower rate in another folder: --choice lr={self.recipe.lr / 10:g} --out DIR.",
            )

    @property
    def steps(self) -> int:
        """Number of optimiser steps in all epochs."""
        return int(self.trainer.estimated_stepping_batches)

    def momentum(self) -> float:
        """Momentum of the slow copies after this step, from the recipe's value up to 1 by half a cosine."""
        start: float = getattr(self.recipe, "momentum", 1.0)
        return cosine_schedule(min(self.global_step, self.steps), self.steps, start, 1.0)

    @property
    def decays(self) -> tuple[float, float]:
        """Weight decay of the first and of the last step; between them it follows half a cosine."""
        start = self.recipe.weight_decay
        end: float = getattr(self.recipe, "last_weight_decay", start)
        # lightly's LARS scales the rate of a layer only where it decays.
        least = torch.finfo(torch.float32).tiny if self.recipe.optimizer == "lars" else 0.0
        return max(start, least), max(end, least)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Set the weight decay and step the optimiser, then update the slow copies."""
        decay = cosine_schedule(min(self.global_step, self.steps), self.steps, *self.decays)
        for group, decaying in zip(self.optimizers().param_groups, self.decaying, strict=True):  # type: ignore[union-attr]
            group["weight_decay"] = decay if decaying else 0.0
        momentum = self.momentum()
        super().optimizer_step(*args, **kwargs)
        for fast, slow in zip(self.fast, self.slow, strict=True):
            update_momentum(fast, slow, momentum)

    def _groups(self) -> list[dict[str, Any]]:
        """Return the trainable parameters; with weight decay in two groups, since norms and biases have none."""
        no_decay: Any = getattr(self.network, "no_weight_decay", tuple)
        exempt = [f"network.{name}" for name in no_decay()]
        groups = param_groups_weight_decay(self, max(self.decays), no_weight_decay_list=exempt)
        return [group for group in groups if group["params"]]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the state of an earlier version that had no group with weight decay where it starts at 0."""
        if len(checkpoint["optimizer_states"][0]["param_groups"]) != len(self._groups()):
            raise ViceError(
                "This pre-training cannot be resumed: an earlier version of torchvice started it with `weight_decay` 0 "
                "and treated all parameters as norms and biases.",
                "Start again in another folder: --out DIR.",
            )

    def configure_optimizers(self) -> Any:
        """Build the recipe's optimiser, its rate scaled to the images per step."""
        recipe, groups = self.recipe, self._groups()
        self.decaying = [group["weight_decay"] > 0 for group in groups]
        rate = recipe.lr * self.images / 256
        optimizer: torch.optim.Optimizer
        if recipe.optimizer == "lars":
            optimizer = LARS(groups, rate, momentum=0.9)
        elif recipe.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, rate, momentum=0.9)
        else:
            optimizer = torch.optim.AdamW(groups, rate, betas=(0.9, 0.95 if isinstance(recipe, Mae) else 0.999))
        steps = self.steps
        schedule = learning_rate(optimizer, "warmup_cosine", steps=steps, steps_per_epoch=steps, warmup=recipe.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _copied(module: nn.Module) -> nn.Module:
    """Copy a module; torch cannot deepcopy DINO's head, whose last weight is made of two parameters."""
    if not isinstance(module, modules.DINOProjectionHead):
        return copy.deepcopy(module)
    last: nn.Linear = module.last_layer
    first, second = module.layers[0], module.layers[-1]
    twin = modules.DINOProjectionHead(first.in_features, first.out_features, second.out_features, last.out_features)
    twin.load_state_dict(module.state_dict())
    return twin


class ByolModule(SelfSupervised[Byol]):
    """Loss of the paper: 2 - 2 cos of prediction and slow projection, summed over both directions, in [0, 8]."""

    def __init__(self, network: nn.Module, recipe: Byol, images: int, width: int) -> None:
        super().__init__(network, recipe, images)
        self.projector = modules.BYOLProjectionHead(width, recipe.hidden, recipe.outputs)
        self.predictor = modules.BYOLPredictionHead(recipe.outputs, recipe.hidden, recipe.outputs)
        self.average(self.network, self.projector)
        self.distance = NegativeCosineSimilarity()

    def loss(self, views: Views) -> torch.Tensor:
        """Compute the loss of two views."""
        features = [self.features(self.network, view) for view in views]
        predictions = [self.predictor(self.projector(each)) for each in features]
        with torch.no_grad():
            targets = [self.slow[1](self.features(self.slow[0], view)) for view in views]
        self.log_spread(features[0])
        loss: torch.Tensor = 4 + 2 * (
            self.distance(predictions[0], targets[1]) + self.distance(predictions[1], targets[0])
        )
        return loss


class MocoV3Module(SelfSupervised[MocoV3]):
    """Loss: 2 t times the cross-entropy over the batch's images with logits cos / t, summed over both directions."""

    def __init__(self, network: nn.Module, recipe: MocoV3, images: int, width: int) -> None:
        super().__init__(network, recipe, images)
        shape = {"hidden_dim": recipe.hidden, "output_dim": recipe.outputs, "batch_norm": True}
        self.projector = modules.MoCoProjectionHead(width, num_layers=3, **shape)
        self.predictor = modules.MoCoProjectionHead(recipe.outputs, num_layers=2, **shape)
        self.average(self.network, self.projector)
        if recipe.freeze_patches and isinstance(network, VisionTransformer):
            network.patch_embed.requires_grad_(False)

    def loss(self, views: Views) -> torch.Tensor:
        """Compute the loss of two views."""
        features = [self.features(self.network, view) for view in views]
        queries = [self.predictor(self.projector(each)) for each in features]
        with torch.no_grad():
            keys = [self.slow[1](self.features(self.slow[0], view)) for view in views]
        self.log_spread(features[0])
        return self._contrast(queries[0], keys[1]) + self._contrast(queries[1], keys[0])

    def _contrast(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        keys = functional.normalize(keys, dim=1)
        if dist.world_size() > 1:
            keys = concat_all_gather(keys)
        logits = functional.normalize(queries, dim=1) @ keys.T / self.recipe.temperature
        own = torch.arange(len(queries), device=queries.device) + dist.rank() * len(queries)
        return 2 * self.recipe.temperature * functional.cross_entropy(logits, own)


class DinoModule(SelfSupervised[Dino]):
    """Two large views and some small ones; the slow copy, which is the result, gets the large ones only."""

    result = "slow.0"

    def __init__(self, network: nn.Module, recipe: Dino, images: int, width: int) -> None:
        super().__init__(network, recipe, images)
        self.projector = modules.DINOProjectionHead(
            width, recipe.hidden, recipe.bottleneck, recipe.outputs, freeze_last_layer=recipe.fixed_epochs
        )
        self.average(self.network, self.projector)
        self.distance = DINOLoss(
            recipe.outputs,
            recipe.teacher_temperature,
            recipe.teacher_temperature,
            student_temp=recipe.temperature,
            center_momentum=recipe.center_momentum,
        )

    def loss(self, views: Views) -> torch.Tensor:
        """Compute the loss of two large views and any number of small ones."""
        large, small = torch.cat(views[:2]), views[2:]
        features = self.features(self.network, large)
        outputs = list(self.projector(features).chunk(2))
        if small:
            outputs += self.projector(self.features(self.network, torch.cat(small))).chunk(len(small))
        with torch.no_grad():
            targets = list(self.slow[1](self.features(self.slow[0], large)).chunk(2))
        self.log_spread(features[: len(views[0])])
        loss: torch.Tensor = self.distance(targets, outputs)
        return loss

    def on_after_backward(self) -> None:
        """Freeze the last layer in the first epochs."""
        self.projector.cancel_last_layer_gradients(self.current_epoch)


def is_plain(network: nn.Module) -> bool:
    """Whether the network is a vision transformer as in MAE: separate patches, a class token, no other token."""
    return (
        isinstance(network, VisionTransformer)
        and network.num_prefix_tokens == 1
        and network.cls_token is not None
        and isinstance(network.patch_embed.proj, nn.Conv2d)
    )


class MaeModule(SelfSupervised[Mae]):
    """Loss: mean squared error of the masked patches' pixels."""

    def __init__(self, network: Any, recipe: Mae, images: int, width: int) -> None:
        if not is_plain(network):
            raise ViceError(
                f"MAE needs a plain vision transformer with a class token, but is given {type(network).__name__}.",
                "Choose a network such as vit_base_patch16_224, or another scheme.",
            )
        super().__init__(network, recipe, images)
        for name in ("fc_norm", "attn_pool"):  # after the features that the decoder reads
            if isinstance(unused := getattr(network, name, None), nn.Module):
                unused.requires_grad_(False)
        # "skip": lightly's wrapper would reinitialise the transformer.
        # In a list, so that it is not registered: the network is trained and saved as `network`.
        self.masking = [
            modules.MaskedVisionTransformerTIMM(network, weight_initialization="skip", pos_embed_initialization="skip")
        ]
        self.patch = int(network.patch_embed.patch_size[0])
        self.narrow = nn.Linear(network.embed_dim, recipe.decoder_width)
        self.decoder = modules.MaskedVisionTransformerDecoderTIMM(
            num_patches=network.patch_embed.num_patches,
            embed_dim=recipe.decoder_width,
            depth=recipe.decoder_depth,
            num_heads=recipe.decoder_heads,
        )
        self.pixels = nn.Linear(recipe.decoder_width, 3 * self.patch**2)

    def loss(self, views: Views) -> torch.Tensor:
        """Compute the loss of one view."""
        images = views[0]
        shape = (len(images), self.masking[0].sequence_length)
        visible, masked = random_token_mask(shape, self.recipe.masked, device=images.device)
        encoded = self.narrow(self.masking[0].encode(images, idx_keep=visible))
        tokens = self.decoder.mask_token.expand(*shape, -1).to(encoded.dtype)
        tokens = tokens.scatter(1, visible.unsqueeze(-1).expand(-1, -1, encoded.shape[-1]), encoded)
        predictions = self.pixels(get_at_index(self.decoder(tokens), masked))
        targets = get_at_index(patchify(images, self.patch), masked - 1)  # token 0 is the class token
        if self.recipe.normalised:
            targets = normalize_mean_var(targets)
        return functional.mse_loss(predictions, targets)


SCHEMES: Mapping[type[SchemeSettings], Callable[..., SelfSupervised[Any]]] = {
    Byol: ByolModule,
    MocoV3: MocoV3Module,
    Dino: DinoModule,
    Mae: MaeModule,
}
