"""The injector: answers the API server's reviews of GPU pods, and keeps its own certificate."""

from helpers.apps.injector.app import injector_log, run_injector
from helpers.apps.injector.settings import RunSettings, read_admission_settings

__all__ = ["RunSettings", "injector_log", "read_admission_settings", "run_injector"]
