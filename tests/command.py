"""The command `vice`, run in this process."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

from torchvice.cli.app import main


def vice(capsys: Any, *arguments: Any) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    with mock.patch.object(sys, "argv", ["vice", *map(str, arguments)]):
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
    told = capsys.readouterr()
    return status, told.out, told.err
