"""The lab's errors; part of the project's tree, so the command line gives them their exit codes."""

from __future__ import annotations

from helpers.domain.errors import DependencyError, InputError


class LabError(DependencyError):
    """The embedded cluster cannot do what was asked; the message names the cause and the repair."""


class LabInputError(InputError):
    """What the lab was asked for makes no sense: an unknown node, a bad name, a lab that is not up."""
