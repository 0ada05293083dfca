"""What TF32 and bfloat16 factors do to a training, emulated on any machine.

    python -m parity_tests.rounded_factors [--steps N]

prints the table of docs/precision.md, "What it does to a training". The training step is traced as for a GPU or TPU; of
every product in it that does not ask for the highest precision the factors are rounded to nearest, and the products are
summed in float32. How a device orders its sums, and how it treats what lies between two steps of rounding, is its own.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jax_sngan.config.presets import preset
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core.flops import taken_branch
from jax_sngan.core.inputs import draw_inputs
from jax_sngan.core.state import create_state
from jax_sngan.core.step import training_step
from jax_sngan.data import datasets
from jax_sngan.models.network import Tree, Variables

Product = Callable[[Array, Array], Array]
Rounding = Callable[[Product, Array, Array], Array]
# Narrow, and one D update a step: products on a CPU by the forms of a GPU or TPU take their time.
CONFIG = replace(
    preset("sngan"), {"batch_size": 16, "n_dis": 1, "model.generator_width": 8, "model.discriminator_width": 8}
)
STEPS = 200
_BFLOAT16, _TF32 = 7, 10  # bits behind the point


def _rounded(bits: int, product: Product, a: Array, b: Array) -> Array:
    return product(lax.reduce_precision(a, 8, bits), lax.reduce_precision(b, 8, bits))


def _three_passes(product: Product, a: Array, b: Array) -> Array:
    """Each factor as the sum of two bfloat16 numbers; of the four products the smallest is left out."""
    (high_a, low_a), (high_b, low_b) = (_halves(x) for x in (a, b))
    return product(high_a, high_b) + (product(high_a, low_b) + product(low_a, high_b))


def _halves(x: Array) -> tuple[Array, Array]:
    high = lax.reduce_precision(x, 8, _BFLOAT16)
    return high, lax.reduce_precision(x - high, 8, _BFLOAT16)


ROUNDINGS: dict[str, Rounding] = {
    "float32": lambda product, a, b: product(a, b),
    "bfloat16 in 3 passes": _three_passes,
    "TF32": partial(_rounded, _TF32),
    "bfloat16": partial(_rounded, _BFLOAT16),
}


def with_rounding(function: Callable[..., Any], rounding: Rounding) -> Callable[..., Any]:
    """The function with the factors of its products rounded, but for those at the highest precision."""

    def emulated(*args: Any) -> Any:
        traced, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        found = _evaluate(traced, jax.tree.leaves(args), rounding)
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return emulated


def _evaluate(closed: ClosedJaxpr, args: list[Any], rounding: Rounding) -> list[Any]:
    jaxpr: Jaxpr = closed.jaxpr
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *args], strict=True))

    def value(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else known[variable]

    for eqn in jaxpr.eqns:
        results = _evaluate_one(eqn, [value(v) for v in eqn.invars], rounding)
        known.update(zip(eqn.outvars, results, strict=True))
    return [value(v) for v in jaxpr.outvars]


def _evaluate_one(eqn: Any, values: list[Any], rounding: Rounding) -> list[Any]:
    name, params = eqn.primitive.name, eqn.params
    if name in ("dot_general", "conv_general_dilated"):
        product = partial(eqn.primitive.bind, **params)
        full = params["precision"] == (lax.Precision.HIGHEST,) * 2
        return [product(*values) if full else rounding(product, *values)]
    if name == "scan":
        carries, consts = _parts_of_scan(eqn)

        def body(carry: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
            found = _evaluate(params["jaxpr"], [*values[:consts], *carry, *xs], rounding)
            return found[:carries], found[carries:]

        first, xs = values[consts : consts + carries], values[consts + carries :]
        carry, ys = lax.scan(body, first, xs, params["length"], params["reverse"])
        return [*carry, *ys]
    if params.get("branches_platforms") is not None:
        _, *arguments = values  # the first is the number of the platform's branch
        return _evaluate(taken_branch(eqn, "tpu"), arguments, rounding)
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    if name in ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"):
        return _evaluate(inner, values, rounding)
    if inner is not None:
        raise NotImplementedError(f"a product may be in {name}, which is not looked into")
    found = eqn.primitive.bind(*values, **params)
    return list(found) if eqn.primitive.multiple_results else [found]


def _parts_of_scan(eqn: Any) -> tuple[int, int]:
    """How many arrays a scan carries, and how many it gives to every turn as they are.

    Read off the shapes, since jax's own names for the numbers differ between its versions: what is cut into turns, or
    stacked from them, has one axis more outside than inside.
    """
    inner = eqn.params["jaxpr"].jaxpr

    def whole(outside: list[Any], inside: list[Any]) -> int:
        return sum(a.aval.shape == b.aval.shape for a, b in zip(outside, inside, strict=True))

    carries = whole(eqn.outvars, inner.outvars)
    return carries, whole(eqn.invars, inner.invars) - carries


def sigmas(variables: Variables) -> np.ndarray:
    """u^T W v of each normalised layer, float64."""

    def of(params: Tree, spectral: Tree) -> list[float]:
        if "norm" in spectral:
            kernel = np.asarray(params["kernel"], np.float64)
            u, v = (np.asarray(spectral["norm"][name], np.float64) for name in "uv")
            return [float(u @ kernel.reshape(-1, kernel.shape[-1]).T @ v)]
        return [sigma for name in spectral for sigma in of(params[name], spectral[name])]

    return np.array(of(variables.params, variables.spectral))


def train(config: TrainConfig, steps: int, rounding: Rounding) -> dict[str, np.ndarray]:
    """losses [steps, 2], of D (the last update's) and of G; sigmas [steps, layers]; gradient: the first step's of G."""
    images = datasets.load_data(config.data, image_size=config.model.image_size, channels=config.model.channels)
    single = replace(config, {"model.dtype": "float32"})  # all start from the same numbers
    state = jax.tree.map(lambda x: x.astype(config.model.dtype) if x.dtype.kind == "f" else x, create_state(single))
    step = jax.jit(with_rounding(partial(training_step, config), rounding))
    losses, norms, gradient = [], [], np.zeros(0)
    for k in range(steps):
        inputs = draw_inputs(single, images, k)
        inputs = jax.tree.map(lambda x: x.astype(config.model.dtype) if x.dtype == jnp.float32 else x, inputs)
        state, logs = step(state, inputs)
        losses.append([float(logs["d_loss"][-1]), float(logs["g_loss"])])
        norms.append(sigmas(state.discriminator))
        if k == 0:
            moments = jax.tree.leaves(state.generator_opt.mu)  # beta1 is 0: the gradient itself
            gradient = np.concatenate([np.asarray(m, np.float64).ravel() for m in moments])
    return {"losses": np.array(losses), "sigmas": np.array(norms), "gradient": gradient}


def table(runs: dict[str, dict[str, np.ndarray]], exact: dict[str, np.ndarray]) -> str:
    """Rows of what is off from float64, one column a run."""
    steps = len(exact["losses"])
    rows: dict[str, list[str]] = {"G's gradient in the first step, of its length": []}
    marks = [n for n in (1, 10, 50, 100, 200, 500, 1000) if n < steps] + [steps]
    for run in runs.values():
        off = np.linalg.norm(run["gradient"] - exact["gradient"]) / np.linalg.norm(exact["gradient"])
        rows["G's gradient in the first step, of its length"].append(f"{off:.1e}")
        loss = np.abs(run["losses"] - exact["losses"]).max(axis=1)
        sigma = np.abs(run["sigmas"] / exact["sigmas"] - 1).max(axis=1)
        for n in marks:
            rows.setdefault(f"losses, the largest difference in {n} steps", []).append(f"{loss[:n].max():.1e}")
        for n in marks:
            rows.setdefault(f"sigma, the layer that is most off after {n} steps", []).append(f"{sigma[n - 1]:.1e}")
        late = slice(steps // 2, None)
        mean = np.abs(run["losses"][late].mean(axis=0) - exact["losses"][late].mean(axis=0)).max()
        rows.setdefault(f"losses, the mean of the last {steps - steps // 2} steps", []).append(f"{mean:.1e}")
    lines = [f"| off from float64 | {' | '.join(runs)} |", f"| --- |{' ---: |' * len(runs)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(found)} |" for name, found in rows.items())])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"training steps (default {STEPS})")
    steps = parser.parse_args().steps
    jax.config.update("jax_enable_x64", True)
    exact = train(replace(CONFIG, {"model.dtype": "float64"}), steps, ROUNDINGS["float32"])
    print(table({name: train(CONFIG, steps, rounding) for name, rounding in ROUNDINGS.items()}, exact))


if __name__ == "__main__":
    main()
