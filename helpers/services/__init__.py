"""Observe, decide, act: on ports only. Each executor is the one reader of dry_run in its service."""
