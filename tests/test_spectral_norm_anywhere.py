"""Spectral norms wherever they sit: around any nnx layer, bare in a user's module, stacked, shared."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_sngan.config.schema import SpectralNormConfig
from jax_sngan.models.network import Network
from jax_sngan.nn.kernels import as_matrix
from jax_sngan.nn.layers import Conv, Embedding, Linear, normal
from jax_sngan.nn.passes import hold, iterate
from jax_sngan.nn.power_iteration import PowerIteration
from jax_sngan.nn.spectral_norm import SpectralNorm, SpectralStat, estimate_sigma, power_iteration
from jax_sngan.system.errors import UserError

RNG = np.random.default_rng(0)
F64 = jnp.dtype("float64")


def rngs(seed: int = 0) -> nnx.Rngs:
    return nnx.Rngs(seed)


def keyed(seed: jax.Array | int) -> nnx.Rngs:
    """Of a traced seed, which nnx.Rngs(seed) refuses."""
    return nnx.Rngs(jax.random.key(seed))


def float64(layer: type[nnx.Module], *sizes: object, **options: object) -> nnx.Module:
    return layer(*sizes, param_dtype=F64, dtype=F64, rngs=rngs(), **options)


# What makes a layer (a process that has computed as it imported this file may not fork: reach.Server), its input, the
# kernel's axes that are rows.
WRAPPED = {
    "Conv 1-d, dilated": (partial(float64, nnx.Conv, 4, 5, (3,), kernel_dilation=2), (2, 9, 4), (2,)),
    "Conv, rectangular, strided, in groups": (
        partial(float64, nnx.Conv, 4, 6, (3, 2), strides=(2, 1), padding="VALID", feature_group_count=2),
        (2, 7, 6, 4),
        (3,),
    ),
    "Conv 3-d": (partial(float64, nnx.Conv, 2, 3, (2, 3, 1)), (1, 4, 5, 3, 2), (4,)),
    "ConvTranspose": (partial(float64, nnx.ConvTranspose, 4, 5, (4, 4), strides=(2, 2)), (2, 3, 3, 4), (3,)),
    "ConvTranspose, torch's kernel": (
        partial(float64, nnx.ConvTranspose, 4, 5, (4, 3), strides=(2, 2), transpose_kernel=True),
        (2, 3, 3, 4),
        (2,),
    ),
    "Linear": (partial(float64, nnx.Linear, 4, 6), (3, 4), (1,)),
    "LinearGeneral": (partial(float64, nnx.LinearGeneral, (2, 3), (4, 5), axis=(-2, -1)), (3, 2, 3), (2, 3)),
    "Embed": (partial(float64, nnx.Embed, 5, 3), (4,), (0,)),
    "our Linear": (lambda: Linear(4, 6, init=normal(0.5), dtype=F64, rngs=rngs()), (3, 4), (1,)),
    "our Embedding": (
        lambda: Embedding(5, 3, spectral_norm=None, init=normal(0.5), dtype=F64, rngs=rngs()),
        (4,),
        (0,),
    ),
}


def drawn(shape: tuple[int, ...]) -> jax.Array:
    return jnp.asarray(RNG.integers(0, 5, shape)) if len(shape) == 1 else jnp.asarray(RNG.normal(size=shape))


def kernel_of(layer: nnx.Module) -> nnx.Variable:
    return layer.embedding if hasattr(layer, "embedding") else layer.kernel


def vectors(module: nnx.Module) -> list[np.ndarray]:
    return [np.asarray(a) for a in jax.tree.leaves(nnx.to_pure_dict(nnx.state(module, SpectralStat)))]


@pytest.mark.parametrize("name", WRAPPED)
def test_any_layer(name):
    """Each pass is the layer with the kernel over the sigma that this pass's u and v give; the kernel stays."""
    make, shape, rows = WRAPPED[name]
    bare, x = make(), drawn(shape)
    wrapped = SpectralNorm(make(), target=1.5, rngs=rngs(1))
    kernel = np.asarray(kernel_of(bare)[...])
    out = int(np.prod([kernel.shape[axis] for axis in rows]))
    assert (wrapped.u.shape, wrapped.v.shape) == ((out,), (kernel.size // out,))
    matrix = np.moveaxis(kernel, rows, range(len(rows))).reshape(out, -1)
    u, v = wrapped.u[...], wrapped.v[...]
    for train in (True, True, False, True, False):
        if train:
            v = matrix.T @ u / np.linalg.norm(matrix.T @ u)
            u = matrix @ v / np.linalg.norm(matrix @ v)
        kernel_of(bare)[...] = 1.5 * jnp.asarray(kernel) / (u @ matrix @ v)
        np.testing.assert_allclose(wrapped(x, train=train), bare(x), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(wrapped.u[...], u, rtol=1e-12)
        np.testing.assert_allclose(wrapped.v[...], v, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(kernel_of(wrapped.layer)[...], kernel)
    for _ in range(300):
        iterate(wrapped)
    assert np.linalg.norm(np.asarray(as_matrix(wrapped.weight(train=False), rows)), 2) == pytest.approx(1.5, rel=1e-9)


def test_what_cannot_be_wrapped_is_one_line():
    attention = nnx.MultiHeadAttention(2, 4, rngs=rngs(), decode=False)
    twice = float64(nnx.Linear, 2, 2)
    twice.embedding = nnx.Param(jnp.ones((2, 2)))
    normed = Linear(2, 2, spectral_norm=True, init=normal(1.0), dtype=F64, rngs=rngs())
    batched = nnx.LinearGeneral((2,), (3,), batch_axis={0: 4}, rngs=rngs())
    for layer, options, words in (
        (nnx.BatchNorm(3, rngs=rngs()), {}, ("BatchNorm has none",)),
        (attention, {}, ("MultiHeadAttention has none", "LinearGeneral")),
        (twice, {}, ("Linear has two", "name=")),
        (normed, {}, ("not normalised yet",)),
        (SpectralNorm(float64(nnx.Linear, 2, 2), rngs=rngs()), {}, ("not normalised yet",)),
        (batched, {}, ("out_axes", "batch_axis")),
        (float64(nnx.Linear, 2, 2), {"name": "weight"}, ("'weight'",)),
        (float64(nnx.Linear, 2, 2), {"name": "bias"}, ("2 axes",)),
        (float64(nnx.Linear, 2, 2), {"out_axes": 2}, ("out_axes must be from -2 to 1",)),
        (float64(nnx.Linear, 2, 2), {"order": "u"}, ("order must be v_first or u_first, got 'u'",)),
        (float64(nnx.Linear, 2, 2), {"iterations": 0}, ("iterations must be at least 1, got 0",)),
        (float64(nnx.Linear, 2, 2), {"target": 0.0}, ("target must be above 0, got 0.0",)),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are asked for below)
            SpectralNorm(layer, rngs=rngs(), **options)
        message = str(caught.value)
        assert "\n" not in message
        assert all(word in message for word in words), message
    # Named, the second of two is the kernel.
    assert SpectralNorm(twice, name="embedding", rngs=rngs()).v.shape == (2,)


def test_modes_are_honoured():
    class Net(nnx.Module):
        def __init__(self):
            self.first = SpectralNorm(float64(nnx.Linear, 3, 4), rngs=rngs())
            self.drop = nnx.Dropout(0.0)
            self.second = Linear(4, 2, spectral_norm=True, init=normal(0.5), dtype=F64, rngs=rngs())

        def __call__(self, x):
            return self.second(self.drop(self.first(x)))

    net, x = Net(), drawn((2, 3))
    for enter, moves in ((net.train, True), (net.eval, False), (net.train, True)):
        enter()
        before = vectors(net)
        net(x)
        assert all(np.array_equal(a, b) != moves for a, b in zip(before, vectors(net), strict=True))
    view = nnx.view(net, deterministic=True)
    before = vectors(view)
    view(x)
    assert all(np.array_equal(a, b) for a, b in zip(before, vectors(view), strict=True))
    assert not net.first.deterministic


def test_a_failed_call_leaves_the_kernel():
    wrapped = SpectralNorm(float64(nnx.Linear, 3, 4), rngs=rngs())
    stored = wrapped.layer.kernel
    with pytest.raises(TypeError):
        wrapped(jnp.ones((2, 5)))
    assert wrapped.layer.kernel is stored


def test_under_every_transformation():
    """jit, scan, vmap over seeds, and a gradient of a gradient: each equals the plain calls."""
    x = drawn((3, 7, 6, 4))

    def make(seed):
        layer = nnx.Conv(4, 6, (3, 2), param_dtype=F64, dtype=F64, rngs=keyed(seed))
        return SpectralNorm(layer, rngs=keyed(seed + 7))

    module = make(0)
    graph, params, rest = nnx.split(nnx.clone(module), nnx.Param, ...)
    plain = []
    for _ in range(3):
        plain.append(module(x, train=True))
    last = vectors(module)

    def moved(rest, x):
        inner = nnx.merge(graph, params, rest)
        y = inner(x, train=True)
        return nnx.state(inner, SpectralStat), y

    after, ys = jax.jit(lambda rest: jax.lax.scan(moved, rest, jnp.stack([x] * 3)))(rest)
    np.testing.assert_allclose(ys, jnp.stack(plain), rtol=1e-12, atol=1e-13)
    for a, b in zip(jax.tree.leaves(after), last, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)

    def seeded(seed):
        inner = make(seed)
        return inner(x, train=True), inner.u[...]

    together = jax.vmap(seeded)(jnp.arange(3))
    for i in range(3):
        for a, b in zip(together, seeded(jnp.asarray(i)), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-12, atol=1e-13)

    # A gradient penalty: the gradient in the kernel of the norm of the gradient in x, by finite differences of the
    # function in which u and v stand where the pass left them.
    def penalty(kernel, rest, train):
        inner = nnx.merge(graph, {"layer": {"kernel": kernel, "bias": params["layer"]["bias"][...]}}, rest)

        def energy(x):
            graph, state = nnx.split(inner)
            return jnp.sum(jnp.sin(nnx.merge(graph, nnx.to_pure_dict(state))(x, train=train)))

        return jnp.sum(jax.grad(energy)(x) ** 2)

    kernel = params["layer"]["kernel"][...]
    gradient = jax.grad(penalty)(kernel, rest, True)
    stood, _ = moved(rest, x)
    direction = jnp.asarray(RNG.normal(size=kernel.shape))
    ahead, behind = (penalty(kernel + h * direction, stood, False) for h in (1e-5, -1e-5))
    assert float(jnp.sum(gradient * direction)) == pytest.approx(float(ahead - behind) / 2e-5, rel=1e-7)


def test_of_bfloat16_sigma_is_of_float32():
    layer = nnx.Linear(5, 4, param_dtype=jnp.bfloat16, rngs=rngs())
    wrapped = SpectralNorm(layer, iterations=50, rngs=rngs())
    weight = wrapped.weight(train=True)
    assert (weight.dtype, wrapped.u[...].dtype) == (jnp.bfloat16, jnp.float32)
    exact = np.linalg.norm(np.asarray(layer.kernel[...], np.float64), 2)
    matrix = as_matrix(layer.kernel[...].astype(jnp.float32), (1,))
    assert float(estimate_sigma(matrix, wrapped.u[...], wrapped.v[...])) == pytest.approx(exact, rel=1e-5)


# iterate and hold ----------------------------------------------------------------------------------------------------


class Everywhere(nnx.Module):
    """A spectral norm in each place that a module may have one in."""

    def __init__(self, rngs: nnx.Rngs):
        self.ours = Conv(3, 4, 3, padding=1, spectral_norm=True, init=normal(0.5), dtype=F64, rngs=rngs)
        self.wrapped = SpectralNorm(float64(nnx.Conv, 4, 4, (3, 3)), rngs=rngs)
        self.listed = nnx.List([SpectralNorm(float64(nnx.Linear, 4, 4), iterations=2, rngs=rngs) for _ in range(2)])
        self.shared = self.listed[0]
        self.weight = nnx.Param(jnp.asarray(np.random.default_rng(1).normal(size=(4, 2))))
        self.bare = PowerIteration(self.weight[...].T, True, rngs, kernel=self.weight)

    def __call__(self, x, *, train):
        h = jnp.sum(jnp.sin(self.wrapped(self.ours(x, train=train), train=train)), (1, 2))
        for layer in self.listed:
            h = jnp.sin(layer(h, train=train))
        weight = self.weight[...]
        return jnp.sin(h) @ (weight / self.bare.divisor(weight.T, train=train))


def test_iterate_then_hold_is_a_training_pass():
    x = drawn((2, 5, 5, 3))
    alone, step = Everywhere(rngs()), Everywhere(rngs())
    for _ in range(3):
        y = alone(x, train=True)
        iterate(step)
        moved = vectors(step)
        assert len(moved) == 10
        for a, b in zip(vectors(alone), moved, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-11, atol=1e-13)
        held = nnx.clone(step)
        hold(held)
        np.testing.assert_allclose(held(x, train=True), y, rtol=1e-11, atol=1e-13)
        for a, b in zip(vectors(held), moved, strict=True):
            np.testing.assert_array_equal(b, a)


def test_a_shared_layer_moves_once():
    class Twice(nnx.Module):
        def __init__(self):
            self.a = SpectralNorm(float64(nnx.Linear, 3, 3), rngs=rngs())
            self.b = self.a

    module = Twice()
    matrix = module.a.matrix()
    u, v = power_iteration(matrix, module.a.u[...], module.a.v[...])
    iterate(module)
    np.testing.assert_allclose(module.b.u[...], u, rtol=1e-12)
    np.testing.assert_allclose(module.b.v[...], v, rtol=1e-12)
    hold(module)
    np.testing.assert_allclose(module.a.layer.kernel[...], matrix.T / (u @ matrix @ v), rtol=1e-12)


def test_layers_made_as_one_by_vmap():
    @nnx.vmap
    def many(seed):
        layer = nnx.Linear(3, 4, param_dtype=F64, dtype=F64, rngs=keyed(seed))
        return SpectralNorm(layer, rngs=keyed(seed + 5))

    stacked = many(jnp.arange(3))
    singles = [SpectralNorm(float64(nnx.Linear, 3, 4), rngs=rngs()) for _ in range(3)]
    for i, single in enumerate(singles):
        for own, all_of in ((single.u, stacked.u), (single.v, stacked.v), (single.layer.kernel, stacked.layer.kernel)):
            own[...] = all_of[...][i]
    for act in (iterate, hold):
        act(stacked)
        for i, single in enumerate(singles):
            act(single)
            np.testing.assert_allclose(stacked.u[...][i], single.u[...], rtol=1e-12)
            np.testing.assert_allclose(stacked.layer.kernel[...][i], single.layer.kernel[...], rtol=1e-12)


def test_what_is_out_of_reach_is_one_line():
    class Bare(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.ones((3, 2)))
            self.norm = PowerIteration(self.weight[...].T, True, rngs())

    class Both(nnx.Module):
        def __init__(self):
            layer = float64(nnx.Linear, 3, 2)
            self.norms = nnx.List([SpectralNorm(layer, rngs=rngs()) for _ in range(2)])

    class Flaxs(nnx.Module):
        def __init__(self):
            self.norm = nnx.SpectralNorm(float64(nnx.Linear, 3, 2), rngs=rngs())  # noqa: TID251 (it is refused)

    for kind, words in ((Bare, ("norm:", "kernel=")), (Both, ("norms.1", "same kernel")), (Flaxs, ("norm:", "flax's"))):
        for act in (iterate, hold):
            with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are asked for below)
                act(kind())
            assert "\n" not in str(caught.value)
            assert all(word in str(caught.value) for word in words), str(caught.value)


def test_in_a_network_of_the_step():
    """As a GAN's step has it, the module taken apart: u and v move once a pass, and the passes see them."""
    x = drawn((2, 5, 5, 3))
    network = Network(Everywhere)
    variables = network.init(jax.random.key(0))
    alone = network.module(jax.tree.map(jnp.copy, variables))
    for spectral in jax.jit(network.iterates, static_argnums=1)(variables, 3):
        y, after = network.apply(variables._replace(spectral=spectral), x, train=True, hold=True)
        np.testing.assert_allclose(y, alone(x, train=True), rtol=1e-11, atol=1e-13)
        jax.tree.map(np.testing.assert_array_equal, after.spectral, spectral)
        for a, b in zip(vectors(alone), vectors(network.module(after)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
        jax.tree.map(np.testing.assert_array_equal, after.params, variables.params)

    class Bare(nnx.Module):
        def __init__(self, rngs):
            self.norm = PowerIteration(jnp.ones((2, 3)), True, rngs)

        def __call__(self, x):
            return x

    with pytest.raises(UserError, match=r"discriminator: norm: .* kernel=") as caught:
        Network(Bare, "discriminator")
    assert "\n" not in str(caught.value)


def test_layers_that_are_not_to_be_normalised():
    for none in (None, False, SpectralNormConfig(networks="none")):
        assert Linear(3, 2, spectral_norm=none, init=normal(0.5), dtype=F64, rngs=rngs()).norm is None
    made = Linear(3, 2, spectral_norm=SpectralNormConfig(target=2.0), init=normal(0.5), dtype=F64, rngs=rngs())
    assert made.norm.options.target == 2
    with pytest.raises(TypeError, match="spectral_norm must be"):
        Linear(3, 2, spectral_norm="yes", init=normal(0.5), dtype=F64, rngs=rngs())
