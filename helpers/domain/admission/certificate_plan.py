"""The webhook's certificate: what to do next, from what the cluster holds.

The injector makes its own: for each rotation a new authority, whose key is thrown away once it has
signed the one certificate, so that nothing worth stealing is left but the serving key itself. Trust
comes first: the new authority stands in the configuration's caBundle, and has had time to reach every
API server, before anybody serves a certificate of it. Old authorities stay until they expire, so that
replicas may change over when they like.

Pure: everything is asked again after each act, so whoever begins anew after a crash goes on from what
is there. A certificate that was never written is lost with the process that made it; its authority
stays in the caBundle until it expires and can sign nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

# A crash while rotating leaves one authority behind; a crash loop must not grow the object for ever.
MOST_AUTHORITIES_COUNT = 8


@dataclass(frozen=True, slots=True)
class Authority:
    """One certificate of a caBundle. `fingerprint`: SHA-256 of it, hex. `pem`: its text."""

    fingerprint: str
    not_after_at: datetime
    pem: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServingCertificate:
    """A certificate whose key matches and that its authority has signed.

    `chain_pem` and `key_pem` are what a server loads. `names`: DNS names and addresses.
    """

    fingerprint: str
    authority: Authority
    names: frozenset[str]
    not_before_at: datetime
    not_after_at: datetime
    chain_pem: str = field(repr=False)
    key_pem: str = field(repr=False)

    @property
    def due_at(self) -> datetime:
        """When the next one is made: after two thirds of its lifetime."""
        return self.not_before_at + (self.not_after_at - self.not_before_at) * 2 / 3

    def in_time(self, now_at: datetime) -> bool:
        """Whether it is valid then, and so is its authority."""
        return self.not_before_at <= now_at < min(self.not_after_at, self.authority.not_after_at)

    def lacks(self, wanted: frozenset[str]) -> frozenset[str]:
        """Names under which it is asked for and that it does not have."""
        return wanted - self.names


@dataclass(frozen=True, slots=True)
class Unusable:
    """The Secret holds something that cannot be served; why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Trusted:
    """One webhook's caBundle: its text as it stands, and the authorities that were found in it."""

    pem: str = field(repr=False)
    authorities: tuple[Authority, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """A certificate in this process's memory, not yet in the Secret.

    `trusted_for_seconds`: how long every caBundle has been seen with its authority; None: not yet.
    """

    certificate: ServingCertificate
    trusted_for_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """All that is looked at. `secret` None: there is none. `trusted`: `{webhook: its caBundle}`; empty: no object."""

    now_at: datetime
    names: frozenset[str]
    settle_seconds: float
    secret: ServingCertificate | Unusable | None
    trusted: Mapping[str, Trusted]
    pending: Pending | None = None


@dataclass(frozen=True, slots=True)
class Issue:
    """Make a new authority and a certificate of it, in memory."""

    reason: str


@dataclass(frozen=True, slots=True)
class Trust:
    """Write these authorities, and no others, into every caBundle."""

    authorities: tuple[Authority, ...]
    reason: str

    @property
    def pem(self) -> str:
        """The caBundle's text."""
        return bundle_pem(self.authorities)


@dataclass(frozen=True, slots=True)
class Settle:
    """Wait: an API server may not have seen the new authority yet."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Serve:
    """Write the pending certificate into the Secret; every replica takes it from there."""

    certificate: ServingCertificate
    reason: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do before `until_at`."""

    until_at: datetime


Action = Issue | Trust | Settle | Serve | Keep


def plan_certificates(facts: CertificateFacts) -> Action:
    """The next act. After the last of them this gives Keep, and goes on giving it until something changes."""
    serving = facts.secret if isinstance(facts.secret, ServingCertificate) else None
    reason = why_another(facts)
    pending = facts.pending if reason else None
    if reason and (pending is None or facts.now_at >= pending.certificate.due_at):
        return Issue(reason)
    wanted = _wanted(facts, serving, pending.certificate if pending else None)
    if any(one.pem != bundle_pem(wanted) for one in facts.trusted.values()):
        return Trust(wanted, reason or _why_trust(facts, wanted))
    if pending is None:
        return Keep(_next_at(facts.now_at, serving, wanted))
    left_seconds = facts.settle_seconds - (pending.trusted_for_seconds or 0.0)
    if left_seconds > 0 and _somebody_is_trusted(facts, pending.certificate):
        return Settle(left_seconds, reason)
    return Serve(pending.certificate, reason)


def why_another(facts: CertificateFacts) -> str:
    """Why the Secret's certificate is to be replaced; empty where it is not."""
    secret = facts.secret
    if secret is None:
        return "there is no certificate"
    if isinstance(secret, Unusable):
        return f"the certificate cannot be used: {secret.reason}"
    if missing := secret.lacks(facts.names):
        return f"the certificate is not for {', '.join(sorted(missing))}"
    if not secret.in_time(facts.now_at):
        return f"the certificate is valid from {secret.not_before_at} to {secret.not_after_at}"
    if facts.now_at >= secret.due_at:
        return f"two thirds of the certificate's lifetime are over since {secret.due_at:%Y-%m-%dT%H:%M:%SZ}"
    return ""


def bundle_pem(authorities: tuple[Authority, ...]) -> str:
    """Authorities as one caBundle."""
    return "".join(f"{authority.pem.strip()}\n" for authority in authorities)


def _wanted(
    facts: CertificateFacts, serving: ServingCertificate | None, pending: ServingCertificate | None
) -> tuple[Authority, ...]:
    """The authorities in use, then the others by how long they live; none that has expired."""
    used = [one.authority for one in (pending, serving) if one is not None]
    others = {one.fingerprint: one for trusted in facts.trusted.values() for one in trusted.authorities}
    kept = {one.fingerprint: one for one in used if one.not_after_at > facts.now_at}
    by_life = sorted(others.values(), key=lambda one: (one.not_after_at, one.fingerprint), reverse=True)
    for one in by_life:
        if one.not_after_at > facts.now_at and len(kept) < MOST_AUTHORITIES_COUNT:
            kept.setdefault(one.fingerprint, one)
    # In an order that does not depend on who is in use, so that a rotation changes the text twice, not thrice.
    return tuple(sorted(kept.values(), key=lambda one: (one.not_after_at, one.fingerprint)))


def _why_trust(facts: CertificateFacts, wanted: tuple[Authority, ...]) -> str:
    fingerprints = {one.fingerprint for one in wanted}
    for trusted in facts.trusted.values():
        if fingerprints - {one.fingerprint for one in trusted.authorities}:
            return "an authority in use was missing"
    return "an authority has expired, or something else stood there"


def _somebody_is_trusted(facts: CertificateFacts, pending: ServingCertificate) -> bool:
    """Whether some replica may be serving, and be trusted: only then a hasty change could break anything."""
    return any(
        one.fingerprint != pending.authority.fingerprint and one.not_after_at > facts.now_at
        for trusted in facts.trusted.values()
        for one in trusted.authorities
    )


def _next_at(now_at: datetime, serving: ServingCertificate | None, wanted: tuple[Authority, ...]) -> datetime:
    ends = [one.not_after_at for one in wanted] + ([serving.due_at] if serving else [])
    return min(ends, default=now_at + timedelta(hours=1))
