"""The rounding of one training step by stage: float32 against float64 in each framework, and one against the other.

    python -m parity_tests.precision [--matmul-precision default|high|highest]

prints the table of docs/precision.md. All four computations start from the same float32 numbers. A figure is
max|a - b| / max|b| of the worst array of its row. JAX computes on its default device and compiles as it does for users;
torch computes on the CPU. The option is JAX's own, and changes nothing on a CPU.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import torch_ref.core.inputs
import torch_ref.core.state
import torch_ref.core.step
import torch_ref.nn.batch_norm
from jax_sngan.config.architectures import CNN_HALVINGS
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core import step as update
from jax_sngan.core.inputs import Inputs, draw_inputs
from jax_sngan.data import datasets
from jax_sngan.interop import torch_layout
from jax_sngan.models.network import build
from jax_sngan.nn import batch_norm, layers
from jax_sngan.nn.power_iteration import PowerIteration
from parity_tests import torch_device
from parity_tests.compare import relative_error, to_numpy
from parity_tests.configs import BASE
from parity_tests.trees import biases_before_batch_norm, random_state

Flat = dict[str, Any]
# The garments' presets' network at half its width.
WIDTH, BATCH = 16, 32
CONFIG = replace(
    BASE,
    {
        "batch_size": BATCH,
        "ema_decay": 0.99,
        "model.latent_size": 64,
        "model.generator_width": WIDTH,
        "model.discriminator_width": WIDTH,
        "model.dtype": "float32",
    },
)
RUNS = ("JAX float32", "JAX float64", "torch float32", "torch float64")
COLUMNS = (
    ("JAX, f32 from f64", "JAX float32", "JAX float64"),
    ("torch, f32 from f64", "torch float32", "torch float64"),
    ("JAX from torch, f32", "JAX float32", "torch float32"),
    ("JAX from torch, f64", "JAX float64", "torch float64"),
)


def cast(tree: Any, dtype: str) -> Any:
    """A tree with its floating arrays in dtype."""
    return jax.tree.map(lambda a: np.asarray(a).astype(dtype) if np.asarray(a).dtype.kind == "f" else a, tree)


def recorded(classes: Mapping[type, str], results: Flat) -> Callable[[], None]:
    """Makes layers of ours keep what they return, by kind and order of call; returns what undoes that."""
    counts: dict[str, int] = {}
    originals = {kind: kind.__call__ for kind in classes}

    def wrapped(original: Any, name: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            y = original(self, *args, **kwargs)
            i = counts[name] = counts.get(name, -1) + 1
            results[f"{name} {i}"] = np.moveaxis(np.asarray(y), -1, 1) if y.ndim == 4 else np.asarray(y)
            return y

        return call

    for kind, name in classes.items():
        kind.__call__ = wrapped(originals[kind], name)  # type: ignore[method-assign]

    def undo() -> None:
        for kind, original in originals.items():
            kind.__call__ = original  # type: ignore[method-assign]

    return undo


def jax_forward(config: TrainConfig, state: Any, inputs: Inputs) -> Flat:
    """What every layer returns when G makes a batch and D scores it, op by op, in order of call."""
    results: Flat = {}
    kinds = {
        layers.Linear: "linear",
        layers.Conv: "conv",
        layers.ConvTranspose: "deconv",
        batch_norm.BatchNorm: "norm",
        PowerIteration: "sigma",
    }
    undo = recorded(kinds, results)
    networks = build(config.model)
    images, _ = networks.generator.apply(state.generator, inputs.g_latents, train=True)
    scores, _ = networks.discriminator.apply(state.discriminator, images, train=True)
    undo()
    # The dense layer's result is a map, and torch's is laid out channel by channel.
    side = config.model.image_size >> CNN_HALVINGS[config.model.image_size]
    results["linear 0"] = torch_layout.map_to_torch(results["linear 0"], side, side, axis=1)
    return results | {"scores": np.asarray(scores)}


def torch_forward(state: torch_ref.core.state.TrainState, inputs: Any) -> Flat:
    """The same by the reference."""
    results: Flat = {}
    kinds = {
        torch.nn.Linear: "linear",
        torch.nn.Conv2d: "conv",
        torch.nn.ConvTranspose2d: "deconv",
        torch_ref.nn.batch_norm.BatchNorm: "norm",
    }
    counts: dict[str, int] = {}

    def keep(name: str, value: Any) -> None:
        i = counts[name] = counts.get(name, -1) + 1
        results[f"{name} {i}"] = to_numpy(value).copy()

    def hook(name: str, module: torch.nn.Module, _: Any, y: torch.Tensor) -> None:
        keep(name, y)
        if hasattr(module, "weight_u"):  # sigma as torch.nn.utils.spectral_norm has just computed it
            w = module.weight_orig.detach().flatten(1)
            keep("sigma", torch.dot(module.weight_u, torch.mv(w, module.weight_v)))

    with torch.no_grad():
        for network in (state.generator, state.discriminator):
            for module in network.modules():
                for kind, name in kinds.items():
                    if isinstance(module, kind):
                        module.register_forward_hook(partial(hook, name))
        scores = state.discriminator.train()(state.generator.train()(inputs.g_latents))
    return results | {"scores": to_numpy(scores)}


def measure() -> dict[str, tuple[Flat, Flat, Flat]]:
    """Run -> (forward pass, a step in the middle of training, the first step of a run), arrays by name."""
    images = datasets.load_data("fashion", image_size=28, channels=1)
    found: dict[str, tuple[Flat, Flat, Flat]] = {}
    states = {fresh: torch_layout.to_torch(CONFIG, random_state(CONFIG, fresh=fresh)) for fresh in (False, True)}
    drawn = {fresh: draw_inputs(CONFIG, images, 0 if fresh else 3) for fresh in states}
    for dtype in ("float32", "float64"):
        config = replace(CONFIG, {"model.dtype": dtype})
        step = jax.jit(partial(update.training_step, config))
        ours: list[Flat] = []
        theirs: list[Flat] = []
        for fresh, flat in states.items():
            start = cast(flat, dtype)
            inputs = jax.tree.map(jnp.asarray, cast(drawn[fresh], dtype))
            arrays = torch_ref.core.inputs.from_numpy(torch_layout.inputs_to_torch(inputs))
            state = jax.tree.map(jnp.asarray, torch_layout.from_torch(config, start))
            reference = torch_ref.core.state.create_state(config)
            if not fresh:
                torch_ref.core.state.load_state(reference, start)
                ours.append(jax_forward(config, state, inputs))
                theirs.append(torch_forward(reference, arrays))
                reference = torch_ref.core.state.create_state(config)
            torch_ref.core.state.load_state(reference, start)
            state, logs = step(state, inputs)
            ours.append(_after(config, start, torch_layout.to_torch(config, state), logs))
            reference, torch_logs = torch_ref.core.step.training_step(config, reference, arrays)
            theirs.append(_after(config, start, torch_ref.core.state.dump(reference), torch_logs))
        found[f"JAX {dtype}"], found[f"torch {dtype}"] = tuple(ours), tuple(theirs)  # type: ignore[assignment]
    return found


def _after(config: TrainConfig, before: Flat, after: Flat, logs: Mapping[str, Any]) -> Flat:
    """A step's results, and each parameter's move in units of the learning rate."""
    rates = {n: getattr(config, f"{n}_optimizer").learning_rate for n in torch_layout.NETWORKS}
    parameters = [name.replace("_opt.exp_avg.", ".") for name in after if "_opt.exp_avg." in name]
    moves = {
        f"move.{name}": (after[name].astype(np.float64) - before[name]) / rates[name.partition(".")[0]]
        for name in parameters
    }
    return after | moves | {f"logs.{name}": to_numpy(value) for name, value in logs.items()}


def rows(found: Mapping[str, tuple[Flat, Flat, Flat]]) -> Iterator[tuple[str, list[float]]]:
    """(stage, its figure in each column)."""
    forward, middle, first = ({run: parts[i] for run, parts in found.items()} for i in range(3))
    names = list(middle["torch float64"])
    zero = biases_before_batch_norm(CONFIG.model, names)
    depth = 1 + max(int(n.split(".")[2]) for n in names if n.startswith("discriminator.convs."))

    def those(*beginnings: str, end: str = "") -> list[str]:
        return [n for n in names if n.startswith(beginnings) and n.endswith(end) and n not in zero]

    yield "G, dense layer", _figures(forward, ["linear 0"])
    for i in range(2):
        yield f"G, transposed convolution {i + 1}", _figures(forward, [f"deconv {i}"])
        yield f"G, batch norm {i + 1}", _figures(forward, [f"norm {i}"])
    yield "G, last convolution", _figures(forward, ["conv 0"])
    for i in range(depth):
        yield f"D, sigma {i + 1}", _figures(forward, [f"sigma {i}"])
        yield f"D, convolution {i + 1}", _figures(forward, [f"conv {i + 1}"])
    yield "D, scores", _figures(forward, ["scores"])
    yield (
        "u and v after a step",
        _figures(middle, those("discriminator.", end="weight_u") + those("discriminator.", end="weight_v")),
    )
    yield "losses", _figures(middle, ["logs.d_loss", "logs.g_loss"])
    g = "discriminator_opt.exp_avg."
    yield "gradient, D's score layer", _figures(middle, those(f"{g}score"))
    for i in reversed(range(depth)):
        yield f"gradient, D's convolution {i + 1}", _figures(middle, those(f"{g}convs.{i}."))
    g = "generator_opt.exp_avg."
    yield "gradient, G's last convolution", _figures(middle, those(f"{g}to_image"))
    for i in reversed(range(2)):
        yield f"gradient, G's batch norm {i + 1}", _figures(middle, those(f"{g}norms.{i}."))
        yield f"gradient, G's transposed convolution {i + 1}", _figures(middle, those(f"{g}deconvs.{i}."))
    yield "gradient, G's dense layer", _figures(middle, those(f"{g}project"))
    cancelled = [n for n in names if n in zero and n.startswith(g)]
    yield "gradient, a bias before batch norm", _figures(middle, cancelled)
    yield "the same, on the scale of its kernel", _figures(middle, cancelled, zero)
    yield "Adam's second moments", _figures(middle, those("generator_opt.exp_avg_sq.", "discriminator_opt.exp_avg_sq."))
    yield "Adam's move, in the middle of training", _figures(middle, those("move."))
    yield "Adam's move, first step of a run", _figures(first, those("move."))
    yield "the same, a bias before batch norm", _figures(first, [n for n in names if n in zero and "move." in n])
    yield "parameters after a step", _figures(middle, _parameters(those("generator.", "discriminator.")))
    yield "parameters after the first step", _figures(first, _parameters(those("generator.", "discriminator.")))
    yield "average of G's parameters", _figures(middle, those("generator_ema."))
    yield (
        "running means and variances",
        _figures(middle, those("generator.norms.0.running", "generator.norms.1.running")),
    )


def _parameters(names: list[str]) -> list[str]:
    return [n for n in names if not n.endswith(("_u", "_v", "running_mean", "running_var"))]


def _figures(arrays: Mapping[str, Flat], names: list[str], scales: Mapping[str, str] | None = None) -> list[float]:
    """The worst of these arrays in each column."""
    assert names
    figures = []
    for _, a, b in COLUMNS:
        errors = []
        for name in names:
            error = relative_error(arrays[a][name], arrays[b][name])
            if scales:
                own, other = (np.max(np.abs(arrays[b][n])) for n in (name, scales[name]))
                error *= float(own) / float(other)
            errors.append(error)
        figures.append(max(errors))
    return figures


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matmul-precision", choices=("default", "high", "highest"), default="highest")
    parser.add_argument("--torch-device", default="cpu", metavar="DEVICE", help=torch_device.CHOICES)
    arguments = parser.parse_args()
    precision = arguments.matmul_precision
    torch_device.use(arguments.torch_device, precision)
    jax.config.update("jax_enable_x64", True)
    if precision != "default":
        jax.config.update("jax_default_matmul_precision", precision)
    device = jax.devices()[0]
    print(f"JAX {jax.__version__} on {device.device_kind}, precision {precision}; torch {torch.__version__} on the CPU")
    print(f"standard CNN, 28 pixels, width {WIDTH}, batch {BATCH}; {os.cpu_count()} cores\n")
    print("| stage | " + " | ".join(name for name, _, _ in COLUMNS) + " |")
    print("| --- |" + " ---: |" * len(COLUMNS))
    for stage, figures in rows(measure()):
        print(f"| {stage} | " + " | ".join(f"{f:.1e}" if f else "0" for f in figures) + " |")


if __name__ == "__main__":
    main()
