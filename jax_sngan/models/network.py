"""Any nnx module as pure functions of explicit variables, and the pair that a config names: build(config)."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from jax_sngan.config.schema import ModelConfig
from jax_sngan.models import mlp, resnet, standard_cnn
from jax_sngan.nn.passes import check_reach, iterate
from jax_sngan.nn.passes import hold as hold_vectors
from jax_sngan.nn.spectral_norm import SpectralStat
from jax_sngan.system.errors import UserError

Tree = dict[str, Any]  # nested, of arrays; names are the modules' attributes, and "0", "1", … in a list
Make = Callable[[nnx.Rngs], nnx.Module]
ARCHITECTURES = {"standard_cnn": standard_cnn, "resnet": resnet, "mlp": mlp}


class Variables(NamedTuple):
    """A network's arrays by what happens to them."""

    params: Tree  # trained
    spectral: Tree  # u and v: carried
    batch: Tree  # running means and variances: averaged by the normalisation itself
    other: Tree = {}  # noqa: RUF012  # of other kinds of nnx.Variable: carried as the module leaves them


@dataclass(frozen=True)
class Configured:
    """Makes a network of this package, as GAN.generator and GAN.discriminator do: rngs -> module."""

    config: ModelConfig
    role: Literal["generator", "discriminator"]

    def __call__(self, rngs: nnx.Rngs) -> nnx.Module:
        """A fresh module."""
        made: nnx.Module = getattr(ARCHITECTURES[self.config.architecture], self.role.capitalize())(
            self.config, rngs=rngs
        )
        return made


class Network:
    """One nnx module taken apart: what it is (static) and what it holds (Variables).

    Any module will do. Its call takes latents [n, latent_size], or images [n, h, w, c]; also, where its signature has
    them: `labels`, or a second positional argument without a default (int [n]); `train` (bool); `key` (uint32 [2] in a
    training pass, else None). train() or eval() is called on it before each pass. Streams of random numbers that it
    holds (nnx.Rngs, nnx.Dropout) start anew in every pass from that pass's key.
    """

    def __init__(self, make: Make, role: str = "network"):
        """make: rngs -> module; rngs has the streams params, spectral and, for every other name, default.

        Raises:
          UserError: what it makes is no nnx module, or one that cannot be taken apart.
        """
        self._make, self._role = make, role
        self.config = make.config if isinstance(make, Configured) else None  # None: of somebody else's making
        module = nnx.eval_shape(lambda: self._fresh(jax.random.key(0, impl="threefry2x32")))
        try:
            check_reach(module)
        except ValueError as error:
            raise UserError(f"{role}: {error}") from error
        self._graph, self._like, self._streams = _split(module)
        takes = list(inspect.signature(type(module).__call__).parameters.values())[2:]  # self and what it reads apart
        names = {p.name for p in takes if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self._takes = names & {"labels", "train", "key"}
        self._labels_needed = any(p.name == "labels" and p.default is inspect.Parameter.empty for p in takes)
        first = takes[0] if takes and takes[0].kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, _ONLY) else None
        self._labels_second = bool(
            first and first.name not in ("labels", "train", "key") and first.default is inspect.Parameter.empty
        )

    @property
    def takes_labels(self) -> bool:
        """Whether its call takes classes."""
        return "labels" in self._takes or self._labels_second

    @property
    def must_have_labels(self) -> bool:
        """Whether its call cannot do without classes."""
        return self._labels_second or ("labels" in self._takes and self._labels_needed)

    @property
    def draws(self) -> bool:
        """Whether a training pass may draw random numbers, and so needs a key."""
        if self.config is not None:
            return bool(getattr(self.config, f"{self._role}_dropout") > 0)
        return bool(self._streams) or "key" in self._takes

    @property
    def images_apart(self) -> bool:
        """Whether a training pass is known to give for each image what it gives for that image alone.

        Not with batch normalisation, nor with dropout, whose masks are drawn for the whole batch; nor, for all that is
        known, in a network of somebody else's making.
        """
        if self.config is None:
            return False
        return not self.draws and getattr(self.config, f"{self._role}_norm") != "batch"

    def _fresh(self, key: Array) -> nnx.Module:
        streams = {"params": key, "spectral": jax.random.fold_in(key, 1), "default": jax.random.fold_in(key, 2)}
        module = self._make(nnx.Rngs(**streams))
        if not isinstance(module, nnx.Module):
            raise UserError(f"{self._role} must make an nnx.Module from rngs, got {type(module).__name__}")
        return module

    def init(self, key: Array) -> Variables:
        """Fresh variables drawn from a jax.random key."""
        return self._taken_apart(self._fresh(key))

    def apply(
        self,
        variables: Variables,
        x: Array,
        labels: Array | None = None,
        *,
        train: bool,
        key: Array | None = None,
        hold: bool = False,
    ) -> tuple[Array, Variables]:
        """The forward pass.

        Args:
          variables: read, not changed.
          x: latents [n, latent_size] or images [n, h, w, c] in [-1, 1].
          labels: int [n], or None where unconditional.
          train: batch statistics, dropout and one power iteration, or the stored ones and neither.
          key: uint32 [2] of what the module draws (nn/rng.py); read in training.
          hold: a training pass leaves u and v as they are.
        Returns:
          (images [n, h, w, c] or scores [n], the variables after the pass: params are the same,
          spectral, batch and other have moved if train).
        Raises:
          ValueError: a training pass of a module that draws has no key.
        """
        if train and self.draws and key is None:
            raise ValueError(f"a training pass of a {self._role} with dropout needs a key")
        key = key if train else None
        module = self.module(variables, key)
        module.train() if train else module.eval()
        if train and hold:
            hold_vectors(module)
        given = {"labels": labels, "train": train, "key": key}
        y = module(x, *([labels] if self._labels_second else []), **{name: given[name] for name in self._takes})
        return y, self._taken_apart(module)._replace(params=variables.params)

    def passes(
        self, variables: Variables, x: Array, labels: Array | None = None, keys: Array | None = None
    ) -> tuple[Array, Variables]:
        """Training passes one after another, each as `apply` with `hold`.

        An accelerator makes them all at once: what a pass gives does not depend on those before, and the running
        statistics, which do, are brought up to date afterwards.

        Args:
          x: [k, n, ...], what each of the k passes is given; labels int [k, n], keys uint32 [k, 2], or None.
        Returns:
          (images or scores [k, n, ...], the variables after the last pass).
        """

        def one(moving: Any, own: tuple[Array, ...]) -> tuple[Any, Array]:
            x, labels, key = own
            batch, other = moving
            held = variables._replace(batch=batch, other=other)
            y, after = self.apply(held, x, labels, train=True, key=key, hold=True)
            return (after.batch, after.other), y

        in_turn: Any = partial(lax.scan, one)
        moving, given = (variables.batch, variables.other), (x, labels, keys)
        if self.config is None:
            moving, y = in_turn(moving, given)
            return y, variables._replace(batch=moving[0], other=moving[1])
        # A pass leaves (1 - momentum) * before + momentum * its own; from 0, the second term alone.
        kept = 1 - self.config.batch_norm_momentum

        def at_once(moving: Any, own: tuple[Array, ...]) -> tuple[Any, Array]:
            terms, y = jax.vmap(partial(one, jax.tree.map(jnp.zeros_like, moving)))(own)
            for i in range(len(x)):
                moving = jax.tree.map(lambda before, term: kept * before + term[i], moving, terms)  # noqa: B023
            return moving, y

        (batch, _), y = lax.platform_dependent(moving, given, cpu=in_turn, default=at_once)
        return y, variables._replace(batch=batch)

    def iterate(self, variables: Variables) -> Variables:
        """The variables after a training pass's power iterations, without the pass."""
        module = self.module(variables)
        iterate(module)
        return self._taken_apart(module)

    def iterates(self, variables: Variables, count: int) -> list[Tree]:
        """u and v as each of `count` training passes has them."""
        moved = []
        for _ in range(count):
            variables = self.iterate(variables)
            moved.append(variables.spectral)
        return moved

    def module(self, variables: Variables, key: Array | None = None) -> Any:
        """The nnx module that holds these variables; key: uint32 [2] that its streams start from, None: a fixed one."""
        trees = [_as_named(tree, like) for tree, like in zip(variables, self._like, strict=True)]
        return nnx.merge(self._graph, *trees, _streams(self._streams, key))

    def variables_of(self, module: nnx.Module) -> Variables:
        """The inverse of `module`: what a module of this network holds, loaded from elsewhere perhaps."""
        return self._taken_apart(module)

    def _taken_apart(self, module: nnx.Module) -> Variables:
        variables = _split(module)[1]
        for kind, *both in zip(Variables._fields, variables, self._like, strict=True):
            paths, own = ({jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(tree)} for tree in both)
            if paths != own:
                raise UserError(
                    f"{self._role} must make its variables when it is made, not in a pass: {', '.join(paths ^ own)} "
                    f"of its {kind}"
                )
        return Variables(*(_by_string(tree) for tree in variables))


_ONLY = inspect.Parameter.POSITIONAL_ONLY


def _split(module: nnx.Module) -> tuple[Any, Variables, Tree]:
    """What a module is, its variables, and its streams of random numbers; what it recorded in passing is left out."""
    kinds = (nnx.Param, SpectralStat, nnx.BatchStat, nnx.RngState, nnx.Intermediate, ...)
    graph, *states = nnx.split(module, *kinds)
    params, spectral, batch, streams, _, other = (nnx.to_pure_dict(state) for state in states)
    return graph, Variables(params, spectral, batch, other), streams


def _by_string(tree: Any) -> Any:
    """nnx numbers a list's entries; a checkpoint and a torch state dict have strings there."""
    return {str(name): _by_string(branch) for name, branch in tree.items()} if isinstance(tree, dict) else tree


def _as_named(tree: Any, like: Any) -> Any:
    """The inverse of _by_string for a tree whose names are like's."""
    return (
        {name: _as_named(tree[str(name)], branch) for name, branch in like.items()} if isinstance(like, dict) else tree
    )


def _streams(like: Tree, key: Array | None) -> Tree:
    """Streams of random numbers at their start, each with a key of its own from uint32 [2], or from a fixed one."""
    data = jnp.zeros(2, jnp.uint32) if key is None else key
    root = jax.random.wrap_key_data(data, impl="threefry2x32")
    leaves, kind = jax.tree.flatten(like)

    def fresh(i: int, leaf: Any) -> Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros(leaf.shape, leaf.dtype)  # how often it was drawn from
        own = jax.random.fold_in(root, i)
        return jax.random.split(own, leaf.shape) if leaf.shape else own

    return jax.tree.unflatten(kind, [fresh(i, leaf) for i, leaf in enumerate(leaves)]) if leaves else {}


class HasDtype(Protocol):
    """A ModelConfig, or a GAN."""

    @property
    def dtype(self) -> str: ...


class Networks(NamedTuple):
    """The pair."""

    generator: Network
    discriminator: Network


def allow_dtype(config: HasDtype) -> None:
    """Lets this process compute in the type of a ModelConfig or a GAN: jax makes float64 arrays only when told to."""
    if config.dtype == "float64":
        jax.config.update("jax_enable_x64", True)


def has_float64() -> bool:
    """Whether jax makes float64 arrays here: told to for the process, or in a block of jax.enable_x64."""
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


def check_dtype(config: HasDtype, name: str) -> None:
    """Raises ValueError where the type, an option of that name, is float64 and jax does not have it enabled."""
    if config.dtype == "float64" and not has_float64():
        raise ValueError(f'{name} float64 needs jax.config.update("jax_enable_x64", True)')


@lru_cache(maxsize=64)  # taking a module apart takes a tenth of a second; a start needs the same one three times
def network_of(make: Make, role: str) -> Network:
    """The network that GAN.generator or GAN.discriminator makes."""
    return Network(make, role)


@cache
def build(config: ModelConfig) -> Networks:
    """The networks that a config names; their variables are made by `init`.

    Raises:
      ValueError: the config says float64 and jax does not have it enabled (see allow_dtype).
    """
    check_dtype(config, "model.dtype")
    generator, discriminator = (Configured(config, "generator"), Configured(config, "discriminator"))
    return Networks(network_of(generator, "generator"), network_of(discriminator, "discriminator"))
