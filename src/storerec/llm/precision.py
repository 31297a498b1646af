"""Arithmetic by what the processor does well."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch

from storerec.config import RunOptions
from storerec.errors import ConfigError
from storerec.llm import processes

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has native bfloat16 products (AVX512-BF16 or AMX on x86, BF16 on Arm).

    Without them bfloat16 is emulated: up to 100 times slower than float32 on an AVX2 machine. With AVX512-BF16
    it was measured at 4.5 times float32 (870 against 190 GFLOP/s on 2 cores, matmul 2048 x 576 x 1536).
    """
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return False
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(("flags", "Features")):
            return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(line.split()))
    return False


def pick_device(options: RunOptions) -> torch.device:
    """Resolve ``options.device``; ``auto`` takes CUDA, then Apple's GPU, then the CPU.

    Of several processes on a machine each gets a GPU of its own.

    Raises
    ------
    ConfigError: this machine, or this build of torch, has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if options.device != "auto" and not there[options.device]:
        raise ConfigError(f"device '{options.device}' is not there, or this build of torch cannot use it; take 'cpu'")
    name = next(name for name, found in there.items() if found) if options.device == "auto" else options.device
    return processes.local_device() if name == "cuda" and processes.world() > 1 else torch.device(name)


def check_double(options: RunOptions, device: torch.device) -> bool:
    """Whether weights are held in float64, by ``dtype`` alone: then everything computes in it.

    Raises
    ------
    ConfigError: float64 is asked of inference alone, which float32 weights cannot give, or of Apple's GPU.
    """
    if options.inference_dtype == "float64" and options.dtype != "float64":
        raise ConfigError("inference_dtype float64 needs dtype float64: weights are held in one precision")
    if options.dtype == "float64" and device.type == "mps":
        raise ConfigError("dtype float64: Apple's GPU has none; take device 'cpu' or another dtype")
    return options.dtype == "float64"


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Resolve a dtype name; ``auto`` is bfloat16 where the device multiplies it natively, else float32."""
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device)[0] >= 8
    else:
        native = device.type == "cpu" and cpu_multiplies_bfloat16()
    return torch.bfloat16 if native else torch.float32


def arithmetic(dtype: torch.dtype, device: torch.device) -> AbstractContextManager:
    """Context in which products run in ``dtype``; weights stay in the precision they are held in."""
    if dtype is torch.bfloat16:
        return torch.autocast(device.type, dtype=dtype)
    return nullcontext()
