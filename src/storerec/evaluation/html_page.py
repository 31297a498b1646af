"""A document as one HTML file that asks no network: style and plots inside, light and dark."""

from __future__ import annotations

import io
import json
import re
from html import escape
from typing import Any

from storerec.evaluation.document import Document, Entry, Plot, Section, TextTable

_MARKS = {
    "": "",
    "up": ' <span class="up" title="better than the reference, adjusted p below .05">↑</span>',
    "down": ' <span class="down" title="worse than the reference, adjusted p below .05">↓</span>',
}

_TEXT_COLOUR = "#010203"
"""Stands for the page's own text colour while a plot is drawn; used by nothing else."""

_STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --text: #1d2329; --dim: #5b6670; --line: #d5dbe0; --head: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14181c; --text: #e4e8eb; --dim: #9aa5ae; --line: #36404a; --head: #1e252b; }
}
body { background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
.basis { color: var(--dim); font-size: .87rem; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: .8rem 0 1.4rem; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { background: var(--head); } th:first-child, td:first-child { text-align: left; }
.prose th, .prose td { text-align: left; white-space: normal; }
.note { color: var(--dim); font-size: .85rem; margin-top: -.8rem; }
.up { color: #2e8b57; } .down { color: #d1495b; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption { color: var(--dim); font-size: .85rem; }
pre { background: var(--head); padding: .8rem; overflow-x: auto; font-size: .8rem; }
summary { cursor: pointer; font-size: 1.2rem; font-weight: 600; margin-top: 1.6rem; }
"""


def html_page(document: Document) -> str:
    """Turn a document into a page; all names and notes are escaped, and the page's own policy forbids any request."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    basis = "".join(f"<li>{escape(sentence)}</li>" for sentence in document.statements)
    body = "\n".join(_section(section) for section in document.sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(document.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(document.title)}</h1>
<ul class="basis">{basis}</ul>
{body}
</body>
</html>
"""


def html_table(table: TextTable) -> str:
    """Turn a table into HTML."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.header)
    rows = "\n".join(f"<tr>{''.join(f'<td>{_entry(entry)}</td>' for entry in row)}</tr>" for row in table.rows)
    note = f'\n<p class="note">{escape(table.note)}</p>' if table.note else ""
    kind = ' class="prose"' if table.prose else ""
    return (
        f'<div class="scroll"><table{kind}><caption>{escape(table.title)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>{note}"
    )


def inline_svg(plot: Plot) -> str:
    """Draw a plot as an SVG element in the page's own text colour, on no background.

    Its ids carry the plot's name, so that several plots on a page do not take each other's parts.
    """
    from matplotlib import rc_context

    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
    out = io.StringIO()
    options: dict[Any, Any] = dict.fromkeys(names, _TEXT_COLOUR)
    options |= {"svg.fonttype": "none", "svg.hashsalt": plot.name}
    with rc_context(options):
        plot.draw().savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT_COLOUR, "currentColor")
    # HTML knows SVG's namespaces by itself; without them the page names no address at all.
    svg = re.sub(r"<metadata>.*?</metadata>|\sxmlns(:\w+)?=\"[^\"]*\"", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{plot.name}-', svg)
    svg = re.sub(r'href="#', f'href="#{plot.name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{plot.name}-", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(plot.caption)}"', 1)


def _section(section: Section) -> str:
    parts = [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
    parts += [html_table(table) for table in section.tables]
    parts += [
        f"<figure>{inline_svg(plot)}<figcaption>{escape(plot.caption)}</figcaption></figure>" for plot in section.plots
    ]
    if section.settings is not None:
        parts.append(f"<pre>{escape(json.dumps(section.settings, indent=1, ensure_ascii=False))}</pre>")
    inside = "\n".join(parts)
    title = escape(section.title)
    if section.details:
        return f"<details><summary>{title}</summary>\n{inside}\n</details>"
    return f"<section><h2>{title}</h2>\n{inside}\n</section>"


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    return (f"<strong>{text}</strong>" if entry.bold else text) + _MARKS[entry.mark]
