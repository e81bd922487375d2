"""Names of the series that the exporter writes and that alerts, traces and dashboards read.

Amounts are bytes (Prometheus base units). Every card series carries `gpu` and `uuid`, and gets
`node` from the scrape configuration.
"""

from __future__ import annotations

UTILIZATION = "gpu_utilization_ratio"
POD_USED = "gpu_pod_memory_used_bytes"
TOTAL = "gpu_memory_total_bytes"
USED = "gpu_memory_used_bytes"
FREE = "gpu_memory_free_bytes"
RESERVED = "gpu_memory_reserved_bytes"
UNATTRIBUTED = "gpu_memory_unattributed_bytes"
SAMPLE_TIMESTAMP = "gpu_sample_timestamp_seconds"
SAMPLE_UP = "gpu_sample_up"
ATTRIBUTION_UP = "gpu_attribution_up"
TENANT_BUDGET = "gpumem_tenant_budget_bytes"
TEMPERATURE = "gpu_temperature_celsius"
XID_EVENTS = "gpu_xid_events_total"
