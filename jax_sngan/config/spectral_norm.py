"""The options of spectral normalisation."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from jax_sngan.config.fields import Options, option
from jax_sngan.system.errors import UserError


@dataclass(frozen=True)
class SpectralNormConfig(Options):
    """Which layers are normalised, and how sigma is found (Miyato et al. 2018, Algorithm 1). The default computes what
    torch.nn.utils.spectral_norm does; order=u_first with warmup=15 is torch's parametrizations.spectral_norm (whose
    layers made in training mode start with one iteration more)."""

    networks: Literal["discriminator", "both", "none"] = option("discriminator", "whose layers are normalised")
    target: float = option(1.0, "the norm that each layer is given", minimum=0.0)
    form: Literal["reshaped", "operator"] = option(
        "reshaped",
        "the norm of the kernel as a matrix, by power iteration; or the convolution's own norm on a map that wraps"
        " around, exactly, by the kernel's Fourier transform (slow)",
    )
    iterations: int = option(1, "power iterations a training pass", minimum=1)
    order: Literal["v_first", "u_first"] = option("v_first", "which vector one iteration renews first")
    eps: float = option(1e-12, "guards the division of a vector by its norm", minimum=0.0)
    eps_form: Literal["max", "add"] = option("max", "divide by max(norm, eps) as torch, or by norm + eps as Chainer")
    init: Literal["unit", "normal"] = option("unit", "u and v start as unit vectors, or as raw N(0, 1)")
    warmup: int = option(0, "power iterations when a layer is made", minimum=0)
    evaluation: Literal["stored", "iterate"] = option(
        "stored", "evaluation uses u and v as they are, or after one more iteration that is not kept"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target == 0:
            raise UserError("spectral_norm.target must be above 0, got 0")
        if self.form == "operator":
            for name in ("iterations", "order", "eps", "eps_form", "init", "warmup", "evaluation"):
                if getattr(self, name) != next(f.default for f in dataclasses.fields(self) if f.name == name):
                    raise UserError(
                        f"spectral_norm.{name} is of the power iteration; form=operator makes none, "
                        f"got {getattr(self, name)}"
                    )
