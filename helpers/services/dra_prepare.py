"""Prepares claims for the kubelet, and takes that back: each step such that a crash after it harms nobody.

Order of preparing: checked against the API server, then the CDI file, then the checkpoint, then the
answer. Order of taking back: the checkpoint, then the file. Whatever a crash leaves in between, the
kubelet asks again with the same uid, and every step is the same when it is done twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from helpers.domain.dra.prepared import ClaimRef, PreparedClaim, check_uid, completed, prepared_claim
from helpers.domain.dra.slice_document import API_VERSION
from helpers.domain.errors import ClusterError, Forbidden, GpumemError
from helpers.ports.cluster import ObjectRef, Objects
from helpers.ports.dra_agent import CdiFiles, Checkpoint, CheckpointCorrupted, DraMetrics
from helpers.ports.log import Log
from helpers.services.dra_board import NodeBoard


@dataclass(frozen=True)
class PreparePorts:
    """What the preparer works with."""

    api: Objects
    checkpoint: Checkpoint
    cdi: CdiFiles
    metrics: DraMetrics
    log: Log


class Preparer:
    """Safe to call from several threads; one claim after the other.

    Args:
        ports: The outside.
        node_name: This node.
        board: Where its devices are seen, and what is prepared is shown.
    """

    def __init__(self, ports: PreparePorts, *, node_name: str, board: NodeBoard) -> None:
        self._ports = ports
        self._node_name = node_name
        self._board = board
        self._claims: dict[str, PreparedClaim] = {}
        self._lock = threading.Lock()

    def recover(self) -> str:
        """Takes up what was prepared before this process.

        Returns:
            Why the checkpoint had to be rebuilt; empty where it was whole.

        Raises:
            OSError: A file cannot be written.
        """
        with self._lock:
            why, claims = self._recovered()
            self._claims = {claim.uid: claim for claim in claims}
            for claim in claims:
                self._ports.cdi.write(claim)  # folders in memory are empty after a reboot
            self._ports.checkpoint.save(self._saved())
            self._show()
        self._ports.log.info("recovered", claim_count=len(claims), rebuilt=why)
        return why

    def prepare(self, refs: Sequence[ClaimRef]) -> dict[str, PreparedClaim | str]:
        """`{uid: what is prepared, or why it is not}`, an entry for each of `refs`."""
        return {ref.uid: self._answered("prepare", ref, self._prepare) for ref in refs}

    def unprepare(self, refs: Sequence[ClaimRef]) -> dict[str, str]:
        """`{uid: why it could not be taken back}`, empty texts where it was or where there was nothing."""
        answers = {ref.uid: self._answered("unprepare", ref, self._unprepare) for ref in refs}
        return {uid: answer if isinstance(answer, str) else "" for uid, answer in answers.items()}

    def _answered(
        self, verb: str, ref: ClaimRef, act: Callable[[ClaimRef], PreparedClaim | None]
    ) -> PreparedClaim | str:
        log, metrics = self._ports.log, self._ports.metrics
        try:
            with self._lock:
                done = act(ref)
                self._show()
        except (GpumemError, OSError) as error:
            metrics.failed(verb)
            log.error(f"{verb}_failed", claim=str(ref), uid=ref.uid, reason=str(error))
            return str(error)
        if done is None:
            log.info(f"{verb}d", claim=str(ref), uid=ref.uid)
            return ""
        cards, budget_mib = list(done.uuids()), done.budget_mib()
        log.info(f"{verb}d", claim=str(ref), uid=ref.uid, gpu_uuid=cards, budget_mib=budget_mib)
        return done

    def _prepare(self, ref: ClaimRef) -> PreparedClaim:
        check_uid(ref.uid)
        before = self._claims.get(ref.uid)
        try:
            found = self._ports.api.get(_claim_object(ref))
        except Forbidden:
            raise
        except ClusterError as error:
            # A container that starts again must not wait for an API server that is away.
            if before is None or not all(grant.device for grant in before.grants):
                raise
            self._ports.log.warning("claim_not_read", claim=str(ref), reason=str(error), decision="as prepared before")
            self._ports.cdi.write(before)
            return before
        claim = prepared_claim(ref, found, node=self._node_name, devices=self._board.devices())
        self._ports.cdi.write(claim)
        if claim != before:
            self._claims[ref.uid] = claim
            try:
                self._ports.checkpoint.save(self._saved())
            except OSError:
                # Not on disk, so not prepared; the kubelet asks again.
                self._put_back(ref.uid, before)
                raise
        return claim

    def _unprepare(self, ref: ClaimRef) -> None:
        check_uid(ref.uid)
        before = self._claims.pop(ref.uid, None)
        if before is not None:
            try:
                self._ports.checkpoint.save(self._saved())
            except OSError:
                self._put_back(ref.uid, before)
                raise
        # Also without an entry: a crash between the file and the checkpoint leaves the file alone.
        self._ports.cdi.remove(ref.uid)

    def _put_back(self, uid: str, before: PreparedClaim | None) -> None:
        if before is None:
            self._claims.pop(uid, None)
        else:
            self._claims[uid] = before

    def _show(self) -> None:
        self._board.show_in_use(uuid for claim in self._claims.values() for uuid in claim.uuids())
        self._ports.metrics.prepared(self._saved())

    def _saved(self) -> tuple[PreparedClaim, ...]:
        return tuple(self._claims[uid] for uid in sorted(self._claims))

    def _recovered(self) -> tuple[str, list[PreparedClaim]]:
        files, unreadable = self._ports.cdi.found()
        for text in unreadable:
            self._ports.metrics.failed("cdi")
            self._ports.log.error("cdi_file_not_understood", reason=text)
        try:
            saved = self._ports.checkpoint.load()
            why = "" if saved is not None or not files else "there is no checkpoint, though CDI files are there"
        except CheckpointCorrupted as error:
            saved, why = None, str(error)
        if why:
            self._ports.metrics.failed("checkpoint")
            self._ports.log.error("checkpoint_rebuilt", reason=why, claim_count=len(files))
        return why, list(self._still_there(files if saved is None else saved, complete=bool(why)))

    def _still_there(self, claims: Sequence[PreparedClaim], *, complete: bool) -> Iterator[PreparedClaim]:
        """Those that the API server still has; all that are left, from the first question that it does not answer.

        `complete`: they come from files, which do not tell all.
        """
        away = False
        for claim in claims:
            ref = ClaimRef(claim.namespace, claim.name, claim.uid)
            if away:
                yield claim
                continue
            try:
                found = self._ports.api.get(_claim_object(ref))
            except ClusterError as error:
                self._ports.log.warning("claims_not_verified", claim=str(ref), reason=str(error))
                away = True
                yield claim
                continue
            if found is not None and str(found["metadata"].get("uid")) == claim.uid:
                yield completed(claim, found) if complete else claim
            else:
                # Nothing can be started on it any more, and a kubelet that lost its own notes never asks.
                self._ports.log.info("claim_gone", claim=str(ref), uid=claim.uid)
                self._ports.cdi.remove(claim.uid)


def _claim_object(ref: ClaimRef) -> ObjectRef:
    return ObjectRef(API_VERSION, "ResourceClaim", ref.name, ref.namespace)
