"""What may be asked for, and what a refused request is told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.domain.jobs.gpus import GPU_TYPES, Pool, instance_ratio
from helpers.domain.jobs.problems import RequestInvalid
from helpers.domain.jobs.spec import JobSpec, Priority, read_spec
from tests.fakes.jobs import EXAMPLE, document, spec


def test_the_example_of_the_api_is_taken_as_it_stands() -> None:
    job = read_spec(EXAMPLE)
    assert (job.job_name, job.project_id, job.priority) == ("finetune_llama_7b", "ml-research", Priority.HIGH)
    assert job.demand.pool == Pool("A100", 80)
    assert job.demand.amount == 4
    assert job.budget_limit_usd == Decimal("100")
    assert job.most_seconds(1) == 24 * 3600
    assert job.preemptible
    assert job.container.command == ("python", "train.py")


def test_a_spec_survives_its_own_json() -> None:
    job = read_spec(EXAMPLE)
    assert JobSpec.model_validate(job.model_dump(mode="json")) == job


# Change to a small request, and the place, a part of the rule, and a part of the repair that it is answered with.
BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({"job_name": "-x"}, "job_name", "letter or digit at both ends", "finetune_llama_7b"),
    ({"project_id": "ML"}, "project_id", "DNS label", "lower case"),
    ({"priority": "urgent"}, "priority", "'high', 'medium' or 'low'", "reference"),
    ({"gpu_requirements": {"gpu_type": "A100 80GB"}}, "gpu_requirements.gpu_type", "pattern", "reference"),
    (
        {"gpu_requirements": {"gpu_type": "RTX3090", "mig_profile": "1g.10gb"}},
        "gpu_requirements.mig_profile",
        "a MIG profile of RTX3090",
        "none is declared",
    ),
    ({"gpu_requirements": {"gpu_type": "T4", "gpu_count": 0}}, "gpu_requirements.gpu_count", "greater than or", ""),
    ({"gpu_requirements": {"gpu_type": "T4", "gpu_count": "4"}}, "gpu_requirements.gpu_count", "integer", ""),
    ({"gpu_requirements": {"gpu_type": "T4", "gpu_count": True}}, "gpu_requirements.gpu_count", "integer", ""),
    ({"gpu_requirements": {"gpu_type": "T4", "gpu_memory_gb": 80}}, "gpu_requirements.gpu_memory_gb", "16 GB", "16"),
    (
        {"gpu_requirements": {"gpu_type": "T4", "mig_profile": "1g.10gb"}},
        "gpu_requirements.mig_profile",
        "of T4 with 16 GB",
        "none is declared",
    ),
    (
        {"gpu_requirements": {"gpu_type": "A100", "mig_profile": "1g.10g", "gpu_memory_gb": 80}},
        "gpu_requirements.mig_profile",
        "of A100 with 80 GB",
        'did you mean "1g.10gb"?',
    ),
    (
        {"gpu_requirements": {"gpu_type": "T4", "gpu_memory_mib": 2000, "gpu_count": 2}},
        "gpu_requirements.gpu_count",
        "on one card",
        "workers",
    ),
    (
        {"gpu_requirements": {"gpu_type": "T4", "gpu_memory_mib": 16384}},
        "gpu_requirements.gpu_memory_mib",
        "less than the card's 16384 MiB",
        "whole card",
    ),
    (
        {"gpu_requirements": {"gpu_type": "A100", "gpu_memory_mib": 1, "mig_profile": "1g.10gb"}},
        "gpu_requirements.gpu_memory_mib",
        "not both",
        "remove",
    ),
    ({"container": {}}, "container.image", "required", "add container.image"),
    ({"container": {"image": "a b"}}, "container.image", "image reference", "write it like"),
    ({"container": {"image": "a", "env": {"1A": "x"}}}, "container.env.1A", "variable's name", "rename"),
    ({"container": {"image": "a", "env": {"A": "\x00"}}}, "container.env.A", "NUL", "remove"),
    ({"container": {"image": "a", "comand": []}}, "container.comand", "unknown field", 'did you mean "command"?'),
    ({"resources": {"memory": "128GB"}}, "resources.memory", "Kubernetes quantity", '"128Gi"'),
    ({"resources": {"cpu": "0"}}, "resources.cpu", "above 0", "leave the field out"),
    ({"budget_limit_usd": 0}, "budget_limit_usd", "greater than 0", ""),
    ({"budget_limit_usd": 1.00001}, "budget_limit_usd", "decimal places", ""),
    ({"max_duration_hours": -1}, "max_duration_hours", "greater than 0", ""),
    ({"max_duration_hours": float("inf")}, "max_duration_hours", "finite", ""),
    ({"workers": 0}, "workers", "greater than or equal to 1", ""),
    ({"preemptible": "yes"}, "preemptible", "boolean", ""),
    ({"checkpoint": {}}, "checkpoint", "signal or by HTTP", "one of them"),
    ({"checkpoint": {"signal": "SIGUSR1", "http_path": "/x"}}, "checkpoint", "signal or by HTTP", "one of them"),
    ({"checkpoint": {"signal": "SIGKILL"}}, "checkpoint.signal", "'SIGUSR1'", ""),
    ({"queue": "x"}, "queue", "unknown field", ""),
]


@pytest.mark.parametrize(("change", "place", "rule", "repair"), BAD, ids=[f"{c[1]}-{i}" for i, c in enumerate(BAD)])
def test_a_bad_request_is_told_place_rule_and_repair(
    change: dict[str, Any], place: str, rule: str, repair: str
) -> None:
    with pytest.raises(RequestInvalid) as raised:
        read_spec(document(**change))
    (problem,) = raised.value.problems
    assert problem.path == place
    assert rule in problem.rule
    assert repair in problem.repair
    assert problem.repair


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(RequestInvalid) as raised:
        read_spec(document(job_name="", workers=0, preemptible=1))
    assert [problem.path for problem in raised.value.problems] == ["job_name", "preemptible", "workers"]


@pytest.mark.parametrize("body", [None, [], "x", 3])
def test_a_body_that_is_no_mapping_is_refused(body: object) -> None:
    with pytest.raises(RequestInvalid, match="body"):
        read_spec(body)


@pytest.mark.parametrize(
    ("wish", "pool", "amount"),
    [
        ({"gpu_type": "A100"}, "A100_40GB", 1),
        ({"gpu_type": "A100", "gpu_memory_gb": 41, "gpu_count": 2}, "A100_80GB", 2),
        ({"gpu_type": "H100", "mig_profile": "3g.40gb", "gpu_count": 2}, "H100_80GB/3g.40gb", 2),
        ({"gpu_type": "A100", "mig_profile": "1g.20gb"}, "A100_80GB/1g.20gb", 1),
        ({"gpu_type": "T4", "gpu_memory_mib": 3000}, "T4_16GB/mib", 3000),
        ({"gpu_type": "A100", "gpu_memory_mib": 50000}, "A100_80GB/mib", 50000),
    ],
)
def test_a_wish_takes_of_one_pool(wish: dict[str, Any], pool: str, amount: int) -> None:
    demand = spec(gpu_requirements=wish, workers=3).demand
    assert (demand.pool.name, demand.worker_amount, demand.amount) == (pool, amount, 3 * amount)


@given(st.sampled_from([(name, size) for name, sizes in GPU_TYPES.items() for size in sizes]))
def test_no_profile_takes_more_than_its_card(card: tuple[str, int]) -> None:
    name, size = card
    for profile in GPU_TYPES[name][size]:
        ratio = instance_ratio(Pool(name, size, "mig", profile))
        assert 0 < ratio <= 1
        assert ratio >= int(profile[0]) / 7
    with pytest.raises(KeyError):
        instance_ratio(Pool(name, size))


def test_seven_of_the_smallest_fit_an_a100() -> None:
    assert 7 * instance_ratio(Pool("A100", 80, "mig", "1g.10gb")) == pytest.approx(1)
