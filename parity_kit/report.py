"""What a comparison found: every number beside its tolerance, and the first layer at which the two part."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from parity_kit.rows import Row, finite


@dataclass(frozen=True)
class Difference:
    """The first layer whose result differs from torch's though it was given the same."""

    layer: str  # the nnx module's, dotted; of a difference between two layers the later one
    torch_layer: str  # the torch module's
    kind: str  # what it looks like, in words; "before the layer: …" where what reaches the layer differs
    where: str  # "pass 1, training"
    error: float  # relative, of the layer's result, or of what reaches it

    def __str__(self) -> str:
        both = self.layer if self.layer == self.torch_layer else f"{self.layer} (torch: {self.torch_layer})"
        return f"first difference: {both}, {self.where}, {self.error:.1e}\n  {self.kind}"


@dataclass
class Report:
    """What compare found; `print` shows it, as_json gives it as plain values."""

    rows: list[Row]
    tolerance: float
    loaded: str  # how the weights were carried
    first_difference: Difference | None = None
    float32: dict[str, tuple[float, float]] = field(default_factory=dict)  # what -> (nnx's, torch's own) error
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all rows are within the tolerance."""
        return all(row.passed for row in self.rows)

    @property
    def worst(self) -> float:
        """The largest relative error of all rows."""
        return max((row.error for row in self.rows), default=0.0)

    def raise_if_different(self) -> None:
        """For a test: nothing where all rows are within the tolerance.

        Raises:
          AssertionError: the two differ; its text is the report.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        if not self.passed:
            raise AssertionError(f"the two differ\n{self}")

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is not finite is null."""
        rows = [{"of": r.of, "what": r.what, "error": finite(r.error), "passed": r.passed} for r in self.rows]
        first = self.first_difference
        return {
            "passed": self.passed,
            "worst": finite(self.worst),
            "tolerance": self.tolerance,
            "first_difference": None if first is None else asdict(first) | {"error": finite(first.error)},
            "rows": rows,
            "float32": {what: list(map(finite, pair)) for what, pair in self.float32.items()},
            "notes": self.notes,
        }

    def __str__(self) -> str:
        width = max([len(row.of) for row in self.rows], default=0)
        lines = []
        for of in dict.fromkeys(row.of for row in self.rows):
            rows = [row for row in self.rows if row.of == of]
            kinds = {"outputs": "output", "gradients": "gradient", "state": " after it"}
            told = []
            for kind, word in kinds.items():
                own = [r for r in rows if (r.what.startswith(word) or r.what.endswith(word))]
                if own:
                    worst = max(own, key=lambda r: r.error)
                    told.append(f"{kind} {worst.error:.1e}" + ("" if worst.passed else f" ({worst.what})"))
            lines.append(f"{of:{width}}  {'ok  ' if all(r.passed for r in rows) else 'FAIL'}  {', '.join(told)}")
        if self.float32:
            lines.append("float32, nnx's error beside torch's own: " + ", ".join(
                f"{what} {ours:.1e} / {theirs:.1e}" for what, (ours, theirs) in self.float32.items()))  # fmt: skip
        if self.first_difference:
            lines.append(str(self.first_difference))
        lines += self.notes
        failed = sum(not row.passed for row in self.rows)
        end = "PASS" if self.passed else f"FAIL: {failed} of {len(self.rows)} comparisons"
        lines.append(f"{end}; the largest relative error is {self.worst:.1e}, allowed {self.tolerance:.0e}")
        return "\n".join(lines)

    def dumps(self) -> str:
        """as_json as text."""
        return json.dumps(self.as_json(), allow_nan=False, indent=1)
