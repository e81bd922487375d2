"""The GPU manager: an API for GPU jobs, and the loops that make them so."""

from helpers.adapters.kubernetes_.commands import connect_commands
from helpers.apps.manager.api import openapi_document
from helpers.apps.manager.app import Outside, manager_log, run_manager
from helpers.apps.manager.engines import engine_of, utilisation_of
from helpers.apps.manager.settings import RunSettings, read_manager_settings

__all__ = [
    "Outside",
    "RunSettings",
    "connect_commands",
    "engine_of",
    "manager_log",
    "openapi_document",
    "read_manager_settings",
    "run_manager",
    "utilisation_of",
]
