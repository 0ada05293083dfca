"""A model of a training step's time against the number of devices; its assumptions are the fields of Machine.

T(n) = max(F / (n P u) + t(n), images / rate): what a device computes and what is communicated, not hidden behind it,
unless the images come more slowly. t(n) = bytes 2 (n - 1) / (n W) + sums (n - 1) l: each of the step's sums is a ring
all-reduce, whose traffic a device is 2 (n - 1) / n of its bytes (Patarasuk & Yuan 2009), with one latency a neighbour.
"""

from dataclasses import dataclass

from jax_sngan.config import TrainConfig


@dataclass(frozen=True)
class Machine:
    """What a device reaches and how fast data come to it."""

    peak_flops: float  # FLOP/s of one device
    reached: float  # share of it that training reaches, 0 to 1; taken to be the same for a smaller batch a device
    bandwidth: float  # bytes/s of the slowest link of the ring, one direction
    latency: float  # seconds from a device to the next
    images_a_second: float  # that are decoded and sent, of all machines together


@dataclass(frozen=True)
class Work:
    """One training step's, of all devices together."""

    flop: float
    gradient_bytes: float  # of n_dis gradients of D and one of G
    sums: int
    images: int


@dataclass(frozen=True)
class StepTime:
    """Seconds."""

    devices: int
    compute: float
    communication: float
    images: float

    @property
    def step(self) -> float:
        """The whole step's; communication is not hidden behind computing, reading images is."""
        return max(self.compute + self.communication, self.images)


def work(config: TrainConfig, gflop: float, g_params: int, d_params: int, sums: int = 100, size: int = 4) -> Work:
    """A step's work; gflop, g_params and d_params as train.describe counts them.

    sums: batch normalisation's and the gradients'. size: bytes of a gradient's number.
    """
    gradients = size * (config.n_dis * d_params + g_params)
    return Work(1e9 * gflop, gradients, sums, config.n_dis * config.batch_size)


def step_time(work: Work, machine: Machine, devices: int) -> StepTime:
    """The model.

    Raises:
      ValueError: devices is not at least 1.
    """
    if devices < 1:
        raise ValueError(f"devices must be at least 1, got {devices}")
    ring = 2 * (devices - 1) / devices * work.gradient_bytes / machine.bandwidth
    return StepTime(
        devices,
        compute=work.flop / (devices * machine.peak_flops * machine.reached),
        communication=ring + work.sums * (devices - 1) * machine.latency,
        images=work.images / machine.images_a_second,
    )
