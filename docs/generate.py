"""Writes what docs/reference/ says about the estate, the command line and the manager's API from their own models.

python docs/generate.py          write the files
python docs/generate.py --check  exit 1 and show a diff where a file is stale
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs.reference_cli import command_line_page
from helpers.apps.manager.api import openapi_document
from helpers.rendering.estate_schema import estate_schema, resolved

REFERENCE = Path(__file__).resolve().parent / "reference"

_HEAD = """# The estate, key by key

Generated from the model by `python docs/generate.py`; `gpumem.yaml` at the root is the same as an example with
comments, and `estate.schema.json` the same for editors. Unknown keys are errors. Amounts of GPU memory are whole MiB,
without a unit. `[]` stands for each entry of a list.

| Key | Form | Default | Meaning |
|---|---|---|---|
"""


def generated() -> dict[str, str]:
    """Each generated file's name in docs/reference and its whole text."""
    schema = json.dumps(estate_schema(), indent=2, ensure_ascii=False) + "\n"
    rows = "".join(f"| `{path}` | {form} | {default} | {text} |\n" for path, form, default, text in rows_of_schema())
    return {
        "cli.md": command_line_page(),
        "estate.schema.json": schema,
        "estate.md": _HEAD + rows,
        "openapi.json": openapi_document(),
    }


def rows_of_schema() -> Iterator[tuple[str, str, str, str]]:
    """Path, form, default and meaning of every key, in the model's order."""
    yield from _rows("", estate_schema())


def _rows(prefix: str, block: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    required = set(block.get("required", ()))
    for key, node in block.get("properties", {}).items():
        path = f"{prefix}{key}"
        whole = resolved(node, keep_description=True)
        default = "**required**" if key in required else _default(node)
        yield path, _form(node), default, _cell(whole.get("description", ""))
        yield from _rows(f"{path}.", whole)
        if "items" in whole:
            yield from _rows(f"{path}[].", resolved(whole["items"]))


def _default(node: dict[str, Any]) -> str:
    if "$ref" in node:
        return "as its keys"
    default = node.get("default")
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return "none" if default in (None, "", []) and default is not False else f"`{json.dumps(default)}`"


def _form(node: dict[str, Any]) -> str:
    options = [_form_of_one(option) for option in node.get("anyOf", [node])]
    return " or ".join(option for option in options if option != "null")


def _form_of_one(node: dict[str, Any]) -> str:
    whole = resolved(node)
    if "anyOf" in whole:  # a union within a union: an exact number or absent
        return _form(whole)
    if "const" in whole:
        return f"`{json.dumps(whole['const'])}`"
    if "enum" in whole:
        return ", ".join(f"`{word}`" for word in whole["enum"])
    if whole.get("type") == "array":
        return f"list of {_plural(_form_of_one(whole['items']))}" + (", not empty" if whole.get("minItems") else "")
    if whole.get("type") == "object":
        return "block" if "properties" in whole else "mapping"
    words = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "null": "null",
    }
    return words[whole["type"]] + _bounds(whole)


def _plural(form: str) -> str:
    return {"block": "blocks", "mapping": "mappings", "text": "texts"}.get(form, form)


def _bounds(node: dict[str, Any]) -> str:
    least, most = node.get("minimum"), node.get("maximum")
    if "exclusiveMinimum" in node:
        above = f", above {node['exclusiveMinimum']:g}"
        return above if most is None else f"{above}, at most {most:g}"
    if least is None and most is None:
        return ""
    return f", {least} or more" if most is None else f", {least} to {most}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<name>", "`<name>`")


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` compare them; the exit code."""
    stale = False
    for name, text in generated().items():
        file = REFERENCE / name
        old = file.read_text(encoding="utf-8") if file.exists() else ""
        if old == text:
            continue
        stale = True
        if "--check" in arguments:
            diff = difflib.unified_diff(
                old.splitlines(keepends=True), text.splitlines(keepends=True), f"docs/reference/{name}", "generated"
            )
            sys.stdout.writelines(diff)
        else:
            file.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote docs/reference/{name}\n")
    if stale and "--check" in arguments:
        sys.stdout.write("stale: run `python docs/generate.py` and commit what it writes\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
