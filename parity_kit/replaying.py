"""replay: a recorded run of anybody's program, by the training step of one's own GAN."""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_sngan.core.gan import GAN
from jax_sngan.core.inputs import Inputs
from jax_sngan.core.state import TrainState, first_state
from jax_sngan.core.step import train_step
from jax_sngan.interop import recording as recordings
from jax_sngan.interop import replay as own_replay
from jax_sngan.interop.replay import Deviation, Replay
from jax_sngan.system import npz
from jax_sngan.system.errors import UserError
from parity_kit.gans import SHORT, Carried, in_float64
from parity_kit.loading import Loaded, guessed_flats, put
from parity_kit.matching import Names

_NEEDED = ("inputs/real_images", "inputs/d_latents", "inputs/g_latents", "losses/d", "losses/g")


def replay(recording: str | Path, gan: GAN | None = None, names: dict[str, Names] | Names | None = None) -> Replay:
    """Runs every recorded step and compares all that the program left behind.

    A recording is an .npz with init/{g,d}/… and final/{g,d}/… (the program's state dicts, torch's layouts),
    inputs/real_images [steps, n_dis, batch, h, w, c] in [-1, 1], inputs/d_latents [steps, n_dis, batch, z],
    inputs/g_latents [steps, g_batch, z], inputs/*_labels where there are classes, losses/g [steps], losses/d [steps,
    n_dis], and, if images were drawn at the end, sample/latents, sample/images and sample/labels.

    Args:
      gan: what the program is in JAX, its penalties, losses and optimisers included. None: the program is one of the
        two that are known by their arrays (the SN-GAN authors', torch-mimicry), and `meta` tells the rest.
      names: as load_state_dict takes them; {"generator": …, "discriminator": …} where the two differ.
    Raises:
      UserError: the file can't be read, something is missing, or the networks do not fit.
    """
    if gan is None:
        if names is not None:
            raise UserError("names needs a gan: the arrays of a program that is known have their names")
        return own_replay.replay(recordings.load_recording(recording))
    path = Path(recording)
    if not path.is_file():
        raise UserError(f"no file {path}")
    with jax.enable_x64(True):
        try:
            arrays = recordings.labels_respelled(npz.read_whole_npz(path))
            return _replayed(arrays, in_float64(gan), names)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def _replayed(arrays: dict[str, np.ndarray], gan: GAN, names: Any) -> Replay:
    missing = [name for name in _NEEDED if name not in arrays]
    missing += [f"{when}/{s}/…" for when in ("init", "final") for s in "gd" if not _of(arrays, f"{when}/{s}/")]
    labels = ("real_labels", "d_labels", "g_labels") if gan.num_classes else ()
    missing += [f"inputs/{name}" for name in labels if f"inputs/{name}" not in arrays]
    if missing:
        there = sorted({n if not n.startswith(("init", "final")) else f"{n[:6]}…" for n in arrays})
        raise UserError(f"missing {', '.join(missing)}; it has {', '.join(there) or 'nothing'}")
    if arrays["inputs/d_latents"].shape[1] != gan.n_dis:
        raise UserError(
            f"it has {arrays['inputs/d_latents'].shape[1]} D updates a step, the GAN's n_dis is {gan.n_dis}"
        )
    carried = {}
    for role, short in SHORT.items():
        own = names.get(role) if isinstance(names, dict) and set(names) <= set(SHORT) else names
        carried[role], _ = Carried.of(role, getattr(gan, role), _of(arrays, f"init/{short}/"), own, None, ())
    inputs = _inputs(arrays, labels)
    _choose_flats(gan, carried, inputs, arrays)
    state = _start(gan, carried)
    step = train_step(gan)
    d_losses, g_losses = [], []
    for k in range(len(inputs.g_latents)):
        state, logs = step(state, _at(inputs, k))
        d_losses.append(np.asarray(logs["d_loss"]))
        g_losses.append(np.asarray(logs["g_loss"]))
    found = {"losses/d": np.stack(d_losses), "losses/g": np.stack(g_losses)}
    groups: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {
        "losses": {name: (found[name], arrays[name]) for name in found}
    }
    for role, short in SHORT.items():
        c = carried[role]
        ours, theirs = c.ours(getattr(state, role)), c.theirs(_of(arrays, f"final/{short}/"))
        for name, a in theirs.items():
            groups.setdefault(_group(c, name, short), {})[f"final/{name}"] = (ours[name], a)
    if "sample/images" in arrays:
        own_labels = jnp.asarray(arrays["sample/labels"]) if gan.num_classes else None
        drawn, _ = gan.networks.generator.apply(
            state.generator, jnp.asarray(arrays["sample/latents"]), own_labels, train=False
        )
        groups["images"] = {"sample/images": (np.asarray(drawn), arrays["sample/images"])}
    deviations = {
        group: max(Deviation(own_replay.largest_error(a, e), name) for name, (a, e) in entries.items())
        for group, entries in groups.items()
    }
    by_step = [max(own_replay.largest_error(found[n][k], arrays[n][k]) for n in found) for k in range(len(g_losses))]
    return Replay(deviations, by_step)


def _start(gan: GAN, carried: dict[str, Carried]) -> TrainState:
    for c in carried.values():
        put(Loaded(c.loaded.pairs), c.layouts.flats)
    return first_state(gan, *(c.network.variables_of(c.module) for c in carried.values()))


def _choose_flats(gan: GAN, carried: dict[str, Carried], inputs: Inputs, arrays: dict[str, np.ndarray]) -> None:
    """Whether either network flattens its maps as torch does or in its own order: as the first step's losses come out.

    There is no module of the program to run beside it.
    """
    choices = []
    for c in carried.values():
        own = guessed_flats(c.loaded.pairs, c.layers)
        choices.append([{}, own] if own else [{}])
    if all(len(own) == 1 for own in choices):
        return
    step, errors = train_step(gan), []
    options = list(itertools.product(*choices))
    for flats in options:
        for c, own in zip(carried.values(), flats, strict=True):
            c.layouts = c.layouts._replace(flats=own)
        _, logs = step(_start(gan, carried), _at(inputs, 0))
        pairs = (("d_loss", "losses/d"), ("g_loss", "losses/g"))
        errors.append(max(own_replay.largest_error(np.asarray(logs[a]), arrays[b][0]) for a, b in pairs))
    for c, own in zip(carried.values(), options[int(np.argmin(errors))], strict=True):
        c.layouts = c.layouts._replace(flats=own)


def _at(inputs: Inputs, k: int) -> Inputs:
    found: Inputs = jax.tree.map(lambda a: jnp.asarray(a[k]), inputs)
    return found


def _group(c: Carried, name: str, short: str) -> str:
    fields = {pair.torch.names.get(f): f for pair in c.loaded.pairs for f in pair.nnx.slots}
    field = fields[name.removeprefix(f"{short}/")]
    return "spectral" if field in ("u", "v") else "batch_stats" if field in ("mean", "var") else f"{short}_params"


def _of(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _inputs(arrays: dict[str, np.ndarray], labels: tuple[str, ...]) -> Inputs:
    images = arrays["inputs/real_images"]
    floats = images.astype(np.float64) / 127.5 - 1 if images.dtype == np.uint8 else images.astype(np.float64)
    latents = {n: arrays[f"inputs/{n}"].astype(np.float64) for n in ("d_latents", "g_latents")}
    return Inputs(floats, **latents, **{n: arrays[f"inputs/{n}"].astype(np.int32) for n in labels})  # type: ignore[arg-type]
