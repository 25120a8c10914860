"""What the machine can do."""

from __future__ import annotations

import platform

import torch
from accelerate.utils import parse_flag_from_env


def multiplies_in_bf16() -> bool:
    """Tell whether bf16 products run in hardware; elsewhere they are emulated and several times slower than fp32."""
    if best_device().type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("sve_bf16"))
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def best_device() -> torch.device:
    """Return where models are put: the GPU, if there is one and the launcher does not ask for the CPU."""
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    return torch.device("cpu" if on_cpu else "cuda")


def describe() -> dict[str, str | int]:
    """Return processor, cores and accelerators, for result files."""
    name = platform.processor() or platform.machine()
    if hasattr(torch.cpu, "get_capabilities"):
        name = str(torch.cpu.get_capabilities().get("cpu_name", name))
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": name, "threads": torch.get_num_threads(), "gpu": ", ".join(devices) or "none"}
