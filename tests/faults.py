"""Runs that are killed at random moments, and checkpoints that are damaged at random places.

A nursery is one process that has imported all that training needs and forks a process for each run: real processes,
real signals, without two seconds of imports each.
"""

import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
# The smallest networks there are: a run is its starts, logs, pictures, evaluations and checkpoints.
_SMALLEST = [
    "--model.architecture=mlp", "--model.depth=1", "--model.generator-width=4", "--model.discriminator-width=4",
    "--model.latent-size=2", "--batch-size=8", "--n-dis=1", "--ema-decay=0.5",
    "--log-every=5", "--sample-every=20", "--checkpoint-every=7",
]  # fmt: skip
# On points of the plane.
OPTIONS = ["--data=ring", "--model.image-size=1", "--model.channels=2", "--model.output=identity", *_SMALLEST]
# On 4 x 4 images of --data, with evaluations by the package's classifier, which the first run trains and keeps.
EVALUATED = [
    "--model.image-size=4", "--model.channels=1", "--evaluate-every=10", "--evaluate-num=500", *_SMALLEST,
]  # fmt: skip
BEGINS, ENDS = "(an evaluation begins)", "(an evaluation ends)"  # printed by the runs of a nursery alone


class Nursery:
    """Starts training processes by forking; a line of JSON in, a process id out."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, arguments: Sequence[str], output: Path) -> "Child":
        """train_jax.py with arguments; what it prints goes to a file."""
        _tell(self._process.stdin, {"arguments": list(arguments), "output": str(output)})
        return Child(self, int(self._read()), output)

    def wait(self, pid: int) -> int:
        """The exit code of a process, minus the number of the signal that ended it."""
        _tell(self._process.stdin, {"wait": pid})
        return int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery has ended"
        return line

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Child:
    """One run."""

    def __init__(self, nursery: Nursery, pid: int, output: Path):
        self.nursery, self.pid, self.output = nursery, pid, output

    def signal(self, number: int) -> None:
        """Sends a signal; the process is there until wait was called."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """See Nursery.wait."""
        return self.nursery.wait(self.pid)

    def printed(self) -> str:
        """What it has printed up to now."""
        return self.output.read_text() if self.output.exists() else ""


def _tell(pipe: IO[str] | None, message: dict[str, object]) -> None:
    assert pipe is not None
    pipe.write(json.dumps(message) + "\n")
    pipe.flush()


@contextmanager
def nursery(folder: Path, environment: dict[str, str]) -> Iterator[Nursery]:
    """A nursery for the block."""
    made = Nursery(folder, environment)
    try:
        yield made
    finally:
        made.close()


def serve() -> None:
    """The nursery's own side: no thread and no device may be there before a fork, so jax is imported and not used."""
    sys.path.insert(0, str(ROOT))
    import jax_sngan.training.trainer  # noqa: F401

    for line in sys.stdin:
        message = json.loads(line)
        if "wait" in message:
            print(os.waitstatus_to_exitcode(os.waitpid(message["wait"], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            _run(message["arguments"], message["output"])


def _run(arguments: list[str], output: str) -> None:
    """In the forked process: scripts/train_jax.py, and its end."""
    out, nothing = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, out), (2, out)):
        os.dup2(source, target)
    _tell_of_evaluations()
    sys.argv = ["scripts/train_jax.py", *arguments]
    code = 1
    try:
        runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)


def _tell_of_evaluations() -> None:
    """They print nothing while they last, and who kills a run in one must know."""
    from jax_sngan.training.evaluation import TrainingEvaluation

    score = TrainingEvaluation.__call__

    def told(self: TrainingEvaluation, generator: Any) -> Any:
        print(BEGINS, flush=True)
        try:
            return score(self, generator)
        finally:
            print(ENDS, flush=True)

    TrainingEvaluation.__call__ = told  # type: ignore[method-assign]


def moment(workdir: Path, printed: str) -> str:
    """What a process was doing that was just killed."""
    if "compiling the training step" not in printed:
        return "starting"
    if printed.count(BEGINS) > printed.count(ENDS):
        return "evaluating"
    if any(_half_written(p) for p in (workdir / "checkpoints").glob("*")):
        return "saving"
    if "step " not in printed.split("compiling the training step", 1)[1]:
        return "compiling"
    if any(p.name.startswith(".") for p in (workdir / "samples").glob("*")):
        return "drawing"
    return "training"


def _half_written(checkpoint: Path) -> bool:
    return "tmp" in checkpoint.name or "unsealed" in checkpoint.name


def sound_steps(workdir: Path) -> list[int]:
    """Steps whose checkpoint is as its manifest says, ascending."""
    from jax_sngan.runs import manifest

    folders = [p for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]
    return sorted(int(p.name) for p in folders if manifest.problem(p, int(p.name)) is None)


AIMS = ("start", "first log", "evaluation", "checkpoint")


def kill_at_random(
    nursery: Nursery, folder: Path, arguments: list[str], kills: int, seconds: float, seed: int
) -> tuple[Counter[str], list[Path]]:
    """Starts a run again and again and kills it, in turn, a random time of up to `seconds` after its start, of up to a
    third of that after its first log, and of up to a tenth after it has begun an evaluation or a checkpoint.

    A run that ends is kept, and a new one is begun. Each start must say the step of the newest sound checkpoint, or
    that it begins anew.

    Returns:
      How many were killed doing what, and the workdirs of the runs that ended; the last ends without a kill.
    """
    rng, counts, ended = random.Random(seed), Counter[str](), list[Path]()
    while True:
        workdir = folder / f"run{len(ended)}"
        while True:
            sound, begun = sound_steps(workdir), (workdir / "metrics.jsonl").exists()
            child = nursery.start([*arguments, f"--workdir={workdir}", "--resume=auto"], folder / "printed")
            killing = counts.total() < kills
            if killing:
                _wait_to_kill(child, workdir, AIMS[counts.total() % len(AIMS)], seconds, rng)
                child.signal(signal.SIGKILL)
            code, printed = child.wait(), child.printed()
            if "compiling the training step" in printed:
                expected = (
                    f"resumes from the checkpoint of step {sound[-1]}\n"
                    if sound
                    else "starts from step 0: an earlier run"
                    if begun
                    else "results in"
                )
                assert expected in printed, printed
            if code == 0:
                break
            assert code == -signal.SIGKILL, printed
            counts[moment(workdir, printed)] += 1
        ended.append(workdir)
        if not killing:
            return counts, ended


def _wait_to_kill(child: Child, workdir: Path, aim: str, seconds: float, rng: random.Random) -> None:
    """Until a random moment after what is aimed at, or after the end of the run."""
    awaited = {"first log": "^step ", "evaluation": re.escape(BEGINS)}.get(aim, "(?!)")
    longest = {"start": seconds, "first log": seconds / 3}.get(aim, seconds / 10)
    there = set((workdir / "checkpoints").glob("*"))  # what an earlier kill has left is no new checkpoint
    while aim != "start" and not re.search(f"{awaited}|steps in|has all", child.printed(), re.MULTILINE):
        if aim == "checkpoint" and any(_half_written(p) for p in set((workdir / "checkpoints").glob("*")) - there):
            break
        time.sleep(0.005)
    time.sleep(rng.uniform(0, longest))


DAMAGES = ("flip", "truncate", "empty", "remove", "swap", "manifest")


def damage(folder: Path, other: Path, kind: str, rng: random.Random) -> str:
    """Damages one file of a checkpoint's folder, or changes it for another step's; returns what was done."""
    if kind == "swap":
        aside = folder.with_name("aside")
        folder.rename(aside)
        shutil.copytree(other, folder)
        shutil.rmtree(aside)
        return f"{folder} is now {other}"
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    path = folder / "manifest.json" if kind == "manifest" else rng.choice(files)
    how = rng.choice(("flip", "truncate", "empty", "remove")) if kind == "manifest" else kind
    contents = bytearray(path.read_bytes())
    if how == "flip" and contents:
        i = rng.randrange(len(contents))
        contents[i] ^= 1 << rng.randrange(8)
        path.write_bytes(contents)
    elif how == "truncate" and contents:
        path.write_bytes(contents[: rng.randrange(len(contents))])
    elif how == "empty" and contents:
        path.write_bytes(b"")
    else:
        how = "remove"
        path.unlink()
    return f"{how} {path}"


if __name__ == "__main__":
    serve()
