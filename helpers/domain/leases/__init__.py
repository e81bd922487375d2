"""Leases: time-limited rights to MiB, for work that is in no queue."""
