"""What mkdocs calls while it builds the site (mkdocs.yml names this file)."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # mkdocs loads a hook by its path, whatever else is installed

from docs_build import links, notebook, reference, source  # noqa: E402

NOTEBOOK = "examples/tour.ipynb"
# What a hit counts in a search: who searches looks for a task. Of a file of the source, or the reference of one:
BELOW = 0.001
BOOSTS = {"recipes.md": 4.0, "train.md": 2.0}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are no files of docs/."""
    made: dict[str, str | bytes] = dict(reference.pages())
    for name, page in links.ROOT_PAGES.items():
        made[page] = links.for_site((ROOT / name).read_text(), name, page)
    text, pictures = notebook.page(ROOT / NOTEBOOK, "../docs/notebook")
    made["notebook.md"] = links.for_site(text, NOTEBOOK, "notebook.md")
    made |= {f"notebook/{name}": data for name, data in pictures.items()}

    origins = {f"docs/{f.src_uri}": f.content_string for f in files.documentation_pages()}
    origins |= {name: (ROOT / name).read_text() for name in links.ROOT_PAGES}
    origins[NOTEBOOK] = text
    linked = {links.outside(t, origin) for origin, text in origins.items() for t in links.targets(text)}
    linked |= {path for framework in reference.FRAMEWORKS for path in reference.modules(framework)}
    for path in sorted(p for p in linked if p and p not in links.ROOT_PAGES):
        made[links.page_of(path)] = links.source_page(path)

    in_nav = ("reference/options.md", "reference/commands.md", "reference/functions.md", "notebook.md")
    for uri, content in made.items():
        listed = uri in in_nav or uri in links.ROOT_PAGES.values()
        inclusion = InclusionLevel.INCLUDED if listed else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, uri, content=content, inclusion=inclusion))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to source files lead to their pages, and marks give way to the code that they name."""
    if page.file.src_uri in BOOSTS:
        page.meta["search"] = {"boost": BOOSTS[page.file.src_uri]}
    if page.file.generated_by is not None:
        if page.file.inclusion is InclusionLevel.NOT_IN_NAV:
            page.meta["search"] = {"boost": BELOW}
        return markdown
    if source.TWINS.search(markdown):
        page.meta["hide"] = ["toc"]  # two columns of code need its room
    return source.with_code(links.for_site(markdown, f"docs/{page.file.src_uri}", page.file.src_uri))
