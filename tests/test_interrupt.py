"""Ctrl-C at work: a real SIGINT ends a script and all that it started with one line, 130, and no half of a file."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, TINY, TINY_OPTIONS
from jax_sngan.training.loop import Result
from jax_sngan.training.messages import describe_end, kept_in

# Where a shell starts a test run in the background SIGINT is ignored, and would be in its children.
LISTENING = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
RECORDING = "parity_tests/recordings/mimicry_32_ns_decay_classes.npz"
# What takes each script long enough, with RUN for a run's folder. What they write goes to the folder `out`.
COMMANDS = {
    "sample.py": ["RUN", "--num=2000000", "--npz=out/a.npz"],
    "evaluate.py": ["RUN", "--num=500000", "--json=out/a.json"],
    "export.py": ["RUN", "--format=onnx", "--out=out/new"],
    "certify.py": ["RUN", "--num=1024", "--ascent=100000", "--json=out/a.json"],
    "compare_gans.py": ["--quick", "--out=out/new"],
    "convert_checkpoint.py": ["RUN", "out/new"],
    "replay.py": [str(ROOT / RECORDING), "--json=out/a.json"],
    "parity_report.py": ["--rungs=1", "--json=out/a.json"],
    "benchmark.py": ["--quick", "--work", "fashion", "--json=out/a.json"],
    "train_torch.py": [*TINY_OPTIONS, "--steps=1000000", "--workdir=out/run"],
    "train_jax.py": [*TINY_OPTIONS, "--steps=1000000", "--workdir=out/run"],
}


def at_work(group: int) -> bool:
    """Whether a process of the group has loaded jax or torch, which every script does after it has read its options."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if os.getpgid(int(process.name)) == group:
                maps = (process / "maps").read_text()
                if "jaxlib" in maps or "libtorch" in maps:
                    return True
    return False


def interrupted(name: str, folder: Path, environment: dict[str, str], run: Path, delay: float) -> tuple[int, str]:
    """Exit code and stderr of a script that is given SIGINT so many seconds after it has begun to work."""
    (folder / "out").mkdir()
    arguments = [str(run) if a == "RUN" else a for a in COMMANDS[name]]
    command = [sys.executable, "-c", LISTENING, sys.executable, str(ROOT / "scripts" / name), *arguments]
    with (folder / "stderr").open("w+") as err:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True
        )
        try:
            until = time.monotonic() + 120
            while process.poll() is None and not at_work(process.pid) and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(delay)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(120)
        finally:
            process.kill()
        err.seek(0)
        return process.wait(), err.read()


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


LONG = [(name, delay) for name in COMMANDS for delay in (0.0, 1.0, 3.0, 9.0)]
SHORT = [("sample.py", 0.0), ("sample.py", 1.0), ("compare_gans.py", 0.5)]  # at 0 jaxlib itself is being set up


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not show what a process has loaded")
@pytest.mark.parametrize(("name", "delay"), [*SHORT, *(pytest.param(*c, marks=pytest.mark.long) for c in LONG)])
def test_ctrl_c_is_one_line(name: str, delay: float, tiny_run: Path, programs: dict[str, str], tmp_path: Path) -> None:
    before = files(tiny_run)
    code, err = interrupted(name, tmp_path, programs, tiny_run, delay)
    left = files(tmp_path / "out")
    assert "Traceback" not in err
    assert files(tiny_run) == before
    if code in (0, -signal.SIGINT):  # it was done, or in its last breath: all is there
        assert name in ("export.py", "convert_checkpoint.py")
        assert left
        return
    assert code == 130, err
    if name.startswith("train"):  # it says on stdout what is saved; the run's folder is whole at any moment
        return
    assert err.splitlines()[-1] == f"{name}: interrupted"
    if name == "compare_gans.py":  # runs that were finished stay, each whole
        left = [p for p in left if not p.startswith("new") or "/." in p]
    assert left == []


def ended(arguments: list[str], folder: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """How Python ended that listens to Ctrl-C, with these arguments and environment variables of its own."""
    return subprocess.run(
        [sys.executable, "-c", LISTENING, sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=55,
    )


# Sends this process a Ctrl-C when a module is looked for; Python imports it by its name at the start.
AT_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("module", ["jax_sngan.accelerators", "jax_sngan.commands.process", "jax_sngan.config"])
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ([str(ROOT / "scripts/sample.py"), "run"], "sample.py"),
        (["-m", "jax_sngan", "sample", "run"], "python -m jax_sngan sample"),
        (["bin/sngan", "sample", "run"], "sngan sample"),
    ],
)
def test_ctrl_c_while_modules_load_is_one_line(command: list[str], name: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sngan").write_text("from jax_sngan.commands.sngan import main\nmain()\n")  # as pip writes it
    done = ended(command, tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}", AT=module)
    assert (done.returncode, done.stderr) == (130, f"{name}: interrupted\n")


def test_a_run_that_stops_at_its_last_step_has_nothing_to_go_on_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for step, goes_on in ((TINY.steps - 1, True), (TINY.steps, False)):
        describe_end(Result(step, {"d_loss": 1.0}, stopped=signal.SIGINT), TINY, tmp_path, 0.0)
        told = capsys.readouterr().out
        assert f"stopped at step {step}" in told
        assert ("to go on" in told) == goes_on
        (tmp_path / f"checkpoints/{step}").mkdir(parents=True)
        assert ("to go on" in kept_in(tmp_path, TINY.steps)) == goes_on


def test_a_program_of_the_users_own_keeps_its_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(
        "import signal, jax_sngan\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    done = ended([str(tmp_path / "sample.py")])
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_within_a_callback_of_the_collector_is_not_lost(tmp_path: Path) -> None:
    """Python can raise nothing there: it would tell of the KeyboardInterrupt and go on to the end."""
    program = tmp_path / "program.py"
    program.write_text(
        "import gc, os, signal, time\n"
        "from jax_sngan.commands import process\n"
        "sent = []\n"
        "def callback(phase, info):\n"
        "    if not sent:\n"
        "        sent.append(1)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "def main():\n"
        "    gc.callbacks.append(callback)\n"
        "    gc.collect()\n"
        "    assert sent\n"
        "    for _ in range(600): time.sleep(0.1)\n"
        "process.run(main)\n"
    )
    done = ended([str(program)])
    assert (done.returncode, done.stderr) == (130, "program.py: interrupted\n")


def test_ctrl_c_while_a_compiled_module_sets_itself_up_waits_for_it(tmp_path: Path) -> None:
    """Most that are made with pybind11 or nanobind would raise `ImportError: initialization failed` instead."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys, time\n"
        "from jax_sngan.commands import process\n"
        "def main():\n"
        "    assert '_lsprof' not in sys.modules\n"
        "    started = []\n"
        "    def audit(event, arguments):\n"  # within the C code that loads it
        "        if event == 'import' and arguments[0] == '_lsprof' and arguments[1] and not started:\n"
        "            started.append(1)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            sum(range(10))\n"
        "    sys.addaudithook(audit)\n"
        "    import _lsprof\n"
        "    assert started\n"
        "    print('loaded', flush=True)\n"
        "    for _ in range(600): time.sleep(0.1)\n"
        "process.run(main)\n"
    )
    done = ended([str(program)])
    assert (done.returncode, done.stdout, done.stderr) == (130, "loaded\n", "program.py: interrupted\n")
