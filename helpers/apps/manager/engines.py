"""Which engine the settings mean. The one place where an engine's name becomes an engine."""

from __future__ import annotations

from helpers.domain.jobs.settings import ManagerSettings
from helpers.ports.cluster import Cluster
from helpers.ports.job_engine import JobEngine


def engine_of(settings: ManagerSettings, cluster: Cluster) -> JobEngine | None:  # noqa: ARG001 - the engines' own work
    """The engine; None: this install has none, and jobs stay pending."""
    return None
