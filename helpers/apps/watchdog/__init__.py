"""The watchdog: frees GPU memory under pressure from the tenant that is furthest over its budget."""

from helpers.apps.watchdog.app import run_watchdog, watchdog_log
from helpers.apps.watchdog.settings import RunSettings, read_watchdog_settings

__all__ = ["RunSettings", "read_watchdog_settings", "run_watchdog", "watchdog_log"]
