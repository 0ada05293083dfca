"""How rounding grows over training: JAX against torch, beside torch against torch from a start moved by a rounding.

    python -m parity_tests.growth [--quick]

prints the curves as JSON. Without the second kind of curve the first says little: any two programs drift apart, and
the question is whether these two do so faster than one program does from a start that differs in the last digit.
"""

import argparse
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

import conftest  # noqa: F401  # the settings that the tests run under
import torch_ref.inputs
import torch_ref.state
import torch_ref.update
from jax_sngan import convert, data, update
from jax_sngan.config import TrainConfig, replace
from jax_sngan.inputs import draw_inputs
from jax_sngan.state import create_state
from parity_tests.configs import BASE
from parity_tests.trees import QUICK_COMPILE, biases_before_batch_norm

STEPS, QUICK_STEPS = 60, 20
MOVED = {"float64": 1e-15, "float32": 1e-7}  # about the spacing of numbers in [0.5, 1): 1.1e-16 and 6e-8, or a few
GROUPS = ("D's parameters", "G's parameters", "G's biases before BatchNorm", "running means")

Flat = Mapping[str, np.ndarray]


def growth_curves(quick: bool) -> list[dict[str, Any]]:
    """One plot for each type: {"title", "x": steps, "y_label", "lines": {label: relative error after each step}}."""
    return [_plot(dtype, QUICK_STEPS if quick else STEPS) for dtype in MOVED]


def _plot(dtype: str, steps: int) -> dict[str, Any]:
    config = replace(BASE, {"model.dtype": dtype, "steps": steps, "ema_decay": 0.99})
    images = data.load("fashion", image_size=config.model.image_size, channels=config.model.channels)
    state = jax.jit(partial(create_state, config), compiler_options=QUICK_COMPILE)()
    start = convert.to_torch(config, state)
    step = jax.jit(partial(update.training_step, config), compiler_options=QUICK_COMPILE)
    references = [torch_ref.state.create_state(config) for _ in range(2)]
    for reference, flat in zip(references, (start, _moved(start, MOVED[dtype])), strict=True):
        torch_ref.state.load(reference, flat)

    curves: dict[str, dict[str, list[float]]] = {"JAX": {}, "torch moved": {}}
    for k in range(steps):
        inputs = draw_inputs(config, images, k)
        state, _ = step(state, inputs)
        arrays = torch_ref.inputs.from_numpy(convert.inputs_to_torch(inputs))
        for reference in references:
            torch_ref.update.training_step(config, reference, arrays)
        torch_now, torch_moved = (torch_ref.state.dump(reference) for reference in references)
        for pair, other in (("JAX", convert.to_torch(config, state)), ("torch moved", torch_moved)):
            for group, error in group_errors(config, other, torch_now).items():
                curves[pair].setdefault(group, []).append(error)
    return {
        "title": f"{dtype}, narrow standard CNN, {steps} steps",
        "x": list(range(1, steps + 1)),
        "y_label": "relative error",
        "runs": len(curves),  # lines of one colour
        "lines": {f"{group}: {run} against torch": curves[run][group] for group in GROUPS for run in curves},
        "note": f"torch moved: its first parameters times 1 ± {MOVED[dtype]:g}",
    }


def _moved(flat: Flat, by: float) -> dict[str, np.ndarray]:
    """Every parameter times 1 + by or 1 - by, in its own type."""
    rng = np.random.default_rng(0)
    parameters = ("generator.", "discriminator.")
    not_parameters = ("running_mean", "running_var", "weight_u", "weight_v")

    def moved(name: str, a: np.ndarray) -> np.ndarray:
        if not name.startswith(parameters) or name.endswith(not_parameters):
            return a
        return (a.astype(np.float64) * (1 + by * rng.choice([-1.0, 1.0], a.shape))).astype(a.dtype)

    return {name: moved(name, a) for name, a in flat.items()}


def group_errors(config: TrainConfig, actual: Flat, expected: Flat) -> dict[str, float]:
    """The worst array of each of GROUPS: max|a - b| / max|b|.

    A bias in front of BatchNorm is rounding over itself, so the kernel beside it gives the scale; a running mean's is
    the standard deviation that its images are divided by.
    """
    kernels = biases_before_batch_norm(config.model, expected)
    errors = dict.fromkeys(GROUPS, 0.0)
    for name, b in expected.items():
        scale = float(np.max(np.abs(expected[kernels.get(name, name)])))
        if name.endswith("running_mean"):
            group = "running means"
            scale = float(np.sqrt(np.max(expected[name.replace("running_mean", "running_var")])))
        elif name.startswith("discriminator.") and not name.endswith(("_u", "_v")):
            group = "D's parameters"
        elif name in kernels and name.startswith("generator."):
            group = "G's biases before BatchNorm"
        elif name.startswith("generator.") and not name.endswith("running_var"):
            group = "G's parameters"
        else:
            continue
        difference = float(np.max(np.abs(np.asarray(actual[name], np.float64) - b)))
        errors[group] = max(errors[group], difference / scale if difference else 0.0)
    return errors


def main() -> None:
    """Prints the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps instead of {STEPS}")
    print(json.dumps(growth_curves(parser.parse_args().quick), allow_nan=False))


if __name__ == "__main__":
    main()
