"""What the guide of engines states, held against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.adapters.job_engines import checkpoints, documents, engine
from helpers.adapters.job_engines.kueue import KueueEngine
from helpers.adapters.job_engines.native import NativeEngine
from helpers.adapters.job_engines.volcano import VolcanoEngine
from helpers.adapters.manager_metrics import PrometheusManagerMetrics
from helpers.adapters.metrics import new_registry
from helpers.domain import names
from helpers.domain.jobs.observation import Capability
from tests.unit.test_job_documents import objects

FOLDER = Path(__file__).parents[2] / "docs"
GUIDE = (FOLDER / "guides" / "gpu-job-engines.md").read_text(encoding="utf-8")
COLUMNS = ("fifo", "priority", "fair_share", "gang", "preemption", "borrowing", "provisioning_request")


@pytest.mark.parametrize("kind", [NativeEngine, KueueEngine, VolcanoEngine])
def test_the_table_is_what_engines_say(kind: type[NativeEngine | KueueEngine | VolcanoEngine]) -> None:
    (row,) = re.findall(rf"^\| `{kind.name}` \|(.*)\|$", GUIDE, re.MULTILINE)
    cells = dict(zip(COLUMNS, [cell.strip() for cell in row.split("|")][2:], strict=True))
    without = kind(*objects()).capabilities()
    most = kind(*objects(may_preempt=True, provisioning_class="x")).capabilities()
    for column, cell in cells.items():
        said = {"yes": (True, True), "no": (False, False)}.get(cell, (False, True))
        assert (Capability(column) in without, Capability(column) in most) == said, column


def test_its_numbers_are_the_codes() -> None:
    assert f"stays for {documents.KEPT_SECONDS // 86400} days" in GUIDE
    assert f"{documents.DEADLINE_SLACK_SECONDS} s after its limit" in GUIDE
    assert GUIDE.count(f"{documents.PLACE_SECONDS} s") == 3
    assert f"{checkpoints.ASK_BOUND_SECONDS:.0f} s for all" in GUIDE
    assert f"again after {checkpoints.AGAIN_SECONDS:.0f} s" in GUIDE


def test_its_names_are_the_codes() -> None:
    source = Path(engine.__file__).read_text(encoding="utf-8")
    for event in re.findall(r"`(Job[A-Z][A-Za-z]+)`", GUIDE):
        assert f'"{event}"' in source
    variables = {value for key, value in vars(names).items() if key.startswith("ENV_JOB_")}
    assert set(re.findall(r"`(GPUMEM_JOB_[A-Z_]+)`", GUIDE)) == variables
    registry = new_registry("gpumem-manager", "test")
    PrometheusManagerMetrics(registry)
    series = {sample.name for family in registry.collect() for sample in family.samples}
    assert set(re.findall(r"`(gpumem_manager_[a-z_]+)`", GUIDE)) <= series
