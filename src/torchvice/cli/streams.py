"""Text for terminals: every encoding can show it, and no name in it can steer the terminal."""

from __future__ import annotations

import codecs
import io
import re
import sys

__all__ = ["prepare_streams", "visible"]

_ASCII = {
    "–": "-",
    "—": "-",
    "…": "...",
    "×": "x",
    "·": "-",
    "≥": ">=",
    "≤": "<=",
    "±": "+-",
    "→": "->",
    "✓": "+",
    "✗": "x",
}
# C0 and C1 controls, and the marks that turn the direction of what follows; line ends and tabs stay.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Show control characters as escapes.

    Example:
        >>> visible("cat\\x1b[2Jdog")
        'cat\\\\x1b[2Jdog'
    """
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def prepare_streams() -> None:
    """Write names of files as they are, and stand in for characters that the terminal's encoding lacks."""
    codecs.register_error("vice", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="vice")


def _stand_in(error: UnicodeError) -> tuple[bytes, int]:
    """The bytes of what cannot be encoded: half a character of a file's name as its byte, others in ASCII or as `?`."""
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    written = (
        bytes([ord(letter) & 0xFF]) if "\udc80" <= letter <= "\udcff" else _ASCII.get(letter, "?").encode("ascii")
        for letter in letters
    )
    return b"".join(written), error.end
