"""The gate between the stacks: does every node show its number?"""

from __future__ import annotations

from helpers.domain.capacity import CapacitySettings, Shortfall, shortfalls
from helpers.domain.dra.gate import claim_shortfalls
from helpers.domain.errors import ClusterError, ExitCode
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster
from helpers.services.capacity_observation import observe_nodes, running_pods
from helpers.services.claims import observe_cards, observe_held

POLL_SECONDS = 0.5


def verify(cluster: Cluster, settings: CapacitySettings, clock: Clock, wait_seconds: float) -> tuple[Shortfall, ...]:
    """What keeps the gate closed; empty when it is open. Asks again until then or for `wait_seconds`.

    Another server version than the estate's is a shortfall that no waiting mends, so it is answered
    at once. An API that does not answer the first question is an error at once; one that stops
    answering meanwhile is waited for as the numbers are.

    Args:
        cluster: The cluster that is asked.
        settings: What every node must show, and the server version that the estate is rendered for.
        clock: Time.
        wait_seconds: 0 asks once.

    Raises:
        CheckFailed: a node matches two kinds.
        QuantityError: a number on a node cannot be read.
        ClusterError: the API refused, or did not answer in the end.
    """
    until = clock.monotonic_seconds() + wait_seconds
    version = cluster.server_version()
    found = _shortfalls(cluster, settings)
    if version != settings.kubernetes_version:
        wanted = f"{settings.kubernetes_version} (kubernetes.version in the estate: correct it and render again)"
        return (Shortfall("API server", f"Kubernetes {version}", wanted), *found)
    lost: ClusterError | None = None
    while found and clock.monotonic_seconds() < until:
        clock.sleep_seconds(min(POLL_SECONDS, until - clock.monotonic_seconds()))
        try:
            found, lost = _shortfalls(cluster, settings), None
        except ClusterError as error:
            if error.exit_code is not ExitCode.DEPENDENCY:  # a refusal stays one
                raise
            lost = error
    if lost is not None:
        raise lost
    return found


def _shortfalls(cluster: Cluster, settings: CapacitySettings) -> tuple[Shortfall, ...]:
    if not settings.claim_nodes:
        return shortfalls(settings, observe_nodes(cluster, settings))
    nodes = observe_nodes(cluster, settings, running_pods(cluster, settings.resource))
    cards, held = observe_cards(cluster, settings.claims_driver), observe_held(cluster, settings.claims_driver)
    return (*shortfalls(settings, nodes), *claim_shortfalls(settings, nodes, cards, held))
