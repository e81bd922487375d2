"""Replay: the very decisions on recorded traces, and whether each recycle was needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.domain.errors import InputError
from helpers.domain.memory import mib_to_bytes
from helpers.domain.telemetry import metric_names as m
from helpers.domain.watchdog.incident import USED_AFTER_MIB, USED_AT_PEAK_MIB, IncidentShape, incident_trace
from helpers.domain.watchdog.prometheus_trace import parse_range
from helpers.domain.watchdog.replay import Effect, replay, sweep
from helpers.domain.watchdog.settings import WatchdogSettings, watchdog_settings
from helpers.domain.watchdog.trace import Frame, Trace, parse_lines, to_lines
from helpers.rendering.estate_file import load_estate
from helpers.services.replay import load_trace, replay_choices, summary
from tests.cases.recycling.world import NOW, ago, pod, rule, sample
from tests.cases.recycling.world import settings as armed

BRIEF = IncidentShape(quiet_hours=0.1, growth_hours=0.5, after_hours=0.1, peak_hours=0.3)


def trace_of(use_mib: Callable[[int], int], *, looks: int = 60, step: float = 30, total_mib: int = 16_000) -> Trace:
    """One over-budget tenant whose use at each look is `use_mib(look)`, beside one within its budget."""
    frames = []
    over, quiet = pod("ns/over", started_at=ago(90_000)), pod("ns/quiet", budget_mib=4000)
    for look in range(looks):
        at = NOW + timedelta(seconds=look * step)
        used = {"ns/over": use_mib(look), "ns/quiet": 3000}
        free_mib = total_mib - sum(used.values())
        frames.append(Frame(at, (sample(used, free_mib=free_mib, total_mib=total_mib, sampled_at=at),), (over, quiet)))
    return tuple(frames)


def test_the_incident_is_drawn_as_it_was_reported() -> None:
    trace = incident_trace()
    used = [frame.samples[0].used_mib for frame in trace]
    assert max(mib for mib in used if mib is not None) == USED_AT_PEAK_MIB
    assert used[-1] == USED_AFTER_MIB
    at_peak = [frame.at for frame, mib in zip(trace, used, strict=True) if mib == USED_AT_PEAK_MIB]
    assert at_peak[-1] - at_peak[0] >= timedelta(hours=2.4)


def test_the_incident_ends_in_seconds_at_a_floor_that_sees_it_and_is_missed_at_the_default() -> None:
    """12571 of 15360 MiB used leaves 2339 free: more than 1536, so that floor alone would never have told."""
    missed, seen = sweep(incident_trace(BRIEF), WatchdogSettings(floor_mib=1), [1536, 2560], [300])
    assert missed.recycles == ()
    assert missed.under_floor_untouched_minutes == 0
    assert [str(recycle.decision.victim) for recycle in seen.recycles] == [
        "immich/immich-machine-learning-5f6d8c9b7-n7p2r"
    ]
    assert seen.recycles[0].needed is True
    assert seen.false_recycles == ()
    assert seen.under_floor_minutes <= 1 < seen.under_floor_untouched_minutes


def test_a_pressure_that_goes_by_itself_makes_the_recycle_a_false_one() -> None:
    report = replay(trace_of(lambda look: 12_500 if look in (10, 11) else 5000), armed())
    assert [recycle.needed for recycle in report.recycles] == [False]
    assert report.false_recycles[0].evidence == "without it 8000 MiB are free 60 s later"


def test_a_pressure_that_stays_makes_the_recycle_a_needed_one() -> None:
    report = replay(trace_of(lambda look: 12_500 if look >= 10 else 2000), armed())
    assert [recycle.needed for recycle in report.recycles] == [True]
    assert report.under_floor_untouched_minutes == pytest.approx(25)
    assert report.under_floor_minutes == pytest.approx(0.5)


def test_a_trace_that_ends_too_early_leaves_the_judgement_open() -> None:
    report = replay(trace_of(lambda look: 12_500 if look >= 58 else 2000), armed())
    assert [recycle.needed for recycle in report.recycles] == [None]


def test_a_recycled_tenant_that_grows_again_is_recycled_again_after_the_cooldown_only() -> None:
    growing = trace_of(lambda look: 3000 + look * 110, looks=120, total_mib=12_000)
    counts = [len(r.recycles) for r in sweep(growing, armed(), [4000], [60, 100_000])]
    assert counts[0] > counts[1] == 1


def test_the_victim_holds_nothing_while_it_restarts_and_its_least_afterwards() -> None:
    """Recycled at look 10 with 9000 MiB; the least seen was 2000: 13000 - 5000 in use leave the floor alone."""
    report = replay(trace_of(lambda look: 12_500 if look >= 10 else 2000), armed(), Effect(restart_seconds=90))
    assert len(report.recycles) == 1
    assert report.refusals == {}


def test_failed_samples_are_minutes_unknown_and_not_minutes_without_pressure() -> None:
    trace = trace_of(lambda _look: 2000)
    broken = tuple(
        replace(frame, samples=tuple(replace(s, ok=False) for s in frame.samples)) if index >= 30 else frame
        for index, frame in enumerate(trace)
    )
    report = replay(broken, armed())
    assert report.seen_minutes == pytest.approx(15)
    assert report.unknown_minutes == pytest.approx(15)


def test_dry_run_traces_are_replayed_as_if_armed() -> None:
    chosen = armed({"over": {"dry_run": True}}, dry_run=True)
    assert len(replay(trace_of(lambda look: 12_500 if look >= 10 else 2000), chosen).recycles) == 1


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.integers(-2500, 2500), min_size=5, max_size=40),
    floor_mib=st.sampled_from((500, 1536, 4000)),
    cooldown=st.sampled_from((0, 60, 300)),
    hourly=st.integers(0, 3),
)
def test_whatever_the_trace_in_budget_tenants_live_and_caps_hold(
    steps: list[int], floor_mib: int, cooldown: float, hourly: int
) -> None:
    uses, used_mib = [], 2000
    for step_mib in steps:
        used_mib = min(12_900, max(0, used_mib + step_mib))
        uses.append(used_mib)
    chosen = armed(floor_mib=floor_mib, cooldown_seconds=cooldown, recycles_per_hour_tenant=hourly)
    report = replay(trace_of(lambda look: uses[look], looks=len(uses)), chosen)
    assert len(report.recycles) <= hourly
    assert all(recycle.decision.victim.name == "over" for recycle in report.recycles)
    assert all(recycle.decision.overshoot_mib > 0 for recycle in report.recycles)
    assert report.under_floor_minutes <= report.under_floor_untouched_minutes
    times = [recycle.at for recycle in report.recycles]
    assert all(b - a >= timedelta(seconds=cooldown) for a, b in pairwise(times))


def test_lines_read_back_as_they_were_written() -> None:
    trace = incident_trace(BRIEF)
    assert parse_lines(to_lines(trace), "t.jsonl") == trace


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "t.jsonl:1: line = {"),
        ('{"at": "2026-06-02T08:00:00Z"}', "t.jsonl:1: samples ="),
        (
            '{"at": "2026-06-02T08:00:00", "samples": []}',
            "t.jsonl:1: at = 2026-06-02T08:00:00: Input should have timezone",
        ),
        ('{"at": 1, "samples": [{"nod": "n"}]}', "t.jsonl:1: samples.0"),
        (
            '{"at": 2, "samples": []}\n{"at": 1, "samples": []}',
            "t.jsonl:2: at = 1970-01-01T00:00:01+00:00: a trace goes",
        ),
        ("\n", "t.jsonl: no look in it"),
    ],
)
def test_a_line_that_is_no_look_is_refused_with_its_place(line: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_lines(line, "t.jsonl")
    assert message in str(raised.value)


def test_an_unknown_key_in_a_row_is_refused() -> None:
    line = json.loads(to_lines(incident_trace(BRIEF)[:1]))
    line["samples"][0]["pods"][0]["used_bytes"] = 1
    with pytest.raises(InputError, match=r"samples\.0\.pods\.0\.used_bytes"):
        parse_lines(json.dumps(line), "t.jsonl")


def prometheus(trace: Trace, *, attributed: bool = True) -> str:
    """The trace as Prometheus would have recorded the exporter's series."""
    series: dict[tuple[tuple[str, str], ...], list[list[object]]] = {}

    def put(at: datetime, value: float, **labels: str) -> None:
        series.setdefault(tuple(sorted(labels.items())), []).append([at.timestamp(), str(value)])

    for frame in trace:
        for card in frame.samples:
            where = {"node": card.node, "gpu": card.gpu, "uuid": card.uuid}
            for name, mib in ((m.TOTAL, card.total_mib), (m.USED, card.used_mib), (m.FREE, card.free_mib)):
                put(frame.at, mib_to_bytes(mib or 0), __name__=name, **where)
            put(frame.at, float(card.ok), __name__=m.SAMPLE_UP, **where)
            put(frame.at, float(attributed), __name__=m.ATTRIBUTION_UP, **where)
            put(frame.at, card.sampled_at.timestamp(), __name__=m.SAMPLE_TIMESTAMP, **where)
            for row in card.pods:
                labels = {"exported_namespace": row.namespace, "exported_pod": row.pod, "container": row.container}
                put(frame.at, mib_to_bytes(row.used_mib), __name__=m.POD_USED, namespace="nvidia", **labels, **where)
    result = [{"metric": dict(labels), "values": values} for labels, values in series.items()]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})


INCIDENT_RULES = (
    rule("immich-ml", namespace="immich", workload="immich-machine-learning", budget_mib=3000),
    rule("immich-server", namespace="immich", workload="immich-server", budget_mib=1800),
    rule("frigate", namespace="frigate", kind="StatefulSet", workload="frigate", budget_mib=2000),
    rule("portal-stt", namespace="portal", workload="portal-stt", budget_mib=1500),
)


def test_the_incident_from_prometheus_recycles_the_same_pod_as_from_lines() -> None:
    trace = incident_trace(replace(BRIEF, step_seconds=30))
    chosen = WatchdogSettings(floor_mib=2560, tenants=INCIDENT_RULES)
    read = parse_range([prometheus(trace)], "range.json", chosen)
    assert [(r.at, str(r.decision.victim)) for r in replay(read, chosen).recycles] == [
        (r.at, str(r.decision.victim)) for r in replay(trace, chosen).recycles
    ]


def test_a_repeated_old_value_in_prometheus_is_stale_by_its_sample_timestamp() -> None:
    trace = trace_of(lambda _look: 12_500, looks=3, step=30)
    silent = tuple(
        replace(frame, samples=tuple(replace(s, sampled_at=trace[0].at) for s in frame.samples)) for frame in trace
    )
    chosen = WatchdogSettings(floor_mib=1536, tenants=(rule("over", workload="over"),))
    report = replay(parse_range([prometheus(silent)], "range.json", chosen), chosen)
    assert report.unknown_minutes == pytest.approx(1)


def test_a_card_that_the_exporter_calls_down_is_unknown() -> None:
    trace = trace_of(lambda _look: 12_500, looks=3)
    down = tuple(replace(frame, samples=tuple(replace(s, ok=False) for s in frame.samples)) for frame in trace)
    chosen = WatchdogSettings(floor_mib=1536)
    assert replay(parse_range([prometheus(down)], "range.json", chosen), chosen).seen_minutes == 0


def test_a_card_whose_pods_are_not_known_is_unknown() -> None:
    chosen = WatchdogSettings(floor_mib=1536)
    text = prometheus(trace_of(lambda _look: 12_500, looks=3), attributed=False)
    assert replay(parse_range([text], "range.json", chosen), chosen).seen_minutes == 0


def test_a_value_that_is_no_number_is_absent() -> None:
    trace = trace_of(lambda _look: 12_500, looks=2)
    answer = json.loads(prometheus(trace))
    for series in answer["data"]["result"]:
        if series["metric"]["__name__"] == m.FREE:
            series["values"] = [[at, "NaN"] for at, _ in series["values"]]
    chosen = WatchdogSettings(floor_mib=1536)
    assert replay(parse_range([json.dumps(answer)], "range.json", chosen), chosen).seen_minutes == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>", "range.json:1: no JSON"),
        ('{"data": {"resultType": "vector", "result": []}}', "resultType is no matrix"),
        ('{"data": {"resultType": "matrix", "result": []}}', "none of gpu_memory_total_bytes"),
    ],
)
def test_an_answer_that_is_no_range_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_range([text], "range.json", WatchdogSettings(floor_mib=1))


def test_the_longest_workload_name_owns_a_pod() -> None:
    chosen = WatchdogSettings(floor_mib=1, tenants=(rule("a", workload="web"), rule("b", workload="web-6f7")))
    owner = chosen.rule_for_pod("ns", "web-6f7-5d9c8b7f6d-x2x4z")
    assert owner is not None
    assert owner.name == "b"
    assert chosen.rule_for_pod("ns", "other-5d9c8b7f6d-x2x4z") is None


def test_both_kinds_of_file_are_told_apart_and_give_the_same_answer(tmp_path: Path) -> None:
    trace = incident_trace(replace(BRIEF, step_seconds=30))
    chosen = WatchdogSettings(floor_mib=2560, tenants=INCIDENT_RULES)
    lines, answer = tmp_path / "trace.jsonl", tmp_path / "range.json"
    lines.write_text(to_lines(trace), encoding="utf-8")
    answer.write_text(prometheus(trace), encoding="utf-8")
    found = [summary(replay_choices(load_trace([path], chosen), chosen)[0]) for path in (lines, answer)]
    assert [(one["recycles"], one["false_recycles"]) for one in found] == [(1, 0), (1, 0)]
    assert found[0]["each"][0]["tenant"] == "immich-ml"
    assert json.dumps(found[0])
    with pytest.raises(InputError, match="Name one kind"):
        load_trace([lines, answer], chosen)
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read"):
        load_trace([tmp_path / "none.jsonl"], chosen)


def test_choices_default_to_the_estates_own() -> None:
    reports = replay_choices(incident_trace(BRIEF), armed(), floors_mib=[1536, 2560], cooldowns_seconds=[60, 300])
    assert [(r.floor_mib, r.cooldown_seconds) for r in reports] == [(1536, 60), (1536, 300), (2560, 60), (2560, 300)]
    assert [(r.floor_mib, r.cooldown_seconds) for r in replay_choices(incident_trace(BRIEF), armed())] == [(1536, 300)]


def test_the_example_estates_settings_name_its_tenants_and_are_one_stable_line() -> None:
    estate, _ = load_estate(Path(__file__).parents[2] / "gpumem.yaml")
    document = watchdog_settings(estate)
    assert WatchdogSettings.model_validate_json(document.to_json()) == document
    assert document.floor_mib == estate.watchdog.floor_mib
    assert [entry.name for entry in document.tenants] == [tenant.name for tenant in estate.tenants]
    assert document.dry_run is True
    assert document.stale_after_seconds == 15
