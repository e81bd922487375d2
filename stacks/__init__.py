"""The stacks: objects and steps composed into Terraform. Order and gates, no decisions."""

from __future__ import annotations

import os

# jsii greets every start on an older Node with twelve lines on stderr. For an end-of-life release
# the variable holds the majors to be quiet about (any other value is ignored, which is why `1` does
# nothing); for the other two any value does. Set before anything imports cdktf, and only where the
# user has not decided otherwise.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "18,20,22")
os.environ.setdefault("JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION", "1")
os.environ.setdefault("JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION", "1")
