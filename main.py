"""The CDKTF app: read the estate, render it, add the stacks. `GPUMEM_ESTATE` names another estate."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from helpers.domain.errors import InputError
from helpers.domain.names import ENV_ESTATE
from helpers.rendering.estate_file import load_estate
from helpers.rendering.render import render


def main() -> int:
    """Synthesise both stacks; 2 where the estate is not valid, with every problem on stderr."""
    estate_file = Path(os.environ.get(ENV_ESTATE) or "gpumem.yaml")
    try:
        estate, warnings = load_estate(estate_file)
        rendered = render(estate)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)
    for warning in warnings:
        sys.stderr.write(f"{warning.text()}\n")

    # Imported here: cdktf starts a Node process, which an invalid estate need not wait for.
    from stacks.app import synthesize  # noqa: PLC0415

    synthesize(estate, rendered, estate_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
