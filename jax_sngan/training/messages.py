"""What a run prints at its start and at its end, for both frameworks."""

import time
from pathlib import Path

from jax_sngan.config.arithmetic import describe_determinism, describe_precision
from jax_sngan.config.schema import RunConfig, TrainConfig
from jax_sngan.runs.run_log import duration
from jax_sngan.runs.selection import steps_in
from jax_sngan.system.invocation import this_command
from jax_sngan.system.terminal import shown
from jax_sngan.training.loop import Result


def describe_start(
    config: TrainConfig,
    run: RunConfig,
    workdir: Path,
    data: str,
    networks: str,
    parameters: tuple[int, int],
    device: str,
    platform: str,
    start: int,
) -> None:
    """Prints what is about to happen.

    Args:
      data: a line on the images.
      networks: what they are; parameters: of G and of D.
      device: a line on what computes; platform: its kind (config/arithmetic.py).
      start: steps that are done.
    """
    print(f"data        {shown(data)}")
    print(f"networks    {shown(networks)}: generator {parameters[0]:,} parameters, discriminator {parameters[1]:,}")
    print(f"device      {device}")
    print(f"precision   {describe_precision(config, platform)}")
    if run.deterministic:
        print(f"determinism {describe_determinism(platform)}")
    updates = f"{config.n_dis} D updates and one G update each, batch {config.batch_size}"
    print(f"steps       {start} -> {config.steps}: {updates}")
    print(f"results in  {shown(workdir)}", flush=True)


def describe_resume(workdir: Path, start: int | None, notes: list[str], begun: bool) -> None:
    """Prints where the run goes on, or that it starts anew after an earlier log.

    Args:
      notes: what to know of it.
      begun: whether an earlier run had begun to log.
    """
    for note in notes:
        print(f"note        {shown(note)}", flush=True)
    if start is not None:
        print(f"resumes from the checkpoint of step {start}", flush=True)
    elif begun:
        print(f"starts from step 0: an earlier run in {shown(workdir)} ended before its first checkpoint", flush=True)


def describe_end(result: Result, config: TrainConfig, workdir: Path, started: float) -> None:
    """Prints what there is now and what to do with it; started: time.monotonic() of the start."""
    if result.alarm:
        print(f"stopped at step {result.step} by the alarm {result.alarm} and saved; to go on: {this_command()}")
        return
    if result.stopped and result.step >= config.steps:
        print(f"stopped at step {result.step}, its last, and saved")
        return
    if result.stopped:
        print(f"stopped at step {result.step} of {config.steps} and saved; to go on: {this_command()}")
        return
    if not result.metrics:
        print(f"{shown(workdir)} has all its {config.steps} steps; for more give --steps, for another run --workdir")
        return
    print(f"{result.step} steps in {duration(time.monotonic() - started)}")
    if result.picture:
        print(f"picture     {shown(result.picture)}")
    if result.sampling:
        print(f"more images {result.sampling}")


def kept_in(workdir: Path, last: int) -> str:
    """What there is on disk and how to go on; last: the run's last step."""
    steps = steps_in(workdir / "checkpoints")
    if steps and steps[-1] >= last:
        return f"the checkpoint of step {steps[-1]}, the last, is there"
    newest = f"the newest checkpoint is of step {steps[-1]}" if steps else "there is no checkpoint yet"
    return f"{newest}; to go on: {this_command()}"
