"""Rung 6's runs: one training in both frameworks and in torch from other starts or by other sums, and how they part."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import torch_ref.core.inputs
import torch_ref.core.state
import torch_ref.core.step
from jax_sngan.config.schema import ModelConfig, TrainConfig, replace
from jax_sngan.core import step as update
from jax_sngan.core.gan import gan
from jax_sngan.core.inputs import Images, Inputs, draw_inputs
from jax_sngan.data import datasets
from jax_sngan.data.mixtures import grid
from jax_sngan.interop import torch_layout
from jax_sngan.system.jax_internals import known
from parity_kit import growth as growing
from parity_kit.growth import Growth
from parity_kit.rows import largest, worst
from parity_tests.compare import to_numpy
from parity_tests.trees import as_arrays, biases_before_batch_norm
from parity_tests.variations import VARIATIONS, threads

Flat = dict[str, np.ndarray]
# Level 0 (trees.QUICK_COMPILE) compiles in 6 s where this takes 10, but its 200 steps take 6 s and these 1 s.
RUN_COMPILE = known({"xla_backend_optimization_level": 1})
# Without conftest's flags.
AS_SHIPPED = known({"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}, jax.default_backend())
# What has a true gradient of zero, and what repeats it. Adam makes steps of its rounding, so it wanders.
CANCELLED, MEANS = "cancelled biases", "running means"
WANDERING = (CANCELLED, MEANS)


class Framework:
    """One run: its state by torch_ref's names, its logs, and the constants that its running means have taken up."""

    def __init__(self, config: TrainConfig):
        self.config = config
        self.logs: dict[str, list[np.ndarray]] = {}
        self.constants: Flat = {}

    def dump(self) -> Flat:
        """The state, copied."""
        raise NotImplementedError

    def network(self, name: str) -> Mapping[str, np.ndarray]:
        """The part of dump that is one network's, perhaps not copied."""
        raise NotImplementedError

    def advance(self, inputs: Inputs) -> Mapping[str, Any]:
        """One training step; returns its logs."""
        raise NotImplementedError

    def step(self, inputs: Inputs) -> None:
        """One training step, and the record of it."""
        before = self.constants_of_norms()
        for name, value in self.advance(inputs).items():
            self.logs.setdefault(f"logs.{name}", []).append(np.asarray(value))
        after = self.constants_of_norms()
        momentum = self.config.model.batch_norm_momentum
        for name in before:
            # One entry a training pass of the network, and a batch in parts makes a pass for each of them.
            for moved in self.passes(name.partition(".")[0]):
                value = (after if moved else before)[name]
                for _ in range(self.config.accumulate):
                    self.constants[name] = (1 - momentum) * self.constants.get(name, 0.0) + momentum * value

    def passes(self, network: str) -> list[bool]:
        """A step's training passes of a network: whether each came after the network's own update.

        Raises:
          ValueError: between two updates of D its biases are not seen from outside.
        """
        first = self.config.update_order == "discriminator_first"
        if network == "generator":
            return [False] * (self.config.n_dis + 1) if first else [False, *[True] * self.config.n_dis]
        if self.config.n_dis > 1:
            raise ValueError("BatchNorm in D needs n_dis=1 here")
        own, last = [False] * update.passes(gan(self.config)), [first] * update.generator_passes(gan(self.config))
        return [*own, *last] if first else [*last, *own]

    def constants_of_norms(self) -> Flat:
        """batch_norm_constants of both networks as they are now."""
        m = self.config.model
        flat = {**self.network("generator")} if m.generator_norm == "batch" else {}
        if m.discriminator_norm == "batch":
            flat |= self.network("discriminator")
        return {name: np.array(value) for name, value in batch_norm_constants(m, flat).items()}

    def record(self) -> Flat:
        """State, logs so far [steps, ...], and beside each running mean the same without the constants in it."""
        flat = self.dump()
        centred = {
            name.replace("running_mean", "centred_mean"): flat[name] - constant
            for name, constant in self.constants.items()
        }
        return flat | centred | {name: np.stack(values) for name, values in self.logs.items()}


class JaxWing(Framework):
    """The project."""

    def __init__(self, config: TrainConfig, start: Flat, compiler_options: dict[str, Any] | None):
        super().__init__(replace(config, {"precision": "highest"}))
        self.state = jax.tree.map(jnp.asarray, torch_layout.from_torch(config, start))
        self.jitted = jax.jit(partial(update.training_step, self.config), compiler_options=compiler_options)

    def dump(self) -> Flat:
        """The state, copied."""
        return {name: np.array(a) for name, a in torch_layout.to_torch(self.config, self.state).items()}

    def network(self, name: str) -> Mapping[str, np.ndarray]:
        """The part of dump that is one network's."""
        return torch_layout.variables_to_torch(self.config.model, name, getattr(self.state, name), f"{name}.")

    def advance(self, inputs: Inputs) -> Mapping[str, Any]:
        """One training step; returns its logs."""
        self.state, logs = self.jitted(self.state, inputs)
        return logs


class TorchWing(Framework):
    """The reference, in a context that changes how sums are made, or with each batch in another order."""

    def __init__(
        self,
        config: TrainConfig,
        start: Flat,
        context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
        *,
        reverse: bool = False,
    ):
        super().__init__(config)
        self.state = torch_ref.core.state.create_state(config)
        torch_ref.core.state.load_state(self.state, start)
        self.context, self.reverse = context, reverse

    def dump(self) -> Flat:
        """The state, copied."""
        return torch_ref.core.state.dump(self.state)

    def network(self, name: str) -> Mapping[str, np.ndarray]:
        """The part of dump that is one network's, not copied."""
        return {f"{name}.{entry}": to_numpy(tensor) for entry, tensor in getattr(self.state, name).state_dict().items()}

    def advance(self, inputs: Inputs) -> Mapping[str, Any]:
        """One training step; returns its logs."""
        arrays = torch_layout.inputs_to_torch(inputs)
        if self.reverse:
            arrays = {name: np.flip(a, 0 if name.startswith("g_") else 1) for name, a in arrays.items()}
        with self.context():
            self.state, logs = torch_ref.core.step.training_step(
                self.config, self.state, torch_ref.core.inputs.from_numpy(arrays)
            )
        return {name: to_numpy(value) for name, value in logs.items()}


@cache
def images(image_size: int, channels: int) -> Images:
    """The garments that ship with the package; with two channels points of the plane, as images of one pixel."""
    if channels == 2:
        points, labels = grid().sample(10_000, seed=0)
        return SimpleNamespace(images=points.astype(np.float64).reshape(-1, 1, 1, 2), labels=labels)
    return datasets.load_data("fashion", image_size=image_size, channels=channels)


def moved(config: TrainConfig, flat: Flat, seed: int) -> Flat:
    """A start with every parameter moved by a rounding."""
    rng = np.random.default_rng(seed)
    parameters = {
        f"{network}.{entry.name}"
        for network in torch_layout.NETWORKS
        for entry in torch_layout.network_entries(config.model, network).params
    }
    return {name: growing.moved(a, rng) if name in parameters else a for name, a in flat.items()}


def run(config: TrainConfig, steps: int, *, every: int = 10, moves: int = 0) -> Growth:
    """A training in both frameworks from torch's start, and in torch from that start moved by 1e-15, `moves` times.

    Args:
      steps: how many are done; the schedule is the config's.
      every: steps between two records; the last step is one too.
    """
    start = torch_ref.core.state.dump(torch_ref.core.state.create_state(config))
    frameworks: dict[str, Framework] = {"jax": JaxWing(config, start, RUN_COMPILE)}
    with threads(1):
        return grow(config, TorchWing(config, start), frameworks | _torchs_own(config, start, moves), steps, every)


def run_torch(config: TrainConfig, steps: int, *, every: int = 10, moves: int = 2) -> Growth:
    """The same without the project: torch from moved starts and, where images draw nothing, with batches reversed."""
    start = torch_ref.core.state.dump(torch_ref.core.state.create_state(config))
    frameworks: dict[str, Framework] = {}
    if not config.needs_keys:  # else the n-th image of a batch has random numbers of its own
        frameworks["torch, batch reversed"] = TorchWing(config, start, reverse=True)
    with threads(1):
        return grow(config, TorchWing(config, start), frameworks | _torchs_own(config, start, moves), steps, every)


def _torchs_own(config: TrainConfig, start: Flat, moves: int) -> dict[str, Framework]:
    return {f"torch, moved {seed}": TorchWing(config, moved(config, start, seed)) for seed in range(moves)}


def run_float32(
    config: TrainConfig, steps: int, *, every: int = 5, variations: Sequence[str] = tuple(VARIATIONS)
) -> Growth:
    """A training in both frameworks, as it ships, and in torch by other orders of summation.

    Args:
      steps: how many are done; the schedule is the config's.
      every: steps between two records.
      variations: of VARIATIONS; a batch reversed is always one more.
    """
    start = torch_ref.core.state.dump(torch_ref.core.state.create_state(config))
    frameworks: dict[str, Framework] = {"jax": JaxWing(config, start, AS_SHIPPED)}
    frameworks |= {f"torch, {name}": TorchWing(config, start, VARIATIONS[name]) for name in variations}
    frameworks["torch, batch reversed"] = TorchWing(config, start, reverse=True)
    with threads(2):
        return grow(config, TorchWing(config, start), frameworks, steps, every)


def grow(
    config: TrainConfig, reference: Framework, frameworks: Mapping[str, Framework], steps: int, every: int
) -> Growth:
    """All runs side by side on the same inputs, each held against the reference every so many steps and at the end."""
    real = images(config.model.image_size, config.model.channels)
    inputs = (draw_inputs(config, real, k) for k in range(steps))
    records = {*range(every, steps + 1, every), steps}
    return growing.grow(reference, frameworks, inputs, records, partial(errors, config.model))


def errors(config: ModelConfig, actual: Flat, expected: Flat) -> dict[str, tuple[float, str]]:
    """Group -> its largest relative error, max|a - b| / scale of each array, and the array's name.

    The scale is the array's largest entry. Of what has a true gradient of zero nothing but rounding would be left to
    divide by: there it is the kernel beside the bias. A running mean's is the standard deviation that its images are
    divided by. Adam's first moment is one step's gradient where beta1 is 0, whose terms may happen to cancel: its scale
    is at least the root of the second, which it is divided by. Integers and types must be the same.
    """
    actual, expected = as_arrays(actual, expected)
    kernels = biases_before_batch_norm(config, expected)

    def scale(name: str) -> float:
        own = largest(expected[kernels.get(name, name)])
        if name.endswith("running_mean"):
            own = math.sqrt(largest(expected[name.replace("running_mean", "running_var")]))
        if ".exp_avg." in name:
            second = kernels.get(name, name).replace(".exp_avg.", ".exp_avg_sq.")
            own = max(own, math.sqrt(largest(expected[second])))
        return own

    return worst(actual, expected, scale, lambda name: group_of(name, name in kernels))


def group_of(name: str, cancelled: bool) -> str:
    """The group of an array of Framework.record; cancelled: it belongs to a bias in front of BatchNorm."""
    part = name.split(".")[0]
    if part == "logs":
        return "losses"
    if part.endswith("_opt"):
        return f"{part.removesuffix('_opt')} moments"
    if cancelled:
        return CANCELLED
    if name.endswith("running_mean"):
        return MEANS
    if name.endswith(("centred_mean", "running_var")):
        return "running statistics"
    if name.endswith(("_u", "_v")):
        return "u and v"
    return {"generator_ema": "EMA", "step": "count of steps"}.get(part, f"{part} parameters")


def batch_norm_constants(config: ModelConfig, flat: Mapping[str, np.ndarray]) -> Flat:
    """Running mean's name -> what the biases before it add to every pixel of the channel, [features].

    BatchNorm takes it off again, so no image sees it. A network with running means must have its case here.
    """
    constants: Flat = {}
    means = {name for name in flat if name.endswith("running_mean")}
    if config.architecture == "resnet":
        # A block's result is conv2's plus the shortcut's, and a 1x1 shortcut passes a constant on as a constant.
        carried = np.zeros_like(flat.get("generator.blocks.0.norm1.running_mean", 0.0))
        blocks = sum(name.startswith("generator.") and name.endswith("norm1.running_mean") for name in means)
        for block in (f"generator.blocks.{i}" for i in range(blocks)):
            constants[f"{block}.norm1.running_mean"] = carried
            constants[f"{block}.norm2.running_mean"] = flat[f"{block}.conv1.bias"]
            carried = (
                flat[f"{block}.conv2.bias"]
                + flat[f"{block}.shortcut.bias"]
                + _weight(config, flat, f"{block}.shortcut")[:, :, 0, 0] @ carried
            )
        if blocks:
            constants["generator.norm.running_mean"] = carried
    else:
        # norms.i stands behind the layer of the same number.
        g, d = {"standard_cnn": ("deconvs", "convs"), "mlp": ("hidden", "hidden")}[config.architecture]
        for name in means:
            layers = g if name.startswith("generator.") else d
            constants[name] = flat[name.replace("norms", layers).replace("running_mean", "bias")]
    if missing := means - set(constants):
        raise ValueError(f"{config.architecture}: unknown what the biases add before {', '.join(sorted(missing))}")
    return constants


def _weight(config: ModelConfig, flat: Mapping[str, np.ndarray], layer: str) -> np.ndarray:
    """A layer's kernel as a pass has it; with spectral norm by the u and v that are stored, a pass earlier or later.

    What it carries is rounding, so that its own change from one pass to the next does not count.
    """
    if f"{layer}.weight_orig" not in flat:
        return flat[f"{layer}.weight"]
    kernel = flat[f"{layer}.weight_orig"]
    sigma = flat[f"{layer}.weight_u"] @ kernel.reshape(len(kernel), -1) @ flat[f"{layer}.weight_v"]
    return kernel * (config.spectral_norm.target / sigma)
