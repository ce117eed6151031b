"""The registry of methods. A method is a function of a Scene and a line here; users register their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from torchvice.errors import ViceError, did_you_mean
from torchvice.explain.attention import attention_gradient, generic_attention, rollout
from torchvice.explain.attribution import integrated_gradients, saliency, smoothgrad
from torchvice.explain.controls import center, foreground, random
from torchvice.explain.gradient import (
    by_gradient,
    cam,
    eigencam,
    eigengradcam,
    gradcam,
    gradcampp,
    hirescam,
    layercam,
    xgradcam,
)
from torchvice.explain.perturbation import ablationcam, scorecam
from torchvice.explain.relevance import transformer_attribution
from torchvice.explain.scene import Scene

__all__ = ["METHODS", "Method", "method_named", "register"]


@dataclass(frozen=True)
class Method:
    """A way to make maps.

    Args:
        name: what users type.
        run: from a Scene to the network's outputs (N, M) and the maps (P, h, w) of the asked pairs, signed where the
            method is.
        needs: what it takes, in a few words.
        cost: passes through the network, for L labels an image.
        paper: where it comes from.
        sums_channels: whether its map is a sum of weighted channels, which `eigen_smooth` can smooth.
        any_layer: whether its map is of a layer that users may choose, so that those of several can be averaged; None:
            where it sums channels.
    """

    name: str
    run: Callable[[Scene], tuple[torch.Tensor, torch.Tensor]]
    needs: str
    cost: str
    paper: str
    sums_channels: bool = False
    any_layer: bool | None = None

    @property
    def of_layer(self) -> bool:
        """Whether several layers can be asked for."""
        return self.sums_channels if self.any_layer is None else self.any_layer

    def check(self, eigen_smooth: bool = False, layers: int = 1) -> None:
        """Whether the method can be asked so: with `eigen_smooth`, and of that many layers at once.

        Raises:
            ViceError: it sums no channels, or is of none that users may choose.
        """
        if eigen_smooth and not self.sums_channels:
            summing = ", ".join(name for name, known in METHODS.items() if known.sums_channels)
            raise ViceError(
                f"`eigen_smooth` must go with a method that sums weighted channels, but {self.name!r} does not.",
                f"Use one of {summing}; or leave eigen_smooth out.",
            )
        if layers > 1 and not self.of_layer:
            raise ViceError(
                f"`layers` must go with a method whose map is of one layer, but {self.name!r} is not.",
                "Use one of " + ", ".join(name for name, known in METHODS.items() if known.of_layer) + ".",
            )


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Make a method known under its name.

    Raises:
        ViceError: the name is taken.
    """
    if method.name in METHODS:
        raise ViceError(f"A method needs a name of its own, but {method.name!r} is taken.")
    METHODS[method.name] = method
    return method


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ViceError: there is none.
    """
    if name not in METHODS:
        raise ViceError(f"`method` must be a known one, but is {name!r}.", did_you_mean(name, METHODS))
    return METHODS[name]


_BACKWARD = "1 forward, L short backward"
_FULL_BACKWARD = "1 forward, L backward"

for _method in (
    Method("cam", cam, "mean pooling and a linear layer", "1 forward", "Zhou et al., CVPR 2016", True, False),
    Method("gradcam", by_gradient(gradcam), "gradients", _BACKWARD, "Selvaraju et al., ICCV 2017", True),
    Method("gradcampp", by_gradient(gradcampp), "gradients", _BACKWARD, "Chattopadhay et al., WACV 2018", True),
    Method("xgradcam", by_gradient(xgradcam), "gradients", _BACKWARD, "Fu et al., BMVC 2020", True),
    Method("hirescam", by_gradient(hirescam), "gradients", _BACKWARD, "Draelos and Carin, arXiv 2011.08891", True),
    Method("layercam", by_gradient(layercam), "gradients", _BACKWARD, "Jiang et al., IEEE TIP 2021", True),
    Method("eigencam", eigencam, "activations", "1 forward", "Muhammad and Yeasin, IJCNN 2020", any_layer=True),
    Method("eigengradcam", eigengradcam, "gradients", _BACKWARD, "none; from pytorch-grad-cam", any_layer=True),
    Method("scorecam", scorecam, "activations", "1 + D forward, D channels", "Wang et al., CVPR Workshops 2020", True),
    Method(
        "ablationcam",
        ablationcam,
        "activations",
        "1 + D forward from the layer on",
        "Desai and Ramaswamy, WACV 2020",
        True,
    ),
    Method("rollout", rollout, "global attention", "1 forward", "Abnar and Zuidema, ACL 2020"),
    Method(
        "attention_gradient", attention_gradient, "global attention", _BACKWARD, "baseline in Chefer et al., CVPR 2021"
    ),
    Method("generic_attention", generic_attention, "global attention", _FULL_BACKWARD, "Chefer et al., ICCV 2021"),
    Method(
        "transformer_attribution",
        transformer_attribution,
        "a plain ViT with a class token",
        "1 forward in double precision, L backward, L relevance",
        "Chefer et al., CVPR 2021",
    ),
    Method("saliency", saliency, "gradients, captum", "1 forward, L passes", "Simonyan et al., ICLR Workshops 2014"),
    Method("smoothgrad", smoothgrad, "gradients, captum", "1 forward, 25 L passes", "Smilkov et al., arXiv 1706.03825"),
    Method(
        "integrated_gradients",
        integrated_gradients,
        "gradients, captum",
        "1 forward, 50 L passes",
        "Sundararajan et al., ICML 2017",
    ),
    Method("random", random, "nothing", "1 forward", "control: uniform noise"),
    Method("center", center, "nothing", "1 forward", "control: a Gaussian in the middle"),
    Method("foreground", foreground, "nothing", "1 forward", "control: everything is object"),
):
    register(_method)
