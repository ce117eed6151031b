"""Sessions that continuous integration runs, and that run here: `nox -l` lists them, `nox -s tests-3.12` runs one.

Each session makes an environment of its own; `-R` runs it again without installing. .github/ runs these.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYTHONS = ["3.11", "3.12", "3.13"]
FAST = ["-q", "-m", "not slow", "-n", "2"]

nox.options.sessions = ["lint", "types", "tests-3.11"]
nox.options.default_venv_backend = "uv|virtualenv"


def lowest() -> list[str]:
    """The requirements of torchvice at their lower bounds: `numpy>=2.0` becomes `numpy==2.0.*`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.sub(r">=([\w.]+)", r"==\1.*", requirement) for requirement in project["dependencies"]]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The fast tests and doctests, with the newest versions that the bounds allow."""
    session.install("--editable", ".[dev]")
    session.run("pytest", *FAST, *session.posargs)


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The same tests with the oldest version of each requirement."""
    session.install("--editable", ".[dev]", *lowest())
    session.run("pytest", *FAST, *session.posargs)


@nox.session(python="3.11")
def constrained(session: nox.Session) -> None:
    """The same tests with the versions of constraints.txt, as `make test`."""
    session.install("--constraint", "constraints.txt", "--editable", ".[dev]")
    session.run("pytest", *FAST, *session.posargs)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Format and lint."""
    session.install("--constraint", "constraints.txt", "ruff")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """Types."""
    session.install("--constraint", "constraints.txt", "--editable", ".[dev]")
    session.run("mypy")


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """The site, in which a warning is an error."""
    session.install("--constraint", "constraints.txt", "--editable", ".[docs]")
    session.run("mkdocs", "build", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(python="3.11")
def package(session: nox.Session) -> None:
    """Wheel and source distribution are built, checked, and the wheel runs in an environment without extras."""
    out = session.create_tmp()
    session.install("build", "twine")
    session.run("python", "-m", "build", "--outdir", out, ".")
    files = sorted(str(file) for file in Path(out).glob("torchvice-*"))
    session.run("twine", "check", "--strict", *files)
    session.install(*(file for file in files if file.endswith(".whl")))
    session.chdir(out)  # so that nothing of the checkout is imported
    session.run("python", str(ROOT / "tests" / "installed.py"))
