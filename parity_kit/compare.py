"""compare: the same weights and inputs through both modules, pass after pass, and where they part."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from jax_sngan.system.errors import UserError
from parity_kit import loading
from parity_kit.layers import layers_of
from parity_kit.locate import Layouts, find_flats, locate
from parity_kit.matching import Names
from parity_kit.report import Difference, Report
from parity_kit.rows import Row, largest, relative
from parity_kit.sides import Pass, has_dropout, nnx_in, run_nnx, run_torch, torch_in

TOLERANCE = 1e-9  # relative; rounding of a network in float64 is 1e-15 to 1e-11, the smallest known mistake 1e-7


def compare(
    torch_module: torch.nn.Module,
    nnx_module: nnx.Module,
    inputs: Any,
    passes: int = 3,
    names: Names | None = None,
    *,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Report:
    """Whether an nnx module computes what a torch module computes, and if not, the first layer at which they part.

    The torch module's weights are carried into a copy of the nnx module (load_state_dict), both are turned to float64,
    and each pass is run in training and then in evaluation: outputs, gradients of a random sum of them in parameters
    and inputs, and what the pass leaves behind (running statistics, u and v). Neither module is changed. Arrays of one
    number throughout (a fresh BatchNorm's ones and zeros) are drawn anew for the comparison, since they hide mistakes;
    dropout is switched off in both. How the nnx module flattens maps is found out.

    Args:
      inputs: as the nnx module takes them, maps [n, h, w, c]: an array, a tuple of positional arguments, or a dict of
        keyword arguments; torch is given maps as [n, c, h, w]. Integers are labels and stay.
      passes: how often; the second is the first that starts from what a pass has left behind.
      names: as load_state_dict takes them.
      tolerance: largest relative error, by the largest entry of each array.
      seed: of the drawn arrays and the random sum.
    Raises:
      UserError: the weights don't fit, an argument is out of range.
    """
    if passes < 1:
        raise UserError(f"passes must be at least 1, got {passes}")
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        theirs, ours = torch_in(torch_module, torch.float64), nnx_in(nnx_module, jnp.float64)
        notes = [_vary(theirs, rng)] if _constant(theirs) else []
        notes += ["dropout is switched off in both"] if has_dropout(torch_module) else []
        loaded = _carry(theirs, ours, names, [layer.path for layer in layers_of(nnx_module)])
        layouts = Layouts.of(loaded.pairs)
        args, kwargs = _arguments(inputs)
        flats = find_flats(theirs, ours, loaded, layouts, args, kwargs)
        loading.put(loaded, flats)
        layouts = layouts._replace(flats=flats)
        run = _Run(theirs, ours, loaded, layouts, args, kwargs, tolerance, rng)
        report = Report([], tolerance, str(loaded), notes=loaded.notes + notes)
        for i in range(passes):
            for train in (True, False):
                report.first_difference = run.one(i, train, report.rows, report.first_difference)
        if all(row.error < float("inf") for row in report.rows):
            report.float32 = _float32(theirs, ours, layouts, args, kwargs)
        return report


def assert_equal(
    torch_module: torch.nn.Module,
    nnx_module: nnx.Module,
    inputs: Any,
    passes: int = 3,
    names: Names | None = None,
    *,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Report:
    """compare, for a test: the report where the two agree.

    Raises:
      AssertionError: they differ; its text is the report, with the first layer and what kind of mistake it looks like.
      UserError: as compare.
    """
    __tracebackhide__ = True
    report = compare(torch_module, nnx_module, inputs, passes, names, tolerance=tolerance, seed=seed)
    report.raise_if_different()
    return report


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def array(a: Any) -> Any:
        if a is None or isinstance(a, (bool, str)):
            return a
        a = np.asarray(a.detach().cpu() if isinstance(a, torch.Tensor) else a)
        return a.astype(np.float64) if a.dtype.kind not in "iub" else a

    if isinstance(inputs, dict):
        return (), {name: array(a) for name, a in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return tuple(array(a) for a in inputs), {}
    return (array(inputs),), {}


def _constants(module: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [
        (n, t) for n, t in tensors
        if t.is_floating_point() and t.numel() > 1 and bool((t == t.flatten()[0]).all())
    ]  # fmt: skip


def _constant(module: torch.nn.Module) -> bool:
    return bool(_constants(module))


def _vary(module: torch.nn.Module, rng: np.random.Generator) -> str:
    """Moves arrays of one number by up to a quarter of it, zeros by up to 0.2."""
    moved = _constants(module)
    with torch.no_grad():
        for _, t in moved:
            value = float(t.flatten()[0])
            step = 0.25 * abs(value) if value else 0.2
            t.copy_(torch.from_numpy(rng.uniform(value - step, value + step, tuple(t.shape))))
    return f"arrays of one number throughout were varied for the comparison: {loading.some([n for n, _ in moved])}"


def _carry(theirs: torch.nn.Module, ours: nnx.Module, names: Names | None, order: list[str]) -> loading.Loaded:
    layers = sorted(
        layers_of(ours), key=lambda layer: order.index(layer.path)
    )  # nnx.clone has sorted attributes by name
    loaded = loading.matched(loading.called(theirs), layers, names)
    if loaded.missing or loaded.extra or loaded.misshapen:
        wrong = {what: getattr(loaded, what) for what in ("missing", "extra", "misshapen")}
        told = "; ".join(f"{what} {loading.some(entries)}" for what, entries in wrong.items() if entries)
        raise UserError(f"the torch module's weights do not fit the nnx module: {told}")
    return loaded


class _Run:
    """Both modules on their way through the passes."""

    def __init__(
        self,
        theirs: torch.nn.Module,
        ours: nnx.Module,
        loaded: loading.Loaded,
        layouts: Layouts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tolerance: float,
        rng: np.random.Generator,
    ):
        self.theirs, self.ours, self.loaded, self.layouts = theirs, ours, loaded, layouts
        self.args, self.kwargs, self.tolerance, self.rng = args, kwargs, tolerance, rng
        self.weights: list[np.ndarray] = []

    def one(self, i: int, train: bool, rows: list[Row], known: Difference | None) -> Difference | None:
        """One pass: its rows are added; returns the first difference, located where it is this pass's."""
        of = f"pass {i + 1}, {'training' if train else 'evaluation'}"
        start = torch_in(self.theirs, torch.float64), nnx.clone(self.ours)
        theirs, ours, gradients = self._both(train)
        own: list[Row] = []
        self._outputs(of, theirs, ours, own)
        self._state(of, own)
        self._gradients(of, theirs, ours, gradients, own)
        rows += own
        failed = [row for row in own if not row.passed]
        if known is not None or not failed:
            return known
        return locate(*start, self.loaded.pairs, self.layouts, (self.args, self.kwargs), train, of, failed[0])

    def _both(self, train: bool) -> tuple[Pass, Pass, dict[int, np.ndarray]]:
        maps = self.layouts
        args, kwargs = (
            maps.to_torch(self.args),
            dict(zip(self.kwargs, maps.to_torch(self.kwargs.values()), strict=True)),
        )
        if not self.weights:
            shapes = run_torch(torch_in(self.theirs, torch.float64), args, kwargs, train, None).outputs
            self.weights = [self.rng.normal(size=y.shape) for y in shapes]
        theirs = run_torch(self.theirs, args, kwargs, train, self.weights)
        ours_weights = [maps.to_nnx(w) for w in self.weights]
        try:
            ours, gradients = run_nnx(self.ours, self.args, self.kwargs, train, ours_weights)
        except _SHAPES as error:
            shapes = run_nnx(nnx.clone(self.ours), self.args, self.kwargs, train, None)[0].outputs
            if [y.shape for y in shapes] == [w.shape for w in ours_weights]:
                raise
            del error
            ours, gradients = run_nnx(self.ours, self.args, self.kwargs, train, None)
        return theirs, ours, gradients

    def _row(self, of: str, what: str, found: np.ndarray, expected: np.ndarray, scale: float, rows: list[Row]) -> None:
        rows.append(Row(of, what, relative(found, expected, scale), self.tolerance))

    def _outputs(self, of: str, theirs: Pass, ours: Pass, rows: list[Row]) -> None:
        if len(theirs.outputs) != len(ours.outputs):
            raise UserError(f"torch gives {len(theirs.outputs)} outputs, nnx {len(ours.outputs)}")
        for k, (t, n) in enumerate(zip(theirs.outputs, ours.outputs, strict=True)):
            expected = self.layouts.to_nnx(t)
            what = "output" if len(ours.outputs) == 1 else f"output {k}"
            self._row(of, what, n, expected, 0.0, rows)

    def _state(self, of: str, rows: list[Row]) -> None:
        now = {layer.name: layer for layer in loading.called(self.theirs)}
        for pair in self.loaded.pairs:
            for f, slot in pair.nnx.slots.items():
                t = now[pair.torch.name].arrays
                if f in t and not (pair.torch.spectral and f == "weight" and "u" not in pair.nnx.slots):
                    expected = self.layouts.slot(pair, f, t[f])
                    what = "" if f in ("mean", "var", "u", "v") else ", which a pass must leave as it is,"
                    found = np.asarray(slot.variable.get_value())
                    self._row(of, f"{pair.nnx.path}.{f}{what} after it".lstrip("."), found, expected, 0.0, rows)

    def _gradients(self, of: str, theirs: Pass, ours: Pass, gradients: dict[int, np.ndarray], rows: list[Row]) -> None:
        if not ours.input_gradients and not gradients:
            return
        wanted: list[tuple[str, np.ndarray, np.ndarray, float]] = []
        for pair in self.loaded.pairs:
            own = []
            for f, slot in pair.nnx.slots.items():
                name = pair.torch.names.get(f, "")
                name = name if name in theirs.gradients else f"{pair.torch.name}.{f}"
                folded = pair.torch.folded or (pair.torch.spectral and "u" not in pair.nnx.slots)
                if id(slot.variable) in gradients and name in theirs.gradients and not (f == "weight" and folded):
                    expected = self.layouts.slot(pair, f, theirs.gradients[name])
                    own.append((f"gradient of {pair.nnx.path}.{f}", gradients[id(slot.variable)], expected))
            # A bias in front of a normalisation has a true gradient of zero: the layer's largest is the scale.
            scale = max((largest(e) for _, _, e in own), default=0.0)
            wanted += [(*entry, scale) for entry in own]
        whole = max((scale for *_, scale in wanted), default=0.0)
        for what, found, expected, scale in wanted:
            self._row(of, what, found, expected, max(scale, 1e-3 * whole), rows)
        for k, (t, n) in enumerate(zip(theirs.input_gradients, ours.input_gradients, strict=True)):
            if t is not None and n is not None:
                self._row(of, f"gradient of input {k}", n, self.layouts.to_nnx(t), 0.0, rows)


_SHAPES = (ValueError, TypeError)


def _float32(
    theirs: torch.nn.Module, ours: nnx.Module, layouts: Layouts, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, tuple[float, float]]:
    """One training pass of each in float32, against its own in float64."""

    def narrow(a: Any) -> Any:
        return a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == np.float64 else a

    found: dict[str, tuple[float, float]] = {}
    few, named = tuple(map(narrow, args)), {n: narrow(a) for n, a in kwargs.items()}
    errors = []
    for exact, coarse in (
        (
            run_nnx(nnx.clone(ours), args, kwargs, True, None)[0].outputs,
            run_nnx(nnx_in(ours, jnp.float32), few, named, True, None)[0].outputs,
        ),
        (
            run_torch(
                torch_in(theirs, torch.float64), layouts.to_torch(args), layouts.named(kwargs), True, None
            ).outputs,
            run_torch(torch_in(theirs, torch.float32), layouts.to_torch(few), layouts.named(named), True, None).outputs,
        ),
    ):
        errors.append(max(relative(c, e) for c, e in zip(coarse, exact, strict=True)))
    found["output"] = (errors[0], errors[1])
    return found
