"""The demo's second act: a tenant grows past its budget, and the memory comes back.

The numbers in the timeline are the exporter's own, read from its metrics once a step; nothing is
typed here. The cards are simulated, the processes that read, alert and recycle are the real ones.
"""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from helpers.domain.estate.model import Estate
from helpers.domain.memory import bytes_to_mib_rounded_up
from helpers.domain.telemetry import metric_names
from helpers.rendering import svg
from lab.cluster import Lab
from lab.errors import LabError
from lab.prometheus import Prometheus
from lab.telemetry import Telemetry, start_alerts, start_exporters, start_watchdog

GROWING_TENANT, GROWN_MIB = "immich-ml", 6800
# What each tenant holds before: within its budget, and together far from the floor.
STEADY_RATIO = 0.75
STEP_BOUND_SECONDS = 60.0
AFTERWARDS_SECONDS = 3.0
POLL_SECONDS = 0.2

_STYLE = """
text{font:10px system-ui,sans-serif;fill:#1f2328}.back{fill:#ffffff}.mark{stroke:#59636e}
polyline{fill:none;stroke-width:2}
.floor{stroke:#b3261e;stroke-dasharray:4}.free{stroke:#0550ae}.used{stroke:#953800;stroke-dasharray:6 3}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.back{fill:#0d1117}.mark{stroke:#9198a1}
.floor{stroke:#ff9b93}.free{stroke:#79c0ff}.used{stroke:#ffa657}}
""".replace("\n", "")

Say = Callable[[str], None]


@dataclass
class Timeline:
    """`(seconds since the growth, free MiB, used MiB of the growing tenant)`, and what happened when."""

    points: list[tuple[float, int, int]] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)

    def text(self) -> str:
        """One line an event, with the memory at that moment."""
        lines = []
        for at_seconds, what in self.events:
            free_mib, used_mib = self.at(at_seconds)
            lines.append(f"  {at_seconds:5.1f}s  free {free_mib:>5} MiB  {GROWING_TENANT} {used_mib:>5} MiB  {what}")
        return "\n".join(lines)

    def at(self, seconds: float) -> tuple[int, int]:
        """Free and used at the point nearest before `seconds`."""
        before = [point for point in self.points if point[0] <= seconds] or self.points[:1]
        return before[-1][1:]

    def drawing(self, floor_mib: int, physical_mib: int) -> str:
        """Free memory over time, the floor, and a mark for each event."""
        width, height, left, top = 720, 240, 60, 20
        last_seconds = max(self.points[-1][0], 1.0)

        def x(seconds: float) -> float:
            return left + seconds / last_seconds * (width - left - 20)

        def y(mib: int) -> float:
            return top + (1 - mib / physical_mib) * (height - top - 40)

        free = " ".join(f"{x(at):.1f},{y(mib):.1f}" for at, mib, _ in self.points)
        used = " ".join(f"{x(at):.1f},{y(mib):.1f}" for at, _, mib in self.points)
        body = [svg.element("rect", class_="back", width=width, height=height)]
        for row, (at, what) in enumerate(self.events):
            # To the left of its mark where the right edge is near.
            anchor, shift = ("end", -3) if at > 0.6 * last_seconds else ("start", 3)
            body.append(svg.element("line", class_="mark", x1=x(at), x2=x(at), y1=top, y2=height - 40))
            body.append(svg.text(x(at) + shift, top + 11 + 12 * row, what, text_anchor=anchor))
        body += [
            svg.element("line", class_="floor", x1=left, x2=width - 20, y1=y(floor_mib), y2=y(floor_mib)),
            svg.text(4, y(floor_mib) + 4, f"floor {floor_mib}"),
            svg.element("polyline", class_="free", points=free),
            svg.element("polyline", class_="used", points=used),
            svg.text(
                left, height - 12, f"solid: free on the card; dashed: {GROWING_TENANT}; MiB over {last_seconds:.0f} s"
            ),
        ]
        told = "; ".join(f"{at:.0f} s: {what}" for at, what in self.events)
        return svg.document(width, height, "Memory of the card over time", told, _STYLE, body)


class Act:
    """The growth on one lab, watched through the exporter."""

    def __init__(self, lab: Lab, estate: Estate, telemetry: Telemetry, prometheus: Prometheus) -> None:
        self._lab = lab
        self._estate = estate
        self._telemetry = telemetry
        self._prometheus = prometheus
        self._started = time.monotonic()
        self.timeline = Timeline()

    def note(self, what: str) -> None:
        """Something happened now."""
        self._look()
        self.timeline.events.append((self._seconds(), what))

    def wait(self, met: Callable[[], bool], what: str) -> None:
        """Look on until `met`, and note it.

        Raises:
            LabError: that did not happen within a generous bound.
        """
        end = time.monotonic() + STEP_BOUND_SECONDS
        while not met():
            if time.monotonic() > end:
                raise LabError(f"demo: not within {STEP_BOUND_SECONDS:.0f} s: {what}; see .lab/<name>/logs")
            self._look()
            time.sleep(POLL_SECONDS)
        self.note(what)

    def free_mib(self) -> int:
        """Free MiB on the card, as the exporter says."""
        self._look()
        return self.timeline.points[-1][1]

    def steady_seconds(self) -> float:
        """Seconds since the last event."""
        return self._seconds() - self.timeline.events[-1][0]

    def firing(self, alert: str) -> bool:
        """Whether Prometheus says that `alert` fires."""
        return bool(self._prometheus.firing(alert))

    def watchdog_said(self, event: str) -> bool:
        """Whether the watchdog logged `event` about the growing tenant since its last start."""
        log = (self._lab.paths.logs / "watchdog.log").read_text()
        return any(f'"event": "{event}"' in line and GROWING_TENANT in line for line in log.splitlines())

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _look(self) -> None:
        (address,) = self._telemetry.exporters.values()
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        free_mib, used_mib = None, 0
        tenant = self._estate.tenant(GROWING_TENANT)
        namespace = tenant.namespace if tenant else ""
        workload = tenant.workload.name if tenant else ""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                mib = bytes_to_mib_rounded_up(int(sample.value)) if sample.name.endswith("_bytes") else 0
                if sample.name == metric_names.FREE:
                    free_mib = mib
                elif sample.name == metric_names.POD_USED and sample.labels["namespace"] == namespace:
                    used_mib += mib if sample.labels["pod"].startswith(f"{workload}-") else 0
        if free_mib is not None:  # a failed sample is no point on the line
            self.timeline.points.append((self._seconds(), free_mib, used_mib))


def run_act(lab: Lab, estate: Estate, estate_file: Path, arm: Callable[[], Estate], say: Say, build_dir: Path) -> None:
    """Grow, alert, dry run, arm, recycle; print the timeline and write its SVG.

    `arm` writes `dry_run: false` into the estate, applies it, and returns the new estate.
    """
    say("exporter and simulated cards start; every tenant holds some of its budget")
    for tenant in estate.tenants:
        if not tenant.elastic:
            lab.set_usage(tenant.namespace, tenant.workload.name, int(tenant.budget_mib * STEADY_RATIO))
    telemetry = start_exporters(lab, estate, estate_file)
    say("a real Prometheus with the estate's rules, and the watchdog in dry run")
    prometheus = start_alerts(lab, estate, telemetry)
    start_watchdog(lab, estate, telemetry)
    act = Act(lab, estate, telemetry, prometheus)
    growing = estate.tenant(GROWING_TENANT)
    if growing is None:
        raise LabError(f"the demo's estate has no tenant {GROWING_TENANT}")
    act.wait(lambda: act.free_mib() > estate.watchdog.floor_mib, "everything within budget")
    say(f"{GROWING_TENANT} (budget {growing.budget_mib} MiB) grows to {GROWN_MIB} MiB")
    lab.set_usage(growing.namespace, growing.workload.name, GROWN_MIB)
    act.wait(lambda: act.free_mib() < estate.watchdog.floor_mib, f"{GROWING_TENANT} has grown: under the floor")
    act.wait(lambda: act.firing("GPUVRAMLow"), "GPUVRAMLow fires")
    act.wait(lambda: act.watchdog_said("would_recycle"), f"dry run: would recycle {GROWING_TENANT}")
    say("the watchdog is armed: dry_run: false in the estate, planned and applied")
    armed = arm()
    start_watchdog(lab, armed, telemetry)
    act.note("armed")
    act.wait(lambda: act.free_mib() > estate.watchdog.floor_mib, f"{GROWING_TENANT} recycled, memory is back")
    act.wait(lambda: act.steady_seconds() > AFTERWARDS_SECONDS, "and stays so")
    sys.stdout.write(f"\n{act.timeline.text()}\n")
    build_dir.mkdir(parents=True, exist_ok=True)
    physical_mib = max(gpu.physical_mib for node in estate.nodes for gpu in node.gpus)
    drawing = build_dir / "timeline.svg"
    drawing.write_text(act.timeline.drawing(estate.watchdog.floor_mib, physical_mib))
    sys.stdout.write(f"\nThe same as a picture: {drawing.relative_to(build_dir.parents[1])}\n\n")
