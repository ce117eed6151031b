"""Site hooks: the table of a command's options, and notebooks as pages."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from enum import EnumMeta
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

OPTIONS = re.compile(r"^<!-- options: ([\w ]+) -->$", re.MULTILINE)
NOTEBOOK = ".ipynb"
VALUES: dict[Any, str] = {bool: "", int: " N", float: " X", Path: " PATH"}


def on_files(files: Files, config: Any) -> Files:
    """Turn each notebook into a page of the same name: its text, code and stored outputs."""
    for file in [file for file in files if file.src_uri.endswith(NOTEBOOK)]:
        files.remove(file)
        content = notebook_page(Path(file.abs_src_path).read_text(encoding="utf-8"), Path(file.src_uri).name)
        files.append(File.generated(config, file.src_uri.removesuffix(NOTEBOOK) + ".md", content=content))
    return files


def on_config(config: Any) -> Any:
    """Rename the notebooks in the navigation to their pages, which end in .md."""
    config.nav = _renamed(config.nav)
    return config


def _renamed(entry: Any) -> Any:
    if isinstance(entry, list):
        return [_renamed(item) for item in entry]
    if isinstance(entry, dict):
        return {name: _renamed(item) for name, item in entry.items()}
    return entry.removesuffix(NOTEBOOK) + ".md" if entry.endswith(NOTEBOOK) else entry


def on_post_page(output: str, **_: Any) -> str:
    """Give the dialog of the search a name for those who do not see it, and let the keyboard reach wide code.

    The theme has no name, and makes code that scrolls focusable only where there is a mouse.
    """
    dialog = 'data-md-component="search" role="dialog"'
    output = output.replace(dialog, f'{dialog} aria-label="Search"')
    return re.sub(r"(<pre><span></span><code)(?=>)|(<pre)(?= style=)", r'\g<0> tabindex="0"', output)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace `<!-- options: measure -->` by the options of that command, and links to notebooks by links to pages."""
    markdown = re.sub(r"(\]\([^)\s]+)\.ipynb", r"\1.md", markdown)
    return OPTIONS.sub(lambda found: options_table(found[1]), markdown)


def options_table(name: str) -> str:
    """Markdown table of the arguments and options of a command.

    Raises:
        PluginError: unknown command; the build stops.
    """
    function = _command(name.split())
    types = get_type_hints(function)
    rows = ["| option | default | what it does |", "| --- | --- | --- |"]
    options = inspect.signature(function).parameters.values()
    for parameter in (option for option in options if option.default is not option.empty):  # not typer's context
        help_text = " ".join((parameter.default.help or "").split())
        spelt = _spelt(parameter.name, parameter.default.param_decls, types[parameter.name])
        rows.append(f"| {spelt} | {_default(parameter.default.default)} | {_cell(help_text)} |")
    return "\n".join(['<div class="options" markdown>', "", *rows, "", "</div>"])


def _command(words: list[str]) -> Any:
    """The function behind `vice WORD ...`. typer takes the options from its defaults."""
    from torchvice.cli.app import app

    group: Any = app
    for word in words[:-1]:
        group = next((sub.typer_instance for sub in group.registered_groups if sub.name == word), None)
    for command in getattr(group, "registered_commands", []):
        if command.name == words[-1]:
            return command.callback
    raise PluginError(f"A page requests the options of `vice {' '.join(words)}`, which is not a command.")


def _spelt(name: str, declared: Any, kind: Any) -> str:
    if not declared:
        return f"`{name.upper()}`"
    kinds = [k for k in (get_args(kind) or (kind,)) if k is not type(None)]
    if isinstance(kinds[0], EnumMeta):
        value = " " + "|".join(choice.value for choice in kinds[0])
    else:
        value = VALUES.get(kinds[0], " TEXT")
    return ", ".join(f"`{spelling}{value}`" for spelling in declared)


def _default(default: Any) -> str:
    if default is ...:
        return "required"
    empty = default is None or default is False or default in ("", [])
    return "" if empty else f"`{getattr(default, 'value', default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def notebook_page(text: str, name: str) -> str:
    """Convert a notebook to Markdown, with images and tables embedded in the page."""
    parts = [part for cell in json.loads(text)["cells"] for part in _of_cell(cell)]
    parts.insert(1, f"The notebook itself is `docs/notebooks/{name}`; the tests run it.")
    return "\n\n".join(parts) + "\n"


def _of_cell(cell: dict[str, Any]) -> Iterator[str]:
    source = _joined(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
    elif cell["cell_type"] == "code":
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            yield from _of_output(output)


def _of_output(output: dict[str, Any]) -> Iterator[str]:
    data = output.get("data", {})
    if "image/png" in data:
        picture = _joined(data["image/png"]).replace("\n", "")
        yield f'<img alt="What the code above draws" src="data:image/png;base64,{picture}">'
    elif "text/html" in data:
        line = " ".join(_joined(data["text/html"]).split())  # a blank line would end the HTML block
        yield f'<div class="output">{line}</div>'
    elif "text/plain" in data or "text" in output:
        yield f"```text\n{_joined(data.get('text/plain') or output['text']).rstrip()}\n```"


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
