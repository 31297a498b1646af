import polars as pl

from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.llm.progress import Progress
from storerec.pipeline import RunFolder, fit
from storerec.pipeline.demo import _example
from tests import worlds


def test_titles_print_as_they_are(tiny_backbone, tmp_path, capsys, monkeypatch):
    items = worlds.items()
    titles = [f"[red]Film[/b] :smile: [{i}]" for i in range(len(items))]
    catalogue = Catalogue.from_frame(items.with_columns(title=pl.Series(titles)))
    _, histories = worlds.data()
    config = worlds.config(tiny_backbone(), alignment=False, alone={"max_steps": 2}, layers=1)
    options = RunOptions(device="cpu", dtype="float32", progress=False)
    run = RunFolder.create(tmp_path / "r", catalogue, histories, config, options)
    fit(run, Progress(enabled=False))
    monkeypatch.setenv("COLUMNS", "200")
    _example(run)
    told = capsys.readouterr().out
    shown = [title for title in titles if title in told]
    assert len(shown) >= 11, "ten recommendations and what was really next"
    assert f"In fact this person watched next: {titles[run.split.test.targets[0]]}" in told


def test_progress_lines_print_as_they_are(capsys):
    Progress().say("runs/[red]x :smile: [/b]")
    assert "runs/[red]x :smile: [/b]" in capsys.readouterr().err
