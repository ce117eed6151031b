"""Maps from the outputs when parts of the image are hidden: RISE and occlusion. Their maps are of the image itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

from torchvice.explain.methods import register
from torchvice.explain.scene import OutputsAndMaps, Scene

__all__ = ["occlusion", "rise"]

Masks = Callable[[slice], torch.Tensor]

RISE_MASKS, RISE_CELLS, RISE_SHOWN = 1000, 7, 0.5
# Cells of the image's height and width; a square of 2 x 2 of them is hidden.
OCCLUSION_CELLS = 14


@register(
    "rise",
    needs="nothing",
    cost="1001 forward",
    paper="Petsiuk et al., BMVC 2018",
    reads="pixels",
)
def rise(scene: Scene) -> OutputsAndMaps:
    """RISE: the sum over 1000 random masks of (y - mean of y) M, divided by their number and by 1/2.

    A mask M is a grid of 7 x 7 cells, each shown with probability 1/2, resized bilinearly and shifted by less than a
    cell; it multiplies the normalised image, so that hidden parts are grey. The passes serve all labels of an image.
    The masks depend on the scene's seed and the image's bytes alone. The paper does not subtract the mean of y, which
    adds nearly the same to every place; with it 0 means no evidence, and fewer masks suffice. y is the logit, in the
    paper a probability.

    Returns:
        outputs (N, M) and maps (P, H, W), signed.

    References:
        Petsiuk et al., RISE: randomized input sampling for explanation of black-box models, BMVC 2018.
    """
    outputs = scene.forward(scene.images)
    image, output = scene.targets_of(outputs)
    maps = scene.images.new_zeros((len(image), *scene.images.shape[2:]), dtype=torch.float32)
    for place, position in enumerate(explained := image.unique().tolist()):
        rows = (image == position).nonzero()[:, 0]
        masks = _rise_masks(scene.seed_of_image(position), scene.images)
        total, weighed = torch.zeros_like(maps[0]), torch.zeros_like(maps[rows])
        mean = torch.zeros_like(output[rows], dtype=torch.float32)
        for shown, scores in _hidden(scene, position, masks, RISE_MASKS, place, len(explained)):
            scores = scores[:, output[rows]] / RISE_MASKS
            weighed += _weighed(scores, shown)
            total += shown.sum(0)
            mean += scores.sum(0)
        maps[rows] = (weighed - mean[:, None, None] * total / RISE_MASKS) / RISE_SHOWN
    return outputs, maps


def _rise_masks(seed: int, images: torch.Tensor) -> Masks:
    """Draw the masks of an image; they are resized batch by batch, since a thousand of them take much memory."""
    stream = torch.Generator().manual_seed(seed)
    grids = (torch.rand((RISE_MASKS, 1, RISE_CELLS, RISE_CELLS), generator=stream) < RISE_SHOWN).float()
    height, width = images.shape[2:]
    cell = [-(-side // RISE_CELLS) for side in (height, width)]
    down, across = (torch.randint(side, (RISE_MASKS,), generator=stream).tolist() for side in cell)
    size = ((RISE_CELLS + 1) * cell[0], (RISE_CELLS + 1) * cell[1])

    def masks(part: slice) -> torch.Tensor:
        large = functional.interpolate(grids[part].to(images.device), size, mode="bilinear", align_corners=False)[:, 0]
        cut = zip(large, down[part], across[part], strict=True)
        return torch.stack([mask[top : top + height, left : left + width] for mask, top, left in cut])

    return masks


@register(
    "occlusion",
    needs="nothing",
    cost="170 forward",
    paper="Zeiler and Fergus, ECCV 2014",
    reads="pixels",
)
def occlusion(scene: Scene) -> OutputsAndMaps:
    """Occlusion: how much the logit falls when a square is grey; the mean over the squares that cover a place.

    The image is divided into 14 x 14 cells. A square covers 2 x 2 of them, a seventh of the height and width, and moves
    by one cell: 169 passes serve all labels of an image. Grey is 0 after normalisation.

    Returns:
        outputs (N, M) and maps (P, 14, 14), signed; fewer places for an image of fewer pixels.

    References:
        Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014.
    """
    outputs = scene.forward(scene.images)
    image, output = scene.targets_of(outputs)
    sides = scene.images.shape[2:]
    grid = [min(OCCLUSION_CELLS, side) for side in sides]
    # The cell of every row and column of pixels, and the cells that each square covers.
    down, across = (torch.arange(side) * cells // side for side, cells in zip(sides, grid, strict=True))
    corners = torch.cartesian_prod(*(torch.arange(max(1, cells - 1)) for cells in grid))
    beyond = [torch.arange(cells) - corners[:, [axis]] for axis, cells in enumerate(grid)]
    rows_of, columns_of = ((cells >= 0) & (cells < 2) for cells in beyond)
    covered = (rows_of[:, :, None] & columns_of[:, None]).float().to(scene.images.device)
    maps = scene.images.new_zeros((len(image), *grid), dtype=torch.float32)

    def masks(part: slice) -> torch.Tensor:
        return 1 - covered[part][:, down][:, :, across]

    for place, position in enumerate(explained := image.unique().tolist()):
        rows = (image == position).nonzero()[:, 0]
        hidden = [scores for _, scores in _hidden(scene, position, masks, len(corners), place, len(explained))]
        falls = outputs[position, output[rows]].float() - torch.cat(hidden)[:, output[rows]]
        maps[rows] = _weighed(falls, covered) / covered.sum(0)
    return outputs, maps


def _weighed(scores: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The sums (P, h, w) of masks (B, h, w) times scores (B, P), in float32 also under autocast: they cancel."""
    with torch.autocast(masks.device.type, enabled=False):
        return torch.einsum("bp,bhw->phw", scores, masks)


def _hidden(
    scene: Scene, image: int, masks: Masks, count: int, place: int, places: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield, in full batches, the masks (B, H, W) of an image and its outputs (B, M) under them.

    Args:
        masks: gives some of the masks, by number; `count` is how many there are.
        place, places: the image's number among those explained, and theirs, for `progress`.
    """
    passes = -(-count // scene.batch_size)
    for number in range(passes):
        shown = masks(slice(number * scene.batch_size, min((number + 1) * scene.batch_size, count)))
        yield shown, scene.forward(scene.images[image] * shown[:, None].to(scene.images.dtype)).float()
        scene.report_progress(place * passes + number + 1, places * passes)
