"""climb: a whole GAN beside its torch program, rung by rung: networks, losses, one update, whole runs."""

import html
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jax_sngan.core.gan import GAN
from jax_sngan.core.inputs import Inputs, draw_inputs, drawing
from jax_sngan.core.state import TrainState, first_state
from jax_sngan.core.step import train_step
from jax_sngan.system.errors import UserError
from parity_kit.gans import SHORT, Carried, TorchGAN, in_float64, wide_copy
from parity_kit.matching import Names
from parity_kit.report import Row, finite, relative

# Relative, in float64. Losses: torch's softplus is straight above 20, which is off by 2e-9. One update. A whole run, or
# ten times torch's own growth if that is more.
LOSS, UPDATE, RUN = 1e-8, 1e-9, 1e-8
_MOVED = 1e-15  # by how much, relatively, the second torch run's start is moved


@dataclass
class Climb:
    """What was found on the way up."""

    rows: list[Row]
    # {"step", "apart", "torch", "losses"}: the largest error of a parameter, torch's from itself, and of the losses
    growth: list[dict[str, float]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every row is within its tolerance."""
        return all(row.passed for row in self.rows)

    @property
    def worst(self) -> float:
        """The largest relative error before the whole runs."""
        return max((r.error for r in self.rows if r.of != "runs"), default=0.0)

    def raise_if_different(self) -> None:
        """For a test, as Report.raise_if_different.

        Raises:
          AssertionError: a rung failed; its text is the table.
        """
        __tracebackhide__ = True
        if not self.passed:
            raise AssertionError(f"the two differ\n{self}")

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is not finite is null."""
        rows = [{"rung": r.of, "case": r.what, "error": finite(r.error), "passed": r.passed} for r in self.rows]
        growth = [{name: finite(x) for name, x in entry.items()} for entry in self.growth]
        return {"passed": self.passed, "rows": rows, "growth": growth}

    def __str__(self) -> str:
        width = max(len(r.what) for r in self.rows)
        lines = [f"{r.of:8}  {r.what:{width}}  {r.error:.1e}  {'ok' if r.passed else 'FAIL'}" for r in self.rows]
        lines += ["", "step   parameters, nnx from torch   torch from itself, its start moved by 1e-15   losses"]
        lines += [f"{g['step']:<6.0f} {g['apart']:<28.1e} {g['torch']:<44.1e} {g['losses']:.1e}" for g in self.growth]
        return "\n".join([*lines, "PASS" if self.passed else "FAIL"])

    def plot(self, path: str | Path) -> None:
        """The growth of both differences, on logarithmic axes; the suffix says the format."""
        figure = self._figure()
        figure.savefig(path, dpi=120)

    def _figure(self) -> Any:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        steps = [g["step"] for g in self.growth]
        for name, label in (("apart", "nnx from torch"), ("torch", "torch from itself")):
            axes.loglog(steps, [max(g[name], 1e-17) for g in self.growth], marker="o", markersize=3, label=label)
        axes.set_xlabel("training steps")
        axes.set_ylabel("largest relative difference of a parameter")
        axes.legend()
        return figure

    def html(self, path: str | Path) -> None:
        """A page of its own: the table and the plot."""
        drawn = io.StringIO()
        self._figure().savefig(drawn, format="svg")
        picture = drawn.getvalue()
        cells = "".join(
            f"<tr><td>{html.escape(r.of)}</td><td>{html.escape(r.what)}</td><td>{r.error:.1e}</td>"
            f"<td>{'ok' if r.passed else 'FAIL'}</td></tr>"
            for r in self.rows
        )
        Path(path).write_text(
            "<!doctype html><meta charset=utf-8><title>From rung to rung</title><style>body{font:16px sans-serif;"
            "max-width:50em;margin:2em auto}td,th{padding:.2em .8em;text-align:left}</style>"
            f"<h1>{'Passed' if self.passed else 'Failed'}</h1><table><tr><th>rung<th>case<th>relative error<th></tr>"
            f"{cells}</table>{picture[picture.index('<svg') :]}",
            encoding="utf-8",
        )

    def dumps(self) -> str:
        """as_json as text."""
        return json.dumps(self.as_json(), allow_nan=False, indent=1)


def climb(
    torch_gan: Any,
    gan: GAN,
    data: Any,
    steps: int = 200,
    *,
    batch_size: int = 8,
    seed: int = 0,
    names: dict[str, Names] | None = None,
) -> Climb:
    """Compares a GAN with its torch program in float64: losses, one update with every moment, whole runs.

    Both start from the torch program's weights and fresh optimisers, and are given the same inputs. Neither is changed.
    The whole runs are told beside torch's own: a second torch run from a start moved by 1e-15.

    Args:
      torch_gan: a TorchGAN, or anything with its networks, optimisers and `step`.
      data: uint8 images [n, h, w, c], or a Dataset.
      steps: of the whole runs, at least 1.
      batch_size: real images in one D update.
      names: of "generator" and "discriminator", as load_state_dict takes them.
    Raises:
      UserError: the GAN draws random numbers in its step, or weights do not fit.
    """
    if steps < 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    images = data if hasattr(data, "images") else SimpleNamespace(images=np.asarray(data), labels=None)
    with jax.enable_x64(True):
        wide = in_float64(gan)
        _check_step(torch_gan, wide)
        theirs, moved = wide_copy(torch_gan), wide_copy(torch_gan)
        _move(moved, seed)
        plan = drawing(wide, batch_size=batch_size, seed=seed)
        inputs = [_floats(draw_inputs(plan, images, k)) for k in range(steps)]
        carried, state = _start(theirs, wide, inputs[0], names or {})
        found = Climb(_losses(torch_gan, wide, seed))
        step = train_step(wide)
        records = {n for n in (1, 2, 3, 5, 8, 13, 20, 30, 50, 80, 120, 200, 300, 500, 800) if n <= steps} | {steps}
        for k in range(steps):
            state, logs = step(state, jax.tree.map(jnp.asarray, inputs[k]))
            other, again = (own.step(_tensors(inputs[k])) for own in (theirs, moved))
            del again
            if k == 0:
                found.rows += _update(carried, state, theirs, logs, other)
            if k + 1 in records:
                own = max(c.apart(_params(c, moved), _params(c, theirs))[0] for c in carried)
                apart = max(c.apart(_ours(c, state), _params(c, theirs))[0] for c in carried)
                losses = max(relative(np.asarray(logs[n]), other[n].detach().numpy()) for n in ("d_loss", "g_loss"))
                found.growth.append({"step": float(k + 1), "apart": apart, "torch": own, "losses": losses})
        last = found.growth[-1]
        allowed = max(RUN, 10 * last["torch"])
        found.rows.append(Row("runs", f"parameters after {steps} steps", last["apart"], last["apart"] <= allowed))
        return found


def _check_step(torch_gan: Any, gan: GAN) -> None:
    """TorchGAN's own step does what some GANs do, and no more."""
    if getattr(type(torch_gan), "step", None) is not TorchGAN.step:
        return
    more = [n for n, plain in (("penalty", None), ("accumulate", 1), ("weight_clip", 0.0)) if getattr(gan, n) != plain]
    more += ["loss"] if gan.loss.g_sees_real else []
    more += [n for n in ("update_order", "passes") if getattr(gan, n) != getattr(torch_gan, n)]
    if more:
        raise UserError(f"TorchGAN.step does not do what the GAN's {', '.join(more)} says; override it in a subclass")


def _floats(inputs: Inputs) -> Inputs:
    images = np.asarray(inputs.real_images)
    floats = images.astype(np.float64) / 127.5 - 1 if images.dtype == np.uint8 else images.astype(np.float64)
    return inputs._replace(real_images=floats)  # type: ignore[arg-type]  # numpy's, given to both


def _tensors(inputs: Inputs) -> dict[str, torch.Tensor]:
    found = {n: np.array(a) for n, a in inputs._asdict().items() if a is not None}
    found["real_images"] = np.ascontiguousarray(np.moveaxis(found["real_images"], -1, -3))
    return {n: torch.from_numpy(a).long() if a.dtype.kind == "i" else torch.from_numpy(a) for n, a in found.items()}


def _move(gan: Any, seed: int) -> None:
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for p in (*gan.generator.parameters(), *gan.discriminator.parameters()):
            p.mul_(torch.from_numpy(1 + _MOVED * draw.choice([-1.0, 1.0], tuple(p.shape))))


def _start(theirs: Any, gan: GAN, inputs: Inputs, names: dict[str, Names]) -> tuple[list[Carried], TrainState]:
    carried, variables = [], []
    given = {
        "generator": (np.asarray(inputs.g_latents), inputs.g_labels),
        "discriminator": (
            np.asarray(inputs.real_images[0]),
            None if inputs.real_labels is None else inputs.real_labels[0],
        ),
    }
    for role in SHORT:
        make, module = getattr(gan, role), getattr(theirs, role)
        arguments = tuple(np.asarray(a) for a in given[role] if a is not None)
        one, own = Carried.of(role, make, module.state_dict(), names.get(role), module, arguments)
        carried.append(one)
        variables.append(own)
    return carried, first_state(gan, *variables)


def _losses(torch_gan: Any, gan: GAN, seed: int) -> list[Row]:
    if not hasattr(torch_gan, "d_loss"):
        return []
    draw = np.random.default_rng(seed)
    rows = []
    for case, scale in (("ordinary scores", 1.0), ("scores far out", 30.0)):
        real, fake = draw.normal(size=(2, 16)) * scale
        tensors = [torch.tensor(a, requires_grad=True) for a in (real, fake)]
        pairs = {
            "D's loss": (torch_gan.d_loss(*tensors), gan.loss.d),
            "G's loss": (torch_gan.g_loss(tensors[1]), gan.loss.g),
        }
        for what, (expected, ours) in pairs.items():
            slopes = torch.autograd.grad(expected, tensors, allow_unused=True)
            given = (jnp.asarray(real) if what == "D's loss" or gan.loss.g_sees_real else None, jnp.asarray(fake))
            value, own = jax.value_and_grad(lambda r, f, ours=ours: ours(r, f), argnums=1)(*given)
            error = relative(np.asarray(value), expected.detach().numpy())
            error = max(error, relative(np.asarray(own), slopes[1].numpy() if slopes[1] is not None else 0 * fake))
            rows.append(Row("losses", f"{what} and its gradient, {case}", error, error <= LOSS))
    return rows


def _update(carried: list[Carried], state: TrainState, theirs: Any, logs: Any, other: Any) -> list[Row]:
    rows = []
    for name in ("d_loss", "g_loss"):
        error = relative(np.asarray(logs[name]), other[name].detach().numpy())
        rows.append(Row("update", name, error, error <= UPDATE))
    for c in carried:
        variables, module = getattr(state, c.role), getattr(theirs, c.role)
        error, name = c.apart(c.ours(variables), c.theirs(module.state_dict()))
        rows.append(Row("update", f"the {c.role}'s parameters and state ({name})", error, error <= UPDATE))
        optimizer = getattr(theirs, f"{c.role}_optimizer")
        named = dict(module.named_parameters())
        for ours, torchs in (("mu", "exp_avg"), ("nu", "exp_avg_sq")):
            moments = {n: optimizer.state[p][torchs] for n, p in named.items() if torchs in optimizer.state[p]}
            own = _moments(getattr(state, f"{c.role}_opt"), ours)
            if moments and own is not None:
                error, name = c.apart(c.ours(variables._replace(params=own)), c.theirs(moments))
                rows.append(Row("update", f"the {c.role}'s {torchs} ({name})", error, error <= UPDATE))
    return rows


def _moments(optimizer: Any, name: str) -> Any:
    """Adam's trees in an optax state, wherever they are."""
    entries = jax.tree.leaves(optimizer, is_leaf=lambda x: hasattr(x, "mu") and hasattr(x, "nu"))
    return next((getattr(e, name) for e in entries if hasattr(e, name)), None)


def _params(c: Carried, gan: Any) -> dict[str, np.ndarray]:
    return c.theirs(dict(getattr(gan, c.role).named_parameters()))


def _ours(c: Carried, state: TrainState) -> dict[str, np.ndarray]:
    return c.ours(getattr(state, c.role))
