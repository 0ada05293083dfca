"""A model of a disk that loses power: what a run did to its folder, and every state that a cut could have left.

The recorder looks at the folder around each call that syncs, renames, makes or removes something there, by whatever
code, and writes down what has changed. Only what was synced by name is taken for safe; all else may be there, cut,
emptied, full of zeros or gone, each on its own. That is harsher than any one file system.
"""

import os
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

Contents = bytes | dict[str, int]  # of a file; of a folder: name -> node
HOOKED = ("fsync", "replace", "rename", "unlink", "remove", "rmdir", "mkdir")
# What becomes of names and of bytes that were not synced.
CUTS = (("kept", "kept"), ("kept", "emptied"), ("kept", "cut"), ("kept", "zeros"), ("lost", "lost"), ("any", "any"))


@dataclass
class Node:
    """A file or a folder: as programs see it, and as the last sync left it."""

    now: Contents
    safe: Contents


@dataclass
class Disk:
    """The nodes of one folder; node 0 is the folder itself, which was there before."""

    nodes: dict[int, Node] = field(default_factory=lambda: {0: Node({}, {})})

    def apply(self, change: tuple[str, int, Any]) -> None:
        """One change: ("now", node, contents) or ("sync", node, None)."""
        what, node, contents = change
        if what == "now":
            empty: Contents = {} if isinstance(contents, dict) else b""
            self.nodes.setdefault(node, Node(contents, empty)).now = contents
        else:
            self.nodes[node].safe = self.nodes[node].now

    def safe_names(self, *path: str) -> set[str]:
        """The names in a folder that a cut can't take away; empty where it is none of those itself."""
        here = self.nodes[0]
        for name in path:
            assert isinstance(here.safe, dict)
            if name not in here.safe:
                return set()
            here = self.nodes[here.safe[name]]
        return set(here.safe)  # type: ignore[arg-type]  # a folder's

    def leave(self, folder: Path, names: str, contents: str, rng: random.Random) -> None:
        """Writes a state that a cut could have left into an empty folder; names and contents: of CUTS."""
        self._leave(0, folder, names, contents, rng)

    def _leave(self, number: int, path: Path, names: str, contents: str, rng: random.Random) -> None:
        node = self.nodes[number]
        if isinstance(node.now, bytes):
            path.write_bytes(_cut(node.now, node.safe, contents, rng))  # type: ignore[arg-type]
            return
        path.mkdir(exist_ok=True)
        how = rng.choice(("kept", "lost")) if names == "any" else names
        listed = node.now if how == "kept" else node.safe
        assert isinstance(listed, dict)
        for name, child in listed.items():
            self._leave(child, path / name, names, contents, rng)


def _cut(now: bytes, safe: bytes, how: str, rng: random.Random) -> bytes:
    """A file's bytes after a cut. Those that were synced stay where the file only grew."""
    if how == "any":
        how = rng.choice(("kept", "emptied", "cut", "zeros", "lost"))
    if now == safe or how == "kept":
        return now
    if how == "lost":
        return safe
    kept = safe if now.startswith(safe) else b""
    new = now[len(kept) :]
    return kept + {"emptied": b"", "cut": new[: len(new) // 2], "zeros": bytes(len(new))}[how]


class Recorder:
    """What was done to a folder, in order, as changes for a Disk."""

    def __init__(self, folder: Path):
        self._folder, self._lock = folder.resolve(), threading.RLock()
        self.changes: list[tuple[str, int, Any]] = []
        self._seen: dict[int, Contents] = {0: {}}  # node -> as last written down
        self._read: dict[int, tuple[int, int, bytes]] = {}  # node -> when changed, how large, what it held
        self._nodes: dict[int, int] = {self._folder.stat().st_ino: 0}  # inode -> node
        self._open: list[int] = []  # one handle of each: an inode that is held is not given to another file
        self.look()

    def look(self) -> None:
        """Writes down what has changed since the last look: files, then folders from the innermost out."""
        found: dict[int, Contents] = {}
        self._walk(self._folder, found)
        for node, contents in found.items():
            if node not in self._seen or self._seen[node] != contents:
                self._seen[node] = contents
                self.changes.append(("now", node, contents))

    def _walk(self, path: Path, found: dict[int, Contents]) -> int:
        facts = path.stat()
        if facts.st_ino not in self._nodes:
            self._open.append(os.open(path, os.O_RDONLY))
            self._nodes[facts.st_ino] = len(self._nodes)
        node = self._nodes[facts.st_ino]
        if path.is_dir():
            listed: dict[str, int] = {}
            for child in sorted(path.iterdir()):
                try:
                    listed[child.name] = self._walk(child, found)
                except FileNotFoundError:  # renamed or removed by another thread while this one looked
                    continue
            found[node] = listed
        else:
            key = (facts.st_mtime_ns, facts.st_size)
            if self._read.get(node, (0, 0, b""))[:2] != key:
                self._read[node] = (*key, path.read_bytes())
            found[node] = self._read[node][2]
        return node

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within the block every call of HOOKED is one to look at."""
        with pytest.MonkeyPatch.context() as patch:
            for name in HOOKED:
                patch.setattr(os, name, self._hooked(name, getattr(os, name)))
            yield
        self.look()
        for handle in self._open:
            os.close(handle)

    def _hooked(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.look()
                result = call(*arguments, **options)
                self.look()
                if name == "fsync":
                    node = self._nodes.get(os.fstat(arguments[0]).st_ino)
                    if node is not None:
                        self.changes.append(("sync", node, None))
                return result

        return hooked


def states(changes: list[tuple[str, int, Any]]) -> Iterator[tuple[int, Disk]]:
    """The disk after each change; one Disk, which goes on."""
    disk = Disk()
    for number, change in enumerate(changes):
        disk.apply(change)
        yield number, disk


def manifests(changes: list[tuple[str, int, Any]]) -> dict[int, bytes]:
    """The manifest of each checkpoint in run/checkpoints, as it was when no cut could take its name away any more."""
    found: dict[int, bytes] = {}
    for _, disk in states(changes):
        for step in disk.safe_names("run", "checkpoints"):
            if step.isdigit() and int(step) not in found:
                node = disk.nodes[0]
                for name in ("run", "checkpoints", step, "manifest.json"):
                    assert isinstance(node.now, dict)
                    node = disk.nodes[node.now[name]]
                assert isinstance(node.now, bytes)
                found[int(step)] = node.now
    return found


# With a file's name and a command after it: what the command's processes sync, rename and remove.
STRACE = [
    "strace", "-f", "-y", "-s", "4096", "-e", "signal=none",
    "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,rmdir", "-o",
]  # fmt: skip


def strace_works() -> bool:
    """Whether there is one, and it may trace."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


CALL = re.compile(r"(\w+)\((.*)\) = 0$")


def calls_of(log: Path) -> list[tuple[str, list[str]]]:
    """(call, the paths in it) that succeeded: a sync where it ends, any other where it begins."""
    begun: dict[str, tuple[int, str]] = {}
    found: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(log.read_text(errors="replace").splitlines()):
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        at = number
        if rest.endswith("<unfinished ...>"):
            begun[pid] = (number, rest.removesuffix("<unfinished ...>"))
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", rest):
            at, first = begun.pop(pid)
            rest = first + resumed[1]
        if called := CALL.match(rest):
            name = called[1]
            # `fsync(5</path>)`; `renameat(AT_FDCWD</here>, "a", …)`: what is quoted counts where something is
            paths = re.findall(r'"([^"]*)"', called[2]) or re.findall(r"<([^>]*)>", called[2])
            found.append((number if "sync" in name else at, name, paths))
    return [(name, paths) for _, name, paths in sorted(found)]
