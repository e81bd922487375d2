"""Shared fixtures, and the one place that decides what is skipped, with its reason."""

from __future__ import annotations

import pytest
from hypothesis import settings

from lab.terraform_run import find_terraform

pytest_plugins = [
    "tests.fixtures.doctor_lab",
    "tests.fixtures.doctor_webhook",
    "tests.fixtures.jobs_lab",
    "tests.fixtures.lab",
    "tests.fixtures.platform_lab",
    "tests.fixtures.real_node",
    "tests.fixtures.side_by_side",
    "tests.fixtures.watchdog_scene",
]

# How long an example takes says nothing here: other tests run beside it. `timeout` bounds a test against hanging.
settings.register_profile("gpumem", deadline=None)
settings.load_profile("gpumem")

NO_TERRAFORM = "neither terraform nor tofu is on PATH; install one to run the plan and apply tests"


def pytest_configure(config: pytest.Config) -> None:
    # pytest-terraform refuses to start without a terraform; in replay mode it starts, and the
    # tests that need one are skipped below, counted and with their reason.
    if find_terraform() is None:
        config.option.dest_tf_replay = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_terraform() is None:
        for item in items:
            if item.get_closest_marker("terraform") is not None:
                item.add_marker(pytest.mark.skip(reason=NO_TERRAFORM))
