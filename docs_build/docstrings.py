"""Docstrings as mkdocstrings wants them (mkdocs.yml): they are plain text, and it takes them for Markdown."""

import re
from typing import Any

import griffe

from docs_build.reference import escaped, prose

SECTION = re.compile(r"\n+(?=(?:Args|Attributes|Returns|Raises|Yields):\n)")


class Plain(griffe.Extension):
    """Puts a blank line before each section and escapes what they say; the names of arguments stay as they are."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Goes through the whole package once it is loaded."""
        _plain(pkg)


def _plain(thing: griffe.Object) -> None:
    if thing.docstring:
        thing.docstring.value = SECTION.sub("\n\n", thing.docstring.value)
        for section in thing.docstring.parsed:
            if isinstance(section, griffe.DocstringSectionText):
                section.value = prose(section.value)
            elif isinstance(section.value, list):
                for entry in section.value:
                    entry.description = escaped(entry.description)
    for member in thing.members.values():
        if isinstance(member, griffe.Object):  # not what is only imported
            _plain(member)
