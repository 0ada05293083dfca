"""The first layer whose result differs though it is given the same, and how a module flattens its maps."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from jax_sngan.interop.torch_layout import map_from_torch, map_to_torch
from parity_kit import between, gradients, inside, loading, norms
from parity_kit.between import Earlier, close
from parity_kit.case import Case
from parity_kit.layers import layers_of, modules
from parity_kit.loading import Flat, Loaded, candidate_flats
from parity_kit.matching import Pair
from parity_kit.report import Difference
from parity_kit.rows import Row, relative
from parity_kit.sides import Call, outputs_of, record_nnx, record_torch, torch_in

_EQUAL = 1e-10  # relative: inputs of a layer that count as the same
_APART = 1e-9  # relative: results from equal inputs that do not


class Layouts(NamedTuple):
    """How arrays lie on either side."""

    turned: tuple[int, ...]  # numbers of axes of arrays that are maps: [n, c, …] in torch, [n, …, c] here
    flats: Mapping[str, Flat]  # layers beside flattened maps, by the nnx module's path

    @classmethod
    def of(cls, pairs: list[Pair]) -> "Layouts":
        """From the ranks of the convolutions; [n, c, l] is a map only where there is a convolution of sequences."""
        ranks = {p.torch.arrays["weight"].ndim for p in pairs if p.nnx.kind in ("conv", "conv_transpose")}
        return cls(tuple({4, 5} | (ranks & {3})), {})

    def to_nnx(self, a: np.ndarray) -> np.ndarray:
        """A map's channels last."""
        return np.moveaxis(a, 1, -1) if a.ndim in self.turned else a

    def to_torch(self, args: Iterable[Any]) -> tuple[Any, ...]:
        """Maps' channels second."""
        return tuple(
            np.ascontiguousarray(np.moveaxis(a, -1, 1)) if isinstance(a, np.ndarray) and a.ndim in self.turned else a
            for a in args
        )

    def named(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """to_torch of keyword arguments."""
        return dict(zip(kwargs, self.to_torch(kwargs.values()), strict=True))

    def slot(self, pair: Pair, field: str, a: np.ndarray) -> np.ndarray:
        """An array of torch's layer, or its gradient, as the nnx module holds it."""
        flat = self.flats.get(pair.nnx.path, Flat())
        return np.asarray(pair.nnx.slots[field].from_torch(loading.unflattened(np.asarray(a), field, flat)))

    def read_by(self, pair: Pair, x: np.ndarray) -> np.ndarray:
        """What torch's layer was given as the nnx layer is given it."""
        x = self.to_nnx(x) if pair.nnx.kind != "linear" else x
        flat = self.flats.get(pair.nnx.path, Flat())
        side = flat.rest if pair.nnx.kind in ("linear", "embed") else flat.out
        return map_from_torch(x, *side, axis=x.ndim - 1) if side and x.dtype.kind == "f" else x

    def made_by(self, pair: Pair, y: np.ndarray) -> np.ndarray:
        """What torch's layer made as the nnx layer makes it."""
        y = self.to_nnx(y) if pair.nnx.kind != "linear" else y
        flat = self.flats.get(pair.nnx.path, Flat())
        side = flat.rest if pair.nnx.kind == "embed" else flat.out
        return map_from_torch(y, *side, axis=y.ndim - 1) if side else y

    def back(self, pair: Pair, a: np.ndarray, made: bool) -> np.ndarray:
        """An array of the nnx layer in torch's layout: what it made, or what it was given."""
        flat = self.flats.get(pair.nnx.path, Flat())
        side = (flat.rest if pair.nnx.kind == "embed" else flat.out) if made else flat.rest
        if side:
            a = map_to_torch(a, *side, axis=a.ndim - 1)
        return np.moveaxis(a, -1, 1) if a.ndim in self.turned and pair.nnx.kind != "linear" else a


class Recorded(NamedTuple):
    """One pass of both, layer by layer."""

    theirs: list[Call]
    ours: dict[tuple[str, int], Call]  # (path, how many calls of it came before)
    outputs: tuple[list[np.ndarray], list[np.ndarray]]


def record(
    theirs: torch.nn.Module, ours: nnx.Module, pairs: list[Pair], layouts: Layouts, args: Any, kwargs: Any, train: bool
) -> Recorded:
    """Both passes from where the modules stand, which move."""
    names = {p.torch.name for p in pairs}
    torch_calls, torch_pass = record_torch(theirs, names, layouts.to_torch(args), layouts.named(kwargs), train)
    found = dict(modules(ours))
    nnx_calls, nnx_pass = record_nnx(ours, {p.nnx.path: found[p.nnx.path] for p in pairs}, args, kwargs, train)
    counts: dict[str, int] = {}
    ours_by: dict[tuple[str, int], Call] = {}
    for call in nnx_calls:
        ours_by[call.layer, counts.get(call.layer, 0)] = call
        counts[call.layer] = counts.get(call.layer, 0) + 1
    return Recorded(torch_calls, ours_by, (torch_pass.outputs, nnx_pass.outputs))


def find_flats(
    theirs: torch.nn.Module, ours: nnx.Module, loaded: Loaded, layouts: Layouts, args: Any, kwargs: Any
) -> dict[str, Flat]:
    """Which linear layers read or make maps in the order (h, w, c): as both stay together longest."""
    layers = [p.nnx for p in loaded.pairs]
    start = torch_in(theirs, torch.float64)
    made = record_torch(start, set(), layouts.to_torch(args), layouts.named(kwargs), False)[1].outputs
    maps = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray) and a.ndim == 4]
    given = {a[0].size: a.shape[1:3] for a in maps}
    images = {a[0].size: a.shape[2:] for a in made if a.ndim == 4}
    candidates = candidate_flats(loaded.pairs, layers, given, images)
    chosen: dict[str, Flat] = {}

    def together(flats: dict[str, Flat]) -> int:
        loading.put(Loaded(loaded.pairs), flats)
        own = layouts._replace(flats=flats)
        start = torch_in(theirs, torch.float64), nnx.clone(ours)
        try:
            found = record(*start, loaded.pairs, own, args, kwargs, False)
        except (TypeError, ValueError):
            return -1  # the module does not run; what is wrong is told by the pass itself
        return _together(found, loaded.pairs, own)

    best = together(chosen) if candidates else 0
    for path, change in candidates:
        trial = dict(chosen)
        trial[path] = trial.get(path, Flat())._replace(**change)
        followers = loading.followers(layers, path) if "out" in change else []
        trial |= {other: Flat(out=change["out"]) for other in followers}
        score = together(trial)
        if score > best:
            best, chosen = score, trial
    return chosen


def _together(found: Recorded, pairs: list[Pair], layouts: Layouts) -> int:
    """How many calls agree, in torch's order, before the first that does not; all, and one more for the output."""
    by_name = {p.torch.name: p for p in pairs}
    counts: dict[str, int] = {}
    for i, call in enumerate(found.theirs):
        pair = by_name[call.layer]
        other = found.ours.get((pair.nnx.path, counts.get(call.layer, 0)))
        counts[call.layer] = counts.get(call.layer, 0) + 1
        if other is None:
            continue
        if not _same(np.asarray(other.args[0]), layouts.read_by(pair, call.args[0])):
            return 2 * i
        if not _same(np.asarray(other.out), layouts.made_by(pair, call.out)):
            return 2 * i + 1
    agree = all(_same(n, layouts.to_nnx(t)) for t, n in zip(*found.outputs, strict=True))
    return 2 * len(found.theirs) + agree


def _same(found: np.ndarray, expected: np.ndarray, within: float = _EQUAL) -> bool:
    if found.dtype.kind in "iub":
        return bool(np.array_equal(found, expected))
    return close(found, expected, within)


def locate(
    theirs: torch.nn.Module,
    ours: nnx.Module,
    pairs: list[Pair],
    layouts: Layouts,
    inputs: tuple[Any, Any],
    train: bool,
    of: str,
    failed: Row,
) -> Difference:
    """Walks through one pass, from where the modules stood before it, to the first layer that differs."""
    args, kwargs = inputs
    start, ours_start = torch_in(theirs, torch.float64), nnx.clone(ours)
    found = record(theirs, ours, pairs, layouts, args, kwargs, train)
    walk = _Walk(start, theirs, ours, pairs, layouts, train, of)
    walk.earlier = [Earlier("the input", np.asarray(a)) for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
    for call in found.theirs:
        difference = walk.step(call, found.ours)
        if difference:
            return difference
    for t, n in zip(*found.outputs, strict=True):
        expected = layouts.to_nnx(t)
        if not _same(n, expected, _APART):
            words = between.explain(expected, n, walk.earlier[::-1])
            return walk.difference(walk.last, f"after the layer{f': {words}' if words else ''}", relative(n, expected))
    told = gradients.explain(start, ours_start, pairs, layouts, found, inputs, train)
    return walk.difference(told[0], told[1], failed.error)


class _Walk:
    """From layer to layer in torch's order."""

    def __init__(self, start: torch.nn.Module, theirs: torch.nn.Module, ours: nnx.Module, pairs: list[Pair],
                 layouts: Layouts, train: bool, of: str):  # fmt: skip
        self.start, self.theirs, self.ours = dict(start.named_modules()), theirs, ours
        self.by_name = {p.torch.name: p for p in pairs}
        self.before = {t.name: t for t in loading.called(start)}
        self.after = {t.name: t for t in loading.called(theirs)}
        self.now = dict(modules(ours))
        self.layouts, self.train, self.of = layouts, train, of
        self.earlier: list[Earlier] = []
        self.counts: dict[str, int] = {}
        self.last: Pair | None = None
        self.uncalled: Pair | None = None

    def difference(self, pair: Pair | None, kind: str, error: float) -> Difference:
        """As the report has it."""
        names = (pair.nnx.path, pair.torch.name) if pair else ("", "")
        return Difference(*names, kind, self.of, error)

    def step(self, call: Call, ours: dict[tuple[str, int], Call]) -> Difference | None:
        """One call of a torch layer, and its namesake's."""
        pair = self.by_name[call.layer]
        count = self.counts.get(call.layer, 0)
        self.counts[call.layer] = count + 1
        self.last = pair
        other = ours.get((pair.nnx.path, count))
        made = self.layouts.made_by(pair, call.out)
        if other is None:
            self.earlier.append(Earlier(pair.nnx.path, made))
            self.uncalled = self.uncalled or pair
            return None
        given = np.asarray(other.args[0])
        wanted = self.layouts.read_by(pair, call.args[0])
        if not _same(given, wanted):
            if self.uncalled:  # the nnx module uses its arrays otherwise, or not at all
                kind = "not called in nnx, or not as often as in torch"
                return self.difference(self.uncalled, kind, relative(given, wanted))
            words = between.explain(wanted, given, self.earlier[::-1]) if wanted.dtype.kind == "f" else "other labels"
            kind = f"before the layer{f': {words}' if words else ''}"
            return self.difference(pair, kind, relative(given, wanted))
        alone = np.asarray(outputs_of(nnx.clone(other.before)(jnp.asarray(wanted), *other.args[1:], **other.kwargs))[0])
        case = self._case(pair, call, alone)
        if not _same(alone, made, _APART):
            return self.difference(pair, inside.explain(case), relative(alone, made))
        buffered = self._buffers(pair, case) if count == 0 else None
        self.uncalled = None  # whatever it was, it has done what torch's does
        self.earlier.append(Earlier(pair.nnx.path, made))
        return buffered

    def _case(self, pair: Pair, call: Call, alone: np.ndarray) -> Case:
        found = self.layouts.back(pair, alone, made=True)
        return Case(
            self.start[pair.torch.name],
            self.before[pair.torch.name],
            pair.nnx,
            call.args[0],
            call.out,
            found,
            self.train,
        )

    def _buffers(self, pair: Pair, case: Case) -> Difference | None:
        """What the pass left behind in a layer."""
        after = self.after[pair.torch.name].arrays
        now = {n.path: n for n in layers_of(self.ours)}[pair.nnx.path]
        worst = 0.0
        for f in ("mean", "var", "u", "v"):
            if f in after and f in now.slots:
                expected, found = self.layouts.slot(pair, f, after[f]), np.asarray(now.slots[f].variable.get_value())
                if not _same(found, expected, _APART):
                    worst = max(worst, relative(found, expected))
        if not worst:
            weight = now.slots.get("weight")
            if weight is not None and "weight" in after and not (pair.torch.spectral and "u" not in pair.nnx.slots):
                expected = self.layouts.slot(pair, "weight", after["weight"])
                if not _same(np.asarray(weight.variable.get_value()), expected, _APART):
                    error = relative(np.asarray(weight.variable.get_value()), expected)
                    return self.difference(
                        pair, "the stored kernel is overwritten by a pass (as nnx.SpectralNorm's)", error
                    )
            return None
        if pair.torch.spectral:
            return self.difference(pair, "order of the iteration: u and v end elsewhere", worst)
        side: dict[str, np.ndarray] = {}
        side |= {
            f: np.asarray(now.slots[f].variable.get_value()).reshape(-1) for f in ("mean", "var") if f in now.slots
        }
        flat = self.layouts.flats.get(pair.nnx.path, Flat())
        side |= {f: map_to_torch(a, *flat.out) if flat.out else a for f, a in side.items()}
        kept: dict[str, np.ndarray] = {}
        kept |= {f: np.asarray(after[f], np.float64) for f in side if f in after}
        return self.difference(pair, norms.buffers(case, kept, side), worst)
