"""climb: a whole GAN beside its torch program, rung by rung: networks, losses, one update, whole runs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
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
from jax_sngan.reports import plots
from jax_sngan.system.errors import UserError
from parity_kit import page
from parity_kit.gans import SHORT, Carried, TorchGAN, in_float64, wide_copy
from parity_kit.growth import Flat, Growth, Run, grow, moved
from parity_kit.matching import Names
from parity_kit.rows import Row, Tolerance, finite, largest, relative, worst

# Relative, in float64; what a whole run may at least.
LOSS = Tolerance(1e-8, "torch's softplus is straight above 20, which is off by 2e-9")
UPDATE = Tolerance(1e-9, "one update in float64: rounding of 1e-14, in a run's first step 1e-12 after Adam's division")
RUN = Tolerance(1e-8, "a whole run in float64, whose rounding grows to 1e-11")
LOSSES = ("d_loss", "g_loss")
MOMENTS = {"mu": "exp_avg", "nu": "exp_avg_sq"}  # optax's names and torch's
_RECORDED = (1, 2, 3, 5, 8, 13, 20, 30, 50, 80, 120, 200, 300, 500, 800)  # the steps after which runs are compared


@dataclass
class Climb:
    """What was found on the way up; the project's own report is one, of its rungs' tests."""

    rows: list[Row]
    # {"step", "apart", "torch", "losses"}: the largest error of a parameter, torch's from itself, and of the losses
    growth: list[dict[str, float]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)  # to be drawn, as Growth.plot gives them
    error: str = ""  # what could not be run
    about: dict[str, Any] = field(default_factory=dict)  # what else as_json has

    @property
    def passed(self) -> bool:
        """Whether there are rows, every one within its tolerance."""
        return bool(self.rows) and all(row.passed for row in self.rows) and not self.error

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
        cases = [row.as_json() for row in self.rows]
        drawn = [c | {"lines": {n: list(map(finite, ys)) for n, ys in c["lines"].items()}} for c in self.curves]
        return {"passed": self.passed, **self.about, "cases": cases, "growth": drawn, "growth_error": self.error}

    def dumps(self) -> str:
        """as_json as text."""
        return json.dumps(self.as_json(), allow_nan=False, indent=1)

    def __str__(self) -> str:
        rungs, width = (max((len(getattr(r, name)) for r in self.rows), default=0) for name in ("of", "what"))
        lines = [f"{r.of:{rungs}}  {r.what:{width}}  {r.error:.1e}  {'ok' if r.passed else 'FAIL'}" for r in self.rows]
        if self.growth:
            lines += ["", "step   parameters, nnx from torch   torch from itself, its start moved by 1e-15   losses"]
        lines += [f"{g['step']:<6.0f} {g['apart']:<28.1e} {g['torch']:<44.1e} {g['losses']:.1e}" for g in self.growth]
        return "\n".join([*lines, *filter(None, [self.error]), "PASS" if self.passed else "FAIL"])

    def plot(self, path: str | Path) -> None:
        """The growth of the differences, on a logarithmic axis; the suffix says the format."""
        plots.figure([page.plot(curve) for curve in self.curves], len(self.curves)).savefig(path, dpi=120)

    def html(self, path: str | Path) -> None:
        """A page of its own: the table, each error beside its tolerance and the reason for it, and the plot."""
        Path(path).write_text(self.page("From rung to rung"), encoding="utf-8")

    def page(self, title: str, head: str = "", **more: Any) -> str:
        """That page's text; further arguments as page.page takes them."""
        failed = sum(not row.passed for row in self.rows)
        text = f"{failed} of {len(self.rows)} cases failed" if failed else "nothing was measured"
        text = text if failed or not self.rows else f"{len(self.rows)} cases, all within their tolerances"
        head = f"<h1>{escape(title)}</h1>\n{page.verdict(self.passed, text)}{head}"
        return page.page(f"{title}: {'PASS' if self.passed else 'FAIL'}", self.rows, self.curves, head=head, **more)


class _Torch:
    """One run of the torch program, for `grow`: its arrays by the names that `Carried` gives them."""

    def __init__(self, gan: Any, carried: list[Carried]):
        self.gan, self.carried = gan, carried
        self.logs: dict[str, Any] = {}

    def step(self, inputs: Inputs) -> None:
        """One training step."""
        self.logs = self.gan.step(_tensors(inputs))

    def record(self) -> Flat:
        """Losses, parameters, state and moments."""
        found = {name: self.logs[name].detach().numpy() for name in LOSSES}
        for c in self.carried:
            module, optimizer = getattr(self.gan, c.role), getattr(self.gan, f"{c.role}_optimizer")
            found |= {name: a.copy() for name, a in c.theirs(module.state_dict()).items()}
            for moment in MOMENTS.values():
                named = module.named_parameters()
                own = {n: optimizer.state[p][moment] for n, p in named if moment in optimizer.state[p]}
                found |= {f"{moment} {name}": a.copy() for name, a in c.theirs(own).items()}
        return found


class _Jax:
    """The same of the GAN."""

    def __init__(self, gan: GAN, state: TrainState, carried: list[Carried]):
        self.advance, self.state, self.carried = train_step(gan), state, carried
        self.logs: Any = {}

    def step(self, inputs: Inputs) -> None:
        """One training step."""
        self.state, self.logs = self.advance(self.state, jax.tree.map(jnp.asarray, inputs))

    def record(self) -> Flat:
        """Losses, parameters, state and moments."""
        found = {name: np.asarray(self.logs[name]) for name in LOSSES}
        for c in self.carried:
            variables, optimizer = getattr(self.state, c.role), getattr(self.state, f"{c.role}_opt")
            found |= c.ours(variables)
            for ours, moment in MOMENTS.items():
                if (own := _moments(optimizer, ours)) is not None:
                    found |= {f"{moment} {n}": a for n, a in c.ours(variables._replace(params=own)).items()}
        return found


def _apart(parameters: set[str]) -> Callable[[Flat, Flat], dict[str, tuple[float, str]]]:
    """Errors of two records by group, each over the largest entry of its layer."""
    roles = {short: role for role, short in SHORT.items()}

    def group(key: str) -> str:
        if key in LOSSES:
            return key
        moment, _, name = key.rpartition(" ")
        return f"the {roles[name[0]]}'s {moment or ('parameters' if name in parameters else 'state')}"

    def errors(found: Flat, expected: Flat) -> dict[str, tuple[float, str]]:
        scales: dict[tuple[str, str], float] = {}
        for key, a in expected.items():
            layer = group(key), key.rpartition(".")[0]
            scales[layer] = max(scales.get(layer, 0.0), largest(a))
        there = {key: a for key, a in expected.items() if key in found}
        return worst(found, there, lambda key: scales[group(key), key.rpartition(".")[0]], group)

    return errors


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
        theirs, other = wide_copy(torch_gan), wide_copy(torch_gan)
        _move(other, seed)
        plan = drawing(wide, batch_size=batch_size, seed=seed)
        inputs = [_floats(draw_inputs(plan, images, k)) for k in range(steps)]
        carried, state = _start(theirs, wide, inputs[0], names or {})
        named = {f"{SHORT[c.role]}/{n}" for c in carried for n, _ in getattr(theirs, c.role).named_parameters()}
        found = Climb(_losses(torch_gan, wide, seed))
        runs: dict[str, Run] = {"jax": _Jax(wide, state, carried), "torch, moved": _Torch(other, carried)}
        records = {n for n in _RECORDED if n <= steps} | {steps}
        growth = grow(_Torch(theirs, carried), runs, inputs, records, _apart(named))
    parameters = [group for group in growth.curves["jax"] if group.endswith("parameters")]
    for i, step in enumerate(growth.steps):
        apart, own = (max(of(group)[i] for group in parameters) for of in (growth.jax, growth.torch))
        losses = max(growth.jax(name)[i] for name in LOSSES)
        found.growth.append({"step": float(step), "apart": apart, "torch": own, "losses": losses})
    last = found.growth[-1]
    allowed = RUN if 10 * last["torch"] <= RUN else Tolerance(10 * last["torch"], "ten times torch's own growth")
    found.rows += [*_update(growth), Row("runs", f"parameters after {steps} steps", last["apart"], allowed)]
    note = "torch: its start moved by 1e-15"
    found.curves.append(growth.plot(f"float64, {steps} steps", [*LOSSES, *parameters], note))
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
            p.copy_(torch.from_numpy(moved(p.numpy(), draw)))


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
            rows.append(Row("losses", f"{what} and its gradient, {case}", error, LOSS))
    return rows


def _update(growth: Growth) -> list[Row]:
    """What the first step has left behind."""
    return [
        Row("update", group if group in LOSSES else f"{group} ({names[0]})", growth.jax(group)[0], UPDATE)
        for group, names in growth.arrays.items()
    ]


def _moments(optimizer: Any, name: str) -> Any:
    """Adam's trees in an optax state, wherever they are."""
    entries = jax.tree.leaves(optimizer, is_leaf=lambda x: hasattr(x, "mu") and hasattr(x, "nu"))
    return next((getattr(e, name) for e in entries if hasattr(e, name)), None)
