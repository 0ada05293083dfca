"""How a kernel is normalised: the options of a spectral norm."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True)
class SpectralNormOptions:
    """How a kernel is normalised. The defaults compute what torch.nn.utils.spectral_norm does; order="u_first" with
    warmup=15 is torch.nn.utils.parametrizations.spectral_norm."""

    target: float = 1.0  # the norm that the kernel is given, above 0
    form: Literal["reshaped", "operator"] = "reshaped"  # of the matrix, estimated; or of the linear map, exactly
    iterations: int = 1  # a training pass, at least 1
    order: Literal["v_first", "u_first"] = "v_first"  # which vector an iteration renews first
    eps: float = 1e-12  # guards the division of a vector by its norm
    eps_form: Literal["max", "add"] = "max"  # divide by max(norm, eps) as torch, or by norm + eps as Chainer
    init: Literal["unit", "normal"] = "unit"  # u and v start as unit vectors, or as raw N(0, 1)
    warmup: int = 0  # iterations when the layer is made
    evaluation: Literal["stored", "iterate"] = "stored"  # u and v as they are, or after one more that is not kept

    def __post_init__(self) -> None:
        for name, least in (("target", 0), ("iterations", 1), ("eps", 0), ("warmup", 0)):
            value = getattr(self, name)
            if not value >= least or (name == "target" and value == 0):
                raise ValueError(f"{name} must be {'above' if name == 'target' else 'at least'} {least}, got {value}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be {allowed[0]} or {allowed[1]}, got {getattr(self, name)!r}")

    @classmethod
    def of(cls, given: object) -> Self | None:
        """What a layer's argument `spectral_norm` means: options, or None where there is to be no spectral norm.

        Args:
          given: True (the defaults), False or None, options, or any dataclass that has these fields, as a config's has;
            one that also has a field `networks` of "none" means none.
        Raises:
          TypeError: it is something else.
        """
        if given is None or given is False:
            return None
        if given is True:
            return cls()
        if isinstance(given, cls):
            return given
        names = [f.name for f in fields(cls)]
        if not is_dataclass(given) or not all(hasattr(given, name) for name in names):
            raise TypeError(f"spectral_norm must be True, False, None or SpectralNormOptions(...), got {given!r}")
        if getattr(given, "networks", None) == "none":
            return None
        return cls(**{name: getattr(given, name) for name in names})

    def iteration(self, iterations: int | None = None) -> dict[str, Any]:
        """How `power_iteration` is called, by default for a training pass."""
        count = self.iterations if iterations is None else iterations
        return {"iterations": count, "order": self.order, "eps": self.eps, "eps_form": self.eps_form}


_CHOICES = {
    "form": ("reshaped", "operator"),
    "order": ("v_first", "u_first"),
    "eps_form": ("max", "add"),
    "init": ("unit", "normal"),
    "evaluation": ("stored", "iterate"),
}
