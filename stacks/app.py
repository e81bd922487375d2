"""The stacks in one app, in their order."""

from __future__ import annotations

from pathlib import Path

from cdktf import App

from helpers.domain.estate.model import Estate
from helpers.rendering.objects import Rendered
from stacks.constructs.step import helper_program
from stacks.consumers_stack import ConsumersStack
from stacks.nvidia_stack import NvidiaStack
from stacks.platform_stack import PlatformStack


def synthesize(
    estate: Estate, rendered: Rendered, estate_file: Path, outdir: Path | None = None, program: str = ""
) -> None:
    """Write `cdk.tf.json` of every stack under `outdir` (None: where the cdktf command line wants it).

    `program` is what the steps start; empty: `helper_program()`.
    """
    program = program or helper_program()
    app = App(outdir=None if outdir is None else str(outdir), stack_traces=False)
    nvidia = NvidiaStack(app, estate, rendered, estate_file, program)
    consumers = ConsumersStack(app, estate, rendered, estate_file, program)
    # One run of `cdktf deploy` applies the nodes' side first; the gate holds where the two are run apart.
    consumers.add_dependency(nvidia)
    if rendered.wave(2).objects:
        PlatformStack(app, estate, rendered, estate_file, program).add_dependency(consumers)
    app.synth()
