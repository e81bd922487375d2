"""The manager's own Deployment: what its pods are told, and what of it is a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from helpers.domain.estate.budget_alerts import AlertEmail, AlertWebhook, BudgetAlerts
from helpers.domain.estate.coordinator import SecretKey
from helpers.domain.estate.manager import Project
from helpers.domain.jobs.settings import ManagerSettings
from helpers.rendering.manager import manager_objects
from tests.synth.estates import PROJECT, shipped

DATABASE = SecretKey(name="database", key="url")


def rendered(**changes: Any) -> dict[str, Mapping[str, Any]]:
    """`{address: object}` of the estate of pools, with those changes of its manager."""
    estate = shipped(PROJECT / "estates/gpu-pools.yaml")
    assert estate.manager is not None
    manager = estate.manager.model_copy(update={"database_secret": DATABASE, **changes})
    changed = estate.model_copy(update={"manager": manager})
    return {one.address: one.manifest for one in manager_objects(changed)}


def variables(objects: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    (container,) = objects["manager"]["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["valueFrom"].get("secretKeyRef") for one in container["env"]}


def test_without_a_database_there_is_no_deployment() -> None:
    assert "manager" not in rendered(database_secret=None)


def test_secrets_of_budget_alerts_come_from_secrets_and_stand_nowhere_else() -> None:
    mail = AlertEmail(
        host="smtp.example.org",
        user="gpumem",
        password_secret=SecretKey(name="mail", key="password"),
        sender="gpumem@example.org",
        recipients=("ops@example.org",),
    )
    hook = AlertWebhook(url_secret=SecretKey(name="hook", key="url"))
    alerts = BudgetAlerts(webhook=hook, email=mail)
    objects = rendered(budget_alerts=alerts, projects=(Project(name="vision", budget_usd_per_month=Decimal(100)),))
    found = variables(objects)
    assert found["GPUMEM_ALERT_WEBHOOK_URL"] == {"name": "hook", "key": "url"}
    assert found["GPUMEM_ALERT_SMTP_PASSWORD"] == {"name": "mail", "key": "password"}
    document = json.loads(objects["manager-config"]["data"]["manager.json"])
    assert ManagerSettings.model_validate_json(json.dumps(document)).budget_alerts == alerts
    assert set(variables(rendered())) == {"GPUMEM_NAMESPACE", "GPUMEM_DATABASE_URL"}
