"""Replays a recorded training trajectory of a public SN-GAN program in JAX, in float64, and prints the errors.

Exit code 0: every error is within the tolerance; 1: one is not; 2: the file can't be read or is no such recording.
"""

from jax_sngan.commands import cli
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import write_json
from jax_sngan.system.terminal import shown


def main() -> int:
    """The exit code: 0 within the tolerance, 1 not."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("trajectory", metavar="TRAJECTORY.npz", help="the recording")
    parser.add_output("--json", "write the errors there", ".json")
    parser.add_argument("--tolerance", type=float, default=1e-8, metavar="X", help="largest error allowed (1e-8)")
    arguments = parser.parse()
    if not arguments.tolerance >= 0:
        raise UserError(f"--tolerance must be at least 0, got {arguments.tolerance}")

    from jax_sngan.interop import recording, replay  # after the options are checked: jax takes a second to load
    from jax_sngan.system.allocator import keep_freed_memory
    from jax_sngan.system.compilation_cache import use_compilation_cache

    keep_freed_memory()
    use_compilation_cache()
    recorded = recording.load_recording(arguments.trajectory)
    found = replay.replay(recorded)
    if arguments.json != "-":
        print("\n".join(map(shown, replay.table(recorded, found, arguments.tolerance).split("\n"))))
    if arguments.json:
        write_json(arguments.json, replay.as_json(recorded, found, arguments.tolerance))
    return 0 if found.error <= arguments.tolerance else 1
