"""Recorded trajectories: what is read from one, and the one line for each way in which a file can be wrong."""

import json

import numpy as np
import pytest

from jax_sngan.config.schema import ModelConfig
from jax_sngan.interop import public_programs, recording
from jax_sngan.system.errors import UserError

STEPS, N_DIS, BATCH, G_BATCH, LATENT, SAMPLES = 2, 3, 4, 5, 6, 2


def trajectory(program, num_classes=0, **meta):
    """The arrays of a recording in form, with random numbers: right to read, not to replay."""
    rng = np.random.default_rng(0)
    config = ModelConfig(
        architecture="resnet",
        latent_size=LATENT,
        generator_width=2,
        discriminator_width=3,
        num_classes=num_classes,
        score_bias=program == "mimicry",
        dtype="float64",
    )
    arrays = {}
    for network, short in recording.NETWORKS.items():
        for when in ("init", "final"):
            for name, shape in public_programs.shapes(program, config, network).items():
                part = (
                    ""
                    if program == "mimicry"
                    else "state/"
                    if name.endswith(("/u", "avg_mean", "avg_var"))
                    else "params/"
                )
                arrays[f"{when}/{short}/{part}{name}"] = rng.normal(size=shape)
    arrays |= {
        "inputs/real_images": rng.uniform(-1, 1, (STEPS, N_DIS, BATCH, 32, 32, 3)),
        "inputs/d_latents": rng.normal(size=(STEPS, N_DIS, BATCH, LATENT)),
        "inputs/g_latents": rng.normal(size=(STEPS, G_BATCH, LATENT)),
        # torch-mimicry's unconditional recordings have labels too, of classes that no network knows.
        "inputs/real_labels": rng.integers(num_classes or 10, size=(STEPS, N_DIS, BATCH)),
        "losses/g": rng.normal(size=STEPS),
        "losses/d": rng.normal(size=(STEPS, N_DIS)),
        "sample/latents": rng.normal(size=(SAMPLES, LATENT)),
        "sample/images": rng.uniform(-1, 1, (SAMPLES, 32, 32, 3)),
    }
    if num_classes:
        arrays |= {
            "inputs/d_labels": rng.integers(num_classes, size=(STEPS, N_DIS, BATCH)),
            "inputs/g_labels": rng.integers(num_classes, size=(STEPS, G_BATCH)),
            "sample/labels": rng.integers(num_classes, size=SAMPLES),
        }
    settings = {"loss": "hinge", "steps": STEPS, "adam": {"lr": 2e-4, "b1": 0.0, "b2": 0.9, "eps": 1e-8}} | meta
    return arrays | {"meta": np.array(json.dumps(settings))}


def saved(tmp_path, arrays):
    path = tmp_path / "trajectory.npz"
    np.savez(path, **arrays)
    return path


def test_the_authors_protocol(tmp_path):
    recorded = recording.load_recording(saved(tmp_path, trajectory("authors", loss="dcgan", lr_decay="linear")))
    config = recorded.config
    assert recorded.program == "authors"
    assert (config.update_order, config.passes, config.loss) == ("generator_first", "separate", "non_saturating")
    assert (config.steps, config.n_dis, config.batch_size, config.ema_decay) == (STEPS, N_DIS, BATCH, 0.0)
    assert (config.model.upsampling, config.model.shortcut_input) == ("nearest", "raw")
    assert (config.model.batch_norm_eps, config.model.score_bias, config.model.dtype) == (2e-5, False, "float64")
    assert (config.model.generator_width, config.model.discriminator_width, config.model.latent_size) == (2, 3, LATENT)
    assert config.model.spectral_norm.eps_form == "add"
    for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
        assert (optimizer.eps_form, optimizer.schedule, optimizer.decay_start) == ("epsilon_hat", "linear", 0)
        assert (optimizer.learning_rate, optimizer.beta1, optimizer.beta2) == (2e-4, 0.0, 0.9)
    spectral = recorded.expected["spectral"]
    assert "final/d/block1/c1/u" in spectral
    assert not any(name.endswith("/v") for name in spectral)


def test_mimicrys_protocol(tmp_path):
    recorded = recording.load_recording(saved(tmp_path, trajectory("mimicry", loss="ns", lr_decay=None)))
    config = recorded.config
    assert recorded.program == "mimicry"
    assert (config.update_order, config.passes, config.loss) == (
        "discriminator_first",
        "separate",
        "non_saturating_eps",
    )
    assert (config.model.upsampling, config.model.shortcut_input) == ("bilinear", "activated")
    assert (config.model.batch_norm_eps, config.model.score_bias) == (1e-5, True)
    assert (config.generator_optimizer.eps_form, config.generator_optimizer.schedule) == ("standard", "constant")
    assert recorded.inputs.real_labels is None
    assert {"final/d/l5.weight_u", "final/d/l5.weight_v"} <= recorded.expected["spectral"].keys()


@pytest.mark.parametrize("program", public_programs.PROGRAMS)
def test_conditional(tmp_path, program):
    recorded = recording.load_recording(saved(tmp_path, trajectory(program, num_classes=3)))
    assert recorded.config.model.num_classes == 3
    assert recorded.inputs.g_labels.shape == (STEPS, G_BATCH)
    assert recorded.sample_labels.shape == (SAMPLES,)


@pytest.mark.parametrize("fake", ["d_fake_labels", "fake_labels"])
def test_labels_may_be_called_as_their_program_calls_them(tmp_path, fake):
    arrays = trajectory("mimicry", num_classes=3)
    plain = recording.load_recording(saved(tmp_path, arrays)).inputs
    spelled = {"inputs/d_labels": f"inputs/{fake}", "inputs/g_labels": "inputs/g_fake_labels"}
    other = recording.load_recording(saved(tmp_path, {spelled.get(n, n): a for n, a in arrays.items()})).inputs
    for name in ("real_labels", "d_labels", "g_labels"):
        np.testing.assert_array_equal(getattr(other, name), getattr(plain, name))


@pytest.mark.parametrize("words", ["linear to 0 at the last step", "Linear", "linear_decay", "linear, from step 0"])
def test_what_follows_linear_is_prose(tmp_path, words):
    arrays = trajectory("authors", lr_decay=words)
    assert recording.load_recording(saved(tmp_path, arrays)).config.generator_optimizer.schedule == "linear"


@pytest.mark.parametrize("words", ["none (constant)", "constant", "None"])
def test_no_decay_in_other_words(tmp_path, words):
    arrays = trajectory("authors", lr_decay=words)
    assert recording.load_recording(saved(tmp_path, arrays)).config.generator_optimizer.schedule == "constant"


def test_decay_may_start_late_and_end_later(tmp_path):
    arrays = trajectory("mimicry", lr_decay="linear", start_step=1, num_steps=100)
    config = recording.load_recording(saved(tmp_path, arrays)).config
    assert (config.steps, config.generator_optimizer.decay_start) == (100, 1)


def test_every_array_is_compared(tmp_path):
    arrays = trajectory("mimicry", num_classes=3)
    expected = recording.load_recording(saved(tmp_path, arrays)).expected
    assert list(expected) == list(recording.GROUPS)
    compared = {name for group in expected.values() for name in group}
    assert compared == {n for n in arrays if n.startswith(("final/", "losses/")) or n == "sample/images"}


def without(name):
    def change(arrays):
        del arrays[name]

    return change


def with_array(name, value):
    def change(arrays):
        arrays[name] = np.asarray(value)

    return change


def with_meta(**entries):
    def change(arrays):
        arrays["meta"] = np.array(json.dumps(json.loads(arrays["meta"].item()) | entries))

    return change


def with_nan(arrays):
    arrays["init/g/l1.bias"][3] = np.nan


def of_two_programs(arrays):
    for name in [n for n in arrays if n.startswith(("init/d", "final/d"))]:
        del arrays[name]
    arrays.update({n: a for n, a in trajectory("authors").items() if n.startswith(("init/d", "final/d"))})


def swapped(arrays):
    for name in [n for n in arrays if n.startswith("init/")]:
        arrays[name.replace("init/g", "init/x").replace("init/d", "init/g").replace("init/x", "init/d")] = arrays.pop(
            name
        )


def nothing_known(arrays):
    for name in list(arrays):
        arrays[name.replace("block", "stage")] = arrays.pop(name)


WRONG = {
    "no weights": (without("init/g/l1.weight"), ["init/g", "missing l1.weight"]),
    "no weights at the end": (without("final/d/l5.bias"), ["final/d", "missing l5.bias"]),
    "extra": (with_array("init/g/l9.weight", np.zeros(3)), ["init/g", "extra l9.weight"]),
    "misshapen": (with_array("init/g/c5.bias", np.zeros(4)), ["c5.bias is float64 [4], not float64 [3]"]),
    "no images": (without("inputs/real_images"), ["missing inputs/real_images"]),
    "names what there is": (without("inputs/g_latents"), ["it has inputs/d_latents [2, 3, 4, 6], inputs/real_images"]),
    "labels twice": (with_array("inputs/d_real_labels", np.zeros(3)), ["inputs/d_real_labels and inputs/real_labels"]),
    "labels of what": (with_array("inputs/soft_labels", np.zeros(3)), ["inputs/soft_labels: labels are real_labels"]),
    "a decay of no word": (with_meta(lr_decay=3), ["lr_decay must begin with one of", "3"]),
    "no samples": (without("sample/images"), ["missing sample/images"]),
    "no losses": (without("losses/g"), ["missing losses/g"]),
    "too few latents": (with_array("inputs/d_latents", np.zeros((2, 3, 3, 6))), ["inputs/d_latents", "[2, 3, 4, 6]"]),
    "flat images": (with_array("inputs/real_images", np.zeros(7)), ["inputs/real_images is float64 [7]"]),
    "other pixels": (with_array("sample/images", np.zeros((2, 48, 48, 3))), ["sample/images", "[2, 32, 32, 3]"]),
    "not finite": (with_nan, ["init/g/l1.bias", "not finite"]),
    "strings": (with_array("init/g/c5.bias", ["a", "b", "c"]), ["c5.bias is <U1 [3]"]),
    "no meta": (without("meta"), ["no string `meta`"]),
    "numbers as meta": (with_array("meta", 3), ["no string `meta`"]),
    "meta not JSON": (with_array("meta", "{'loss': 'hinge'}"), ["meta is not JSON"]),
    "meta no object": (with_array("meta", "[1]"), ["meta must be a JSON object, got list"]),
    "unknown loss": (with_meta(loss="lsgan"), ["loss must be one of hinge, gan, ns, wasserstein", "'lsgan'"]),
    "no loss": (with_meta(loss=None), ["loss must be one of", "None"]),
    "loss no word": (with_meta(loss=[1]), ["loss must be one of", "[1]"]),
    "unknown decay": (
        with_meta(lr_decay="cosine"),
        ["must begin with one of none, constant, linear", "'cosine'"],
    ),
    "no adam": (with_meta(adam=None), ["no object `adam`"]),
    "half an adam": (with_meta(adam={"lr": 1e-3}), ["adam has no b1"]),
    "adam in words": (with_meta(adam={"lr": "fast", "b1": 0, "b2": 0.9, "eps": 1e-8}), ["learning_rate", "'fast'"]),
    "other steps": (with_meta(steps=9), ["meta says steps 9, the arrays have 2"]),
    "other classes": (with_meta(num_classes=9), ["meta says num_classes 9, the arrays have 0"]),
    "two programs": (of_two_programs, ["of different programs"]),
    "swapped": (swapped, ["init/g holds a discriminator"]),
    "unknown program": (nothing_known, ["neither a network of torch-mimicry nor of the authors"]),
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_in_one_line(tmp_path, change, words):
    arrays = trajectory("mimicry")
    change(arrays)
    path = saved(tmp_path, arrays)
    with pytest.raises(UserError) as error:
        recording.load_recording(path)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    assert all(word in line for word in words), line


@pytest.mark.parametrize("name", ["inputs/d_labels", "inputs/g_labels", "sample/labels"])
def test_conditional_needs_every_label(tmp_path, name):
    arrays = trajectory("authors", num_classes=3)
    without(name)(arrays)
    with pytest.raises(UserError, match=f"missing {name}"):
        recording.load_recording(saved(tmp_path, arrays))


def test_labels_are_classes(tmp_path):
    arrays = trajectory("authors", num_classes=3)
    arrays["inputs/g_labels"][1, 0] = 3  # jax would take class 2 instead, without a word
    with pytest.raises(UserError, match=r"inputs/g_labels must be from 0 to 2, got . to 3"):
        recording.load_recording(saved(tmp_path, arrays))
    with pytest.raises(UserError, match="inputs/g_labels holds float64, not whole numbers"):
        recording.load_recording(saved(tmp_path, arrays | {"inputs/g_labels": np.ones((STEPS, G_BATCH))}))


class Booby:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("the file's code ran",))


def test_pickles_are_refused(tmp_path):
    arrays = trajectory("mimicry")
    arrays["losses/g"] = np.array([Booby()], dtype=object)
    with pytest.raises(UserError, match=r"losses/g.* holds object"):
        recording.load_recording(saved(tmp_path, arrays))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not an archive", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}"])
def test_no_npz(tmp_path, content):
    path = tmp_path / "trajectory.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        recording.load_recording(path)


def test_cut_short(tmp_path):
    path = saved(tmp_path, trajectory("mimicry"))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match="damaged"):
        recording.load_recording(path)


def test_the_script_says_it_in_one_line(script, tmp_path):
    assert script("replay.py", tmp_path / "absent.npz").is_one_line("no file", "absent.npz")
    arrays = trajectory("mimicry")
    with_meta(loss="lsgan")(arrays)
    assert script("replay.py", saved(tmp_path, arrays), "--json", "x.json").is_one_line("lsgan", "wasserstein")
    assert script("replay.py", "x.npz", "--tolerance=-1").is_one_line("--tolerance", "-1")
    assert script("replay.py").is_one_line("TRAJECTORY.npz")
    assert script("replay.py", "x.npz", "--tolerence=1").is_one_line("--tolerance")
    assert not (tmp_path / "x.json").exists()
