"""Plain data come out of a pickle as they went in; nothing else comes out of it, and nothing in it runs."""

import contextlib
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import noise

from jax_sngan.data import datasets
from jax_sngan.system import plain_pickle
from jax_sngan.system.errors import UserError


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_are_read_as_they_were_written(protocol):
    array = noise(3, 5)
    numbers = [np.int64(300), 2**40, -1, 255, 65_535, 0]
    written = {
        b"data": array,
        "f": np.asfortranarray(array),
        "big": array.astype(">i4"),
        "labels": numbers,
        "s": ("é", b"\xff", None),
    }
    read = plain_pickle.read_dict(pickle.dumps(written, protocol))
    for key in ("data", "f", "big"):
        np.testing.assert_array_equal(read[key], written.get(key, array))
    assert read["labels"] == numbers
    assert read["s"] == ("é", b"\xff", None)


class Runs:
    """Unpickled, it makes a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.mkdir, eval, exec, getattr, __import__])
def test_pickles_never_run_code(tmp_path, protocol, function):
    target = tmp_path / "made"
    code = f"__import__('os').mkdir({str(target)!r})"
    argument = {os.mkdir: str(target), eval: code, exec: code, getattr: "a", __import__: "antigravity"}[function]
    evil = pickle.dumps({"data": noise(1, 3072), "labels": [0], "x": Runs(function, argument)}, protocol)
    if function is os.mkdir:
        pickle.loads(evil)  # noqa: S301  # the proof that this pickle would do it
        target.rmdir()
    with pytest.raises(ValueError, match="which plain data do not need"):
        plain_pickle.read_dict(evil)
    assert not target.exists()
    (tmp_path / "test_batch").write_bytes(evil)
    with pytest.raises(UserError, match="test_batch"):
        datasets.load_data("cifar10", image_size=32, channels=3, split="test", data_dir=tmp_path)
    assert not target.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cnumpy\nndarray\n(I1000000000000\ntR.",  # a call of what is only named
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\xff\xff\xff\x7f\x85U\x00\x89U\x00tb.",
        b"(ios\nsystem\n.",  # INST
        b"(cos\nsystem\no.",  # OBJ
        b"Pid\n.",  # a persistent id
        b"}r\xff\xff\xff\xff.",  # a memo that the real unpickler takes 32 GiB for
        b"\x82\x01.",  # an extension
        b"}}b.",
        b"}K\x01a.",
        b"K\x01.",
        b"(.",
        b"u.",
        b"a.",
        b"R.",
        b".",
        b"",
    ],
)
def test_pickles_of_anything_else_are_refused(opcodes):
    if opcodes.startswith(b"}r"):
        assert plain_pickle.read_dict(opcodes) == {}
    else:
        with pytest.raises(ValueError):  # noqa: PT011  # every one of them says something else
            plain_pickle.read_dict(opcodes)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pickles_raise_nothing_but_value_errors(draw):
    content = bytearray(
        draw.draw(st.sampled_from([pickle.dumps({"data": noise(2, 3), "l": [1, 2.5, "a"]}, p) for p in range(6)]))
    )
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    del content[draw.draw(st.integers(0, len(content))) :]
    with contextlib.suppress(ValueError):
        plain_pickle.read_dict(bytes(content))
