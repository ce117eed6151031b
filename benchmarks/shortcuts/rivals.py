"""Do other tools name the class that a planted shortcut gives away? They read the networks that the bench trained.

Runs torchvice, `bnnr` and `shortkit-ml` on the finished runs of a bench (`bench.py`), whose folder is not changed. The
two rivals are called as their documentation says: without masks, and without knowledge of the mark. Each tool runs in a
process of its own, whose CPU time the table gives. A rival that is not installed is skipped. See README.md for how each
is adapted to these networks.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench import FULL, QUICK, Size, vice, witnesses
from summary import DIGITS, relies_on_shortcut

from torchvice.files import read_json, write_json

ATTENTION = ("background_focus_suspected", "artifact_focus_suspected", "low_xai_quality")  # bnnr's findings on maps
PURE = 0.8  # what shortkit-ml calls a cluster of high purity
LAYER = "layer4"  # the last stage of the bench's networks, which the examples of both rivals take
TOOLS = {  # by name: the module it needs, and whether each of its images bears one digit
    "torchvice": ("torchvice", False),
    "bnnr": ("bnnr", True),
    "bnnr, its own layer": ("bnnr", True),
    "shortkit-ml": ("shortcut_detect", True),
    "shortkit-ml SpRAy": ("shortcut_detect", True),
    "bnnr multilabel": ("bnnr", False),
    "torchvice, one digit": ("torchvice", True),
}
PACKAGES = {"bnnr": "bnnr", "shortcut_detect": "shortkit-ml"}
Answer = dict[
    str, Any
]  # names: classes; reports: whether it speaks of a shortcut at all; scores: {score: {class: value}}


# ---- what each tool says, as an answer


def by_class(values: Mapping[int, float | None]) -> dict[str, float | None]:
    """Scores of class indices by class name, None where a class has none."""
    return {name: values.get(c) for c, name in enumerate(DIGITS)}


def read_torchvice(measures: Mapping[str, Any], table: Mapping[str, Mapping[str, float | None]]) -> Answer:
    """The verdict of measures.json, and the witnesses of the table of classes."""
    verdict = measures["verdict"]
    p = verdict["power"]["p_by_class"]
    scores = {"verdict, - log10 p": {name: -np.log10(max(p.get(name) or 1.0, 1e-300)) for name in DIGITS}}
    for witness in ("found without the object", "looking elsewhere"):
        scores[witness] = {name: row[witness] for name, row in table.items()}
    names = [name for name in DIGITS if any(entry["class"] == name for entry in verdict["stands_out"])]
    return {"names": names, "reports": bool(names), "scores": scores}


def read_bnnr(report: Mapping[str, Any]) -> Answer:
    """The classes of the findings on saliency in analysis_report.json, and its scores of every class."""
    found = {
        int(c) for finding in report["findings"] if finding["finding_type"] in ATTENTION for c in finding["class_ids"]
    }
    scores: dict[str, dict[str, float | None]] = {}
    if diagnoses := {int(c): entry for c, entry in report["xai_diagnoses"].items()}:
        scores["1 - XAI quality"] = by_class({c: 1 - entry["quality_score"] for c, entry in diagnoses.items()})
        edges = {c: 1 - entry["quality_breakdown"]["edge"] for c, entry in diagnoses.items()}
        scores["1 - edge score"] = by_class(edges)
    return {"names": [DIGITS[c] for c in sorted(found)], "reports": bool(found), "scores": scores}


def read_clusters(clusters: Iterable[tuple[int, float]], score: str, reports: bool) -> Answer:
    """An answer from clusters, each the class that most of its images have, and that class's share.

    Mixed clusters are left out: the largest share in one only says how frequent a class is.
    """
    purity: dict[int, float] = {}
    for label, share in clusters:
        if share >= PURE:
            purity[label] = max(share, purity.get(label, 0.0))
    names = [DIGITS[c] for c in sorted(purity)]
    return {"names": names, "reports": reports, "scores": {score: by_class(dict(purity))}}


def read_shortkit(results: Mapping[str, Mapping[str, Any]]) -> Answer:
    """The pure clusters of HBAC, the mean effect size of the pairs of a class, and whether any method sees a risk."""
    clusters = [
        (int(row["dominant_label"]), float(row["purity"])) for row in results["hbac"]["report"]["cluster_purities"]
    ]
    answer = read_clusters(clusters, "HBAC, purity", any(row.get("risk_indicators") for row in results.values()))
    effects: dict[int, list[float]] = {}
    for pair in results["geometric"]["bias_pairs"]:
        for group in pair.groups:
            effects.setdefault(int(group), []).append(float(pair.effect_size))
    answer["scores"]["geometric, mean effect"] = by_class({c: float(np.mean(row)) for c, row in effects.items()})
    answer["risk"] = {name: row.get("risk_value") for name, row in results.items()}
    answer["skipped"] = {name: row["error"] for name, row in results.items() if not row.get("success")}
    return answer


# ---- running the tools, each in a process of its own


def network_and_images(run: Path, root: Path) -> tuple[Any, Any]:
    """The trained network, and the test images with their targets."""
    from torchvice.data.transforms import LabelledImages, ValidationTransform
    from torchvice.runs import Run

    opened = Run(run)
    shown = opened.settings.transform
    view = ValidationTransform(shown.crop, mean=shown.mean, std=shown.std, view=shown.view)
    return opened.model(), LabelledImages(opened.dataset("test", root=root), view)


def run_torchvice(run: Path, root: Path, work: Path) -> Answer:
    """`vice assess` and `vice measure` on a copy of the run that reads these images."""
    import yaml

    copy = work / "run"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run / "checkpoints", copy / "checkpoints")
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    settings["work_dir"], settings["session_name"] = str(work), "run"
    settings["data"]["root"] = str(root)
    (copy / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    vice("assess", copy, "--protocol", "strict", "--controls", "cheap", "--device", "cpu")
    vice("measure", copy)
    return read_torchvice(read_json(copy / "measures.json"), witnesses(copy))


def run_bnnr(run: Path, root: Path, work: Path, single: bool, layer: str | None) -> Answer:
    """`analyze_model`, which is what `bnnr analyze` runs; its command line only builds networks of its own."""
    import torch
    from bnnr import SimpleTorchAdapter, analyze_model
    from torch.utils.data import DataLoader

    model, images = network_and_images(run, root)
    rows = [(image, int(target.argmax()) if single else target, index) for index, (image, target) in enumerate(images)]
    adapter = SimpleTorchAdapter(
        model,
        torch.nn.CrossEntropyLoss() if single else torch.nn.BCEWithLogitsLoss(),
        torch.optim.SGD(model.parameters(), lr=0.1),  # asked for, and not used by an analysis
        target_layers=[model.get_submodule(layer)] if layer else None,
        device="cpu",
        multilabel=not single,
    )
    task = "classification" if single else "multilabel"
    report = analyze_model(adapter, DataLoader(rows, batch_size=64), task=task, device="cpu", output_dir=work)
    report.to_html(work / "report.html", artifact_root=work)
    return read_bnnr(read_json(work / "analysis_report.json"))


def stacked(images: Any) -> tuple[Any, np.ndarray]:
    """All images (N, 3, S, S), and the one class of each (N,)."""
    import torch

    pixels, targets = zip(*images, strict=True)
    return torch.stack(pixels), torch.stack(targets).argmax(1).numpy()


def run_shortkit(run: Path, root: Path, work: Path) -> Answer:
    """The five methods of the quick start of shortkit-ml, on the input of the classifier."""
    import torch
    from shortcut_detect import ShortcutDetector

    model, images = network_and_images(run, root)
    pixels, labels = stacked(images)
    with torch.inference_mode():
        parts = [model.forward_head(model.forward_features(part), pre_logits=True) for part in pixels.split(64)]
    detector = ShortcutDetector(methods=["hbac", "probe", "statistical", "geometric", "equalized_odds"])
    detector.fit(torch.cat(parts).numpy(), labels)
    (work / "summary.txt").write_text(detector.summary(), encoding="utf-8")
    return read_shortkit(detector.get_results())


def run_spray(run: Path, root: Path, work: Path) -> Answer:
    """shortkit-ml's clusters of Grad-CAM maps of the likeliest class, with the settings that its page advises."""
    from shortcut_detect import SpRAyDetector

    model, images = network_and_images(run, root)
    pixels, labels = stacked(images)
    detector = SpRAyDetector(affinity="cosine", cluster_selection="auto", downsample_size=32)
    detector.fit(inputs=pixels, model=model, target_layer=LAYER, head="logits", labels=labels)
    clusters = []
    for cluster in np.unique(detector.cluster_labels_):
        counts = np.bincount(labels[detector.cluster_labels_ == cluster])
        clusters.append((int(counts.argmax()), float(counts.max() / counts.sum())))
    says = detector.get_report()["report"]["clever_hans"]
    return read_clusters(clusters, "SpRAy, purity", bool(says["shortcut_detected"])) | {"flags": says["flags"]}


def run_tool(tool: str, run: Path, root: Path, work: Path) -> Answer:
    """Run a tool on the images of `root`, in this process."""
    work.mkdir(parents=True, exist_ok=True)
    single = TOOLS[tool][1]
    runners: dict[str, Callable[[], Answer]] = {
        "bnnr": lambda: run_bnnr(run, root, work, single, LAYER),
        "bnnr, its own layer": lambda: run_bnnr(run, root, work, single, None),
        "bnnr multilabel": lambda: run_bnnr(run, root, work, single, LAYER),
        "shortkit-ml": lambda: run_shortkit(run, root, work),
        "shortkit-ml SpRAy": lambda: run_spray(run, root, work),
    }
    return runners.get(tool, lambda: run_torchvice(run, root, work))()


def write_images(row: Mapping[str, Any], size: Size, root: Path, single: bool) -> Path:
    """Write the test images of a run again, or the same kind of images with one digit each."""
    from torchvice.data.digits import write_digits

    planted: dict[str, Any] = {}
    if row["digit"] is not None:
        planted = {"shortcut": row["digit"], "kind": row["kind"], "strength": row["strength"]}
    seed = 100 + row["seed"]
    return write_digits(root, train=1, val=1, test=size.test, size=size.side, seed=seed, single=single, **planted)


def measured(tool: str, run: Path, options: argparse.Namespace) -> Answer | None:
    """A tool's answer on a run and its CPU seconds, from a process of its own, or from an earlier call."""
    single = TOOLS[tool][1]
    work = options.work / run.name / tool.replace(" ", "-").replace(",", "")
    answer = work / "answer.json"
    if answer.is_file():
        return read_json(answer)
    work.mkdir(parents=True, exist_ok=True)
    size = QUICK if options.quick else FULL
    images = options.work / run.name / ("one-digit" if single else "digits")
    root = write_images(read_json(run / "result.json"), size, images, single)
    command = [sys.executable, __file__, "--one", tool, str(run), str(root), str(work)]
    with (work / "log.txt").open("w", encoding="utf-8") as lines:
        process = subprocess.Popen(command, stdout=lines, stderr=lines, env={"OMP_NUM_THREADS": "1", **os.environ})
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = (work / "log.txt").read_text(encoding="utf-8").strip().splitlines()[-1:]
        print(f"{tool} failed on {run.name}: {''.join(last)}", file=sys.stderr)
        return None
    write_json(answer, read_json(work / "said.json") | {"seconds": used.ru_utime + used.ru_stime})
    return read_json(answer)


# ---- the table


def is_first(planted: str, scores: Mapping[str, float | None]) -> bool:
    """Whether the planted class alone has the highest score."""
    others = [value for name, value in scores.items() if name != planted and value is not None]
    value = scores.get(planted)
    return value is not None and all(value > other for other in others)


def short(names: Sequence[str]) -> str:
    """Classes as digits, "none" without any, "all" for all ten."""
    if len(names) == len(DIGITS):
        return "all"
    return ", ".join(str(DIGITS.index(name)) for name in names) or "none"


def answers_table(rows: Sequence[Mapping[str, Any]], answers: Mapping[str, Mapping[str, Answer]]) -> str:
    """A row a run: what each tool names; a `*` marks a tool that names nothing and yet reports a shortcut."""
    tools = list(answers)
    lines = ["| run | planted | " + " | ".join(tools) + " |", "| --- | --- |" + " --- |" * len(tools)]
    for row in rows:
        digit = "none" if row["digit"] is None else str(row["digit"])
        digit += "" if row["digit"] is None or relies_on_shortcut(row) else " (not learnt)"
        cells = []
        for tool in tools:
            answer = answers[tool].get(row["name"])
            said = "not run" if answer is None else short(answer["names"])
            cells.append(said + ("*" if answer and answer["reports"] and not answer["names"] else ""))
        lines.append(f"| {row['name']} | {digit} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def share(hits: Sequence[bool]) -> str:
    """`3 of 5`."""
    return f"{sum(hits)} of {len(hits)}"


def tools_table(rows: Sequence[Mapping[str, Any]], answers: Mapping[str, Mapping[str, Answer]]) -> str:
    """A row a tool: how often it names the planted class, alone, or first; what it says of other runs; its seconds."""
    lines = [
        "| tool | planted class named | and no other | first, by score | reports a shortcut without one | CPU s |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for tool, said in answers.items():
        done = [row for row in rows if row["name"] in said]
        learnt = [(DIGITS[row["digit"]], said[row["name"]]) for row in done if relies_on_shortcut(row)]
        without = [said[row["name"]]["reports"] for row in done if not relies_on_shortcut(row)]
        firsts = {
            score: share([is_first(planted, answer["scores"].get(score, {})) for planted, answer in learnt])
            for score in dict.fromkeys(score for _, answer in learnt for score in answer["scores"])
        }
        cells = [
            tool,
            share([planted in answer["names"] for planted, answer in learnt]),
            share([answer["names"] == [planted] for planted, answer in learnt]),
            "; ".join(f"{score}: {count}" for score, count in firsts.items()) or "no score of classes",
            share(without),
            f"{np.median([said[row['name']]['seconds'] for row in done]):.0f}" if done else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def installed(tools: Iterable[str]) -> list[str]:
    """The tools whose module is there; say which are not."""
    missing = sorted({TOOLS[tool][0] for tool in tools if importlib.util.find_spec(TOOLS[tool][0]) is None})
    for module in missing:
        print(f"{PACKAGES[module]} is not installed and is left out; `pip install {PACKAGES[module]}` adds it.")
    return [tool for tool in tools if TOOLS[tool][0] not in missing]


def finished_runs(out: Path, names: Sequence[str]) -> list[Path]:
    """The runs of a bench that have a result and a checkpoint, those of `names` where given, in that order."""
    runs = [path.parent for path in sorted((out / "runs").glob("*/result.json"))]
    runs = [run for run in runs if (run / "checkpoints").is_dir()]
    chosen = {run.name: run for run in runs}
    if unknown := [name for name in names if name not in chosen]:
        sys.exit(f"No finished run with a checkpoint in {out}/runs: {', '.join(unknown)}.")
    return [chosen[name] for name in names or chosen]


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/shortcuts"), help="folder of a bench; it is only read")
    parser.add_argument("--work", type=Path, default=Path("runs/rivals"), help="folder of images and answers; resumed")
    parser.add_argument(
        "--runs", nargs="+", default=[], metavar="RUN", help="runs, such as stripe-0.95-0; default: all"
    )
    parser.add_argument(
        "--tools", nargs="+", default=list(TOOLS), choices=TOOLS, help="default: all that are installed"
    )
    parser.add_argument("--quick", action="store_true", help="the bench was run with --quick")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run what is missing, and print the tables."""
    options = parsed()
    if options.one:
        tool, run, root, work = options.one
        said = run_tool(tool, Path(run), Path(root), Path(work))
        (Path(work) / "said.json").write_text(json.dumps(said, default=float), encoding="utf-8")
        return
    runs = finished_runs(options.out, options.runs)
    answers: dict[str, dict[str, Answer]] = {tool: {} for tool in installed(options.tools)}
    for run in runs:
        for tool in answers:
            if answer := measured(tool, run, options):
                answers[tool][run.name] = answer
                print(f"{run.name}, {tool}: {short(answer['names'])}, {answer['seconds']:.0f} s", file=sys.stderr)
    rows = [read_json(run / "result.json") | {"name": run.name} for run in runs]
    print(answers_table(rows, answers), tools_table(rows, answers), sep="\n\n")


if __name__ == "__main__":
    main()
