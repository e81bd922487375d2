"""Other people's judges: Open Policy Agent for the exported rules on plans, actionlint for the workflows."""

from __future__ import annotations

from lab.toolchain import TOOLS, ToolModule

OPA_VERSION = "v1.22.3"
ACTIONLINT_VERSION = "v1.7.12"
OPA = ToolModule(f"Open Policy Agent {OPA_VERSION}", TOOLS / "opa", {"opa": "github.com/open-policy-agent/opa"})
ACTIONLINT = ToolModule(
    f"actionlint {ACTIONLINT_VERSION}",
    TOOLS / "actionlint",
    {"actionlint": "github.com/rhysd/actionlint/cmd/actionlint"},
)
