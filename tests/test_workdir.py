"""A folder is a run's by its mark: what is not is refused and untouched. What a run writes can't act on a shell."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, TINY, TINY_OPTIONS, Outcome
from jax_sngan.config.schema import RunConfig, replace, to_dict
from jax_sngan.runs.checkpoint import Checkpoints
from jax_sngan.runs.log import take_up
from jax_sngan.runs.run_log import RunLog
from jax_sngan.runs.selection import choose_step, steps_in
from jax_sngan.runs.workdir import check_ours, check_start, prepare, take
from jax_sngan.system import files
from jax_sngan.system.errors import UserError
from jax_sngan.system.lock import locked
from jax_sngan.system.terminal import command, shown
from jax_sngan.training.trainer import train

Script = Callable[..., Outcome]


def held(folder: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder: files' contents, links' targets, folders."""
    return {
        p.relative_to(folder).as_posix(): os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


FOREIGN = {
    "README.txt": "my notes",
    "metrics.jsonl": '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n',
    ".config-abcdefgh.json": "mine",
    ".thesis-20241231.txt": "mine too",
    "config.json": json.dumps({"model": "another program's"}),
    "checkpoints/5.unsealed/weights": "not half",
    "checkpoints/7/weights": "of another program",
    "samples/.000100-12345678.png": "a picture",
}


@pytest.mark.parametrize("names", [[n] for n in FOREIGN] + [list(FOREIGN)], ids=[*FOREIGN, "all"])
def test_a_folder_that_is_no_run_is_refused_and_untouched(script: Script, tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "mine"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(FOREIGN[name])
    before = held(folder)
    outcome = script("train_jax.py", *TINY_OPTIONS, "--workdir", folder)
    first = sorted(p.name for p in folder.iterdir())[0]
    assert outcome.is_one_line("is not empty and no run of this program", first, "nothing was touched"), outcome
    assert held(folder) == before


def test_a_run_of_before_there_was_a_mark_is_known(tiny_run: Path, tmp_path: Path) -> None:
    """By config.json beside our README.txt, or by a checkpoint with a manifest of ours; by neither alone of others'."""
    with_text, with_checkpoint, bare = (tmp_path / name for name in ("text", "checkpoint", "bare"))
    for folder in (with_text, bare):
        folder.mkdir()
        shutil.copy(tiny_run / "config.json", folder)
    shutil.copy(tiny_run / "README.txt", with_text)
    shutil.copytree(tiny_run / "checkpoints/6", with_checkpoint / "checkpoints/6")
    for folder in (with_text, with_checkpoint):
        check_start(folder, TINY, "auto")
        take(folder)
        assert json.loads((folder / "run.json").read_text())["program"] == "jax-sngan"
    with pytest.raises(UserError, match=r"bare is not empty and no run of this program \(it holds config.json\)"):
        check_start(bare, TINY, "auto")


def test_a_run_that_was_killed_before_its_mark_may_start_again(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".jax-sngan-0123abcd-run.json").write_text('{"prog')
    check_ours(tmp_path)
    take(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "run.json"]
    (tmp_path / "run.json").unlink()
    (tmp_path / ".lock").write_text("somebody's")  # to lock it would empty it
    with pytest.raises(UserError, match=r"it holds .lock"):
        check_ours(tmp_path)


def test_only_what_this_program_made_is_swept(tmp_path: Path) -> None:
    take(tmp_path)
    ours = [
        ".jax-sngan-0123abcd-config.json",
        ".jax-sngan-89abcdef-metrics.jsonl",
        "samples/.jax-sngan-00000000-000100.png",
    ]
    theirs = [
        ".jax-sngan-0123abcd-thesis.txt", ".jax-sngan-0123ABCD-config.json", ".config-abcdefgh.json",
        "samples/.jax-sngan-00000000-sample_000100_seed0.png", "samples/.jax-sngan-0000-000100.png", "notes.txt",
    ]  # fmt: skip
    half = ["5.unsealed", "5.unsealed.orbax-checkpoint-tmp", "5.unfinished", "5.deleting", "5.deleting-2"]
    whole = ["5.damaged", "5.newer", "5.unfinished-notes", "my.unfinished", "5.deleting.backup"]
    (tmp_path / "samples").mkdir()
    for name in (*ours, *theirs):
        (tmp_path / name).write_text("x")
    for name in (*half, *whole):
        (tmp_path / "checkpoints" / name / "d").mkdir(parents=True)
    take(tmp_path)
    assert not any((tmp_path / name).exists() for name in ours)
    assert all((tmp_path / name).exists() for name in theirs)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == sorted(whole)


def test_notes_in_a_readme_are_kept(tmp_path: Path) -> None:
    take(tmp_path)
    assert prepare(tmp_path, TINY, "python scripts/sample.py x") == []
    readme = tmp_path / "README.txt"
    assert prepare(tmp_path, TINY, "") == []  # ours is written anew
    assert "scripts/sample.py" not in readme.read_text()
    readme.write_text(readme.read_text() + "The seed that worked: 7.\n")
    before = readme.read_bytes()
    notes = prepare(tmp_path, TINY, "")
    assert notes == [f"{readme} has lines that this program did not write: it is left as it is"]
    assert readme.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["checkpoints", "metrics.jsonl", "tensorboard", "samples", "config.json", "checkpoints/7"]
)
def test_a_link_out_of_a_workdir_is_refused_by_name(tmp_path: Path, name: str) -> None:
    other, workdir = tmp_path / "other", tmp_path / "mine"
    for folder in (other, workdir):
        folder.mkdir()
        take(folder)
    (other / name).mkdir(parents=True)
    (workdir / name).parent.mkdir(exist_ok=True)
    (workdir / name).symlink_to(other / name)
    with pytest.raises(UserError, match=rf"mine/{name} is a link out of its workdir, to .*/other/{name}"):
        check_start(workdir, TINY, "auto")


def test_a_lock_is_the_folders_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    code = (
        "import sys\nfrom pathlib import Path\nfrom jax_sngan.system.lock import locked\n"
        "with locked(Path(sys.argv[1])): pass"
    )
    with locked(tmp_path / "real"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "link")], env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert "another run works in" in done.stderr


def test_a_lock_follows_no_link(tmp_path: Path) -> None:
    """To open a lock's file empties it: through a link it would be somebody else's."""
    (tmp_path / "theirs").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match=r"cannot write .*run"), locked(tmp_path / "run"):
        pass
    assert (tmp_path / "theirs").read_text() == "mine"


def test_a_folder_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", denied)
    for call in (steps_in, check_ours):
        with pytest.raises(UserError, match=r"cannot read .*: Permission denied"):
            call(tmp_path)


def test_a_log_is_kept_aside_and_never_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": s, "d_loss": s / 2}) + "\n" for s in (5, 10, 15)]
    path.write_text("".join(lines))
    assert take_up(path, 15, 15) == []  # nothing to drop: nothing is kept twice
    assert take_up(path, 10, 10) == [
        f"{path} had lines past step 10 or broken ones; as it was it is metrics.jsonl.past-10"
    ]
    assert path.read_text() == "".join(lines[:2])
    assert (tmp_path / "metrics.jsonl.past-10").read_text() == "".join(lines)
    path.write_text("".join(lines[:3]) + '{"step": 20, "d_loss": 1.0}\n')  # cut off there again, a little later
    take_up(path, 10, 10)
    assert (tmp_path / "metrics.jsonl.past-10").read_text().count("\n") == 4  # the longer one holds the other
    path.write_text(lines[0] + lines[1] + '{"step": 15, "d_loss": 9.0}\n')  # another one does not take its place
    take_up(path, 10, 10)
    assert "9.0" in (tmp_path / "metrics.jsonl.past-10-2").read_text()
    assert take_up(path, 0, 0)[0].endswith("metrics.jsonl.past-0")
    assert path.read_text() == ""


def test_a_gap_in_a_log_is_told(tmp_path: Path) -> None:
    """As a power cut leaves a file that was not synced: too short, or with zeros where lines were."""
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": s, "d_loss": s / 2}).encode() + b"\n" for s in (5, 10, 15)]
    path.write_bytes(lines[0] + lines[1][:7])
    broken, aside, gap = take_up(path, 15, 15)
    assert "1 lines that are none of a log" in broken
    assert gap == f"{path} has a gap: its lines after step 5 up to step 15 are gone"
    path.write_bytes(lines[0] + bytes(40) + b"\n" + lines[2])
    with RunLog(tmp_path, 15, 20, 1, logged=15) as log:
        assert "none of a log" in log.notes[0]
        assert path.read_bytes() == lines[0] + lines[2]
    path.unlink()
    assert take_up(path, 15, 15) == [f"{path} has a gap: its lines after step 0 up to step 15 are gone"]


def test_half_checkpoints_are_passed_over_and_named(tiny_run: Path, tmp_path: Path, script: Script) -> None:
    """The newest cut off while it was copied, which has no manifest yet; one half deleted; one that is a file; one that
    has all its files cut off, those that Orbax reads of every step among them."""
    workdir = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    short = Path(shutil.copytree(workdir / "checkpoints/6", workdir / "checkpoints/5"))
    for path in short.rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    newest = workdir / "checkpoints/9"
    newest.mkdir()
    for name in ("_CHECKPOINT_METADATA", "commit_success.txt"):
        shutil.copy(workdir / "checkpoints/6" / name, newest)
    shutil.copytree(workdir / "checkpoints/6/config", newest / "config")
    half = Path(shutil.copytree(workdir / "checkpoints/3", workdir / "checkpoints/8"))
    shutil.rmtree(half / "provenance")
    (half / "manifest.json").unlink()
    shutil.rmtree(half / "state/d")
    (workdir / "checkpoints/7").write_text("a file")
    (workdir / "checkpoints/007").mkdir()
    assert steps_in(workdir / "checkpoints") == [3, 5, 6, 7, 8, 9]
    outcome = script("sample.py", workdir, "--num=1", "--json=out.json", "--grid=g.png")
    assert outcome.code == 0, outcome
    assert json.loads(Path("out.json").read_text())["step"] == 6
    for words in (
        "9 is damaged and not used: its manifest.json is missing",
        "8 is damaged",
        "7 is damaged and not used: it is no folder",
    ):
        assert words in outcome.err, outcome
    assert train(replace(TINY, {"steps": 6}), RunConfig(workdir=str(workdir))).step == 6
    names = {p.name for p in (workdir / "checkpoints").iterdir()}
    assert {"9.damaged", "8.damaged", "7.damaged", "6"} <= names


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "1",
        '{"format": 1}',
        '{"format": 1, "step": 6, "files": []}',
        "[" * 100_000,
        "1" * 10_000,
        "\udcff",
    ],
    ids=["empty", "{}", "[]", "null", "1", "short", "list", "deep", "huge", "not utf-8"],
)
def test_no_manifest_and_no_item_ends_in_a_traceback(tiny_run: Path, tmp_path: Path, text: str) -> None:
    from jax_sngan.runs import manifest

    contents = text.encode("utf-8", "surrogateescape")
    for name in ("manifest.json", "provenance/metadata", "metrics/metrics", "unlogged/metadata", "config/metadata"):
        folder = Path(shutil.copytree(tiny_run / "checkpoints/6", tmp_path / "run/checkpoints/6"))
        (folder / name).write_bytes(contents)
        if name != "manifest.json":
            manifest.write(folder, 6)
        with Checkpoints(tmp_path / "run") as checkpoints:
            if name == "metrics/metrics" and text in ("{}", '{"format": 1}'):  # numbers by name, as it happens
                assert checkpoints.metrics(6) == json.loads(text)
            else:
                with pytest.raises(UserError, match="is sound"):
                    choose_step(checkpoints, "latest")
        shutil.rmtree(tmp_path / "run")


def test_folders_pipes_and_huge_numbers_are_no_checkpoint(tiny_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run / "checkpoints/6", tmp_path / "run/checkpoints/6"))
    (folder / "commit_success.txt").unlink()
    os.mkfifo(folder / "commit_success.txt")  # to read it would wait for ever
    (tmp_path / "run/checkpoints" / ("9" * 200)).mkdir()
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.steps() == [6]
        assert checkpoints.problem(6) == "commit_success.txt is no file"
        with pytest.raises(UserError, match="must be latest, best or a number"):
            choose_step(checkpoints, "9" * 5000)


def test_a_link_where_a_checkpoint_is_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/other").mkdir()
    take(tmp_path / "run")
    (tmp_path / "run/checkpoints/5.unfinished").symlink_to(tmp_path / "run/other")
    with pytest.raises(UserError, match=r"5.unfinished is in the way: .* rename it"):
        check_start(tmp_path / "run", TINY, "auto")


def test_a_checkpoint_loses_its_name_before_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "7/state").mkdir(parents=True)
    (tmp_path / "7.deleting").mkdir()  # of an earlier time

    def killed(path: Path) -> None:
        assert path == tmp_path / "7.deleting-2"
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        files.remove_folder(tmp_path / "7")
    assert steps_in(tmp_path) == []


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_what_is_written_follows_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        files.write_json(tmp_path / "a/b.json", {})
        with files.new_folder(tmp_path / "c"):
            pass
    finally:
        os.umask(before)
    mode = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a/b.json", tmp_path / "c")}
    assert mode == {"b.json": 0o666 & ~mask, "c": 0o777 & ~mask}


HOSTILE = ["plain", "a;touch PWNED #", "$(touch PWNED)", "a'b\"c", "new\nline", "esc\x1b[2Jape", "a\\b", "é", "\udcff"]


@pytest.mark.parametrize("word", HOSTILE)
def test_a_command_is_parted_by_a_shell_into_its_words(tmp_path: Path, word: str) -> None:
    line = command(sys.executable, "-c", "import os, sys; sys.stdout.buffer.write(os.fsencode(sys.argv[1]))", word)
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == os.fsencode(word)
    assert list(tmp_path.iterdir()) == []


def test_commands_of_a_run_are_quoted_where_they_are_written(tmp_path: Path) -> None:
    workdir = tmp_path / "a;touch PWNED #"
    from jax_sngan.runs.workdir import sample_command

    prepare(workdir, replace(TINY, {"name": "evil\x1b[2J\nname"}), sample_command(workdir), folder=tmp_path / "out")
    text = (tmp_path / "out/README.txt").read_text()
    assert text.replace("\n", "").isprintable()
    assert "evil\\x1b[2J\\nname" in text
    lines = [
        line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(("To make", "tensorboard/"))
    ]
    assert len(lines) == 2
    for line in lines:
        subprocess.run(["bash", "-c", f"sngan() {{ :; }}; tensorboard() {{ :; }}; {line}"], cwd=tmp_path, check=True)
    assert not (tmp_path / "PWNED").exists()


def test_control_characters_of_a_config_do_not_reach_the_terminal(
    tiny_run: Path, tmp_path: Path, script: Script
) -> None:
    from jax_sngan.evaluation.evaluate import tell_of_path

    assert shown("a\x1b]0;b\x07\n\x9b1m\u202e") == "a\\x1b]0;b\\x07\\n\\x9b1m\\u202e"
    assert str(UserError("x\x1b[2J\ny")).isprintable()
    workdir = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    config = to_dict(TINY)
    config["name"] = config["data"] = "\x1b[2Jevil"
    (workdir / "config.json").write_text(json.dumps(config))
    outcome = script("train_jax.py", *TINY_OPTIONS, "--workdir", workdir)
    assert outcome.is_one_line("\\x1b[2Jevil"), outcome
    assert "\x1b" not in outcome.err
    tell_of_path("/etc/\x1b[2J", "a run")


def test_a_path_that_a_config_names_is_said(capsys: pytest.CaptureFixture) -> None:
    from jax_sngan.evaluation.evaluate import tell_of_path

    tell_of_path("cifar10", "runs/a")
    assert capsys.readouterr().err == ""
    tell_of_path("/home/x/\x1bphotos", "runs/a")
    assert (
        capsys.readouterr().err == "note: opens /home/x/\\x1bphotos, the real images that the config of runs/a names\n"
    )
