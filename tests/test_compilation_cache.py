"""XLA's programs as bytes: what one from the disk tells of source files, and one that is loaded anew."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_sngan.system.compilation_cache import written

SOURCE = """
import jax
import jax.numpy as jnp

from jax_sngan.system.compilation_cache import told_by_source_lines, use_compilation_cache

use_compilation_cache()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
with told_by_source_lines(WANTED):
    print(jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((8, 8))).compile().as_text())
"""


@pytest.mark.parametrize("wanted", [True, False])
def test_a_program_names_the_file_that_it_came_from(wanted: bool, tmp_path: Path) -> None:
    texts = []
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs")}
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        file = tmp_path / place / "program.py"
        file.write_text(SOURCE.replace("WANTED", str(wanted)))
        ran = subprocess.run([sys.executable, str(file)], env=environment, capture_output=True, text=True, check=True)
        texts.append(ran.stdout)
    assert any((tmp_path / "programs").iterdir())
    assert f"{tmp_path}/here/program.py" in texts[0]
    # Otherwise the second is the first's, which is why a profile asks for its own.
    assert f"{tmp_path}/{'there' if wanted else 'here'}/program.py" in texts[1]


def programs(name: str) -> int:
    """Of a function's name that this process holds."""
    gc.collect()
    return sum(e.hlo_modules()[0].name == f"jit_{name}" for e in jax.devices()[0].client.live_executables())


def test_a_program_that_is_loaded_anew_takes_the_place_of_the_old() -> None:
    shifts = jnp.arange(8.0)

    def turned_once(state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.sin(state) + x * shifts, x.sum()

    jitted = jax.jit(turned_once, donate_argnums=0)
    x = jnp.linspace(0, 1, 8)
    program = jitted.lower(x, x).compile()
    expected = program(jnp.cos(x), x)
    load = written(program)
    assert load
    assert programs("turned_once") == 1
    jitted.clear_cache()
    del program
    assert programs("turned_once") == 0
    again = load()
    for state in (jnp.cos(x), jax.device_put(jnp.cos(x), jax.devices()[0])):  # bound to no device, and to one
        found = again(state, x)
        assert state.is_deleted()
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def of_python(x: jax.Array) -> jax.Array:
    return jax.pure_callback(lambda a: np.asarray(a) + 1, x, x)


@pytest.mark.parametrize("told", [of_python, lambda x: jax.debug.print("{}", x) or x + 1], ids=["callback", "print"])
def test_a_program_that_calls_python_stays_as_it_is(told: Callable[[Any], Any]) -> None:
    assert written(jax.jit(told).lower(jnp.ones(3)).compile()) is None


CONSTANTS = """
import jax
import jax.numpy as jnp

from jax_sngan.system.compilation_cache import written

constant = jnp.arange(1000.0)
print(written(jax.jit(lambda x: x + constant).lower(jnp.ones(1000)).compile()))
"""


def test_a_program_of_constants_that_jax_passes_stays_as_it_is() -> None:
    environment = os.environ | {"JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", CONSTANTS], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stdout == "None\n", ran.stderr
