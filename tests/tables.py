"""Small assessments made by hand: scenes of a few pixels, counted one by one, and the table that holds the counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from torchvice.samples import HISTOGRAM_BINS, Images, Maps, Regions, Samples

THRESHOLDS = (0.0, 0.1, 0.3, 0.5)
VIEWS = {"paper": ("crop", "paper:cam"), "strict": ("warp", "strict:cam")}
VOID = 255
COUNTED = (
    *("image_id", "explanation", "label", "status", "mask_pixels"),
    *("predicted", "intersection", "inside", "outside"),
)
OWN = ("energy_inside", "energy_outside", "pointing", "otsu_predicted", "otsu_intersection")


@dataclass(frozen=True)
class Scene:
    """An image: its true classes, its mask (rows of labels) or None, and of each protocol logits and maps by class."""

    image_id: str
    targets: tuple[int, ...]
    mask: tuple[tuple[int, ...], ...] | None
    logits: dict[str, tuple[float, ...]]
    maps: dict[str, dict[int, tuple[tuple[float, ...], ...]]]

    def true(self) -> list[int]:
        return [c for c, y in enumerate(self.targets) if y]


def counts(scene: Scene, protocol: str) -> dict[int, tuple[int, list[int], list[int]]]:
    """Of every label the mask's pixels and, at each threshold, the predicted and shared ones: a loop over pixels."""
    assert scene.mask is not None
    maps = scene.maps[protocol]
    labels = sorted({0, *(c + 1 for c in maps), *(v for row in scene.mask for v in row if v != VOID)})
    found = {label: (0, [0] * len(THRESHOLDS), [0] * len(THRESHOLDS)) for label in labels}
    for y, row in enumerate(scene.mask):
        for x, truth in enumerate(row):
            if truth == VOID:
                continue
            pixels, said, shared = found[truth]
            found[truth] = (pixels + 1, said, shared)
            for t, threshold in enumerate(THRESHOLDS):
                best = max(sorted(maps), key=lambda c: maps[c][y][x], default=None)
                label = best + 1 if best is not None and maps[best][y][x] > threshold else 0
                found[label][1][t] += 1
                if label == truth:
                    found[label][2][t] += 1
    return found


def own_counts(plane: Any, mask: Any, label: int) -> dict[str, float]:
    """Energy, pointing and Otsu of one map: loops over the pixels that are not void, and over Otsu's splits."""
    pixels = [(v, m == label) for row, truth in zip(plane, mask, strict=True) for v, m in zip(row, truth, strict=True)]
    values, truths = [v for v, _ in pixels], [m for row in mask for m in row]
    seen = [pixel for pixel, m in zip(pixels, truths, strict=True) if m != VOID]
    low, high = min(values), max(values)
    found = dict.fromkeys(OWN, np.nan)
    if seen:
        top = [own for v, own in seen if v == max(v for v, _ in seen)]
        energies = (sum(max(v, 0) for v, own in seen if own is side) for side in (True, False))
        found |= dict(zip(OWN, (*energies, sum(top) / len(top)), strict=False))
    if seen and high > low:
        middles, best = [low + (k + 0.5) * (high - low) / 256 for k in range(256)], (-1.0, 0.0)
        binned = [min(int((v - low) / (high - low) * 256), 255) for v in values]
        for k in sorted(set(binned))[:-1]:
            under, over = ([middles[b] for b in binned if (b <= k) is side] for side in (True, False))
            spread = len(under) * len(over) * (sum(under) / len(under) - sum(over) / len(over)) ** 2
            best = max(best, (spread, -middles[k]))
        above = [own for v, own in seen if v > np.float32(-best[1])]
        found |= {"otsu_predicted": len(above), "otsu_intersection": sum(above)}
    return found


def scenes(count: int, seed: int = 0, classes: int = 3, unmasked: int = 2) -> list[Scene]:
    """Scenes at random; the last `unmasked` have no mask, and some true labels have no pixel."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        true = np.sort(rng.choice(classes, rng.integers(1, classes + 1), replace=False))
        targets = tuple(int(c in true) for c in range(classes))
        mask = rng.choice([0, 0, VOID, *(true + 1), *(true + 1)], (3, 4))
        planes = {n: {int(c): (rng.integers(0, 9, (3, 4)) / 8 + (mask == c + 1)) / 2 for c in true} for n in VIEWS}
        if i % 4 == 1:
            mask[mask == true[-1] + 1] = 0  # a label without a pixel
        if i % 4 == 2:
            planes["strict"][int(true[0])][mask == true[0] + 1] = 0  # an object that is missed
        maps = {name: {c: _rows(plane) for c, plane in by_class.items()} for name, by_class in planes.items()}
        # Multiples of 1/64, which float32 holds exactly.
        drawn = {name: rng.normal(0, 1.5, classes) + 2 * np.array(targets) - 1 for name in VIEWS}
        logits = {name: tuple(np.round(values * 64) / 64) for name, values in drawn.items()}
        has_mask = i < count - unmasked
        made.append(Scene(f"{2007 + i % 5}_{i:06d}", targets, _rows(mask) if has_mask else None, logits, maps))
    return made


def _rows(array: np.ndarray) -> Any:
    return tuple(tuple(row) for row in array.tolist())


def table_of(made: list[Scene], protocols: tuple[str, ...] = ("paper", "strict"), **manifest: Any) -> Samples:
    """The table of scenes, in their order."""
    images: dict[str, list[Any]] = {name: [] for name in Images.__dataclass_fields__}
    regions: dict[str, list[Any]] = {name: [] for name in (*COUNTED, *OWN)}
    maps: dict[str, list[Any]] = {name: [] for name in Maps.__dataclass_fields__}
    for scene in made:
        for protocol in protocols:
            _add_image(images, scene, protocol)
            if scene.mask is not None:
                _add_regions(regions, maps, scene, protocol)
    planes = np.empty(len(maps["map"]), dtype=object)
    for row, plane in enumerate(maps.pop("map")):
        planes[row] = np.array(plane, dtype=np.float16)
    whole = {
        "classes": ["cat", "dog", "bus", "sofa"][: len(made[0].targets) if made else 3],
        "thresholds": list(THRESHOLDS),
        "targets": "multilabel",
        "explanations": {VIEWS[name][1]: {"method": "cam", "role": "headline"} for name in protocols},
        "protocols": {name: dict(zip(("view", "explanation"), VIEWS[name], strict=True)) for name in protocols},
        "model": {"type": "Toy"},
        "dataset": {"root": "nowhere"},
        "versions": {"torchvice": "0"},
    }
    kinds = {"targets": np.uint8, "logits": np.float32, "height": np.int32, "width": np.int32, "label": np.int64}
    return Samples(
        {**whole, **manifest},
        Images(**{name: _column(values, kinds.get(name)) for name, values in images.items()}),
        _shaped({name: _column(values) for name, values in regions.items()}),
        Maps(**{name: _column(values, kinds.get(name)) for name, values in maps.items()}, map=planes),
    )


def _shaped(columns: dict[str, np.ndarray]) -> Regions:
    if not len(columns["image_id"]):
        bins, levels = np.zeros((0, HISTOGRAM_BINS), np.int64), np.zeros((0, len(THRESHOLDS)), np.int64)
        columns |= {name: np.zeros(0, np.int64) for name in ("label", "mask_pixels")}
        columns |= dict.fromkeys(("predicted", "intersection"), levels) | dict.fromkeys(("inside", "outside"), bins)
        columns |= {name: np.zeros(0) for name in OWN}
    return Regions.of(**columns)


def _add_image(images: dict[str, list[Any]], scene: Scene, protocol: str) -> None:
    row = {
        "image_id": scene.image_id,
        "view": VIEWS[protocol][0],
        "height": 3,
        "width": 4,
        "has_mask": scene.mask is not None,
        "targets": scene.targets,
        "logits": scene.logits[protocol],
        "image_digest": "",
        "mask_digest": "",
    }
    for name, column in images.items():
        column.append(row.get(name, np.nan))


def _add_regions(regions: dict[str, list[Any]], maps: dict[str, list[Any]], scene: Scene, protocol: str) -> None:
    for label, (pixels, said, shared) in counts(scene, protocol).items():
        plane = scene.maps[protocol].get(label - 1)
        row = {
            "image_id": scene.image_id,
            "explanation": VIEWS[protocol][1],
            "label": label,
            "status": "none" if plane is None else "ok" if np.any(plane) else "zero",
            "mask_pixels": pixels,
            "predicted": said,
            "intersection": shared,
            "inside": np.zeros(HISTOGRAM_BINS, np.int64),
            "outside": np.zeros(HISTOGRAM_BINS, np.int64),
            "map": plane,
            **dict.fromkeys(OWN, np.nan),
        }
        if plane is not None:
            row |= own_counts(plane, scene.mask, label)
        for name, column in regions.items():
            column.append(row[name])
        if plane is not None:
            for name, column in maps.items():
                column.append(row[name])


def _column(values: list[Any], kind: Any = None) -> np.ndarray:
    text = (not values and kind is None) or (values and isinstance(values[0], str))
    return np.array(values, dtype=object if text else kind)
