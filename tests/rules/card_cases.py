"""Cases of the alerts about a card and about what measures it."""

from __future__ import annotations

from tests.rules.promtool import Case, Firing

MIB = 2**20
A = 'gpu="0", uuid="GPU-a", node="n1"'
TEXT_A = "GPU 0 of node n1 (GPU-a)"
LABELS_A = {"gpu": "0", "uuid": "GPU-a", "node": "n1"}


def card(name: str, instance: str = "10.0.0.1:9400", more: str = "") -> str:
    """A series of card A as one exporter pod shows it."""
    return f'{name}{{{A}{more}, job="gpumem-exporter", instance="{instance}"}}'


def steady(value: float, count: int = 400) -> str:
    return f"{value:.0f}+0x{count}"


def mib(value_mib: int, count: int = 400) -> str:
    return steady(value_mib * MIB, count)


# --- GPUVRAMLow: the example's floor is 1536 MiB

LOW = Firing(
    LABELS_A,
    f"{TEXT_A} is under pressure.",
    "1000 MiB are free, under the floor of 1536 MiB: the next allocation of any tenant there may fail.",
)
VRAM_LOW = (
    Case("GPUVRAMLow", "silent", {card("gpu_memory_free_bytes"): mib(1536)}, {"10m": ()}),
    Case("GPUVRAMLow", "firing", {card("gpu_memory_free_bytes"): mib(1000)}, {"15s": (), "10m": (LOW,)}),
    Case(
        "GPUVRAMLow",
        "duplicate series",
        {
            card("gpu_memory_free_bytes", "10.0.0.1:9400"): mib(1000),
            card("gpu_memory_free_bytes", "10.0.0.2:9400"): mib(1100),
        },
        {"10m": (LOW,)},
    ),
    Case("GPUVRAMLow", "absent series", {card("gpu_sample_up"): steady(0)}, {"10m": ()}),
    Case(
        "GPUVRAMLow",
        "one card of two, outside Kubernetes",
        {
            'gpu_memory_free_bytes{gpu="0", uuid="GPU-a"}': mib(1000),
            'gpu_memory_free_bytes{gpu="1", uuid="GPU-b"}': mib(9000),
        },
        {
            "10m": (
                Firing({"gpu": "0", "uuid": "GPU-a"}, "GPU 0 (GPU-a) is under pressure.", LOW.description),
            )
        },
    ),
)  # fmt: skip

# --- GPUVRAMTelemetryDown

UNMEASURED = "What is used there is unknown, which is not zero: the watchdog does nothing there."
GOOD_CARD = {
    card("gpu_sample_up"): steady(1),
    card("gpu_sample_timestamp_seconds"): "0+15x400",
    'gpu_telemetry_up{node="n1", job="gpumem-exporter", instance="10.0.0.1:9400"}': steady(1),
    'up{node="n1", job="gpumem-exporter", instance="10.0.0.1:9400"}': steady(1),
}
SAMPLE_FAILED = Firing(
    {**LABELS_A, "cause": "sample_failed"},
    "GPU memory is not measured on node n1, GPU 0.",
    f"Cause sample_failed. {UNMEASURED}",
)
NO_EXPORTER = Firing({"cause": "no_exporter"}, "GPU memory is not measured.", f"Cause no_exporter. {UNMEASURED}")


def down(cause: str, **labels: str) -> Firing:
    where = f" on node {labels['node']}" if "node" in labels else ""
    where += f", GPU {labels['gpu']}" if "gpu" in labels else ""
    return Firing({**labels, "cause": cause}, f"GPU memory is not measured{where}.", f"Cause {cause}. {UNMEASURED}")


TELEMETRY_DOWN = (
    Case("GPUVRAMTelemetryDown", "silent", GOOD_CARD, {"30m": ()}),
    Case(
        "GPUVRAMTelemetryDown",
        "firing",
        {**GOOD_CARD, card("gpu_sample_up"): steady(0), card("gpu_sample_timestamp_seconds"): "_x400"},
        {"30s": (), "10m": (SAMPLE_FAILED,)},
    ),
    Case(
        "GPUVRAMTelemetryDown",
        "duplicate series",
        {
            **GOOD_CARD,
            card("gpu_sample_up"): steady(0),
            card("gpu_sample_up", "10.0.0.2:9400"): steady(0),
            card("gpu_sample_timestamp_seconds"): "_x400",
        },
        {"10m": (SAMPLE_FAILED,)},
    ),
    Case("GPUVRAMTelemetryDown", "absent series", {}, {"10m": (NO_EXPORTER,)}),
    Case(
        "GPUVRAMTelemetryDown",
        "one whole reader of a card is enough",
        {**GOOD_CARD, card("gpu_sample_up", "10.0.0.2:9400"): steady(0)},
        {"10m": ()},
    ),
    Case(
        "GPUVRAMTelemetryDown",
        "an exporter that stalls on an old sample",
        {**GOOD_CARD, card("gpu_sample_timestamp_seconds"): "60+0x400"},
        {"10m": (down("sample_old", **LABELS_A),)},
    ),
    Case(
        "GPUVRAMTelemetryDown",
        "an exporter that cannot be scraped",
        {'up{node="n1", job="gpumem-exporter", instance="10.0.0.1:9400"}': steady(0)},
        {"10m": (down("scrape_failed", node="n1", instance="10.0.0.1:9400"),)},
    ),
    Case(
        "GPUVRAMTelemetryDown",
        "a driver that does not answer from the start",
        {
            'gpu_telemetry_up{node="n1", job="gpumem-exporter", instance="10.0.0.1:9400"}': steady(0),
            'up{node="n1", job="gpumem-exporter", instance="10.0.0.1:9400"}': steady(1),
        },
        {"10m": (down("source_down", node="n1"),)},
    ),
    Case(
        "GPUVRAMTelemetryDown",
        "a card that is gone while its neighbour is measured, until the window ends",
        {
            **GOOD_CARD,
            'gpu_sample_up{gpu="1", uuid="GPU-b", node="n1", job="gpumem-exporter"}': "1+0x20 stale",
        },
        {"5m": (), "10m": (down("card_gone", gpu="1", uuid="GPU-b", node="n1"),), "30m": ()},
    ),
)

# --- GPUMemoryUnattributed: the example's only reserve is 1360 MiB

UNOWNED = Firing(
    LABELS_A,
    f"{TEXT_A} holds memory that no pod owns.",
    "2000 MiB belong to nobody who is known, more than the 1360 MiB set aside; "
    "they are missing from the tenants' budgets.",
)
UNATTRIBUTED = (
    Case("GPUMemoryUnattributed", "silent", {card("gpu_memory_unattributed_bytes"): mib(1360)}, {"30m": ()}),
    Case(
        "GPUMemoryUnattributed",
        "firing",
        {card("gpu_memory_unattributed_bytes"): mib(2000)},
        {"9m": (), "30m": (UNOWNED,)},
    ),
    Case(
        "GPUMemoryUnattributed",
        "duplicate series",
        {
            card("gpu_memory_unattributed_bytes"): mib(1900),
            card("gpu_memory_unattributed_bytes", "10.0.0.2:9400"): mib(2000),
        },
        {"30m": (UNOWNED,)},
    ),
    Case("GPUMemoryUnattributed", "absent series", {card("gpu_sample_up"): steady(0)}, {"30m": ()}),
)

# --- GPUXidError


def xid(code: int, times: int) -> Firing:
    return Firing(
        {**LABELS_A, "xid": str(code)},
        f"{TEXT_A} reported Xid {code}.",
        f"{times} within ten minutes; the code tells whether a program, the driver or the card is at fault.",
    )


XID_79 = card("gpu_xid_events_total", more=', xid="79"')
XID = (
    Case("GPUXidError", "silent", {XID_79: steady(3)}, {"30m": ()}),
    # Born with its first event, as a counter of something rare is: `increase` alone would say nothing.
    Case("GPUXidError", "firing", {XID_79: "_x40 1+0x400"}, {"9m": (), "11m": (xid(79, 1),), "30m": ()}),
    Case(
        "GPUXidError",
        "duplicate series",
        {XID_79: "_x40 1+0x400", card("gpu_xid_events_total", "10.0.0.2:9400", ', xid="79"'): "_x40 1+0x400"},
        {"11m": (xid(79, 1),)},
    ),
    Case("GPUXidError", "absent series", {card("gpu_sample_up"): steady(1)}, {"30m": ()}),
    Case(
        "GPUXidError",
        "a second one, long after the first",
        {XID_79: "1+0x200 2+0x400"},
        {"49m": (), "52m": (xid(79, 1),), "70m": ()},
    ),
)

# --- GPUTemperatureHigh

HOT = Firing(LABELS_A, f"{TEXT_A} is too hot.", "91 °C, above 85 °C: it slows down, and every tenant on it with it.")
TEMPERATURE = (
    Case("GPUTemperatureHigh", "silent", {card("gpu_temperature_celsius"): steady(85)}, {"30m": ()}),
    Case("GPUTemperatureHigh", "firing", {card("gpu_temperature_celsius"): steady(91)}, {"4m": (), "30m": (HOT,)}),
    Case(
        "GPUTemperatureHigh",
        "duplicate series",
        {
            card("gpu_temperature_celsius"): steady(90),
            card("gpu_temperature_celsius", "10.0.0.2:9400"): steady(91),
        },
        {"30m": (HOT,)},
    ),
    Case("GPUTemperatureHigh", "absent series", {card("gpu_sample_up"): steady(1)}, {"30m": ()}),
)

CARD_CASES = (*VRAM_LOW, *TELEMETRY_DOWN, *UNATTRIBUTED, *XID, *TEMPERATURE)
