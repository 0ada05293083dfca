"""What the project uses of XLA and jax that neither promises to keep; tests/test_jax_internals.py tries each by name.

Loads no jax: flags have to be set before it starts.
"""

from importlib.metadata import version
from typing import Any, NamedTuple


class Option(NamedTuple):
    """An XLA option.

    Attributes:
      example: a value to try it with.
      dropped: the first jaxlib, (major, minor), that does not know it; None: the newest that was tried does.
    """

    example: int | bool
    dropped: tuple[int, int] | None = None


OPTIONS = {
    "xla_backend_optimization_level": Option(0),
    "xla_cpu_collective_call_terminate_timeout_seconds": Option(300),
    "xla_cpu_parallel_codegen_split_count": Option(1),
    "xla_cpu_use_fusion_emitters": Option(False, dropped=(0, 11)),  # since then XLA has no others
    "xla_gpu_deterministic_ops": Option(True),
    "xla_force_host_platform_device_count": Option(2),
}

# By jax's own words what is in `jax.experimental` and `jax.extend` may change, too.
PRIVATE = (
    "jax._src.clusters.ClusterEnv._cluster_types",
    "jax._src.clusters.ClusterEnv.get_process_count",
    "jax._src.clusters.ClusterEnv.is_env_present",
    "jax._src.clusters.ClusterEnv.opt_in_only_method",
    "jax.experimental.compilation_cache.compilation_cache.reset_cache",
    "jax.experimental.multihost_utils.broadcast_one_to_all",
    "jax.experimental.serialize_executable.deserialize_and_load",
    "jax.experimental.serialize_executable.serialize",
    "jax.experimental.topologies.get_topology_desc",
    "jax.extend.core.ClosedJaxpr",
    "jax.extend.core.Jaxpr",
    "jax.extend.core.Literal",
)


def known(options: dict[str, int | bool], platform: str = "cpu") -> dict[str, Any]:
    """Those of some XLA options that the compiler here knows, as jax.jit takes them; it refuses all if it lacks one.

    Args:
      platform: that of the devices; compilers of others than CPUs need not know an option of theirs (libtpu does not).
    Raises:
      KeyError: one that is not in OPTIONS.
    """
    fit = [n for n in options if is_known(OPTIONS[n]) and (platform == "cpu" or not n.startswith("xla_cpu_"))]
    return {name: options[name] for name in fit}


def is_known(option: Option) -> bool:
    """Whether the jaxlib that is installed has it."""
    here = tuple(int(n) for n in version("jaxlib").split(".")[:2])
    return option.dropped is None or here < option.dropped


def flags(options: dict[str, int | bool]) -> str:
    """Those that this jaxlib knows, for the environment variable XLA_FLAGS; it ends a process at any other."""
    return " ".join(f"--{name}={str(value).lower()}" for name, value in known(options).items())
