"""--deterministic: what is asked of which compiler, and that it reaches every program of a run."""

from pathlib import Path
from typing import Any

import jax
import pytest

from jax_sngan.config import arithmetic
from jax_sngan.config.arithmetic import compiler_options, describe_determinism
from jax_sngan.config.schema import RunConfig, replace
from jax_sngan.core.state import create_state
from jax_sngan.runs.sample import Generator, averaged
from jax_sngan.training.trainer import train
from tests.conftest import TINY

# Refused by every compiler, so it shows which programs are compiled with the options of a run.
NO_SUCH = {"no_such_option": True}


def test_only_a_gpus_compiler_is_asked() -> None:
    assert compiler_options(True, "gpu") == {"xla_gpu_deterministic_ops": True}
    for platform in ("cpu", "tpu", "METAL"):
        assert compiler_options(True, platform) == {}
    for platform in ("cpu", "gpu", "tpu"):
        assert compiler_options(False, platform) == {}


def test_it_is_told() -> None:
    assert describe_determinism("gpu") == "asked of XLA by xla_gpu_deterministic_ops (docs/resuming.md)"
    assert describe_determinism("cpu") == "nothing to ask for: a CPU's programs are deterministic"
    assert describe_determinism("tpu") == "no such option is known of XLA's compiler for tpu (docs/resuming.md)"


def test_xla_knows_the_option() -> None:
    """A name that XLA has dropped would be refused by every compiler, a CPU's too."""
    jax.jit(lambda x: x + 1, compiler_options=compiler_options(True, "gpu"))(1.0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        jax.jit(lambda x: x + 1, compiler_options=NO_SUCH)(1.0)


@pytest.mark.parametrize("changes", [{}, {"dispatch": 2}, {"mesh": "data=2"}], ids=["a step", "several", "a mesh"])
def test_it_reaches_the_compiler_of_the_steps(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(arithmetic._DETERMINISTIC, "cpu", NO_SUCH)
    run = replace(RunConfig(workdir=str(tmp_path / "run"), sample_every=0), changes)
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        train(TINY, replace(run, {"deterministic": True}))
    assert train(replace(TINY, {"steps": 2}), replace(run, {"workdir": str(tmp_path / "other")})).step == 2


def test_it_reaches_the_compiler_of_the_pictures() -> None:
    state = create_state(TINY)
    made = Generator(TINY, 0, averaged(state.generator, state.generator_ema), NO_SUCH)
    for act in (lambda: made.sample(1), lambda: made.standing(64)):
        with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
            act()
