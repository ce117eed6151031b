"""The engine: equal to the published maps, exact under every mode of the caller, and leaving no trace."""

import copy
import gc
import resource
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from torchvice import Explainer, ViceError
from torchvice.assessment import MapSettings
from torchvice.assessment.views import views_of
from torchvice.data.transforms import normalise
from torchvice.explain import METHODS, Method, map_status, upsample
from torchvice.explain import normalise as normalise_maps
from torchvice.models.families import MapSite
from variants import slow_but

REFERENCE = Path(__file__).parents[1] / "reference"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def cam_reference():
    return np.load(REFERENCE / "F_cam.npz")


@pytest.fixture(scope="module")
def resnet(cam_reference):
    model = timm.create_model("test_resnet", num_classes=20)
    weights = {key[3:]: torch.tensor(cam_reference[key]) for key in cam_reference if key.startswith("sd/")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return model


@pytest.fixture(scope="module")
def vit():
    found = np.load(REFERENCE / "H_gradcam.npz")
    model = timm.create_model("vit_tiny_patch16_224", num_classes=20, embed_dim=48, depth=3, num_heads=4)
    model.load_state_dict({key[3:]: torch.tensor(found[key]) for key in found if key.startswith("sd/")})
    return model, found


class Toy(nn.Module):
    """Two channels, their mean, a linear layer: CAM can be worked out by hand."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(2, 3)

    def forward(self, x):
        return self.fc(self.act(self.features(x)).mean((2, 3)))


def test_cam_equals_the_published_maps(resnet, cam_reference):
    explainer = Explainer(resnet)
    assert explainer.method == "cam"
    for name in cam_reference["names"]:
        x = normalise(cam_reference[f"{name}/rgb"], MEAN, STD)
        found = explainer(torch.stack([x, x.flip(-1)]), [range(20)] * 2)
        low = found.maps.reshape(2, 20, *found.maps.shape[1:]).clamp(min=0)
        np.testing.assert_allclose(low, cam_reference[f"{name}/raw_lowres_cam"], atol=1e-4)
        keys = torch.tensor(cam_reference[f"{name}/keys"])
        there, back = (upsample(maps[keys], x.shape[1:]) for maps in low)
        cams = normalise_maps(there + back.flip(-1), "paper")
        np.testing.assert_allclose(cams, cam_reference[f"{name}/cams"], atol=1e-4)


def test_gradcam_on_a_vit_equals_the_reference(vit):
    model, reference = vit
    images = torch.stack([normalise(rgb, MEAN, STD) for rgb in reference["resized_rgb"]])
    found = Explainer(model)(images, reference["classes"].tolist())
    np.testing.assert_allclose(found.logits, reference["logits"], atol=1e-5)
    expected = [
        reference[f"{name}/c{c}/raw14"]
        for name, classes in zip(reference["names"], reference["classes"], strict=True)
        for c in classes
    ]
    np.testing.assert_allclose(found.maps, expected, atol=1e-7)  # the maps are about 0.01


def test_gradcam_of_a_pooled_linear_head_is_cam_over_the_number_of_places(resnet):
    # d logit / d A[k, y, x] = w[k] / (h w): the mean gradient is the weight over the number of places.
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    cam = Explainer(resnet, "cam")(images, [[0, 5], [7]])
    grad = Explainer(resnet, "gradcam")(images, [[0, 5], [7]])
    places = cam.maps.shape[1] * cam.maps.shape[2]
    torch.testing.assert_close(grad.maps * places, cam.maps, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grad.logits, cam.logits)


def test_a_toy_by_hand():
    model = Toy()
    with torch.no_grad():
        model.features.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[..., None, None])
        model.fc.weight.copy_(torch.tensor([[2.0, -1.0], [0.0, 1.0], [1.0, 1.0]]))
    image = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]], [[9.0, 9.0]]]])  # red 1 3, green 2 0
    # Class 0: mean gradients 2/2 and -1/2 of two places: red - green / 2 = [0, 3].
    found = Explainer(model, "gradcam", layer="act")(image, [[0, 1]])
    assert found.maps[0].tolist() == [[0.0, 3.0]]
    assert found.maps[1].tolist() == [[1.0, 0.0]]
    assert found.pairs.tolist() == [[0, 0], [0, 1]]
    # The layer before an in-place ReLU: red -0.5 1.5, green 0.5 -1.5 are kept, not what the ReLU writes over them. Its
    # gate leaves gradients 0 1 for red and -1/2 0 for green, means 1/2 and -1/4: [-1/4 - 1/8, 3/4 + 3/8].
    before = Explainer(model, "gradcam", layer="features")(image - 1.5, [[0]])
    assert before.maps[0].tolist() == [[-0.375, 1.125]]


def test_batch_size_and_order_do_not_change_a_map(vit):
    model, _ = vit
    images = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    labels = [[3, 1], [], [0], [2, 5, 7]]
    whole = Explainer(model)(images, labels)
    single = torch.cat([Explainer(model)(images[i : i + 1], labels[i : i + 1]).maps for i in (0, 2, 3)])
    torch.testing.assert_close(whole.maps, single, rtol=1e-4, atol=1e-7)
    turned = Explainer(model)(images.flip(0), labels[::-1])
    torch.testing.assert_close(turned.maps[-2:], whole.maps[:2], rtol=1e-4, atol=1e-7)


def test_arrays_of_0_and_1_name_classes_as_tensors_do(resnet):
    images, explainer = torch.zeros(2, 3, 64, 64), Explainer(resnet, "gradcam")
    classes = explainer.logits(images).shape[1]
    shown = np.zeros((2, classes), np.uint8)
    shown[0, [1, 4]] = shown[1, 2] = 1
    for labels in (shown, shown.astype(bool), shown.astype(float), torch.tensor(shown), lambda _: shown):
        assert explainer(images, labels).pairs.tolist() == [[0, 1], [0, 4], [1, 2]]
    with pytest.raises(ViceError, match=r"`labels` must be \(N, .*\) of 0 and 1, but has shape \(2, 1\)"):
        explainer(images, np.array([[0], [1]]))
    rows = shown.astype(bool)
    for truths in (rows.tolist(), list(rows), list(torch.tensor(rows))):
        with pytest.raises(ViceError, match="must be class indices, but holds truth values") as caught:
            explainer(images, truths)
        followed = eval(caught.value.way_out.split(": ")[1].rstrip("."), {"labels": truths, "numpy": np})
        assert explainer(images, followed).pairs.tolist() == [[0, 1], [0, 4], [1, 2]]


def test_a_scaled_classifier_row_scales_cam(resnet):
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    before = Explainer(resnet)(images, [[4]]).maps
    with torch.no_grad():
        resnet.fc.weight[4] *= 3
    try:
        torch.testing.assert_close(Explainer(resnet)(images, [[4]]).maps, 3 * before)
    finally:
        with torch.no_grad():
            resnet.fc.weight[4] /= 3


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [False, True])
def test_works_in_every_mode_of_the_caller(vit, mode, frozen):
    model, _ = vit
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    expected = Explainer(model)(images, [[2]]).maps
    model.requires_grad_(not frozen)
    try:
        with mode():
            found = Explainer(model)(images.clone(), [[2]])
            assert torch.is_grad_enabled() == (mode is torch.enable_grad)
            torch.testing.assert_close(found.maps, expected)
        assert not found.maps.requires_grad
    finally:
        model.requires_grad_(True)


def _state(model):
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    modes = [module.training for module in model.modules()]
    grads = [(p.requires_grad, p.grad) for p in model.parameters()]
    return hooks, modes, grads, {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("method", ["cam", "gradcam"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_restored(resnet, method, fails):
    resnet.train()
    resnet.layer1.eval()  # a mixture of modes must survive
    before = _state(resnet)
    explainer = Explainer(resnet, method)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    if fails:
        with pytest.raises(ViceError, match="below 20"):
            explainer(images, [[0], [99]])
    else:
        explainer(images, [[0], [1]])
    after = _state(resnet)
    assert before[:3] == after[:3]
    assert all(torch.equal(before[3][name], after[3][name]) for name in before[3])
    assert not any("torchvice" in name for name in vars(resnet))
    assert torch.is_grad_enabled()
    resnet.eval()


MANY = [
    "finercam",
    "shapleycam",
    "refinecam",
    "smoothgradcampp",
    "scorecam",
    "ablationcam",
    "reciprocam",
    "rise",
    "occlusion",
]


@pytest.mark.parametrize("method", [*MANY, "legrad"])
@pytest.mark.parametrize("number", slow_but([1, 4], 4))
def test_an_exception_in_any_pass_restores_the_model(method, number):
    model = timm.create_model("test_vit" if method == "legrad" else "test_resnet", num_classes=3).train()
    explainer = Explainer(model, method, batch_size=8)
    before, passes = _state(model), []
    if method == "refinecam":
        number = min(number, 2)  # the pass that finds its layers, then its own

    def stop(*_):
        passes.append(1)
        if len(passes) == number:
            raise RuntimeError("stop")

    head = dict(model.named_modules())["head" if method == "legrad" else "fc"]
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(4))
    with head.register_forward_pre_hook(stop):
        if number > 1 and method in ("finercam", "shapleycam"):  # one pass
            explainer(images[:1], [[0]])
        else:
            with pytest.raises(ViceError, match="raises RuntimeError: stop"):
                explainer(images[:1], [[0]])
    after = _state(model)
    assert before[:3] == after[:3]
    assert all(torch.equal(before[3][name], after[3][name]) for name in before[3])
    assert not any("torchvice" in name for name in vars(model))
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.is_grad_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
    if method not in ("rise", "occlusion"):  # of many passes
        assert len(explainer(images[:1], [[0]]).maps) == 1


def test_autocast_of_the_caller_gives_float32_maps(resnet):
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    expected = Explainer(resnet, "gradcam")(images, [[1]]).maps
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Explainer(resnet, "gradcam")(images, [[1]]).maps
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_is_explained_uncompiled(in_place):
    torch.manual_seed(0)  # some draws leave every unit dead, which is refused
    model = Toy().eval()
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(8))
    expected = Explainer(model, "gradcam", layer="features")(images, [[0], [1, 2]])
    seen = []

    def backend(graph, _):  # torch's "eager" one, which says when it runs
        return lambda *args: seen.append(1) or graph.forward(*args)

    if in_place:
        model.compile(backend=backend)
    compiled = model if in_place else torch.compile(model, backend=backend)
    with torch.no_grad():
        compiled(images)  # code without hooks is there before anyone asks for a map
        assert len(seen) == 1
        found = Explainer(compiled, "gradcam", layer="features")(images, [[0], [1, 2]])
        assert len(seen) == 1
        compiled(images)
        assert len(seen) == 2  # and is in place again
    torch.testing.assert_close(found.maps, expected.maps)
    torch.testing.assert_close(found.logits, expected.logits)


def test_a_scripted_model_is_refused():
    with pytest.raises(ViceError, match="scripted"):
        Explainer(torch.jit.script(Toy().eval()), "gradcam", layer="act")


@pytest.mark.parametrize("method", ["cam", "gradcam", "hirescam", "eigencam", "scorecam"])
def test_channels_last_changes_no_map(resnet, method):
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(9))
    expected = Explainer(resnet, method)(images, [[0, 5], [7]]).maps
    model = copy.deepcopy(resnet).to(memory_format=torch.channels_last)
    for shown in (images, images.contiguous(memory_format=torch.channels_last)):
        found = Explainer(model, method)(shown, [[0, 5], [7]]).maps
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("method", ["gradcam", "layercam", "eigencam", "ablationcam"])
def test_a_bf16_model_gives_the_maps_of_float32_within_its_precision(resnet, method):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(10))
    expected = Explainer(resnet, method)(images, [[1], [2]]).maps
    found = Explainer(copy.deepcopy(resnet).bfloat16(), method)(images.bfloat16(), [[1], [2]])
    assert found.maps.dtype == torch.float32
    peak = expected.abs().amax((1, 2), keepdim=True)
    torch.testing.assert_close(found.maps / peak, expected / peak, rtol=0, atol=0.1)
    # Eight bits are not nothing: the maps are alike, not just small.
    alike = torch.nn.functional.cosine_similarity(found.maps.flatten(1), expected.flatten(1))
    assert float(alike.min()) > 0.99


def test_a_mirrored_image_has_the_mirrored_map_by_perturbation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1), nn.ReLU())
    model = nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        for conv in (model[0][0], model[0][2]):
            conv.weight.copy_((conv.weight + conv.weight.flip(-1)) / 2)
    images = torch.randn(2, 3, 12, 10)
    for method in ("scorecam", "ablationcam"):
        there = Explainer(model, method, layer="0")(images, [[0, 2], [1]])
        back = Explainer(model, method, layer="0")(images.flip(-1), [[0, 2], [1]])
        peak = float(there.maps.abs().max())
        assert peak > 0
        assert not torch.allclose(there.maps, there.maps.flip(-1), atol=0.1 * peak)  # the images are not symmetric
        torch.testing.assert_close(back.maps.flip(-1), there.maps, rtol=0, atol=1e-4 * peak)


def test_the_map_is_at_a_planted_object_that_drives_the_logit():
    model = Toy()
    with torch.no_grad():
        model.features.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[..., None, None])
        model.fc.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    image = torch.zeros(1, 3, 8, 8)
    image[0, 0, 1:3, 4:7] = 5.0  # red object
    image[0, 1, 6:, :2] = 9.0  # a brighter green one, of another class
    found = Explainer(model, "gradcam", layer="act")(image, [[0]])
    assert torch.equal(found.maps[0] > 0, image[0, 0] > 0)


def test_class_map_takes_the_largest_of_several_outputs(resnet):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(6))
    outputs = Explainer(resnet)(images, [[], []]).logits
    explainer = Explainer(resnet, class_map=[[3], [0, 7]])
    found = explainer(images, [[0, 1], [1]])
    torch.testing.assert_close(found.logits, torch.stack([outputs[:, 3], outputs[:, [0, 7]].max(1).values], 1))
    best = 0 if outputs[1, 0] > outputs[1, 7] else 7
    torch.testing.assert_close(found.maps[2], Explainer(resnet)(images[1:], [[best]]).maps[0])
    with pytest.raises(ViceError, match="class_map"):
        Explainer(resnet, class_map=[[20]])(images, [[], []])


def test_labels_as_a_target_matrix(resnet):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    targets = torch.zeros(2, 20)
    targets[0, 4] = targets[0, 9] = targets[1, 0] = 1
    assert Explainer(resnet)(images, targets).pairs.tolist() == [[0, 4], [0, 9], [1, 0]]


def test_refusals():
    resnet = timm.create_model("test_resnet", num_classes=3)
    vit = timm.create_model("test_vit", num_classes=3)
    images = torch.zeros(1, 3, *vit.patch_embed.img_size)
    with pytest.raises(ViceError, match="method='gradcam'"):
        Explainer(vit, "cam")
    with pytest.raises(ViceError, match="Did you mean"):
        Explainer(resnet, "gradcamm")
    with pytest.raises(ViceError, match="layer4"):
        Explainer(resnet, layer="layer5")
    with pytest.raises(ViceError, match=r"must be \(N, 3, H, W\)"):
        Explainer(resnet)(images[0], [[0]])
    with pytest.raises(ViceError, match="one list for each"):
        Explainer(resnet)(images, [[0], [1]])
    with pytest.raises(ViceError, match="must accept"):
        Explainer(vit)(torch.zeros(1, 3, 50, 50), [[0]])
    # Behind the last block a class-token head reads no patch: the gradient there is zero.
    last = f"blocks.{len(vit.blocks) - 1}"
    if vit.global_pool == "token":
        with pytest.raises(ViceError, match="must not vanish"):
            Explainer(vit, layer=last)(images, [[0]])
    with pytest.raises(ViceError, match="Only one of"):
        Explainer(resnet, layer="layer1", site=MapSite("layer1"))


def test_map_status():
    maps = torch.tensor([[[-1.0, 2.0]], [[-1.0, -2.0]], [[3.0, 3.0]], [[float("nan"), 1.0]], [[float("inf"), 1.0]]])
    assert map_status(maps) == ("ok", "zero", "constant", "nan", "nan")


def test_normalisations_by_hand():
    maps = torch.tensor([[[0.0, 1.0, 4.0]], [[0.0, 0.0, 0.0]]])
    assert normalise_maps(maps, "max")[0].tolist() == [[0.0, 0.25, 1.0]]
    assert normalise_maps(maps + 1, "minmax")[0].tolist() == [[0.0, 0.25, 1.0]]
    assert normalise_maps(maps, "max")[1].tolist() == [[0.0, 0.0, 0.0]]
    paper = normalise_maps(maps, "paper")
    # (4 - 1e-5) / (4 + 1e-5), and a dead map is -1 everywhere.
    assert paper[0, 0, 2] == pytest.approx((4 - 1e-5) / (4 + 1e-5))
    assert paper[1].tolist() == [[-1.0, -1.0, -1.0]]
    with pytest.raises(ViceError, match="one of"):
        normalise_maps(maps, "sigmoid")


def _grown(explainer, images, batches):
    """Tensors, and bytes of memory where the system tells, that so many batches leave behind."""

    def now():
        gc.collect()
        statm = Path("/proc/self/statm")
        pages = int(statm.read_text().split()[1]) if statm.is_file() else 0
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()), pages * resource.getpagesize()

    for _ in range(20):  # what is made once is made
        explainer(images, [[0, 1], [2]])
    before = now()
    for _ in range(batches):
        explainer(images, [[0, 1], [2]])
    return [after - first for after, first in zip(now(), before, strict=True)]


QUICK = ["gradcam", "random"]
LIGHT = [
    "cam",
    "layercam",
    "eigencam",
    "scorecam",
    "ablationcam",
    "finercam",
    "shapleycam",
]


@pytest.mark.parametrize("method", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LIGHT)])
def test_memory_does_not_grow_over_1000_batches(method):
    images = torch.rand(2, 3, 64, 64)  # 64 KiB at the layer, which 1000 graphs would keep 1000 times
    tensors, size = _grown(Explainer(Toy(), method, layer="act"), images, 1000)
    assert tensors == 0
    assert size < 12 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("method", ["smoothgradcampp", "reciprocam", "occlusion", "rise"])
def test_memory_does_not_grow_over_1000_batches_of_many_passes(method, monkeypatch):
    monkeypatch.setattr("torchvice.explain.hiding.RISE_MASKS", 40)
    images = torch.rand(2, 3, 16, 16)
    explainer = Explainer(Toy(), method, site=MapSite("act"))
    tensors, size = _grown(explainer, images, 1000)
    assert tensors == 0
    assert size < 12 * 2**20


OF_TRANSFORMERS = ["legrad", "rollout", "attention_gradient", "generic_attention", "transformer_attribution"]
OF_TRANSFORMERS += ["attnlrp", "cp_lrp", "attnlrp_gamma", "lrp_zplus"]
OF_TRANSFORMERS += ["libragrad", "libragrad_gradcam", "libragrad_attention", "saliency"]


@pytest.mark.slow
@pytest.mark.parametrize("method", OF_TRANSFORMERS)
def test_memory_does_not_grow_over_1000_batches_of_a_transformer(method):
    sizes = {"img_size": 32, "depth": 1, "embed_dim": 24, "num_heads": 2, "num_classes": 5}
    explainer = Explainer(timm.create_model("vit_tiny_patch16_224", **sizes), method)
    tensors, size = _grown(explainer, torch.rand(2, 3, 32, 32), 1000)
    assert tensors == 0
    assert size < 12 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("method", ["refinecam", "attnlrp", "attnlrp_gamma", "lrp_zplus", "libragrad"])
def test_memory_does_not_grow_over_1000_batches_of_a_resnet(method):
    explainer = Explainer(timm.create_model("test_resnet", num_classes=5), method)
    tensors, size = _grown(explainer, torch.rand(2, 3, 64, 64), 1000)
    assert tensors == 0
    assert size < 12 * 2**20


def test_growing_memory_is_measured():
    kept = []

    def leaking(scene):
        seen = scene.run_network(gradients=True)
        with torch.enable_grad():
            kept.append(seen.leaf.square().sum())  # its graph keeps the leaf, where Python does not see it
        image, _ = scene.targets_of(seen.outputs)
        return seen.outputs, seen.activations[image, 0]

    METHODS["leaking"] = Method("leaking", leaking, "", "", "")
    try:
        tensors, size = _grown(Explainer(Toy(), "leaking", layer="act"), torch.rand(2, 3, 128, 128), 1000)
    finally:
        del METHODS["leaking"]
    assert tensors >= 1000
    assert size > 12 * 2**20


def test_paper_maps_of_a_transformer_are_those_of_the_published_pipeline(vit):
    """pytorch-grad-cam scales a map at low resolution and again at 224 pixels; the last resize is the pipeline's."""
    model, reference = vit
    settings = MapSettings("gradcam", view_size=224, crop=224, mean=MEAN, std=STD, device="cpu")
    view = views_of(model, ("paper",), settings)["paper"]
    targets = np.zeros((len(reference["names"]), 20), int)
    for row, classes in zip(targets, reference["classes"], strict=True):
        row[classes] = 1
    for position, seen in view.run(list(reference["resized_rgb"]), targets):
        name = reference["names"][position]
        for c, found in zip(seen.classes, seen.full((224, 224)), strict=True):
            np.testing.assert_allclose(found[::4, ::4], reference[f"{name}/c{c}/map224"], atol=2e-6)
