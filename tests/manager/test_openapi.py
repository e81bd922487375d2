"""Requests that are made from the published OpenAPI: whatever is sent, nothing of it is the server's fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from helpers.adapters.asgi_server import asgi_served
from helpers.adapters.metrics import ListenAddress
from helpers.apps.manager.api import openapi_document
from lab.postgres_server import PostgresServer
from tests.fakes.jobs import document
from tests.manager.conftest import new_database
from tests.manager.scene import ALICE, Scene

EXAMPLES_COUNT = 40
OPERATIONS = sorted(
    f"{method.upper()} {path}"
    for path, methods in schemathesis.openapi.from_file(openapi_document()).raw_schema["paths"].items()
    for method in methods
)


@pytest.fixture(scope="module")
def api_schema(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The API on PostgreSQL, with some jobs in it."""
    scene = Scene(tmp_path_factory.mktemp("openapi"), new_database(postgres))
    with asgi_served(scene.application, ListenAddress(), name="api", option="--address") as port:
        scene.client.base_url = f"http://127.0.0.1:{port}"
        for _ in range(3):
            assert scene.submit(document()).status_code == 201
        scene.bench.turn()
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
        scene.client.close()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_request_is_the_servers_fault(api_schema: Any, operation: str) -> None:
    method, path = operation.split(" ")
    strategy = api_schema[path][method].as_strategy()

    @given(case=strategy)
    @settings(max_examples=EXAMPLES_COUNT, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        response = case.call(headers={"Authorization": f"Bearer {ALICE}"})
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            problems = response.json()["errors"]
            assert problems
            assert all(problem["rule"] and problem["repair"] for problem in problems)

    check()


def test_every_operation_says_who_is_refused_and_how(api_schema: Any) -> None:
    assert len(OPERATIONS) == 15
    for path, methods in api_schema.raw_schema["paths"].items():
        for method, operation in methods.items():
            assert {"401", "422", "503"} <= set(operation["responses"]), f"{method} {path}"
            assert operation["security"], f"{method} {path}"
