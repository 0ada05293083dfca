"""The accelerator's check: one stage that fails, hangs or does not fit costs nothing of the others; and its page."""

import json
import os
import signal
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from jax_sngan.accelerator_check import carried, check, page, plan
from jax_sngan.accelerator_check.check import DONE, FAILED, NO_TIME, TIMED_OUT, Stage
from jax_sngan.accelerator_check.measured import chip_of, estimate, mfu
from jax_sngan.accelerator_check.stages import STAGES
from jax_sngan.benchmark import workloads
from jax_sngan.system.errors import UserError

SCRIPT = """
import json, subprocess, sys, time
from pathlib import Path
kind, result = sys.argv[1:]
def write(told):
    Path(result).write_text(json.dumps(told))
if kind == "works":
    write({"passed": True, "n": 1})
elif kind == "dies":
    print("what it said")
    sys.exit(3)
elif kind == "hangs":  # with a process of its own, which would outlive it
    write({"passed": False, "n": 2})
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(result).with_suffix(".pid").write_text(str(child.pid))
    time.sleep(60)
elif kind == "waits":
    time.sleep(2)
elif kind == "wrong":
    write({"passed": False})
"""


@pytest.fixture
def running(tmp_path: Path) -> check.Check:
    (tmp_path / "stages_of_a_test.py").write_text(SCRIPT)
    environment = dict(os.environ) | {"PYTHONPATH": str(tmp_path)}
    return check.Check(tmp_path, 120.0, environment, tell=lambda outcome: None)


def stage(kind: str, limit: float = 30.0) -> Stage:
    return Stage(kind, "of a test", ("stages_of_a_test", kind), limit)


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_what_one_stage_does_is_its_own_affair(running: check.Check, tmp_path: Path) -> None:
    running.run(
        [[s] for s in (stage("dies"), stage("hangs", 10.0), stage("works"), stage("works", 1000.0), stage("wrong"))]
    )
    ends = [(o["stage"], o["status"]) for o in running.outcomes]
    assert ends == [("dies", FAILED), ("hangs", TIMED_OUT), ("works", DONE), ("works", NO_TIME), ("wrong", DONE)]
    dead, hung, done, late, wrong = running.outcomes
    assert (dead["why"], dead["told"]) == ("what it said", None)
    assert (hung["why"], hung["told"]["n"]) == ("stopped after 10 s", 2)  # what it had written is kept
    assert not alive(int((tmp_path / "hangs.pid").read_text()))
    assert done["told"]["n"] == 1
    assert "it may take 1000" in late["why"]
    assert not check.summary(running.outcomes, 1.0)["passed"]
    assert check.summary([done], 1.0)["passed"]
    for other in (dead, hung, late, wrong):
        assert not check.summary([done, other], 1.0)["passed"]


def test_an_earlier_result_is_not_taken_for_this_one(running: check.Check, tmp_path: Path) -> None:
    (tmp_path / "dies.json").write_text("{}")
    assert running.run_one(stage("dies"))["told"] is None


def test_a_stage_that_cannot_be_started_has_failed(running: check.Check, tmp_path: Path) -> None:
    (tmp_path / "works.log").mkdir()  # where its log would be
    running.run([[stage("works")], [stage("wrong")]])
    first, second = running.outcomes
    assert (first["status"], second["status"]) == (FAILED, DONE)
    assert "works.log" in first["why"]


PROBED = {
    "machine": {"platform": "gpu", "device": "NVIDIA H200", "cores": 16},
    "devices": 1,
    "gflops": {"float32": 5e4, "tf32": 4e5, "bfloat16": 8e5},
    "memory_mb": 140000.0,
    "chip": "h200",
    "chip_source": "a datasheet",
    "without": {},
}


def test_the_plan_has_all_that_is_asked_of_it(tmp_path: Path) -> None:
    groups = [[s.name for s in group] for group in plan.stages(tmp_path, PROBED, quick=False)]
    assert groups[0] == ["ladder", "ladder_torch_on_cpu", "mesh", "resume"]
    assert all(len(group) == 1 for group in groups[1:])  # what is timed is alone
    names = [name for group in groups for name in group]
    for group in plan.stages(tmp_path, PROBED, quick=False):
        for s in group:  # what is started: python -m MODULE, its stage and options where it is JAX's
            module, *rest = s.command
            assert module == "parity_tests.short_ladder" or (
                rest[0] in STAGES and isinstance(json.loads(rest[1]), dict)
            )
    assert names[4:8] == ["benchmark_fashion_tf32", "benchmark_cnn32_tf32", "benchmark_resnet32_tf32", "compiled"]
    beside: dict[str, set[str]] = {}
    for group in plan.stages(tmp_path, PROBED, quick=False):
        for s in group:
            if s.name.startswith("benchmark_"):
                row = s.name.removesuffix("_compiled")
                beside.setdefault(row, set()).update(json.loads(s.command[2])["kinds"])
    assert len(beside) == len(plan.WORKLOADS) * len(PROBED["gflops"])
    for row, kinds in beside.items():
        assert kinds == set(workloads.kinds("gpu", row.rpartition("_")[2]))
    without = PROBED | {"without": {"torch": "no times of its side"}}
    fewer = [s for group in plan.stages(tmp_path, without, quick=False) for s in group]
    assert not [s for s in fewer if s.name.startswith("ladder")]
    assert all(json.loads(s.command[2])["kinds"] == [] for s in fewer if s.name.startswith("benchmark_"))


def test_a_group_runs_at_the_same_time(running: check.Check) -> None:
    began = time.monotonic()
    running.run([[stage("waits")] * 3])
    assert [o["status"] for o in running.outcomes] == [DONE] * 3
    apart = sum(o["seconds"] for o in running.outcomes)
    assert time.monotonic() - began < apart - 2  # each waits for two seconds


def test_a_check_that_is_stopped_ends_its_stages(running: check.Check, tmp_path: Path) -> None:
    def stop() -> None:
        while not (tmp_path / "hangs.pid").exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)  # to the process, whose main thread waits; raised here it would not wake

    threading.Thread(target=stop).start()
    with pytest.raises(KeyboardInterrupt):
        running.run([[stage("hangs"), stage("works")]])
    assert {o["stage"]: o["status"] for o in running.outcomes}["hangs"] == FAILED  # killed, not come to its limit
    assert not alive(int((tmp_path / "hangs.pid").read_text()))


def test_the_page_says_what_was_found_and_what_was_not() -> None:
    row = {
        "work": "fashion", "arithmetic": "tf32", "jax_s": 0.002, "seconds": {"jax": [0.002], "eager": [0.004]},
        "failed": {"channels_last+graphs": "RuntimeError: <no>"}, "ratio_best": 2.0, "gflop": 5.4, "peak_share": 0.01,
        "mfu": 0.06, "mb": {"jax": 100.0, "eager": 90.0},
    }  # fmt: skip
    case = {"case": "test_x", "dtype": "float64", "error": 1e-14, "tolerance": 1e-10, "passed": True, "message": ""}
    ladder = {"passed": True, "planned": 3, "run": 1, "summary": "1 case within tolerance", "cases": [case]}
    seconds = {"compute": 0.001, "bandwidth": 0.0005, "launch": 0.0002, "step": 0.0012}
    estimated = {"kernels": 1200, "gb": 1.5, "gflop": 5.4, "seconds": seconds, "why": ""}
    told = {
        "probe": PROBED,
        "ladder": ladder,
        "benchmark_fashion_tf32": {"row": row, "passed": True},
        "compiled": {"workloads": {"fashion": estimated}},
        "resume": {"of": "the log", "error": 1e-7, "tolerance": 1e-3, "to_the_bit": False, "passed": True},
    }
    common = {"what": "", "seconds": 1.0, "limit_s": 9.0}
    stages = [common | {"stage": name, "status": DONE, "why": "", "told": t} for name, t in told.items()]
    stages.append(common | {"stage": "mesh", "status": NO_TIME, "why": "2 s were left", "told": None})
    html = page.page(check.summary(stages, 12.0))
    for text in (
        "not passed", "NVIDIA H200", "1 of 3 cases", "1.0e-14", "eager 4", "&lt;no&gt;", "1,200", "2 s were left",
        "not to the bit", "6%", NO_TIME,
    ):  # fmt: skip
        assert text in html, text


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("cpu", None),
    ],
)
def test_a_device_is_found_by_its_name(kind: str, name: str | None) -> None:
    chip = chip_of(kind)
    assert (chip.name if chip else None) == name


def test_mfu_is_of_the_arithmetics_own_peak() -> None:
    peaks = chip_of("NVIDIA H200").peaks
    for arithmetic, peak in (("bfloat16", "bf16"), ("tf32", "f32"), ("float32", "f32 highest")):
        assert mfu("NVIDIA H200", arithmetic, peaks[peak] / 1e9, 10.0) == pytest.approx(0.1)
    assert mfu("cpu", "float32", 1.0, 1.0) is None


def test_a_compiled_program_says_its_time() -> None:
    text = (Path(__file__).parent / "compiled/h100.txt").read_text()
    told = estimate(text, "NVIDIA H100 80GB HBM3")
    assert told["kernels"] > 1
    assert min(told["gflop"], told["gb"], told["seconds"]["compute"], told["seconds"]["step"]) > 0
    other = estimate(text, "cpu")
    assert other["kernels"] == told["kernels"]
    assert other["seconds"] is None
    assert "cpu" in other["why"]


def test_wheels_are_unpacked_for_this_process_and_its_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "brought-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("brought_along_by_a_test.py", "n = 7")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert not carried.has("brought_along_by_a_test")
    carried.unpack(tmp_path, tmp_path / "packages")
    assert carried.has("brought_along_by_a_test")
    (tmp_path / "broken.whl").write_text("no archive")
    with pytest.raises(UserError, match=r"broken\.whl cannot be unpacked"):
        carried.unpack(tmp_path, tmp_path / "packages")
    with pytest.raises(UserError, match=r"has no \*\.whl"):
        carried.unpack(tmp_path / "packages", tmp_path)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "has", lambda module: module not in ("grain", "tensorboardX"))
    assert sorted(carried.missing()) == ["grain", "tensorboardX"]
    monkeypatch.setattr(carried, "has", lambda module: module != "PIL")
    with pytest.raises(UserError, match="needs pillow"):
        carried.missing()


def test_options_of_the_command_line(script, tmp_path: Path) -> None:
    assert script("accelerator_check.py").is_one_line("--out")
    assert script("accelerator_check.py", "--out", "x", "--minutes", "0").is_one_line("--minutes must be above 0")
    (tmp_path / "file").write_text("")
    assert script("accelerator_check.py", "--out", "file").is_one_line("--out must be a folder")
    assert script("accelerator_check.py", "--out", "x", "--wheels", "none").is_one_line("none has no *.whl")
