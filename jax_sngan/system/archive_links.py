"""Links and devices among an archive's members, and which of its files the links stand for."""

import bisect
import posixpath

from jax_sngan.system.budget import MEMBERS
from jax_sngan.system.errors import UserError

FOLLOWED = 40  # links one after another, as in Linux


class NoFiles:
    """Members of an archive that are no files themselves."""

    def __init__(self) -> None:
        self.links: dict[str, str | None] = {}  # name -> path in the archive that it stands for; None: leads outside
        self.kinds: dict[str, str] = {}  # name -> what it is, "a device" say

    def link(self, name: str, target: str, *, hard: bool) -> None:
        """Takes a link; hard: its target is named from the archive's root, as tar has it."""
        whole = posixpath.normpath(target if hard else posixpath.join(posixpath.dirname(name), target))
        self.links[name] = None if whole.startswith(("../", "/")) or whole in ("..", ".") else whole


def resolve(names: list[str], others: NoFiles) -> dict[str, str]:
    """The links of an archive that stand for files of it: name -> the file. Links to folders stand for all in them.

    Those that stand for none are put among others.kinds, as links to nothing.

    Raises:
      UserError: links to folders make more than ten times as many names as there are files.
    """
    files, links = set(names), {name: target for name, target in others.links.items() if target is not None}
    others.kinds |= {name: "a link out of the archive" for name, target in others.links.items() if target is None}
    there = sorted([*names, *links])
    found: dict[str, str] = {}
    waiting = list(links.items())
    for name, target in waiting:  # grows where a folder is linked
        real = _followed(target, links)
        if real is not None and real in files:
            found[name] = real
            continue
        if real is None or f"{name}/".startswith(f"{real}/"):
            others.kinds[name] = "a link to itself" if real is None else "a link to a folder above"
            continue
        start = bisect.bisect_left(there, f"{real}/")
        inside = there[start : bisect.bisect_left(there, f"{real}0")]  # 0 comes behind the slash
        if not inside:
            others.kinds[name] = "a link to nothing"
        waiting += [(name + inner[len(real) :], inner) for inner in inside]
        if len(waiting) > MEMBERS + 10 * len(files):
            raise UserError(f"links to folders of an archive, {name[:80]!r} the last, stand for too many files")
    return found


def _followed(path: str, links: dict[str, str]) -> str | None:
    """A path with the links in it followed; None where they lead in a circle."""
    for _ in range(FOLLOWED):
        parts = path.split("/")
        prefix = next((p for i in range(len(parts)) if (p := "/".join(parts[: i + 1])) in links), None)
        if prefix is None:
            return path
        path = posixpath.normpath(links[prefix] + path[len(prefix) :])
    return None
