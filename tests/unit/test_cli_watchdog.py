"""`gpumem watchdog replay`, `recommend` and `arm` on a recorded trace: the incident of 2 June, from the field."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from helpers.apps.cli import __main__ as cli
from helpers.domain.errors import ExitCode, InputError
from helpers.domain.watchdog.incident import incident_trace
from helpers.domain.watchdog.prometheus_trace import TRACE_SERIES
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.domain.watchdog.trace import to_lines
from helpers.rendering.estate_file import load_estate
from helpers.services.replay import fetched_trace
from tests.fakes.outside import FakeClock

EXAMPLE = Path("gpumem.yaml")


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("trace") / "incident.jsonl"
    file.write_text(to_lines(incident_trace()))
    return file


@pytest.fixture(autouse=True)
def no_estate_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUMEM_ESTATE", raising=False)


def test_replay_shows_what_each_floor_would_have_done(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Field fault 12: a floor of 2560 MiB would have ended the incident with one recycle, one of 1536 not at all."""
    arguments = ["watchdog", "replay", str(trace), "-o", "json", "--floor-mib", "1536", "--floor-mib", "2560"]
    assert cli.run(arguments) == ExitCode.OK
    low, high = json.loads(capsys.readouterr().out)
    assert (low["floor_mib"], low["recycles"]) == (1536, 0)
    assert (high["floor_mib"], high["recycles"], high["false_recycles"]) == (2560, 1, 0)
    assert high["under_floor_minutes"] < high["under_floor_minutes_without"] / 100


def test_arm_says_not_yet_from_hours_of_data_and_changes_nothing(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Field fault 7: dry run was never turned off, because nothing said what it would have done."""
    before = EXAMPLE.read_text()
    assert cli.run(["arm", str(trace)]) == ExitCode.CHECK_FAILED
    shown = capsys.readouterr().out
    assert "not yet (now: dry run)" in shown
    assert "days observed" in shown
    assert EXAMPLE.read_text() == before


def test_recommend_names_every_tenant_that_was_seen(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.run(["recommend", str(trace), "-o", "json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (ExitCode.OK if found["fits"] else ExitCode.CHECK_FAILED)
    (leaking,) = [item for item in found["tenants"] if item["tenant"] == "immich-ml"]
    assert leaking["max_mib"] > leaking["budget_mib"]
    assert leaking["reasons"]


@pytest.mark.parametrize("command", [["watchdog", "replay"], ["recommend"], ["arm"]])
def test_without_a_source_the_usage_says_which_there_are(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(command) == ExitCode.BAD_INPUT
    assert "--prometheus URL" in capsys.readouterr().err


def test_an_unreachable_prometheus_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["recommend", "--prometheus", "http://127.0.0.1:1"]) == ExitCode.DEPENDENCY
    assert "http://127.0.0.1:1/api/v1/query_range" in capsys.readouterr().err


class _Store:
    """A Prometheus that answers one card's free and used memory."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def query_range(self, query: str, start: datetime, end: datetime, step_seconds: int) -> str:
        self.asked.append(query)
        labels = {"__name__": query, "gpu": "0", "uuid": "GPU-1", "node": "t4-node"}
        bytes_of = {"gpu_memory_total_bytes": 15360, "gpu_memory_free_bytes": 5000, "gpu_memory_used_bytes": 9910}
        value = bytes_of.get(query)
        series = [] if value is None else [{"metric": labels, "values": [[end.timestamp(), str(value << 20)]]}]
        return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}})


def test_every_series_that_a_trace_is_made_of_is_asked_for() -> None:
    settings = watchdog_settings(load_estate(EXAMPLE)[0])
    store = _Store()
    (frame,) = fetched_trace(store, FakeClock(), timedelta(hours=1), 60, settings)
    assert store.asked == list(TRACE_SERIES)
    (sample,) = frame.samples
    assert (sample.node, sample.free_mib, sample.total_mib) == ("t4-node", 5000, 15360)


def test_a_step_that_is_too_fine_for_the_span_names_one_that_fits() -> None:
    settings = watchdog_settings(load_estate(EXAMPLE)[0])
    with pytest.raises(InputError, match="--step-seconds 55"):
        fetched_trace(_Store(), FakeClock(), timedelta(days=7), 5, settings)
