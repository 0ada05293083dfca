"""Links of a page to files of the repository, as links of the site: a source file gets a page that shows it."""

import os
import re
from pathlib import Path, PurePosixPath

from docs_build.source import ROOT, fence

# Files at the root that are pages of the site.
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\(|(?:src|href)=\")([^)\s\"]+)")
LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".md": "markdown", ".sh": "bash", "": "bash"}


def targets(markdown: str) -> list[str]:
    """What a page links to within the repository, anchors dropped."""
    found = [target.partition("#")[0] for _, target in LINK.findall(markdown)]
    return [t for t in found if t and not re.match(r"[a-z]+:", t)]


def outside(target: str, origin: str) -> str | None:
    """The path in the repository that a link of the file `origin` has, where it is no file of docs/; else None."""
    path = os.path.normpath(PurePosixPath(origin).parent / target)
    return None if path.startswith("docs/") or not (ROOT / path).exists() else path


def page_of(path: str) -> str:
    """The site's page for a file of the repository that is not in docs/."""
    return ROOT_PAGES.get(path, f"source/{path}.md")


def for_site(markdown: str, origin: str, page: str) -> str:
    """A page's text with its links made for the site.

    Args:
      origin: the file that the text comes from, from the repository's root.
      page: where it stands in the site.
    """

    def moved(found: re.Match[str]) -> str:
        target, hash_, anchor = found[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        path = os.path.normpath(PurePosixPath(origin).parent / target)
        to = path.removeprefix("docs/") if path.startswith("docs/") else page_of(path)
        return found[1] + os.path.relpath(to, PurePosixPath(page).parent) + hash_ + anchor

    return LINK.sub(moved, markdown)


def source_page(path: str) -> str:
    """A page that shows a text file, or what a folder holds.

    Raises:
      FileNotFoundError: there is no such file.
    """
    place = ROOT / path
    if place.is_dir():
        names = sorted(p.name + "/" * p.is_dir() for p in place.iterdir() if not p.name.startswith(("__pyc", ".")))
        return f"# `{path}/`\n\n" + "\n".join(f"- `{name}`" for name in names) + "\n"
    return f"# `{path}`\n\n{fence(place.read_text().rstrip(), LANGUAGES.get(Path(path).suffix, 'text'))}\n"
