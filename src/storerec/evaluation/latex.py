"""Tables of a document as LaTeX (booktabs), each with a caption that stands by itself."""

from __future__ import annotations

import re

from storerec.evaluation.document import Document, Entry, TextTable

_SPECIAL = {
    "--": "-{}-",  # no dash of a command's option
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    '"': r"\textquotedbl{}",
}
_MARKS = {"": "", "up": r"$^{\uparrow}$", "down": r"$^{\downarrow}$"}


def latex(document: Document) -> str:
    r"""Turn a document's tables of numbers into LaTeX; needs ``\usepackage{booktabs}`` and ``[T1]{fontenc}``.

    The first table's caption says all that the numbers rest on (so does the first of a section that opens with
    paragraphs); those after it refer to it.
    """
    out = [r"% Needs \usepackage{booktabs} and \usepackage[T1]{fontenc}."]
    labels: list[str] = []
    basis, source = document.statements, ""
    for section in document.sections:
        basis, source = (section.paragraphs, "") if section.paragraphs else (basis, source)
        for table in section.tables:
            if table.prose:
                continue
            label = _label(table.title, labels)
            said = escaped(
                " ".join(_ended(text) for text in (table.title, table.note, *(() if source else basis)) if text)
            )
            said += rf" See Table~\ref{{{source}}}." if source else ""
            source = source or label
            labels.append(label)
            out += ["", latex_table(table, caption=said, label=label)]
    return "\n".join(out) + "\n"


def latex_table(table: TextTable, *, caption: str, label: str) -> str:
    """Turn a table into a LaTeX float; ``caption`` is LaTeX already."""
    header = " & ".join(escaped(name) for name in table.header)
    rows = [" & ".join(_entry(entry) for entry in row) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            rf"{header} \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def escaped(text: str) -> str:
    """Plain text as LaTeX that shows just that, in one line."""
    return re.sub("|".join(map(re.escape, _SPECIAL)), lambda found: _SPECIAL[found[0]], " ".join(text.split()))


def _entry(entry: Entry) -> str:
    text = escaped(entry.text)
    # A line that starts with a bracket would be read as the option of the line break before it.
    text = f"{{{text}}}" if text.startswith(("[", "*")) else text
    return (rf"\textbf{{{text}}}" if entry.bold else text) + _MARKS[entry.mark]


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _label(title: str, taken: list[str]) -> str:
    slug = "tab:" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    number = sum(label == slug or label.startswith(f"{slug}--") for label in taken)
    return f"{slug}--{number + 1}" if number else slug
