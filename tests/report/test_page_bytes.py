"""The same numbers are the same bytes, whatever order Python's sets have in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PROGRAM = """
import sys
from pathlib import Path

from planted import planted
from studies import MEANS, rows_of, study_folder
from torchvice.commands.report import write_report

folder = Path(sys.argv[1])
write_report([study_folder(folder / "study", rows_of(MEANS))], folder / "study.html")
tables = [folder / "one", folder / "two"]
for table in tables:
    planted(40).save(table)
write_report(tables[:1], folder / "one.html", pictures=False, replicates=100)
write_report(tables, folder / "both.html", pictures=False, replicates=100)
"""


@pytest.mark.slow
def test_pages_do_not_depend_on_the_order_of_sets(tmp_path: Path) -> None:
    path = os.pathsep.join([str(TESTS), str(TESTS / "report"), *sys.path])
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        subprocess.run([sys.executable, "-c", PROGRAM, "."], cwd=tmp_path / seed, env=environment, check=True)
    for name in ("study.html", "one.html", "both.html"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name
