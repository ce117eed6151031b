"""The face: `import torchvice` is cheap, and every public name is there when it is asked for."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys

import pytest

import torchvice


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_loads_neither_torch_nor_numpy() -> None:
    loaded = json.loads(run("import json, sys, torchvice; print(json.dumps(sorted(sys.modules)))"))
    packages = {name.split(".")[0] for name in loaded}
    assert not packages & {"torch", "numpy", "scipy", "matplotlib", "lightning", "timm", "pyarrow", "pydantic"}
    assert [name for name in loaded if name.startswith("torchvice")] == ["torchvice"]


def test_asking_for_the_error_loads_no_numpy() -> None:
    assert run("import sys, torchvice; torchvice.ViceError; print('numpy' in sys.modules)").strip() == "False"


def test_every_public_name_is_what_it_says() -> None:
    kinds = {
        "Explainer": inspect.isclass,
        "Explanation": inspect.isclass,
        "Measures": inspect.isclass,
        "Samples": inspect.isclass,
        "ViceError": inspect.isclass,
        "assess": inspect.isfunction,
        "assess_maps": inspect.isfunction,
        "evaluate": inspect.isfunction,
        "measure": inspect.isfunction,
        "metrics": inspect.ismodule,
        "rank": inspect.isfunction,
        "show_case": inspect.isfunction,
        "__version__": lambda value: isinstance(value, str),
    }
    assert set(torchvice.__all__) == set(kinds)
    for name, fits in kinds.items():
        assert fits(getattr(torchvice, name)), name


@pytest.mark.slow
def test_a_public_name_is_no_module_after_any_import() -> None:
    # A module of a function's name takes its place in the package as soon as anybody imports it.
    program = (
        "import importlib, inspect, pkgutil, torchvice\n"
        "for module in pkgutil.walk_packages(torchvice.__path__, 'torchvice.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print([name for name in torchvice.__all__ if inspect.ismodule(getattr(torchvice, name))])\n"
    )
    assert run(program).strip() == "['metrics']"


def test_dir_lists_the_face_and_nothing_else() -> None:
    assert dir(torchvice) == sorted(torchvice.__all__)
    assert dir(torchvice.metrics) == sorted(torchvice.metrics.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'torchvice' has no attribute 'Explain'"):
        torchvice.Explain  # noqa: B018
    assert not hasattr(torchvice, "loss")


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert torchvice.__version__ == version("torchvice")


def test_every_metric_is_there() -> None:
    for name in torchvice.metrics.__all__:
        assert callable(getattr(torchvice.metrics, name)), name
    elsewhere = {
        "bands": "NullBand",
        "binning": "equal_count_means equal_mass_edges equal_mass_index equal_width_edges equal_width_index",
        "boxes": "BoxAccuracy box_iou box_planes map_boxes",
        "calibration": "Reliability",
        "calibration_errors": "ClasswiseEce calibration_events event_reliability",
        "consistency": "Vice",
        "debiased": "DebiasedError",
        "losses": "log_softmax",
        "multilabel": "PrecisionRecall sample_f1 sample_precision",
        "scaling": "LogitScaling",
    }
    for module, text in elsewhere.items():
        names = text.split()
        found = importlib.import_module(f"torchvice.metrics.{module}")
        assert all(getattr(torchvice.metrics, name) is getattr(found, name) for name in names), module
    assert not hasattr(torchvice.metrics, "no_such_measure")
    assert not hasattr(torchvice.metrics, "Sequence")  # what a module itself imports
