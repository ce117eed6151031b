"""Write the class maps that torchvice ships: which of ImageNet's 1000 outputs mean which class of VOC, COCO and so on.

    python experiments/class_maps.py [FOLDER]

The order of the outputs, their WordNet ids and lemmas are those of timm (timm.data.ImageNetInfo). The choice of synsets
below was made by hand, after WordNet 3.0's hypernyms: a class takes the synsets below its own, such as all breeds below
`dog, domestic dog`. Exceptions are commented.
"""

from __future__ import annotations

import sys
from pathlib import Path

from timm.data import ImageNetInfo

from torchvice.data import VOC_CLASSES

FOLDER = Path(__file__).parents[1] / "src" / "torchvice" / "presets" / "class_maps"

# fmt: off
COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)

# WordNet ids, or (first, last) of a run in the order of the outputs.
Synsets = tuple[str | tuple[str, str], ...]
BOTH: dict[str, Synsets] = {
    "bicycle": ("n02835271", "n03792782"),  # bicycle-built-for-two, mountain bike
    "bird": (("n01514668", "n01622779"), ("n01795545", "n01860187"), ("n02002556", "n02058221")),
    # Boats and ships: both data sets call ships boats.
    "boat": ("n02687172", "n02951358", "n02981792", "n03095699", "n03344393", "n03447447", "n03662601", "n03673027",
             "n03947888", "n04147183", "n04273569", "n04483307", "n04612504"),
    "bottle": ("n02823428", "n03937543", "n03983396", "n04557648", "n04591713"),
    "bus": ("n03769881", "n04146614", "n04487081"),
    "car": ("n02701002", "n02814533", "n02930766", "n03100240", "n03594945", "n03670208", "n03770679", "n03777568",
            "n04037443", "n04285008"),
    "cat": (("n02123045", "n02124075"),),
    "chair": ("n02791124", "n03376595", "n04099969", "n04429376"),
    "cow": ("n02403003",),  # ox; water buffalo and bison are other species
    "dog": (("n02085620", "n02113978"),),
    "horse": ("n02389026",),  # sorrel
    "sheep": ("n02412080", "n02415577"),  # ram, bighorn
    "train": ("n02917067", "n03272562", "n03393912", "n03895866", "n04310018"),  # engines and cars; no streetcar
}
AEROPLANE: Synsets = ("n02690373", "n04552348")
DINING_TABLE: Synsets = ("n03201208",)
MOTORBIKE: Synsets = ("n03785016", "n03791053")  # moped, motor scooter: ImageNet has no motorcycle
POTTED_PLANT: Synsets = ("n03991062",)  # pot, flowerpot: its pictures show the plant, too
SOFA: Synsets = ("n04344873",)
SCREENS: Synsets = ("n03782006", "n04152593", "n04404412")  # monitor, screen, television

# Not in VOC's: person. ImageNet's baseball player, groom and scuba diver are persons, but not what VOC means by one.
VOC: dict[str, Synsets] = BOTH | {
    "aeroplane": AEROPLANE,
    "diningtable": DINING_TABLE,
    "motorbike": MOTORBIKE,
    "pottedplant": POTTED_PLANT,
    "sofa": SOFA,
    "tvmonitor": SCREENS,
}
# Not in COCO's: classes without a synset, and kite, because ImageNet's kite is a bird.
COCO: dict[str, Synsets] = BOTH | {
    "airplane": AEROPLANE,
    "dining table": DINING_TABLE,
    "motorcycle": MOTORBIKE,
    "potted plant": POTTED_PLANT,
    "couch": SOFA,
    "tv": SCREENS,
    "truck": ("n03345487", "n03417042", "n03796401", "n03930630", "n04461696", "n04467665"),
    "traffic light": ("n06874185",),
    "parking meter": ("n03891332",),
    "bench": ("n03891251",),
    "elephant": ("n02504013", "n02504458"),
    "bear": (("n02132136", "n02134418"),),
    "zebra": ("n02391049",),
    "backpack": ("n02769748",),
    "umbrella": ("n04507155",),
    "handbag": ("n04026417",),  # purse
    "tie": ("n02865351", "n02883205", "n04591157"),
    "skis": ("n04228054",),
    "sports ball": ("n02799071", "n02802426", "n03134739", "n03445777", "n03942813", "n04118538", "n04254680",
                    "n04409515", "n04540053"),
    "tennis racket": ("n04039381",),  # racket
    "wine glass": ("n03443371",),  # goblet
    # Beer glass, coffee mug, and cup, which is a drink in WordNet and a cup in its pictures.
    "cup": ("n02823750", "n03063599", "n07930864"),
    "knife": ("n03041632",),  # cleaver
    "spoon": ("n04597913",),
    "bowl": ("n03775546", "n04263257"),
    "banana": ("n07753592",),
    "apple": ("n07742313",),
    "sandwich": ("n07697313",),  # cheeseburger
    "orange": ("n07747607",),
    "broccoli": ("n07714990",),
    "hot dog": ("n07697537",),
    "pizza": ("n07873807",),
    "bed": ("n03388549",),
    "toilet": ("n04447861",),
    "laptop": ("n03642806", "n03832673"),
    "mouse": ("n03793489",),
    "remote": ("n04074963",),
    "keyboard": ("n03085013",),
    "cell phone": ("n02992529",),
    "microwave": ("n03761084",),
    "oven": ("n04111531", "n04330267"),  # rotisserie, stove: COCO calls a stove an oven
    "toaster": ("n04442312",),
    "sink": ("n04553703",),
    "refrigerator": ("n04070727",),
    "book": ("n06596364",),  # comic book
    "clock": ("n02708093", "n03196217", "n04548280"),
    "vase": ("n04522168",),
    "teddy bear": ("n04399382",),
    "hair drier": ("n03483316",),
}
# fmt: on
MAPS = {"imagenet-voc": (VOC_CLASSES, VOC, "VOC 2012"), "imagenet-coco": (COCO_CLASSES, COCO, "COCO 2017")}
# ImageNet-S-919 has these classes of ImageNet in another one, as the README of its repository, LUSSeg/ImageNet-S, says.
MERGED = {
    "n04356056": "n04355933",  # sunglasses, sunglass
    "n04493381": "n02808440",  # tub, bathtub
    "n03642806": "n03832673",  # laptop, notebook
    "n04008634": "n03773504",  # projectile, missile
    "n03887697": "n15075141",  # paper towel, toilet tissue
}
# Maps whose classes are called by their WordNet ids, with the classes that are merged.
BY_ID: dict[str, dict[str, str]] = {"imagenet-wordnet": {}, "imagenet-s": MERGED}


def outputs_of(synsets: Synsets, ids: list[str]) -> list[int]:
    """The outputs of the synsets, in order."""
    found: list[int] = []
    for entry in synsets:
        first, last = (entry, entry) if isinstance(entry, str) else entry
        found += range(ids.index(first), ids.index(last) + 1)
    return sorted(found)


def text_by_id(name: str) -> str:
    """The YAML text of a map whose classes are WordNet ids."""
    info, merged = ImageNetInfo(), BY_ID[name]
    ids = info.label_names()
    lines = [
        f"# {name}: for each WordNet id the outputs of a network of ImageNet's 1000 classes that mean it.",
        "# Written by experiments/class_maps.py: outputs in timm's order.",
    ]
    if merged:
        lines.append(f"# Merged, as in ImageNet-S-919: {', '.join(f'{a} in {b}' for a, b in merged.items())}.")
    lines.append("")
    for wordnet_id in (one for one in ids if one not in merged):
        outputs = sorted(ids.index(one) for one in (wordnet_id, *(a for a, b in merged.items() if b == wordnet_id)))
        lemma = info.index_to_description(ids.index(wordnet_id), detailed=False).split(",")[0]
        lines.append(f"{wordnet_id}: [{', '.join(map(str, outputs))}]  # {lemma}")
    return "\n".join(lines) + "\n"


def text_of(name: str) -> str:
    """The YAML text of a map."""
    if name in BY_ID:
        return text_by_id(name)
    classes, chosen, of = MAPS[name]
    info = ImageNetInfo()
    ids = info.label_names()
    absent = [label for label in classes if label not in chosen]
    lines = [
        f"# {name}: for each class of {of} the outputs of a network of ImageNet's 1000 classes that mean it.",
        "# Written by experiments/class_maps.py: outputs in timm's order, synsets chosen by hand after WordNet 3.0.",
        f"# Left out, because no output means them: {', '.join(absent)}.",
    ]
    for label in (label for label in classes if label in chosen):
        outputs = outputs_of(chosen[label], ids)
        lemmas = [info.index_to_description(c, detailed=False).split(",")[0] for c in outputs]
        named = [f"{ids[c]} {lemma}" for c, lemma in zip(outputs, lemmas, strict=True)]
        said = ", ".join(named) if len(named) < 14 else f"{len(named)} synsets from {named[0]} to {named[-1]}"
        lines += ["", f"# {said}", f"{label}: [{', '.join(map(str, outputs))}]"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for map_name in (*MAPS, *BY_ID):
        (folder / f"{map_name}.yaml").write_text(text_of(map_name), encoding="utf-8")
