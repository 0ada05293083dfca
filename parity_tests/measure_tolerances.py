"""Measures what tolerances.py says: how far torch's float32 is from itself and from its own float64, rung by rung.

    python -m parity_tests.measure_tolerances

Every case that the ladder runs in float32 is run by the reference alone: as the tests run it, then with one thread,
with maps in channels_last, without oneDNN, and in float64. The error is the ladder's own, max|a - b| / max|b| of each
array; the worst array of the worst case is printed.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import torch

import conftest  # noqa: F401  # the settings that the tests run under
import torch_ref.core.inputs
import torch_ref.core.losses
import torch_ref.core.state
import torch_ref.core.step
import torch_ref.nn.spectral_norm
from jax_sngan.config.schema import replace
from jax_sngan.core.inputs import draw_inputs
from jax_sngan.interop import torch_layout
from parity_tests import test_1_ops as rung_1
from parity_tests import test_2_layers as rung_2
from parity_tests import test_3_networks as rung_3
from parity_tests import test_4_losses as rung_4
from parity_tests import test_5_update as rung_5
from parity_tests import variations
from parity_tests.compare import to_numpy
from parity_tests.torch_device import tensor
from parity_tests.trees import biases_before_batch_norm, random_state, random_variables, worst

Results = dict[str, Any]
# Its name; dtype -> arrays by name; scales as trees.worst takes them.
Case = tuple[str, Callable[[str], Results], dict[str, str]]


# Its name -> the type and the way in which the case is computed again.
VARIATIONS: dict[str, tuple[str, Callable[[], contextlib.AbstractContextManager[Any]]]] = {
    **{name: ("float32", context) for name, context in variations.VARIATIONS.items()},
    "float64": ("float64", contextlib.nullcontext),
}


def cast(tree: Any, dtype: str) -> Any:
    """A tree with its floating arrays in dtype; the others are as they were."""
    return jax.tree.map(lambda a: a.astype(dtype) if np.issubdtype(a.dtype, np.floating) else a, tree)


def operations() -> Iterator[Case]:
    """Rung 1."""
    for case in rung_1.FEW:
        *_, stride, padding = case
        drawn = rung_1._draw(case, "float32")[:2]

        def orders(dtype: str, drawn=drawn, stride=stride, padding=padding) -> Results:
            def f(x: Any, kernel: Any) -> Any:
                return rung_1._torch_conv(x, kernel, stride, padding)

            return dict(zip(rung_1.ORDERS, rung_1._torch_orders(f, *cast(drawn, dtype)), strict=True))

        yield f"conv {rung_1._name(case)}", orders, {}

    for shape in rung_1.SHAPES:
        w, u, v = rung_1._state(shape, "float32")

        def iterate(dtype: str, w=w, u=u, v=v) -> Results:
            w, u, v = (tensor(a) for a in cast((w, u, v), dtype))
            u, v = torch_ref.nn.spectral_norm.power_iteration(w, u, v, iterations=3)
            return {"u": u, "v": v, "W / sigma": torch_ref.nn.spectral_norm.spectral_normalize(w, u, v)}

        yield f"power iteration {shape}", iterate, {}


class Alone:
    """What test_2_layers.go_through asks of a Pair, by the reference only: all is kept, nothing compared."""

    def __init__(self, pair: rung_2.Pair, dtype: str):
        self.dtype = "float32"  # of what is drawn; it is cast after that
        self.cast = dtype
        self.rng = np.random.default_rng(0)
        self.module = copy.deepcopy(pair.theirs).to(getattr(torch, dtype))
        self.twins = rung_2.twins(self.module)
        self.passes = 0
        self.kept: Results = {}

    def scatter(self, scale: float = 0.1) -> None:
        """As Pair.scatter."""
        for twin in self.twins.values():
            if twin.tensor.requires_grad:
                before = twin.ours()
                twin.load(before + (scale * self.rng.normal(size=before.shape)).astype("float32").astype(self.cast))

    def run(self, *inputs: Any, train: bool) -> np.ndarray:
        """As Pair.run."""
        y, gradients = rung_2.torch_pass(self.module, cast(inputs, self.cast), train)
        self.kept[f"pass {self.passes} y"] = y
        self.kept |= {f"pass {self.passes} gradient {name}": a for name, a in gradients.items()}
        self.kept |= {f"pass {self.passes} after {name}": twin.ours() for name, twin in self.twins.items()}
        self.passes += 1
        return np.zeros(1)  # go_through holds that an evaluation repeats itself; that is not measured here


def layers() -> Iterator[Case]:
    """Rung 2."""

    def measured(name: str, pair: rung_2.Pair, draw: Callable[[np.random.Generator], Any]) -> Case:
        def passes(dtype: str) -> Results:
            alone = Alone(pair, dtype)
            alone.scatter()
            rung_2.go_through(alone, lambda: draw(alone.rng))
            return alone.kept

        scales = {
            f"pass {i} gradient {name}": f"pass {i} gradient {scale}"
            for i in range(9)
            for name, scale in pair.zero_gradients.items()
        }
        return name, passes, scales

    for case, norm, dtype in rung_2.LAYERS:
        if dtype == "float32":
            pair = rung_2.make_pair(case, rung_2.NORMS[norm], dtype)
            yield measured(f"{case} {norm}", pair, lambda rng, case=case: (rung_2.draw(case, "float32", rng),))
    for shape, classes, dtype in rung_2.BATCH_NORMS:
        if dtype == "float32":
            pair = rung_2.batch_norm_pair(shape[-1], classes, dtype)
            draw = partial(rung_2.batch_norm_inputs, shape, classes, dtype)
            yield measured(f"BatchNorm {shape} {classes} classes", pair, draw)
    for block, norm, dtype in rung_2.BLOCK_CASES:
        if dtype == "float32":
            pair = rung_2.block_pair(block, norm, dtype)
            yield measured(str(block), pair, partial(rung_2.block_inputs, block, dtype))


def networks() -> Iterator[Case]:
    """Rung 3."""
    for config, _ in rung_3.CASES:
        if config.dtype != "float32":
            continue
        for network in torch_layout.NETWORKS:
            rng = np.random.default_rng(config.image_size)
            variables = torch_layout.variables_to_torch(config, network, random_variables(config, network, rng))
            x, labels = rung_3.draw(config, network, rng)
            size, channels = config.image_size, config.channels
            weights = rng.normal(size=(3, rung_3.BATCH, *((channels, size, size) if network == "generator" else ())))
            x = x if network == "generator" else np.ascontiguousarray(torch_layout.images_to_torch(x))

            def passes(
                dtype: str, config=config, network=network, variables=variables, x=x, labels=labels, weights=weights
            ) -> Results:
                found = rung_3.in_torch(
                    dataclasses.replace(config, dtype=dtype),
                    network,
                    cast(dict(variables), dtype),
                    cast(x, dtype),
                    labels,
                    cast(weights, dtype),
                )
                kept = {f"gradient {name}": a for name, a in found["gradients"].items()}
                kept |= {"input gradient": found["input_gradients"]}
                for i, (y, after) in enumerate(zip(found["results"], found["after"], strict=True)):
                    kept |= {f"result {i}": y} | {f"after {i} {name}": a for name, a in after.items()}
                return kept

            yield f"{config.architecture} {size} {network}", passes, {}


def all_losses() -> Iterator[Case]:
    """Rung 4."""
    for name, pair in torch_ref.core.losses.LOSSES.items():
        for scores in rung_4.SCORES:
            if name == "non_saturating_eps" and scores == "far out, wrong":
                continue  # minus the logarithm of 1 + 1e-8, which float32 cannot tell from 1
            drawn = rung_4.draw(scores, "float32")

            def values(dtype: str, pair=pair, drawn=drawn) -> Results:
                real, fake = cast(drawn, dtype)
                found = [
                    *rung_4.torch_value_and_gradients(pair.discriminator, real, fake),
                    *rung_4.torch_value_and_gradients(pair.generator, fake),
                ]
                return dict(zip(("D", "D real", "D fake", "G", "G fake"), found, strict=True))

            yield f"{name}, {scores}", values, {}


def updates() -> Iterator[Case]:
    """Rung 5."""
    for name, changes in rung_5.CASES.items():
        config = replace(rung_5.BASE, changes | {"model.dtype": "float32"})
        state = random_state(config)
        flat = torch_layout.to_torch(config, state)
        images = rung_5.images(config.model.image_size, config.model.channels)
        inputs = torch_layout.inputs_to_torch(draw_inputs(rung_5.drawing(config), images, step=int(state.step)))

        def step(dtype: str, config=config, flat=flat, inputs=inputs) -> Results:
            config = replace(config, {"model.dtype": dtype})
            reference = torch_ref.core.state.create_state(config)
            torch_ref.core.state.load_state(reference, cast(flat, dtype))
            arrays = torch_ref.core.inputs.from_numpy(cast(inputs, dtype))
            reference, logs = torch_ref.core.step.training_step(config, reference, arrays)
            return torch_ref.core.state.dump(reference) | {f"logs.{k}": to_numpy(v) for k, v in logs.items()}

        yield name, step, biases_before_batch_norm(config.model, flat)


RUNGS = {"OPS": operations, "LAYER": layers, "NETWORK": networks, "LOSS": all_losses, "UPDATE": updates}


def measure(cases: Iterator[Case]) -> dict[str, tuple[float, str]]:
    """For each variation the largest error and where it is."""
    largest = dict.fromkeys(VARIATIONS, (0.0, "equal"))
    for name, compute, scales in cases:
        as_tested = compute("float32")
        for variation, (dtype, context) in VARIATIONS.items():
            with context():
                other = compute(dtype)
            # The other's numbers in float32, so that trees.worst accepts them; in float64 they are the exact ones.
            expected = {k: to_numpy(a).astype(to_numpy(as_tested[k]).dtype) for k, a in other.items()}
            error, array = worst(as_tested, expected, scales)
            largest[variation] = max(largest[variation], (error, f"{name}: {array}"))
    return largest


def main() -> None:
    """Prints the table."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for rung, cases in RUNGS.items():
        for variation, (error, where) in measure(cases()).items():
            print(f"{rung:8} {variation:14} {error:.1e}  {where}", flush=True)


if __name__ == "__main__":
    main()
