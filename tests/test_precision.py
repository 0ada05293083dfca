"""--precision: every product of a compiled program has the config's, those that find a norm the highest."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jax_sngan.config.arithmetic import describe_precision
from jax_sngan.config.presets import preset
from jax_sngan.config.schema import RunConfig, TrainConfig, from_dict, replace, to_dict
from jax_sngan.core import step as update
from jax_sngan.core.inputs import input_shapes
from jax_sngan.core.state import state_shapes
from jax_sngan.models.network import build
from jax_sngan.nn.operator_norm import circular_operator_norm
from jax_sngan.runs import sample
from jax_sngan.study import training
from jax_sngan.training.trainer import train
from tests.conftest import TINY

PRODUCTS = ("stablehlo.dot_general", "stablehlo.convolution")
NORMS = ("spectral_norm", "operator_norm")  # the named scopes of what finds a layer's norm
NARROW = {"batch_size": 4, "n_dis": 2, "model.generator_width": 4, "model.discriminator_width": 4}
RESNET = {**NARROW, "model.generator_width": 8, "model.discriminator_width": 8}
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("fashion", NARROW),
    "gradient penalty, in parts": ("wgan_gp", {**NARROW, "accumulate": 2}),
    "resnet with classes": ("cifar10_projection", RESNET),
    "bfloat16": ("fashion", {**NARROW, "model.compute_dtype": "bfloat16"}),
    "operator norm, in both": (
        "fashion",
        {**NARROW, "model.spectral_norm.form": "operator", "model.spectral_norm.networks": "both"},
    ),
}


def products(lowered: Any) -> list[tuple[str, bool, frozenset[str]]]:
    """(operation, whether it is part of finding a norm, the precisions of its factors) of each in a lowered program."""
    module = lowered.compiler_ir("stablehlo")
    functions = {f"@{f.attributes['sym_name'].value}": f.operation for f in module.body.operations}
    found = []

    def look(op: Any, of_norm: bool) -> None:
        of_norm = of_norm or any(scope in str(op.location) for scope in NORMS)
        if op.name in PRODUCTS:
            given = str(op.attributes["precision_config"])
            named = frozenset(p for p in ("DEFAULT", "HIGHEST", "HIGH") if f"precision {p}>" in given)
            found.append((op.name, of_norm, named))
        if op.name == "func.call":
            look(functions[str(op.attributes["callee"])], of_norm)
        for region in op.regions:
            for block in region:
                for inner in block.operations:
                    look(inner.operation, of_norm)

    look(functions["@main"], False)
    return found


def lowered_step(config: TrainConfig, platform: str) -> Any:
    state = state_shapes(config)
    step = jax.jit(partial(update.training_step, config))
    return step.trace(state, input_shapes(config)).lower(lowering_platforms=(platform,))


def assert_all_at(precision: str, found: list[tuple[str, bool, frozenset[str]]], norms: bool) -> None:
    wrong = Counter(p for p in found if p[2] != {"HIGHEST" if p[1] else precision.upper()})
    assert not wrong
    assert any(of_norm for _, of_norm, _ in found) == norms
    assert {name for name, of_norm, _ in found if not of_norm} >= {"stablehlo.convolution"}


@pytest.mark.parametrize(("case", "precision"), [("cnn", "default"), ("cnn", "highest"), *((c, "high") for c in STEPS)])
def test_every_product_of_a_step(case: str, precision: str) -> None:
    name, changes = STEPS[case]
    config = replace(preset(name), changes | {"precision": precision})
    # A TPU finds singular values by products of its own library, at the highest precision; a GPU calls cuSOLVER.
    platform = "cuda" if config.model.spectral_norm.form == "operator" else "tpu"
    with jax.default_matmul_precision("bfloat16"):  # jax's own setting, which decides nothing
        found = products(lowered_step(config, platform))
    assert_all_at(precision, found, norms=config.model.spectral_norm.networks != "none")


def test_gradients_are_among_them() -> None:
    config = replace(preset("fashion"), NARROW)
    convolutions = sum(name == "stablehlo.convolution" for name, _, _ in products(lowered_step(config, "tpu")))
    networks, layers = build(config.model), 0
    for network in (networks.generator, networks.discriminator):
        shapes = jax.eval_shape(network.init, jax.random.key(0))
        layers += sum(p.ndim == 4 for p in jax.tree.leaves(shapes.params))
    # Of each layer at least the forward pass, and the gradients in its input and in its kernel.
    assert convolutions > 3 * layers


@pytest.mark.parametrize("precision", ["default", "high"])
def test_every_product_of_sampling(precision: str) -> None:
    config = replace(preset("fashion"), {**NARROW, "precision": precision, "model.spectral_norm.networks": "both"})
    variables = jax.eval_shape(build(config.model).generator.init, jax.random.key(0))
    latents = jax.ShapeDtypeStruct((sample.CHUNK, config.model.latent_size), jnp.float32)
    for made in (
        sample._generate(build(config.model).generator, precision, "rounded", ()),
        sample._generate(build(config.model).generator, precision, "pixels", ()),
        sample._batch_statistics(config.model, precision, ()),
    ):
        lowered = made.trace(variables, latents, None).lower(lowering_platforms=("tpu",))
        assert_all_at(precision, products(lowered), norms=True)


def test_every_product_of_the_studys_field() -> None:
    config = replace(preset("points"), {"precision": "high"})
    variables = jax.eval_shape(build(config.model).discriminator.init, jax.random.key(0))
    points = jax.ShapeDtypeStruct((8, 1, 1, 2), jnp.float32)
    found = products(training._scores(config.model, config.precision).lower(variables, points))
    assert {named for _, of_norm, named in found if not of_norm} == {frozenset({"HIGH"})}


def test_the_operator_norms_gradient_multiplies_in_full() -> None:
    kernel = jax.ShapeDtypeStruct((3, 3, 4, 5), jnp.float32)
    with jax.default_matmul_precision("bfloat16"):
        found = products(jax.jit(jax.grad(lambda k: circular_operator_norm(k, (8, 8)))).lower(kernel))
    assert found
    assert {named for _, _, named in found} == {frozenset({"HIGHEST"})}


def test_compiled_programs_do_not_mix() -> None:
    configs = [replace(TINY, {"precision": p}) for p in ("default", "highest")]
    steps = [update.train_step(c) for c in configs]
    assert steps[0] is not steps[1]
    first, second = (
        step.lower(state_shapes(config), input_shapes(config)).as_text()
        for step, config in zip(steps, configs, strict=True)
    )
    assert first != second
    made = [sample._generate(c.model, c.precision, True, ()) for c in configs]
    assert made[0] is not made[1]


def test_a_cpu_computes_the_same_bits(tmp_path: Path) -> None:
    found = []
    for precision in ("default", "highest"):
        workdir = tmp_path / precision
        result = train(replace(TINY, {"precision": precision}), RunConfig(workdir=str(workdir)))
        found.append((result.metrics, (workdir / "samples/000006.png").read_bytes()))
    assert found[0] == found[1]


def test_a_config_from_before_the_option() -> None:
    values = to_dict(TINY)
    del values["precision"]
    assert from_dict(TrainConfig, values) == TINY


@pytest.mark.parametrize(
    ("changes", "platform", "line"),
    [
        ({}, "cpu", "float32, default: full float32, as always on a CPU"),
        ({}, "gpu", "float32, default: TF32 factors (10 bits behind the point) on NVIDIA GPUs from Ampere on"),
        ({"precision": "highest"}, "gpu", "float32, highest: full float32"),
        ({}, "tpu", "float32, default: bfloat16 factors (7 bits behind the point), one pass"),
        ({"precision": "high"}, "tpu", "float32, high: float32 as two bfloat16, three passes"),
        ({"model.dtype": "float64"}, "gpu", "float64 in full"),
        (
            {"model.compute_dtype": "bfloat16", "precision": "highest"},
            "gpu",
            "bfloat16 factors, the last layers' results and all sums in float32",
        ),
        ({}, "METAL", "float32, default: whatever jax's backend METAL makes of it"),
    ],
)
def test_what_it_means_is_told(changes: dict[str, Any], platform: str, line: str) -> None:
    assert describe_precision(replace(TrainConfig(), changes), platform) == line


def test_the_start_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(replace(TINY, {"steps": 1}), RunConfig(workdir=str(tmp_path / "run"), deterministic=True))
    told = capsys.readouterr().out
    assert "\nprecision   float32, default: full float32, as always on a CPU\n" in told
    assert "\ndeterminism nothing to ask for: a CPU's programs are deterministic\n" in told
