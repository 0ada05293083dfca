"""A GAN's two networks beside their torch originals, in float64: carried over, and compared array by array."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from jax_sngan.core.gan import GAN
from jax_sngan.interop import state_dicts
from jax_sngan.models.network import Network, Variables, network_of
from jax_sngan.system.errors import UserError
from parity_kit import loading
from parity_kit.layers import NnxLayer, layers_of
from parity_kit.locate import Layouts, find_flats
from parity_kit.matching import Names
from parity_kit.sides import nnx_in

SHORT = {"generator": "g", "discriminator": "d"}


@dataclass(frozen=True)
class InFloat64:
    """What a GAN makes, in float64 and without dropout; equal for equal makers, so that it is compiled once."""

    make: Callable[[nnx.Rngs], nnx.Module]

    def __call__(self, rngs: nnx.Rngs) -> nnx.Module:
        """A fresh module."""
        return nnx_in(self.make(rngs), jnp.float64)

    @property
    def order(self) -> list[str]:
        """Paths of the layers in the order of their making, which nnx's copies lose."""
        return [layer.path for layer in layers_of(self.make(nnx.Rngs(0)))]


def in_float64(gan: GAN) -> GAN:
    """The same GAN with float64 networks, at the highest precision.

    Raises:
      UserError: it draws random numbers in its step, which no other framework draws.
    """
    wide = dataclasses.replace(
        gan,
        generator=InFloat64(gan.generator),
        discriminator=InFloat64(gan.discriminator),
        dtype="float64",
        precision="highest",
    )
    if wide.needs_keys:
        raise UserError(
            "this GAN draws random numbers in its step (a penalty between images, augmentation, dequantisation); the"
            " torch program draws others; compare it without, or the networks alone by parity_kit.compare"
        )
    return wide


@dataclass
class TorchGAN:
    """The torch program: networks, losses and optimisers, and one training step of them.

    `step` does what GAN's fields of the same names say. A program that does otherwise (a penalty, an own order)
    overrides it in a subclass.

    Attributes:
      d_loss: (real scores [n], fake scores [n]) -> []. g_loss: (fake scores [n]) -> [].
      generator_optimizer, discriminator_optimizer: of these networks' parameters.
    """

    generator: torch.nn.Module
    discriminator: torch.nn.Module
    d_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    g_loss: Callable[[torch.Tensor], torch.Tensor]
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    update_order: str = "discriminator_first"
    passes: str = "separate"

    def step(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One training step on the inputs of core.inputs.Inputs, images [n_dis, batch, c, h, w] in [-1, 1].

        Returns:
          {"d_loss": [n_dis], "g_loss": []}.
        """
        self.generator.train()
        self.discriminator.train()
        first = [self._g(inputs)] if self.update_order == "generator_first" else []
        d = [
            self._d({n: a[i] for n, a in inputs.items() if not n.startswith("g_")})
            for i in range(len(inputs["d_latents"]))
        ]
        (g,) = first or [self._g(inputs)]
        return {"d_loss": torch.stack(d), "g_loss": g}

    def _d(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        self.discriminator_optimizer.zero_grad()
        with torch.no_grad():
            fake = self._call(self.generator, inputs["d_latents"], inputs.get("d_labels"))
        real, labels = inputs["real_images"], inputs.get("real_labels")
        if self.passes == "joint":
            both = None if labels is None else torch.cat([labels, inputs["d_labels"]])
            scores = self._call(self.discriminator, torch.cat([real, fake]), both).reshape(-1)
            real_scores, fake_scores = scores[: len(real)], scores[len(real) :]
        else:
            real_scores = self._call(self.discriminator, real, labels).reshape(-1)
            fake_scores = self._call(self.discriminator, fake, inputs.get("d_labels")).reshape(-1)
        loss = self.d_loss(real_scores, fake_scores)
        loss.backward()
        self.discriminator_optimizer.step()
        return loss.detach()

    def _g(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        self.generator_optimizer.zero_grad()
        labels = inputs.get("g_labels")
        fake = self._call(self.generator, inputs["g_latents"], labels)
        loss = self.g_loss(self._call(self.discriminator, fake, labels).reshape(-1))
        loss.backward()
        self.generator_optimizer.step()
        return loss.detach()

    def _call(self, network: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        result: torch.Tensor = network(x) if labels is None else network(x, labels)
        return result


def wide_copy(gan: Any) -> Any:
    """A deep copy of a torch program in float64, its optimisers still of its own networks."""
    memo: dict[int, Any] = {}
    for part in (p for network in (gan.generator, gan.discriminator) for p in network.modules()):
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    own = copy.deepcopy(gan, memo)
    for network in (own.generator, own.discriminator):
        network.double()
    return own


@dataclass
class Carried:
    """One network of a GAN and its torch original's arrays, matched."""

    role: str
    network: Network
    module: nnx.Module  # that the start was put into
    layers: list[NnxLayer]  # its layers in the order of their making
    loaded: loading.Loaded
    layouts: Layouts

    @classmethod
    def of(
        cls, role: str, make: InFloat64, state: Mapping[str, Any], names: Names | None, theirs: torch.nn.Module | None,
        inputs: tuple[Any, ...],
    ) -> tuple["Carried", Variables]:  # fmt: skip
        """The match, and the network's variables with these weights.

        Args:
          state: torch's state dict. theirs: the module that it is of, from which the order of flattened maps is found
            by running both on `inputs`; None: they are guessed from channels, where the network's are of another size.
        Raises:
          UserError: they do not fit.
        """
        network = network_of(make, role)
        module = network.module(network.init(jax.random.key(0)))
        order = make.order
        layers = sorted(layers_of(module), key=lambda layer: order.index(layer.path))
        torch_layers = loading.called(theirs) if theirs is not None else loading.read(state)[0]
        loaded = loading.matched(torch_layers, layers, names)
        wrong = [
            f"{w} {loading.some(getattr(loaded, w))}" for w in ("missing", "extra", "misshapen") if getattr(loaded, w)
        ]
        if wrong:
            raise UserError(f"the {role}'s weights do not fit: {'; '.join(wrong)}")
        layouts = Layouts.of(loaded.pairs)
        if theirs is not None:
            layouts = layouts._replace(flats=find_flats(theirs, module, loaded, layouts, inputs, {}))
        loading.put(loaded, layouts.flats)
        return cls(role, network, module, layers, loaded, layouts), network.variables_of(module)

    def ours(self, variables: Variables, fields: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
        """Arrays by name, as the nnx module holds them; fields: of these alone."""
        layers = {layer.path: layer for layer in layers_of(self.network.module(variables))}
        return {
            f"{SHORT[self.role]}/{pair.torch.names.get(f, f'{pair.torch.name}.{f}')}": np.asarray(
                slot.variable.get_value()
            )
            for pair in self.loaded.pairs
            for f, slot in layers[pair.nnx.path].slots.items()
            if not fields or f in fields
        }

    def theirs(self, state: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """torch's arrays, by torch's names, under the same names and in the same layouts."""
        found = {}
        for pair in self.loaded.pairs:
            for f in pair.nnx.slots:
                name = pair.torch.names.get(f)
                if name is not None and name in state:
                    found[f"{SHORT[self.role]}/{name}"] = self.layouts.slot(
                        pair, f, state_dicts.as_numpy(name, state[name])
                    )
        return found
