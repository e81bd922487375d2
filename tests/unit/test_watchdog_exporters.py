"""Exporters over real HTTP on loopback, and their text as samples."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from helpers.adapters.exporter_samples import SampleReader
from helpers.adapters.exporter_scrape import HttpExporters, parse_target
from helpers.domain.errors import InputError
from helpers.domain.memory import mib_to_bytes
from helpers.domain.telemetry.exposition import ExpositionError, exposition
from helpers.domain.telemetry.metrics import families
from helpers.domain.telemetry.reading import (
    Attribution,
    DeviceSample,
    Failure,
    Fault,
    Gpu,
    MemoryReading,
    Snapshot,
    TenantUse,
)
from helpers.domain.watchdog.facts import ContainerUse
from helpers.ports.watchdog_telemetry import ExporterTarget
from tests.fakes.outside import FakeClock

AT = datetime(2026, 6, 2, 12, tzinfo=UTC)
LATER = datetime(2026, 6, 2, 13, tzinfo=UTC)
CARD = 'gpu="0",uuid="GPU-a"'


def snapshot_text(*, fault: Fault | None = None, used_mib: int = 3000) -> str:
    """What the real exporter's own code serves."""
    memory = MemoryReading(*(mib_to_bytes(mib) for mib in (15360, used_mib, 14910 - used_mib, 450)))
    uses = (TenantUse("immich", "ml-0", "main", mib_to_bytes(used_mib) - 1),)
    device = DeviceSample(Gpu(0, "GPU-a", "T4"), AT, memory, None if fault else Attribution(uses, 1), fault)
    return exposition(families(Snapshot(AT, (device,), source_up=True), version="1"))


def test_what_the_exporter_writes_is_read_to_the_last_mib() -> None:
    (sample,) = SampleReader("t4").read(snapshot_text(), LATER)
    assert (sample.node, sample.gpu, sample.uuid, sample.sampled_at, sample.ok) == ("t4", "0", "GPU-a", AT, True)
    assert (sample.total_mib, sample.used_mib, sample.free_mib, sample.reserved_mib) == (15360, 3000, 11910, 450)
    assert sample.pods == (ContainerUse("immich", "ml-0", "main", 3000),)
    assert sample.unattributed_mib == 1


def test_a_second_scrape_with_other_values_is_read_afresh() -> None:
    reader = SampleReader("t4")
    reader.read(snapshot_text(), LATER)
    (sample,) = reader.read(snapshot_text(used_mib=9000), LATER)
    assert (sample.used_mib, sample.free_mib) == (9000, 5910)


def test_fact_8_a_failed_sample_is_unknown_and_not_all_free() -> None:
    fault = Fault(Failure.MEMORY_UNKNOWN, "[N/A]")
    (sample,) = SampleReader("t4").read(snapshot_text(fault=fault), LATER)
    assert not sample.ok
    assert sample.sampled_at == LATER
    assert sample.pods == ()


@pytest.mark.parametrize("series", ["gpu_sample_up", "gpu_attribution_up", "gpu_sample_timestamp_seconds"])
def test_a_card_without_the_exporters_word_for_its_sample_is_unknown(series: str) -> None:
    text = "\n".join(line for line in snapshot_text().splitlines() if not line.startswith(series))
    (sample,) = SampleReader("t4").read(text, LATER)
    assert not sample.ok


def test_an_absent_figure_stays_absent() -> None:
    text = "\n".join(line for line in snapshot_text().splitlines() if not line.startswith("gpu_memory_free"))
    (sample,) = SampleReader("t4").read(text, LATER)
    assert sample.free_mib is None


def test_a_figure_that_is_no_number_is_absent_from_the_first_scrape_and_from_a_later_one() -> None:
    reader = SampleReader("t4")
    good = snapshot_text()
    bad = good.replace(f"gpu_memory_free_bytes{{{CARD}}} {mib_to_bytes(11910)}", f"gpu_memory_free_bytes{{{CARD}}} NaN")
    assert bad != good
    for text in (bad, good, bad):
        (sample,) = reader.read(text, LATER)
        assert sample.free_mib == (None if text is bad else 11910)


@pytest.mark.parametrize(
    "line",
    [
        f"gpu_memory_free_bytes{{{CARD}}} 5",
        f"gpu_memory_free_bytes{{{CARD}}} much",
        f"gpu_memory_reserved_bytes{{{CARD}}} +Inf",
        'gpu_memory_free_bytes{gpu="1",uuid="GPU-a"} 5',
        'gpu_memory_free_bytes{gpu="0"} 5',
        "<html>",
        'gpu_memory_free_bytes{gpu="0"',
    ],
)
def test_an_answer_that_contradicts_itself_or_its_format_is_refused_whole(line: str) -> None:
    reader = SampleReader("t4")
    reader.read(snapshot_text(), LATER)
    with pytest.raises(ExpositionError):
        reader.read(f"{snapshot_text()}{line}\n", LATER)


def test_a_timestamp_behind_a_value_is_not_taken_for_the_value() -> None:
    reader = SampleReader("t4")
    text = snapshot_text().replace(str(mib_to_bytes(11910)), f"{mib_to_bytes(11910)} 1780000000000")
    for _ in range(2):
        (sample,) = reader.read(text, LATER)
        assert sample.free_mib == 11910


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[ExporterTarget]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield ExporterTarget("t4", f"http://127.0.0.1:{server.server_port}/metrics")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def whole(handler: BaseHTTPRequestHandler, text: str = "", status: int = 200) -> None:
    content = (text or snapshot_text()).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def test_one_connection_is_kept_over_scrapes() -> None:
    ports: list[int] = []
    exporters = HttpExporters(FakeClock())

    def answer(handler: BaseHTTPRequestHandler) -> None:
        ports.append(handler.client_address[1])
        whole(handler)

    with serving(answer) as target:
        for _ in range(5):
            (scrape,) = exporters.scrape([target])
            assert scrape.samples is not None
        exporters.close()
    assert len(ports) == 5
    assert len(set(ports)) == 1


def test_a_connection_that_the_exporter_closed_meanwhile_is_made_anew() -> None:
    exporters = HttpExporters(FakeClock())

    def answer(handler: BaseHTTPRequestHandler) -> None:
        whole(handler)
        handler.close_connection = True

    with serving(answer) as target:
        for _ in range(3):
            (scrape,) = exporters.scrape([target])
            assert scrape.samples is not None, scrape.problem
            time.sleep(0.05)
        exporters.close()


def dribbles(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b"#")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "lied"),
    [
        (lambda handler: time.sleep(30), False),
        (dribbles, False),
        (lambda handler: whole(handler, status=500), False),
        (lambda handler: handler.wfile.write(b"\x00\x01garbage\r\n\r\n"), False),
        (lambda handler: whole(handler, "<html>hello</html>"), True),
    ],
    ids=["stalls", "dribbles", "status", "no-http", "other-page"],
)
def test_an_exporter_that_does_not_answer_as_one_harms_no_other(
    answer: Callable[[BaseHTTPRequestHandler], None], lied: bool
) -> None:
    exporters = HttpExporters(FakeClock(), deadline_seconds=2.0)
    with serving(whole) as good, serving(answer) as bad:
        for _ in range(2):
            began = time.monotonic()
            found = {scrape.target: scrape for scrape in exporters.scrape([bad, good])}
            assert time.monotonic() - began < 15  # a bound against hanging
            assert found[good].samples is not None
            assert found[bad].samples is None
            assert found[bad].lied == lied
            assert found[bad].problem
        exporters.close()


def test_nobody_listening_is_said() -> None:
    exporters = HttpExporters(FakeClock(), deadline_seconds=0.3)
    (scrape,) = exporters.scrape([ExporterTarget("t4", "http://127.0.0.1:9/metrics")])
    assert scrape.samples is None
    assert not scrape.lied
    exporters.close()


def test_stalled_exporters_do_not_keep_the_others_from_being_asked() -> None:
    exporters = HttpExporters(FakeClock(), deadline_seconds=3.0)
    with serving(whole) as good, serving(lambda handler: time.sleep(30)) as bad:
        stalled = [ExporterTarget(f"bad-{index}", bad.url) for index in range(60)]
        exporters.scrape([*stalled, good])
        found = {scrape.target: scrape for scrape in exporters.scrape([*stalled, good])}
        assert found[good].samples is not None
        exporters.close()


@pytest.mark.parametrize(
    "text",
    ["t4", "t4=", "=http://127.0.0.1:1", "t4=http://exporter:9836", "t4=http://127.0.0.1", "t4=https://1.2.3.4:1"],
)
def test_fact_3_a_target_is_an_address_and_never_a_name(text: str) -> None:
    with pytest.raises(InputError, match="NODE=http"):
        parse_target(text)


def test_a_target_without_a_path_gets_the_usual_one() -> None:
    assert parse_target("t4=http://[::1]:9836") == ExporterTarget("t4", "http://[::1]:9836/metrics")
