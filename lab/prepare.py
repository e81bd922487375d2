"""Has everything the tests start at hand before the first of them: no test's own time goes into a build.

python -m lab.prepare              what the tests need
python -m lab.prepare --with-keda  KEDA as well; without it, the test on a real KEDA is skipped

From an empty cache the cluster's programs take many minutes to build, longer than any test may take.
"""

from __future__ import annotations

import sys
import time

from lab import keda
from lab.crds import MODULES, NoCrds, find_crds
from lab.errors import LabError
from lab.fake_nvml.build import ensure_library
from lab.karpenter import ensure_karpenter
from lab.programs import NoProgram, find_program
from lab.real_kubelet.containerd import containerd_with_cdi
from lab.toolchain import ON_REQUEST, ensure_module, ensure_tools

# What the tests run today; `find_program` knows more.
PROGRAMS_OF_THE_TESTS = ("prometheus", "promtool", "containerd", "runc", "host-local", "busybox", "redis-server")


def main() -> int:
    """Builds and downloads, a line each; 0 also where a program cannot be had: its tests then say so."""
    started = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - started:4.0f}s  {text}", flush=True)

    try:
        ensure_tools(progress, extra=tuple(ON_REQUEST))
        ensure_library()
        containerd_with_cdi(progress)
        if "--with-keda" in sys.argv[1:]:
            ensure_module(keda.MODULE, progress)
    except LabError as error:
        print(error, file=sys.stderr)
        return 3
    for engine in MODULES:
        crds = find_crds(engine, progress)
        if isinstance(crds, NoCrds):
            progress(f"CRDs of {engine} cannot be had, and tests that need them are skipped: {crds.reason}")
    try:
        ensure_karpenter(progress)
    except LabError as error:
        progress(f"Karpenter cannot be built, and tests that need it are skipped: {error}")
    for name in PROGRAMS_OF_THE_TESTS:
        found = find_program(name, progress)
        if isinstance(found, NoProgram):
            progress(f"{name} cannot be had, and tests that need it are skipped: {found.reason}")
    progress("the lab's programs are at hand")
    return 0


if __name__ == "__main__":
    sys.exit(main())
