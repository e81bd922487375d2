"""A page for every alert that any estate can have, all pages in one form, and no page without its alert."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.domain.estate.monitoring import Monitoring
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.monitoring_alerts import monitoring_alerts
from tests.rules.gate_cases import gate_rules
from tests.rules.lease_cases import lease_rules
from tests.rules.manager_cases import manager_rules
from tests.synth.estates import PROJECT, SHIPPED, example_on_webhook, on_claims, shipped

# What to do after an alert is on its page; `recovery-…` pages are procedures, see tests/lab/test_recovery_runbooks.py.
PAGES = sorted(page for page in (PROJECT / "docs/runbooks").glob("*.md") if not page.stem.startswith("recovery-"))


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    estates = [*map(shipped, SHIPPED), example_on_webhook(), lease_rules().estate, gate_rules().estate]
    estates += [manager_rules().estate, on_claims()]
    alerts = [alert for one in estates for alert in monitoring_alerts(one, watchdog_settings(one), Monitoring())]
    assert {page.stem for page in PAGES} == {alert.name for alert in alerts}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_form_of_the_others(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Meaning", "First look", "Likely causes", "What to do", "Silencing"]
