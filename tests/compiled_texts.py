"""Small programs compiled for real, whose texts lie in tests/compiled/: what test_accelerators.py counts on paper.

Written again, where the extra `aot` is, by `python tests/compiled_texts.py`.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "compiled"
ROUNDS = 3  # of the loop
IMAGES, SIZE, CHANNELS, FEATURES = 16, 8, 8, 16  # a batch; the map's side; channels of it and of the result
WIDTH = 64  # of a square matrix
# Name: (target, devices)
TEXTS = {"v5e": ("v5e:2x2", 1), "v5e_mesh": ("v5e:2x2", 4), "h100": ("h100", 1), "h100_mesh": ("h100", 8)}


def program(state: Any, images: Any) -> Any:
    """In a loop a convolution's gradient step; then a product in bfloat16, a power iteration and a moving average."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from jax_sngan.core.optim import moving_average
    from jax_sngan.nn.spectral_norm import power_iteration

    def loss(kernel: Any) -> Any:
        layout = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(images, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=layout)
        return jnp.mean(y**2)

    kernel, matrix, u, v, average = state
    kernel = lax.fori_loop(0, ROUNDS, lambda _, k: k - 0.1 * jax.grad(loss)(k), kernel)
    u, v = power_iteration(matrix, u, v)
    small = matrix.astype(jnp.bfloat16)
    return kernel, (small @ small).astype(jnp.float32), u, v, moving_average(average, matrix, 0.9)


def write(name: str) -> None:
    """Compiles one and writes its text."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

    from jax_sngan.accelerators import compile_step
    from jax_sngan.accelerators.targets import target

    to, count = target(TEXTS[name][0]), TEXTS[name][1]
    mesh = Mesh(np.array(compile_step.devices_of(to, count)), ("data",), axis_types=(AxisType.Auto,))
    of = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    whole, split = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data")))
    shapes = [(3, 3, CHANNELS, FEATURES), (WIDTH, WIDTH), (WIDTH,), (WIDTH,), (WIDTH, WIDTH)]
    state = tuple(of(shape, sharding=whole) for shape in shapes)
    images = of((IMAGES, SIZE, SIZE, CHANNELS), sharding=split)
    traced = jax.jit(program, donate_argnums=0, out_shardings=whole).trace(state, images)
    compiled = traced.lower(lowering_platforms=(to.chip.platform,)).compile()
    text = compiled.as_text()
    assert text is not None
    (FOLDER / f"{name}.txt").write_text(text.replace(str(HERE.parent) + "/", ""))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write(sys.argv[1])
    else:  # each in a process of its own: two compilers in one disturb each other
        sys.path.insert(0, str(HERE.parent))
        from jax_sngan.accelerators.environment import COMPILER

        for one in TEXTS:
            environment = os.environ | COMPILER | {"PYTHONPATH": str(HERE.parent)}
            subprocess.run([sys.executable, __file__, one], check=True, env=environment)
