"""Compiles a config's training step for a target, as a process of its own: two compilers in one disturb each other.

`python -m jax_sngan.accelerators.compile_step` reads a request as JSON from standard input, tells the stages on
standard output, a line of JSON each, and writes the compiled text to the request's file. It is started with the
variables of environment.COMPILER.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jax_sngan.accelerators.targets import Target, card_text, target
from jax_sngan.config.schema import TrainConfig, from_dict
from jax_sngan.core.inputs import input_shapes
from jax_sngan.core.sharding import check_split, placed_inputs, placed_shape, placed_shapes, sharded_step
from jax_sngan.core.state import state_shapes
from jax_sngan.core.step import train_step, training_step
from jax_sngan.models.network import allow_dtype
from jax_sngan.system.errors import UserError

# The least that TPU's compiler can be asked to search for fast tilings. jax 0.11 and later know the level alone.
QUICK: dict[str, Any] = (
    {"exec_time_optimization_effort": -1.0} if jax.__version_info__ < (0, 11) else {"optimization_level": "O1"}
)


def devices_of(to: Target, count: int) -> list[Any]:
    """The first `count` devices of a target that need not be here."""
    if to.chip.platform == "cuda":
        described = topologies.get_topology_desc("", "cuda", topology=f"1x1x{count}", target_config=card_text(to.chip))
    else:
        described = topologies.get_topology_desc(f"{to.chip.name}:{to.layout}", "tpu")
    return list(described.devices[:count])


def lowered(config: TrainConfig, to: Target, count: int, *, mesh: bool, split: bool) -> tuple[Any, int]:
    """The training step that `train` runs on `count` devices of the target, and how many arrays its inputs are."""
    allow_dtype(config.model)
    on = Mesh(np.array(devices_of(to, count)), ("data",), axis_types=(AxisType.Auto,))
    state = state_shapes(config)
    if split:
        check_split(on, state)
    state = placed_shapes(on, state, split)
    if mesh:
        inputs = placed_inputs(on, config)
        step: Any = sharded_step(on, partial(training_step, config), state, split)
    else:
        whole = NamedSharding(on, PartitionSpec())
        inputs = jax.tree.map(lambda a: placed_shape(a, whole), input_shapes(config))
        step = train_step(config)
    traced = step.trace(state, inputs)
    # The platform by name: jax would ask this machine what kind of GPU it has.
    return traced.lower(lowering_platforms=(to.chip.platform,)), len(jax.tree.leaves(inputs))


def main() -> None:
    """Answers one request: {"config", "target", "devices", "mesh", "shard_state", "quick", "text": path}."""
    request = json.loads(sys.stdin.read())
    to = target(request["target"])

    def tell(**what: Any) -> None:
        print(json.dumps(what), flush=True)

    tell(stage="tracing the training step")
    config, count = from_dict(TrainConfig, request["config"]), request["devices"]
    try:
        step, inputs = lowered(config, to, count, mesh=request["mesh"], split=request["shard_state"])
    except UserError as error:
        tell(error=str(error))
        return
    tell(stage="compiling")
    try:
        compiled = step.compile(compiler_options=QUICK if request["quick"] else None)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        tell(refused=" ".join(str(error).split()))
        return
    Path(request["text"]).write_text(compiled.as_text())
    memory = compiled.memory_analysis()
    tell(
        inputs=inputs,
        arguments=memory.argument_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        results=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
    )


if __name__ == "__main__":
    main()
