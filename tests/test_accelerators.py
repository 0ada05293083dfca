"""What is read from a compiled program, against a count on paper; targets, errors and silence. Needs no compiler."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from compiled_texts import CHANNELS, FEATURES, FOLDER, IMAGES, ROUNDS, SIZE, TEXTS, WIDTH

from conftest import Outcome
from jax_sngan.accelerators import compiled as compiling
from jax_sngan.accelerators import environment, report
from jax_sngan.accelerators.compiled import Compiled, Memory, Request
from jax_sngan.accelerators.cost import KINDS, Kernel, kernels
from jax_sngan.accelerators.hlo import arrays, parse
from jax_sngan.accelerators.table import markdown
from jax_sngan.accelerators.targets import CHIPS, LATENCY, LAUNCH, card_text, target
from jax_sngan.config.presets import preset
from jax_sngan.config.schema import RunConfig, UserError, replace

KERNEL = 3 * 3 * CHANNELS * FEATURES
CONVOLUTION = 2 * IMAGES * SIZE * SIZE * KERNEL  # FLOPs of one, and of its kernel's gradient
CONTRACT = {
    "target", "devices", "gflop", "memory_mb", "fits", "seconds", "collectives", "kernels", "donated",
}  # fmt: skip


def run_of(name: str) -> list[Kernel]:
    return kernels(parse((FOLDER / f"{name}.txt").read_text()))


@pytest.mark.parametrize("name", TEXTS)
def test_flops_are_those_of_paper_and_loops_count_as_often_as_they_run(name: str) -> None:
    by_kind = dict.fromkeys(KINDS, 0)
    for kernel in run_of(name):
        by_kind[kernel.kind] += kernel.times * sum(kernel.flop.values())
    assert by_kind["convolution"] == ROUNDS * 2 * CONVOLUTION // TEXTS[name][1]
    assert by_kind["matrix product"] == 2 * WIDTH**3
    assert sum(by_kind.values()) == by_kind["convolution"] + by_kind["matrix product"]


@pytest.mark.parametrize("name", TEXTS)
def test_factors_are_of_the_type_that_is_multiplied(name: str) -> None:
    found = {(k.kind, factors) for k in run_of(name) for factors in k.flop}
    convolution = "bf16" if TEXTS[name][0].startswith("v5e") else "f32"  # a TPU's float32; TF32 is named f32
    assert found == {("convolution", convolution), ("matrix product", "bf16")}


@pytest.mark.parametrize("name", TEXTS)
def test_a_gradient_is_summed_over_the_devices_once_a_round(name: str) -> None:
    expected = {"all-reduce": {"count": ROUNDS, "mb": ROUNDS * 4 * KERNEL / 2**20}} if TEXTS[name][1] > 1 else {}
    assert report.collectives(run_of(name)) == expected


@pytest.mark.parametrize("name", TEXTS)
def test_kinds_come_from_the_line_that_wrote_a_kernel(name: str) -> None:
    run = run_of(name)
    of = {kind: [k for k in run if k.kind == kind] for kind in KINDS}
    matrix = 4 * WIDTH**2
    assert of["spectral norm"]
    if TEXTS[name][0].startswith("v5e"):
        assert [k.times for k in of["optimiser"]] == [1]
        assert all(k.cycles for k in of["convolution"] + of["matrix product"] + of["optimiser"])
    else:  # there the moving average is in the kernel that multiplies the matrix
        assert max(k.bytes for k in of["spectral norm"]) >= 3 * matrix
        assert not any(k.cycles for k in run)
    assert {k.times for k in of["convolution"]} == {ROUNDS}


def test_the_largest_number_of_cycles_is_no_estimate() -> None:
    text = (FOLDER / "v5e.txt").read_text()
    most = text.replace('"estimated_cycles":"2008"', f'"estimated_cycles":"{2**63 - 1}"')
    assert most != text
    lost = [(a.name, b.cycles) for a, b in zip(run_of("v5e"), kernels(parse(most)), strict=True) if a != b]
    assert lost == [(next(k.name for k in run_of("v5e") if k.cycles == 2008), 0)]


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_donated_is_counted(name: str) -> None:
    # kernel, matrix, u or v, average; the matrix is read and none of the results
    assert parse((FOLDER / f"{name}.txt").read_text()).donated == 4


def test_bytes_of_a_gpus_kernel_are_its_operands_and_results() -> None:
    of = {k.name: k for k in run_of("h100")}
    maps = 4 * IMAGES * SIZE * SIZE * (CHANNELS + FEATURES)
    assert of["cudnn-conv-bw-filter.1"].bytes == maps + 4 * KERNEL
    assert of["gemm_fusion_dot_general.5"].bytes == (2 + 2 + 4) * WIDTH**2


def test_a_tpus_maps_on_the_chip_cost_no_bandwidth() -> None:
    run = run_of("v5e_mesh")  # there the loop's maps and kernel lie on the chip
    assert [k.bytes for k in run if k.kind == "convolution"] == [0]
    assert sum(k.bytes for k in run) >= 4 * WIDTH**2


@pytest.mark.parametrize("name", TEXTS)
def test_a_kernels_callers_are_followed_to_the_step(name: str) -> None:
    program = parse((FOLDER / f"{name}.txt").read_text())
    kinds = {k.name: k.kind for k in kernels(program)}
    chains = [
        program.source(i) for c in program.computations.values() for i in c if kinds.get(i.name) == "spectral norm"
    ]
    assert chains
    for chain in chains:
        assert chain[0][0] == "spectral_norm.py"
        assert [function for _, function in chain[-3:]] == ["program", "write", "<module>"]


def test_a_state_that_is_not_donated_is_told() -> None:
    text = (FOLDER / "h100.txt").read_text()
    kept = re.sub(r" input_output_alias=\{ .*? \}, entry", " entry", text, count=1)
    assert kept != text
    request = Request(preset("sngan"), target("h100"), 1, False)
    assert report.figures(request, Compiled(kept, MEMORY, 1, ""))["donated"] is False


def test_a_tpus_arrays_fill_whole_tiles_and_memory_on_the_chip_costs_nothing() -> None:
    plain, tiled, packed, on_chip = arrays(
        "(f32[3,5]{1,0}, f32[3,5]{1,0:T(8,128)}, bf16[9,5]{0,1:T(8,128)(2,1)}, u8[7]{0:T(128)S(1)})"
    )
    assert (plain.bytes, tiled.bytes, packed.bytes) == (4 * 15, 4 * 8 * 128, 2 * 128 * 8)
    assert [a.on_chip for a in (plain, tiled, packed, on_chip)] == [False, False, False, True]
    assert [a.elements for a in (plain, packed, on_chip)] == [15, 45, 7]


def test_a_loop_that_does_not_tell_its_length_is_no_guess() -> None:
    text = (FOLDER / "v5e.txt").read_text()
    loop = next(line for line in text.splitlines() if " while(" in line)
    condition = loop.split("condition=%")[1].split(",")[0]
    start = text.index(f"\n%{condition} (")
    end = text.index("\n}", start)
    broken = text[:start] + text[start:end].replace("direction=LT", "direction=NE") + text[end:]
    assert broken != text
    with pytest.raises(ValueError, match="does not say how often it runs"):
        kernels(parse(broken))


def made(name: str, memory: Memory | None, refused: str = "") -> tuple[Request, dict]:
    to = target(TEXTS[name][0])
    request = Request(preset("sngan"), to, TEXTS[name][1], True)
    text = (FOLDER / f"{name}.txt").read_text()
    return request, report.figures(request, Compiled(text if memory else "", memory, 1, refused))


MEMORY = Memory(arguments=3 * 2**20, results=2 * 2**20, aliased=2**20, temporary=5 * 2**20, code=0)


@pytest.mark.parametrize("name", TEXTS)
def test_the_json_has_its_keys_and_its_sums(name: str) -> None:
    request, told = made(name, MEMORY)
    chip = request.target.chip
    assert told.keys() >= CONTRACT
    assert told["memory_mb"] == {
        "arguments": 3, "temporary": 5, "results": 1, "code": 0, "total": 9, "limit": chip.memory / 2**20,
    }  # fmt: skip
    assert told["fits"] is True
    assert told["donated"] is True
    assert told["seconds"].keys() >= {"compute", "bandwidth", "launch", "estimate"}
    flop = ROUNDS * 2 * CONVOLUTION / request.devices
    factors = "bf16" if chip.clock else "f32"
    compute = flop / chip.peaks[factors] + 2 * WIDTH**3 / chip.peaks["bf16"]
    assert told["seconds"]["compute"] == pytest.approx(compute)
    assert told["gflop"] == pytest.approx((flop + 2 * WIDTH**3) / 1e9)
    if chip.clock:
        cycles = sum(k.times * k.cycles for k in run_of(name))
        assert told["seconds"]["estimate"] == pytest.approx(cycles / chip.clock)
        assert told["seconds"]["launch"] == 0
    else:
        assert told["seconds"]["estimate"] is None
        assert told["seconds"]["launch"] == pytest.approx(told["kernels"] * LAUNCH)
    if (n := request.devices) > 1:
        once = 2 * (n - 1) / n * 4 * KERNEL / chip.link + (n - 1) * LATENCY
        assert told["seconds"]["communication"] == pytest.approx(ROUNDS * once)
    assert sum(told["share"].values()) == pytest.approx(1)
    assert told["hours"] == pytest.approx(told["seconds"]["step"] * told["steps"] / 3600)
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("name", TEXTS)
def test_every_printed_figure_says_where_it_comes_from(name: str) -> None:
    request, told = made(name, MEMORY)
    head, *rows = report.lines(request, told)
    assert f"sngan, batch 64, on {request.devices} x {request.target.chip.name}; jax " in head
    assert rows[-1] == f"Peaks: {request.target.chip.source}."
    for row in rows[:-1]:
        assert any(word in row for word in ("compiler", "datasheet", "guess")), row


def test_a_program_that_is_too_large_does_not_fit() -> None:
    small, large = (Memory(2**20, 2**20, 2**20, temporary, 0) for temporary in (0, CHIPS["h100"].memory))
    assert made("h100", small)[1]["fits"] is True
    assert made("h100", large)[1]["fits"] is False
    request, most = made("h100", Memory(0, 0, 0, int(0.8 * CHIPS["h100"].memory), 0))
    assert any("XLA_PYTHON_CLIENT_MEM_FRACTION" in line for line in report.lines(request, most))
    # A TPU's compiler itself says no.
    words = (
        "Ran out of memory on HBM, the total memory required for HLO temporaries (368.84G) "
        "exceeds available HBM (15.75G)."
    )
    request, told = made("v5e", None, words)
    assert told.keys() >= CONTRACT
    assert (told["fits"], told["memory_mb"]["total"]) == (False, pytest.approx(368.84 * 1024))
    assert any("does not fit" in line and "368.84G" in line for line in report.lines(request, told))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("h1000", ["unknown target 'h1000'", "did you mean h100"]),
        ("v5", ["unknown target 'v5'", "did you mean v5e:2x2?"]),
        ("v5litepod-8", ["did you mean v5e:2x2?"]),
        ("tpu", ["did you mean v5e:2x2, v5p:2x2x1 or v6e:2x2?"]),
        ("xyz", ["unknown target 'xyz'", "there are: v5e"]),
        ("v5e:3x3", ["v5e comes as 2x2", "'3x3'"]),
        ("h100:8", ["h100 has no layout", "--mesh data=N"]),
    ],
)
def test_an_unknown_target_is_one_line(script: Callable[..., Outcome], name: str, words: list[str]) -> None:
    assert script("compile_for.py", "sngan", f"--target={name}").is_one_line("compile_for.py", *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target=h100", "--mesh=data=3"], ["multiple of the mesh's 3 devices, got 64"]),
        (["--target=h100", "--mesh=data=16"], ["needs 16 devices, there are 8 (h100)"]),
        (["--target=v5e:16x16"], ["multiple of the mesh's 256 devices, got 64"]),
        (["--target=v5e:4x4", "--mesh=data=4"], ["mesh must be data=16, all devices of the 2 processes"]),
        (["--target=h100", "--shard-state=true"], ["mesh"]),
        (["--target=h100", "--quick"], ["quick is of a TPU's compiler", "h100"]),
        (["--target=h100", "--workdir=x"], ["unknown option --workdir"]),
        ([], ["--target"]),
    ],
)
def test_what_cannot_be_is_one_line(script: Callable[..., Outcome], options: list[str], words: list[str]) -> None:
    assert script("compile_for.py", "sngan", *options).is_one_line("compile_for.py", *words)


@pytest.mark.parametrize(
    ("name", "missing"), [("v5e:2x2", "libtpu"), ("h100", "jax-cuda13-plugin and jax-cuda13-pjrt")]
)
def test_a_missing_compiler_is_one_line(
    script: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, name: str, missing: str
) -> None:
    monkeypatch.setattr(compiling, "find_spec", lambda module: None)
    assert script("compile_for.py", "sngan", f"--target={name}").is_one_line(missing, 'pip install -e ".[aot]"')


def test_a_compiler_that_fails_is_one_line_and_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "check_installed", lambda to: None)
    monkeypatch.setattr(compiling.sys, "executable", "/bin/false")
    request = Request(preset("sngan"), target("h100"), 1, False)
    with pytest.raises(UserError, match="the compiler for h100 failed: exit code 1"):
        compiling.compiled(request, print, folder=tmp_path)
    assert not list(tmp_path.iterdir())


FAKE = """
import json, sys, time
asked = json.loads(sys.stdin.read())
print(json.dumps({"stage": "compiling"}), flush=True)
time.sleep(0.3)
open(asked["text"], "w").write("HloModule " + asked["config"]["name"])
print(json.dumps({"inputs": 3, "arguments": 1, "results": 2, "aliased": 1, "temporary": 4, "code": 0}), flush=True)
"""


def test_a_compiled_step_is_kept_and_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a process in the compiler's place that answers as it does."""
    package = tmp_path / "stand_in/jax_sngan/accelerators"
    package.mkdir(parents=True)
    for name in (package.parent / "__init__.py", package / "__init__.py"):
        name.touch()
    (package / "compile_step.py").write_text(FAKE)
    monkeypatch.setattr(compiling, "check_installed", lambda to: None)
    monkeypatch.setattr(compiling, "_importable", lambda: tmp_path / "stand_in")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(compiling, "BEAT", 0.1)
    said: list[str] = []
    request = Request(preset("sngan"), target("h100"), 1, False)
    first = compiling.compiled(request, said.append, folder=tmp_path / "kept")
    assert first == Compiled("HloModule sngan", Memory(1, 2, 1, 4, 0), 3, "")
    assert first.memory is not None
    assert first.memory.total == 6
    assert all(re.fullmatch(r"h100: compiling, \d+ s", line) for line in said)
    assert len(said) >= 2  # a sign of life each BEAT
    said.clear()
    assert compiling.compiled(request, said.append, folder=tmp_path / "kept") == first
    assert not said
    for other in (
        Request(replace(preset("sngan"), {"batch_size": 32}), target("h100"), 1, False),
        Request(preset("sngan"), target("a100"), 1, False),
        Request(preset("sngan"), target("h100"), 1, True),
    ):
        compiling.compiled(other, said.append, folder=tmp_path / "kept")
        assert said, "answered from the cache of another question"
        said.clear()


def test_the_step_asked_for_is_that_of_a_run() -> None:
    config = preset("sngan")
    ask = compiling.request_for
    alone = ask(config, RunConfig(), target("v5e:2x2"))
    assert (alone.devices, alone.mesh) == (1, False)
    four = ask(config, RunConfig(mesh="data=4"), target("v5e:2x2"))
    assert (four.devices, four.mesh) == (4, True)
    several = ask(config, RunConfig(), target("v5e:4x4"))  # machines of one slice make one mesh of themselves
    assert (several.devices, several.mesh) == (16, True)


@pytest.mark.parametrize("chip", [c for c in CHIPS.values() if c.platform == "cuda"], ids=lambda c: c.name)
def test_a_cards_text_is_balanced_and_has_its_facts(chip) -> None:  # type: ignore[no-untyped-def]
    text = card_text(chip)
    assert text.count("{") == text.count("}")
    assert f"device_memory_size: {chip.memory}\n" in text
    facts = dict(chip.card)
    # The peak of plain float32 is two operations a clock of each of the card's units.
    peak = 2 * int(facts["core_count"]) * int(facts["fpus_per_core"]) * float(facts["clock_rate_ghz"]) * 1e9
    assert peak == pytest.approx(chip.peaks["f32 highest"], rel=0.01)


def test_a_tpus_clock_is_its_peak_by_the_multiplications_of_a_cycle() -> None:
    units = {"v5e": 4 * 128**2, "v5p": 8 * 128**2, "v6e": 4 * 256**2}
    for name, multiplications in units.items():
        assert CHIPS[name].clock == pytest.approx(CHIPS[name].peaks["bf16"] / (2 * multiplications), rel=0.01)


def machine(root: Path, *, gpu: bool = False, pci: tuple[tuple[str, str], ...] = ()) -> Path:
    (root / "dev").mkdir(parents=True)
    if gpu:
        (root / "dev/nvidia0").touch()
    for number, (vendor, kind) in enumerate(pci):
        device = root / f"sys/bus/pci/devices/{number}"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    return root


TPU, NETWORK_CARD, DISK = ("0x1ae0", "0x088000"), ("0x1ae0", "0x020000"), ("0x1ae0", "0x010802")


@pytest.mark.skipif(sys.platform != "linux", reason="the compilers are for Linux")
@pytest.mark.parametrize(
    ("gpu", "pci", "given", "quiet"),
    [
        (False, (), {}, {"gpu", "tpu"}),
        (True, (), {}, {"tpu"}),
        (False, (TPU,), {}, {"gpu"}),
        (True, (DISK, TPU), {}, set()),
        (False, (NETWORK_CARD, DISK), {}, {"gpu", "tpu"}),  # a machine in Google's cloud without TPU
        (False, (), {"JAX_PLATFORMS": "cuda"}, set()),
        (False, (), {"JAX_PLATFORMS": ""}, set()),
        (False, (), {"TPU_WORKER_ID": "0"}, {"gpu"}),  # somebody tells of a TPU
        (False, (), {"JAX_FORCE_TPU_INIT": "1"}, {"gpu"}),
        (
            False,
            (),
            {"TPU_SKIP_MDS_QUERY": "1", "TPU_LIBRARY_PATH": "x"},
            {"gpu", "tpu"},
        ),  # that is jax, imported before
    ],
)
def test_only_a_compiler_without_its_device_is_told_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpu: bool,
    pci: tuple[tuple[str, str], ...],
    given: dict[str, str],
    quiet: set[str],
) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda name: object())
    variables = dict(given)
    environment.quiet_compilers(variables, machine(tmp_path / "root", gpu=gpu, pci=pci))
    expected = (environment.NO_GPU if "gpu" in quiet else {}) | (environment.NO_TPU if "tpu" in quiet else {})
    assert variables == expected | given


def test_nothing_is_told_where_no_compiler_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    variables: dict[str, str] = {}
    environment.quiet_compilers(variables, machine(tmp_path / "root"))
    assert variables == {}


def test_the_table_has_a_cell_for_each_preset_and_target(
    script: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "check_installed", lambda to: None)
    monkeypatch.setenv("XDG_CACHE_HOME", "nothing")
    outcome = script("compile_table.py", "sngan", "points", "--on=h100,v5e:16x16/256", "--kept")
    assert outcome.code == 0, outcome
    assert outcome.out.splitlines() == [
        "| preset | h100 | v5e:16x16/256 |",
        "| --- | --- | --- |",
        "| `sngan` | *not compiled* | *batch 64* |",
        "| `points` | *not compiled* | *not compiled* |",
    ]
    assert script("compile_table.py", "nothing").is_one_line("unknown preset 'nothing'", "fashion")
    assert script("compile_table.py", "sngan", "--on=h100/x").is_one_line("h100/N", "'h100/x'")


def test_a_cell_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [made("h100", MEMORY)[1], made("h100", Memory(0, 0, 0, CHIPS["h100"].memory + 1, 0))[1]]
    fits, too_large = markdown(["sngan"], ["a", "b"], [told]).splitlines()[-1].split(" | ")[1:]
    seconds = told[0]["seconds"]
    assert fits == f"{1e3 * seconds['launch']:.3g}, {1e3 * seconds['step']:.3g} ms; 0.0088 GiB"
    assert too_large == "does not fit: 79 GiB |"
