"""Which maps of a network RefineCAM multiplies."""

import pytest
import torch
from torch import nn

from torchvice import Explainer
from torchvice.models.families import locate
from torchvice.models.stages import stages


class Stages(nn.Module):
    """Three strides; behind the second a module whose output `forward` may read beside its input."""

    def __init__(self, beside, read):
        super().__init__()
        torch.manual_seed(0)
        sizes = {"a": (3, 8), "b": (8, 8), "c": (8, 8)}
        for name, size in sizes.items():
            self.add_module(name, nn.Sequential(nn.Conv2d(*size, 3, 2, 1), nn.ReLU()))
        self.beside, self.read = beside, read
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

    def forward(self, images):
        maps = self.b(self.a(images))
        beside = self.beside(maps)
        return self.fc(self.pool(self.c(maps)).flatten(1)) + (beside.mean() if self.read else 0)


IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
CASES = {
    "a branch that nobody reads": (nn.Conv2d(8, 8, 1), False),
    "a dropout that nobody reads": (nn.Dropout2d(), False),
    "a dropout of one of two readers": (nn.Dropout2d(), True),
}


@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("case", CASES)
def test_a_stage_is_what_all_logits_go_through(case, grad):
    model = Stages(*CASES[case]).eval()
    with grad():
        assert [stage.layer for stage in stages(model, locate(model), 3)] == ["a", "b", "pool"]
    # The product of layercam's maps of these layers, each without its negative part and divided by its maximum.
    maps = [Explainer(model, "layercam", layer=layer)(IMAGES, [[1]]).maps for layer in ("a", "b", "c")]
    scaled = [(one.relu() / one.relu().max())[None] for one in maps]
    sized = [nn.functional.interpolate(one, scaled[0].shape[2:], mode="bilinear") for one in scaled]
    found = Explainer(model, "refinecam")(IMAGES, [[1]]).maps
    torch.testing.assert_close(found, (sized[0] * sized[1] * sized[2])[0], rtol=1e-4, atol=1e-6)
