"""Both stacks in one app, in their order."""

from __future__ import annotations

from pathlib import Path

from cdktf import App

from helpers.domain.estate import Estate
from helpers.rendering.objects import Rendered
from stacks.consumers_stack import ConsumersStack
from stacks.nvidia_stack import NvidiaStack


def synthesize(estate: Estate, rendered: Rendered, estate_file: Path, outdir: Path | None = None) -> None:
    """Write `cdk.tf.json` of every stack under `outdir` (None: where the cdktf command line wants it)."""
    app = App(outdir=None if outdir is None else str(outdir), stack_traces=False)
    nvidia = NvidiaStack(app, estate, rendered, estate_file)
    consumers = ConsumersStack(app, estate, rendered, estate_file)
    # One run of `cdktf deploy` applies the nodes' side first; the gate holds where the two are run apart.
    consumers.add_dependency(nvidia)
    app.synth()
