"""A file as it stood at a git revision, by the `git` program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from helpers.domain.errors import DependencyError

_BOUND_SECONDS = 60


def commit_of(folder: Path, revision: str) -> str | None:
    """The commit that `revision` names in the repository around `folder`; None where it names none.

    Raises:
        DependencyError: there is no git, or it does not answer.
    """
    # --end-of-options: a revision that begins with a dash is no option.
    done = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    return done.stdout.strip() if done.returncode == 0 else None


def file_at(folder: Path, commit: str, path: str) -> str | None:
    """The text of `path` (from `folder`) at `commit`; None where it was not there.

    Raises:
        DependencyError: there is no git, or it does not answer.
    """
    done = _git(folder, "show", f"{commit}:./{path}")
    return done.stdout if done.returncode == 0 else None


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("git")
    if program is None:
        raise DependencyError("git is not on PATH; install it, or name two estate files")
    try:
        return subprocess.run(
            [program, *arguments], cwd=folder, capture_output=True, text=True, timeout=_BOUND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DependencyError(f"git {arguments[0]}: no answer within {_BOUND_SECONDS} s; a retry is safe") from error
