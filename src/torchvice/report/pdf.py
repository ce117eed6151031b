"""A page as a PDF, printed by the browser that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from torchvice.errors import ViceError
from torchvice.files import atomic

__all__ = ["BROWSERS", "browser_for_pdf", "write_pdf"]

# Programs that print a page without a window, in the order in which they are looked for.
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
)
_SWITCHES = (
    *("--headless", "--disable-gpu", "--no-first-run", "--no-default-browser-check", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-pdf-header-footer"),
    "--window-size=720,1000",  # about the width of A4 within its margins: figures are drawn for it
)
_SECONDS = 300


def browser_for_pdf() -> str:
    """The path of a browser that can print.

    Raises:
        ViceError: none of BROWSERS is on the PATH.
    """
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise ViceError(
            f"A PDF is printed by Chromium, Chrome or Edge, but none of {', '.join(BROWSERS)} is on the PATH.",
            "Install one, or open the page in any browser and print it to a file.",
        )
    return found


def write_pdf(page: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Print a page of `vice report` to a PDF of A4 pages: all it shows but the case browser, of which the open case.

    Args:
        page: the HTML file.
        out: the PDF. None: next to the page, with its name.

    Returns:
        The PDF's path.

    Raises:
        ViceError: there is no browser, or it does not print.
    """
    browser, page = browser_for_pdf(), Path(page).absolute()
    target = page.with_suffix(".pdf") if out is None else Path(out)
    as_root = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []  # Chromium's own rule for root
    with atomic(target) as part, tempfile.TemporaryDirectory() as profile:
        switches = [*_SWITCHES, *as_root, f"--user-data-dir={profile}", f"--print-to-pdf={Path(part).absolute()}"]
        try:
            done = subprocess.run(
                [browser, *switches, page.as_uri()], capture_output=True, timeout=_SECONDS, check=False, text=True
            )
            said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        except subprocess.TimeoutExpired:
            said = [f"it took more than {_SECONDS} s"]
        except OSError as error:
            said = [error.strerror or str(error)]
        if not _is_pdf(Path(part)):
            raise ViceError(
                f"{browser} must print {page}, but wrote no PDF: {said[0]}.",
                f"The page is whole: open {page.name} in a browser and print it to a file.",
            )
    return target


def _is_pdf(file: Path) -> bool:
    """Whether a file begins and ends as a PDF does."""
    content = file.read_bytes() if file.is_file() else b""
    return content.startswith(b"%PDF-") and b"%%EOF" in content[-1024:]
