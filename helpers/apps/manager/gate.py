"""Who sends a request, and what they may do in which project."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from http import HTTPStatus

from helpers.domain import names
from helpers.domain.errors import Problem
from helpers.domain.jobs.settings import ManagerSettings
from helpers.ports.clock import Clock
from helpers.ports.leases import Caller, Callers

# A token that was taken away is believed so much longer.
SEEN_SECONDS = 5.0
_MOST_SEEN_COUNT = 4096


class Refused(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, code: HTTPStatus, *problems: Problem, **headers: str) -> None:
        super().__init__("; ".join(problem.rule for problem in problems))
        self.code = code
        self.problems = problems
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Gate:
    """Lets callers through, project by project. What is not answered is never a yes."""

    def __init__(self, callers: Callers, settings: ManagerSettings, clock: Clock) -> None:
        self._callers = callers
        self._settings = settings
        self._clock = clock
        self._seen: dict[str, tuple[float, Caller]] = {}

    def seen(self, token: str) -> Caller | None:
        """Whose token it is, where that was found out less than SEEN_SECONDS ago. Only its hash is remembered."""
        kept = self._seen.get(_digest(token))
        return kept[1] if kept is not None and self._clock.monotonic_seconds() < kept[0] else None

    def caller(self, token: str) -> Caller:
        """Whose token came with the request; empty: none came."""
        caller = self._callers.caller(token) if token else None
        if caller is None:
            rule = "the token is nobody's" if token else "a request has a header Authorization: Bearer TOKEN"
            problem = Problem("Authorization", "", rule, "send a token of the cluster: kubectl create token NAME")
            raise Refused(HTTPStatus.UNAUTHORIZED, problem, WWW_Authenticate="Bearer")
        if len(self._seen) >= _MOST_SEEN_COUNT:
            self._seen.clear()
        self._seen[_digest(token)] = (self._clock.monotonic_seconds() + SEEN_SECONDS, caller)
        return caller

    def may(self, caller: Caller, verb: str, project_id: str) -> bool:
        """Whether; a name that is no namespace's is nobody's project."""
        return names.is_dns_label(project_id) and self._callers.may(caller, verb, project_id, "")

    def let(self, caller: Caller, verb: str, project_id: str) -> None:
        """Stops who may not `verb` jobs of the project."""
        if not self.may(caller, verb, project_id):
            rule = f"{caller.user} may not {verb} {names.JOB_RESOURCE}.{names.JOB_GROUP} in namespace {project_id}"
            repair = "have the project's owner bind the role gpumem-job-submitter to you, or choose another project"
            raise Refused(HTTPStatus.FORBIDDEN, Problem("project_id", project_id[:100], rule, repair))

    def projects(self, caller: Caller, wanted: Iterable[str] | None = None) -> frozenset[str]:
        """The projects whose jobs the caller may list; with `wanted`, those, or it is stopped."""
        if wanted is not None:
            named = frozenset(wanted)
            for project_id in sorted(named):
                self.let(caller, "list", project_id)
            return named
        return frozenset(one.name for one in self._settings.projects if self.may(caller, "list", one.name))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
