"""What each framework is told its budget by, and what that holds: the facts, with the numbers put in.

Measured in the budget's MiB and in `physical_mib`, the largest card that the tenant may get: a fraction
of a smaller card is less than the budget, never more. Versions and traps: docs/guides/framework-caps.md.
"""

from __future__ import annotations

from collections.abc import Callable

from helpers.domain.admission.cap import Cap, Variable, apply_cap
from helpers.domain.admission.cap_script import fraction_of_free, leave_free
from helpers.domain.estate.framework import Framework
from helpers.domain.memory import BYTES_PER_MIB

__all__ = ["Cap", "apply_cap", "framework_cap"]

_FIT_VARIABLES = ("LLAMA_ARG_FIT_TARGET", "LLAMA_ARG_FIT")
_FIT_FLAGS = ("-fitt", "--fit-target", "-fit", "--fit")


def framework_cap(framework: Framework, budget_mib: int, physical_mib: int) -> Cap:
    """The cap of a tenant that runs `framework`; `kind` is `none` where there is nothing to set."""
    return _CAPS[framework.name](framework, budget_mib, physical_mib)


def _vllm(framework: Framework, budget_mib: int, physical_mib: int) -> Cap:
    fraction = _fraction(budget_mib, physical_mib)
    argument = f"--gpu-memory-utilization={fraction}"
    return Cap(
        framework=framework.label(),
        kind="argument",
        held_by="soft cap",
        setting=argument,
        argument=argument,
        unless_flags=("--gpu-m[emory-utilization]", "--device-m[emory-utilization]"),
        entrypoint=framework.entrypoint,
        cmd=framework.cmd,
        reason=f"budget {budget_mib} MiB of {physical_mib}; it counts weights, KV cache and CUDA graphs, "
        "and its CUDA context comes on top",
    )


def _sglang(framework: Framework, budget_mib: int, _physical_mib: int) -> Cap:
    flag = "--mem-fraction-static"
    overhead_mib = framework.overhead_mib or 0  # The estate's rules demand it.
    return Cap(
        framework=framework.label(),
        kind="wrapper",
        held_by="soft cap",
        setting=f"{flag}=({budget_mib} - {overhead_mib}) / free MiB at start",
        script=fraction_of_free(framework.name, flag, budget_mib, overhead_mib),
        appends=True,
        unless_flags=("--mem-f[raction-static]",),
        entrypoint=framework.entrypoint,
        cmd=framework.cmd,
        reason=f"budget {budget_mib} MiB; it counts weights and KV cache, as a fraction of what is free before the "
        f"load; {overhead_mib} MiB are for activations and CUDA graphs",
    )


def _llama_cpp(framework: Framework, budget_mib: int, _physical_mib: int) -> Cap:
    return Cap(
        framework=framework.label(),
        kind="wrapper",
        held_by="soft cap",
        setting=f"LLAMA_ARG_FIT_TARGET=free MiB at start - {budget_mib}",
        script=leave_free(framework.name, "LLAMA_ARG_FIT_TARGET", _FIT_VARIABLES, budget_mib, 1),
        unless_env=_FIT_VARIABLES,
        unless_flags=_FIT_FLAGS,
        entrypoint=framework.entrypoint,
        cmd=framework.cmd,
        reason=f"budget {budget_mib} MiB; the rest is left free at each load, by what the command line leaves open "
        "(layers, context); neighbours that come or go later are not seen",
    )


def _ollama(framework: Framework, budget_mib: int, physical_mib: int) -> Cap:
    if framework.at_least(0, 30):
        return _llama_cpp(framework, budget_mib, physical_mib)
    if framework.at_least(0, 25):
        return _none(framework, "no variable is known to hold versions between 0.24 and 0.30")
    variable = "OLLAMA_GPU_OVERHEAD"
    return Cap(
        framework=framework.label(),
        kind="wrapper",
        held_by="soft cap",
        setting=f"{variable}=free bytes at start - {budget_mib} MiB",
        script=leave_free(framework.name, variable, (variable,), budget_mib, BYTES_PER_MIB),
        unless_env=(variable,),
        entrypoint=framework.entrypoint,
        cmd=framework.cmd,
        reason=f"budget {budget_mib} MiB; the rest is left free when layers are placed; from 0.30 on it is ignored",
    )


def _pytorch(framework: Framework, budget_mib: int, physical_mib: int) -> Cap:
    if not framework.at_least(2, 10):
        return _none(framework, "a fraction from outside is known since 2.10.0; before, only the program can set one")
    return _env(
        framework,
        {"PYTORCH_ALLOC_CONF": f"per_process_memory_fraction:{_fraction(budget_mib, physical_mib)}"},
        ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"),
        f"budget {budget_mib} MiB of {physical_mib}; it holds the caching allocator of each process, "
        "not contexts and libraries",
    )


def _jax(framework: Framework, budget_mib: int, physical_mib: int) -> Cap:
    names = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    return _env(
        framework,
        {names[0 if framework.at_least(0, 4, 33) else 1]: _fraction(budget_mib, physical_mib)},
        names,
        f"budget {budget_mib} MiB of {physical_mib}; it holds the pool of each process, "
        "and nothing with XLA_PYTHON_CLIENT_ALLOCATOR=platform",
    )


def _tensorflow(framework: Framework, _budget_mib: int, _physical_mib: int) -> Cap:
    cap = _env(
        framework,
        {"TF_FORCE_GPU_ALLOW_GROWTH": "true"},
        ("TF_FORCE_GPU_ALLOW_GROWTH",),
        "it takes memory as it needs it and not the whole card at once; a limit can only be set by the program",
    )
    return cap.model_copy(update={"held_by": "scheduler only"})


def _cuda_mps(framework: Framework, budget_mib: int, _physical_mib: int) -> Cap:
    limit = {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={budget_mib}M"}
    where = {"CUDA_MPS_PIPE_DIRECTORY": framework.mps_pipe_directory or ""}  # The estate's rules demand it.
    cap = _env(
        framework,
        {**limit, **where},
        (*limit, *where),
        f"budget {budget_mib} MiB; it holds where the MPS daemon of this directory serves the card, "
        "and nothing where it does not",
    )
    return cap.model_copy(update={"held_by": "hard cap"})


def _onnxruntime(framework: Framework, _budget_mib: int, _physical_mib: int) -> Cap:
    return _none(
        framework,
        "gpu_mem_limit is an option of the session that no variable reaches; Immich sets none, "
        "and MACHINE_LEARNING_MODEL_TTL only unloads what is idle",
    )


def _triton(framework: Framework, _budget_mib: int, _physical_mib: int) -> Cap:
    return _none(
        framework,
        "its memory pool does not bound the backends, and --model-load-gpu-limit only refuses loads, "
        "and counts the neighbours' memory",
    )


def _env(framework: Framework, env: dict[str, str], unless: tuple[str, ...], reason: str) -> Cap:
    return Cap(
        framework=framework.label(),
        kind="env",
        held_by="soft cap",
        setting=" ".join(f"{name}={value}" for name, value in env.items()),
        env=tuple(Variable(name=name, value=value) for name, value in env.items()),
        unless_env=unless,
        reason=reason,
    )


def _none(framework: Framework, reason: str) -> Cap:
    return Cap(framework=framework.label(), kind="none", held_by="scheduler only", reason=reason)


def _fraction(budget_mib: int, physical_mib: int) -> str:
    """Thousandths, rounded down, but never 0, which these frameworks refuse or take for no limit."""
    thousandths = max(1, budget_mib * 1000 // physical_mib)
    return f"0.{thousandths:03d}"


_CAPS: dict[str, Callable[[Framework, int, int], Cap]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "llama.cpp": _llama_cpp,
    "llama-swap": _llama_cpp,
    "ollama": _ollama,
    "onnxruntime": _onnxruntime,
    "pytorch": _pytorch,
    "tensorflow": _tensorflow,
    "jax": _jax,
    "triton": _triton,
    "cuda-mps": _cuda_mps,
}
