"""A reader over thousands of changed files, in one process of limited memory; each file has a limit of time.

    python tests/fuzz.py READER EXAMPLES [SEED]

prints a line of JSON with counts, or the smallest changes that fail. tests/fuzz_coverage.py is the same with atheris.
"""

import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mutations
import readers
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

MEMORY = 2 * 2**30  # bytes of address space; the largest image that is read takes 1.3
SECONDS = 20.0  # of processor time for one file: the largest image of all takes 3
HIGHEST = 1.5 * 2**30  # bytes in memory for one file
# reader -> (number of the sound file, changes) that once went wrong, or went deep.
KEPT: dict[str, list[tuple[int, list[mutations.Change]]]] = {
    "torch": [(1, [(2, 27, 0), (2, 27, 2037), (3, 831, 11)])],  # a pickle in a file that claims more than there is
}

CHANGES = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 2**18), st.integers(0, 2**16)), min_size=1, max_size=6)


class Fuzz:
    """One reader, and what has come of its files."""

    def __init__(self, reader: str, folder: Path):
        self.reader, self.folder = reader, folder
        self.read = readers.READERS[reader]
        self.files = mutations.sound(reader) if reader != "checkpoint" else checkpoint_files(folder)
        self.others = tuple(contents for _, contents in self.files)
        self.counts = Counter[str]()
        self.slowest = self.highest = 0.0

    def sound(self) -> None:
        """Unchanged they are read; what holds for every file is so at least for these."""
        self.right = {}
        for name, contents in self.files:
            told = self._outcome(name, contents)
            assert told["outcome"] == "read", (name, told)
            self.right[name] = [_key(a) for a in told["arrays"]]

    def one(self, number: int, changes: list[mutations.Change]) -> None:
        """A changed file: what the reader promises, or refused in a line; within the limits."""
        name, contents = self.files[number % len(self.files)]
        changed = mutations.mutate(contents, changes, self.others)
        told = self._outcome(name, changed)
        self.counts[told["outcome"]] += 1
        self.slowest, self.highest = max(self.slowest, told["seconds"]), max(self.highest, told["bytes"])
        assert told["seconds"] < SECONDS
        assert told["bytes"] < HIGHEST
        if told["outcome"] == "read" and checked_by_sums(self.reader, name) and _no_sums_made(changes):
            assert set(map(_key, told["arrays"])) <= set(self.right[name]), "other contents under a right checksum"

    def bytes(self, name: str, contents: bytes) -> None:
        """A file as atheris makes it."""
        told = self._outcome(name, contents)
        self.counts[told["outcome"]] += 1
        assert told["bytes"] < HIGHEST

    def _outcome(self, name: str, contents: bytes) -> dict[str, Any]:
        path = self.folder / name
        path.write_bytes(contents)
        try:
            return readers.outcome(lambda: self.read(path), SECONDS)
        finally:
            path.write_bytes(dict(self.files)[name])  # a checkpoint's others are read with the next


def checkpoint_files(folder: Path) -> tuple[tuple[str, bytes], ...]:
    """The files of a checkpoint that is written there, by their names in the folder."""
    from conftest import TINY
    from jax_sngan.core.state import create_state
    from jax_sngan.runs.checkpoint import Checkpoints

    with Checkpoints(folder / "run", keep=1) as checkpoints:
        checkpoints.save(create_state(TINY), TINY, {"d_loss": 1.0}, [{"d_loss": 1.0}])
    there = [p for p in (folder / "run/checkpoints/0").rglob("*") if p.is_file() and p.name != "manifest.json"]
    # By size: half of the names are drawn anew by each save, and the same changes shall meet the same files.
    there.sort(key=lambda path: (path.stat().st_size, path.name))
    return tuple((str(p.relative_to(folder)), p.read_bytes()) for p in there)


def checked_by_sums(reader: str, name: str) -> bool:
    """Whether contents stand under a checksum: a flipped bit there is never read as something else."""
    return (reader in ("archive", "npz") and name.endswith((".zip", ".npz"))) or name.endswith((".gz", ".xz", ".bz2"))


def _no_sums_made(changes: list[mutations.Change]) -> bool:
    """Splicing, repacking and mending make other files that are sound."""
    own = (mutations._splice, mutations._inside, mutations._right_sums)
    return not any(mutations.CHANGES[what % len(mutations.CHANGES)] in own for what, _, _ in changes)


def _key(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, bytes) else (value.dtype.str, value.shape, value.tobytes())


def by_hypothesis(fuzz: Fuzz, examples: int, number: int) -> None:
    """Raises what the smallest failing example raises."""

    @seed(number)
    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink), print_blob=False,
    )  # fmt: skip
    @given(st.integers(0, len(fuzz.files) - 1), CHANGES)
    def one(number: int, changes: list[mutations.Change]) -> None:
        fuzz.one(number, changes)

    one()


def report(fuzz: Fuzz) -> None:
    """One line of JSON."""
    told = {"reader": fuzz.reader, **fuzz.counts, "seconds": fuzz.slowest, "mb": round(fuzz.highest / 2**20)}
    print(json.dumps(told))


@contextmanager
def limited(reader: str) -> Iterator[Fuzz]:
    """A reader in this process, from here on of limited memory, after its sound files and those of KEPT."""
    warnings.simplefilter("ignore")  # Pillow's
    readers.imports(reader)
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(reader, Path(folder))
        readers.limit(MEMORY, SECONDS)
        fuzz.sound()
        for number, changes in KEPT.get(reader, []):
            fuzz.one(number, changes)
        yield fuzz


def main() -> None:
    """As the first lines say."""
    with limited(sys.argv[1]) as fuzz:
        by_hypothesis(fuzz, int(sys.argv[2]), int((sys.argv[3:] or ["0"])[0]))
        report(fuzz)


if __name__ == "__main__":
    main()
