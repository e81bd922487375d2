"""The query by which idle jobs are found, run by the real promtool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.adapters.job_utilisation import QUERY
from lab.programs import Program
from tests.rules.promtool import promtool_run

OWN = "namespace='vision', container='main', gpu='gpu0'"
CASES = {
    "our exporter: the card's own figure for each pod on it, and nobody else's pods": (
        {
            f"gpu_pod_memory_used_bytes{{pod='gpu-job-a-x', uuid='u0', {OWN}}}": "1e9",
            f"gpu_pod_memory_used_bytes{{pod='gpu-job-b-x', uuid='u1', {OWN}}}": "1e9",
            f"gpu_pod_memory_used_bytes{{pod='ollama-0', uuid='u1', {OWN}}}": "1e9",
            "gpu_utilization_ratio{gpu='gpu0', uuid='u0'}": "0.02",
            "gpu_utilization_ratio{gpu='gpu0', uuid='u1'}": "0.9",
        },
        {"gpu-job-a-x": 0.02, "gpu-job-b-x": 0.9},
    ),
    "several cards: the busiest": (
        {
            f"gpu_pod_memory_used_bytes{{pod='gpu-job-a-x', uuid='u0', {OWN}}}": "1e9",
            f"gpu_pod_memory_used_bytes{{pod='gpu-job-a-x', uuid='u1', {OWN}}}": "1e9",
            "gpu_utilization_ratio{gpu='gpu0', uuid='u0'}": "0",
            "gpu_utilization_ratio{gpu='gpu0', uuid='u1'}": "0.4",
        },
        {"gpu-job-a-x": 0.4},
    ),
    "an exporter scraped twice": (
        {
            f"gpu_pod_memory_used_bytes{{pod='gpu-job-a-x', uuid='u0', instance='a', {OWN}}}": "1e9",
            "gpu_utilization_ratio{gpu='gpu0', uuid='u0', instance='a'}": "0.3",
            "gpu_utilization_ratio{gpu='gpu0', uuid='u0', instance='b'}": "0.3",
        },
        {"gpu-job-a-x": 0.3},
    ),
    "DCGM's exporter": ({"DCGM_FI_DEV_GPU_UTIL{pod='gpu-job-a-x', gpu='0'}": "3"}, {"gpu-job-a-x": 0.03}),
    "nobody measures": ({"up{}": "1"}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_query(promtool: Program, tmp_path: Path, case: str) -> None:
    series, wanted = CASES[case]
    expected = [{"labels": f'{{pod="{pod}"}}', "value": value} for pod, value in wanted.items()]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{value}x5"} for name, value in series.items()],
        "promql_expr_test": [{"expr": QUERY, "eval_time": "2m", "exp_samples": expected}],
    }
    file = tmp_path / "case.yaml"
    file.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}), encoding="utf-8")
    ran = promtool_run(promtool, "test", "rules", file.name, folder=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
