"""Pages for tests: small tables, pictures for them, and a browser that minds every error and every request."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tables import Scene, scenes, table_of
from torchvice.measures import measure
from torchvice.report import Shown, cases_of, write_page
from torchvice.samples import Samples

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
SWITCHES = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def shown(samples: Samples, name: str = "toy", quality: str = "ji") -> Shown:
    return Shown(name, measure(samples, quality=quality), cases_of(samples, quality))


def pictures(made: list[Scene], factor: int = 20) -> Callable[[str], tuple[np.ndarray, np.ndarray | None]]:
    """A reader of scenes: every pixel enlarged, with the mask as it is in the table."""
    by_id = {scene.image_id: scene for scene in made}

    def read(image_id: str) -> tuple[np.ndarray, np.ndarray | None]:
        scene = by_id[image_id]
        rng = np.random.default_rng(abs(hash(scene.targets)))
        image = np.kron(rng.integers(0, 255, (3, 4, 3)), np.ones((factor, factor, 1))).astype(np.uint8)
        mask = None if scene.mask is None else np.kron(np.array(scene.mask), np.ones((factor, factor))).astype(np.uint8)
        return image, mask

    return read


def page_of(folder: Path, count: int = 12, **options: Any) -> tuple[Path, Samples]:
    """A page of `count` scenes, and their table."""
    made = scenes(count)
    samples = table_of(made)
    return write_page(folder / "report.html", shown(samples), pictures(made), **options), samples


class Watched:
    """A browser's page that keeps what must not happen: errors, and requests beside the page's own files."""

    def __init__(self, page: Any, home: Path) -> None:
        self.page, self.home, self.trouble = page, home.as_uri(), []
        page.on("console", lambda message: self._note(message.type in ("error", "warning"), message.text))
        page.on("pageerror", lambda error: self._note(True, str(error)))
        page.on("request", lambda request: self._note(self._leaves(request.url), f"a request for {request.url[:200]}"))

    def _note(self, bad: bool, text: str) -> None:
        if bad:
            self.trouble.append(text)

    def _leaves(self, url: str) -> bool:
        return not url.startswith(("data:", "blob:", self.home))

    def open(self, file: Path, fragment: str = "") -> Any:
        self.page.goto(file.as_uri() + fragment)
        self.until("performance.getEntriesByName('vice-interactive').length === 1", 30)
        return self.page

    def until(self, script: str, seconds: float = 3) -> None:
        """Until a script says yes. The page forbids the evaluation of text, by which playwright would wait."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(script):
            assert time.monotonic() < end, f"{script}: not within {seconds} s, at {self.page.evaluate('location.hash')}"
            self.page.wait_for_timeout(30)

    def settled(self) -> None:
        """Until the open case is drawn."""
        self.until("document.querySelector('#case .case-tools') !== null", 30)


def found(page: Any) -> list[tuple[str, str | None]]:
    """(image id, class) of the cases found, in their order."""
    return [
        tuple(pair)
        for pair in page.evaluate(
            "state.found.map((e) => [D.ids[D.entryImage[e]], D.entryClass[e] < 0 ? null : D.classes[D.entryClass[e]]])"
        )
    ]


def current(page: Any) -> tuple[str, str]:
    """The image that is open, and the label shown."""
    return page.locator("#case h3").inner_text(), page.locator(".labels button[aria-pressed=true]").inner_text()


def filled(path: str, height: int, width: int) -> np.ndarray:
    """The pixels inside an SVG path of horizontal and vertical strokes, by crossing edges from the left."""
    crossings = np.zeros((height, width + 1), int)
    for loop in path.split("z")[:-1]:
        start = re.match(r"M(\d+) (\d+)", loop)
        assert start
        x, y = int(start[1]), int(start[2])
        corners = [(x, y)]
        for stroke, length in re.findall(r"([hv])(-?\d+)", loop):
            x, y = (x + int(length), y) if stroke == "h" else (x, y + int(length))
            corners.append((x, y))
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            if x0 == x1:
                crossings[min(y0, y1) : max(y0, y1), x0] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
