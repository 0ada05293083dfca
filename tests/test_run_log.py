"""The speed and the time left that a run tells are those of its steps, whatever else takes time. No real clock."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jax_sngan.config.schema import RunConfig, TrainConfig
from jax_sngan.runs.run_log import RunLog, duration
from jax_sngan.system.signals import Stop
from jax_sngan.training.loop import Progress, Scores, Training, training_loop

STEP = 2.0  # seconds


class Clock:
    """Seconds that pass when something takes time."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Checkpoints:
    """Sound ones (selection.HasSteps)."""

    def __init__(self, start: int) -> None:
        self.written = [start] if start else []
        self.scores: dict[int, float] = {}

    def steps(self) -> list[int]:
        return self.written

    def problem(self, step: int) -> None:
        return None

    def wait(self) -> None:
        pass


class SlowBackend:
    """A loop.Backend whose every part but the steps takes minutes, the more so the first time."""

    def __init__(self, clock: Clock, start: int, nan_at: int | None = None):
        self.clock, self.first, self.at, self.nan_at = clock, start, start, nan_at
        self.waiting, self.compiled = 0, False
        self.checkpoints: Any = Checkpoints(start)

    def compile(self, step: int, count: int, rollbacks: int) -> None:
        self.clock.now += 300
        self.compiled = True

    def train(self, step: int, count: int, rollbacks: int) -> None:
        """The host stays one ahead: the last step's time passes when somebody waits for it."""
        assert self.compiled
        first = STEP if step == self.first else 0  # the first call takes twice as long
        self.clock.now += first + STEP * (count if self.waiting else count - 1)
        self.at, self.waiting = step + count, self.waiting + count

    def started(self) -> None:
        self.clock.now += 250

    def collect(self) -> list[dict[str, np.ndarray]]:
        self.clock.now += STEP if self.waiting else 0
        logs = [{"d_loss": np.array(np.nan if self.at == self.nan_at else 1)} for _ in range(self.waiting)]
        if self.at == self.nan_at:
            self.nan_at = None
        self.waiting = 0
        return logs

    def observe(self, *, singular_values: bool) -> dict[str, Any]:
        self.clock.now += 50
        return {}

    def used(self) -> dict[str, float]:
        return {"memory_mb": 1.0, "data_wait_s": 0.0}

    def not_finite(self) -> None:
        self.clock.now += 100

    def generator(self, average: bool) -> Any:
        def make(latents: np.ndarray, labels: None) -> np.ndarray:
            self.clock.now += 200
            return np.zeros((len(latents), 2, 2, 1), np.uint8)

        return make

    def save(self, progress: Progress, metrics: dict[str, float]) -> None:
        self.clock.now += 150
        self.checkpoints.written.append(self.at)

    def restore(self, step: int) -> Progress:
        self.clock.now += 400
        self.at, self.waiting, self.first = step, 0, -1
        return Progress(step)


def lines(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    start: int = 0,
    nan_at: int | None = None,
    **run: Any,
) -> list[tuple[int, float, str]]:
    """Each progress line of a run of 600 steps: its step, steps a second, time left."""
    clock = Clock()
    (tmp_path / "samples").mkdir()
    config = TrainConfig(name="t", data="fashion", steps=600)

    def evaluate(generator: Any) -> Scores:
        clock.now += 500
        return Scores({"fid": 1.0}, 1.0)

    options = RunConfig(**({"sample_every": 0, "checkpoint_every": 0} | run))
    with RunLog(tmp_path, start, config.steps, 64, clock=clock) as log:
        clock.now += 50  # loading the data, say
        job = Training(
            config=config,
            run=options,
            backend=SlowBackend(clock, start, nan_at),
            progress=Progress(start),
            log=log,
            latents=np.zeros((64, 4)),
            keep_picture=lambda step, images: None,
            check_folder=lambda: None,
            where="here",
            evaluate=evaluate if options.evaluate_every else None,
        )
        training_loop(job, Stop())
    told = re.findall(r"step (\d+)/600  d_loss .*  (\S+) steps/s  (\S+) left", capsys.readouterr().out)
    return [(int(step), float(speed), left) for step, speed, left in told]


@pytest.mark.parametrize("start", [0, 299, 300, 310])
@pytest.mark.parametrize("dispatch", [1, 4])
def test_the_first_line_and_all_others_tell_the_time_of_steps(
    start: int, dispatch: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh run, and one that goes on in the middle of two logs, at one, and one step before one."""
    often = {"log_every": 100, "sample_every": 50, "checkpoint_every": 150, "evaluate_every": 200, "dispatch": dispatch}
    told = lines(tmp_path, capsys, start=start, **often)
    assert [step for step, _, _ in told] == list(range(start // 100 * 100 + 100, 601, 100))
    if start == 299:  # one step, the first: its own time is all that there is to tell by
        assert told.pop(0) == (300, 0.25, "20:00")
    assert told == [(step, 1 / STEP, duration((600 - step) * STEP)) for step, _, _ in told]


def test_each_step_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(tmp_path, capsys, log_every=1)
    assert told[0] == (1, 0.25, "39:56")
    assert told[1] == (2, 0.5, "19:56")
    assert all(speed == 0.5 for _, speed, _ in told[1:])
    assert len(told) == 600


@pytest.mark.parametrize("start", [0, 200])
def test_after_a_rollback(start: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was thrown away is not counted, be it to the process's own start or to a later step that it goes back."""
    told = lines(tmp_path, capsys, start=start, nan_at=250, log_every=50, checkpoint_every=200, on_nan="rollback")
    assert [step for step, _, _ in told] == [*range(start + 50, 601, 50)]
    assert {speed for _, speed, _ in told} == {0.5}


def test_the_bar_leaves_out_what_is_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tqdm's own clock and estimate, on a terminal."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    clock = Clock()
    with RunLog(tmp_path, 0, 100, 64, clock=clock) as log:
        bar = log._bar
        assert bar is not None
        bar.start_t = bar.last_print_t = clock.now
        monkeypatch.setattr(bar, "_time", clock)
        clock.now += 300
        log.start_clock()
        for _ in range(10):
            clock.now += STEP
            log.advance(1)
        assert bar.format_dict["elapsed"] == 10 * STEP
        assert bar.format_dict["rate"] == pytest.approx(1 / STEP)
        with log.clock_stopped():
            clock.now += 500
        clock.now += STEP
        log.advance(1)
        assert bar.format_dict["elapsed"] == 11 * STEP
        assert bar.format_dict["rate"] == pytest.approx(1 / STEP)


def test_without_tensorboardx_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # as if it were not installed
    with RunLog(tmp_path, 0, 2, 4) as log:
        log.write(1, {"d_loss": 1.0})
        log.write(2, {"d_loss": 2.0})
    assert capsys.readouterr().out.count("tensorboardX is not installed: this run writes no TensorBoard files") == 1
    assert (tmp_path / "metrics.jsonl").read_text().count("d_loss") == 2
    assert not (tmp_path / "tensorboard").exists()
