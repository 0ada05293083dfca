"""A page of HTML that needs nothing else: no script, no font, no file beside it; light and dark, on a phone too.

Whatever stands on it is text, and escaped, unless the code that calls has made it Markup.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from jax_sngan.reports.plots import Plot, svg

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2127; --paper: #fff; --soft: #5d6673; --rule: #d9dee4; --band: #f4f6f8;
  --good: #1a7f4b; --bad: #c62828; --c0: #1f6fb4; --c1: #c2570c; --c2: #1a7f4b; --c3: #a8326f;
  --c4: #7a4bb5; --c5: #8a6d00; --c6: #c0392b; --c7: #5d6673; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --paper: #14171b; --soft: #9aa4b0; --rule: #333a43;
  --band: #1c2127; --good: #55c58b; --bad: #ff7b72; --c0: #6db3f2; --c1: #f2995a; --c2: #55c58b; --c3: #f08bbf;
  --c4: #b794f4; --c5: #d9bd5a; --c6: #ff8f85; --c7: #a3acb8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 66rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .4rem 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .6rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; overflow-wrap: anywhere; }
p, ul, dl { margin: .6rem 0; max-width: 46rem; }
nav { font-size: .92rem; } nav a { margin-right: .9rem; display: inline-block; } a { color: var(--c0); }
.good { color: var(--good); } .bad { color: var(--bad); } .soft { color: var(--soft); }
.verdict { font-size: 1.1rem; font-weight: 600; border-left: .3rem solid; padding: .2rem .8rem; margin: 1rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; } tbody th { vertical-align: top; }
td.n, th.n { text-align: right; } td.n { white-space: nowrap; } td { overflow-wrap: break-word; }
.facts td { overflow-wrap: anywhere; min-width: 8rem; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--c0); padding: .3rem 0; }
figure { margin: 1rem 0; } figure img { display: block; max-width: 100%; height: auto; background: #fff; }
figcaption { color: var(--soft); font-size: .875rem; max-width: 46rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1rem 1.5rem;
  align-items: start; }
.plots figure { margin: .4rem 0; max-width: 40rem; min-width: 0; } .plots b { overflow-wrap: anywhere; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 9.5rem), 1fr)); gap: .8rem; }
.strip figure { margin: 0; min-width: 0; overflow-wrap: anywhere; } .strip img { width: 100%; }
svg { display: block; width: 100%; max-width: 46rem; height: auto; margin: .2rem 0; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg text.soft, svg tspan.soft { fill: var(--soft); }
@media (max-width: 600px) { svg text { font-size: 15px; } }
.legend { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem;
  font-size: .875rem; overflow-wrap: anywhere; }
.legend svg { display: inline-block; width: 2rem; height: .8rem; margin: 0 .4rem 0 0; vertical-align: middle; }
pre, code { font: .875rem ui-monospace, monospace; } code { overflow-wrap: anywhere; }
pre { background: var(--band); padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


class Markup(str):
    """HTML that this program made; any other text is escaped."""


Section = tuple[str, str, str]  # its anchor, its title, its HTML


def text(value: Any) -> Markup:
    """A value as HTML."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def page(title: str, head: str, sections: Sequence[Section], style: str = "") -> str:
    """A whole page: its head, links to its sections, and those that are not empty.

    Args:
      title: text. head: HTML above the sections. style: more CSS.
    """
    shown = [s for s in sections if s[2]]
    links = "".join(f'<a href="#{name}">{text(of)}</a> ' for name, of, _ in shown)
    body = "\n".join(f'<section><h2 id="{name}">{text(of)}</h2>\n{html}</section>' for name, of, html in shown)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}{style}</style></head>\n"
        f"<body><main>\n{head}\n<nav>{links}</nav>\n{body}\n</main></body></html>\n"
    )


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], *, texts: int = 1, last: bool = False) -> Markup:
    """Rows under a head; without one where head is empty.

    Args:
      texts: how many of the first columns are text; numbers stand at the right. last: the last one is text too.
    """

    def line(cells: Sequence[Any], tag: str) -> str:
        kinds = ("" if i < texts or (last and i == len(cells) - 1) else ' class="n"' for i in range(len(cells)))
        return "".join(f"<{tag}{kind}>{text(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    top = f"<thead><tr>{line(head, 'th')}</tr></thead>" if head else ""
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return Markup(f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>')


def facts(rows: Iterable[tuple[Any, Any]]) -> Markup:
    """Names and what they are, the empty ones left out."""
    lines = "".join(f"<tr><th>{text(name)}</th><td>{text(of)}</td></tr>" for name, of in rows if of not in ("", None))
    return Markup(f'<div class="scroll facts"><table><tbody>{lines}</tbody></table></div>') if lines else Markup()


def details(summary: Any, html: str) -> Markup:
    """What is shown when one asks for it."""
    return Markup(f"<details><summary>{text(summary)}</summary>{html}</details>")


def items(texts: Iterable[Any]) -> Markup:
    """A list with dots; nothing of an empty one."""
    lines = "".join(f"<li>{text(t)}</li>" for t in texts)
    return Markup(f"<ul>{lines}</ul>") if lines else Markup()


def picture(data: bytes, caption: str) -> Markup:
    """A PNG or a GIF with what it shows."""
    kind = "gif" if data.startswith(b"GIF8") else "png"
    code, said = base64.b64encode(data).decode(), text(caption)
    return Markup(
        f'<figure><img alt="{said}" src="data:image/{kind};base64,{code}"><figcaption>{said}</figcaption></figure>'
    )


def strip(pictures: Iterable[Markup]) -> Markup:
    """Small pictures side by side."""
    return Markup(f'<div class="strip">{"".join(pictures)}</div>')


def drawn(plots: Iterable[Plot]) -> Markup:
    """Plots side by side, each with its title and its note."""
    parts = []
    for plot in plots:
        note = f"<figcaption>{text(plot.note)}</figcaption>" if plot.note else ""
        parts.append(f"<figure><b>{text(plot.title)}</b>{svg(plot)}{note}</figure>")
    return Markup(f'<div class="plots">{"".join(parts)}</div>') if parts else Markup()
