"""How rounding grows over training: JAX against torch, beside torch against torch from a start moved by a rounding.

    python -m parity_tests.growth [--quick] [--torch-device DEVICE]

prints rung 6's curves of a few trainings as JSON. Without the second kind of curve the first says little: any two
programs drift apart, and the question is whether these two do so faster than one program does from a start that
differs in the last digit, or by sums in another order.
"""

import argparse
import json
from typing import Any

import conftest  # noqa: F401  # the settings that the tests run under
from jax_sngan.config.presets import preset
from parity_tests import torch_device
from parity_tests.pairings import config_of
from parity_tests.trajectory import run, run_float32

STEPS, QUICK_STEPS, F32_STEPS = 200, 40, 50
MOVES = 2
# The count of steps is exact, and running statistics say what the cancelled biases and the losses say.
GROUPS = ("losses", "discriminator parameters", "generator parameters", "u and v", "EMA", "cancelled biases")
NARROW = {"standard CNN": "standard_cnn", "ResNet": "resnet"}


def growth_curves(quick: bool) -> list[dict[str, Any]]:
    """Plots, {"title", "x": steps, "y_label", "lines": {label: relative error}, …} as parity_kit.page draws them.

    The narrow networks in float64 and the preset sngan in float32; quick: the narrow CNN alone.
    """
    steps = QUICK_STEPS if quick else STEPS
    plots = []
    for title, network in NARROW.items():
        if quick and plots:
            break
        growth = run(config_of(network, "hinge", "spectral_norm", steps), steps, every=5, moves=MOVES)
        note = "torch: from first parameters moved by 1e-15 of themselves, the larger of two"
        plots.append(growth.plot(f"float64, narrow {title}, {steps} steps", GROUPS, note))
    if not quick:
        growth = run_float32(preset("sngan"), F32_STEPS)
        note = "torch: one thread, channels_last, no oneDNN, the batch reversed, the largest of them"
        plots.append(growth.plot(f"float32, the preset sngan at its full width, {F32_STEPS} steps", GROUPS, note))
    return plots


def main() -> None:
    """Prints the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"the narrow CNN alone, {QUICK_STEPS} steps of {STEPS}")
    parser.add_argument("--torch-device", default="cpu", metavar="DEVICE", help=torch_device.CHOICES)
    arguments = parser.parse_args()
    torch_device.use(arguments.torch_device)
    print(json.dumps(growth_curves(arguments.quick), allow_nan=False))


if __name__ == "__main__":
    main()
