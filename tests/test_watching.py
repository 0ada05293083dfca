"""What is watched of a run: the numbers against numpy, what reads them, and that watching changes nothing."""

import dataclasses
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import logs
import numpy as np
import optax
import pytest
from drawn_states import start as drawn_start

import jax_sngan as sn
from conftest import TINY, TINY_OPTIONS, Outcome, start
from jax_sngan.config.run_config import ALARMS
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core import watch
from jax_sngan.core.observer import observe
from jax_sngan.core.step import training_step
from jax_sngan.data.datasets import Dataset
from jax_sngan.metrics.spread import relative_spread
from jax_sngan.runs.log import OF_THE_MACHINE
from jax_sngan.runs.loggers import TensorBoard
from jax_sngan.system.jax_internals import known

QUICK = known({"xla_backend_optimization_level": 0}, "cpu")
MLP = {"model.architecture": "mlp", "model.depth": 2, "model.generator_width": 8, "model.discriminator_width": 8}
SMALL = replace(TINY, MLP | {"batch_size": 8, "model.dtype": "float64"})


def stepped(what: Any, config: TrainConfig = SMALL) -> tuple[Any, Any, Any, dict[str, np.ndarray]]:
    """A state, a step's inputs, the state after it and what it told."""
    state, inputs = drawn_start(config)
    if isinstance(what, sn.GAN):
        state = state._replace(
            generator_opt=what.generator_optimizer.init(state.generator.params),
            discriminator_opt=what.discriminator_optimizer.init(state.discriminator.params),
        )
    after, told = jax.jit(partial(training_step, what), compiler_options=QUICK)(state, inputs)
    return state, inputs, after, jax.tree.map(np.asarray, told)


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_norms_are_those_of_the_update() -> None:
    """Plain gradient descent: the change is the rate times the gradient, of one D update and of G's."""
    one = replace(SMALL, {"n_dis": 1})
    gan = dataclasses.replace(sn.gan(one), generator_optimizer=optax.sgd(0.5), discriminator_optimizer=optax.sgd(0.25))
    before, _, after, told = stepped(gan, one)
    for letter, name, rate in (("g", "generator", 0.5), ("d", "discriminator", 0.25)):
        change = flat(getattr(after, name).params) - flat(getattr(before, name).params)
        np.testing.assert_allclose(told[f"{letter}_update_norm"].ravel(), np.linalg.norm(change), rtol=1e-10)
        np.testing.assert_allclose(told[f"{letter}_grad_norm"] * rate, told[f"{letter}_update_norm"], rtol=1e-10)


def test_an_accelerators_sum_is_a_cpus() -> None:
    leaves = [np.random.default_rng(0).normal(size=shape) for shape in ((3, 4), (5,), (), (3, 3, 2, 4))]
    expected = sum(np.sum(leaf**2) for leaf in leaves)
    for form in (watch._square_sum, watch._joined_square_sum):
        np.testing.assert_allclose(form([jnp.asarray(leaf) for leaf in leaves]), expected, rtol=1e-12)
    assert watch.norm({}) == 0


def test_a_layer_is_what_holds_its_kernel_and_bias() -> None:
    tree = {"scale": 1, "convs": {"0": {"kernel": 2, "bias": 3}}, "linear": {"kernel": 4}}
    assert watch.layers(tree) == {"scale": [1], "convs.0": [3, 2], "linear": [4]}


def test_the_spread_of_scores_is_of_the_whole_batch_also_in_parts() -> None:
    """One of an image's score, against numpy, from the network itself; and computed in two parts."""
    config = replace(SMALL, {"n_dis": 1, "ema_decay": 0.0})
    state, inputs, _, told = stepped(config, config)
    network = sn.gan(config).networks.discriminator
    moved = network.iterate(state.discriminator)
    images = inputs.real_images[0].astype(np.float64) / 127.5 - 1
    scores = network.apply(moved, images, train=True, hold=True)[0]
    np.testing.assert_allclose(told["d_real"][0], np.mean(scores), rtol=1e-10)
    np.testing.assert_allclose(told["d_real_std"][0], np.std(scores), rtol=1e-10)
    np.testing.assert_allclose(told["d_accuracy_real"][0], np.mean(scores > 0), rtol=1e-10)
    in_two = replace(config, {"accumulate": 2})
    parts = stepped(in_two, in_two)[-1]
    for name in ("d_real_std", "d_accuracy_real", "d_real"):  # G's batch normalisation ties the fakes to their part
        np.testing.assert_allclose(parts[name], told[name], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize(("loss", "boundary"), [("hinge", 0.0), ("least_squares", 0.5), ("wasserstein", None)])
def test_accuracy_is_by_the_losss_boundary(loss: str, boundary: float | None) -> None:
    real, fake = jnp.array([0.7, 0.3, -1.0, 0.5, 0.0]), jnp.array([0.4, -2.0, 0.5, 0.0])  # on a boundary: on no side
    told = watch.of_scores(sn.gan(replace(SMALL, {"loss": loss})).loss, real, fake)
    if boundary is None:
        assert not any("accuracy" in name for name in told)
    else:
        assert float(told["d_accuracy_real"]) == pytest.approx(np.mean(np.asarray(real) > boundary))
        assert float(told["d_accuracy_fake"]) == pytest.approx(np.mean(np.asarray(fake) < boundary))


def test_what_is_seen_of_a_state() -> None:
    config = replace(SMALL, {"generator_optimizer.schedule": "linear", "steps": 10})
    state, _, after, _ = stepped(config, config)
    told = jax.tree.map(np.asarray, jax.jit(partial(observe, sn.gan(config), singular_values=True))(after))
    assert told["g_learning_rate"] == pytest.approx(0.05)  # of step 0, the last
    difference = np.linalg.norm(flat(after.generator_ema) - flat(after.generator.params))
    assert told["g_average_distance"] == pytest.approx(difference / np.linalg.norm(flat(after.generator.params)))
    params, spectral = after.discriminator.params, after.discriminator.spectral
    layers = [name for name in told if name.startswith("d_sigma/")]
    assert sorted(layers) == ["d_sigma/hidden.0", "d_sigma/hidden.1", "d_sigma/score"]
    for name, kernel, u in (
        ("hidden.1", params["hidden"]["1"]["kernel"], spectral["hidden"]["1"]["norm"]["u"]),
        ("score", params["score"]["kernel"], spectral["score"]["norm"]["u"]),
    ):
        matrix = np.asarray(kernel).T
        v = matrix.T @ np.asarray(u)
        u = matrix @ (v / np.linalg.norm(v))  # the pass's own iteration
        assert told[f"d_sigma/{name}"] == pytest.approx(np.linalg.norm(u))
        largest = np.linalg.svd(matrix, compute_uv=False)[0]
        assert told[f"d_singular_value/{name}"] == pytest.approx(largest)
        assert told[f"d_sigma/{name}"] <= largest * (1 + 1e-12)


def test_scores_are_of_networks_in_evaluation() -> None:
    """Of the running statistics and of u and v as they stand: no batch's own, and no iteration."""
    config = replace(SMALL, {"model.discriminator_norm": "batch", "model.generator_norm": "batch"})
    _, inputs, after, _ = stepped(config, config)
    # Drawn statistics are any numbers; a variance is positive.
    generator, discriminator = (
        v._replace(batch=jax.tree.map(jnp.abs, v.batch)) for v in (after.generator, after.discriminator)
    )
    after = after._replace(generator=generator, discriminator=discriminator)
    told = jax.jit(partial(observe, sn.gan(config)), compiler_options=QUICK)(after, inputs)
    g, d = sn.gan(config).networks
    fake, _ = g.apply(after.generator, inputs.d_latents[-1], None, train=False)
    real = inputs.real_images[-1] / np.float64(127.5) - 1
    for name, images in (("d_real_scores", real), ("d_fake_scores", fake)):
        expected, _ = d.apply(after.discriminator, images, None, train=False)
        assert np.all(np.isfinite(expected))
        np.testing.assert_allclose(told[name], expected, rtol=1e-9, err_msg=name)


def test_rates_of_an_optimiser_of_ones_own() -> None:
    gan = dataclasses.replace(
        sn.gan(SMALL),
        generator_optimizer=optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(1.0, 0.0, 4)),
        discriminator_optimizer=optax.sgd(0.1),
    )
    with jax.numpy_dtype_promotion("standard"):  # optax's affair
        _, _, after, _ = stepped(gan)
        told = observe(gan, after)
    assert float(told["g_learning_rate"]) == pytest.approx(1.0)
    assert "d_learning_rate" not in told  # it does not tell


def test_images_of_a_few_kinds_have_no_spread() -> None:
    real = sn.load_data("fashion", image_size=28, channels=1).images
    assert relative_spread(real[64:128], real[:64]) == pytest.approx(1, abs=0.15)
    assert relative_spread(real[np.arange(64) % 2], real[:64]) < 1e-3
    noise = np.random.default_rng(0).integers(-4, 5, (64, 28, 28, 1))
    assert relative_spread(np.clip(real[:1] + noise, 0, 255).astype(np.uint8), real[:64]) < 0.15
    points = np.random.default_rng(0).normal(size=(200, 1, 1, 2))
    assert relative_spread(0.1 * points[:100], points[100:]) == pytest.approx(0.1, rel=0.3)


# Loggers --------------------------------------------------------------------------------------------------------------


class Kept:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, Any]]] = []
        self.pictures: list[tuple[int, str, tuple[int, ...], Any]] = []
        self.closed = 0

    def numbers(self, step: int, values: Any) -> None:
        self.told.append((step, dict(values)))

    def images(self, step: int, name: str, images: np.ndarray) -> None:
        self.pictures.append((step, name, images.shape, images.dtype))

    def close(self) -> None:
        self.closed += 1


DRAWN = np.random.default_rng(0).integers(0, 256, (80, 28, 28, 1), np.uint8)
DATA = Dataset("drawn", DRAWN, np.zeros(80, np.int32), (), flip=True)


def test_a_logger_of_ones_own_and_all_that_full_tells(tmp_path: Path) -> None:
    kept, config = Kept(), replace(SMALL, {"model.dtype": "float32"})
    options = {"log_every": 2, "sample_every": 3, "checkpoint_every": 0}
    sn.train(config, data=DATA, workdir=tmp_path / "full", loggers=[kept], log_level="full", **options)
    sn.train(config, data=DATA, workdir=tmp_path / "basic", **options)
    assert [step for step, _ in kept.told] == [2, 4, 6]
    drawn = [(step, name) for step, name, _, _ in kept.pictures]
    assert drawn == [(3, "samples"), (3, "samples_raw"), (0, "real"), (6, "samples"), (6, "samples_raw")]
    assert {(shape, dtype) for _, _, shape, dtype in kept.pictures} == {((64, 28, 28, 1), np.dtype(np.uint8))}
    assert kept.closed == 1
    written = [json.loads(line) for line in (tmp_path / "full/metrics.jsonl").read_text().splitlines()]
    for (step, values), line in zip(kept.told, written, strict=True):
        assert values["d_real_scores"].shape == values["d_fake_scores"].shape == (8,)
        plain = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}
        assert line == {"step": step, **plain}
        for norm in ("grad_norm", "update_norm"):
            for letter, last in (("d", "score"), ("g", "to_image")):
                layers = ["hidden.0", "hidden.1", last]
                found = [name for name in values if name.startswith(f"{letter}_{norm}/")]
                assert sorted(name.partition("/")[2] for name in found if "norms" not in name) == layers
    # The steps are the same, to the bit, however much is watched.
    basic = logs.lines(tmp_path / "basic")
    full = [{name: line[name] for name in basic[i]} for i, line in enumerate(logs.lines(tmp_path / "full"))]
    assert full == basic


OWN_LOGGER = """
import numpy as np

class Mine:
    def __init__(self, config, workdir):
        self.file = (workdir / "mine.txt").open("a")
    def numbers(self, step, values):
        print(step, values["d_loss"], file=self.file)
    def images(self, step, name, images):
        print(step, name, file=self.file)

def nothing(config, workdir):
    return 3
"""


def test_a_logger_is_named_on_the_command_line(tmp_path: Path, programs: dict[str, str]) -> None:
    (tmp_path / "own_logger.py").write_text(OWN_LOGGER)
    process = start("train_jax.py", [*TINY_OPTIONS, "--workdir=run", "--logger=own_logger:Mine"], tmp_path, programs)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    told = (tmp_path / "run/mine.txt").read_text().splitlines()
    assert [line.split()[0] for line in told if "." in line] == ["2", "4", "6"]
    assert "3 samples_raw" in told


@pytest.mark.parametrize(
    ("logger", "words"),
    [
        ("mine", ["--logger must be MODULE:NAME, got mine"]),
        ("no_such_module:a", ["--logger: there is no module no_such_module"]),
        ("json:no", ["--logger: json has no function no"]),
        ("builtins:dict", ["--logger"]),
    ],
)
def test_a_wrong_logger_is_one_line(script: Callable[..., Outcome], logger: str, words: list[str]) -> None:
    if logger.startswith("builtins"):
        with pytest.raises(TypeError):  # what it raises is its author's to see
            script("train_jax.py", *TINY_OPTIONS, "--logger", logger)
    else:
        assert script("train_jax.py", *TINY_OPTIONS, "--logger", logger).is_one_line(*words)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--stop-on=d_wn", ["stop_on must be of d_won, d_flat, collapse, sigma, exploding", "'d_wn'"]),
        ("--profile-steps=5", ["profile_steps must be A:B", "'5'"]),
        ("--profile-steps=5:3", ["profile_steps must be A:B", "'5:3'"]),
        ("--profile-steps=3:9", ["profile_steps must lie within 0:6", "3:9"]),
        ("--log-level=all", ["--log-level", "basic", "full"]),
    ],
)
def test_a_wrong_option_is_one_line(
    script: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str, words: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    outcome = script("train_jax.py", *TINY_OPTIONS, option)
    assert outcome.code == 2, outcome
    assert outcome.err.count("\n") == 1, outcome
    assert all(word in outcome.err for word in words), outcome


def test_wrong_loggers_are_refused() -> None:
    with pytest.raises(sn.UserError, match="loggers must be a list of objects that have the methods numbers and imag"):
        sn.train(TINY, loggers=[print])


def events(folder: Path) -> list[Any]:
    """The events of TensorBoard's files: a length, its check, the event, its check, and so on."""
    from tensorboardX.proto import event_pb2

    found = []
    for path in sorted(folder.glob("events.*")):
        contents, at = path.read_bytes(), 0
        while at < len(contents):
            (length,) = struct.unpack("<Q", contents[at : at + 8])
            found.append(event_pb2.Event.FromString(contents[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def test_tensorboard_has_numbers_histograms_and_pictures(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.numbers(3, {"d_loss": 1.5, "d_real_scores": np.arange(10.0)})
    board.images(3, "samples", np.full((4, 8, 8, 3), 200, np.uint8))
    board.images(3, "points", np.zeros((4, 1, 1, 2), np.float32))
    board.close()
    kinds = {value.tag: value.WhichOneof("value") for e in events(tmp_path) for value in e.summary.value}
    assert kinds == {"d_loss": "simple_value", "d_real_scores": "histo", "samples": "image", "points": "image"}
    assert {e.step for e in events(tmp_path) if e.summary.value} == {3}
    TensorBoard(tmp_path, 2).numbers(4, {"d_loss": 1.0})


def test_tensorboard_loads_no_torch(tmp_path: Path) -> None:
    """In a process of its own, where torch may be installed; it can be imported afterwards all the same."""
    code = (
        "import sys, pathlib, importlib.util\n"
        "from jax_sngan.runs.loggers import TensorBoard\n"
        f"board = TensorBoard(pathlib.Path({str(tmp_path)!r}))\n"
        "board.numbers(1, {'a': 1.0}); board.close()\n"
        "assert 'tensorboardX' in sys.modules and 'torch' not in sys.modules\n"
        "importlib.util.find_spec('torch')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_wandb_is_kept_offline_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    code = (
        "import sys, pathlib, numpy as np, jax_sngan as sn\n"
        "from jax_sngan.runs.wandb_logger import WandB\n"
        "for step in (1, 2):\n"  # a run that goes on is the same one
        "    logger = WandB(sn.preset('fashion'), pathlib.Path('run'))\n"
        "    logger.numbers(step, {'d_loss': 1.0, 'd_real_scores': np.arange(5.0)})\n"
        "    logger.images(step, 'samples', np.zeros((4, 8, 8, 1), np.uint8))\n"
        "    logger.close()\n"
    )
    (tmp_path / "run").mkdir()
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "there is no key for api.wandb.ai (wandb login); kept offline in run/wandb" in result.stdout
    runs = sorted((tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb"))
    assert len(runs) == 2
    assert len({path.name for path in runs}) == 1


def test_without_wandb_it_is_said(script: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    outcome = script("train_jax.py", *TINY_OPTIONS, "--logger", "wandb")
    assert outcome.is_one_line("the logger wandb needs the package", 'pip install "jax-sngan[wandb]"')


# Profiles -------------------------------------------------------------------------------------------------------------


def test_a_profile_has_a_trace_and_the_costliest_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(SMALL, {"model.dtype": "float32"})
    run = {"log_every": 6, "sample_every": 0, "checkpoint_every": 0, "profile_steps": "2:4", "dispatch": 3}
    sn.train(config, data=DATA, workdir=tmp_path / "run", **run)
    said = capsys.readouterr().out
    assert "profile     steps 2 to 3: " in said
    folder = tmp_path / "run/profile"
    (traced,) = folder.glob("plugins/profile/*")
    assert sorted("".join(p.suffixes[-3:]) for p in traced.iterdir() if "perfetto" not in p.name) == [
        ".trace.json.gz", ".xplane.pb",
    ]  # fmt: skip
    rows = (folder / "operations.md").read_text().splitlines()[4:]
    assert 5 <= len(rows) <= 10
    cells = [row.split(" | ") for row in rows]
    assert any(cell[3].startswith(("nn/", "models/", "core/")) for cell in cells), rows
    assert any("models/mlp.py:" in row for row in rows), rows
    shares = [float(cell[1].rstrip("%")) for cell in cells]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 100.5


def test_a_profile_in_memory_is_refused() -> None:
    with pytest.raises(sn.UserError, match="profile_steps is of a run in a workdir"):
        sn.train(TINY, profile_steps="1:2")


def test_every_name_is_documented(tiny_run: Path) -> None:
    page = (Path(__file__).resolve().parent.parent / "docs/watching.md").read_text()
    names = {name.partition("/")[0] for line in logs.lines(tiny_run) for name in line} - {"step"}
    assert [name for name in sorted({*names, *OF_THE_MACHINE, *ALARMS}) if f"`{name}" not in page] == []
