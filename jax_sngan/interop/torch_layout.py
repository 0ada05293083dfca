"""Names and layouts: our trees <-> torch_ref's state dicts, numpy in, numpy out, exact to the bit both ways.

Ours          a path in a tree, ("blocks", "0", "conv1", "kernel");  maps (h, w, c), kernels [k, k, in, out]
torch_ref's   a name, "blocks.0.conv1.weight_orig";                  maps (c, h, w), kernels [out, in, k, k]
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jax_sngan.config.schema import ModelConfig, TrainConfig
from jax_sngan.core.inputs import Inputs
from jax_sngan.core.state import TrainState
from jax_sngan.models.architecture import FlatMaps
from jax_sngan.models.network import Tree, Variables, build
from jax_sngan.system.errors import UserError
from jax_sngan.system.terminal import listed

Path = tuple[str, ...]
Flat = dict[str, np.ndarray]  # by torch_ref's name
NETWORKS = ("generator", "discriminator")
_PARAMETRIZED = "parametrizations.weight"
_MOST_NAMED = 20  # entries of one kind that an error lists


def kernel_to_torch(kernel: np.ndarray) -> np.ndarray:
    """[k, k, in, out] -> [out, in, k, k], and a Linear's [in, out] -> [out, in].

    A ConvTranspose's, [k, k, out, in] -> [in, out, k, k], too: it is the kernel of the convolution that it transposes.
    """
    return kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T


def kernel_from_torch(weight: np.ndarray) -> np.ndarray:
    """The inverse of kernel_to_torch."""
    return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T


def map_to_torch(a: np.ndarray, h: int, w: int, axis: int = 0) -> np.ndarray:
    """a with the entries along one axis, a flattened map (h, w, c), in the order (c, h, w)."""
    before, after = a.shape[:axis], a.shape[axis + 1 :]
    return np.moveaxis(a.reshape(*before, h, w, -1, *after), axis + 2, axis).reshape(a.shape)


def map_from_torch(a: np.ndarray, h: int, w: int, axis: int = 0) -> np.ndarray:
    """The inverse of map_to_torch."""
    before, after = a.shape[:axis], a.shape[axis + 1 :]
    return np.moveaxis(a.reshape(*before, -1, h, w, *after), axis, axis + 2).reshape(a.shape)


def vector_v_to_torch(v: np.ndarray, k: int) -> np.ndarray:
    """The right vector [k * k * in] of a convolution, from the order (kh, kw, in) to (in, kh, kw). u has no order."""
    return map_to_torch(v, k, k)


def vector_v_from_torch(v: np.ndarray, k: int) -> np.ndarray:
    """The inverse of vector_v_to_torch."""
    return map_from_torch(v, k, k)


def images_to_torch(images: np.ndarray) -> np.ndarray:
    """[..., h, w, c] -> [..., c, h, w]."""
    return np.moveaxis(images, -1, -3)


def images_from_torch(images: np.ndarray) -> np.ndarray:
    """[..., c, h, w] -> [..., h, w, c]."""
    return np.moveaxis(images, -3, -1)


def inputs_to_torch(inputs: Inputs) -> dict[str, np.ndarray]:
    """A training step's inputs for torch_ref.core.inputs.from_numpy; labels that are None are left out."""
    arrays = {name: np.asarray(a) for name, a in inputs._asdict().items() if a is not None}
    return arrays | {"real_images": images_to_torch(arrays["real_images"])}


class Entry(NamedTuple):
    """One array's two names and layouts."""

    path: Path
    name: str
    shape: tuple[int, ...]  # in our layout
    to_torch: Callable[[np.ndarray], np.ndarray]
    from_torch: Callable[[np.ndarray], np.ndarray]

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """In torch_ref's layout."""
        return self.to_torch(np.empty(self.shape)).shape


class Entries(NamedTuple):
    """A network's arrays, tree by tree as models.Variables has them."""

    params: list[Entry]
    spectral: list[Entry]
    batch: list[Entry]


@lru_cache(maxsize=32)
def network_entries(config: ModelConfig, network: str) -> Entries:
    """Every array of a network, "generator" or "discriminator"."""
    # Shapes are the same in every type, and jax has float64 only where it is enabled.
    built = getattr(build(dataclasses.replace(config, dtype="float32")), network)
    variables = jax.eval_shape(lambda: built.init(jax.random.key(0)))
    flat_maps: dict[Path, FlatMaps] = built.module(variables).flat_maps
    kernels = {path[:-1]: leaf.shape for path, leaf in leaves(variables.params) if path[-1] == "kernel"}
    normed = {path[:-2] for path, _ in leaves(variables.spectral)}
    # torch.nn.utils.spectral_norm's names, or those of torch.nn.utils.parametrizations.spectral_norm
    v_first = config.spectral_norm.order == "v_first"
    weight, vector = ("weight_orig", "weight_") if v_first else (f"{_PARAMETRIZED}.original", f"{_PARAMETRIZED}.0._")

    entries = Entries([], [], [])
    for path, leaf in leaves(variables.params):
        *layer, last = path
        flat = flat_maps.get(path[:-1], FlatMaps())
        if last == "kernel":
            name = weight if path[:-1] in normed else "weight"
            entries.params.append(_kernel(path, _join(layer, name), leaf.shape, flat))
        else:
            name = {"scale": "weight", "bias": "bias"}[last]
            entries.params.append(_vector(path, _join(layer, name), leaf.shape, flat.out))
    for path, leaf in leaves(variables.spectral):
        *layer, _, last = path  # (..., layer, "norm", "u" or "v")
        flat, kernel = flat_maps.get(path[:-2], FlatMaps()), kernels[path[:-2]]
        side = flat.out if last == "u" else kernel[:2] if len(kernel) == 4 else flat.rest
        entries.spectral.append(_vector(path, _join(layer, vector + last), leaf.shape, side))
    for path, leaf in leaves(variables.batch):
        *layer, last = path
        entries.batch.append(_vector(path, _join(layer, f"running_{last}"), leaf.shape, None))
    return entries


def _kernel(path: Path, name: str, shape: tuple[int, ...], flat: FlatMaps) -> Entry:
    embedding = path[-2] == "embed"  # its rows are classes in both frameworks

    def to_torch(kernel: np.ndarray) -> np.ndarray:
        weight = kernel if embedding else kernel_to_torch(kernel)
        for axis, side in enumerate(flat):
            weight = map_to_torch(weight, *side, axis) if side else weight
        return weight

    def from_torch(weight: np.ndarray) -> np.ndarray:
        for axis, side in enumerate(flat):
            weight = map_from_torch(weight, *side, axis) if side else weight
        return weight if embedding else kernel_from_torch(weight)

    return Entry(path, name, shape, to_torch, from_torch)


def _vector(path: Path, name: str, shape: tuple[int, ...], side: tuple[int, int] | None) -> Entry:
    """An array that both frameworks lay out alike, but for a flattened map along its first axis."""
    if side is None:
        return Entry(path, name, shape, np.asarray, np.asarray)
    h, w = side
    return Entry(path, name, shape, lambda a: map_to_torch(a, h, w), lambda a: map_from_torch(a, h, w))


def _join(layer: list[str], name: str) -> str:
    return ".".join([*layer, name])


def leaves(tree: Tree, prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """(path, leaf) of a nested dict, in the order of names."""
    for name in sorted(tree):
        if isinstance(tree[name], dict):
            yield from leaves(tree[name], (*prefix, name))
        else:
            yield (*prefix, name), tree[name]


def tree_to_torch(entries: list[Entry], tree: Tree, prefix: str = "") -> Flat:
    """One of our trees under torch_ref's names, each after a prefix, and in its layouts."""
    found = dict(leaves(tree))
    return {prefix + e.name: np.ascontiguousarray(e.to_torch(np.asarray(found[e.path]))) for e in entries}


def tree_from_torch(entries: list[Entry], flat: Flat, prefix: str = "") -> Tree:
    """The inverse of tree_to_torch; every entry must be there."""
    tree: Tree = {}
    for e in entries:
        branch = tree
        for name in e.path[:-1]:
            branch = branch.setdefault(name, {})
        branch[e.path[-1]] = np.ascontiguousarray(e.from_torch(flat[prefix + e.name]))
    return tree


def variables_to_torch(config: ModelConfig, network: str, variables: Variables, prefix: str = "") -> Flat:
    """A network's variables as the state_dict of its twin."""
    flat: Flat = {}
    for kind, entries in network_entries(config, network)._asdict().items():
        flat |= tree_to_torch(entries, getattr(variables, kind), prefix)
    return flat


def variables_from_torch(config: ModelConfig, network: str, flat: Flat, prefix: str = "") -> Variables:
    """The inverse of variables_to_torch; every entry must be there."""
    return Variables(*(tree_from_torch(entries, flat, prefix) for entries in network_entries(config, network)))


def to_torch(config: TrainConfig, state: TrainState) -> Flat:
    """The whole state under the names of torch_ref.core.state.dump: step, generator.*, discriminator.*,
    generator_ema.*, and for both networks *_opt.count, *_opt.exp_avg.*, *_opt.exp_avg_sq.*."""
    g_params = network_entries(config.model, "generator").params
    flat: Flat = {"step": np.asarray(state.step)}
    flat |= tree_to_torch(g_params, state.generator_ema, "generator_ema.")
    for network in NETWORKS:
        flat |= variables_to_torch(config.model, network, getattr(state, network), f"{network}.")
        entries, adam = network_entries(config.model, network).params, getattr(state, f"{network}_opt")
        flat[f"{network}_opt.count"] = np.asarray(adam.count)
        for name, moments in (("exp_avg", adam.mu), ("exp_avg_sq", adam.nu)):
            flat |= tree_to_torch(entries, moments, f"{network}_opt.{name}.")
    return flat


def from_torch(config: TrainConfig, flat: Flat) -> TrainState:
    """The inverse of to_torch.

    Raises:
      UserError: the arrays are not those of the config; it names the missing, the extra and the misshapen.
    """
    check_fit(flat, _expected(config))

    def adam(network: str) -> optax.ScaleByAdamState:
        entries, prefix = network_entries(config.model, network).params, f"{network}_opt."
        moments = (tree_from_torch(entries, flat, f"{prefix}{name}.") for name in ("exp_avg", "exp_avg_sq"))
        return optax.ScaleByAdamState(np.asarray(flat[f"{prefix}count"]), *moments)

    return TrainState(
        step=np.asarray(flat["step"]),  # type: ignore[arg-type]  # numpy arrays in place of jax's
        generator=variables_from_torch(config.model, "generator", flat, "generator."),
        discriminator=variables_from_torch(config.model, "discriminator", flat, "discriminator."),
        generator_ema=tree_from_torch(network_entries(config.model, "generator").params, flat, "generator_ema."),
        generator_opt=adam("generator"),
        discriminator_opt=adam("discriminator"),
    )


def _expected(config: TrainConfig) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Type and shape of every array of to_torch."""
    dtype, count = np.dtype(config.model.dtype), (np.dtype(np.int32), ())
    expected: dict[str, tuple[np.dtype, tuple[int, ...]]] = {"step": count}
    for network in NETWORKS:
        entries = network_entries(config.model, network)
        expected |= {f"{network}.{e.name}": (dtype, e.torch_shape) for tree in entries for e in tree}
        expected[f"{network}_opt.count"] = count
        like_params = [f"{network}_opt.exp_avg.", f"{network}_opt.exp_avg_sq."]
        if network == "generator":
            like_params.append("generator_ema.")
        expected |= {prefix + e.name: (dtype, e.torch_shape) for prefix in like_params for e in entries.params}
    return expected


def check_fit(found: Flat, expected: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> None:
    """Passes where the arrays are exactly those expected, by name, type and shape.

    Raises:
      UserError: names the missing, the extra and the misshapen.
    """

    def described(name: str) -> str:
        a, (dtype, shape) = found[name], expected[name]
        return f"{name} is {a.dtype} {list(a.shape)}, not {dtype} {list(shape)}"

    wrong = {
        "missing": sorted(set(expected) - set(found)),
        "extra": sorted(set(found) - set(expected)),
        "misshapen": [
            described(n) for n in sorted(set(found) & set(expected)) if (found[n].dtype, found[n].shape) != expected[n]
        ],
    }
    if any(wrong.values()):
        raise UserError(
            "the file does not fit the config: "
            + "; ".join(f"{what} {listed(names, _MOST_NAMED)}" for what, names in wrong.items() if names)
        )
