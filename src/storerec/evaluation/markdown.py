"""Documents as Markdown (GitHub's tables), with plots as files beside it."""

from __future__ import annotations

import json
import re

from storerec.evaluation.document import Document, Entry, Section, TextTable

_MARKS = {"": "", "up": " ↑", "down": " ↓"}


def markdown(document: Document, *, plots: str = "plots") -> str:
    """Turn a document into Markdown; plots are linked as PNG files in the folder ``plots``."""
    out = [f"# {escaped(document.title)}", *_bullets(document.statements)]
    for section in document.sections:
        out += _section(section, plots)
    return "\n".join(out).rstrip() + "\n"


def markdown_table(table: TextTable) -> str:
    """Turn a table into a Markdown table; the first column is set left, numbers right."""
    align = "---" if table.prose else "---:"
    lines = [_row([escaped(name) for name in table.header]), _row(["---", *[align] * (len(table.header) - 1)])]
    lines += [_row([_entry(entry) for entry in row]) for row in table.rows]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Plain text as Markdown that shows just that, in one line."""
    one_line = " ".join(text.split())
    entities = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", entities)


def _section(section: Section, plots: str) -> list[str]:
    out = ["", f"## {escaped(section.title)}"]
    for paragraph in section.paragraphs:
        out += ["", escaped(paragraph)]
    for table in section.tables:
        out += ["", f"**{escaped(table.title)}**", "", markdown_table(table)]
        if table.note:
            out += ["", escaped(table.note)]
    for plot in section.plots:
        out += ["", f"![{escaped(plot.caption)}]({plots}/{plot.name}.png)"]
    if section.settings is not None:
        text = json.dumps(section.settings, indent=1, ensure_ascii=False)
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
        out += ["", f"{fence}json", text, fence]
    return out


def _bullets(sentences: tuple[str, ...]) -> list[str]:
    return ["", *(f"- {escaped(sentence)}" for sentence in sentences)]


def _entry(entry: Entry) -> str:
    text = escaped(entry.text)
    return (f"**{text}**" if entry.bold else text) + _MARKS[entry.mark]


def _row(entries: list[str]) -> str:
    return f"| {' | '.join(entries)} |"
