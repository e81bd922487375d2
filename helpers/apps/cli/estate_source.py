"""An estate by file, or by git revision: `gpumem.yaml`, `main`, `main:estates/lab.yaml`."""

from __future__ import annotations

from pathlib import Path

import click

from helpers.adapters.git_ import commit_of, file_at
from helpers.domain.errors import InputError
from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import load_estate, parse_estate


def read_source(source: str, usual_path: str, *, option: str) -> tuple[str, Estate]:
    """What to call `source`, and its estate, over-committed or not; its warnings are on stderr.

    A file goes first. Otherwise `source` is a git revision, with `:path` where the estate is not at `usual_path`.

    Raises:
        EstateInvalid: the estate has errors.
        InputError: it is neither a file nor a revision, or the revision has no such file.
        DependencyError: git is needed, and is not there.
    """
    if Path(source).is_file():
        estate, warnings = load_estate(Path(source), allow_overcommit=True, option=option)
        name = source
    else:
        text, name = _at_revision(source, usual_path, option)
        estate, warnings = parse_estate(text, name, allow_overcommit=True)
    for warning in warnings:
        click.echo(warning.text(), err=True)
    return name, estate


def _at_revision(source: str, usual_path: str, option: str) -> tuple[str, str]:
    revision, _, path = source.partition(":")
    path = path or usual_path
    if Path(path).is_absolute():
        raise InputError(f"{option} {source}: a path at a revision is relative to this folder; write {option} REF:FILE")
    commit = commit_of(Path(), revision)
    if commit is None:
        raise InputError(f"{option} {source}: neither a file nor a git revision here. Name one: FILE, REF or REF:FILE.")
    text = file_at(Path(), commit, path)
    if text is None:
        raise InputError(
            f"{option} {source}: {revision} ({commit[:12]}) has no {path}. Name it: {option} {revision}:FILE."
        )
    return text, f"{revision}:{path}"
