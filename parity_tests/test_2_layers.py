"""Rung 2, layers: each with the same arrays in both frameworks, pass after pass, and all that it reads and writes."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import jax_sngan.models.options
import jax_sngan.nn.batch_norm
import jax_sngan.nn.blocks
import jax_sngan.nn.layers
import torch_ref.models.options
import torch_ref.nn.batch_norm
import torch_ref.nn.blocks
import torch_ref.nn.layers
from jax_sngan.config.schema import ModelConfig, SpectralNormConfig
from jax_sngan.interop import torch_layout
from jax_sngan.nn.batch_norm import BatchNorm, batch_moments
from jax_sngan.nn.layers import ConvTranspose, Embedding, normal
from jax_sngan.nn.power_iteration import PowerIteration
from jax_sngan.nn.spectral_norm import SpectralStat, power_iteration
from jax_sngan.nn.spectral_options import SpectralNormOptions
from parity_tests.compare import EXACT, Tolerance, assert_close, assert_within, relative_error, to_numpy
from parity_tests.tolerances import LAYER_F32, LAYER_F64
from parity_tests.torch_device import tensor
from parity_tests.trees import QUICK_COMPILE, assert_agree, assert_same

TOLERANCES = {"float64": LAYER_F64, "float32": LAYER_F32}
V_FIRST = SpectralNormConfig()
THREE = SpectralNormConfig(iterations=3)
U_FIRST = SpectralNormConfig(order="u_first", warmup=15)
NORMS = {"none": None, "v_first": V_FIRST, "three iterations": THREE, "u_first": U_FIRST}

# Both frameworks -----------------------------------------------------------------------------------------------------


class Twin(NamedTuple):
    """A tensor of a torch module and the way to our layout and back."""

    tensor: torch.Tensor
    to_ours: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]

    def ours(self, tensor: torch.Tensor | None = None) -> np.ndarray:
        """The tensor, or one like it, in our layout; a copy."""
        return self.to_ours(to_numpy(self.tensor if tensor is None else tensor).copy())

    def load(self, value: Any) -> None:
        """Overwrites the tensor with a value in our layout."""
        with torch.no_grad():
            self.tensor.copy_(tensor(np.array(self.to_torch(np.asarray(value)))))


def twins(module: torch.nn.Module) -> dict[str, Twin]:
    """Every array of a torch module by our name: `conv1.kernel`, `conv1.norm.u`, `norm1.mean`."""
    found = {}
    for path, layer in module.named_modules():
        for name, twin in _of_layer(layer):
            found[f"{path}.{name}" if path else name] = twin
    return found


def _of_layer(layer: torch.nn.Module) -> Iterator[tuple[str, Twin]]:
    def same(a: np.ndarray) -> np.ndarray:
        return a

    if isinstance(layer, torch_ref.nn.batch_norm.BatchNorm):
        for ours, theirs in (("scale", "weight"), ("bias", "bias"), ("mean", "running_mean"), ("var", "running_var")):
            yield ours, Twin(getattr(layer, theirs), same, same)
        return
    if not isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Embedding)):
        return
    of_kernel = (
        (same, same)
        if isinstance(layer, torch.nn.Embedding)
        else (torch_layout.kernel_from_torch, torch_layout.kernel_to_torch)
    )
    of_v = (same, same)
    if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
        k = layer.kernel_size[0]
        of_v = partial(torch_layout.vector_v_from_torch, k=k), partial(torch_layout.vector_v_to_torch, k=k)
    if getattr(layer, "bias", None) is not None:
        yield "bias", Twin(layer.bias, same, same)
    if hasattr(layer, "weight_orig"):
        kernel, u, v = layer.weight_orig, layer.weight_u, layer.weight_v
    elif hasattr(layer, "parametrizations"):
        norm = layer.parametrizations.weight[0]
        kernel, u, v = layer.parametrizations.weight.original, norm._u, norm._v
    else:
        yield "kernel", Twin(layer.weight, *of_kernel)
        return
    yield "kernel", Twin(kernel, *of_kernel)
    yield "norm.u", Twin(u, same, same)
    yield "norm.v", Twin(v, *of_v)


def split(module: nnx.Module) -> tuple[Any, tuple[Any, Any, Any]]:
    """What a module of ours is, and its arrays as pure dicts: parameters, u and v, running statistics."""
    graph, *states = nnx.split(module, nnx.Param, SpectralStat, nnx.BatchStat)
    return graph, tuple(nnx.to_pure_dict(state) for state in states)  # type: ignore[return-value]


def flat(tree: Any) -> dict[str, np.ndarray]:
    """A module of ours or a dict of its arrays by dotted names."""
    trees = split(tree)[1] if isinstance(tree, nnx.Module) else (tree,)
    leaves = [leaf for t in trees for leaf in jax.tree.leaves_with_path(t)]
    return {".".join(str(key.key) for key in path): np.asarray(a) for path, a in leaves}


def waves(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Fixed weights that turn an array into one number; positive, so that a bias' gradient does not cancel."""
    return (1 + 0.5 * np.cos(np.arange(math.prod(shape)))).reshape(shape).astype(dtype)


def _forward_and_back(graph: Any, train: bool, back: bool, arrays: Any, *inputs: Any) -> tuple[Any, Any, Any]:
    """y, the arrays after the pass, and if `back` the gradients of a curved function of y: parameters', inputs[0]'s."""

    def energy(params: Any, x: Any) -> Any:
        module = nnx.merge(graph, params, *arrays[1:])
        y = module(x, *inputs[1:], train=train)
        return jnp.sum(jnp.sin(y) * waves(y.shape, y.dtype.name)), (y, split(module)[1])

    which = (0, 1) if jnp.issubdtype(inputs[0].dtype, jnp.floating) else (0,)
    if not back:
        return *energy(arrays[0], inputs[0])[1], None
    gradients, (y, after) = jax.grad(energy, which, has_aux=True)(arrays[0], inputs[0])
    return y, after, gradients


_COMPILED = {
    dtype: jax.jit(_forward_and_back, static_argnums=(0, 1, 2), compiler_options=options)
    for dtype, options in (("float64", QUICK_COMPILE), ("float32", None))
}


def built(make: Callable[[], nnx.Module]) -> nnx.Module:
    """The module as it is made, in one compiled function: apart, each drawing would be compiled alone."""
    arrays = jax.jit(lambda: split(make())[1], compiler_options=QUICK_COMPILE)()
    return nnx.merge(split(nnx.eval_shape(make))[0], *arrays)


def filled(make: Callable[[], nnx.Module], rng: np.random.Generator) -> nnx.Module:
    """The module with arrays drawn by numpy, which compiles nothing."""
    graph, arrays = split(nnx.eval_shape(make))

    def draw(path: Any, a: Any) -> jax.Array:
        x = rng.normal(size=a.shape)
        value = {"kernel": 0.5 * x, "bias": 0.1 * x, "scale": 1 + 0.1 * x, "mean": 0 * x, "var": 1 + 0 * x}
        return jnp.asarray(value.get(path[-1].key, x / np.linalg.norm(x)), a.dtype)  # u and v: unit vectors

    return nnx.merge(graph, *jax.tree.map_with_path(draw, arrays))


class Pair:
    """A layer or block of ours and torch_ref's with the same arrays."""

    def __init__(self, ours: nnx.Module, theirs: torch.nn.Module, dtype: str, rng: np.random.Generator):
        self.ours, self.theirs, self.dtype, self.rng = ours, theirs, dtype, rng
        self.twins = twins(theirs)
        self.back_in_evaluation = True  # compiling takes three times as long
        self.zero_gradients: dict[str, str] = {}  # a parameter whose gradient is 0 -> the one that gives the scale
        self.load()

    def load(self) -> None:
        """Our arrays into the twin."""
        arrays = flat(self.ours)
        assert sorted(arrays) == sorted(self.twins)
        for name, twin in self.twins.items():
            twin.load(arrays[name])

    def scatter(self, scale: float = 0.1) -> None:
        """Adds noise to every parameter, as an update would."""
        graph, (params, *rest) = split(self.ours)

        def moved(p: jax.Array) -> jax.Array:
            return jnp.asarray(np.asarray(p) + (scale * self.rng.normal(size=p.shape)).astype(p.dtype))

        self.ours = nnx.merge(graph, jax.tree.map(moved, params), *rest)
        self.load()

    def run(self, *inputs: Any, train: bool) -> np.ndarray:
        """One pass of both with its gradients; fails unless all agrees and what must not move has not.

        Returns:
          our y.
        """
        graph, before = split(self.ours)
        back = train or self.back_in_evaluation
        y, after, gradients = _COMPILED[self.dtype](graph, train, back, before, *inputs)
        self.ours = nnx.merge(graph, *after)
        expected, expected_gradients = torch_pass(self.theirs, inputs, train)

        tolerance = TOLERANCES[self.dtype]
        assert_close(y, expected, tolerance, "y")
        if back:
            actual = flat(gradients[0]) | ({"x": np.asarray(gradients[1])} if len(gradients) == 2 else {})
            assert_agree(actual, expected_gradients, tolerance, self.zero_gradients)
        assert_agree(flat(self.ours), {name: t.ours() for name, t in self.twins.items()}, tolerance)
        assert_same(after[:1] if train else after, before[:1] if train else before)  # to the bit
        return np.asarray(y)


def torch_pass(module: torch.nn.Module, inputs: Any, train: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(y, gradients in the parameters and in `x`) of a torch_ref module, in our names and layouts."""
    tensors = [None if a is None else tensor(np.array(a)) for a in inputs]
    floating = tensors[0].is_floating_point()
    tensors[0].requires_grad_(floating)
    x = tensors[0].permute(0, 3, 1, 2).contiguous() if tensors[0].ndim == 4 else tensors[0]
    y = module.train(train)(x, *tensors[1:])
    y = y.permute(0, 2, 3, 1) if y.ndim == 4 else y
    weights = tensor(waves(tuple(y.shape), str(y.dtype).removeprefix("torch.")))
    trained = {name: t for name, t in twins(module).items() if t.tensor.requires_grad}
    sources = [t.tensor for t in trained.values()] + ([tensors[0]] if floating else [])
    found = torch.autograd.grad(torch.sum(torch.sin(y) * weights), sources)
    gradients = {name: t.ours(g) for (name, t), g in zip(trained.items(), found, strict=False)}
    return to_numpy(y), gradients | ({"x": to_numpy(found[-1])} if floating else {})


# Linear, Conv, ConvTranspose, Embedding ------------------------------------------------------------------------------


class Case(NamedTuple):
    """A layer's name, what makes it, and the shape of its input."""

    kind: str
    sizes: tuple[int, ...]
    options: dict[str, Any]
    shape: tuple[int, ...]

    def __repr__(self) -> str:
        return f"{self.kind}{self.sizes}".replace(" ", "")


CASES = [
    Case("Linear", (5, 4), {}, (3, 5)),
    Case("Linear", (4, 6), {"bias": False}, (2, 4)),
    Case("Linear", (1, 1), {}, (1, 1)),
    Case("Conv", (6, 5, 3), {"padding": 1}, (2, 5, 7, 6)),
    Case("Conv", (1, 1, 3), {"padding": 1}, (1, 7, 5, 1)),
    Case("Conv", (3, 5, 4), {"stride": 2, "padding": 1}, (2, 6, 8, 3)),
    Case("Conv", (5, 6, 1), {}, (1, 3, 4, 5)),
    Case("ConvTranspose", (6, 5, 4), {"stride": 2, "padding": 1}, (2, 3, 4, 6)),
    Case("ConvTranspose", (1, 1, 4), {"stride": 2, "padding": 1}, (1, 5, 3, 1)),
    Case("ConvTranspose", (5, 3, 3), {"padding": 1}, (1, 4, 5, 5)),
    Case("Embedding", (4, 5), {}, (6,)),
]
ONE_EACH = [CASES[i] for i in (0, 5, 7, 10)]


def make(case: Case, norm: SpectralNormConfig | None, dtype: str, seed: int = 0) -> nnx.Module:
    made = _made(case.kind, case.sizes, tuple(case.options.items()), norm, dtype, seed)
    return nnx.clone(made)


@cache
def _made(kind: str, sizes: Any, options: Any, norm: SpectralNormConfig | None, dtype: str, seed: int) -> nnx.Module:
    layer = partial(getattr(jax_sngan.nn.layers, kind), *sizes, **dict(options), spectral_norm=norm)
    return built(lambda: layer(init=normal(0.5), dtype=jnp.dtype(dtype), rngs=nnx.Rngs(seed)))


def make_torch(case: Case, norm: SpectralNormConfig | None, dtype: str) -> torch.nn.Module:
    return getattr(torch_ref.nn.layers, case.kind)(
        *case.sizes,
        **case.options,
        spectral_norm=norm,
        init=torch_ref.nn.layers.normal(0.5),
        dtype=getattr(torch, dtype),
    )


def make_pair(case: Case, norm: SpectralNormConfig | None, dtype: str) -> Pair:
    pair = Pair(make(case, norm, dtype), make_torch(case, norm, dtype), dtype, np.random.default_rng(11))
    if norm and pair.ours.kernel.size == 1:
        # W / sigma is 1 or -1 whatever W is: the true gradient is 0, and what is computed is rounding.
        pair.zero_gradients = {"kernel": "bias"}
    return pair


def draw(case: Case, dtype: str, rng: np.random.Generator) -> np.ndarray:
    if case.kind == "Embedding":
        return rng.integers(0, case.sizes[0], case.shape, np.int32)
    return rng.normal(size=case.shape).astype(dtype)


def go_through(pair: Any, draw_inputs: Callable[[], tuple[Any, ...]], *, fresh: bool = False) -> None:
    """Passes in an order that shows what one leaves to the next.

    Args:
      fresh: begin with an evaluation. Where u and v are still two random vectors, u^T W v is what is left of terms that
        cancel: the pass is right, but it has lost digits, in a block one after the other.
    """
    for train in (False, True, True) if fresh else (True, True):  # the first training pass, and two in a row
        pair.run(*draw_inputs(), train=train)
    pair.scatter()  # a weight update
    pair.run(*draw_inputs(), train=False)  # u and v are those of the weight before
    pair.run(*draw_inputs(), train=True)
    inputs = draw_inputs()
    first, second = (pair.run(*inputs, train=False) for _ in range(2))
    np.testing.assert_array_equal(first, second)  # evaluation leaves nothing behind


LAYERS = [
    *((case, "v_first", "float64") for case in CASES),
    *((case, norm, "float64") for case in ONE_EACH for norm in ("none", "three iterations", "u_first")),
    *((case, "v_first", "float32") for case in ONE_EACH),
]


@pytest.mark.parametrize(("case", "norm", "dtype"), LAYERS, ids=str)
def test_layer(case, norm, dtype):
    pair = make_pair(case, NORMS[norm], dtype)
    go_through(pair, lambda: (draw(case, dtype, pair.rng),), fresh=dtype == "float64")


@pytest.mark.parametrize("norm", ["v_first", "u_first"])
@pytest.mark.parametrize("case", ONE_EACH, ids=repr)
def test_rank_one_kernel(case, norm):
    pair = make_pair(case, NORMS[norm], "float64")
    matrix_shape = pair.ours.norm.u.shape + pair.ours.norm.v.shape
    matrix = np.outer(pair.rng.normal(size=matrix_shape[0]), pair.rng.normal(size=matrix_shape[1]))
    set_matrix(pair, matrix)
    for train in (False, True, True, False):
        pair.run(draw(case, "float64", pair.rng), train=train)
    sigma = pair.ours.norm(jnp.asarray(matrix), train=False)
    assert_close(sigma, np.linalg.norm(matrix), LAYER_F64)  # exact after one iteration


def set_matrix(pair: Pair, matrix: np.ndarray) -> None:
    """Writes a kernel whose matrix [out, rest] is this one."""
    kernel = pair.ours.kernel
    if isinstance(pair.ours, Embedding):
        value = matrix
    elif isinstance(pair.ours, ConvTranspose):  # [k, k, out, in]
        k, _, out, rest = kernel.shape
        value = matrix.reshape(out, k, k, rest).transpose(1, 2, 0, 3)
    else:
        value = matrix.T.reshape(kernel.shape)
    kernel[...] = jnp.asarray(value, kernel.dtype)
    np.testing.assert_array_equal(pair.ours.kernel_matrix(kernel[...]), matrix)
    pair.load()


@pytest.mark.parametrize("norm", ["v_first", "u_first"])
@pytest.mark.parametrize("case", ONE_EACH, ids=repr)
def test_zero_kernel(case, norm):
    # sigma is 0 and 0 / 0 is NaN in torch; a guard of our own would make another number of it. u and v become zero,
    # and stay so when the kernel no longer is: no iteration leads away from zero.
    pair = make_pair(case, NORMS[norm], "float64")
    pair.ours.kernel[...] = jnp.zeros_like(pair.ours.kernel[...])
    pair.load()
    x = draw(case, "float64", pair.rng)
    for train in (False, True):
        graph, arrays = split(pair.ours)
        y, after, _ = _COMPILED["float64"](graph, train, True, arrays, x)
        pair.ours = nnx.merge(graph, *after)
        assert np.isnan(y).all()
        assert np.isnan(torch_pass(pair.theirs, (x,), train)[0]).all()
    assert_agree(flat(pair.ours), {name: t.ours() for name, t in pair.twins.items()}, EXACT)
    assert not np.any(pair.ours.norm.u[...])
    assert not np.any(pair.ours.norm.v[...])
    assert not np.any(pair.ours.kernel[...])


@pytest.mark.parametrize("case", ONE_EACH, ids=repr)
def test_gradients_see_u_and_v_as_constants(case):
    # The gradient of a training pass is that of the function in which u and v stand where this pass left them,
    # by central differences along random directions. An evaluation is that function.
    pair = make_pair(case, V_FIRST, "float64")
    x = draw(case, "float64", pair.rng)
    graph, before = split(pair.ours)
    _, after, (gradients, *_) = _COMPILED["float64"](graph, True, True, before, x)
    gradient = np.asarray(gradients["kernel"])

    @partial(jax.jit, static_argnums=2)
    def energy(kernel, arrays, train):
        y = nnx.merge(graph, arrays[0] | {"kernel": kernel}, *arrays[1:])(x, train=train)
        return jnp.sum(jnp.sin(y) * waves(y.shape, "float64"))

    def slope(arrays: Any, train: bool, direction: np.ndarray, h: float = 1e-5) -> float:
        kernel = np.asarray(before[0]["kernel"])
        ahead, behind = (float(energy(kernel + s * direction, arrays, train)) for s in (h, -h))
        return (ahead - behind) / (2 * h)

    own_error = Tolerance(1e-7, "absolute: that of central differences, h^2 and 1e-16 / h with h = 1e-5")
    moved = 0.0
    for _ in range(4):
        direction = pair.rng.normal(size=gradient.shape)
        exact = float(np.sum(gradient * direction))
        assert_within(abs(slope(after, False, direction) - exact), own_error, "slope along a direction")
        moved = max(moved, abs(slope(before, True, direction) - exact))
    assert moved > 1e-3  # with u and v that follow the kernel the slope is another


@pytest.mark.parametrize(("init", "scale"), [("glorot_uniform", math.sqrt(2)), ("normal", 0.02)])
def test_kernels_start_as_torchs(init, scale):
    # The frameworks draw apart, so spreads are compared: a standard deviation of 36,864 numbers is good to 0.4 %.
    ours, theirs = (getattr(framework.nn.layers, init)(scale) for framework in (jax_sngan, torch_ref))
    layer = jax_sngan.nn.layers.Conv(32, 128, 3, init=ours, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(0)
        twin = torch_ref.nn.layers.Conv(32, 128, 3, spectral_norm=None, init=theirs, dtype=torch.float32)
    assert abs(float(jnp.std(layer.kernel[...])) / float(twin.weight.detach().std()) - 1) < 0.02
    assert not np.any(layer.bias[...])
    assert not torch.any(twin.bias)


# Spectral norm's other forms -----------------------------------------------------------------------------------------


def test_a_fresh_layer_has_unit_vectors():
    layer = make(CASES[0], V_FIRST, "float64")
    for stat in (layer.norm.u, layer.norm.v):
        assert np.linalg.norm(stat[...]) == pytest.approx(1, abs=1e-14)
    # Drawn apart from each other, and anew for each layer.
    other = make(CASES[0], V_FIRST, "float64", seed=1)
    assert relative_error(layer.norm.u[...], other.norm.u[...]) > 0.1


def test_init_normal_draws_raw_vectors():
    norm = PowerIteration(jnp.ones((4000, 2)), SpectralNormOptions(init="normal"), nnx.Rngs(0))
    u = np.asarray(norm.u[...])
    # Five standard errors of a mean and of a variance of 4000 draws.
    assert abs(u.mean()) < 5 / math.sqrt(4000)
    assert abs(u.var() - 1) < 5 * math.sqrt(2 / 4000)


@pytest.mark.parametrize("training", [False, True])
def test_warm_up_is_that_of_torchs_parametrization(training):
    # It makes 15; where the layer is in training mode, registering it calls it, which makes one more.
    weight = np.random.default_rng(3).normal(size=(5, 7))
    layer = torch.nn.Linear(7, 5, bias=False, dtype=torch.float64).train(training)
    with torch.no_grad():
        layer.weight.copy_(tensor(weight))
    torch.manual_seed(0)
    norm = torch.nn.utils.parametrizations.spectral_norm(layer).parametrizations.weight[0]
    torch.manual_seed(0)  # to draw what torch drew
    u, v = (torch.nn.functional.normalize(torch.empty(n, dtype=torch.float64).normal_(), dim=0) for n in (5, 7))
    u, v = power_iteration(weight, to_numpy(u), to_numpy(v), iterations=U_FIRST.warmup + training, order="u_first")
    assert_close(u, norm._u, LAYER_F64)
    assert_close(v, norm._v, LAYER_F64)


def test_warm_up_happens_when_a_layer_is_made():
    cold, warm = (make(CASES[3], dataclasses.replace(U_FIRST, warmup=n), "float64") for n in (0, 15))
    np.testing.assert_array_equal(cold.kernel[...], warm.kernel[...])
    matrix = np.asarray(cold.kernel[...]).reshape(-1, 5).T
    u, v = power_iteration(matrix, cold.norm.u[...], cold.norm.v[...], iterations=15, order="u_first")
    assert_close(warm.norm.u[...], u, LAYER_F64)
    assert_close(warm.norm.v[...], v, LAYER_F64)


def authors_sigma(matrix: np.ndarray, u: np.ndarray) -> tuple[float, np.ndarray]:
    """The rule of the authors' Chainer code: one iteration from u, norms guarded by + 1e-12; (sigma, the new u)."""
    v = matrix.T @ u
    v = v / (np.sqrt(np.sum(v * v)) + 1e-12)
    u = matrix @ v
    u = u / (np.sqrt(np.sum(u * u)) + 1e-12)
    return float(u @ matrix @ v), u


@pytest.mark.parametrize("scale", [1.0, 1e-12], ids=["", "tiny"])  # tiny: eps is as large as the norm
def test_the_authors_rule(scale):
    config = SpectralNormConfig(eps_form="add", init="normal", evaluation="iterate")
    layer = make(CASES[3], config, "float64")
    layer.kernel[...] = scale * layer.kernel[...]
    matrix = np.asarray(layer.kernel[...]).reshape(-1, 5).T
    u = np.asarray(layer.norm.u[...])
    assert abs(np.linalg.norm(u) - 1) > 1e-3  # raw
    x = np.random.default_rng(4).normal(size=CASES[3].shape)
    bare = make(CASES[3], None, "float64")
    for train in (False, True, True, False, False, True):
        sigma, after = authors_sigma(matrix, u)
        bare.kernel[...] = layer.kernel[...] / sigma
        assert_close(layer(jnp.asarray(x), train=train), bare(jnp.asarray(x), train=train), LAYER_F64)
        if train:  # an evaluation's iteration is not kept
            u = after
        assert_close(layer.norm.u[...], u, LAYER_F64)


# Batch normalisation -------------------------------------------------------------------------------------------------


def batch_norm_pair(features: int, num_classes: int, dtype: str) -> Pair:
    options = dict(eps=1e-3, momentum=0.3, num_classes=num_classes)
    ours = BatchNorm(features, **options, dtype=jnp.dtype(dtype))
    theirs = torch_ref.nn.batch_norm.BatchNorm(features, **options, dtype=getattr(torch, dtype))
    return Pair(ours, theirs, dtype, np.random.default_rng(12))


BATCH_NORMS = [
    *((shape, n, "float64") for shape in ((4, 3, 5, 2), (1, 7, 5, 1), (2, 1, 1, 4)) for n in (0, 3)),
    # Not two values a channel: they become 1 and -1 whatever they are, and the gradient in x is rounding.
    *(((4, 3, 5, 2), n, "float32") for n in (0, 3)),
]


@pytest.mark.parametrize(("shape", "num_classes", "dtype"), BATCH_NORMS, ids=str)
def test_batch_norm(shape, num_classes, dtype):
    pair = batch_norm_pair(shape[-1], num_classes, dtype)

    if num_classes:
        pair.scatter()  # or all classes are alike
    go_through(pair, lambda: batch_norm_inputs(shape, num_classes, dtype, pair.rng), fresh=True)


def batch_norm_inputs(shape: Any, num_classes: int, dtype: str, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    x = (rng.normal(size=shape) * 2 + 1).astype(dtype)
    return (x, rng.integers(0, num_classes, shape[0], np.int32)) if num_classes else (x,)


def test_running_statistics_in_closed_form():
    layer = BatchNorm(2, eps=1e-5, momentum=0.3, dtype=jnp.dtype("float64"))
    x = np.random.default_rng(5).normal(2, 3, (3, 2, 2, 2))
    y = layer(jnp.asarray(x), train=True)
    assert_close(layer.mean[...], 0.3 * x.mean((0, 1, 2)), LAYER_F64)
    assert_close(layer.var[...], 0.7 + 0.3 * x.var((0, 1, 2), ddof=1), LAYER_F64)  # unbiased
    # The batch itself is normalised by the biased variance.
    assert_close(y, (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5), LAYER_F64)


def test_batch_norm_to_the_second_derivative():
    """A gradient penalty differentiates D's gradient, batch normalisation included."""
    x, weights = np.random.default_rng(0).normal(2.0, 3.0, (2, 4, 3, 5, 2))

    def energy(x: jax.Array) -> jax.Array:
        norm = BatchNorm(2, eps=1e-2, momentum=0.1, dtype=jnp.dtype("float64"))
        return jnp.sum(jnp.sin(norm(x, train=True)) * weights)

    slope = jax.grad(energy)

    t = tensor(x).requires_grad_()
    normal = torch.nn.functional.batch_norm(t.permute(0, 3, 1, 2), None, None, training=True, eps=1e-2)
    (expected,) = torch.autograd.grad((normal.permute(0, 2, 3, 1).sin() * tensor(weights)).sum(), t, create_graph=True)
    assert_close(slope(jnp.asarray(x)), expected, LAYER_F64, "gradient")
    (again,) = torch.autograd.grad(expected.pow(3).sum(), t)
    assert_close(jax.grad(lambda x: jnp.sum(slope(x) ** 3))(jnp.asarray(x)), again, LAYER_F64, "second gradient")


def test_batch_moments():
    x = np.random.default_rng(6).normal(2, 3, (3, 4, 2, 5))
    expected = torch_ref.nn.batch_norm.batch_moments(tensor(x).permute(0, 3, 1, 2))
    for a, b in zip(batch_moments(jnp.asarray(x)), expected, strict=True):
        assert_close(a, b, LAYER_F64)


def test_one_pixel_of_one_image_stays_finite():
    # torch refuses it; here its variance is 0 and the unbiased one is taken as that.
    layer = BatchNorm(3, eps=1e-5, momentum=0.1, dtype=jnp.dtype("float64"))
    assert not np.any(layer(jnp.ones((1, 1, 1, 3)), train=True))
    assert_close(layer.var[...], np.full(3, 0.9), LAYER_F64)


def test_a_large_mean_keeps_its_digits():
    # At 1e4 neighbouring float32 numbers are 1e-3 apart. The mean is off by one or two of them, and y by as much.
    # The mean of squares minus the square of the mean would be off by 8: of the variance no digit would be left.
    x = np.random.default_rng(7).normal(1e4, 1, (8, 4, 4, 3)).astype(np.float32)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    layer = BatchNorm(3, eps=0.0, momentum=0.1, dtype=jnp.dtype("float32"))
    off = np.max(np.abs(np.asarray(layer(jnp.asarray(x), train=True)) - exact))
    assert_within(off, Tolerance(4e-3, "absolute: four of the 1e-3 between float32 numbers at 1e4"), "y", "float32")
    var = (0.9 + 0.1 * x.astype(np.float64).var((0, 1, 2), ddof=1)).astype(np.float32)
    assert_close(layer.var[...], var, Tolerance(1e-5, "squares of distances that are off by 1e-3 each way"), "variance")

    pair = batch_norm_pair(3, 0, "float64")
    go_through(pair, lambda: (pair.rng.normal(1e4, 1, (8, 4, 4, 3)),))


# Residual blocks -----------------------------------------------------------------------------------------------------


class BlockCase(NamedTuple):
    """A block's name, its sizes, the options of the config that it reads, and the shape of its input."""

    kind: str
    sizes: tuple[Any, ...]
    options: dict[str, Any]
    shape: tuple[int, ...]

    def __repr__(self) -> str:
        return "-".join([self.kind, *map(str, self.sizes), *map(str, self.options.values())])


BLOCKS = [
    BlockCase("GeneratorBlock", (5, 6), {}, (2, 3, 2, 5)),
    BlockCase("GeneratorBlock", (6, 7), {"upsampling": "bilinear", "num_classes": 3}, (3, 2, 3, 6)),
    BlockCase("GeneratorBlock", (1, 1), {"batch_norm_momentum": 0.4, "batch_norm_eps": 1e-3}, (1, 3, 3, 1)),
    BlockCase("DiscriminatorBlock", (5, 6, True), {}, (2, 4, 6, 5)),
    BlockCase("DiscriminatorBlock", (6, 6, False), {"shortcut_input": "activated"}, (2, 5, 3, 6)),
    BlockCase("DiscriminatorBlock", (5, 7, False), {}, (1, 3, 5, 5)),
    BlockCase("DiscriminatorBlock", (5, 5, True), {"shortcut_input": "activated"}, (1, 2, 2, 5)),
    BlockCase("FirstDiscriminatorBlock", (3, 6), {}, (2, 4, 6, 3)),
    BlockCase("FirstDiscriminatorBlock", (1, 5), {}, (1, 6, 4, 1)),
]


BLOCK_CASES = [
    *((case, "v_first", "float64") for case in BLOCKS),
    *((BLOCKS[i], "u_first", "float64") for i in (3, 7)),
    *((BLOCKS[i], "v_first", "float32") for i in (1, 3, 7)),
]


def block_pair(case: BlockCase, norm: str, dtype: str) -> Pair:
    config = block_config(case, norm, dtype)
    rng = np.random.default_rng(13)
    network = "generator" if case.kind == "GeneratorBlock" else "discriminator"
    options = {n: case.options[n] for n in ("upsampling", "shortcut_input") if n in case.options}

    def make() -> nnx.Module:
        of_config = jax_sngan.models.options.block_options(config, network, nnx.Rngs(0))
        return getattr(jax_sngan.nn.blocks, case.kind)(*case.sizes, **options, **of_config)

    of_config = torch_ref.models.options.block_options(config, network)
    theirs = getattr(torch_ref.nn.blocks, case.kind)(*case.sizes, **options, **of_config)
    pair = Pair(filled(make, rng), theirs, dtype, rng)
    pair.back_in_evaluation = False  # its parts' gradients have been held
    if case.kind == "GeneratorBlock":
        # In training norm2 takes the mean away, and with it conv1's bias: its true gradient is 0.
        pair.zero_gradients = {"conv1.bias": "conv1.kernel"}
    return pair


def block_config(case: BlockCase, norm: str, dtype: str) -> ModelConfig:
    return ModelConfig(architecture="resnet", spectral_norm=NORMS[norm] or V_FIRST, dtype=dtype, **case.options)


def block_inputs(case: BlockCase, dtype: str, rng: np.random.Generator) -> tuple[Any, ...]:
    x = rng.normal(size=case.shape).astype(dtype)
    classes = case.options.get("num_classes")
    labels = rng.integers(0, classes, case.shape[0], np.int32) if classes else None
    return (x, labels) if case.kind == "GeneratorBlock" else (x,)


@pytest.mark.parametrize(("case", "norm", "dtype"), BLOCK_CASES, ids=str)
def test_block(case, norm, dtype):
    pair = block_pair(case, norm, dtype)
    go_through(pair, lambda: block_inputs(case, dtype, pair.rng))
