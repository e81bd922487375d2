"""Callers by a file of tokens, for a coordinator outside Kubernetes. `ports.leases.Callers`.

One line for each caller: `TOKEN USER TENANT[,TENANT...]`; `#` begins a comment.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from helpers.domain.errors import InputError
from helpers.domain.leases.book import Holder
from helpers.ports.leases import Caller

LEAST_TOKEN_LENGTH = 16
_FIELDS_COUNT = 3


class TokenFile:
    """Reads the file once. `option`: the command line's name of the file, for messages.

    Raises:
        InputError: it cannot be read, others may read it, or a line is of another form.
    """

    def __init__(self, path: Path, *, option: str = "--lease-tokens") -> None:
        self._callers: dict[str, Caller] = {}
        self._tenants: dict[str, frozenset[str]] = {}
        for number, line in enumerate(_text(path, option).splitlines(), start=1):
            fields = line.partition("#")[0].split()
            if fields:
                self._add(f"{path}:{number}", fields)

    def caller(self, token: str) -> Caller | None:
        """Whose token it is. Hashes are looked up, so that the time it takes tells nothing about the tokens."""
        return self._callers.get(_digest(token))

    def may(self, caller: Caller, verb: str, namespace: str, tenant: str) -> bool:  # noqa: ARG002 - all verbs alike
        """Whether the tenant (for the manager the project, which is a namespace) stands in the caller's line."""
        return (tenant or namespace) in self._tenants.get(caller.user, frozenset())

    def _add(self, where: str, fields: list[str]) -> None:
        if len(fields) != _FIELDS_COUNT:
            raise InputError(
                f"{where}: {len(fields)} words; a line is TOKEN USER TENANT[,TENANT...]. Correct the line."
            )
        token, user, tenants = fields
        if len(token) < LEAST_TOKEN_LENGTH:
            raise InputError(
                f"{where}: the token of {user} has {len(token)} characters, and at least {LEAST_TOKEN_LENGTH} are "
                "needed so that nobody guesses it. Make one with `openssl rand -hex 16`."
            )
        if user in self._tenants or _digest(token) in self._callers:
            raise InputError(f"{where}: {user} or its token stands there twice. Remove one of the two lines.")
        self._callers[_digest(token)] = Caller(user, holder=Holder(user=user))
        self._tenants[user] = frozenset(tenants.split(","))


def _text(path: Path, option: str) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"token file {path}: {error.strerror}. Name another with {option}.") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"token file {path}: others than its owner may use it. Run `chmod 600 {path}`.")
    return text


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
