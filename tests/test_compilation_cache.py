"""XLA's cache on the disk: what a program that comes from it tells of source files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
