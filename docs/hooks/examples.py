"""For the API pages: the house writes `Example:`; griffe knows the section as `Examples:`, else its code is prose."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the section when a docstring is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """See the class."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
