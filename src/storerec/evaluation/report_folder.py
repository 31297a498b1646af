"""A comparison's report as files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from storerec.evaluation.comparison import Comparison
from storerec.evaluation.comparison_report import ranking_document, scoring_document
from storerec.evaluation.document import Document, Section
from storerec.evaluation.html_page import html_page
from storerec.evaluation.latex import latex
from storerec.evaluation.markdown import markdown
from storerec.evaluation.plots import save_png
from storerec.evaluation.score_comparison import ScoreComparison
from storerec.storage import atomic, write_json

if TYPE_CHECKING:
    import polars as pl


def write_report(
    comparison: Comparison,
    folder: Path | str,
    *,
    user_ids: Iterable[str] | pl.Series,
    item_ids: Iterable[str] | pl.Series,
    scoring: ScoreComparison | None = None,
) -> None:
    """Write all of a comparison's report; each file appears whole or not at all, ``report.html`` last.

    ``comparison.json``, ``per_user.json`` (not for a comparison read from JSON, which has no ranks), ``plots/*.png``,
    ``report.md``, ``table.tex`` and ``report.html``, which needs no other file and no network; with ``scoring`` its
    sections stand in all of them, and its numbers in ``scoring.json``.

    Parameters
    ----------
    comparison
        rankings compared.
    folder
        made where missing; files of these names are replaced.
    user_ids
        ids of the cases' users, in their order.
    item_ids
        ids of the catalogue, by row.
    scoring
        scores compared, for the same page.

    Raises
    ------
    DataError: the number of ids is not that of the users or items.
    """
    folder = Path(folder)
    write_json(folder / "comparison.json", comparison.to_json())
    if comparison.ranks is not None:
        comparison.write_per_user(folder / "per_user.json", user_ids=user_ids, item_ids=item_ids)
    document = ranking_document(comparison)
    if scoring is not None:
        write_json(folder / "scoring.json", scoring.to_json())
        document = _joined(document, scoring_document(scoring))
    _write(document, folder)


def write_score_report(scoring: ScoreComparison, folder: Path | str) -> None:
    """Write the report of a comparison of scores alone: the files of :func:`write_report` but for the rankings'."""
    folder = Path(folder)
    write_json(folder / "scoring.json", scoring.to_json())
    _write(scoring_document(scoring), folder)


def _joined(document: Document, second: Document) -> Document:
    """One document of two; what the second rests on opens its first section, equal settings stand once."""
    opening: Section = second.sections[0]
    opening = replace(opening, paragraphs=(*second.statements, *opening.paragraphs))
    known = [section.settings for section in document.sections if section.settings is not None]
    rest = [section for section in second.sections[1:] if section.settings not in known]
    return replace(document, sections=(*document.sections, opening, *rest))


def _write(document: Document, folder: Path) -> None:
    for section in document.sections:
        for plot in section.plots:
            save_png(plot.draw(), folder / "plots" / f"{plot.name}.png")
    for name, text in (
        ("report.md", markdown(document)),
        ("table.tex", latex(document)),
        ("report.html", html_page(document)),
    ):
        with atomic(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
