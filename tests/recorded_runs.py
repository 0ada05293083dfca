"""50 steps of each preset's options, with narrow networks, in float64: tests/recorded_runs.json has those of 5138015.

Its `fashion` is not there: that was what `sngan` is. A search gave it, `dcgan`, `wgan` and `wgan_gp` other settings
(docs/search.md); the last three are run with the options that they had.

python tests/recorded_runs.py OUT.json [PRESET …]    records what the code of today computes
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jax_sngan
from jax_sngan.config.schema import ModelConfig, TrainConfig, flatten, replace
from jax_sngan.system.jax_internals import known

STEPS, LOGGED = 50, (1, 10, 25, 50)
# Since then: options that there were not, with the value that computes what was computed.
NEW_OPTIONS = {"precision": "default", "class_names": ""}
SEARCHED = ("dcgan", "wgan", "wgan_gp")


def recorded() -> dict[str, Any]:
    """The runs of then, by preset."""
    text = (Path(__file__).parent / "recorded_runs.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def as_it_was(name: str) -> TrainConfig:
    """A preset with the options that it had then."""
    config = jax_sngan.preset(name)
    return replace(config, recorded()[name]["options"]) if name in SEARCHED else config


def fewest_features(model: ModelConfig) -> int:
    """A width for a quick run: 4, or 16 where the network takes no 4."""
    return 16 if model.architecture == "resnet" and model.image_size >= 48 else 4


def narrow(name: str) -> TrainConfig:
    """A preset with 50 steps of batch 4 through its narrowest networks; all other options are those of then."""
    config = as_it_was(name)
    model = config.model
    width = fewest_features(model)
    changes: dict[str, Any] = {
        "steps": STEPS,
        "batch_size": 4,
        "model.dtype": "float64",
        "model.compute_dtype": "same",
        "model.generator_width": width,
        "model.discriminator_width": width,
        "model.latent_size": 8,
    }
    if model.num_classes:
        changes["model.num_classes"] = 10  # as many as fashion has
    for optimizer in ("generator_optimizer", "discriminator_optimizer"):
        if getattr(config, optimizer).decay_start:
            changes[f"{optimizer}.decay_start"] = 10
    return replace(config, changes)


def options(name: str) -> dict[str, Any]:
    """All options of a preset that there were then, by their dotted names."""
    return {option: value for option, value in flatten(as_it_was(name)).items() if option not in NEW_OPTIONS}


def run(name: str) -> dict[str, Any]:
    """The logs of some of the steps, and of every array of the last state the sum of its numbers' sizes."""
    config = narrow(name)
    model = config.model
    source, size = ("grid", 1) if model.is_points else ("fashion", model.image_size)
    data = jax_sngan.load_data(source, image_size=size, channels=model.channels)
    state = jax_sngan.create_state(config)
    # Compiled for fifty small steps: with all of XLA's optimisation it takes far longer than they do.
    fast = known({"xla_backend_optimization_level": 0}, "cpu")
    step = jax.jit(jax_sngan.train_step(config), donate_argnums=0, compiler_options=fast)
    logs = {}
    for k in range(STEPS):
        state, numbers = step(state, jax_sngan.draw_inputs(config, data, k))
        if k + 1 in LOGGED:
            logs[str(k + 1)] = {name: np.ravel(value).tolist() for name, value in numbers.items()}

    def sizes(tree: Any) -> dict[str, float]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path, simple=True, separator="."): float(np.abs(x).sum()) for path, x in leaves}

    return {
        "logs": logs,
        "generator": sizes(state.generator.params),
        "statistics": sizes(state.generator.batch),
        "average": sizes(state.generator_ema),
        "discriminator": sizes(state.discriminator.params),
        "spectral": sizes(state.discriminator.spectral),
    }


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    out, *names = sys.argv[1:]
    with open(out, "w") as file:
        json.dump({name: {"options": options(name), **run(name)} for name in names or jax_sngan.presets()}, file)
