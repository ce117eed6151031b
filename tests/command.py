"""The command `vice`, run in this process."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

from torchvice.cli.app import main


def status_of(*arguments: Any) -> int:
    """Exit status of a command."""
    with mock.patch.object(sys, "argv", ["vice", *map(str, arguments)]):
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def vice(capsys: Any, *arguments: Any) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    status = status_of(*arguments)
    told = capsys.readouterr()
    return status, told.out, told.err
