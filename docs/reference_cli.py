"""The command line as a page, from the commands themselves."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from helpers.apps.cli.__main__ import cli
from helpers.apps.exporter.__main__ import parser as exporter_parser

_HEAD = """# The command line

Generated from the commands by `python docs/generate.py`. Exit codes: [exit-codes.md](exit-codes.md). Every command has
`-h`; what a variable sets, an option on the line outranks.
"""
_TABLE = "\n| Option | Default | Meaning |\n|---|---|---|\n"
_EXPORTER = "gpumem exporter run"  # its flags go through click as they are


def command_line_page() -> str:
    """The whole page."""
    return _HEAD + "".join(_sections("gpumem", cli))


def _sections(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    if isinstance(command, click.Group):
        if path != "gpumem":
            yield f"\n## {path}\n\n{_help(command)}\n"
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _sections(f"{path} {name}", found)
        return
    level = "##" if path.count(" ") == 1 else "###"
    usage = " ".join([path, *_arguments(command)])
    rows = list(_exporter_rows() if path == _EXPORTER else _rows(command, context))
    yield f"\n{level} {path}\n\n{_help(command)}\n\n`{usage}`\n" + (_TABLE + "".join(rows) if rows else "")


def _help(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").replace("\b\n", "")


def _arguments(command: click.Command) -> Iterator[str]:
    for one in command.params:
        if isinstance(one, click.Argument):
            name = one.make_metavar(click.Context(command)).strip("[].")
            yield (name if one.required else f"[{name}]") + ("..." if one.nargs == -1 else "")


def _rows(command: click.Command, context: click.Context) -> Iterator[str]:
    for one in command.params:
        record = one.get_help_record(context) if isinstance(one, click.Option) and not one.hidden else None
        if record is None or not isinstance(one, click.Option):
            continue
        variables = [one.envvar] if isinstance(one.envvar, str) else list(one.envvar or ())
        text = (one.help or "").strip()
        if variables:
            text += f" Variable: {', '.join(f'`{name}`' for name in variables)}."
        if one.required:
            text += " Required."
        yield _row(record[0], _default(one.get_default(context, call=False)), text)


def _exporter_rows() -> Iterator[str]:
    for action in exporter_parser()._actions:  # argparse has no other way to list them
        if action.dest != "help":
            text, _, default = (action.help or "").removesuffix(")").partition(" (default: ")
            yield _row(_exporter_flag(action), default and f"`{default}`", text)


def _exporter_flag(action: argparse.Action) -> str:
    flags = ", ".join(action.option_strings)
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return flags
    choices = "|".join(map(str, action.choices)) if action.choices else ""
    return f"{flags} {action.metavar or choices or action.dest.upper()}"


def _default(value: object) -> str:
    plain = isinstance(value, str | int | float | Path) and not isinstance(value, bool)
    return f"`{value}`" if plain and value != "" else ""


def _row(flag: str, default: str, text: str) -> str:
    cells = [f"`{flag}`", default, text]
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |\n"
