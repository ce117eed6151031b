"""Where pytorch-grad-cam 1.5.7 departs from the papers, each difference shown; docs/explanations.md lists them."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from torchvice.explain.gradient import eigen_smooth, gradcampp, layercam, weighted_map, xgradcam
from torchvice.explain.perturbation import _masks


@pytest.fixture(scope="module")
def peer():
    return importlib.import_module("pytorch_grad_cam")


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn((1, 6, 4, 5), generator=generator).relu()
    return activations, torch.randn((1, 6, 4, 5), generator=generator)


def weights_of(kind, activations, gradients):
    """The peer's weights, without a network."""
    return kind.get_cam_weights(None, None, None, None, activations.numpy(), gradients.numpy())


def test_gradcampp_leaves_out_the_exponential_and_pads_the_divisor(peer):
    activations, gradients = tensors()
    theirs = weights_of(peer.GradCAMPlusPlus, activations, gradients)
    np.testing.assert_allclose(gradcampp(activations, gradients)[..., 0, 0], theirs, rtol=1e-5)
    # The paper, equations 10 and 19: Y = exp(S) has gradient Y G; the share is free of Y.
    score = 1.7
    square, cube = gradients**2, gradients**3
    share = square / (2 * square + activations.sum((2, 3), keepdim=True) * cube)
    paper = (share * (np.exp(score) * gradients).relu()).sum((2, 3))
    torch.testing.assert_close(torch.tensor(theirs) * np.exp(score), paper, rtol=1e-3, atol=1e-3)  # one factor for all
    small = [weights_of(peer.GradCAMPlusPlus, activations, gradients * scale) / scale for scale in (1, 1e-4)]
    assert np.abs(small[1] - small[0]).max() > 0.5 * np.abs(small[0]).max()  # the padding shows


def test_xgradcam_pads_the_divisor(peer):
    activations, gradients = tensors(1)
    activations[0, 0] = 0
    theirs = weights_of(peer.XGradCAM, activations, gradients)
    np.testing.assert_allclose(xgradcam(activations, gradients)[..., 0, 0], theirs, rtol=1e-5)
    assert theirs[0, 0] == 0  # the paper divides 0 by 0


def test_layercam_leaves_out_the_scaling_of_early_layers(peer):
    activations, gradients = tensors(2)
    theirs = peer.LayerCAM.get_cam_image(None, None, None, None, activations.numpy(), gradients.numpy(), False)
    ours = weighted_map(layercam(activations, gradients), activations)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    paper = np.tanh(2 * theirs / theirs.max())  # with the gamma of 2 of the paper
    assert np.abs(paper - theirs / theirs.max()).max() > 0.1


def test_components_are_centred_and_have_no_sign():
    project = importlib.import_module("pytorch_grad_cam.utils.svd_on_activations").get_2d_projection
    activations, _ = tensors(3)
    theirs = project(activations.numpy())
    ours = eigen_smooth(activations, activations.sum(1)).numpy()
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=0, atol=1e-4)
    flat = activations[0].flatten(1).T.numpy()
    paper = (flat @ np.linalg.svd(flat)[2][0]).reshape(theirs.shape)
    assert np.abs(np.abs(theirs) - np.abs(paper)).max() > 0.1 * np.abs(paper).max()  # the paper does not centre
    signs = set()
    for seed in range(20):
        activations, _ = tensors(seed)
        brightness = activations.sum(1).numpy()
        signs.add(np.sign((project(activations.numpy()) * (brightness - brightness.mean())).sum()))
    assert signs == {-1.0, 1.0}  # of twenty maps some are dark where the activations are


def test_scorecam_aligns_corners_and_takes_the_logit(peer):
    channel = torch.tensor([[[0.0, 1.0], [2.0, 5.0]]])
    image, seen = torch.ones(1, 3, 4, 4), []

    class Logits(torch.nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.mean((2, 3)) * torch.tensor([4.0, 1.0, 0.0])

    cam = SimpleNamespace(device=torch.device("cpu"), model=Logits(), batch_size=4)
    both = torch.stack([channel, channel.flip(-1).square()], 1)
    theirs = peer.ScoreCAM.get_cam_weights(cam, image, None, [lambda output: output[0]], both.numpy(), None)
    aligned = torch.nn.functional.interpolate(channel[None], (4, 4), mode="bilinear", align_corners=True)[0] / 5
    torch.testing.assert_close(seen[0][0, :1], aligned)
    torch.testing.assert_close(_masks(channel, torch.Size((4, 4))), aligned)
    other = torch.nn.functional.interpolate(channel[None], (4, 4), mode="bilinear", align_corners=False)[0] / 5
    assert float((other - aligned).abs().max()) > 0.05
    logits = Logits()(seen[0])
    np.testing.assert_allclose(theirs[0], logits[:, 0].softmax(0), rtol=1e-5)
    assert float((logits.softmax(1)[:, 0].softmax(0) - logits[:, 0].softmax(0)).abs().max()) > 0.05


def test_six_augmented_copies_leave_the_maximum_below_one(peer):
    torch.manual_seed(0)
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)]
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), *head).eval()
    target = [peer.utils.model_targets.ClassifierOutputTarget(0)]
    with peer.GradCAM(model=model, target_layers=[model[1]]) as cam:
        image = torch.randn(1, 3, 8, 8)
        assert cam(image, target).max() == pytest.approx(1, abs=1e-4)
        assert cam(image, target, aug_smooth=True).max() < 0.99
