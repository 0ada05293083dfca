"""A stranger's small networks, in torch.nn and in flax.nnx, and the mistakes that people make in such ports.

Nothing of this project is in them but the kit's idea of what to look for: they stand for code that others wrote. Each
nnx network takes `wrong`, the name of one mistake, and is right without it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F
from flax import nnx
from jax import Array, lax
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

# In torch -------------------------------------------------------------------------------------------------------------


class TorchGenerator(nn.Module):
    """DCGAN's: a linear layer, transposed convolutions, BatchNorm, tanh; latents [n, 6] -> images [n, 3, 12, 12]."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 10 * 3 * 3)
        self.main = nn.Sequential(
            nn.BatchNorm2d(10), nn.ReLU(True), nn.ConvTranspose2d(10, 8, 4, 2, 1, bias=False),
            nn.BatchNorm2d(8), nn.ReLU(True), nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1),
            nn.BatchNorm2d(8), nn.ReLU(True), nn.Conv2d(8, 3, 3, 1, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        return self.main(self.fc(z).view(-1, 10, 3, 3))


class TorchDiscriminator(nn.Module):
    """DCGAN's: strided convolutions, leaky ReLU, BatchNorm, a linear layer on the flattened map; [n, 3, 12, 12]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 4, 2, 1)
        self.conv2 = nn.Conv2d(6, 8, 3, 2, 1)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 8, 3, 1, 1)
        self.norm3 = nn.GroupNorm(4, 8)
        self.fc = nn.Linear(8 * 3 * 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv1(x), 0.2)
        x = F.leaky_relu(self.bn2(self.conv2(x)), 0.2)
        x = F.leaky_relu(self.norm3(self.conv3(x)), 0.2)
        return self.fc(x.flatten(1)).squeeze(1)


class TorchBlock(nn.Module):
    """A residual block of an SN-ResNet's discriminator."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.c1 = spectral_norm(nn.Conv2d(i, o, 3, 1, 1))
        self.c2 = spectral_norm(nn.Conv2d(o, o, 3, 1, 1))
        self.sc = spectral_norm(nn.Conv2d(i, o, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.c2(F.relu(self.c1(F.relu(x))))
        return F.avg_pool2d(h, 2) + F.avg_pool2d(self.sc(x), 2)


class TorchResNet(nn.Module):
    """An SN-ResNet's discriminator with two classes of projection; images [n, 3, 8, 8], labels [n]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(spectral_norm(nn.Conv2d(3, 6, 3, 1, 1)))
        self.block1, self.block2 = TorchBlock(6, 6), TorchBlock(6, 8)
        self.score = spectral_norm(nn.Linear(8, 1))
        self.embed = spectral_norm(nn.Embedding(2, 8))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = F.relu(self.block2(self.block1(self.stem(x)))).sum((2, 3))
        return self.score(h).squeeze(1) + (self.embed(y) * h).sum(1)


class TorchUp(nn.Module):
    """A generator that up-samples: [n, 6] -> [n, 3, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 8 * 4)
        self.norm0 = nn.BatchNorm1d(8 * 4)
        self.conv1 = nn.Conv2d(8, 8, 3, 1, 1)
        self.norm1 = nn.InstanceNorm2d(8, affine=True)
        self.conv2 = nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        h = F.relu(self.norm0(self.fc(z))).view(-1, 8, 2, 2)
        h = F.relu(self.norm1(self.conv1(F.interpolate(h, scale_factor=2, mode="bilinear"))))
        return torch.tanh(self.conv2(F.interpolate(h, scale_factor=2, mode="nearest")))


class TorchMLP(nn.Module):
    """Fully connected on flattened images [n, 2, 4, 4]; LayerNorm, GELU, equal widths, a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(32, 12)
        self.norm = nn.LayerNorm(12)
        self.again = nn.Linear(12, 12)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.norm(self.first(x.flatten(1))))
        h = F.silu(self.again(F.silu(self.again(h))))
        return self.last(h)


class TorchSmall(nn.Module):
    """Pooling, dilation and groups; images [n, 4, 10, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 8, 3, 1, 2, dilation=2)
        self.b = nn.Conv2d(8, 8, 3, 1, 1, groups=2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.a(x)), 3, 2, 1)
        return self.head(F.elu(self.b(x)).mean((2, 3)))


# In flax --------------------------------------------------------------------------------------------------------------


class BatchNorm(nnx.Module):
    """torch's, written by the stranger: unbiased running variance, torch's momentum."""

    def __init__(self, features: int, wrong: str = ""):
        self.scale, self.bias = nnx.Param(jnp.ones(features)), nnx.Param(jnp.zeros(features))
        self.mean, self.var = nnx.BatchStat(jnp.zeros(features)), nnx.BatchStat(jnp.ones(features))
        self.wrong = wrong
        self.use_running_average = False

    def set_view(self, use_running_average: bool | None = None) -> None:
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(self, x: Array) -> Array:
        axes = tuple(range(x.ndim - 1))
        mean, var = jnp.mean(x, axes), jnp.var(x, axes)
        if self.wrong == "batch statistics held constant":
            mean, var = lax.stop_gradient(mean), lax.stop_gradient(var)
        if not self.use_running_average and self.wrong != "running statistics are not kept":
            n = x.size // x.shape[-1]
            m = 0.9 if self.wrong == "momentum of the other convention" else 0.1
            kept = var if self.wrong == "biased running variance" else var * n / (n - 1)
            self.mean.set_value(lax.stop_gradient((1 - m) * self.mean[...] + m * mean))
            self.var.set_value(lax.stop_gradient((1 - m) * self.var[...] + m * kept))
        if self.use_running_average and self.wrong != "batch statistics in evaluation":
            mean, var = self.mean[...], self.var[...]
        eps = 1e-3 if self.wrong == "eps of another framework" else 1e-5
        if self.wrong == "unbiased variance in the normalisation" and not self.use_running_average:
            n = x.size // x.shape[-1]
            var = var * n / (n - 1)
        return (x - mean.reshape((1,) * (x.ndim - 1) + (-1,))) / jnp.sqrt(var + eps) * self.scale[...].reshape(
            (1,) * (x.ndim - 1) + (-1,)
        ) + self.bias[...].reshape((1,) * (x.ndim - 1) + (-1,))


class Generator(nnx.Module):
    """TorchGenerator's port."""

    def __init__(self, rngs: nnx.Rngs, wrong: str = ""):
        self.wrong = wrong
        self.fc = nnx.Linear(6, 90, rngs=rngs)
        self.bn1 = BatchNorm(10, wrong)
        self.up1 = nnx.ConvTranspose(10, 8, (4, 4), (2, 2), padding="SAME", use_bias=False, rngs=rngs)
        self.bn2 = BatchNorm(8)
        padding: Any = "SAME" if wrong == "'SAME' in a transposed convolution" else ((1, 2), (1, 2))
        self.up2 = nnx.ConvTranspose(8, 8, (3, 3), (2, 2), padding=padding, transpose_kernel=True, rngs=rngs)
        self.bn3 = BatchNorm(8)
        self.out = nnx.Conv(8, 3, (3, 3), rngs=rngs)

    def __call__(self, z: Array) -> Array:
        h = self.fc(z)
        if self.wrong == "unflattened as (w, h, c)":
            h = h.reshape(-1, 3, 3, 10).transpose(0, 2, 1, 3)
        else:
            h = h.reshape(-1, 3, 3, 10)
        h = jax.nn.relu(self.bn1(h))
        h = self.bn2(self.up1(h))
        h = h if self.wrong == "a ReLU left out" else jax.nn.relu(h)
        up = self.up2
        if self.wrong == "the kernel of a transposed convolution not turned":
            kernel = jnp.flip(up.kernel[...], (0, 1))
            h = Reader(up, kernel)(h)
        else:
            h = up(h)
        h = self.out(jax.nn.relu(self.bn3(h)))
        return h if self.wrong == "the last tanh left out" else jnp.tanh(h)


class Reader:
    """Calls a layer with another kernel, as a wrong layer of one's own would."""

    def __init__(self, layer: Any, kernel: Array):
        self.layer, self.kernel = layer, kernel

    def __call__(self, x: Array) -> Array:
        kept = self.layer.kernel[...]
        self.layer.kernel.set_value(self.kernel)
        y = self.layer(x)
        self.layer.kernel.set_value(kept)
        return y


class Discriminator(nnx.Module):
    """TorchDiscriminator's port."""

    def __init__(self, rngs: nnx.Rngs, wrong: str = ""):
        self.wrong = wrong
        self.conv1 = nnx.Conv(3, 6, (4, 4), 2, padding=1, rngs=rngs)
        self.conv2 = nnx.Conv(6, 8, (3, 3), 2, padding="SAME" if wrong == "'SAME' at stride 2" else 1, rngs=rngs)
        self.bn2 = BatchNorm(8, wrong)
        self.conv3 = (MirroredConv if wrong == "a convolution for a correlation" else nnx.Conv)(
            8, 8, (3, 3), padding=1, rngs=rngs
        )
        groups = 2 if wrong == "another number of groups" else 4
        eps = 1e-6 if wrong == "flax's eps of GroupNorm" else 1e-5
        self.norm3 = nnx.GroupNorm(8, num_groups=groups, epsilon=eps, use_fast_variance=False, rngs=rngs)
        self.fc = nnx.Linear(72, 1, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        first = 0.01 if self.wrong == "slope of a leaky ReLU" else 0.2
        x = jax.nn.leaky_relu(self.conv1(x), 0.2)
        x = jax.nn.leaky_relu(self.bn2(self.conv2(x)), first)
        x = jax.nn.leaky_relu(self.norm3(self.conv3(x)), 0.2)
        if self.wrong == "flattened as (c, w, h)":
            x = x.transpose(0, 3, 2, 1)
        return self.fc(x.reshape(len(x), -1))[:, 0]


class MirroredConv(nnx.Conv):
    """A convolution in the mathematicians' sense."""

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        kernel = jnp.flip(self.kernel[...], (0, 1))
        y = lax.conv_general_dilated(x, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + self.bias[...].reshape(1, 1, 1, -1)


class SN(nnx.Module):
    """The stranger's own spectral norm around a layer with a kernel or an embedding."""

    def __init__(self, layer: Any, rngs: nnx.Rngs, wrong: str = ""):
        self.layer, self.wrong = layer, wrong
        self.name = "kernel" if hasattr(layer, "kernel") else "embedding"
        rows = self.matrix(getattr(layer, self.name)[...])
        self.u = nnx.BatchStat(jax.random.normal(rngs.params(), rows.shape[:1]))
        self.v = nnx.BatchStat(jax.random.normal(rngs.params(), rows.shape[1:]))
        self.deterministic = False

    def set_view(self, deterministic: bool | None = None) -> None:
        if deterministic is not None:
            self.deterministic = deterministic

    def matrix(self, w: Array) -> Array:
        return w if self.name == "embedding" else w.reshape(-1, w.shape[-1]).T

    def __call__(self, x: Array) -> Array:
        kernel = getattr(self.layer, self.name)
        stored = kernel[...]
        w = lax.stop_gradient(self.matrix(stored))
        u, v = self.u[...], self.v[...]
        wrong = self.wrong
        count = 2 if wrong == "two iterations a pass" else 1
        if not self.deterministic or wrong == "an iteration in evaluation":
            for _ in range(count):
                if wrong == "u renewed before v":
                    u = w @ v / jnp.linalg.norm(w @ v)
                v = w.T @ u / jnp.linalg.norm(w.T @ u)
                if wrong != "u renewed before v":
                    u = w @ v / jnp.linalg.norm(w @ v)
        if not self.deterministic:
            self.u.set_value(u)
            self.v.set_value(v)
        sigma = u @ self.matrix(stored) @ v
        if wrong == "sigma held constant":
            sigma = lax.stop_gradient(sigma)
        if wrong == "the largest singular value itself":
            sigma = jnp.linalg.norm(w, 2)
        kernel.set_value(stored if wrong == "a layer not normalised" else stored / sigma)
        y = self.layer(x)
        kernel.set_value(stored / sigma if wrong == "the kernel overwritten" else stored)
        return y


class Block(nnx.Module):
    """TorchBlock's port."""

    def __init__(self, i: int, o: int, rngs: nnx.Rngs, wrong: str = ""):
        self.wrong = wrong
        self.c1 = SN(nnx.Conv(i, o, (3, 3), padding=1, rngs=rngs), rngs)
        self.c2 = SN(nnx.Conv(o, o, (3, 3), padding=1, rngs=rngs), rngs, wrong)
        self.sc = SN(nnx.Conv(i, o, (1, 1), rngs=rngs), rngs)

    def __call__(self, x: Array) -> Array:
        h = self.c2(jax.nn.relu(self.c1(jax.nn.relu(x))))
        short = jax.nn.relu(x) if self.wrong == "a shortcut that sees the ReLU's result" else x
        if self.wrong == "the shortcut left out":
            return pooled(h)
        return pooled(h) + pooled(self.sc(short))


def pooled(x: Array) -> Array:
    """Means of 2x2."""
    return nnx.avg_pool(x, (2, 2), (2, 2))


class ResNet(nnx.Module):
    """TorchResNet's port."""

    def __init__(self, rngs: nnx.Rngs, wrong: str = ""):
        self.wrong = wrong
        self.stem = nnx.Sequential(SN(nnx.Conv(3, 6, (3, 3), padding=1, rngs=rngs), rngs))
        self.block1, self.block2 = Block(6, 6, rngs, wrong), Block(6, 8, rngs)
        self.score = SN(nnx.Linear(8, 1, rngs=rngs), rngs)
        self.embed = SN(nnx.Embed(2, 8, rngs=rngs), rngs)

    def __call__(self, x: Array, y: Array) -> Array:
        h = jax.nn.relu(self.block2(self.block1(self.stem(x))))
        h = jnp.mean(h, (1, 2)) if self.wrong == "a mean over the map for its sum" else jnp.sum(h, (1, 2))
        projected = jnp.sum(self.embed(y) * h, 1)
        return self.score(h)[:, 0] + projected


class Up(nnx.Module):
    """TorchUp's port."""

    def __init__(self, rngs: nnx.Rngs, wrong: str = ""):
        self.wrong = wrong
        self.fc = nnx.Linear(6, 32, rngs=rngs)
        self.norm0 = BatchNorm(32)
        self.conv1 = nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.norm1 = nnx.InstanceNorm(8, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.conv2 = nnx.Conv(8, 3, (3, 3), rngs=rngs)

    def __call__(self, z: Array) -> Array:
        h = jax.nn.relu(self.norm0(self.fc(z))).reshape(-1, 2, 2, 8)
        h = jax.image.resize(h, (len(h), 4, 4, 8), "nearest" if self.wrong == "nearest for bilinear" else "bilinear")
        h = jax.nn.relu(self.norm1(self.conv1(h)))
        if self.wrong == "the map repeated, not its pixels":
            h = jnp.tile(h, (1, 2, 2, 1))
        else:
            h = jnp.repeat(jnp.repeat(h, 2, 1), 2, 2)
        return jnp.tanh(self.conv2(h))


class TransposedLinear(nnx.Linear):
    """x W^T for x W."""

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        return x @ self.kernel[...].T + self.bias[...].reshape(1, -1)


class MLP(nnx.Module):
    """TorchMLP's port."""

    def __init__(self, rngs: nnx.Rngs, wrong: str = ""):
        self.wrong = wrong
        self.first = nnx.Linear(32, 12, rngs=rngs)
        eps = 1e-6 if wrong == "flax's eps of LayerNorm" else 1e-5
        self.norm = nnx.LayerNorm(12, epsilon=eps, use_fast_variance=False, rngs=rngs)
        self.again = (TransposedLinear if wrong == "a linear kernel not transposed" else nnx.Linear)(12, 12, rngs=rngs)
        self.last = nnx.Linear(12, 4, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        h = self.norm(self.first(x.reshape(len(x), -1)))
        h = jax.nn.gelu(h, approximate=self.wrong == "jax.nn.gelu's default")
        again = self.again(h)
        if self.wrong == "the gradient stopped":
            again = lax.stop_gradient(again)
        h = jax.nn.silu(self.again(jax.nn.silu(again)))
        if self.wrong == "a bias left out":
            return h @ self.last.kernel[...]
        return self.last(h)


class Unbiased(nnx.Conv):
    """A convolution that forgets its bias."""

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        return super().__call__(x) - self.bias[...].reshape(1, 1, 1, -1)


class Small(nnx.Module):
    """TorchSmall's port."""

    def __init__(self, rngs: nnx.Rngs, wrong: str = ""):
        self.wrong = wrong
        dilation, padding = (1, 1) if wrong == "dilation left out" else (2, 2)
        self.a = nnx.Conv(4, 8, (3, 3), padding=padding, kernel_dilation=dilation, rngs=rngs)
        kind = Unbiased if wrong == "a bias left out" else nnx.Conv
        self.b = kind(8, 8, (3, 3), padding=1, feature_group_count=2, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        padding: Any = "SAME" if self.wrong == "'SAME' in a pooling" else ((1, 1), (1, 1))
        x = nnx.max_pool(jax.nn.relu(self.a(x)), (3, 3), (2, 2), padding)
        x = self.b(x)
        if self.wrong == "the activation after the mean":
            return self.head(jax.nn.elu(jnp.mean(x, (1, 2))))
        return self.head(jnp.mean(jax.nn.elu(x), (1, 2)))
