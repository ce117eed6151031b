"""What kills leave behind: child processes, locks that a worker holds, temporary files."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from torchvice.errors import ViceError
from torchvice.files import write_text
from torchvice.files.lock import locked
from torchvice.files.process import OF_MALLOC, in_processes, lives, machine, started
from variants import slow_but
from ways_out import tried

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def doubled(owner: int, task: int) -> int:
    """Twice the task; a process other than the owner dies of the task 3."""
    if task == 3 and os.getpid() != owner:
        os._exit(1)
    return 2 * task


def until(condition: Callable[[], object]) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("nothing happened for half a minute")


def runs(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


FREED = """
import resource, sys, numpy
from torchvice.files.process import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
numpy.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    numpy.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep memory as they like")
@pytest.mark.parametrize("chosen", [False, True])
def test_freed_memory_is_kept_unless_the_environment_says_how(chosen: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in OF_MALLOC}
    environment["NUMPY_MADVISE_HUGEPAGE"] = "0"  # the number of faults would depend on how many huge pages are free
    if chosen:
        environment["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    command = [sys.executable, "-c", FREED]
    plain, kept = (
        int(subprocess.run([*command, *more], env=environment, check=True, capture_output=True, text=True).stdout)
        for more in ([], ["keep"])
    )
    assert (kept > plain / 2) if chosen else (kept < plain / 10)


GIVEN_BACK = """
from torchvice.files.process import give_back_memory, keep_freed_memory

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

keep_freed_memory()
blocks = [bytearray(b"x" * 2**20) for _ in range(200)]
blocks = blocks[::20]  # what stays leaves gaps
before = held()
give_back_memory()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep memory as they like")
def test_memory_in_gaps_is_given_back() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in OF_MALLOC}
    command = [sys.executable, "-c", GIVEN_BACK]
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert int(found.stdout) > 150 * 2**20


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run code that prints a line; wait for the line."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


CHILD = """
import os, sys, time
from torchvice.files.process import WITH_PARENT, end_with_parent
assert os.environ.pop(WITH_PARENT)
end_with_parent()
open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
time.sleep(60)
"""
PARTS = """
import sys
from torchvice.assessment.parts import in_processes
in_processes([sys.executable, "-c", sys.argv[1], sys.argv[2]], 2)
"""
WORKERS = """
import os, sys, time
from torchvice.commands import evaluate
def slow(job, ids):
    open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
    time.sleep(60)
evaluate._count = slow
list(evaluate._parts([str(i) for i in range(64)], None, 2))
"""


@pytest.mark.parametrize("how", slow_but([signal.SIGKILL, signal.SIGTERM], signal.SIGKILL))
@pytest.mark.parametrize("code", ["parts", "workers"])
def test_children_end_with_their_parent(tmp_path: Path, code: str, how: signal.Signals) -> None:
    parent = start(PARTS, CHILD, tmp_path) if code == "parts" else start(WORKERS, tmp_path)
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    children = [int(path.name) for path in tmp_path.iterdir()]
    assert all(map(runs, children))
    parent.send_signal(how)
    parent.wait()
    until(lambda: not any(map(runs, children)))


def test_a_parent_that_ended_before_is_noticed(tmp_path: Path) -> None:
    code = CHILD.replace("time.sleep(60)", "time.sleep(60); print('late')")
    environment = {**os.environ, "TORCHVICE_WITH_PARENT": "1"}
    child = subprocess.run(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.DEVNULL, env=environment, timeout=30
    )
    assert child.returncode == 1


def test_a_worker_that_outlives_its_parent_does_not_hold_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\nfrom torchvice.files.lock import locked\n"
        "with locked(sys.argv[1], 'x'):\n"
        "    if not os.fork():\n        print(os.getpid(), flush=True)\n"
        "    time.sleep(60)"
    )
    parent = start(code, tmp_path / "lock")
    worker = int(line(parent))
    parent.kill()
    parent.wait()
    try:
        assert runs(worker)
        with locked(tmp_path / "lock", "The run"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_lock_that_is_removed_at_the_end_is_one_processs_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom torchvice.files.lock import locked\n"
        "for _ in range(100):\n"
        "    with locked(sys.argv[1] + '/lock', 'x', wait=True, keep=False):\n"
        "        inside = Path(sys.argv[1], 'inside')\n"
        "        inside.touch(exist_ok=False)\n        inside.unlink()\n"
        "    time.sleep(0.002)"
    )
    both = [start(code.replace("0.002", f"0.00{i}"), tmp_path) for i in (1, 2, 3)]
    assert [process.wait(timeout=120) for process in both] == [0, 0, 0]
    assert not list(tmp_path.iterdir())


WRITER = """
import sys, time
from torchvice.files import atomic, atomic_folder
with atomic(sys.argv[1] + "/a.npz") as file, atomic_folder(sys.argv[1] + "/b.c") as folder:
    file.write_text("half")
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("half")
    print("in", flush=True)
    time.sleep(60)
"""


def test_the_next_writer_clears_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    kept = [".a.npz", "a.part", f".a.{'0' * 8}-1-{'0' * 8}.part", f".a.{machine()}-{os.getpid()}-{'0' * 8}.part.npz"]
    for name in kept:  # files of others, of another machine, of a process that lives
        (tmp_path / name).touch()
    before = set(tmp_path.iterdir())
    writer = start(WRITER, tmp_path)
    assert line(writer) == "in"
    parts = set(tmp_path.iterdir()) - before
    assert len(parts) == 2
    other = "import sys; from torchvice.files import write_text; write_text(sys.argv[1] + '/new.txt', '')"
    subprocess.run([sys.executable, "-c", other, tmp_path], check=True)
    assert set(tmp_path.iterdir()) == before | parts | {tmp_path / "new.txt"}
    writer.kill()
    writer.wait()
    subprocess.run([sys.executable, "-c", other, tmp_path], check=True)
    assert set(tmp_path.iterdir()) == before | {tmp_path / "new.txt"}


def test_the_next_writer_clears_what_is_left_of_a_process_that_nobody_waited_for(tmp_path: Path) -> None:
    writer = start(WRITER, tmp_path)
    assert line(writer) == "in"
    assert len(list(tmp_path.iterdir())) == 2
    writer.kill()  # its parent, this process, does not wait for it: it keeps its id
    until(lambda: not runs(writer.pid))
    os.kill(writer.pid, 0)
    other = "import sys; from torchvice.files import write_text; write_text(sys.argv[1] + '/new.txt', '')"
    subprocess.run([sys.executable, "-c", other, tmp_path], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["new.txt"]
    writer.wait()


def test_a_process_that_has_the_id_of_a_dead_one_is_another(tmp_path: Path) -> None:
    began = started(os.getpid())
    assert began is not None
    names = [f".a.{machine()}-{os.getpid()}-{start}-{'0' * 8}.part" for start in (began, began - 1)]
    for name in names:
        (tmp_path / name).touch()
    write_text(tmp_path / "new.txt", "")
    assert {path.name for path in tmp_path.iterdir()} == {names[0], "new.txt"}


def test_a_temporary_name_is_short_enough_for_any_name(tmp_path: Path) -> None:
    name = "ä" * 120 + ".txt"
    assert write_text(tmp_path / name, "whole").read_text() == "whole"


def test_which_processes_live() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert lives(os.getpid())
    assert lives(str(os.getppid()))
    assert not any(map(lives, (ended.pid, None, "x", 10**30)))
    began = started(os.getpid())
    assert began is not None
    assert lives(os.getpid(), began)
    assert not lives(os.getpid(), began - 1)
    unwaited = subprocess.Popen([sys.executable, "-c", ""])
    until(lambda: not runs(unwaited.pid))
    assert not lives(unwaited.pid)
    unwaited.wait()
    assert started(unwaited.pid) is None


def test_results_come_in_the_order_of_the_tasks_and_a_dead_process_is_a_sentence() -> None:
    assert list(in_processes(doubled, os.getpid(), [5, 1, 4], 2, "")) == [10, 2, 8]

    def results(processes: int) -> list[int]:
        return list(in_processes(doubled, os.getpid(), [1, 3, 2], processes, "Use processes=1."))

    assert tried(lambda: results(2), "Use processes=1.", lambda: results(1)) == [2, 6, 4]
    with pytest.raises(ViceError, match="A worker process of 2 died: out of memory, or the script has no"):
        results(2)
