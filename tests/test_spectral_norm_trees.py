"""init_tree and normalize_tree on the parameter trees of Linen, Haiku and Equinox."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_sngan.nn.spectral_norm import init_tree, normalize_tree
from jax_sngan.nn.spectral_options import SpectralNormOptions

IMAGES = np.random.default_rng(0).normal(size=(2, 6, 6, 3))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.sin(nn.Conv(4, (3, 2), param_dtype="float64")(x))
        x = nn.ConvTranspose(5, (4, 4), strides=(2, 2), param_dtype="float64")(x)
        return nn.Dense(1, param_dtype="float64")(jnp.sin(x).reshape(len(x), -1))


def linen():
    """params, apply, and the matrices [out, rest] of the kernels by path, written out by hand."""
    net = LinenNet()
    params = net.init(jax.random.key(0), IMAGES)

    def matrices(params):
        layers = params["params"]
        return {
            f"params/{name}/kernel": np.asarray(layers[name]["kernel"]).reshape(-1, out).T
            for name, out in (("Conv_0", 4), ("ConvTranspose_0", 5), ("Dense_0", 1))
        }

    return params, lambda p: net.apply(p, IMAGES), matrices


def haiku():
    import haiku as hk

    def net(x):
        x = jnp.sin(hk.Conv2D(4, (3, 2))(x))
        x = hk.Conv2DTranspose(5, (4, 4), stride=2)(x)
        return hk.Linear(1)(jnp.sin(x).reshape(len(x), -1))

    made = hk.without_apply_rng(hk.transform(net))
    params = made.init(jax.random.key(0), IMAGES)

    def matrices(params):
        kernels = {name: np.asarray(layer["w"]) for name, layer in params.items()}
        transposed = kernels.pop("conv2_d_transpose")  # [k, k, out, in]
        found = {f"{name}/w": w.reshape(-1, w.shape[-1]).T for name, w in kernels.items()}
        return found | {"conv2_d_transpose/w": transposed.transpose(2, 0, 1, 3).reshape(5, -1)}

    return params, lambda p: made.apply(p, IMAGES), matrices


def equinox():
    import equinox as eqx

    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        layers: list[Any]

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.conv = eqx.nn.Conv2d(3, 4, (3, 2), dtype=jnp.float64, key=keys[0])
            deconv = eqx.nn.ConvTranspose2d(4, 5, 4, stride=2, dtype=jnp.float64, key=keys[1])
            self.layers = [deconv, jax.nn.relu, eqx.nn.Linear(600, 1, dtype=jnp.float64, key=keys[2])]

        def __call__(self, x):
            x = self.layers[0](jnp.sin(self.conv(x)))
            return self.layers[2](jnp.sin(x).reshape(-1))

    def matrices(net):
        found = {"conv/weight": net.conv.weight, "layers/0/weight": net.layers[0].weight}
        found["layers/2/weight"] = net.layers[2].weight
        return {name: np.asarray(w).reshape(len(w), -1) for name, w in found.items()}

    return Net(jax.random.key(0)), lambda p: jax.vmap(p)(IMAGES.transpose(0, 3, 1, 2)), matrices


LIBRARIES = pytest.mark.parametrize("library", [linen, haiku, equinox])


@LIBRARIES
def test_each_pass_is_torchs(library):
    params, apply, matrices = library()
    stats = init_tree(params, jax.random.key(1))
    raw = matrices(params)
    assert sorted(stats) == sorted(raw)
    assert {name: (len(s.u), len(s.v)) for name, s in stats.items()} == {name: m.shape for name, m in raw.items()}
    values = []
    for train in (True, True, False, True):
        weights, after = normalize_tree(params, stats, train)
        for name, matrix in raw.items():
            u, v = np.asarray(stats[name].u), np.asarray(stats[name].v)
            if train:
                v = matrix.T @ u / np.linalg.norm(matrix.T @ u)
                u = matrix @ v / np.linalg.norm(matrix @ v)
            np.testing.assert_allclose(after[name].u, u, rtol=1e-12)
            np.testing.assert_allclose(after[name].v, v, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(matrices(weights)[name], matrix / (u @ matrix @ v), rtol=1e-12)
        assert jax.tree.structure(weights) == jax.tree.structure(params)
        stats = after
        values.append(apply(weights))  # the library takes them as its own
    assert not np.allclose(values[0], values[1])
    np.testing.assert_array_equal(values[1], values[2])  # an evaluation has the u and v that the pass before left


def parted(params: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The arrays of a tree, and how they become the tree again: one of Equinox holds functions as well."""
    leaves, structure = jax.tree.flatten(params)
    places = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype")]

    def whole(arrays: list[Any]) -> Any:
        found = dict(zip(places, arrays, strict=True))
        return jax.tree.unflatten(structure, [found.get(i, leaf) for i, leaf in enumerate(leaves)])

    return [leaves[i] for i in places], whole


@LIBRARIES
def test_under_transformations(library):
    params, apply, _ = library()
    arrays, whole = parted(params)
    stats = init_tree(params, jax.random.key(1))

    def loss(arrays, stats):
        weights, after = normalize_tree(whole(arrays), stats)
        return jnp.sum(apply(weights) ** 2), after

    plain = [loss(arrays, stats)]
    for _ in range(2):
        plain.append(loss(arrays, plain[-1][1]))

    def step(stats, _):
        value, after = loss(arrays, stats)
        return after, value

    after, values = jax.jit(lambda s: jax.lax.scan(step, s, length=3))(stats)
    np.testing.assert_allclose(values, [value for value, _ in plain], rtol=1e-10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13), after, plain[-1][1])

    # The gradient is that of the function in which u and v stand where the pass has left them.
    def stood(h):
        weights, _ = normalize_tree(whole([a + h for a in arrays]), plain[0][1], train=False)
        return jnp.sum(apply(weights) ** 2)

    slope = sum(jnp.sum(g) for g in jax.grad(lambda a: loss(a, stats)[0])(arrays))
    assert float(slope) == pytest.approx(float(stood(1e-6) - stood(-1e-6)) / 2e-6, rel=1e-5)

    seeds = jax.vmap(lambda key: init_tree(params, key))(jax.random.split(jax.random.key(2), 3))
    together, _ = jax.vmap(loss, (None, 0))(arrays, seeds)
    alone = [loss(arrays, jax.tree.map(lambda a: a[i], seeds))[0] for i in range(3)]  # noqa: B023
    np.testing.assert_allclose(together, alone, rtol=1e-10)


def test_options_and_select():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 5)))
    params = {"a": {"kernel": kernel}, "b": {"bias": jnp.ones(3)}}
    options = SpectralNormOptions(target=2.0, order="u_first", warmup=500)
    stats = init_tree(
        params, jax.random.key(0), lambda path, leaf: (0, 2) if path == ("a", "kernel") else None, options
    )
    assert (stats["a/kernel"].u.shape, stats["a/kernel"].v.shape) == ((15,), (4,))
    weights, same = normalize_tree(params, stats, False, options)
    matrix = np.asarray(weights["a"]["kernel"]).transpose(0, 2, 1).reshape(15, 4)
    assert np.linalg.norm(matrix, 2) == pytest.approx(2, rel=1e-9)
    assert weights["b"]["bias"] is params["b"]["bias"]
    assert same == stats
    coarse = {"kernel": kernel.astype(jnp.bfloat16)}
    stats = init_tree(coarse, jax.random.key(0))
    assert stats["kernel"].u.dtype == jnp.float32
    assert normalize_tree(coarse, stats)[0]["kernel"].dtype == jnp.bfloat16


def test_what_cannot_be_is_one_line():
    params = {"kernel": jnp.ones((2, 3))}
    stats = init_tree(params, jax.random.key(0))
    for act, word in (
        (lambda: init_tree({"bias": jnp.ones(3)}, jax.random.key(0)), "has none"),
        (lambda: init_tree(params, jax.random.key(0), options=SpectralNormOptions(form="operator")), "form must be"),
        (lambda: init_tree(params, jax.random.key(0), lambda path, leaf: 2), "out_axes must be from -2 to 1"),
        (lambda: normalize_tree({"w": jnp.ones((2, 3))}, stats), "got kernel"),
    ):
        with pytest.raises(ValueError, match=word) as caught:
            act()
        assert "\n" not in str(caught.value)
