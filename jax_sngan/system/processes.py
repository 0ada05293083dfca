"""The processes of one run, on one machine or many: who they are, what they agree on, and how they end.

jax.distributed joins them, the same command on each. The first one (index 0) alone writes logs, pictures and the
workdir's files; checkpoints are written by all (Orbax). Every function here is that of a run alone where there is but
one process, and costs it nothing.
"""

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax._src.clusters import ClusterEnv  # jax's own list: jax.distributed has no call that only looks
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax_sngan.system.errors import UserError
from jax_sngan.system.invocation import program
from jax_sngan.system.out_of_memory import memory_line, out_of_memory

T = TypeVar("T")

HEARTBEAT = 30  # seconds without a sign of a process until the others end
SHUTDOWN = 30  # seconds that a process waits at its end for the others'


class ToldByFirst(UserError):
    """A mistake that the first process found, raised in all of them."""


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the run's processes: those named, else those that the environment has as jax finds them.

    SLURM, Open MPI, GKE and TPU pods are found. A task alone is left alone: jax would give SLURM's one device only.

    Args:
      coordinator: HOST:PORT at which the first process listens, there alone, unless the environment's
        JAX_COORDINATOR_BIND_ADDRESS says where else. Within a cluster the other two may be left out.
    Raises:
      UserError: options that do not fit each other, or the others could not be reached.
    """
    if jax.distributed.is_initialized():
        return
    given = (coordinator, num_processes, process_id)
    if given == (None, None, None):
        if not _several_in_cluster():
            return
    else:
        _check(coordinator, num_processes, process_id)
        if num_processes == 1:
            return
    # jax's own would take SIGTERM away from system/signals.py, and it knows no Ctrl-C.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            # jax's own default is every interface of the machine.
            coordinator_bind_address=os.environ.get("JAX_COORDINATOR_BIND_ADDRESS") or coordinator,
            cluster_detection_method=None if None in given else "deactivate",
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the processes of this run cannot be joined: {_first_line(error)}; "
            "give --coordinator HOST:PORT, --num-processes N and --process-id K"
        ) from error


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    if coordinator is None:
        raise UserError("num_processes and process_id need coordinator=HOST:PORT, got coordinator=None")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(f"coordinator must be HOST:PORT with a port from 1 to 65535, got {coordinator!r}")
    if process_id is not None and num_processes is not None and process_id >= num_processes:
        raise UserError(f"process_id must be from 0 to {num_processes - 1} (num_processes - 1), got {process_id}")


def _several_in_cluster() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a pod without the package kubernetes jax says that it finds nothing
        for cluster in ClusterEnv._cluster_types:
            if not cluster.opt_in_only_method and cluster.is_env_present():
                try:
                    return cluster.get_process_count() > 1
                except RuntimeError as error:  # a pod that is of no job
                    print(f"note: this process runs alone: {_first_line(error)}", file=sys.stderr)
                    return False
    return False


def count() -> int:
    """How many there are."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the one that writes."""
    return count() == 1 or jax.process_index() == 0


def first_does(act: Callable[[], Any]) -> Any:
    """Calls act in the first process alone; all return what it returned, a value that JSON holds.

    Raises:
      ToldByFirst: act raised a UserError.
    """
    return _of_first(first_makes(act))


def first_makes(make: Callable[[], T]) -> T | None:
    """Calls make in the first process alone, which returns what it made, anything at all; the others return None.

    Raises:
      ToldByFirst: make raised a UserError.
    """
    if count() == 1:
        return make()
    made, mistake = None, None
    if is_first():
        try:
            made = make()
        except UserError as error:
            mistake = str(error)
    if (mistake := _of_first(mistake)) is not None:
        raise ToldByFirst(mistake)
    return made


def first_goes_ahead(act: Callable[[], T]) -> T:
    """Calls act in the first process and then in the others, which find the files that it made.

    Raises:
      ToldByFirst: the first's act raised a UserError.
    """
    made = first_makes(act)
    return cast(T, made) if is_first() else act()


def _of_first(value: Any) -> Any:
    """The first process's value, which JSON holds, in all of them."""
    return value if count() == 1 else json.loads(_broadcast(json.dumps(value if is_first() else None).encode()))


def _broadcast(text: bytes) -> bytes:
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    buffer = np.zeros(length, np.uint8)
    if is_first():
        buffer[:] = np.frombuffer(text, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(buffer)).astype(np.uint8).tobytes()


class Agreement:
    """The largest of the processes' numbers, for all of them in the same step."""

    def __init__(self, mesh: Mesh | None):
        self._mesh, self._asked = mesh, None
        if mesh is not None:
            self._split = NamedSharding(mesh, PartitionSpec("data"))
            self._largest = jax.jit(lambda x: x.max(), out_shardings=NamedSharding(mesh, PartitionSpec()))

    def __call__(self, number: int) -> int:
        """Called once a step by all; the answer is that of the numbers given one call before.

        So nothing waits for it: it travels while a step is computed.
        """
        if self._mesh is None or count() == 1:
            return number
        own = np.full(len(self._mesh.local_devices), number, np.int32)
        numbers = jax.make_array_from_process_local_data(self._split, own, (self._mesh.size,))
        before, self._asked = self._asked, self._largest(numbers)
        return 0 if before is None else int(before)


@contextmanager
def ends_alone(together: type[Exception]) -> Iterator[None]:
    """Within the block an error of one of several processes ends that process at once, with its line.

    It waits for no other: they are in a step that needs it, and end when they find that it is gone. An error that all
    raise (ToldByFirst, and the type `together`) passes through.
    """
    try:
        yield
    except (ToldByFirst, together):
        raise
    except BaseException as error:
        if count() == 1:
            raise
        code = 2
        if out_of_memory(error):
            code, line = 1, f"process {jax.process_index()}: {memory_line(error)}"
        elif lost(error):
            code = 1
            line = (
                f"process {jax.process_index()}: another process of this run has ended, or cannot be reached: the run "
                "stops; the last checkpoint is whole, and the same command on all machines goes on from it "
                f"({_first_line(error)})"
            )
        elif isinstance(error, UserError):
            line = f"process {jax.process_index()}: {error}"
        elif isinstance(error, KeyboardInterrupt):
            code, line = 130, f"process {jax.process_index()}: interrupted"
        else:
            code, line = 1, "".join(traceback.format_exception(error)).rstrip()
        sys.stdout.flush()
        print(f"{program()}: {line}", file=sys.stderr, flush=True)
        os._exit(code)


def lost(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that of a process that is no longer there."""
    while error is not None:
        text = str(error)
        told = isinstance(error, (ValueError, RuntimeError)) and not isinstance(error, UserError)
        if told and any(word in text for word in _LOST):
            return True
        error = error.__cause__ or error.__context__
    return False


# What gloo, NCCL and jax's coordination service say of it.
_LOST = ("Gloo", "NCCL", "coordination service", "CoordinationService", "Barrier failed", "barrier")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
