"""Floating-point precision of a run: the recipe's, where the machine computes in it natively."""

from typing import Literal

import torch

Precision = Literal["32-true", "bf16-mixed"]
"""As Lightning Fabric names them."""

BFLOAT16_UNITS = ("avx512_bf16", "amx_bf16", "bf16")
"""What PyTorch calls them in `torch.cpu.get_capabilities`; the last one is ARM's."""


def usable_precision(wanted: Precision, accelerator: str) -> Precision:
    """`wanted`, or float32 where bfloat16 would be emulated, which takes several times as long as float32.

    `accelerator` is Fabric's: `auto`, `cpu` or `cuda`.
    """
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else cpu_has_bfloat16()
    return wanted if has_bfloat16 else "32-true"


def cpu_has_bfloat16() -> bool:
    """Whether the processor itself multiplies bfloat16."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(unit) for unit in BFLOAT16_UNITS)
