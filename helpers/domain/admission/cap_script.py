"""Wrappers that set a framework's limit at the container's start, where its number is first known.

POSIX sh, since an image may have dash or busybox. Kubernetes replaces `$(NAME)` in a command by the
container's variable of that name and `$$` by `$`: the scripts hold no `$$`, and no variable is called
like one of their substitutions. The wrapped command is "$@".
"""

from __future__ import annotations

EXIT_UNKNOWN = 78  # EX_CONFIG of sysexits.h: what the container was given is not enough.

# `free`: MiB free on the card that the container sees. Where it sees several, the largest number is taken:
# with a smaller one the framework would take more than its budget on an emptier card. One row that is no
# number makes all of them unknown, and unknown is not zero.
_MEASURE = """largest() {
  max=''
  while read -r row; do
    case $row in '' | *[!0-9]*) return 1 ;; esac
    if [ -z "$max" ] || [ "$row" -gt "$max" ]; then max=$row; fi
  done
  [ -n "$max" ] && echo "$max"
}
smi() { nvidia-smi --query-gpu=memory.free --format=csv,noheader,nounits 2>/dev/null; }
torch() {
  python3 -c 'import torch
for card in range(torch.cuda.device_count()):
    print(torch.cuda.mem_get_info(card)[0] // 1048576)' 2>/dev/null
}
measured() { rows=$("$1") && printf '%s\\n' "$rows" | largest; }
free=$(measured smi) || free=$(measured torch) || free=0
if [ "$free" -eq 0 ]; then
  echo "gpumem: not started: free GPU memory is unknown, so @FRAMEWORK@ cannot be held to @BUDGET@ MiB." \\
    "nvidia-smi gave no number (NVIDIA_DRIVER_CAPABILITIES=compute,utility brings it into the container)," \\
    "and python3 with torch gave none either." >&2
  exit @EXIT@
fi
"""

_FRACTION_OF_FREE = """usable=@BUDGET@
if [ "$free" -lt "$usable" ]; then usable=$free; fi
thousandths=$(((usable - @OVERHEAD@) * 1000 / free))
if [ "$thousandths" -lt 1 ]; then
  echo "gpumem: not started: $free MiB are free, which an overhead of @OVERHEAD@ MiB leaves nothing of." >&2
  exit @EXIT@
fi
value=$(printf '0.%03d' "$thousandths")
echo "gpumem: @FLAG@=$value: budget @BUDGET@ MiB, overhead @OVERHEAD@ MiB, free $free MiB" >&2
exec "$@" "@FLAG@=$value"
"""

_UNLESS_SET = """if [ -n "${@NAME@+set}" ]; then exec "$@"; fi
"""

_LEAVE_FREE = """value=0
if [ "$free" -gt @BUDGET@ ]; then value=$(((free - @BUDGET@) * @UNITS_PER_MIB@)); fi
export @VARIABLE@="$value"
echo "gpumem: @VARIABLE@=$value: budget @BUDGET@ MiB, free $free MiB" >&2
exec "$@"
"""


def fraction_of_free(framework: str, flag: str, budget_mib: int, overhead_mib: int) -> str:
    """A script that adds `flag` with (budget - overhead) / free, rounded down to thousandths."""
    script = _MEASURE + _FRACTION_OF_FREE
    return _filled(script, FRAMEWORK=framework, FLAG=flag, BUDGET=budget_mib, OVERHEAD=overhead_mib)


def leave_free(framework: str, variable: str, unless: tuple[str, ...], budget_mib: int, units_per_mib: int) -> str:
    """A script that exports `variable`: free - budget, never below 0, in units of which a MiB has `units_per_mib`.

    Where the environment has one of `unless` (from a ConfigMap, too), nothing is measured or set.
    """
    checks = "".join(_filled(_UNLESS_SET, NAME=name) for name in unless)
    script = _MEASURE + _LEAVE_FREE
    return checks + _filled(
        script, FRAMEWORK=framework, VARIABLE=variable, BUDGET=budget_mib, UNITS_PER_MIB=units_per_mib
    )


def _filled(script: str, **values: str | int) -> str:
    for name, value in values.items():
        script = script.replace(f"@{name}@", str(value))
    return script.replace("@EXIT@", str(EXIT_UNKNOWN))
