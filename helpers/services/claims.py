"""Reads what cards are offered to claims, and what claims hold of them."""

from __future__ import annotations

from helpers.domain.dra.offers import HeldMemory, OfferedCard, held_memory, offered_cards
from helpers.domain.dra.slice_document import API_VERSION
from helpers.ports.cluster import Cluster, ObjectRef

SLICES = ObjectRef(API_VERSION, "ResourceSlice")
CLAIMS = ObjectRef(API_VERSION, "ResourceClaim")


def observe_cards(cluster: Cluster, driver: str) -> tuple[OfferedCard, ...]:
    """Every card that `driver` offers.

    Raises:
        QuantityError: a capacity cannot be read.
        ClusterError: the API refused or did not answer.
    """
    return offered_cards(cluster.list(SLICES), driver)


def observe_held(cluster: Cluster, driver: str) -> tuple[HeldMemory, ...]:
    """What claims hold of `driver`'s cards.

    Raises:
        QuantityError: an amount cannot be read.
        ClusterError: the API refused or did not answer.
    """
    return held_memory(cluster.list(CLAIMS), driver)
