"""The number formats of a run: what is computed in, and what weights are kept in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.config import ConfigError, ModelSettings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Precision:
    """The number formats of a run, as the fields of `GRPOConfig` and the type the weights are loaded in."""

    name: str  # "bf16", "fp16" or "fp32"
    weights: torch.dtype
    use_cpu: bool

    @property
    def grpo_fields(self) -> dict[str, bool]:
        """Returns the fields of `GRPOConfig` that say so; TRL takes bf16 where neither is said."""
        return {"bf16": self.name == "bf16", "fp16": self.name == "fp16", "use_cpu": self.use_cpu}


def choose_precision(settings: ModelSettings, *, use_cpu: bool = False) -> Precision:
    """Returns the number format that `precision: auto` stands for on this machine, or the one asked for.

    Frozen weights under an adapter are kept in the format that is computed in. Weights that are trained themselves
    stay float32, computed on in the lower format: in bfloat16 the small steps of GRPO would be rounded away.
    """
    import torch  # noqa: PLC0415  # seconds

    cpu = use_cpu or not torch.accelerator.is_available()
    name = _best_format(cpu=cpu) if settings.precision == "auto" else settings.precision
    if name == "fp16" and cpu:
        raise ConfigError("model.precision: fp16 needs a GPU; bf16 and fp32 work on a CPU")
    frozen = settings.lora is not None or settings.adapter is not None
    computed_in = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]
    return Precision(name, computed_in if frozen else torch.float32, cpu)


def adapter_in_its_format(model: torch.nn.Module, precision: Precision) -> None:
    """Gives the adapter of a quantised model back its float32, where the run does not compute in bf16.

    To be called on the model of a `GRPOTrainer` that was just made: it casts what is trained of a quantised model to
    bfloat16, whatever the run computes in, and the gradient scaler of fp16 knows no bfloat16.
    """
    import torch  # noqa: PLC0415  # seconds

    if precision.name == "bf16":
        return
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype is torch.bfloat16:
            parameter.data = parameter.data.to(torch.float32)


def _best_format(*, cpu: bool) -> str:
    import torch  # noqa: PLC0415  # seconds

    if torch.cuda.is_available() and not cpu:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if not cpu:
        return "fp32"  # an accelerator that was not tried
    # Without vector instructions for it a CPU emulates bfloat16 many times slower than float32.
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"  # noqa: SLF001  # the only place it is told
