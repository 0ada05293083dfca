"""Runs the stages of an accelerator's check: each a process with a time limit, all within one budget.

What a stage has found is on disk before the next begins, and what one wrote before it failed or was killed is kept.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from jax_sngan.system.files import write_json, write_whole

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 3.0  # seconds that a stage has to end after it was asked to, and after it was killed
LEAST = 0.5  # share of its limit that has to be left for a stage to begin

Outcome = dict[str, Any]  # of a stage: stage, what, status, seconds, limit_s, why ("" where done), told (None: nothing)
DONE, FAILED, TIMED_OUT, NO_TIME = "done", "failed", "timed out", "did not fit"


class Stage(NamedTuple):
    """One part of the check."""

    name: str
    what: str  # one line for a person
    command: tuple[str, ...]  # of `python -m`; the path of its result, JSON, is put behind
    limit: float  # seconds


class Check:
    """A folder in which stages run; `outcomes` are those so far."""

    def __init__(self, out: Path, budget: float, environment: Mapping[str, str], tell: Callable[[Outcome], None]):
        """
        Args:
          out: gets NAME.json and NAME.log of each stage.
          budget: seconds for all stages together, from now on.
          environment: of their processes.
          tell: called with each outcome as soon as there is one.
        """
        self.out, self.environment, self._tell = out, dict(environment), tell
        self.started = time.monotonic()
        self._end = self.started + budget
        self.outcomes: list[Outcome] = []
        self._running: set[subprocess.Popen[Any]] = set()
        self._lock = threading.Lock()

    def seconds(self) -> float:
        """Since the check began."""
        return time.monotonic() - self.started

    def run(self, groups: Sequence[Sequence[Stage]]) -> None:
        """One group after another; the stages of a group at the same time."""
        for group in groups:
            with ThreadPoolExecutor(len(group)) as pool:
                futures = [pool.submit(self.run_one, stage) for stage in group]
                try:
                    wait(futures)
                except BaseException:  # somebody stops the check
                    with self._lock:
                        self._end = 0.0
                    for process in list(self._running):
                        end_group(process)
                    raise
            for future in futures:
                future.result()

    def run_one(self, stage: Stage) -> Outcome:
        """One stage, if enough time is left for it."""
        left = self._end - time.monotonic()
        outcome: Outcome = {
            "stage": stage.name,
            "what": stage.what,
            "limit_s": stage.limit,
            "seconds": 0.0,
            "told": None,
        }
        if left < LEAST * stage.limit:
            outcome |= {"status": NO_TIME, "why": f"{max(left, 0):.0f} s were left, it may take {stage.limit:.0f}"}
        else:
            try:
                outcome |= self._process(stage, min(stage.limit, left))
            except Exception as error:  # it could not even be started: told as any failure, and the others go on
                outcome |= {"status": FAILED, "seconds": 0.0, "told": None, "why": f"{type(error).__name__}: {error}"}
        with self._lock:
            self.outcomes.append(outcome)
            self._tell(outcome)
        return outcome

    def _process(self, stage: Stage, limit: float) -> Outcome:
        result, log = self.out / f"{stage.name}.json", self.out / f"{stage.name}.log"
        result.unlink(missing_ok=True)  # of an earlier check in this folder
        began = time.monotonic()
        with log.open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", *stage.command, str(result)],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: what it started ends with it
            )
            late = False
            self._running.add(process)
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                late = True
            finally:
                end_group(process)
                self._running.discard(process)
        seconds = round(time.monotonic() - began, 1)
        outcome: Outcome = {"seconds": seconds, "told": read(result)}
        if late:
            return outcome | {"status": TIMED_OUT, "why": f"stopped after {limit:.0f} s"}
        if process.returncode:
            return outcome | {"status": FAILED, "why": last_words(log) or f"exit code {process.returncode}"}
        return outcome | {"status": DONE, "why": ""}


def end_group(process: subprocess.Popen[Any]) -> None:
    """Ends a process and all that it started, if any of it still runs, and waits until it is gone.

    A process that was killed holds its memory, and a device's, until the system has taken it apart; the next stage
    needs both. One that nobody collects, as in a container without an init, is waited for no longer than PATIENCE.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + PATIENCE
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < until:
                process.poll()  # collects it: uncollected it would still be of the group
                os.killpg(process.pid, 0)
                time.sleep(0.02)
        except ProcessLookupError:  # none of the group is left
            break
    process.wait()


def last_words(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def read(result: Path) -> Any:
    """What a stage has written; None where it has not."""
    return json.loads(result.read_text()) if result.exists() else None


def summary(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """The check's JSON: whether all of it was done and passed, and every outcome."""
    passed = bool(outcomes) and all(
        o["status"] == DONE and (o["told"] or {}).get("passed", True) is True for o in outcomes
    )
    return {"passed": passed, "seconds": round(seconds, 1), "stages": list(outcomes)}


def write(out: Path, told: dict[str, Any], page: Callable[[dict[str, Any]], str]) -> None:
    """The JSON and the page, whole whenever somebody looks."""
    write_json(out / "accelerator_check.json", told)
    write_whole(out / "accelerator_check.html", lambda path: path.write_text(page(told), encoding="utf-8"))
