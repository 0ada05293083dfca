"""Prints a model of a preset's step time against the number of devices (docs/scaling.md); trains nothing.

The defaults are an H100's datasheet in float32 with NVLink, and guesses of what of it is reached.
"""

from jax_sngan import command_line, scaling
from jax_sngan.errors import UserError
from jax_sngan.files import write_json
from jax_sngan.preset_configs import preset

# Option, default, what it is.
FIGURES = (
    ("tflops", 67.0, "peak of one device, TFLOP/s"),
    ("reached", 0.3, "share of the peak that training reaches"),
    ("bandwidth", 450.0, "of the slowest link, one direction, GB/s"),
    ("latency", 5.0, "from a device to the next, microseconds"),
    ("images", 100_000.0, "images a second that are decoded and sent, of all machines together"),
)


def milliseconds(seconds: float) -> str:
    """To three digits, or whole."""
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:.3g} ms"


def main() -> None:
    """The table."""
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("preset", nargs="?", default="imagenet128_projection", metavar="PRESET")
    parser.add_argument("--devices", default="1,2,4,8,16,32", metavar="N,N", help="default: 1,2,4,8,16,32")
    for name, default, text in FIGURES:
        parser.add_argument(f"--{name}", type=float, default=default, metavar="X", help=f"{text}; default: {default:g}")
    parser.add_argument(
        "--work", type=float, metavar="X", help="TFLOP a step; default: as counted on this backend (a CPU needs fewer)"
    )
    parser.add_output("--json", "write the table there", ".json")
    given = parser.parse()
    config = preset(given.preset)
    counts = given.devices.split(",")
    if not all(n.isdigit() and int(n) for n in counts):
        raise UserError(f"--devices must be whole numbers from 1, parted by commas, got {given.devices!r}")
    for name, _, _ in FIGURES:
        if not getattr(given, name) > 0:
            raise UserError(f"--{name} must be above 0, got {getattr(given, name)}")
    if given.work is not None and not given.work > 0:
        raise UserError(f"--work must be above 0, got {given.work}")
    from jax_sngan.train import describe  # jax takes a second to load

    counted = describe(config)
    gflop = counted["gflop_per_step"] if given.work is None else 1e3 * given.work
    work = scaling.work(config, gflop, counted["g_params"], counted["d_params"])
    machine = scaling.Machine(
        given.tflops * 1e12, given.reached, given.bandwidth * 1e9, given.latency * 1e-6, given.images
    )
    rows = [scaling.step_time(work, machine, int(n)) for n in counts]
    if given.json:
        keys = ("devices", "compute", "communication", "images", "step")
        write_json(given.json, {"preset": given.preset, "rows": [{k: getattr(r, k) for k in keys} for r in rows]})
    if given.json != "-":
        print(
            f"{given.preset}: {work.flop / 1e12:.4g} TFLOP, {work.gradient_bytes / 1e6:.4g} MB of gradients and "
            f"{work.images:,} images a step"
        )
        print("| devices | compute | communication | images | step | speed-up |\n| --- | --- | --- | --- | --- | --- |")
        for r in rows:
            parts = " | ".join(milliseconds(s) for s in (r.compute, r.communication, r.images, r.step))
            print(f"| {r.devices} | {parts} | {scaling.step_time(work, machine, 1).step / r.step:.3g} |")


if __name__ == "__main__":
    command_line.run(main)
