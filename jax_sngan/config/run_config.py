"""The options of where a run is kept, how often it writes, what it watches, and on what it runs."""

import re
from dataclasses import dataclass
from typing import Literal

from jax_sngan.config.fields import Options, option
from jax_sngan.system.errors import UserError

ALARMS = ("d_won", "d_flat", "collapse", "sigma", "exploding")  # what a run may be ended by (training/alarms.py)


@dataclass(frozen=True)
class RunConfig(Options):
    """Where a run is kept, how often it writes, and on what it runs. Nothing here changes what is computed before a
    NaN, but for rounding."""

    workdir: str | None = option(None, "folder of the run; default: runs/PRESET")
    data_dir: str | None = option(
        None, "folder that holds the data set's original files; default: looked for, then downloaded"
    )
    stream: Literal["auto", "always", "never"] = option(
        "auto",
        "images of a FOLDER or archive stay on disk and are decoded as they are needed; auto: where they would take"
        " more than half of the memory",
    )
    stream_workers: int | None = option(
        None, "processes that decode a stream; 0: threads. Default: one for each core but one", minimum=0, below=257
    )
    skip_broken: bool = option(
        False, "images of a FOLDER or archive that cannot be read are left out; else they are named and nothing begins"
    )
    log_every: int = option(50, "steps between two lines of metrics.jsonl", minimum=1)
    log_level: Literal["basic", "full"] = option(
        "basic", "full: each layer's norms and histograms of D's scores too, by a second program at each log"
    )
    singular_values_every: int = option(
        500,
        "steps between two logs that have the true singular values beside the sigmas of the power iteration; 0: none",
        minimum=0,
    )
    stop_on: str = option(
        "", f"alarms that end the run, with commas: {', '.join(ALARMS)} (docs/watching.md); exit code 3"
    )
    profile_steps: str | None = option(
        None, "A:B: profile steps A to B - 1, counted from 0: a trace in WORKDIR/profile, and the costliest lines"
    )
    sample_every: int = option(500, "steps between two sample grids; 0: none", minimum=0)
    checkpoint_every: int = option(500, "steps between two checkpoints; 0: only the last", minimum=0)
    keep_checkpoints: int = option(2, "how many of the latest checkpoints stay", minimum=1)
    evaluate_every: int = option(
        0, "steps between two evaluations, of the averaged generator and of its own weights; 0: none", minimum=0
    )
    evaluate_metrics: str = option(
        "fcd,classes",
        "as --metrics of `evaluate`, with commas; the checkpoint that is best by the first stays beside the latest",
    )
    evaluate_num: int = option(5000, "generated images in an evaluation", minimum=2)
    evaluate_features: str = option("classifier", "as --features of `evaluate`")
    evaluate_real: str | None = option(None, "real images, as --real of `evaluate`; default: as there")
    standing_statistics: int = option(
        0, "evaluate the averaged generator with batch statistics taken anew on this many latents; 0: stored", minimum=0
    )
    resume: Literal["auto", "never", "must"] = option(
        "auto",
        "auto: go on where there is a checkpoint; never: refuse a workdir that has one; must: refuse one without",
    )
    step: int | None = option(
        None, "with --resume must: the checkpoint to go on from; newer ones are renamed. Default: the newest sound one"
    )
    on_nan: Literal["stop", "rollback"] = option(
        "stop", "a number is not finite: stop, or go back to the last checkpoint and on with other inputs"
    )
    max_rollbacks: int = option(3, "how often a run may go back", minimum=0)
    dispatch: int = option(
        1,
        "training steps handed to the device at a time; logs, pictures and checkpoints come when they would, a signal "
        "waits for those in progress",
        minimum=1,
    )
    deterministic: bool = option(
        False, "the same bits from every start on a GPU too, by slower programs (docs/resuming.md); a CPU needs nothing"
    )
    mesh: str | None = option(None, "devices to share each batch, as data=N; default: one device")
    shard_state: bool = option(False, "each device of the mesh keeps a part of Adam's moments and of the average")
    device: str = option(
        "auto",
        "of the PyTorch reference: cpu, cuda or cuda:N; auto: a GPU that torch sees. JAX's is chosen by JAX_PLATFORMS",
    )

    coordinator: str | None = option(
        None, "several processes: HOST:PORT of the first; default: as SLURM, GKE or a TPU pod say, else one process"
    )
    num_processes: int | None = option(None, "how many processes there are, with coordinator", minimum=1)
    process_id: int | None = option(None, "this process's number, from 0, with coordinator", minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard_state and self.mesh is None:
            raise UserError("shard_state needs a mesh to share the state, got mesh=None")
        if self.step is not None and self.resume != "must":
            raise UserError(
                f"step needs resume=must, got step={self.step} with resume={self.resume}; "
                f"did you mean steps={self.step} (--steps {self.step})?"
            )
        if wrong := [name for name in self.alarms if name not in ALARMS]:
            raise UserError(f"stop_on must be of {', '.join(ALARMS)}, with commas; got {wrong[0]!r}")
        if self.profile_steps is not None:
            first, _, last = self.profile_steps.partition(":")
            if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
                raise UserError(f"profile_steps must be A:B with 0 <= A < B, got {self.profile_steps!r}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise UserError(f"device must be auto, cpu, cuda or cuda:N, got {self.device}")

    @property
    def alarms(self) -> tuple[str, ...]:
        """Names of the alarms that end the run."""
        return tuple(name.strip() for name in self.stop_on.split(",") if name.strip())

    @property
    def profiled(self) -> range:
        """Numbers of the steps that are profiled, from 0."""
        first, _, last = (self.profile_steps or "0:0").partition(":")
        return range(int(first), int(last))
