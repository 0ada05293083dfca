"""Reads a recorded training trajectory of a public SN-GAN program: its settings as our options, its arrays as ours.

A recording holds the program's arrays before and after, every input, every loss, and images drawn at the end. The
program is recognised by its names; network and settings come from the arrays' shapes and from `meta`, a JSON string.
Labels may be called as their program calls them, inputs/*_labels: `_labels_of` says which are whose.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_sngan.config.reference_programs import with_protocol
from jax_sngan.config.schema import TrainConfig, replace
from jax_sngan.core.inputs import Inputs
from jax_sngan.interop import public_programs
from jax_sngan.interop.torch_layout import Flat, check_fit
from jax_sngan.models.network import Variables
from jax_sngan.system import npz
from jax_sngan.system.errors import UserError

GROUPS = ("losses", "g_params", "d_params", "spectral", "batch_stats", "images")
# What each program calls our losses.
LOSSES = {
    "authors": {"hinge": "hinge", "dcgan": "non_saturating"},
    "mimicry": {"hinge": "hinge", "gan": "non_saturating", "ns": "non_saturating_eps", "wasserstein": "wasserstein"},
}
NETWORKS = {"generator": "g", "discriminator": "d"}  # ours -> the short name in a recording
# Our options -> keys of meta, of which the first that is there counts.
_ADAM = {"learning_rate": ("lr", "alpha"), "beta1": ("b1", "beta1"), "beta2": ("b2", "beta2"), "eps": ("eps",)}
_DECAY_START = ("lr_decay_start", "decay_start", "iteration_decay_start", "start_step")
_DECAY_END = ("lr_decay_end", "decay_end", "iteration", "num_steps")
# The first words of lr_decay -> our schedule; what follows ("linear to 0 at the last step") is the writer's prose.
_DECAYS = {"none": "constant", "constant": "constant", "linear": "linear"}
_LABELS = ("real_labels", "d_labels", "g_labels")


class Recording(NamedTuple):
    """One file, in our terms."""

    program: str
    config: TrainConfig
    before: dict[str, Variables]  # network -> its variables at the start
    inputs: Inputs  # of all steps: each array has one more axis in front, [steps, …]
    sample_latents: np.ndarray  # [n, latent_size]
    sample_labels: np.ndarray | None  # int [n]
    expected: dict[str, Flat]  # group -> name in the file -> array


def load_recording(path: str | Path) -> Recording:
    """Reads and checks a recording; no code of the file runs.

    Raises:
      UserError: it can't be read, or is no recording of a program that is known; it names what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}")
    arrays = npz.read_whole_npz(path)
    try:
        with jax.enable_x64(True):
            return _recording(labels_respelled(arrays), _meta(arrays))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def labels_respelled(arrays: Flat) -> Flat:
    """The arrays with inputs/*_labels under our three names: real_labels, d_labels, g_labels.

    Raises:
      UserError: two arrays are labels of the same images, or it can't be said whose labels an array is.
    """
    found: dict[str, str] = {}
    for name in sorted(arrays):
        if not (name.startswith("inputs/") and name.endswith("_labels")):
            continue
        ours = f"inputs/{_labels_of(name)}"
        if ours in found:
            raise UserError(f"{found[ours]} and {name} are labels of the same images")
        found[ours] = name
    taken = set(found.values())
    return {n: a for n, a in arrays.items() if n not in taken} | {ours: arrays[name] for ours, name in found.items()}


def _labels_of(name: str) -> str:
    """Which of our three an array is: of a D update's real or generated images, or of a G update's.

    real_labels, d_real_labels -> real_labels; d_labels, fake_labels, d_fake_labels -> d_labels; g_labels, g_fake_labels
    -> g_labels.
    """
    words = name.removeprefix("inputs/").removesuffix("_labels").split("_")
    if words in (["real"], ["d", "real"]):
        return "real_labels"
    if words in (["d"], ["fake"], ["d", "fake"]):
        return "d_labels"
    if words in (["g"], ["g", "fake"]):
        return "g_labels"
    raise UserError(f"{name}: labels are real_labels, d_labels or d_fake_labels, g_labels or g_fake_labels")


def _meta(arrays: Flat) -> dict[str, Any]:
    text = arrays.get("meta")
    if text is None or text.ndim or text.dtype.kind != "U":
        raise UserError("it has no string `meta`")
    try:
        meta = json.loads(text.item())
    except (ValueError, RecursionError) as error:
        raise UserError(f"meta is not JSON: {error}") from None
    if not isinstance(meta, dict):
        raise UserError(f"meta must be a JSON object, got {type(meta).__name__}")
    return meta


def _recording(arrays: Flat, meta: dict[str, Any]) -> Recording:
    for name, a in arrays.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise UserError(f"{name} holds a number that is not finite")
    before, after = ({n: _network(arrays, f"{when}/{s}/") for n, s in NETWORKS.items()} for when in ("init", "final"))
    program = _program(before)
    config = _config(program, before, arrays, meta)
    variables = {}
    for when, networks in (("init", before), ("final", after)):
        for network, short in NETWORKS.items():
            try:
                variables[when, network] = public_programs.read(program, config.model, network, networks[network])
            except UserError as error:
                raise UserError(f"{when}/{short}: {error}") from None
    conditional = config.model.num_classes > 0
    return Recording(
        program=program,
        config=config,
        before={network: variables["init", network] for network in NETWORKS},
        inputs=_inputs(arrays, conditional),
        sample_latents=arrays["sample/latents"],
        sample_labels=arrays["sample/labels"] if conditional else None,
        expected=_expected(program, config, after, arrays),
    )


def _network(arrays: Flat, prefix: str) -> Flat:
    """The arrays under a prefix; recordings of the authors' program sort them under params/ and state/ too."""
    found = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
    return {name.removeprefix("params/").removeprefix("state/"): a for name, a in found.items()}


def _program(networks: dict[str, Flat]) -> str:
    programs = set()
    for network, short in NETWORKS.items():
        if not networks[network]:
            raise UserError(f"it is no recording: it has no arrays init/{short}/…")
        program, kind = public_programs.recognise(networks[network])
        if kind != network:
            raise UserError(f"init/{short} holds a {kind}")
        programs.add(program)
    if len(programs) > 1:
        raise UserError("init/g and init/d are of different programs")
    return programs.pop()


def _config(program: str, networks: dict[str, Flat], arrays: Flat, meta: dict[str, Any]) -> TrainConfig:
    """What the program ran, as options of our one trainer."""
    options = [public_programs.model_options(program, network, networks[network]) for network in NETWORKS]
    for name in options[0].keys() & options[1].keys():
        if options[0][name] != options[1][name]:
            raise UserError(f"init/g is made for {name} {options[0][name]}, init/d for {options[1][name]}")
    model = options[0] | options[1]
    steps, n_dis, batch, g_batch = _check_shapes(arrays, model)
    in_arrays = {
        "steps": steps, "n_dis": n_dis, "batch": batch, "g_batch": g_batch, "num_classes": model["num_classes"],
        "size": model["image_size"], "z_dim": model.get("latent_size"),
    }  # fmt: skip
    for name, value in in_arrays.items():
        if value is not None and meta.get(name) not in (None, value):
            raise UserError(f"meta says {name} {meta[name]!r}, the arrays have {value}")

    optimizer = _optimizer(meta)
    changes = {
        "name": "replay",
        "steps": _first(meta, _DECAY_END, steps) if optimizer["schedule"] == "linear" else steps,
        "batch_size": batch,
        "n_dis": n_dis,
        # Only draw_inputs reads it: an update takes as many latents as it is given.
        "generator_batch_multiplier": max(g_batch // batch, 1) if batch else 1,
        "loss": _choice("loss", meta.get("loss"), LOSSES[program]),
        "model.dtype": "float64",
    }
    changes |= {f"model.{name}": value for name, value in model.items()}
    changes |= {f"{network}_optimizer.{name}": value for network in NETWORKS for name, value in optimizer.items()}
    return replace(with_protocol(TrainConfig(), program), changes)


def _optimizer(meta: dict[str, Any]) -> dict[str, Any]:
    adam = meta.get("adam")
    if not isinstance(adam, dict):
        raise UserError("meta has no object `adam`")
    options = {}
    for option, keys in _ADAM.items():
        options[option] = _first(adam, keys)
        if options[option] is None:
            raise UserError(f"meta's adam has no {keys[0]}")
    named = meta.get("lr_decay") or "none"
    words = re.findall("[a-z]+", named.lower()) if isinstance(named, str) else []
    if not words or words[0] not in _DECAYS:
        raise UserError(f"meta's lr_decay must begin with one of {', '.join(_DECAYS)}; got {named!r}")
    return options | {
        "schedule": _DECAYS[words[0]],
        "decay_start": _first(meta, _DECAY_START, 0),
    }


def _first(values: Mapping[str, Any], keys: tuple[str, ...], default: Any = None) -> Any:
    return next((values[key] for key in keys if key in values), default)


def _choice(name: str, value: Any, choices: Mapping[str, str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"meta's {name} must be one of {', '.join(choices)}; got {value!r}")
    return choices[value]


def _check_shapes(arrays: Flat, model: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """(steps, n_dis, batch, generator's batch), once inputs, losses and samples are found to belong together."""
    axes = {
        "inputs/real_images": ("steps", "n_dis", "batch", "size", "size", "channels"),
        "inputs/d_latents": ("steps", "n_dis", "batch", "latent_size"),
        "inputs/g_latents": ("steps", "g_batch", "latent_size"),
        "losses/d": ("steps", "n_dis"),
        "losses/g": ("steps",),
        "sample/latents": ("samples", "latent_size"),
        "sample/images": ("samples", "size", "size", "channels"),
    }
    if model["num_classes"]:
        axes |= {
            **{f"inputs/{name}": ("steps", "n_dis", "batch") for name in ("real_labels", "d_labels")},
            "inputs/g_labels": ("steps", "g_batch"),
            "sample/labels": ("samples",),
        }
    sizes = {"size": model["image_size"]} | {n: model[n] for n in ("channels", "latent_size") if n in model}
    found = {name: arrays[name] for name in axes if name in arrays}
    for name, a in found.items():  # the first array that has an axis says how long it is
        if a.ndim == len(axes[name]):
            sizes = dict(zip(axes[name], a.shape, strict=True)) | sizes
    kinds = {name: found[name].dtype if name in found else np.dtype(float) for name in axes}
    try:
        check_fit(found, {n: (kinds[n], tuple(sizes.get(axis, 0) for axis in names)) for n, names in axes.items()})
    except UserError as error:
        there = [
            f"{n} {list(a.shape)}" for n, a in sorted(arrays.items()) if n.startswith(("inputs", "losses", "sample"))
        ]
        raise UserError(f"{error}; it has {', '.join(there) or 'no inputs, losses or samples'}") from None
    for name, a in found.items():
        labels = name.endswith("labels")
        if a.dtype.kind not in ("iu" if labels else "fiu"):
            raise UserError(f"{name} holds {a.dtype}, not {'whole ' if labels else ''}numbers")
        if labels and not ((a >= 0) & (a < model["num_classes"])).all():
            raise UserError(f"{name} must be from 0 to {model['num_classes'] - 1}, got {a.min()} to {a.max()}")
    return sizes["steps"], sizes["n_dis"], sizes["batch"], sizes["g_batch"]


def _inputs(arrays: Flat, conditional: bool) -> Inputs:
    """All steps' inputs; torch-mimicry hands labels to unconditional networks too, which do not read them."""
    images = arrays["inputs/real_images"]  # uint8 pixels are the trainer's to turn to [-1, 1]
    found: dict[str, Any] = {"real_images": images if images.dtype == np.uint8 else images.astype(np.float64)}
    found |= {name: arrays[f"inputs/{name}"].astype(np.float64) for name in ("d_latents", "g_latents")}
    if conditional:
        found |= {n: arrays[f"inputs/{n}"].astype(np.int32) for n in _LABELS}
    return Inputs(**found)


def _expected(program: str, config: TrainConfig, after: dict[str, Flat], arrays: Flat) -> dict[str, Flat]:
    groups: dict[str, Flat] = {group: {} for group in GROUPS}
    groups["losses"] = {name: arrays[name] for name in ("losses/g", "losses/d")}
    groups["images"] = {"sample/images": arrays["sample/images"]}
    for network, short in NETWORKS.items():
        spelled = public_programs.one_spelling(program, after[network])
        for place in public_programs.places(program, config.model, network):
            if place.name in spelled:  # all but a v that the program does not store
                group = {"params": f"{short}_params", "spectral": "spectral", "batch": "batch_stats"}[place.tree]
                groups[group][f"final/{short}/{place.name}"] = spelled[place.name]
    return groups
