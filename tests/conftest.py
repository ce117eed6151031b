"""Puts this folder on the path of imports, so that every test finds the plain loops of reference.py."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

import pytest


def pytest_configure() -> None:
    """Collect no garbage while thousands of tests are found: it would take a third of that time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what was found out of every later collection."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _every_measures_json_is_valid() -> Any:
    """Hold whatever `Measures.to_json` gives in any test against the JSON Schema that is shipped."""
    import json

    from jsonschema import Draft202012Validator

    from torchvice.measures import Measures
    from torchvice.measures.json_schema import json_schema

    validator, original = Draft202012Validator(json_schema()), Measures.to_json

    @functools.wraps(original)
    def checked(self: Measures) -> dict[str, Any]:
        content = original(self)
        validator.validate(json.loads(json.dumps(content, allow_nan=False)))
        return content

    patch = pytest.MonkeyPatch()
    patch.setattr(Measures, "to_json", checked)
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _temporary_tables_are_deleted() -> Any:
    """Delete at the end what `assess` without `out` leaves for its user."""
    import shutil
    import tempfile

    made: list[str] = []
    original = tempfile.mkdtemp

    @functools.wraps(original)
    def recorded(*arguments: Any, **named: Any) -> str:
        folder = original(*arguments, **named)
        if named.get("prefix") == "torchvice-":
            made.append(folder)
        return folder

    patch = pytest.MonkeyPatch()
    patch.setattr(tempfile, "mkdtemp", recorded)
    yield
    patch.undo()
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What the library said since the last call, by its logger."""

    def read() -> str:
        text = "\n".join(record.getMessage() for record in caplog.records if record.name == "torchvice")
        caplog.clear()
        return text

    return read
