"""Names and layouts of torch-mimicry's and of the authors' networks, against what those programs themselves write.

foreign_networks.json holds the names and shapes that every network of both has at its default widths: state_dict() of
torch-mimicry 0.1.16's classes, and chainer 7.8.1's npz of pfnet-research/sngan_projection's.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from jax_sngan.config.schema import ModelConfig, replace
from jax_sngan.interop import public_programs
from jax_sngan.interop.torch_layout import leaves, network_entries
from jax_sngan.models.network import Variables
from jax_sngan.system.errors import UserError

NETWORKS = json.loads((Path(__file__).parent / "foreign_networks.json").read_text())


def stand_ins(shapes):
    """Arrays of these shapes that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def config_of(entry, arrays, dtype="float32"):
    options = public_programs.model_options(entry["program"], entry["network"], arrays)
    return replace(ModelConfig(dtype=dtype), options)


@pytest.mark.parametrize("title", NETWORKS)
def test_every_network_is_recognised_with_its_names_and_shapes(title):
    entry = NETWORKS[title]
    arrays = stand_ins(entry["arrays"])
    assert public_programs.recognise(arrays) == (entry["program"], entry["network"])
    config = config_of(entry, arrays)
    expected = {name: a.shape for name, a in public_programs.one_spelling(entry["program"], arrays).items()}
    ours = public_programs.shapes(entry["program"], config, entry["network"])
    if title == "mimicry CGANPDDiscriminator32":  # its own spectral norm in two layers, which stores no v
        assert {ours.pop("l5.weight_v"), ours.pop("l_y.weight_v")} == {(128,)}
    assert ours == expected
    params = network_entries(config, entry["network"]).params
    assert sum(int(np.prod(e.shape)) for e in params) == entry["parameters"]


@pytest.mark.parametrize(
    ("title", "options"),
    [
        ("mimicry SNGANGenerator48", {"image_size": 48, "generator_width": 512, "latent_size": 128, "num_classes": 0}),
        ("mimicry SNGANDiscriminator48", {"image_size": 48, "discriminator_width": 1024, "score_bias": True}),
        ("mimicry SNGANDiscriminator64", {"image_size": 64, "discriminator_width": 1024, "score_bias": True}),
        ("mimicry CGANPDGenerator128", {"image_size": 128, "generator_width": 1024, "num_classes": 10}),
        ("mimicry CGANPDDiscriminator32", {"image_size": 32, "discriminator_width": 128, "num_classes": 10}),
        ("authors generator 64 5 classes", {"image_size": 64, "generator_width": 1024, "num_classes": 5}),
        ("authors discriminator 32 0 classes", {"image_size": 32, "score_bias": False, "num_classes": 0}),
        ("authors discriminator 128 5 classes", {"image_size": 128, "score_bias": True, "num_classes": 5}),
    ],
)
def test_options_are_read_from_shapes(title, options):
    entry = NETWORKS[title]
    found = public_programs.model_options(entry["program"], entry["network"], stand_ins(entry["arrays"]))
    assert options.items() <= found.items()


def random_file(title, rng, width=16):
    """Arrays of a network's names, at a width that is quick, and the config that they are for."""
    entry = NETWORKS[title]
    config = config_of(entry, stand_ins(entry["arrays"]))
    config = replace(config, {"generator_width": width, "discriminator_width": width, "latent_size": 7})
    shapes = public_programs.shapes(entry["program"], config, entry["network"])
    return entry, config, {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("title", NETWORKS)
def test_reading_then_writing_changes_no_bit(title):
    entry, config, arrays = random_file(title, np.random.default_rng(0))
    variables = public_programs.read(entry["program"], config, entry["network"], arrays)
    again = public_programs.write(entry["program"], config, entry["network"], variables)
    assert again.keys() == arrays.keys()
    for name, a in arrays.items():
        np.testing.assert_array_equal(again[name], a, err_msg=name, strict=True)


def test_layouts_are_ours():
    _, config, arrays = random_file("authors generator 32 10 classes", np.random.default_rng(0))
    params, spectral, batch, _ = public_programs.read("authors", config, "generator", arrays)
    assert spectral == {}
    block = params["blocks"]["1"]  # their block3
    kernel = arrays["block3/c1/W"]  # [out, in, 3, 3]
    np.testing.assert_array_equal(block["conv1"]["kernel"][2, 0, 5, 7], kernel[7, 5, 2, 0])
    np.testing.assert_array_equal(block["norm1"]["scale"], arrays["block3/b1/gammas/W"])
    np.testing.assert_array_equal(batch["norm"]["var"], arrays["b5/avg_var"])
    project = params["project"]["kernel"].reshape(7, 4, 4, 16)  # [latent, h, w, c]
    np.testing.assert_array_equal(project[3, 1, 2, 9], arrays["l1/W"].reshape(16, 4, 4, 7)[9, 1, 2, 3])


def test_mimicrys_embedding_is_scales_then_shifts():
    _, config, arrays = random_file("mimicry CGANPDGenerator32", np.random.default_rng(0))
    norm = public_programs.read("mimicry", config, "generator", arrays).params["blocks"]["0"]["norm2"]
    np.testing.assert_array_equal(norm["scale"], arrays["block2.b2.embed.weight"][:, :16])
    np.testing.assert_array_equal(norm["bias"], arrays["block2.b2.embed.weight"][:, 16:])


def test_a_v_that_is_not_stored_is_made_from_u():
    _, config, arrays = random_file("authors discriminator 32 10 classes", np.random.default_rng(0))
    variables = public_programs.read("authors", config, "discriminator", arrays)
    for layer, theirs in (("score", "l5"), ("embed", "l_y")):
        v = arrays[f"{theirs}/u"][0] @ arrays[f"{theirs}/W"]
        made = variables.spectral[layer]["norm"]["v"]
        # By float32's rounding of its length, 1: a small entry is what is left of terms that are not.
        np.testing.assert_allclose(made, v / np.linalg.norm(v), rtol=0, atol=2**-23)
    conv = variables.spectral["blocks"]["0"]["conv1"]["norm"]
    v = (arrays["block1/c1/u"][0] @ arrays["block1/c1/W"].reshape(16, -1)).reshape(3, 3, 3)  # (in, kh, kw)
    np.testing.assert_allclose(
        conv["v"].reshape(3, 3, 3), (v / np.linalg.norm(v)).transpose(1, 2, 0), rtol=1e-5, atol=1e-6
    )


def test_mimicrys_own_spectral_norm_is_read_too():
    _, config, arrays = random_file("mimicry CGANPDDiscriminator32", np.random.default_rng(0))
    own = {name: a for name, a in arrays.items() if not name.startswith(("l5.", "l_y."))}
    for layer in ("l5", "l_y"):
        own |= {
            f"{layer}.weight": arrays[f"{layer}.weight_orig"],
            f"{layer}.sn_u": arrays[f"{layer}.weight_u"][None],
            f"{layer}.sn_sigma": np.ones(1, np.float32),
        }
    own |= {"l5.bias": arrays["l5.bias"]}
    expected, found = (public_programs.read("mimicry", config, "discriminator", a) for a in (arrays, own))
    for tree in Variables._fields:
        theirs = dict(leaves(getattr(found, tree)))
        for path, a in leaves(getattr(expected, tree)):
            if path[0] in ("score", "embed") and path[-1] == "v":
                continue
            np.testing.assert_array_equal(theirs[path], a)


def test_counts_of_batches_are_ignored():
    for title, name in (
        ("mimicry SNGANGenerator32", "block2.b1.num_batches_tracked"),
        ("authors generator 32 10 classes", "block2/b1/N"),
    ):
        entry, config, arrays = random_file(title, np.random.default_rng(0))
        public_programs.read(entry["program"], config, entry["network"], arrays | {name: np.array(3)})


def test_chainers_own_loader_finds_its_counts():
    """`serializers.load_npz` asks for N of every batch normalisation."""
    entry, config, arrays = random_file("authors generator 32 10 classes", np.random.default_rng(0))
    norms = {name.removesuffix("avg_mean") for name in arrays if name.endswith("avg_mean")}
    written = public_programs.own_spelling(entry["program"], config, entry["network"], arrays)
    assert len(norms) == 7
    assert set(written) == {n for n in arrays if not n.endswith("/N")} | {f"{norm}N" for norm in norms}
    assert all(written[f"{norm}N"] == 0 and written[f"{norm}N"].shape == () for norm in norms)


def test_an_error_names_all_that_is_wrong_in_one_line():
    _, config, arrays = random_file("mimicry SNGANDiscriminator32", np.random.default_rng(0))
    del arrays["block2.c_sc.weight_u"]
    arrays["block9.c1.weight"] = np.zeros(3, np.float32)
    arrays["l5.bias"] = np.zeros(2, np.float32)
    with pytest.raises(UserError) as error:
        public_programs.read("mimicry", config, "discriminator", arrays)
    line = str(error.value)
    assert "missing block2.c_sc.weight_u" in line
    assert "extra block9.c1.weight" in line
    assert "l5.bias is float32 [2], not float32 [1]" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["fc.weight", "fc.bias"], "neither a network of torch-mimicry nor of the authors"),
        ([], "neither a network"),
    ],
)
def test_other_networks_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        public_programs.recognise(names)


def test_a_network_of_another_depth_is_refused():
    arrays = stand_ins({f"block{i}.c1.weight": (8, 8, 3, 3) for i in range(2, 9)})
    with pytest.raises(UserError, match="has 3 to 5 blocks, got 7"):
        public_programs.model_options("mimicry", "generator", arrays)


def test_a_network_too_narrow_for_its_size_is_refused():
    arrays = stand_ins({f"block{i}.c1.weight": (8, 8, 3, 3) for i in range(2, 6)})
    with pytest.raises(UserError, match="for 64 pixels has a width of at least 16, got 8"):
        public_programs.model_options("mimicry", "generator", arrays)
