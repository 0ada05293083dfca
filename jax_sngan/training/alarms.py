"""Alarms: what is wrong with a run, seen in the numbers of its log. Knows neither jax nor torch.

Each alarm looks at one line of the log after another; it is told where its condition has held for several lines in a
row, once until it ceases. What a resumed run has logged before counts.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Values = Mapping[str, float]
Seen = str | None  # what was seen in a line, where the condition holds

SURE = 0.999  # an accuracy of this or more is one of 1
GONE = 1e-3  # G's gradient is gone at this share of what it was
SAME = 0.15  # samples are the same image at this spread, relative to real images
FELL = 0.5  # and have collapsed, not merely not begun, at this share of the largest spread so far
OFF = 1.2  # sigma is far from the truth by this factor; docs/spectral_norm.md has what one iteration lags by
EXPLODED = 100.0  # a norm has exploded at this multiple of the largest in the first lines
ENORMOUS = 1e4  # or at this, whatever it was
TYPICAL = 10  # lines of the log that say what a norm was
FIRST = 3  # lines, the least of them, before anything is told that compares with them


class Alarm(NamedTuple):
    """One that is told."""

    name: str
    text: str  # a line: what was seen, since when, what people do


@dataclass
class _Condition:
    """One kind of alarm: how it is seen in a line, given those before; and what people do about it."""

    name: str
    seen: Callable[[Values, list[Values]], Seen | bool]  # False: the line does not say
    lines: int  # in a row
    remedy: str
    since: int | None = None  # the step of the first line of the row
    count: int = 0  # of the row so far
    lasted: int = 0  # the same, and lines between them that did not say


def _gradient_is_gone(d_is_sure: bool, words: str) -> Callable[[Values, list[Values]], Seen | bool]:
    """Sees that G's gradient is gone where D is right on every image, or where it is not."""

    def seen(line: Values, before: list[Values]) -> Seen | bool:
        if "d_accuracy_real" not in line or len(before) < FIRST:
            return False
        largest = max(one["g_grad_norm"] for one in before if "g_grad_norm" in one)
        sure = min(line["d_accuracy_real"], line["d_accuracy_fake"]) >= SURE
        if sure != d_is_sure or line["g_grad_norm"] > GONE * largest:
            return None
        return f"{words} (norm {line['g_grad_norm']:.1e}, once {largest:.1e})"

    return seen


def _collapsed(line: Values, before: list[Values]) -> Seen | bool:
    if "g_spread" not in line:
        return False
    largest = max((one["g_spread"] for one in before if "g_spread" in one), default=0.0)
    if line["g_spread"] > min(SAME, FELL * largest):
        return None
    return f"samples are nearly one image (spread {line['g_spread']:.2g} of real images', once {largest:.2g})"


def _sigma_is_off(line: Values, before: list[Values]) -> Seen | bool:
    if len(before) < FIRST:
        return False  # u and v are on their way
    ratios = {
        name: value / max(line[name.replace("_singular_value/", "_sigma/")], 1e-30)
        for name, value in line.items()
        if "_singular_value/" in name
    }
    if not ratios:
        return False
    worst = max(ratios, key=lambda name: ratios[name])
    if ratios[worst] < OFF:
        return None
    letter, _, layer = worst.partition("_singular_value/")
    return f"{letter.upper()}'s {layer} has {ratios[worst]:.3g} times the singular value that it is divided by"


def _exploded(line: Values, before: list[Values]) -> Seen | bool:
    for name in ("d_grad_norm", "g_grad_norm", "d_update_norm", "g_update_norm"):
        earlier = [one[name] for one in before[:TYPICAL] if name in one]
        if name in line and line[name] > ENORMOUS:
            return f"{name} is {line[name]:.2g}"
        if name in line and len(earlier) >= FIRST and line[name] > max(1.0, EXPLODED * max(earlier)):
            return f"{name} is {line[name]:.2g}, at first it was {max(earlier):.2g} at most"
    return None


def _conditions() -> list[_Condition]:
    return [
        _Condition(
            "d_won",
            _gradient_is_gone(True, "D is right on every image (accuracy 1) and G's gradient is gone"),
            3,
            "people lower D's learning rate, take fewer D updates (n_dis), regularise D (spectral norm, a penalty, "
            "DiffAugment) or take a loss that does not saturate",
        ),
        _Condition(
            "d_flat",
            _gradient_is_gone(False, "D is not right on every image and G's gradient is gone all the same"),
            3,
            "people go back to an earlier checkpoint and lower the learning rates, D's first (its units may be dead, "
            "its score the same for every image)",
        ),
        _Condition(
            "collapse",
            _collapsed,
            2,
            "people go back to an earlier checkpoint, lower the learning rates, take more D updates or a larger batch",
        ),
        _Condition(
            "sigma",
            _sigma_is_off,
            2,
            "people lower D's learning rate, take more power iterations (model.spectral_norm.iterations), and look "
            "whether u and v are carried from step to step",
        ),
        _Condition(
            "exploding",
            _exploded,
            3,
            "people lower the learning rates and bound D (spectral norm, clipping, a penalty)",
        ),
    ]


@dataclass
class Alarms:
    """Those of one run."""

    lines: list[Values] = field(default_factory=list)  # of training, so far
    _of: list[_Condition] = field(default_factory=_conditions)

    @classmethod
    def after(cls, past: Iterable[tuple[int, Values]]) -> "Alarms":
        """Those of a run that has logged these lines already."""
        alarms = cls()
        for step, line in past:
            alarms.look(step, line)
        return alarms

    def look(self, step: int, line: Values) -> list[Alarm]:
        """The alarms that a line of the log sets off; a line without losses (of scores) sets off none."""
        if "d_loss" not in line:
            return []
        found = []
        for one in self._of:
            # Compared with what was before the row began.
            seen = one.seen(line, self.lines[: len(self.lines) - one.lasted])
            one.lasted += one.since is not None
            if seen is False:
                continue
            if seen is None:
                one.since, one.count, one.lasted = None, 0, 0
                continue
            if one.since is None:
                one.since, one.lasted = step, 1
            one.count += 1
            if one.count == one.lines:
                found.append(Alarm(one.name, f"alarm       {one.name}: {seen}, since step {one.since}; {one.remedy}"))
        self.lines.append(dict(line))
        return found
