"""The step's program, compiled beside what else a run begins with: one program, and the one that the steps run."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from conftest import TINY
from jax_sngan.config.schema import RunConfig, replace
from jax_sngan.core.gan import as_gan
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.training.task import Task, check_asked, set_up
from jax_sngan.training.trainer import train

CASES: dict[str, dict[str, Any]] = {
    "one device": {},
    "three steps at once": {"dispatch": 3},
    "two devices": {"mesh": "data=2"},
    "two devices, three steps at once, split": {"mesh": "data=2", "dispatch": 3, "shard_state": True},
}


@pytest.fixture(scope="module")
def compiled() -> list[str]:
    """The threads in which jax has programs compiled from here on, a name each."""
    found: list[str] = []

    def told(event: str, _seconds: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(threading.current_thread().name)

    jax.monitoring.register_event_duration_secs_listener(told)
    return found


@pytest.mark.parametrize("resumed", [False, True], ids=["fresh", "resumed"])
@pytest.mark.parametrize("case", CASES)
def test_the_steps_run_the_program_that_was_made_beside(
    case: str, resumed: bool, compiled: list[str], tmp_path: Path
) -> None:
    # No other test has this batch: its program is not there yet.
    config = replace(TINY, {"batch_size": 2 * (1 + list(CASES).index(case)) + 8 * resumed + 20, "steps": 12})
    run = RunConfig(workdir=str(tmp_path), sample_every=0, checkpoint_every=0, **CASES[case])
    start = None
    if resumed:
        train(replace(config, {"steps": 3}), run)
        start = 3
    jax.clear_caches()
    task = Task(config, run, as_gan(config))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        backend = set_up(task, check_asked(task)).backend(checkpoints)
        compiled.clear()
        assert backend.begin(start).step == (start or 0)
        count = CASES[case].get("dispatch", 1)
        backend.compile(start or 0, count, 0)
        assert [name for name in compiled if name.startswith("compile")] == ["compile_0"]
        compiled.clear()
        for step in range(start or 0, (start or 0) + 2 * count, count):
            backend.train(step, count, 0)
        assert len(backend.collect()) == 2 * count
        assert compiled == []


def test_nothing_is_compiled_for_a_run_that_is_done(compiled: list[str], tmp_path: Path) -> None:
    run = RunConfig(workdir=str(tmp_path), sample_every=0, checkpoint_every=0)
    train(TINY, run)
    jax.clear_caches()
    compiled.clear()
    train(TINY, run)
    assert not [name for name in compiled if name.startswith("compile")]


@pytest.mark.parametrize("dispatch", [1, 3])
def test_a_step_that_was_compiled_is_loaded_anew_after_the_first(
    dispatch: int,
    compiled: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr("jax_sngan.training.backend.MANY", 0)  # else for large batches alone
    config = replace(TINY, {"batch_size": 40 + dispatch, "steps": 12})  # of no other test
    task = Task(config, RunConfig(workdir=str(tmp_path), dispatch=dispatch), as_gan(config))
    states, anew = [], []
    request.addfinalizer(compilation_cache.reset_cache)
    request.addfinalizer(partial(jax.config.update, "jax_enable_compilation_cache", True))
    request.addfinalizer(partial(jax.config.update, "jax_persistent_cache_min_compile_time_secs", 0.2))
    for started, disk in ((True, False), (False, True), (True, True)):  # compiled and loaded anew; two from the disk
        jax.clear_caches()
        jax.config.update("jax_enable_compilation_cache", disk)
        compilation_cache.reset_cache()  # jax asks once in a process whether there is one
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            backend = set_up(task, check_asked(task)).backend(checkpoints)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a fast machine's goes there, too
            progress = backend.begin(None)
            backend.compile(0, dispatch, 0)
            old = backend._program
            backend.train(0, dispatch, 0)
            progress.step = dispatch
            backend.collect()
            if started:
                backend.started()
                anew.append(backend._program is not old)
                assert backend.text()
            del old
            backend.save(progress, {})
            compiled.clear()
            backend.train(dispatch, dispatch, 0)
            states.append(jax.device_get(backend.state))
            checkpoints.wait()
            backend.restore(dispatch)  # as after a NaN: of the same kind as the first
            backend.train(dispatch, dispatch, 0)
            states.append(jax.device_get(backend.state))
            if started and anew[-1]:  # the other compiles once more, for a state that is bound to a device
                assert compiled == []
    assert anew == [True, False]
    for state in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, state, states[0])
