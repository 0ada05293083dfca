"""build(ModelConfig) -> Networks: generator and discriminator as pure functions of explicit variables."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from jax_sngan.config.schema import ModelConfig
from jax_sngan.models import mlp, resnet, standard_cnn
from jax_sngan.nn import layers
from jax_sngan.nn.spectral_norm import SpectralStat

Tree = dict[str, Any]  # nested, of arrays; names are the modules' attributes, and "0", "1", … in a list
ARCHITECTURES = {"standard_cnn": standard_cnn, "resnet": resnet, "mlp": mlp}


class Variables(NamedTuple):
    """A network's arrays by what happens to them."""

    params: Tree  # trained
    spectral: Tree  # u and v: carried
    batch: Tree  # running means and variances: averaged by BatchNorm itself


class Network:
    """One nnx module taken apart: what it is (static) and what it holds (Variables)."""

    def __init__(self, module: type[nnx.Module], config: ModelConfig):
        self._module, self._config, self._name = module, config, module.__name__.lower()
        abstract = nnx.eval_shape(lambda: module(config, rngs=nnx.Rngs(0)))  # type: ignore[call-arg]
        self._graph = _split(abstract)[0]

    def init(self, key: Array) -> Variables:
        """Fresh variables drawn from a jax.random key."""
        module = self._module(self._config, rngs=nnx.Rngs(params=key, spectral=jax.random.fold_in(key, 1)))  # type: ignore[call-arg]
        return _split(module)[1]

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
          key: uint32 [2] of the dropout (nn/rng.py); read in training.
          hold: a training pass leaves u and v as they are.
        Returns:
          (images [n, h, w, c] or scores [n], the variables after the pass: params are the same,
          spectral and batch have moved if train).
        Raises:
          ValueError: a training pass with dropout has no key.
        """
        module = self.module(variables)
        dropped = getattr(self._config, f"{self._name}_dropout") > 0
        if train and dropped and key is None:
            raise ValueError(f"a training pass of a {self._name} with dropout needs a key")
        if train and hold:
            layers.hold(module)
        y = module(x, labels, train=train, key=key if train else None)
        return y, _split(module)[1]._replace(params=variables.params)

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

        def one(batch: Tree, own: tuple[Array, ...]) -> tuple[Tree, Array]:
            x, labels, key = own
            y, after = self.apply(variables._replace(batch=batch), x, labels, train=True, key=key, hold=True)
            return after.batch, y

        def at_once(batch: Tree, own: tuple[Array, ...]) -> tuple[Tree, Array]:
            # A pass leaves (1 - momentum) * before + momentum * its own; from 0, the second term alone.
            kept = 1 - self._config.batch_norm_momentum
            terms, y = jax.vmap(partial(one, jax.tree.map(jnp.zeros_like, batch)))(own)
            for i in range(len(x)):
                batch = jax.tree.map(lambda before, term: kept * before + term[i], batch, terms)  # noqa: B023
            return batch, y

        in_turn = partial(lax.scan, one)
        batch, y = lax.platform_dependent(variables.batch, (x, labels, keys), cpu=in_turn, default=at_once)
        return y, variables._replace(batch=batch)

    def iterate(self, variables: Variables) -> Variables:
        """The variables after a training pass's power iterations, without the pass."""
        module = self.module(variables)
        layers.iterate(module)
        return _split(module)[1]

    def iterates(self, variables: Variables, count: int) -> list[Tree]:
        """u and v as each of `count` training passes has them."""
        moved = []
        for _ in range(count):
            variables = self.iterate(variables)
            moved.append(variables.spectral)
        return moved

    def module(self, variables: Variables) -> Any:
        """The nnx module that holds these variables."""
        first, *rest = (_renamed(tree, _to_index) for tree in variables)
        return nnx.merge(self._graph, first, *rest)


def _split(module: nnx.Module) -> tuple[Any, Variables]:
    graph, *states = nnx.split(module, nnx.Param, SpectralStat, nnx.BatchStat)
    return graph, Variables(*(_renamed(nnx.to_pure_dict(s), str) for s in states))


def _renamed(tree: Any, rename: Callable[[Any], Any]) -> Any:
    """nnx numbers a list's entries; a checkpoint and a torch state dict have strings there."""
    return {rename(k): _renamed(v, rename) for k, v in tree.items()} if isinstance(tree, dict) else tree


def _to_index(name: str) -> int | str:
    return int(name) if name.isdigit() else name


class Networks(NamedTuple):
    """The pair."""

    generator: Network
    discriminator: Network


def allow_dtype(config: ModelConfig) -> None:
    """Lets this process compute in the config's type: jax makes float64 arrays only when told to."""
    if config.dtype == "float64":
        jax.config.update("jax_enable_x64", True)


def has_float64() -> bool:
    """Whether jax makes float64 arrays here: told to for the process, or in a block of jax.enable_x64."""
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


@cache  # taking the modules apart takes a fifth of a second; a start needs the same networks three times
def build(config: ModelConfig) -> Networks:
    """The networks that a config names; their variables are made by `init`.

    Raises:
      ValueError: the config says float64 and jax does not have it enabled (see allow_dtype).
    """
    if config.dtype == "float64" and not has_float64():
        raise ValueError('model.dtype float64 needs jax.config.update("jax_enable_x64", True)')
    module = ARCHITECTURES[config.architecture]
    return Networks(Network(module.Generator, config), Network(module.Discriminator, config))
