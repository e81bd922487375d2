"""The capacity helper: advertises each node's MiB once (`run_assert`), keeps it (`run_watch`), removes it."""

from helpers.apps.capacity.app import capacity_log, run_assert, run_unset, run_watch
from helpers.apps.capacity.settings import WatchSettings, read_capacity_settings

__all__ = ["WatchSettings", "capacity_log", "read_capacity_settings", "run_assert", "run_unset", "run_watch"]
