"""The injector: answers the API server's reviews of GPU pods, and keeps its own certificate."""

from helpers.apps.injector.app import injector_log, run_injector
from helpers.apps.injector.settings import RunSettings

__all__ = ["RunSettings", "injector_log", "run_injector"]
