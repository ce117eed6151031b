"""What threads cost on busy cores: `torchvice.assess` in a process of your own, with and without a policy for waiting.

Every core is kept busy by another process, as on a shared machine. The same images are then assessed in a fresh Python
process for each setting of the environment; CPU and wall seconds of the assessment alone, imports excluded. Without a
dataset it writes the digits; the network has random weights unless `--weights` is given.

    python benchmarks/threads.py [--data FOLDER --split val --model NAME --weights FILE] [--images 100] [--busy 2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from machine import processor

SETTINGS: dict[str, dict[str, str]] = {
    "none": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}


def assess_here(options: argparse.Namespace) -> dict[str, object]:
    """CPU and wall seconds of one assessment in this process, and a digest of its logits."""
    import hashlib

    import torch

    import torchvice
    from torchvice.assessment.controls import CONTROLS
    from torchvice.data import open_dataset
    from torchvice.models.build import build_model, load_weights

    torch.manual_seed(0)
    dataset = open_dataset(options.data, options.split)
    model = build_model(options.model, len(dataset.classes)).eval()
    if options.weights is not None:
        load_weights(model, options.weights)
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall = time.process_time(), time.perf_counter()
        samples = torchvice.assess(model, dataset, out=folder, controls=tuple(CONTROLS))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu, "wall": wall, "logits": hashlib.sha256(samples.images.logits.tobytes()).hexdigest()}


def run(environment: dict[str, str], words: list[str]) -> dict[str, float]:
    """`assess_here` in a fresh process with these settings and no others of OpenMP."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    command = [sys.executable, __file__, "--one", *words]
    result = subprocess.run(command, env={**clean, **environment}, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return answer


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=int, default=100, help="number of digits, without --data")
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1, help="processes that keep cores busy")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = parsed()
    if options.one:
        print(json.dumps(assess_here(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            from torchvice.data.digits import write_digits

            options.data = write_digits(Path(folder) / "digits", train=2, val=2, test=options.images, size=224)
        words = ["--data", str(options.data), "--split", options.split, "--model", options.model]
        words += ["--weights", str(options.weights)] * (options.weights is not None)
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
        try:
            rounds = [{name: run(setting, words) for name, setting in SETTINGS.items()} for _ in range(options.repeats)]
        finally:
            for other in others:
                other.kill()
    print(f"{processor()}, {os.cpu_count()} cores, {options.busy} busy processes, medians of {options.repeats}")
    print("| setting | CPU s | wall s | logits as without a setting |")
    print("|---|---:|---:|---|")
    for name in SETTINGS:
        cpu, wall = (median(each[name][key] for each in rounds) for key in ("cpu", "wall"))
        same = all(each[name]["logits"] == each["none"]["logits"] for each in rounds)
        print(f"| `{name}` | {cpu:.1f} | {wall:.0f} | {'to the last bit' if same else 'not to the last bit'} |")


if __name__ == "__main__":
    main()
