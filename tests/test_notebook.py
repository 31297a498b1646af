"""The notebook of examples/ runs from its first cell to its last, and ends with a list that holds an added item."""

import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = Path(__file__).parent.parent / "examples" / "own_tables.ipynb"


def text_of(cell):
    """All that a cell printed or returned, as text."""
    parts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell.outputs]
    return "\n".join(parts)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Its code cells, run in a kernel of their own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("notebook")))
    patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))  # nothing of the user's own
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    try:
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(env=dict(os.environ))
    finally:
        patch.undo()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.slow
def test_it_recommends_an_item_that_was_added(cells):
    added = set(re.findall(r"│ (r\d+) +┆ added ", next(text_of(c) for c in cells if "add_items" in c.source)))
    assert added == {"r60", "r61", "r62"}
    listed = re.findall(r"│ (r\d+) ", text_of(cells[-1]))
    assert len(listed) == len(set(listed)) == 10
    assert added & set(listed)


@pytest.mark.slow
def test_a_removed_item_is_in_no_list(cells):
    history = re.search(r"remove_items\(\[(history\[0\])\]\)", "".join(cell.source for cell in cells))
    assert history
    first = re.search(r"after (.+?),", next(text_of(c) for c in cells if "rows = histories" in c.source)).group(1)
    assert first not in text_of(cells[-1])


@pytest.mark.slow
def test_it_trains_better_than_popularity_ranks(cells):
    measured = next(text_of(cell) for cell in cells if "measured" in cell.source)
    recall = {name: float(value) for name, value in re.findall(r"│ (\w+) +┆ (\d\.\d+) ", measured)}
    assert recall["store"] > recall["popularity"]


def test_it_is_saved_with_short_text_outputs_only():
    """So that it can be read where it is not run, and does not change with every run."""
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert not {one.output_type for one in cell.outputs} - {"stream", "execute_result"}
            assert all(set(one.get("data", {})) <= {"text/plain"} for one in cell.outputs)
            assert len(text_of(cell)) < 3000
            assert str(Path.home()) not in text_of(cell)
