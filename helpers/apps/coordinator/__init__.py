"""The coordinator: which job queue in front of a card may run now."""

from helpers.apps.coordinator.app import coordinator_log, run_coordinator
from helpers.apps.coordinator.settings import RunSettings, read_coordinator_settings

__all__ = ["RunSettings", "coordinator_log", "read_coordinator_settings", "run_coordinator"]
