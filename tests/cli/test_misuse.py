"""What goes wrong most often with tables of one's own: each is a one-line error or does what is stated."""

import json
import re

import pytest

from tests.cli.conftest import call, events_csv, is_error, is_fine, items_csv


def test_wrong_column_names_are_named_with_the_flag(shop):
    movie = shop.write("movies.csv", items_csv().replace("item_id", "movie", 1))
    assert is_error(shop.fit(items=movie), "movies.csv", "'item_id'", "'movie'", "--item-id")
    viewer = shop.write("views.csv", events_csv().replace("user_id", "viewer", 1))
    assert is_error(shop.fit(events=viewer), "views.csv", "'user_id'", "'viewer'", "--user-id")
    when = shop.write("when.csv", events_csv().replace("timestamp", "when", 1))
    assert is_error(shop.fit(events=when), "when.csv", "'timestamp'", "'when'", "--timestamp")
    assert is_error(shop.fit("--text", "plot"), "items.csv", "'plot'", "--text")
    assert is_error(shop.fit("--title", "name"), "'name'", "title")


def test_a_wrong_sequences_column_is_named_with_its_flag(shop):
    assert is_error(shop.fit("--sequences", "past"), "'past'", "--sequences")


def test_named_columns_are_read(shop):
    head = "user_id,item_id,timestamp", "viewer,movie,when"
    items = shop.write("m.csv", items_csv().replace("item_id", "movie", 1))
    events = shop.write("v.csv", events_csv().replace(*head))
    columns = ["--item-id", "movie", "--user-id", "viewer", "--timestamp", "when", "--text", "title"]
    assert is_fine(shop.fit(*columns, items=items, events=events))


def test_missing_files_and_folders(shop):
    assert is_error(shop.fit(items=shop.folder / "nowhere.csv"), "nowhere.csv", "no such file")
    assert is_error(shop.fit(events=shop.folder), str(shop.folder))
    assert is_error(call("fit", "--out", shop.run, "--config", shop.config), "--items", "--events", "--data")


@pytest.mark.parametrize("name", ["items", "events"])
def test_empty_files(shop, name):
    empty = shop.write("empty.csv", "")
    assert is_error(shop.fit(**{name: empty}), "empty.csv", "empty")
    header = shop.write("header.csv", (items_csv() if name == "items" else events_csv()).splitlines()[0])
    assert is_error(shop.fit(**{name: header}), "header.csv", f"there are no {name}")


def test_not_utf8(shop):
    latin = shop.write("latin.csv", items_csv().replace("Film number 7", "Les Misérables").encode("latin-1"))
    assert is_error(shop.fit(items=latin), "latin.csv", "line 9", "utf-8")
    assert is_fine(shop.fit("--encoding", "latin-1", items=latin))


def test_bad_rows_can_be_skipped_with_a_warning(shop):
    broken = shop.write("broken.csv", items_csv() + "i99,one field too many,Comedy,!\n")
    assert is_error(shop.fit(items=broken), "broken.csv", "line 14")
    result = shop.fit("--bad-rows", "skip", items=broken)
    assert is_fine(result)
    assert "warning: " in result.stderr
    assert "line 14" in result.stderr


def test_broken_json_lines(shop):
    rows = [json.dumps({"item_id": f"i{i}", "title": f"Film {i}"}) for i in range(12)]
    rows[4] = rows[4][:-3]
    assert is_error(shop.fit(items=shop.write("items.jsonl", "\n".join(rows))), "items.jsonl", "line 5", "JSON")


def test_duplicate_ids(shop):
    twice = shop.write("twice.csv", items_csv() + "i3,Another film,Drama\n")
    assert is_error(shop.fit(items=twice), "twice.csv", "line 14", "'i3'")


def test_bad_timestamp(shop):
    lines = events_csv().splitlines()
    lines[6] = "u5,i5,yesterday"
    assert is_error(shop.fit(events=shop.write("bad.csv", "\n".join(lines))), "bad.csv", "line 7", "timestamp")


def test_unknown_items_are_dropped_with_a_warning_or_refused(shop):
    strange = shop.write("strange.csv", events_csv() + "u0,i77,900\n")
    assert is_error(shop.fit("--unknown", "error", events=strange), "strange.csv", "'i77'")
    result = shop.fit(events=strange)
    assert is_fine(result)
    assert "1 of 31 events were left out" in result.stderr
    assert "i77" in result.stderr


def test_no_event_of_a_known_item(shop):
    other = shop.write("other.csv", re.sub(r",i(\d)", r",x\1", events_csv()))
    assert is_error(shop.fit(events=other), "other.csv", "none of the 30 events")


def test_all_users_too_short(shop):
    rows = [f"u{i},i{i},1" for i in range(9)]
    short = shop.write("short.csv", "\n".join(["user_id,item_id,timestamp", *rows]))
    assert is_error(shop.fit("--no-progress", events=short), "no user has 3 items")
    assert not shop.run.exists()


def test_a_user_with_one_event_and_two_items_with_one_text_are_kept(shop):
    items = shop.write("same.csv", items_csv() + "i12,Film number 3,Comedy\n")
    events = shop.write("lonely.csv", events_csv(13) + "lonely,i1,5\n")
    assert is_fine(shop.fit(items=items, events=events))
    found = shop.folder / "found.json"
    assert is_fine(call("recommend", shop.run, "--history", "i1", "-k", 13, "--json", found))
    ids = [row["item_id"] for row in json.loads(found.read_text(encoding="utf-8"))["recommendations"]]
    assert sorted(ids) == sorted(f"i{i}" for i in range(13))


def test_unknown_preset_and_malformed_settings(shop):
    assert is_error(shop.fit("--preset", "huge"), "huge", "cpu", "paper-mind", "paper-yelp")
    assert is_error(shop.fit(config=shop.folder / "none.json"), "none.json", "no such file")
    assert is_error(shop.fit(config=shop.write("c.json", "{'beam': 3}")), "c.json", "not valid JSON")
    unknown = shop.write("u.json", json.dumps({"tokenizer": {"dense_token": 4}}))
    assert is_error(shop.fit(config=unknown), "u.json", "tokenizer.dense_token")
    wrong = shop.write("w.json", json.dumps({"search": {"beam": 0}}))
    assert is_error(shop.fit(config=wrong), "w.json", "search.beam")


def test_an_unknown_backbone(shop):
    settings = json.loads(shop.config.read_text(encoding="utf-8")) | {"backbone": {"name": "no/model-of-mine"}}
    assert is_error(shop.fit(config=shop.write("b.json", json.dumps(settings))), "no/model-of-mine")


def test_a_run_of_other_data_or_settings(shop):
    assert is_fine(shop.fit())
    more = shop.write("more.csv", events_csv() + "u9,i1,5\n")
    assert is_error(shop.fit(events=more), str(shop.run))
    assert is_error(shop.fit("--seed", 1), str(shop.run))
    settings = json.loads(shop.config.read_text(encoding="utf-8")) | {"search": {"beam": 3}}
    assert is_error(shop.fit(config=shop.write("other.json", json.dumps(settings))), str(shop.run))


def test_a_run_folder_that_is_a_file(shop):
    assert is_error(shop.fit(out=shop.items), "items.csv")


def test_datasets(shop):
    together = ["--data", "mind:x", "--items", shop.items, "--out", shop.run]
    assert is_error(call("fit", *together), "--data", "--items")
    for flag in ("--text", "--title", "--item-id", "--user-id", "--timestamp", "--sequences", "--encoding"):
        assert is_error(call("fit", "--data", "mind:x", flag, "other", "--out", shop.run), "--data", flag)
    assert is_error(call("fit", "--data", "mind:x", "--in-order", "--out", shop.run), "--data", "--in-order")
    assert is_error(call("fit", "--data", "netflix:x", "--out", shop.run), "netflix", "mind")
    assert is_error(call("fit", "--data", f"mind:{shop.folder}/none", "--out", shop.run), "none")
    assert is_error(call("fit", "--data", "yelp", "--out", shop.run), "yelp", "folder")


def test_places_that_no_table_is_at(shop):
    assert is_error(shop.fit(items="what://x/items.csv"), "what://x/items.csv", "what://", "s3://")
    assert is_error(shop.fit(events=shop.folder), str(shop.folder), "is a folder", "kinds")
    assert is_error(
        call("export", "nowhere", "--what", "model", "--out", "s3://shop/model"), "s3://shop/model", "folder"
    )
