"""Calibration of `strict`: all errors, their null bands, and the errors after temperature and vector scaling."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.inference import too_few_images
from torchvice.measures.sheet import DiagramParts, Sheet
from torchvice.metrics import multilabel_reliability
from torchvice.metrics.bands import NullBand, null_band
from torchvice.metrics.calibration_errors import event_reliability
from torchvice.metrics.calibration_overview import calibration_summary
from torchvice.metrics.scaling import fit_temperature, fit_vector
from torchvice.samples import ProtocolSamples, Samples, probabilities

__all__ = ["put_calibration"]

SIMULATIONS = 1000
FITS = {"temperature": fit_temperature, "vector": fit_vector}
# What scaling is reported by: the losses it lowers, and the errors that it is meant to.
AFTER = ("ece", "ece_pooled", "ece_classwise", "smooth_ece", "ece_l2", "brier", "nll")


def put_calibration(
    sheet: Sheet, diagrams: DiagramParts, samples: Samples, fitted_on: Samples | None, seed: int, simulate: bool
) -> None:
    """Put the calibration errors on the view of `strict`, and those after scaling that is fitted on another split.

    Args:
        sheet, diagrams: where the results go.
        samples: the table.
        fitted_on: the same model's table of another split, on which the scalings are fitted.
        seed: of the null bands.
        simulate: whether there are null bands.

    Raises:
        ViceError: a `fitted_on` of other classes or targets, of another model or view, of the same images, or not
            assessed under `strict`.
    """
    strict, one = _strict(samples), samples.exclusive
    images, simulations = strict.images, SIMULATIONS if simulate else 0
    summary = calibration_summary(images.logits, images.targets, exclusive=one, seed=seed, simulations=simulations)
    sheet.parts["null_bands"], sheet.parts["ece_by_class"] = summary.pop("null_bands"), summary.pop("ece_by_class")
    _note_largest_gap(sheet, strict)
    reasons, intervals = summary.pop("undefined"), summary.pop("intervals")
    for name, value in summary.items():
        sheet.put(f"calibration.{name}", value, reasons.pop(name, ""))
    # Only intervals are left, such as "intervals.ece_l2".
    sheet.undefined |= {name.replace(".", ".calibration."): reason for name, reason in reasons.items()}
    few = too_few_images(len(images))
    for name, limits in intervals.items():
        if few:
            sheet.undefined[f"intervals.calibration.{name}"] = few
        elif limits["low"] is not None and not math.isnan(limits["low"]):
            sheet.intervals[f"calibration.{name}"] = limits
    if fitted_on is not None:
        sheet.parts["scaling"] = _scaled(samples, fitted_on, diagrams, seed if simulate else None)
    if simulate:
        diagrams.bands["strict"] = _band(strict.probabilities, one, seed)


def _note_largest_gap(sheet: Sheet, strict: ProtocolSamples) -> None:
    """Note how many images the bin of the MCE holds: a bin of one image decides it as well as one of a thousand."""
    unit: Any = "top" if strict.exclusive else "image"
    diagram = event_reliability(strict.probabilities, strict.images.targets, unit=unit)
    if not diagram.count.any():
        return
    gaps = np.nan_to_num(np.abs(diagram.confidence - diagram.accuracy), nan=-1.0)
    count = int(diagram.count[gaps.argmax()])
    sheet.notes["calibration.mce"] = f"The bin with the largest gap holds {count} of {diagram.n} images."


def _strict(samples: Samples) -> ProtocolSamples:
    if "strict" not in samples.protocols:
        raise ViceError("Calibration is measured on the view of `strict`, but the table was not assessed for it.")
    return samples.of_protocol("strict")


def _band(probabilities: np.ndarray, exclusive: bool, seed: int) -> NullBand:
    return null_band(probabilities, unit="top" if exclusive else "image", simulations=SIMULATIONS, seed=seed)


def _different_logits(samples: Samples, fitted_on: Samples) -> list[str]:
    """A phrase for each field that logits depend on, known of both tables and different."""
    held, other = _made_by(samples), _made_by(fitted_on)
    if held.get("view") == other.get("view") == "whole":  # images keep their own size
        held.pop("view_size", None)
    return [
        f"`{name}` ({reprlib.repr(held[name])} in the measured one, {reprlib.repr(other[name])} in the other)"
        for name in held
        if name in other and held[name] != other[name]
    ]


def _made_by(samples: Samples) -> dict[str, Any]:
    """What the logits of `strict` depend on, as far as the manifest says it."""
    model, settings = samples.manifest.get("model", {}), samples.manifest.get("map_settings", {})
    found = {"weights_sha256": model["weights_sha256"]} if model.get("weights_sha256") else {}
    if "class_map" in model:
        found["class_map"] = model["class_map"] or [[c] for c in range(len(samples.classes))]
    if settings:
        found["outputs"] = settings.get("outputs") or "logits"  # tables of earlier versions have none
        found |= {name: settings[name] for name in ("view_size", "mean", "std", "output") if settings.get(name)}
        found["interpolation"] = settings.get("interpolation") or "bilinear"  # likewise
        found["precision"] = settings.get("precision") or "that of the weights"
        found |= _transform_of(settings.get("transform"))
        view = settings.get("choices", {}).get("view")
        found |= {"view": view} if view else {}
    plain: dict[str, Any] = json.loads(json.dumps(found))  # as it comes back from a file: tuples are lists there
    return plain


def _transform_of(transform: Mapping[str, Any] | None) -> dict[str, Any]:
    """The user's own transform; digests of its code can be compared where the same version of Python made them."""
    if not transform:
        return {"transform": None}
    plain = {name: value for name, value in transform.items() if name != "code_sha256"}
    python, _, digest = str(transform.get("code_sha256", "")).partition(":")
    return {"transform": plain, **({f"code of the transform in Python {python}": digest} if digest else {})}


def _scaled(samples: Samples, fitted_on: Samples, diagrams: DiagramParts, seed: int | None) -> dict[str, Any]:
    """Temperature and vector scaling, fitted on one split and applied to the other; no band without a seed."""
    if fitted_on.classes != samples.classes or fitted_on.exclusive != samples.exclusive:
        raise ViceError("A scaling is fitted on the same classes and kind of targets, but the tables differ in them.")
    images, other = _strict(samples).images, _strict(fitted_on).images
    different = _different_logits(samples, fitted_on)
    if different:
        raise ViceError(
            f"A scaling is fitted on the same model's logits, but the tables differ in {'; '.join(different)}.",
            "Assess the same model on another split with the same settings, and name that.",
        )
    shared = len(set(images.image_id.tolist()) & set(other.image_id.tolist()))
    if shared:
        raise ViceError(
            f"A scaling is fitted on one split and reported on another, but the tables share {shared} images.",
            "Assess the model on another split, and name that.",
        )
    found: dict[str, Any] = {"fitted_on": {"split": fitted_on.manifest["dataset"].get("split"), "images": len(other)}}
    for name, fit in FITS.items():
        try:
            scaling = fit(other.logits, other.targets, exclusive=samples.exclusive)
        except ViceError as error:
            found[name] = {"undefined": error.message}
            continue
        logits = scaling.apply(images.logits)
        after = calibration_summary(logits, images.targets, exclusive=samples.exclusive, simulations=0)
        found[name] = {"scaling": scaling.to_json(), **{measure: after[measure] for measure in AFTER}}
        if name == "temperature":
            scaled = probabilities(logits, samples.exclusive)
            diagrams.reliability["temperature"] = multilabel_reliability(scaled, images.targets, protocol="strict")
            if seed is not None:
                diagrams.bands["temperature"] = _band(scaled, samples.exclusive, seed)
    return found
