"""A lab of the test session's own: never the user's `.lab/default`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from kubernetes import client, config

from lab import cluster
from lab.cluster import Lab, LabNode

BOUND_SECONDS = 60.0
POLL_SECONDS = 0.05
HOLLOW_NODE = LabNode(
    "hollow-0",
    {"nvidia.com/gpu.present": "true", "node-role.kubernetes.io/gpu": "yes"},
    {"nvidia.com/gpu": 8, "example.com/fpga": 2},
    "hollow",
)
BARE_NODE = LabNode("bare-0", {"pool": "bare"}, {"nvidia.com/gpu": 8}, "bare")

T = TypeVar("T")
Eventually = Callable[[Callable[[], T]], T]


def wait_for(look: Callable[[], T]) -> T:
    """What `look` gives as soon as it is true; a generous bound against hanging, not a figure."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, f"still {seen!r} after {BOUND_SECONDS:.0f} s"
        time.sleep(POLL_SECONDS)
    return seen


@pytest.fixture(scope="session")
def eventually() -> Eventually[Any]:
    return wait_for


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root: Path = tmp_path_factory.mktemp("labs")
    try:
        yield cluster.up("tests", [HOLLOW_NODE, BARE_NODE], root, print)
    finally:
        cluster.down("tests", root)


@pytest.fixture(scope="session")
def kube(lab: Lab) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(lab.kubeconfig)) as api:
        yield api
