"""The node agent of per-card budgets: publishes the node's ResourceSlice, and prepares claims for the kubelet."""

from helpers.apps.dra_agent.app import agent_log, run_agent

__all__ = ["agent_log", "run_agent"]
