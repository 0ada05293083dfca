"""parity_kit.climb and replay on a GAN of one's own: a right pair climbs, a wrong one falls on the right rung."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

import parity_kit
from jax_sngan.core.gan import GAN
from jax_sngan.core.losses import Loss
from jax_sngan.system.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 2), dtype=np.uint8)


pytestmark = pytest.mark.usefixtures("as_strangers_have_it")


class TorchG(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.conv = nn.Linear(5, 6 * 2 * 2), nn.ConvTranspose2d(6, 2, 4, 2, 1)

    def forward(self, z):
        return torch.tanh(self.conv(torch.relu(self.fc(z)).view(-1, 6, 2, 2)))


class TorchD(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.utils.spectral_norm(nn.Conv2d(2, 6, 3, 1, 1))
        self.fc = nn.Linear(6 * 16, 1)

    def forward(self, x):
        return self.fc(nn.functional.leaky_relu(self.conv(x), 0.2).flatten(1))


class G(nnx.Module):
    def __init__(self, rngs):
        self.fc = nnx.Linear(5, 24, rngs=rngs)
        self.conv = nnx.ConvTranspose(6, 2, (4, 4), (2, 2), padding="SAME", rngs=rngs)

    def __call__(self, z):
        return jnp.tanh(self.conv(jax.nn.relu(self.fc(z)).reshape(-1, 2, 2, 6)))


class D(nnx.Module):
    def __init__(self, rngs):
        from jax_sngan.nn.spectral_norm import SpectralNorm

        self.conv = SpectralNorm(nnx.Conv(2, 6, (3, 3), padding=1, rngs=rngs), rngs=rngs)
        self.fc = nnx.Linear(96, 1, rngs=rngs)

    def __call__(self, x):
        return self.fc(jax.nn.leaky_relu(self.conv(x), 0.2).reshape(len(x), -1))[:, 0]


def torch_d_loss(real, fake):
    return nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()


def torch_g_loss(fake):
    return nn.functional.softplus(-fake).mean()


def torch_gan():
    torch.manual_seed(0)
    g, d = TorchG(), TorchD()
    return parity_kit.TorchGAN(g, d, torch_d_loss, torch_g_loss,
                               torch.optim.Adam(g.parameters(), 1e-3, (0.5, 0.9)),
                               torch.optim.Adam(d.parameters(), 1e-3, (0.5, 0.9)))  # fmt: skip


def d_loss(real, fake):
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def g_loss(real, fake):
    return jnp.mean(jax.nn.softplus(-fake))


GAN_OF_MINE = GAN(
    generator=G,
    discriminator=D,
    latent_size=5,
    image_shape=(4, 4, 2),
    loss=Loss(d_loss, g_loss, g_sees_real=False),
    generator_optimizer=optax.adam(1e-3, 0.5, 0.9),
    discriminator_optimizer=optax.adam(1e-3, 0.5, 0.9),
    n_dis=2,
)


def test_a_right_pair_climbs_to_the_top(tmp_path):
    climbed = parity_kit.climb(torch_gan(), GAN_OF_MINE, IMAGES, steps=20)
    assert climbed.passed, climbed
    assert max(row.error for row in climbed.rows if row.of in ("update", "runs")) < 1e-12
    assert climbed.worst < 3e-9  # torch's softplus is straight above 20
    cases = {row.what for row in climbed.rows}
    for case in ("d_loss", "g_loss", "D's loss and its gradient, scores far out", "parameters after 20 steps"):
        assert case in cases
    assert sum("exp_avg" in case for case in cases) == 4
    assert [g["step"] for g in climbed.growth] == [1, 2, 3, 5, 8, 13, 20]
    assert all(g["torch"] > 0 for g in climbed.growth)
    assert json.loads(climbed.dumps())["passed"]
    climbed.html(tmp_path / "page.html")
    climbed.plot(tmp_path / "growth.png")
    assert "<svg" in (tmp_path / "page.html").read_text()
    assert (tmp_path / "growth.png").stat().st_size > 1000


def rungs(gan, **more):
    return {row.of for row in parity_kit.climb(torch_gan(), gan, IMAGES, steps=2, **more).rows if not row.passed}


WRONG = {
    "the saturating loss": (
        {"loss": Loss(d_loss, lambda real, fake: -jnp.mean(jax.nn.softplus(fake)), g_sees_real=False)},
        {"losses", "update", "runs"},
    ),
    "another beta": ({"discriminator_optimizer": optax.adam(1e-3, 0.5, 0.999)}, {"update", "runs"}),
    "eps beside the other root": (
        {"generator_optimizer": optax.adam(1e-3, 0.5, 0.9, eps_root=1e-8)},
        {"update", "runs"},
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_pair_falls_on_its_rung(wrong):
    change, expected = WRONG[wrong]
    assert rungs(dataclasses.replace(GAN_OF_MINE, **change)) == expected


def test_what_is_refused():
    with pytest.raises(UserError, match="steps must be at least 1"):
        parity_kit.climb(torch_gan(), GAN_OF_MINE, IMAGES, steps=0)
    with pytest.raises(UserError, match=r"does not do what the GAN's weight_clip, passes says"):
        parity_kit.climb(torch_gan(), dataclasses.replace(GAN_OF_MINE, weight_clip=0.1, passes="joint"), IMAGES)
    with pytest.raises(UserError, match="draws random numbers in its step"):
        parity_kit.climb(torch_gan(), dataclasses.replace(GAN_OF_MINE, dequantize=True), IMAGES)


# Replays of a program of one's own ------------------------------------------------------------------------------------


def recorded(path, steps=3, batch=4):
    """A few steps of the torch program as it would record itself."""
    draw = np.random.default_rng(5)
    gan = torch_gan()
    gan.generator.double(), gan.discriminator.double()
    arrays = {
        "inputs/real_images": draw.uniform(-1, 1, (steps, 2, batch, 4, 4, 2)),
        "inputs/d_latents": draw.normal(size=(steps, 2, batch, 5)),
        "inputs/g_latents": draw.normal(size=(steps, batch, 5)),
        "sample/latents": draw.normal(size=(3, 5)),
    }
    networks = {"g": gan.generator, "d": gan.discriminator}

    def dump(when):
        return {f"{when}/{s}/{n}": a.numpy().copy() for s, m in networks.items() for n, a in m.state_dict().items()}

    arrays |= dump("init")
    d, g = [], []
    for k in range(steps):
        images = np.moveaxis(arrays["inputs/real_images"][k], -1, -3).copy()
        inputs = {"real_images": images, **{n: arrays[f"inputs/{n}"][k] for n in ("d_latents", "g_latents")}}
        logs = gan.step({n: torch.from_numpy(a) for n, a in inputs.items()})
        d.append(logs["d_loss"].numpy())
        g.append(logs["g_loss"].numpy())
    arrays |= dump("final") | {"losses/d": np.stack(d), "losses/g": np.stack(g)}
    with torch.no_grad():
        drawn = gan.generator.eval()(torch.from_numpy(arrays["sample/latents"])).numpy()
    arrays["sample/images"] = np.moveaxis(drawn, 1, -1)
    np.savez(path, **arrays)
    return arrays


def test_a_recording_of_ones_own_program(tmp_path):
    arrays = recorded(tmp_path / "run.npz")
    found = parity_kit.replay(tmp_path / "run.npz", gan=GAN_OF_MINE)
    assert sorted(found.deviations) == ["d_params", "g_params", "images", "losses", "spectral"]
    assert found.error < 1e-9, found.deviations
    arrays["losses/g"][1] += 1e-6
    np.savez(tmp_path / "moved.npz", **arrays)
    moved = parity_kit.replay(tmp_path / "moved.npz", gan=GAN_OF_MINE)
    assert moved.deviations["losses"].error == pytest.approx(1e-6, rel=1e-3)
    assert moved.loss_errors[1] == moved.error > 1e3 * moved.loss_errors[0]


def test_what_a_recording_lacks_is_told(tmp_path):
    arrays = recorded(tmp_path / "run.npz")
    del arrays["inputs/g_latents"]
    np.savez(tmp_path / "less.npz", **arrays)
    with pytest.raises(UserError, match=r"less\.npz: missing inputs/g_latents; it has .*inputs/d_latents"):
        parity_kit.replay(tmp_path / "less.npz", gan=GAN_OF_MINE)
    with pytest.raises(UserError, match="2 D updates a step, the GAN's n_dis is 1"):
        parity_kit.replay(tmp_path / "run.npz", gan=dataclasses.replace(GAN_OF_MINE, n_dis=1))
    with pytest.raises(UserError, match="no file"):
        parity_kit.replay(tmp_path / "absent.npz", gan=GAN_OF_MINE)
    with pytest.raises(UserError, match="names needs a gan"):
        parity_kit.replay(tmp_path / "run.npz", names={"a": "b"})
