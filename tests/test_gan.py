"""A GAN of one's own: anybody's networks, losses, penalties and optimisers in the training step, and in checkpoints."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jax_sngan as sn
from conftest import TINY
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core.gan import GAN
from jax_sngan.core.losses import LOSSES
from jax_sngan.core.sharding import placed_shapes
from jax_sngan.core.state import TrainState, not_finite, state_shapes
from jax_sngan.core.step import training_step
from jax_sngan.data.datasets import Dataset
from jax_sngan.models.network import network_of
from jax_sngan.nn import PowerIteration, SpectralNorm
from jax_sngan.runs.checkpoint import Checkpoints, to_tree
from jax_sngan.system.errors import UserError

SMALL = replace(TINY, {"model.architecture": "mlp", "n_dis": 2})
DATA = Dataset(
    "drawn",
    np.random.default_rng(0).integers(0, 256, (32, 28, 28, 1), np.uint8),
    np.arange(32, dtype=np.int32) % 3,
    ("a", "b", "c"),
    True,
)


class Calls(nnx.Variable):
    """A kind of variable that no library knows."""


class Everything(nnx.Module):
    """A discriminator with all that a module may hold."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Conv(1, 4, (3, 3), strides=4, rngs=rngs, dtype=jnp.float32, param_dtype=jnp.float32)
        self.norm = nnx.BatchNorm(4, rngs=rngs, dtype=jnp.float32, param_dtype=jnp.float32)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        linear = {"rngs": rngs, "dtype": jnp.float32, "param_dtype": jnp.float32}
        self.blocks = nnx.List([nnx.Linear(4, 4, **linear), nnx.Linear(4, 4, **linear)])
        self.again = self.blocks[0]
        self.named = nnx.Dict({"7": nnx.Linear(4, 4, **linear)})
        self.last = nnx.Sequential(nnx.relu, nnx.Linear(4, 1, **linear))
        self.calls = Calls(jnp.zeros((), jnp.int32))
        self.rngs = rngs

    def __call__(self, images: jax.Array) -> jax.Array:
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            h = self.dropout(nnx.relu(self.norm(self.first(images))).mean((1, 2)))
            for block in self.blocks:
                h = block(h)
            self.calls[...] = self.calls[...] + 1
            return self.last(self.named["7"](self.again(h)))[:, 0]


def everything(rngs: nnx.Rngs) -> nnx.Module:
    return Everything(rngs)


class Plain(nnx.Module):
    """A discriminator of a single layer, with what its call takes in its class."""

    def __init__(self, rngs: nnx.Rngs):
        self.w = nnx.Param(jax.random.normal(rngs.params(), (28 * 28,), jnp.float32) / 28)

    def __call__(self, images: jax.Array) -> jax.Array:
        return images.reshape(len(images), -1) @ self.w[...]


def own_gan(**changes: Any) -> GAN:
    return dataclasses.replace(sn.gan(SMALL), **changes)


def steps(gan: GAN | TrainConfig, count: int, state: TrainState | None = None, first: int = 0) -> Any:
    """The state and the last logs after some training steps."""
    state = sn.create_state(gan, seed=3) if state is None else state
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integers
        for k in range(first, first + count):
            state, logs = sn.train_step(gan)(state, sn.draw_inputs(gan, DATA, k, batch_size=4, seed=3))
    return state, jax.device_get(logs)


def assert_same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


# The GAN of a config ----------------------------------------------------------------------------------------------


def test_a_config_and_its_gan_are_one_step() -> None:
    gan = sn.gan(SMALL)
    other = sn.gan(replace(SMALL, {"seed": 7, "batch_size": 9, "data": "mnist", "steps": 99}))
    assert gan == other  # none of them decides what a step computes, nor do steps where the rate is constant
    assert sn.train_step(gan) is sn.train_step(SMALL) is sn.train_step(other)
    assert gan != sn.gan(replace(SMALL, {"ema_decay": 0.25}))
    falling = replace(SMALL, {"generator_optimizer.schedule": "linear"})
    assert sn.gan(falling) == sn.gan(falling) != sn.gan(replace(falling, {"steps": 99}))
    assert_same(sn.create_state(gan, seed=SMALL.seed), sn.create_state(SMALL))
    own = sn.draw_inputs(gan, DATA, 3, batch_size=SMALL.batch_size, seed=SMALL.seed)
    assert_same(own, sn.draw_inputs(SMALL, DATA, 3))


def test_what_a_training_says_is_not_the_gans() -> None:
    gan = sn.gan(SMALL)
    assert sn.draw_inputs(gan, DATA, 0).d_latents.shape[:2] == (2, 64)
    assert sn.draw_inputs(gan, DATA, 0, batch_size=8).g_latents.shape[0] == 8
    assert_same(sn.draw_inputs(gan, DATA, 0, seed=0), sn.draw_inputs(gan, DATA, 0))
    with pytest.raises(UserError, match="batch_size must be a multiple of accumulate=3, got 8"):
        sn.draw_inputs(dataclasses.replace(gan, accumulate=3), DATA, 0, batch_size=8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_dis": 0}, "n_dis must be a whole number of at least 1, got 0"),
        ({"passes": "both"}, "passes must be one of separate, joint; got 'both'"),
        ({"loss": "hinge"}, "loss must be a Loss"),
        ({"penalty": 10.0}, "penalty must be a Penalty or None, got 10.0"),
        ({"generator_optimizer": 1e-3}, "generator_optimizer must be an optax.GradientTransformation, got 0.001"),
        ({"image_shape": (28, 28)}, r"image_shape must be \(h, w, c\), got \(28, 28\)"),
        ({"image_shape": [28, 28, 1]}, r"image_shape must be \(h, w, c\), got \[28, 28, 1\]"),
        ({"generator": nnx.Sequential()}, "generator must be a function .*, got Sequential"),
        ({"penalty": sn.Penalty(None, draws=[])}, "every field must be hashable"),  # type: ignore[arg-type]
        ({"real_dtype": "float32", "flip": True}, "flip, dequantize and augment are for images of uint8"),
        ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1, got 1.0"),
        ({"weight_clip": -1.0}, "weight_clip must be at least 0, got -1.0"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        own_gan(**changes)


# Networks from anywhere -------------------------------------------------------------------------------------------


def test_any_module_is_a_discriminator() -> None:
    """Each kind of array goes where it belongs, all of it moves, and equal calls give equal bits."""
    gan = own_gan(discriminator=everything, loss=LOSSES["non_saturating"])  # no gradient in it is zero by itself
    assert gan.needs_keys
    before = sn.create_state(gan, seed=3)
    params = before.discriminator.params
    assert set(params) == {"again", "first", "norm", "blocks", "named", "last"}
    assert (set(params["blocks"]), set(params["named"])) == ({"1"}, {"7"})  # a shared layer's arrays are there once
    (state, _), (again, _) = (steps(gan, 2) for _ in range(2))
    assert_same(state, again)
    assert int(state.discriminator.other["calls"]) == 2 * (2 * 2 + 1)
    fresh = sn.create_state(gan, seed=3)
    for tree in ("params", "batch"):
        pairs = zip(*(jax.tree.leaves(getattr(s.discriminator, tree)) for s in (fresh, state)), strict=True)
        assert all(np.any(a != b) for a, b in pairs), tree


def test_what_a_module_draws_is_of_the_seed_and_the_step() -> None:
    """Two steps at once, or one and then the other from what is kept of the first: the same bits."""
    gan = own_gan(discriminator=everything)
    whole, _ = steps(gan, 3)
    half, _ = steps(gan, 1)
    kept = jax.tree.map(jnp.array, jax.device_get(half))
    assert_same(steps(gan, 2, kept, first=1)[0], whole)

    network = network_of(everything, "discriminator")
    variables = network.init(jax.random.key(0))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 28, 28, 1)), jnp.float32)
    keys = [jnp.array([0, n], jnp.uint32) for n in (1, 1, 2)]
    one, same, other = (network.apply(variables, images, train=True, key=key)[0] for key in keys)
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)
    with pytest.raises(ValueError, match="needs a key"):
        network.apply(variables, images, train=True)


def test_train_and_eval_are_honoured() -> None:
    network = network_of(everything, "discriminator")
    variables = network.init(jax.random.key(0))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 28, 28, 1)), jnp.float32)
    whole, after = network.apply(variables, images, train=False)
    alone = jnp.concatenate([network.apply(variables, images[i : i + 1], train=False)[0] for i in range(4)])
    np.testing.assert_allclose(whole, alone, rtol=1e-5, atol=1e-6)  # neither the batch's statistics nor dropout
    assert_same(after.batch, variables.batch)


def test_a_generator_with_variables_of_its_own_makes_the_images_of_all_d_updates() -> None:
    """Where G's weights stand still it runs before the D updates, pass after pass."""

    class Generator(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.w = nnx.Param(jax.random.normal(rngs.params(), (TINY.model.latent_size, 28 * 28), jnp.float32))
            self.calls = Calls(jnp.zeros((), jnp.int32))

        def __call__(self, latents: jax.Array) -> jax.Array:
            self.calls[...] = self.calls[...] + 1
            return jnp.tanh(latents @ self.w[...]).reshape(-1, 28, 28, 1)

    state, _ = steps(own_gan(generator=lambda rngs: Generator(rngs)), 2)
    assert int(state.generator.other["calls"]) == 2 * 3


class Labelled(Plain):
    """Takes classes as its second argument, whatever it is called."""

    def __call__(self, images: jax.Array, y: jax.Array) -> jax.Array:  # type: ignore[override]
        return super().__call__(images) + y.astype(jnp.float32)


class Named(Plain):
    """Takes classes, the mode and a key by name."""

    def __call__(  # type: ignore[override]
        self, images: jax.Array, *, key: Any, train: bool, labels: Any = None
    ) -> jax.Array:
        assert (key is not None) == train
        return super().__call__(images) + (0 if labels is None else labels.astype(jnp.float32))


@pytest.mark.parametrize("kind", [Labelled, Named])
def test_a_module_is_asked_what_it_takes(kind: type[nnx.Module]) -> None:
    gan = own_gan(discriminator=lambda rngs: kind(rngs), num_classes=3)  # type: ignore[call-arg]
    steps(gan, 1)
    network = gan.networks.discriminator
    variables = network.init(jax.random.key(0))
    images, labels = jnp.zeros((3, 28, 28, 1), jnp.float32), jnp.arange(3)
    for train in (True, False):
        scores, _ = network.apply(variables, images, labels, train=train, key=jnp.zeros(2, jnp.uint32))
        np.testing.assert_array_equal(scores, [0, 1, 2])


class TwoScores(Plain):
    def __call__(self, images: jax.Array) -> jax.Array:
        return jnp.stack([super().__call__(images)] * 2, axis=1)


class Flat(Plain):
    def __call__(self, latents: jax.Array) -> jax.Array:
        return latents * self.w[...][0]


class Lazy(Plain):
    def __call__(self, images: jax.Array) -> jax.Array:
        self.late = Calls(jnp.zeros((), jnp.int32))
        return super().__call__(images)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"discriminator": lambda rngs: TwoScores(rngs)}, r"discriminator must give \[2\] for .*, got \[2, 2\]"),
        ({"discriminator": lambda rngs: 3}, "discriminator must make an nnx.Module from rngs, got int"),
        ({"discriminator": lambda rngs: Lazy(rngs)}, r"must make its variables when it is made.*late"),
        ({"discriminator": lambda rngs: Labelled(rngs)}, "discriminator takes labels, and num_classes is 0"),
        (
            {"discriminator": lambda rngs: Plain(rngs), "generator": lambda rngs: Plain(rngs), "num_classes": 3},
            "num_classes must be 0 where neither network takes labels, got 3",
        ),
        ({"generator": lambda rngs: Flat(rngs)}, r"generator must give \[2, 28, 28, 1\] for \[2, 4\], got \[2, 4\]"),
    ],
    ids=["shape", "kind", "lazy", "labels", "no labels", "generator"],
)
def test_a_network_that_does_not_fit_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        sn.create_state(own_gan(**changes))


# Spectral norm wherever it sits ------------------------------------------------------------------------------------


class Bare(nnx.Module):
    """A discriminator that divides a kernel of its own, and has a wrapped layer in a list."""

    def __init__(self, rngs: nnx.Rngs):
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (28 * 28, 8), jnp.float32))
        self.norm = PowerIteration(self.kernel[...].T, True, rngs, kernel=self.kernel)
        inner = nnx.Linear(8, 8, rngs=rngs, dtype=jnp.float32, param_dtype=jnp.float32)
        self.others = nnx.List([SpectralNorm(inner, rngs=rngs)])
        self.last = nnx.Param(jax.random.normal(rngs.params(), (8,), jnp.float32))

    def __call__(self, images: jax.Array) -> jax.Array:
        h = jax.nn.relu(images.reshape(len(images), -1) @ (self.kernel[...] / self.norm.divisor(self.kernel[...].T)))
        with jax.numpy_rank_promotion("allow"):
            return jax.nn.relu(self.others[0](h)) @ self.last[...]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_u_and_v_follow_the_kernel_wherever_they_sit(accumulate: int) -> None:
    """Of old a spectral norm outside of this package's layers stood still: sigma 0.72 for a true 3.83."""
    fast = optax.sgd(1.0)
    gan = own_gan(discriminator=lambda rngs: Bare(rngs), discriminator_optimizer=fast, n_dis=1, accumulate=accumulate)
    state, _ = steps(gan, 100)
    d = state.discriminator
    for matrix, vectors in (
        (d.params["kernel"].T, d.spectral["norm"]),
        (d.params["others"]["0"]["layer"]["kernel"].T, d.spectral["others"]["0"]),
    ):
        sigma = vectors["u"] @ matrix @ vectors["v"]
        assert sigma == pytest.approx(np.linalg.norm(matrix, 2), rel=0.03)


def test_a_spectral_norm_out_of_reach_is_an_error() -> None:
    class Lost(Plain):
        def __init__(self, rngs: nnx.Rngs):
            super().__init__(rngs)
            self.norm = PowerIteration(self.w[...].reshape(28, 28), True, rngs)

    with pytest.raises(UserError, match="discriminator: norm: the u and v of this PowerIteration cannot be moved"):
        sn.create_state(own_gan(discriminator=lambda rngs: Lost(rngs)))


# Losses, penalties, optimisers ------------------------------------------------------------------------------------


def test_a_loss_of_ones_own() -> None:
    """Wasserstein's by hand is Wasserstein's; G's is given no real scores unless it asks."""
    seen: list[Any] = []

    def g(real: Any, fake: jax.Array) -> jax.Array:
        seen.append(real)
        return -jnp.mean(fake)

    def d(real: jax.Array, fake: jax.Array) -> jax.Array:
        return jnp.mean(fake) - jnp.mean(real)

    own, _ = steps(own_gan(loss=sn.Loss(d, g, g_sees_real=False)), 2)
    ours, _ = steps(sn.gan(replace(SMALL, {"loss": "wasserstein"})), 2)
    assert_same(own, ours)
    assert set(map(type, seen)) == {type(None)}
    seen.clear()
    sees, _ = steps(own_gan(loss=sn.Loss(d, g)), 2)
    assert all(real.shape == (4,) for real in seen)
    apart = jax.tree.map(lambda a, b: bool(np.any(a != b)), sees.discriminator.spectral, own.discriminator.spectral)
    assert any(jax.tree.leaves(apart))  # one pass of D more, and so one power iteration


def test_a_penalty_of_ones_own() -> None:
    def on_real(score: Any, real: jax.Array, fake: jax.Array, drawn: dict[str, jax.Array]) -> jax.Array:
        assert drawn["noise"].shape == real.shape == fake.shape
        return jnp.mean(jnp.square(score(real + 0.1 * drawn["noise"]) - score(real, 1)))

    penalty = sn.Penalty(on_real, lambda shape: {"mix": shape[:1], "around": shape, "noise": shape}, passes=2)
    gan = own_gan(penalty=penalty)
    assert gan.needs_keys
    assert not gan.images_apart
    (state, logs), (again, _) = (steps(gan, 2) for _ in range(2))
    assert np.all(logs["d_penalty"] > 0)
    assert_same(state, again)
    without, _ = steps(own_gan(), 2)
    moved = zip(*(jax.tree.leaves(s.discriminator.spectral) for s in (state, without)), strict=True)
    assert any(np.any(a != b) for a, b in moved)
    greedy = sn.Penalty(on_real, lambda shape: {str(i): shape for i in range(99)})
    with pytest.raises(UserError, match="a penalty may draw 9 arrays, got 99"):
        steps(own_gan(penalty=greedy), 1)


OPTIMIZERS: dict[str, optax.GradientTransformation] = {
    "adamw": optax.adamw(1e-3, b1=0.0, b2=0.9, weight_decay=0.1),
    "clipped, falling": optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(optax.linear_schedule(0.1, 0.0, 9), 0.9)),
    "rates in the state": optax.inject_hyperparams(optax.rmsprop)(learning_rate=1e-3),
    "a copy of the parameters": optax.contrib.schedule_free_adamw(1e-3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimiser_trains_and_is_checkpointed(name: str, tmp_path: Path) -> None:
    gan = own_gan(discriminator_optimizer=OPTIMIZERS[name], generator_optimizer=OPTIMIZERS[name])
    whole, _ = steps(gan, 2)
    half, _ = steps(gan, 1)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(half, SMALL, {}, [], gan="tests:own_gan")
    with Checkpoints(tmp_path) as checkpoints:
        chosen = checkpoints.choose("latest", gan)
        assert chosen.gan is gan
        assert_same(checkpoints.choose("latest", lambda config: own_gan()).like.step, chosen.like.step)
        restored = checkpoints.restore(chosen.step, chosen.like)
        with pytest.raises(UserError, match=r"is of a GAN of its own, tests:own_gan: give it again, by --gan or gan="):
            checkpoints.choose("latest")
        with pytest.raises(UserError, match="a certificate needs one of this package's networks"):
            checkpoints.choose("latest", needs="a certificate")
    assert_same(restored, half)
    assert_same(steps(gan, 1, jax.tree.map(jnp.array, restored), first=1)[0], whole)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_number_that_is_not_finite_is_found_in_any_optimiser(name: str) -> None:
    state = sn.create_state(own_gan(discriminator_optimizer=OPTIMIZERS[name]))
    assert not_finite(state) is None
    broken = jax.tree.map(lambda x: x / 0 if x.dtype == jnp.float32 and x.ndim else x, state.discriminator_opt)
    found = not_finite(state._replace(discriminator_opt=broken))
    assert found is not None
    assert found.startswith("discriminator.hidden.0" if name == "adamw" else "discriminator_opt.")
    assert found.endswith("'s gradient") == (name == "adamw")


def test_an_optimiser_sees_the_parameters() -> None:
    """adamw's decay is of them; a rate of 0 changes nothing else."""
    still = optax.chain(optax.scale(0.0), optax.add_decayed_weights(-0.5))
    gan = own_gan(discriminator_optimizer=still)
    before = jax.device_get(sn.create_state(gan, seed=3).discriminator.params)
    after, _ = steps(dataclasses.replace(gan, n_dis=1), 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, 0.5 * a, rtol=1e-6), before, after.discriminator.params)


def test_a_checkpoint_of_a_config_has_the_names_that_it_had(tmp_path: Path) -> None:
    """As files of before there were GANs have them, so that those are read."""
    tree = to_tree(sn.create_state(SMALL))
    assert list(tree) == list(TrainState._fields)
    for network in ("generator", "discriminator"):
        assert list(tree[network]) == ["params", "spectral", "batch"]
        assert list(tree[f"{network}_opt"]) == ["count", "mu", "nu"]
    assert tree["generator"]["spectral"] == {}
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(sn.create_state(SMALL), SMALL, {}, [])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="is of its config's GAN"):
        checkpoints.choose("latest", own_gan())


def test_another_optimiser_than_the_checkpoints_is_refused(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(sn.create_state(SMALL), SMALL, {}, [])
    other = own_gan(discriminator_optimizer=OPTIMIZERS["adamw"])
    with Checkpoints(tmp_path) as checkpoints:
        like = placed_shapes(None, state_shapes(other))
        with pytest.raises(UserError, match=r"of another GAN: discriminator_opt\.0\.count is not in it"):
            checkpoints.restore(0, like)


def test_steps_trace_for_a_gan() -> None:
    gan = own_gan(discriminator=everything)
    after, _ = jax.eval_shape(
        lambda state, inputs: training_step(gan, state, inputs),
        sn.create_state(gan),
        sn.draw_inputs(gan, DATA, 0, batch_size=4),
    )
    assert int(np.prod(after.step.shape)) == 1
