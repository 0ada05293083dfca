"""One training step on eight devices is the step of one: its numbers, its share of the work, what is communicated."""

import dataclasses
import math
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import logs
import numpy as np
import optax
import pytest
from drawn_states import drawn, start
from jax.sharding import PartitionSpec

import jax_sngan as sn
from conftest import TINY
from jax_sngan.config.presets import names, preset
from jax_sngan.config.schema import RunConfig, TrainConfig, replace
from jax_sngan.core.inputs import draw_inputs, drawing, input_shapes, real_batch
from jax_sngan.core.sharding import (
    check_split,
    input_shardings,
    make_mesh,
    mean_of_devices,
    place,
    placed_inputs,
    placed_shapes,
    sharded_inputs,
    sharded_step,
    split_spec,
    stacked_inputs,
)
from jax_sngan.core.state import create_state, state_shapes
from jax_sngan.core.step import train_step, training_step
from jax_sngan.data.datasets import Dataset
from jax_sngan.nn.conv import kernel_gradient
from jax_sngan.nn.cpu_kernels import winograd
from jax_sngan.system.errors import UserError
from jax_sngan.training.trainer import train

DEVICES = 8
# In float64 sums in another order differ by this, relative to the largest number of an array or to 1.
ROUNDING = 1e-10
# Adam divides by the gradient's own size. The gradient of a bias in front of batch normalisation is zero but for
# rounding, and would become a step of the learning rate's size; with an eps of 1 a step has the gradient's size.
BASE = {
    "model.dtype": "float64",
    "batch_size": 16,
    "n_dis": 2,
    "generator_optimizer.eps": 1.0,
    "discriminator_optimizer.eps": 1.0,
}
MLP = BASE | {"model.architecture": "mlp"}
CASES: dict[str, dict[str, Any]] = {
    "mlp, both normalised": MLP | {"model.spectral_norm.networks": "both"},
    "mlp, relativistic": MLP | {"loss": "relativistic_hinge"},
}
LONG: dict[str, dict[str, Any]] = {
    "mlp, gradient penalty": MLP | {"penalty.kind": "gradient_penalty"},
    "mlp, r1, joint": MLP | {"penalty.kind": "r1", "passes": "joint"},
    "mlp, dragan, layer norm": MLP | {"penalty.kind": "dragan", "model.discriminator_norm": "layer"},
    "mlp, relativistic, joint": MLP | {"loss": "relativistic_non_saturating", "passes": "joint"},
    "mlp, batch norm in D": MLP | {"model.discriminator_norm": "batch"},
    "mlp, clipped": MLP | {"weight_clip": 0.05, "model.spectral_norm.networks": "none", "loss": "wasserstein"},
    "mlp, dropout, dequantised": MLP | {"model.discriminator_dropout": 0.3, "dequantize": True},
    "standard_cnn, conditional": BASE | {"n_dis": 1, "batch_size": 8, "model.num_classes": 10},
    "standard_cnn, augmented": BASE | {"augment.colour": True, "augment.translation": 0.125, "augment.cutout": 0.5},
    "standard_cnn, gradient penalty": BASE | {"penalty.kind": "gradient_penalty"},
    "standard_cnn, two G batches": BASE | {"generator_batch_multiplier": 2},
    "resnet": BASE | {"model.architecture": "resnet", "model.image_size": 32, "model.num_classes": 10},
    "resnet, r1": BASE | {"model.architecture": "resnet", "model.image_size": 32, "penalty.kind": "r1"},
    "resnet, operator norm": BASE
    | {"model.architecture": "resnet", "model.image_size": 32, "model.spectral_norm.form": "operator"},
}


def config_of(changes: dict[str, Any]) -> TrainConfig:
    return replace(TINY, changes)


def difference(a: Any, b: Any) -> float:
    """The largest of all arrays' differences, each relative to its array's largest number or to 1."""

    def of(x: Any, y: Any) -> float:
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        return float(np.max(np.abs(x - y)) / max(1.0, np.max(np.abs(x))))

    return max(jax.tree.leaves(jax.tree.map(of, a, b)))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, split) for name in CASES for split in (False, True)),  # where moments lie is not the network's affair
        *(pytest.param(name, False, marks=pytest.mark.long) for name in LONG),
    ],
)
def test_a_step_on_eight_devices_is_the_step_of_one(name: str, split: bool) -> None:
    config = config_of((CASES | LONG)[name])
    mesh = make_mesh(f"data={DEVICES}", config)
    assert mesh is not None
    state, inputs = start(config)
    shared, parts = place(mesh, state, split), jax.device_put(inputs, input_shardings(mesh, inputs))
    step = sharded_step(mesh, partial(training_step, config), shared, split)
    after, logs = jax.block_until_ready(step(shared, parts))  # compiling the next would starve the devices
    expected, expected_logs = train_step(config)(state, inputs)
    assert difference(expected, after) < ROUNDING
    assert difference(expected_logs, logs) < ROUNDING
    assert jax.tree.map(lambda x: x.sharding.spec, after) == jax.tree.map(
        lambda a: a.sharding.spec, placed_shapes(mesh, after, split)
    )
    for tree in (after.discriminator.spectral, after.generator.spectral):
        for leaf in jax.tree.leaves(tree):  # u and v: the same bits on every device
            first, *others = (np.asarray(s.data) for s in leaf.addressable_shards)
            for other in others:
                np.testing.assert_array_equal(first, other)


OWN = {  # what each says of itself decides whether devices compute their own images' and their own numbers' part
    "a norm of all gradients": {
        "discriminator_optimizer": optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(0.1, 0.9)),
        "generator_optimizer": optax.adafactor(1e-3, min_dim_size_to_factor=2),
    },
    "a loss of the batch": {
        "loss": sn.Loss(lambda real, fake: jnp.max(fake) - jnp.min(real), lambda real, fake: -jnp.max(fake))
    },
    "a penalty of the batch": {"penalty": sn.Penalty(lambda score, real, fake, drawn: jnp.max(score(real)) ** 2)},
    "a penalty of each image": {
        "penalty": sn.Penalty(lambda score, real, fake, drawn: jnp.mean(score(real) ** 2), images_apart=True)
    },
}


@pytest.mark.parametrize("name", OWN)
def test_a_gan_of_ones_own_is_the_same_on_eight_devices(name: str) -> None:
    # Without batch normalisation, whose biases have a gradient of rounding alone: adafactor makes steps of it.
    gan = dataclasses.replace(sn.gan(config_of(MLP | {"model.generator_norm": "none"})), **OWN[name])
    assert gan.images_apart == (name in ("a norm of all gradients", "a penalty of each image"))
    mesh = make_mesh(f"data={DEVICES}", config_of(MLP))
    assert mesh is not None
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # optax's affair
        state = jax.tree.map(jnp.asarray, create_state(gan, seed=1))
        inputs = drawn(input_shapes(drawing(gan, batch_size=16)))
        shared, parts = place(mesh, state, split=True), jax.device_put(inputs, input_shardings(mesh, inputs))
        after, logs = sharded_step(mesh, partial(training_step, gan), shared, split=True)(shared, parts)
        expected, expected_logs = train_step(gan)(state, inputs)
    assert difference(expected, after) < ROUNDING
    assert difference(expected_logs, logs) < ROUNDING
    assert jax.tree.map(lambda x: x.sharding.spec, after) == jax.tree.map(
        lambda a: a.sharding.spec, placed_shapes(mesh, after, True)
    )


@pytest.mark.parametrize("rollbacks", [0, 1])
def test_inputs_are_drawn_in_parts_and_are_those_of_one_device(rollbacks: int) -> None:
    changes = {"batch_size": 16, "n_dis": 2, "flip": True, "model.num_classes": 3, "dequantize": True}
    config = config_of(changes | {"generator_batch_multiplier": 2})
    mesh = make_mesh(f"data={DEVICES}", config)
    assert mesh is not None
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (50, 28, 28, 1), np.uint8), rng.integers(0, 3, 50, np.int32)
    data = Dataset("drawn", images, labels, ("a", "b", "c"), True)
    parts, whole = sharded_inputs(mesh, config)(data, 3, rollbacks), draw_inputs(config, data, 3, rollbacks)
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    assert parts.d_latents.addressable_shards[0].data.shape == (2, 2, 4)
    assert parts.g_latents.addressable_shards[0].data.shape == (4, 4)
    own = real_batch(config, data, 3, rollbacks, np.array([4, 5]))  # what a process with these columns reads
    np.testing.assert_array_equal(own[0], real_batch(config, data, 3, rollbacks)[0][:, 4:6])


def test_a_split_state_lies_in_parts() -> None:
    config = config_of(MLP | {"model.generator_width": 16, "model.discriminator_width": 16})
    mesh = make_mesh(f"data={DEVICES}", config)
    assert mesh is not None
    state = place(mesh, start(config)[0], split=True)

    def bytes_on_first(tree: Any) -> tuple[int, int]:
        leaves = jax.tree.leaves(tree)
        return sum(a.addressable_shards[0].data.nbytes for a in leaves), sum(a.nbytes for a in leaves)

    for part in (state.generator_opt.mu, state.generator_opt.nu, state.discriminator_opt.mu, state.generator_ema):
        first, whole = bytes_on_first(part)
        assert first < 0.2 * whole  # the last layer's bias has no axis to split
    for part in (state.generator, state.discriminator):
        first, whole = bytes_on_first(part)
        assert first == whole


@pytest.mark.long
def test_a_run_moves_between_meshes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Eight devices with a split state, then one, then eight: the run of one device, to rounding, and it says so."""
    options = {"data": "ring", "steps": 6, "batch_size": 8, "n_dis": 1, "generator_optimizer.learning_rate": 1e-3}
    points = {"architecture": "mlp", "image_size": 1, "channels": 2, "output": "identity", "generator_width": 8}
    config = config_of(options | {f"model.{name}": value for name, value in points.items()})
    run = RunConfig(workdir=str(tmp_path / "one"), log_every=1, sample_every=0)
    train(config, run)
    many = {"workdir": str(tmp_path / "many"), "mesh": "data=8", "shard_state": True}
    for steps, changes in ((2, many), (4, {"workdir": str(tmp_path / "many")}), (6, many)):
        train(replace(config, {"steps": steps}), replace(run, changes))
    said = capsys.readouterr().out
    assert "written on 8 x cpu (cpu), now 1 x cpu (cpu): the run goes on and agrees to rounding, not to the bit" in said
    assert "written on 1 x cpu (cpu), now 8 x cpu (cpu)" in said
    for one, other in zip(*(logs.lines(tmp_path / name) for name in ("one", "many")), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


def reductions(text: str) -> tuple[list[list[tuple[int, ...]]], Counter[str]]:
    """Of a compiled program: the shapes that each all-reduce sums, and how many there are of each other collective."""
    found, others = [], Counter[str]()
    for shapes, kind in re.findall(
        r" = (\S+|\(.*?\)) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", text
    ):
        if kind == "all-reduce":
            found.append([tuple(map(int, s.split(","))) if s else () for s in re.findall(r"f\d+\[([\d,]*)\]", shapes)])
        else:
            others[kind] += 1
    return found, others


def compiled(mesh: Any, config: TrainConfig, state: Any, inputs: Any, split: bool = False) -> Any:
    """The training step on a mesh."""
    placed = placed_shapes(mesh, state, split)
    step: Any = sharded_step(mesh, partial(training_step, config), placed, split)
    return step.lower(placed, jax.device_put(inputs, input_shardings(mesh, inputs))).compile()


def test_each_device_does_its_share_and_sums_only_moments_and_gradients() -> None:
    """The compiled step of the narrow CNN, batch 64.

    Summed over the devices are each network's gradient, once, and the logs. What is left are sums over one channel
    axis, for each of G's two batch normalisations seven: means and variances in two passes, three sums of the gradient.
    How many of these arrays share an all-reduce is XLA's affair, and another one in each version.
    """
    config = config_of({"batch_size": 64, "n_dis": 1})
    mesh = make_mesh(f"data={DEVICES}", config)
    state = state_shapes(config)
    inputs = drawn(input_shapes(config))
    one = train_step(config).lower(state, inputs).compile()
    many = compiled(mesh, config, state, inputs)
    assert many.cost_analysis()["flops"] <= 1.02 / DEVICES * one.cost_analysis()["flops"]
    sums, others = reductions(many.as_text())
    assert not others
    params = jax.tree.leaves([n.params for n in (state.discriminator, state.generator)])
    # D's loss, and of each kind of its scores mean, two moments and accuracy; G's loss.
    gradients, told = Counter(math.prod(a.shape) for a in params), Counter({1: 10})
    channels = [a.size for a in jax.tree.leaves(state.generator.batch)][::2]  # of each mean; its variance follows
    assert channels == [4, 2]
    moments = Counter(dict.fromkeys(channels, 7))
    assert Counter(math.prod(s) for shapes in sums for s in shapes) == gradients + told + moments


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"penalty.kind": "gradient_penalty"}, 1),  # three passes of D, which a device adds before they are summed
        ({"penalty.kind": "dragan"}, 3),  # each summed by itself: D knows an image's batch
    ],
)
def test_how_often_the_kernels_of_d_are_summed(changes: dict[str, Any], passes: int) -> None:
    config = config_of(MLP | {"n_dis": 1, "model.spectral_norm.networks": "none"} | changes)
    mesh = make_mesh(f"data={DEVICES}", config)
    state = state_shapes(config)
    sums, others = reductions(compiled(mesh, config, state, drawn(input_shapes(config))).as_text())
    assert not others
    summed = Counter(math.prod(s) for shapes in sums for s in shapes if len(s) > 1)
    kernels = [
        Counter(math.prod(a.shape) for a in jax.tree.leaves(n.params) if len(a.shape) > 1)
        for n in (state.discriminator, state.generator)
    ]
    assert summed == Counter({k: passes * n for k, n in kernels[0].items()}) + kernels[1]


def test_a_split_state_gathers_parameters_and_nothing_else() -> None:
    """The compiled step of the narrow CNN: each parameter that is computed in parts, once an update."""
    config = config_of({"batch_size": 16, "n_dis": 1, "model.generator_width": 8, "model.discriminator_width": 8})
    mesh = make_mesh(f"data={DEVICES}", config)
    assert mesh is not None
    state = state_shapes(config)
    step = compiled(mesh, config, state, drawn(input_shapes(config)), split=True)
    shapes = re.findall(r" = (\S+|\(.*?\)) all-gather(?:-start)?\(", step.as_text())
    gathered = Counter(
        math.prod(map(int, s.split(","))) for group in shapes for s in re.findall(r"\[([\d,]+)\]", group)
    )
    parameters = jax.tree.leaves((state.generator.params, state.discriminator.params))
    assert gathered == Counter(math.prod(p.shape) for p in parameters if "data" in split_spec(mesh, p.shape))
    assert set(reductions(step.as_text())[1]) == {"all-gather"}


POINTS = {"architecture": "mlp", "image_size": 1, "channels": 2, "output": "identity", "latent_size": 3}


@pytest.mark.parametrize(
    ("devices", "width"), [(1, 8), (8, 3)], ids=["one device", "no array divides by the number of devices"]
)
def test_a_split_that_saves_nothing_is_refused(devices: int, width: int, tmp_path: Path) -> None:
    model = POINTS | {"generator_width": width, "discriminator_width": width}
    config = config_of({"data": "ring", "batch_size": 8} | {f"model.{name}": value for name, value in model.items()})
    run = RunConfig(workdir=str(tmp_path / "run"), mesh=f"data={devices}", shard_state=True)
    with pytest.raises(UserError, match=r"^shard_state must be false here: .* would save 0 bytes"):
        train(config, run)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", names())
def test_every_preset_may_split_its_state(name: str) -> None:
    state = state_shapes(preset(name))
    for devices in (2, 8):
        mesh = make_mesh(f"data={devices}", preset(name))
        assert mesh is not None
        check_split(mesh, state)


def traced_on_a_mesh(config: TrainConfig, split: bool) -> Any:
    """A preset's own step on eight devices, of shapes alone."""
    mesh = make_mesh(f"data={DEVICES}", config)
    assert mesh is not None
    state = placed_shapes(mesh, state_shapes(config), split)
    step: Any = sharded_step(mesh, partial(training_step, config), state, split)
    return step.trace(state, placed_inputs(mesh, config))


def test_the_inputs_of_several_steps_lie_as_one_steps_do() -> None:
    mesh = make_mesh("data=2", TINY)
    one = placed_inputs(mesh, TINY)
    stacked = stacked_inputs(one, 3)
    assert [a.shape for a in jax.tree.leaves(stacked)] == [(3, *a.shape) for a in jax.tree.leaves(one)]
    for apart, together in zip(jax.tree.leaves(one), jax.tree.leaves(stacked), strict=True):
        assert together.sharding.spec == PartitionSpec(None, *apart.sharding.spec)
    assert "data" in one.g_latents.sharding.spec
    assert stacked_inputs(input_shapes(TINY), 2).g_latents.sharding is None


# They differ from lsun128 and cifar10_projection in the size of their images, in their number of classes, alone.
_LIKE_ANOTHER = ("celeba64", "cifar100_projection")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long) if n in _LIKE_ANOTHER else n for n in names()]
)
def test_every_presets_step_on_a_mesh_is_made_for_every_backend(name: str) -> None:
    # As it is, not narrower: on a CPU the number of channels decides about the form. Nothing of it is computed.
    traced = traced_on_a_mesh(preset(name), split=False)
    gradient = "dim_numbers = [f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]"  # of a kernel, as one convolution
    for platform in ("cpu", "cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert (gradient in text) == (platform != "cpu" and name != "points"), platform


def test_a_kernel_gradient_in_parts_on_a_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a machine with one CPU traces a mesh of other devices: the CPU's form is then a loop over parts of the batch.
    monkeypatch.setattr(winograd, "KERNEL_CHUNK", 1)
    monkeypatch.setattr(winograd.jax, "device_count", lambda: 1)
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x, y = (np.random.default_rng(0).normal(size=(16, 4, 4, 32)) for _ in range(2))
    jax.clear_caches()

    def sums(whole: Any, batch: Any) -> Any:
        del whole
        return kernel_gradient(*batch, 3, 1, 1)

    found = jax.jit(partial(mean_of_devices, mesh, sums))((), (x, y))
    jax.clear_caches()
    assert difference(kernel_gradient(x, y, 3, 1, 1) / DEVICES, found) < ROUNDING
