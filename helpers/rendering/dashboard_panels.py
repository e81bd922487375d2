"""The parts that a Grafana dashboard is put together from, as plain dictionaries in Grafana's spelling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MIB_UNIT = "mbytes"  # Grafana's name for mebibytes
GRID_COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """PromQL, and the legend of each of its series. `instant`: only the newest value."""

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass
class Page:
    """Panels from left to right and top to bottom, with ids in that order."""

    panels: list[dict[str, Any]] = field(default_factory=list)
    x: int = 0
    y: int = 0
    row_height: int = 0

    def row(self, title: str, repeat: str | None = None) -> None:
        """A heading; `repeat` names the variable for each of whose values it appears with what is below."""
        self._end_line()
        row: dict[str, Any] = {"type": "row", "title": title, "collapsed": False, "panels": []}
        self._place(row | ({"repeat": repeat} if repeat else {}), GRID_COLUMNS, 1)

    def panel(self, panel: dict[str, Any], *queries: Query, width: int, height: int) -> None:
        """A panel with its queries, `A`, `B`, … in their order."""
        targets = [_target(chr(ord("A") + number), query) for number, query in enumerate(queries)]
        self._place(panel | {"datasource": SOURCE, "targets": targets}, width, height)

    def _place(self, panel: dict[str, Any], width: int, height: int) -> None:
        if self.x + width > GRID_COLUMNS:
            self._end_line()
        grid = {"x": self.x, "y": self.y, "w": width, "h": height}
        self.panels.append(panel | {"id": len(self.panels) + 1, "gridPos": grid})
        self.x += width
        self.row_height = max(self.row_height, height)

    def _end_line(self) -> None:
        self.x, self.y, self.row_height = 0, self.y + self.row_height, 0


def line(name: str, color: str) -> dict[str, Any]:
    """The query of that legend as a dashed line over a stack."""
    return override(
        name,
        {
            "color": fixed(color),
            "custom.stacking": {"mode": "none"},
            "custom.fillOpacity": 0,
            "custom.lineWidth": 2,
            "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
        },
    )


def fixed(color: str) -> dict[str, str]:
    """One colour, whatever the value."""
    return {"mode": "fixed", "fixedColor": color}


def override(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Properties of the query of that legend alone."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def series(
    title: str,
    description: str,
    *,
    unit: str = MIB_UNIT,
    fill: int = 0,
    stack: bool = False,
    bars: bool = False,
    threshold: int | None = None,
) -> dict[str, Any]:
    """A graph over time; `threshold` draws a line: above it is bad at 0, below it is bad otherwise."""
    custom = {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if bars else fill,
        "lineWidth": 1,
        "spanNulls": False,  # a gap is an unknown, and is to be seen
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if threshold is None else "line"},
    }
    steps: list[dict[str, Any]] = [{"color": "red" if threshold else "green", "value": None}]
    if threshold is not None:
        steps.append({"color": "green" if threshold else "red", "value": threshold})
    return {
        "type": "timeseries",
        "title": title,
        "description": description,
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "decimals": 0,
                "color": {"mode": "palette-classic"},
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def stat(title: str, description: str, unit: str, thresholds: dict[str, Any]) -> dict[str, Any]:
    """One number."""
    return {
        "type": "stat",
        "title": title,
        "description": description,
        "fieldConfig": {
            "defaults": {"unit": unit, "decimals": 0, "noValue": "unknown", "thresholds": thresholds},
            "overrides": [],
        },
        "options": {
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
        },
    }


def _target(ref: str, query: Query) -> dict[str, Any]:
    return {
        "refId": ref,
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": query.instant,
        "range": not query.instant,
    }
