"""The error tree.

GpumemError
├── InputError         exit 2: what was given is wrong; nothing was touched
│   ├── QuantityError      a Kubernetes quantity that cannot be read exactly
│   └── EstateInvalid      one or more Problems in an estate file
├── CheckFailed        exit 1: the check says no (not ready, would over-commit, refused)
└── DependencyError    exit 3: something we depend on is unreachable; a retry is safe
    └── ClusterError       the Kubernetes API refused or did not answer
        ├── NotFound
        ├── Conflict
        ├── Forbidden
        └── Rejected     exit 2: the API server says that the object is wrong

Adapters translate their client's exceptions into this tree and chain the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means (documented in docs/reference/exit-codes.md)."""

    OK = 0
    CHECK_FAILED = 1
    BAD_INPUT = 2
    DEPENDENCY = 3
    UNEXPECTED = 70


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an estate: place, value, rule, repair.

    `path` is the estate path (`tenants[2].budget_mib`); `line` and `column` count from 1 and are
    0 where the problem has no place in a file. `severity` is `error` or `warning`.
    """

    path: str
    value: str
    rule: str
    repair: str
    severity: str = "error"
    file: str = ""
    line: int = 0
    column: int = 0

    def where(self) -> str:
        """`file:line:column`, as editors and terminals link it."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else (self.file or "estate")

    def text(self) -> str:
        """The problem in three lines, for a person."""
        shown = f"{self.path} = {self.value}" if self.value else self.path
        return f"{self.where()}: {self.severity}: {shown}\n  rule:   {self.rule}\n  repair: {self.repair}"


class GpumemError(Exception):
    """Root of everything this project raises on purpose."""

    exit_code = ExitCode.UNEXPECTED


class InputError(GpumemError):
    """What was given cannot be used as it is."""

    exit_code = ExitCode.BAD_INPUT


class QuantityError(InputError):
    """A text that is no exact Kubernetes quantity."""


class EstateInvalid(InputError):
    """An estate with at least one error; carries all of them, warnings included."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        errors = sum(1 for problem in self.problems if problem.severity == "error")
        noun = "error" if errors == 1 else "errors"
        super().__init__("\n".join([*(problem.text() for problem in self.problems), f"{errors} {noun}"]))


class CheckFailed(GpumemError):
    """The check was made and the answer is no."""

    exit_code = ExitCode.CHECK_FAILED


class DependencyError(GpumemError):
    """Something outside this process did not answer; nothing is known to be wrong with the input."""

    exit_code = ExitCode.DEPENDENCY


class ClusterError(DependencyError):
    """The Kubernetes API refused a request or could not be reached."""


class NotFound(ClusterError):
    """The object is not there."""

    exit_code = ExitCode.CHECK_FAILED


class Conflict(ClusterError):
    """Another field manager owns a field, or the object changed under us."""

    exit_code = ExitCode.CHECK_FAILED


class Forbidden(ClusterError):
    """The credentials in use lack a permission; the message names verb and resource."""

    exit_code = ExitCode.CHECK_FAILED


class Rejected(ClusterError):
    """The API server read the object and says that it is wrong (400, 422): a retry cannot help."""

    exit_code = ExitCode.BAD_INPUT
