"""A covering array of the options of a training step: few configs in which every pair (or triple) of choices meets.

python -m parity_tests.covering          makes the pairs' array anew, covering_pairs.json, where options have changed
"""

import dataclasses
import itertools
import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jax_sngan.config.schema import TrainConfig, flatten, replace
from jax_sngan.system.errors import UserError
from parity_tests.configs import BASE

Choice = tuple[str, Any]  # (dotted option, value)
Row = dict[str, Any]

# Choices that are not the schema's own lists: numbers and switches, the first of each the plain one.
VALUES: dict[str, tuple[Any, ...]] = {
    "dequantize": (False, True),
    "n_dis": (1, 2),
    "generator_batch_multiplier": (1, 2),
    "accumulate": (1, 2),
    # Clips scales of batch normalisation too: by 0.05, layer after layer, what is left of a map is below its eps, and
    # rounding is amplified until nothing agrees.
    "weight_clip": (0.0, 0.2),
    "ema_decay": (0.9, 0.0),
    "ema_warmup": (False, True),
    "penalty.weight": (10.0, 3.0),
    "penalty.target": (1.0, 0.01),  # the second below these networks' norms: one side has something to punish
    "augment.colour": (False, True),
    "augment.translation": (0.0, 0.125),
    "augment.cutout": (0.0, 0.5),
    "model.channels": (1, 3),
    "model.num_classes": (0, 10),
    "model.depth": (1, 2),
    "model.generator_dropout": (0.0, 0.3),
    "model.discriminator_dropout": (0.0, 0.2),
    "model.score_bias": (True, False),
    "model.batch_norm_eps": (1e-5, 2e-3),
    "model.batch_norm_momentum": (0.1, 0.3),
    "model.spectral_norm.target": (1.0, 1.5),
    "model.spectral_norm.iterations": (1, 2),
    "model.spectral_norm.eps": (1e-12, 0.3),  # the second above the norm of some vectors
    "generator_optimizer.beta1": (0.0, 0.5),
    "discriminator_optimizer.beta1": (0.0, 0.5),
    "generator_optimizer.decay_start": (0, 2),
    "discriminator_optimizer.decay_start": (0, 2),
}
# Options that are no part: each with what it is instead.
LEFT_OUT = {
    "name": "a name",
    "class_names": "names",
    "data": "where images come from",
    "flip": "of the inputs, which both frameworks are given",
    "steps": "a length",
    "batch_size": "a size",
    "seed": "a seed",
    "model.image_size": "a size: rung 3 has each",
    "model.latent_size": "a size",
    "model.generator_width": "a size",
    "model.discriminator_width": "a size",
    "model.dtype": "rung 5 has both",
    "precision": "of GPUs and TPUs: tests/test_precision.py",
    "model.compute_dtype": "bfloat16 is not compared in float64; rung 5 has it",
    "model.spectral_norm.eps_form": "PyTorch has none; rung 2",
    "model.spectral_norm.init": "of a fresh layer; rung 2",
    "model.spectral_norm.warmup": "of a fresh layer; rung 2",
    "model.spectral_norm.evaluation": "of evaluations; rung 2",
    **{f"{network}_optimizer.{name}": "a number of Adam's; rung 1"
       for network in ("generator", "discriminator") for name in ("learning_rate", "beta2", "eps")},
}  # fmt: skip
# Options that count where another has one of these values, and stand at their first value elsewhere.
_NORMED = ("model.spectral_norm.networks", ("discriminator", "both"))
_AROUND = ("penalty.kind", ("gradient_penalty", "dragan"))
_ITERATED = ("model.spectral_norm.form", ("reshaped",))
NEEDS: dict[str, tuple[tuple[str, tuple[Any, ...]], ...]] = {
    "ema_warmup": (("ema_decay", (0.9,)),),
    "penalty.weight": (("penalty.kind", ("gradient_penalty", "r1", "dragan")),),
    "penalty.target": (_AROUND,),
    "penalty.sides": (_AROUND,),
    "model.depth": (("model.architecture", ("mlp",)),),
    "model.upsampling": (("model.architecture", ("resnet",)),),
    "model.shortcut_input": (("model.architecture", ("resnet",)),),
    "model.batch_norm_eps": (("model.generator_norm", ("batch",)),),
    "model.batch_norm_momentum": (("model.generator_norm", ("batch",)),),
    "model.spectral_norm.target": (_NORMED,),
    "model.spectral_norm.form": (_NORMED,),
    "model.spectral_norm.iterations": (_NORMED, _ITERATED),
    "model.spectral_norm.order": (_NORMED, _ITERATED),
    "model.spectral_norm.eps": (_NORMED, _ITERATED),
    "generator_optimizer.decay_start": (("generator_optimizer.schedule", ("linear", "cosine")),),
    "discriminator_optimizer.decay_start": (("discriminator_optimizer.schedule", ("linear", "cosine")),),
}
FILE = Path(__file__).parent / "covering_pairs.json"
CANDIDATES = 12  # rows that are tried for each that is taken


def _listed(kind: type, prefix: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from _listed(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif get_origin(hint) is Literal and prefix + name not in LEFT_OUT:
            yield prefix + name, get_args(hint)


@cache
def options() -> dict[str, tuple[Any, ...]]:
    """Every option of the step and its choices; those that others depend on first."""
    found = {**dict(_listed(TrainConfig)), **VALUES}
    controllers = {name for needs in NEEDS.values() for name, _ in needs}
    order = sorted(found, key=lambda name: (name in NEEDS, name not in controllers))
    return {name: found[name] for name in order}


def active(row: Row) -> Row:
    """The options of a row that count in it."""
    return {n: v for n, v in row.items() if all(row.get(c) in values for c, values in NEEDS.get(n, ()))}


def allowed(row: Row) -> bool:
    """Whether the config takes these options, and it is a step that torch has a twin of."""
    try:
        replace(BASE, row)
    except UserError:
        return False
    return True


@cache
def _meets(choices: tuple[Choice, ...]) -> Row | None:
    """A smallest row in which all these choices count; None where the config allows none."""
    row = dict(choices)
    missing = {c: values for n in row for c, values in NEEDS.get(n, ()) if c not in row}
    for n in list(missing):  # what a controller needs itself
        missing |= {c: values for c, values in NEEDS.get(n, ()) if c not in row and c not in missing}
    quiet = {"model.spectral_norm.networks": "none"} if "model.spectral_norm.networks" not in {*row, *missing} else {}
    for values in itertools.product(*missing.values()):
        trial = quiet | row | dict(zip(missing, values, strict=True))
        if allowed(trial) and all(n in active(trial) for n in row):
            return trial
    return None


def required(strength: int) -> set[tuple[Choice, ...]]:
    """All sets of `strength` choices, of different options, that some allowed config holds."""
    names = list(options())
    found = set()
    for group in itertools.combinations(names, strength):
        for values in itertools.product(*(options()[n] for n in group)):
            choices = tuple(zip(group, values, strict=True))
            if _meets(choices) is not None:
                found.add(choices)
    return found


def held(row: Row, strength: int) -> set[tuple[Choice, ...]]:
    """The sets of choices that a row holds."""
    plain = flatten(BASE)
    own = active({n: row.get(n, plain[n]) for n in options()})
    return set(itertools.combinations([(n, own[n]) for n in options() if n in own], strength))


@cache
def rows(strength: int = 2, seed: int = 0) -> tuple[Row, ...]:
    """The array, greedily: each row is the best of a few that start from a set not yet held."""
    draw = random.Random(seed)
    left = sorted(required(strength), key=repr)
    missing = set(left)
    found: list[Row] = []
    while missing:
        left = [choices for choices in left if choices in missing]
        tries = [_grown(draw.choice(left), missing, strength, draw) for _ in range(CANDIDATES)]
        best = max((row for row in tries if row), key=lambda row: len(held(row, strength) & missing))
        missing -= held(best, strength)
        found.append(best)
    return tuple(found)


def _grown(
    start: tuple[Choice, ...], missing: set[tuple[Choice, ...]], strength: int, draw: random.Random
) -> Row | None:
    """A whole row around some choices; None where it comes to no allowed config."""
    row = dict(_meets(start) or {})
    fixed = set(row)
    names = list(options())
    late = [n for n in names if n in NEEDS]
    early = [n for n in names if n not in NEEDS]
    draw.shuffle(early)
    place = {n: i for i, n in enumerate(names)}
    for name in early + late:
        if name in fixed:
            continue
        values = [v for v in options()[name] if allowed(row | {name: v})]
        if not values:
            return None
        draw.shuffle(values)
        if name in active(row | {name: values[0]}):
            own = active(row)

            def gain(value: Any, name: str = name, own: Row = own) -> int:
                groups = itertools.combinations(own.items(), strength - 1)
                return sum(tuple(sorted((*g, (name, value)), key=lambda c: place[c[0]])) in missing for g in groups)

            values.sort(key=gain, reverse=True)
            row[name] = values[0]
        else:
            row[name] = options()[name][0]
    row = {n: row[n] if n in active(row) else _plain(n) for n in row}
    return row if allowed(row) else None


def _plain(name: str) -> Any:
    return options()[name][0]


def left_unnamed() -> list[str]:
    """Options of the config that are neither in the array nor left out for a reason."""
    return sorted(set(flatten(TrainConfig())) - set(options()) - set(LEFT_OUT))


def stored() -> list[Row]:
    """The pairs' array as it was made; `rows` takes half a minute."""
    return json.loads(FILE.read_text())


if __name__ == "__main__":
    array = [{n: v for n, v in sorted(row.items()) if v != flatten(BASE)[n]} for row in rows()]
    FILE.write_text("[\n" + ",\n".join(json.dumps(row) for row in array) + "\n]\n")
    print(f"{len(required(2)):,} pairs of choices in {len(array)} configs")
