"""``storerec add-items`` and ``remove-items`` on a small shop."""

import json
import shutil

import pytest

from tests.cli.conftest import Shop, call, is_error, is_fine

NEW = "item_id,title,genre\nn1,Film number 100,Comedy\nn2,Something else,Horror\n"


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def copied(tmp_path, tiny_backbone, fitted):
    """A copy of the fitted shop, with a table of new items."""
    shop = Shop(tmp_path, tiny_backbone("llama"))
    shutil.copytree(fitted.run, shop.run)
    shop.write("new.csv", NEW)
    return shop


def listed(shop, history="i1,i2"):
    out = shop.folder / "list.json"
    assert is_fine(call("recommend", shop.run, "--history", history, "-k", 20, "--json", out))
    return [row["item_id"] for row in read(out)["recommendations"]]


def test_items_are_added_and_removed_and_every_verb_knows(copied, tmp_path):
    result = call("add-items", copied.run, tmp_path / "new.csv", "--json", tmp_path / "a.json")
    assert is_fine(result)
    assert "2 added; 14 items in all" in result.stdout
    assert "need" in result.stdout
    found = read(tmp_path / "a.json")
    assert [row["status"] for row in found["items"]] == ["added", "added"]
    assert found["codebook_fit"]["items"] == 2
    assert {"n1", "n2"} < set(listed(copied))
    result = call("remove-items", copied.run, "--items", "n1,i3")
    assert is_fine(result)
    assert "2 removed." in result.stdout
    assert not {"n1", "i3"} & set(listed(copied))
    assert not {"n1", "i3"} & set(listed(copied, "n1,i3"))
    assert is_fine(call("inspect", copied.run, "--item", "n2"))
    assert is_fine(call("score", copied.run, "--history", "i1,n1", "--candidates", "n2,i4"))
    assert is_error(call("score", copied.run, "--history", "i1", "--candidates", "n1"), "n1", "removed")
    copied.write("new.csv", NEW.replace("Something else", "Something new"))
    result = call("add-items", copied.run, tmp_path / "new.csv")
    assert "1 updated, 1 restored; 14 items in all" in result.stdout
    assert "n1" in listed(copied)
    assert "Something new" in call("inspect", copied.run, "--item", "n2").stdout
    # the stages' results are the run's own: what was added is beside them
    assert is_fine(copied.fit())
    assert "n1" in listed(copied)


def test_what_cannot_be_added_or_removed_is_one_line(copied, tmp_path):
    before = listed(copied)
    copied.write("new.csv", NEW + "n1,Twice,Drama\n")
    assert is_error(call("add-items", copied.run, tmp_path / "new.csv"), "'n1' occurs a second time", "line 4")
    copied.write("new.csv", NEW + "n3,,\n")
    assert is_error(call("add-items", copied.run, tmp_path / "new.csv"), "'n3'", "no text")
    copied.write("new.csv", NEW.replace("genre", "colour"))
    assert is_error(call("add-items", copied.run, tmp_path / "new.csv"), "genre")
    assert is_error(call("add-items", copied.run, tmp_path / "none.csv"), "none.csv")
    assert is_error(call("add-items", tmp_path, copied.items), str(tmp_path))
    assert is_error(call("remove-items", copied.run, "--items", "i1,nobody"), "nobody")
    (copied.run / "bundle.changes.sqlite").write_bytes(b"something else" * 100)
    assert is_error(call("remove-items", copied.run, "--items", "i1"), "bundle.changes.sqlite")
    (copied.run / "bundle.changes.sqlite").unlink()
    assert listed(copied) == before
