"""A checkpoint's generator as a file that other programs run: written, read back, compared, and only then kept."""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jax_sngan.config.schema import ModelConfig, TrainConfig
from jax_sngan.core.inputs import sample_latents
from jax_sngan.export import stablehlo
from jax_sngan.models.network import Variables, build, has_float64
from jax_sngan.runs import labels as class_labels
from jax_sngan.runs.log import scores_at
from jax_sngan.runs.sample import Generator, averaged, check_truncation, restore, truncated
from jax_sngan.runs.workdir import open_workdir
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import check_unused, new_folder, write_json
from jax_sngan.system.invocation import install_command

Format = Literal["stablehlo", "onnx"]
Float = Literal["float32", "float64"]
Read = Callable[..., np.ndarray]

COMPARED = 256  # latents
# Of images in [-1, 1]. Rounding to float32 gives 1e-7 to 3e-6 (docs/export.md); a wrong layer gives 0.1.
TOLERANCE = 1e-5
BATCH = 51  # 256 = 1 + 5 * 51: two batch sizes, and no more memory than sampling needs


@dataclass(frozen=True)
class Trained:
    """A checkpoint's generator, with its averaged weights, and what is known about it."""

    config: TrainConfig
    step: int
    variables: Variables  # of the config's type
    metrics: dict[str, float]  # of training, as saved with the checkpoint
    scores: dict[str, float] = field(default_factory=dict)  # what the run's own evaluation found at that step
    standing: int = 0  # latents of its batch statistics; 0: those of training
    truncation: float | None = None  # what it is given is cut off there

    @property
    def portable(self) -> tuple[ModelConfig, Variables]:
        """The same generator in float32 throughout: float64 and bfloat16 are not for every reader."""
        model = replace(self.config.model, dtype="float32", compute_dtype="same")
        return model, jax.tree.map(lambda a: np.asarray(a, np.float32), self.variables)

    def images(self, latents: np.ndarray, labels: np.ndarray | None, dtype: Float) -> np.ndarray:
        """[n, h, w, c], computed in dtype."""
        with jax.enable_x64(dtype == "float64" or has_float64()):
            network = build(replace(self.config.model, dtype=dtype, compute_dtype="same")).generator
            variables = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, dtype)), self.variables)
            given = latents.astype(np.float64)
            z = (given if self.truncation is None else truncated(given, self.truncation)).astype(dtype)

            @jax.jit
            def apply(variables: Variables, z: jax.Array, classes: jax.Array | None) -> jax.Array:
                return network.apply(variables, z, classes, train=False)[0]

            with jax.default_matmul_precision("highest"):  # GPUs and TPUs would round the factors to ten bits or eight
                parts = [apply(variables, z[r], None if labels is None else labels[r]) for r in batches(len(z))]
            return np.concatenate([np.asarray(p) for p in parts])


def batches(n: int) -> Iterator[slice]:
    """Rows 0 to n in parts: one alone, then BATCH at a time."""
    starts = [0, *range(1, n, BATCH)]
    for start, stop in zip(starts, [*starts[1:], n], strict=True):
        yield slice(start, stop)


def load_trained(
    workdir: str | Path, step: str | int = "latest", standing: int = 0, truncation: float | None = None
) -> Trained:
    """The generator of a run.

    Args:
      step: latest, best, or the number of a checkpoint.
      standing: 0, or on how many latents batch statistics are taken anew (Generator.standing).
      truncation: where the export cuts its latents off, as Generator.latents does; None: nowhere.
    Raises:
      UserError: no such workdir, checkpoint or step, or statistics or a truncation that there can't be.
    """
    if truncation is not None:
        check_truncation(truncation)
    config, number, generator, average, metrics = restore(workdir, step, needs="an export")
    metrics.pop("best_metric", None)  # the first score once more, negative where higher is better
    scores = scores_at(Path(workdir) / "metrics.jsonl", number, metrics.keys())
    variables = averaged(generator, average)
    if standing:
        variables = Generator(config, number, variables).standing(standing).variables
    return Trained(config, number, variables, metrics, scores, standing, truncation)


def export_runs(
    workdirs: Sequence[str | Path],
    kind: Format,
    out: str | Path,
    step: str = "latest",
    standing: int = 0,
    truncation: float | None = None,
) -> list[dict]:
    """Writes NAME.onnx or NAME.stablehlo and NAME.json for each run; NAME is the workdir's.

    Args:
      out: a new folder; it is there once every export was read back and agreed, or not at all.
      step, standing, truncation: of load_trained.
    Returns:
      what the JSON files hold, in the order of workdirs.
    Raises:
      UserError: no such run, a package of the extra is missing, out is there, or an export differs from its checkpoint.
    """
    check_unused(Path(out))
    require(kind)
    for workdir in workdirs:  # the last may be missing: told before the first takes its time
        open_workdir(workdir)
    with new_folder(out) as folder:
        names = names_of(workdirs)
        runs = zip(workdirs, names, strict=True)
        return [export_one(load_trained(w, step, standing, truncation), kind, folder, name) for w, name in runs]


def require(kind: str) -> None:
    """Passes where the packages that a format needs are installed.

    Raises:
      UserError: one is not.
    """
    if kind == "stablehlo":
        return
    if missing := [p for p in ("onnx", "onnxruntime") if importlib.util.find_spec(p) is None]:
        raise UserError(f"--format {kind} needs {' and '.join(missing)}: {install_command('export')}")


def names_of(workdirs: Sequence[str | Path]) -> list[str]:
    """A name for each run's files: the last part of its workdir, numbered where two are the same."""
    names: list[str] = []
    for workdir in workdirs:
        plain = re.sub(r"[^\w.-]", "_", Path(workdir).resolve().name, flags=re.ASCII).strip(".") or "generator"
        name, number = plain, 2
        while name in names:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names


def export_one(trained: Trained, kind: Format, folder: Path, name: str) -> dict[str, Any]:
    """Writes one generator and its JSON into a folder, once the file, read back, agrees with the checkpoint.

    Returns:
      what the JSON holds.
    Raises:
      UserError: it does not agree.
    """
    path = folder / f"{name}.{kind}"
    facts: dict[str, Any]
    if kind == "onnx":
        facts, read = _write_onnx(trained, path)
    else:
        path.write_bytes(stablehlo.serialize(*trained.portable, trained.truncation))
        facts, read = {"platforms": list(stablehlo.PLATFORMS)}, stablehlo.reader(path.read_bytes())
    error = largest_difference(trained, read)
    if not error <= TOLERANCE:  # a NaN is no agreement either
        raise UserError(
            f"{name}: images of the {kind} file differ from the checkpoint's by {error:.2g}, more than {TOLERANCE:g}; "
            "nothing was written"
        )
    content = path.read_bytes()
    m = trained.config.model
    cut = "" if trained.truncation is None else f", cut off inside at +-{trained.truncation:g}"
    inputs = {"latents": f"float32 [n, {m.latent_size}], N(0, 1){cut}"}
    if m.num_classes:
        inputs["labels"] = f"int32 [n], 0 to {m.num_classes - 1}"
    told = {
        "format": kind,
        "file": path.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **facts,
        "inputs": inputs,
        "output": f"images float32 [n, {m.image_size}, {m.image_size}, {m.channels}]",
        "preset": trained.config.name,
        "gan": gan_name(trained.config),
        "loss": trained.config.loss,
        "step": trained.step,
        "standing_statistics": trained.standing,
        "truncation": trained.truncation,
        "latent_size": m.latent_size,
        "num_classes": m.num_classes,
        "class_names": class_names(trained.config),
        "image_size": m.image_size,
        "channels": m.channels,
        "metrics": trained.metrics,
        "scores": trained.scores,
        "check": {"latents": COMPARED, "max_abs_error": error, "tolerance": TOLERANCE},
        "jax": jax.__version__,
    }
    write_json(folder / f"{name}.json", told)
    return told


def largest_difference(trained: Trained, read: Read) -> float:
    """Between an export's images and the checkpoint's, for COMPARED latents and, with classes, each in turn.

    The checkpoint's in float64: an export has other sums, and two float32 programs differ by the rounding of both.
    Relative where images are larger than 1, as only those of an unbounded generator are.
    """
    m = trained.config.model
    latents = np.asarray(sample_latents(0, COMPARED, m.latent_size, jnp.dtype(jnp.float32)))
    labels = np.arange(COMPARED, dtype=np.int32) % m.num_classes if m.num_classes else None
    expected = trained.images(latents, labels, "float64")
    given = [latents] if labels is None else [latents, labels]
    found = np.concatenate([read(*(a[r] for a in given)) for r in batches(COMPARED)])
    if found.shape != expected.shape:
        raise UserError(f"the export makes images {list(found.shape)}, the checkpoint {list(expected.shape)}")
    return float(np.max(np.abs(found.astype(np.float64) - expected)) / max(1.0, np.max(np.abs(expected))))


def gan_name(config: TrainConfig) -> str:
    """Which of the family a run is: by what bounds its discriminator, else by its loss."""
    wasserstein = config.loss == "wasserstein"
    if config.model.spectral_norm_of("discriminator"):
        return "SN-GAN"
    if wasserstein and config.weight_clip:
        return "WGAN"
    if wasserstein and config.penalty.kind == "gradient_penalty":
        return "WGAN-GP"
    standard = config.loss in ("minimax", "non_saturating", "non_saturating_eps")
    if standard and config.penalty.kind == "none" and not config.weight_clip:
        return "Standard GAN"
    return f"GAN with the {config.loss.replace('_', '-')} loss"


def class_names(config: TrainConfig) -> list[str] | None:
    """What the classes are called; None where unconditional or not known."""
    return list(class_labels.names_of(config)) or None


def _write_onnx(trained: Trained, path: Path) -> tuple[dict[str, Any], Read]:
    import onnx  # of the extra `export`
    import onnxruntime

    from jax_sngan.export import onnx_graph

    about = {"preset": trained.config.name, "step": str(trained.step)}
    onnx.save(onnx_graph.onnx_generator(*trained.portable, about, trained.truncation), path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]

    def read(*inputs: np.ndarray) -> np.ndarray:
        return session.run(["images"], dict(zip(names, inputs, strict=True)))[0]

    return {"opset": onnx_graph.OPSET}, read
