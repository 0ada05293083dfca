"""What an option is, whatever its name: a checked field of a dataclass; and configs as plain values, changed, compared.

Knows none of the options themselves (config/schema.py) and imports neither jax nor torch.
"""

import dataclasses
from dataclasses import field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jax_sngan.system.errors import UserError
from jax_sngan.system.nearest import nearest, suggestion


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    below: float | None = None,
    before: Any = dataclasses.MISSING,
) -> Any:
    """A dataclass field that carries its help text and its range, minimum <= value < below.

    before: what was computed before there was the option, and so its value in a config that lacks it (from_dict);
    without it such a config is refused.
    """
    return field(default=default, metadata={"help": help, "minimum": minimum, "below": below, "before": before})


class Options:
    """Base of a dataclass of options: checks every field when one is made.

    Raises:
      UserError: a value is of another type, out of its range, or not among its choices.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            _check(f.name, getattr(self, f.name), hints[f.name], f.metadata)


def _check(name: str, value: Any, hint: Any, metadata: Any) -> None:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise UserError(f"{name} must be one of {', '.join(map(str, get_args(hint)))}; got {value!r}")
        return
    kinds = get_args(hint) or (hint,)  # `str | None` has two
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        if not (float in kinds and isinstance(value, int) and not isinstance(value, bool)):
            expected = " or ".join("none" if k is type(None) else k.__name__ for k in kinds)
            raise UserError(f"{name} must be {expected}, got {value!r}")
    if value is None:
        return
    minimum, below = metadata.get("minimum"), metadata.get("below")
    if minimum is not None and not value >= minimum:  # `not >=` also refuses NaN
        raise UserError(f"{name} must be at least {minimum}, got {value}")
    if below is not None and not value < below:
        raise UserError(f"{name} must be below {below}, got {value}")


def to_dict(config: Any) -> dict[str, Any]:
    """A config as nested plain values, as config.json holds it."""
    return dataclasses.asdict(config)


def from_dict(kind: type, values: Any, where: str = "") -> Any:
    """The inverse of to_dict, also of a config from before some of the options (option's `before`).

    Raises:
      UserError: an unknown or missing entry, or a value that the option does not allow.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where.removesuffix('.') or 'config'} must be an object, got {type(values).__name__}")
    hints = get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    older = {f.name: f.metadata.get("before", dataclasses.MISSING) for f in dataclasses.fields(kind)}
    values = {name: value for name, value in older.items() if value is not dataclasses.MISSING} | values
    for wrong, what in ((sorted(set(values) - set(names)), "unknown"), (sorted(set(names) - set(values)), "missing")):
        if wrong:
            raise UserError(f"config: {what} {', '.join(where + str(w) for w in wrong)}")
    return kind(
        **{
            n: from_dict(hints[n], values[n], f"{where}{n}.") if dataclasses.is_dataclass(hints[n]) else values[n]
            for n in names
        }
    )


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted option name -> value, nested dataclasses opened."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{f.name}.")
        else:
            flat[prefix + f.name] = value
    return flat


def replace(config: Any, changes: dict[str, Any]) -> Any:
    """config with dotted options changed: {"steps": 100, "model.latent_size": 64}.

    Raises:
      UserError: an unknown option, or a value that it does not allow.
    """
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if not any(f.name == head for f in dataclasses.fields(config)):
            near = suggestion(nearest(name, flatten(config)))
            raise UserError(f"unknown option {name!r}{near and '; ' + near}")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    return dataclasses.replace(config, **own, **{h: replace(getattr(config, h), c) for h, c in nested.items()})


def differences(old: Any, new: Any) -> list[str]:
    """`option: old -> new` for every option in which two configs of a kind differ."""
    a, b = flatten(old), flatten(new)
    return [f"{name}: {a[name]} -> {b[name]}" for name in a if a[name] != b[name]]
