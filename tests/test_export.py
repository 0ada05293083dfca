"""Exported generators make the checkpoint's images; what can't be exported says so in one line and writes nothing."""

import dataclasses
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

from conftest import TINY
from jax_sngan.config.presets import preset
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core import flops
from jax_sngan.export import export, onnx_graph, ort_web, web_page
from jax_sngan.models.network import Variables, build
from jax_sngan.runs.log import lines_up_to
from jax_sngan.runs.sample import truncated
from jax_sngan.system.errors import UserError

BOTH = {"model.spectral_norm.networks": "both"}
RESNET = {"model.architecture": "resnet", "model.image_size": 32, "model.channels": 3, "model.generator_width": 4}
POINTS = {
    "model.architecture": "mlp", "model.image_size": 1, "model.channels": 2, "model.output": "identity",
    "model.generator_width": 8, "data": "grid",
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "standard_cnn": {},
    "standard_cnn conditional": {"model.num_classes": 3, "model.image_size": 32, **BOTH},
    "resnet conditional": {**RESNET, "model.num_classes": 10, "data": "cifar10"},
    # Exact norms ask for the size of each layer's map, which nothing else in the graph does.
    "resnet bilinear": {**RESNET, "model.upsampling": "bilinear", **BOTH, "model.spectral_norm.form": "operator"},
    "mlp of points": POINTS,
    "mlp plain": {"model.architecture": "mlp", "model.generator_norm": "none", "model.compute_dtype": "bfloat16"},
    "float64, exact norms": {"model.dtype": "float64", **BOTH, "model.spectral_norm.form": "operator"},
}


def trained(changes: dict[str, Any], moved_by: float = 0.3) -> export.Trained:
    """A generator whose every array is random: a scale of one or a mean of zero would hide where it is left out."""
    config: TrainConfig = replace(TINY, changes)
    network = build(config.model).generator
    fresh = network.init(jax.random.key(0))
    rng = np.random.default_rng(0)

    def moved(array: Any) -> np.ndarray:
        return np.asarray(np.asarray(array) + moved_by * rng.uniform(-1, 1, array.shape), config.model.dtype)

    params, batch = (jax.tree.map(moved, tree) for tree in (fresh.params, fresh.batch))
    variables = jax.jit(network.iterate)(Variables(params, fresh.spectral, batch))  # a random u, v give a sigma near 0
    return export.Trained(config, 7, variables, {"d_loss": 1.5})


def images_of(one: export.Trained, latents: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    model, variables = one.portable
    apply = jax.jit(partial(build(model).generator.apply, train=False))
    return np.asarray(apply(variables, latents, labels)[0])


@pytest.mark.parametrize("name", CASES)
def test_an_onnx_file_makes_the_images_of_its_checkpoint(name: str, tmp_path: Path) -> None:
    one = trained(CASES[name])
    told = export.export_one(one, "onnx", tmp_path, "g")
    assert told == json.loads((tmp_path / "g.json").read_text())
    assert (told["opset"], told["step"], told["latent_size"], told["sha256"]) == (
        17, 7, 4, export.hashlib.sha256((tmp_path / "g.onnx").read_bytes()).hexdigest(),
    )  # fmt: skip
    model = onnx.load(tmp_path / "g.onnx")
    assert not model.graph.value_info  # onnxruntime-web refuses a graph that has it
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"])
    feed = {"latents": np.random.default_rng(5).normal(size=(5, 4)).astype(np.float32)}
    if one.config.model.num_classes:
        feed["labels"] = np.arange(5, dtype=np.int32)[::-1] % 3
    expected = images_of(one, feed["latents"], feed.get("labels"))
    assert np.std(expected) > 0.02
    found = session.run(["images"], feed)[0]
    assert found.shape == expected.shape
    # Of float32 rounding: sums of up to 144 products in another order.
    np.testing.assert_allclose(found, expected, rtol=0, atol=export.TOLERANCE)


def choices_by_platform(one: export.Trained) -> int:
    """How often the generator's program for a batch of any size chooses between forms by the platform."""
    (model, variables), (n,) = one.portable, jax.export.symbolic_shape("n")
    given = [jax.ShapeDtypeStruct((n, 4), jnp.float32)]
    given += [jax.ShapeDtypeStruct((n,), jnp.int32)] if model.num_classes else []
    traced = jax.jit(partial(build(model).generator.apply, train=False)).trace(variables, *given)

    def count(jaxpr: Any) -> int:
        inside = [part for eqn in jaxpr.eqns for part in flops.inner_jaxprs(eqn, "cpu")]
        chosen = sum(eqn.params.get("branches_platforms") is not None for eqn in jaxpr.eqns)
        return chosen + sum(count(part) for part in inside)

    return count(traced.jaxpr.jaxpr)


WIDE = {"model.generator_width": 64}  # forms of its own on a CPU; moved by 0.3 its rounding alone is above 1e-5


@pytest.mark.parametrize(
    ("changes", "moved_by"),
    [(CASES[name], 0.3) for name in ("standard_cnn", "resnet conditional", "mlp of points")]
    + [(WIDE, 0.01), (RESNET | WIDE, 0.01)],
    ids=["standard_cnn", "resnet conditional", "mlp of points", "wide standard_cnn", "wide resnet"],
)
def test_a_stablehlo_file_makes_the_images_of_its_checkpoint(
    changes: dict[str, Any], moved_by: float, tmp_path: Path
) -> None:
    one = trained(changes, moved_by)
    told = export.export_one(one, "stablehlo", tmp_path, "g")
    read = jax.export.deserialize(bytearray((tmp_path / "g.stablehlo").read_bytes()))
    assert read.platforms == ("cpu", "cuda", "tpu") == tuple(told["platforms"])
    assert choices_by_platform(one) == 0  # one form for all: the one that takes a batch of any size
    latents = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    labels = np.array([2, 0, 1], np.int32) if one.config.model.num_classes else None
    given = [latents] if labels is None else [latents, labels]
    np.testing.assert_allclose(read.call(*given), images_of(one, latents, labels), rtol=0, atol=export.TOLERANCE)


@pytest.mark.parametrize("truncation", [0.5, 3.0])
@pytest.mark.parametrize("kind", ["stablehlo", "onnx"])
def test_truncation_is_in_the_file_as_sample_has_it(kind: export.Format, truncation: float, tmp_path: Path) -> None:
    one = dataclasses.replace(trained({}), truncation=truncation)
    told = export.export_one(one, kind, tmp_path, "g")  # held against runs.sample.truncated, in float64
    assert told["truncation"] == truncation
    assert told["inputs"]["latents"] == f"float32 [n, 4], N(0, 1), cut off inside at +-{truncation:g}"
    content = (tmp_path / f"g.{kind}").read_bytes()
    latents = np.array([[0.0, 1.0, -2.0, 9.0]], np.float32)  # the last is where 1 - erf is 0
    if kind == "onnx":
        images = onnxruntime.InferenceSession(content).run(["images"], {"latents": latents})[0]
    else:
        images = np.asarray(jax.export.deserialize(bytearray(content)).call(latents))
    inside = truncated(latents.astype(np.float64), truncation)
    assert inside.max() == pytest.approx(truncation)
    whole = dataclasses.replace(one, truncation=None)
    np.testing.assert_allclose(images, whole.images(inside, None, "float64"), rtol=0, atol=export.TOLERANCE)


def test_the_json_names_the_classes(tmp_path: Path) -> None:
    told = export.export_one(trained(CASES["resnet conditional"]), "onnx", tmp_path, "g")
    assert (told["num_classes"], told["class_names"][3]) == (10, "cat")
    assert told["inputs"]["labels"] == "int32 [n], 0 to 9"
    assert export.class_names(replace(TINY, {"model.num_classes": 3})) is None  # not the three of any data set we know


@pytest.mark.parametrize(
    ("name", "gan"),
    [
        ("dcgan", "Standard GAN"), ("wgan", "WGAN"), ("wgan_gp", "WGAN-GP"), ("sngan", "SN-GAN"),
        ("cifar10_projection", "SN-GAN"),
    ],
)  # fmt: skip
def test_a_run_is_called_by_its_place_in_the_family(name: str, gan: str) -> None:
    assert export.gan_name(preset(name)) == gan
    other = replace(preset("dcgan"), {"loss": "least_squares"})
    assert export.gan_name(other) == "GAN with the least-squares loss"


def test_scores_are_those_that_the_run_measured_at_that_step(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    measured = {"fcd_5k_test": 12.5, "classes_5k_test": 9}
    raw = {f"{name}_raw": 1.0 for name in measured}
    with (run / "metrics.jsonl").open("a") as log:
        for step, values in ((3, {"fcd_5k_test": 99.0}), (6, measured | raw | {"fcd_5k_test_standing64": 1.0})):
            log.write(json.dumps({"step": step} | values) + "\n")
    assert export.load_trained(run).scores == measured
    assert export.load_trained(run, 3).scores == {"fcd_5k_test": 99.0}
    assert export.load_trained(tiny_run).scores == {}
    (run / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        export.load_trained(run)
    (run / "metrics.jsonl").write_bytes(b"\xe6\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        lines_up_to(run / "metrics.jsonl", 6)


def test_a_run_is_exported_by_the_script(script: Callable, tiny_run: Path, tmp_path: Path) -> None:
    done = script("export.py", tiny_run, tiny_run, "--format=onnx", "--out=two", "--step=3", "--json=told.json")
    assert done.code == 0, done
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == [
        "tiny-2.json", "tiny-2.onnx", "tiny.json", "tiny.onnx",
    ]  # fmt: skip
    told = json.loads((tmp_path / "told.json").read_text())
    assert [t["file"] for t in told] == ["tiny.onnx", "tiny-2.onnx"]
    assert told[0] == json.loads((tmp_path / "two" / "tiny.json").read_text())
    assert (told[0]["step"], told[0]["preset"]) == (3, "tiny")
    assert set(told[0]["metrics"]) >= {"d_loss", "g_loss", "d_real", "d_fake"}
    assert told[0]["check"]["latents"] == 256
    assert told[0]["check"]["max_abs_error"] <= 1e-5
    again = script("export.py", tiny_run, "--format=onnx", "--out=two")
    assert again.is_one_line("two", "not an empty folder"), again


def test_a_file_that_differs_is_not_kept(
    script: Callable, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph._Graph, "norm", lambda self, norm, x, labels="": x)
    done = script("export.py", tiny_run, "--format=onnx", "--out=out")
    assert done.is_one_line("tiny", "differ from the checkpoint's", "1e-05", "nothing was written"), done
    assert [p.name for p in tmp_path.iterdir()] == []


def test_what_is_wrong_is_one_line(
    script: Callable, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = "--out=out"
    assert script("export.py", tiny_run, "--format=tflite", out).is_one_line("--format", "stablehlo", "onnx", "web")
    assert script("export.py", tiny_run, "--format=onnx").is_one_line("--out")
    assert script("export.py", "nowhere", "--format=onnx", out).is_one_line("no workdir nowhere")
    assert script("export.py", tiny_run, "--format=onnx", "--step=5", out).is_one_line("step 5", "3, 6")
    assert script("export.py", tiny_run, "--format=onnx", "--ort-web=x", out).is_one_line("--ort-web", "--format web")
    assert script("export.py", tiny_run, "--format=onnx", "--truncation=0", out).is_one_line("truncation", "above 0")
    assert script("export.py", tiny_run, "--format=web", "--truncation=1", out).is_one_line("--truncation", "slider")
    assert script("export.py", tiny_run, "--format=web", "--ort-web=x", out).is_one_line("--ort-web x", "ort.wasm")
    (tmp_path / "s.json").write_text('{"step": 3, "metrics": {}}')
    web = ("export.py", tiny_run, "--format=web", out, "--scores")
    assert script(*web, "s.json").is_one_line("step 3", "of 6")
    assert script(*web, "s.json", "s.json").is_one_line("--scores", "1 workdirs", "2")
    (tmp_path / "s.json").write_text("[]")
    assert script(*web, "s.json").is_one_line("--scores s.json", "evaluate.py --json")
    find = importlib.util.find_spec
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda n: None if n.startswith("onnx") else find(n))
    needs = script("export.py", tiny_run, "--format=onnx", out)
    assert needs.is_one_line("--format onnx needs onnx and onnxruntime", 'pip install -e ".[export]"'), needs
    assert not (tmp_path / "out").exists()


def test_a_page_holds_all_that_it_needs(script: Callable, tiny_run: Path, tmp_path: Path) -> None:
    own = tmp_path / "own" / "dist"
    own.mkdir(parents=True)
    for name in ort_web.FILES:
        (own / name).write_text(name)
    (tmp_path / "s.json").write_text('{"step": 6, "metrics": {"fcd_5k_test": 12.5}}')
    done = script(
        "export.py", tiny_run, "--format=web", "--out=page", "--scores", "s.json", "--ort-web", own.parent
    )  # fmt: skip
    assert done.code == 0, done
    page = tmp_path / "page"
    assert (page / "ort" / "ort.js").read_text() == "ort.wasm.bundle.min.mjs"
    (told,) = json.loads((page / "models.json").read_text())
    assert (told["name"], told["scores"]) == ("tiny", {"fcd_5k_test": 12.5})
    assert np.shape(told["directions"]) == (4, 4)
    np.testing.assert_allclose(np.array(told["directions"]) @ np.array(told["directions"]).T, np.eye(4), atol=1e-5)
    assert (page / "models" / told["file"]).stat().st_size == told["bytes"]
    for file in web_page.PAGE.iterdir():
        text = file.read_text()
        assert (page / file.name).read_text() == text
        assert re.findall(r"https?://(?!localhost)", text) == []  # a word to the reader, no address to load from


@pytest.mark.parametrize("module", [export, web_page])
def test_all_runs_are_looked_for_before_the_first_is_loaded(
    module: Any, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_trained", lambda *_: pytest.fail("it began to load"))
    runs, out = [tiny_run, tmp_path / "nowhere"], tmp_path / "out"
    with pytest.raises(UserError, match=r"no workdir .*nowhere"):
        export.export_runs(runs, "stablehlo", out) if module is export else web_page.export_page(runs, out)
    assert not out.exists()


def test_a_page_of_points_knows_the_centres() -> None:
    (first, *_, last) = web_page.centres(trained(POINTS)) or []
    assert (first, last) == ([pytest.approx(-(2**0.5), abs=1e-6)] * 2, [pytest.approx(2**0.5, abs=1e-6)] * 2)
    assert web_page.centres(trained({})) is None


def test_directions_are_what_the_first_layer_answers_to_most() -> None:
    one = trained({})
    matrix = onnx_graph.first_layer(*one.portable)
    steepest, *rest = (np.linalg.norm(d @ matrix) for d in web_page.directions(one))
    assert steepest == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-5)
    assert sorted(rest, reverse=True) == rest


def test_a_tarball_with_another_checksum_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(ort_web.shutil, "which", lambda name: None)
    monkeypatch.setattr(ort_web, "_downloaded", lambda: b"something else")
    with pytest.raises(UserError, match="another checksum"):
        ort_web.add_runtime(tmp_path / "ort")

    def no_network() -> bytes:
        raise OSError("no route to host")

    monkeypatch.setattr(ort_web, "_downloaded", no_network)
    with pytest.raises(UserError, match=r"no route to host.*--ort-web FOLDER"):
        ort_web.add_runtime(tmp_path / "ort")
    assert not list(tmp_path.rglob("*.tgz"))
    assert not (tmp_path / "ort").exists()
