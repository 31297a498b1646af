import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from storerec.codes import CodeTable
from storerec.config import RunOptions
from storerec.data.catalogue import Catalogue
from storerec.data.histories import Histories
from storerec.data.splits import leave_one_out
from storerec.errors import BundleError, ConfigError, DataError, StorerecWarning, TrainingError
from storerec.evaluation.report import caption
from storerec.llm.backbone import BackboneConfig
from storerec.llm.progress import Progress
from storerec.pipeline import STORE, RunFolder, cluster, evaluate_run, fit, tokenize, train
from storerec.pipeline.bundling import backbone_place
from storerec.systems.store import StoreSystem
from tests import worlds
from tests.systems.conformance import check_system

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)
QUIET = Progress(enabled=False)


@pytest.fixture(scope="module")
def run(tiny_backbone, tmp_path_factory):
    catalogue, histories = worlds.data()
    config = worlds.config(tiny_backbone("llama"))
    run = RunFolder.create(tmp_path_factory.mktemp("run") / "r", catalogue, histories, config, OPTIONS)
    fit(run, QUIET)
    return run


@pytest.fixture(scope="module")
def store(run):
    return STORE.of_run(run)


def test_recommends_items_with_titles_and_falling_scores(store):
    found = store.recommend(["item-0", "item-3"], 10)
    assert len({one.item_id for one in found}) == 10
    assert all(one.title == store.catalogue.titles[int(one.item_id[5:])] for one in found)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    assert all(one.codes == tuple(store.table.codes[int(one.item_id[5:])]) for one in found)


def test_exclusions_and_unknown_ids(store):
    history = ["item-0", "item-3", "item-6"]
    ids = {one.item_id for one in store.recommend(history, 21, exclude_history=True)}
    assert len(ids) == 21
    assert not ids & set(history)
    assert "item-9" not in {one.item_id for one in store.recommend(history, 23, exclude=["item-9"])}
    with pytest.warns(StorerecWarning, match="1 unknown item ids dropped \\(nope\\)"):
        with_unknown = store.recommend([*history, "nope"], 5)
    assert with_unknown == store.recommend(history, 5)
    with pytest.raises(DataError, match="none of its ids"):
        store.recommend(["nope"], 5)
    with pytest.raises(DataError, match="no item 'nope'"):
        store.recommend(history, 5, exclude=["nope"])
    assert len(store.recommend([], 5)) == 5, "an empty history gets what is probable as a first item"


def test_store_is_a_system_like_the_others(run):
    system = StoreSystem(run.recommender, run.table, run.config.search, OPTIONS)
    check_system(system, run.split.test.histories, len(run.catalogue))


def test_tokenize_gives_stored_items_their_codes(store):
    frame = store.tokenize(store.catalogue)
    assert np.array_equal(np.array(frame["codes"].to_list()), store.table.codes)


@pytest.mark.parametrize("policy", ["bucket", "extra", "reassign"])
def test_tokenize_gives_known_items_published_codes_and_new_ones_codes_beside_them(run, policy):
    store, dense = STORE.of_run(run), run.dense.whole()
    first, distances = store.clusterer.assign(dense), store.clusterer.distances(dense)
    store.table = CodeTable.build(first, store.clusterer.sizes, policy=policy, distances=distances)
    frame = store.catalogue.frame.sample(fraction=1.0, shuffle=True, seed=1).select("kind", "title", "item_id")
    twin = frame.head(1).with_columns(item_id=pl.lit("new"))
    changed = frame.tail(1).with_columns(title=pl.lit("a purple umbrella"))
    frame = pl.concat([frame.head(-1), changed, twin]).with_columns(price=pl.lit("9"))
    codes = np.array(store.tokenize(Catalogue.from_frame(frame))["codes"].to_list())
    rows = store.catalogue.rows(frame["item_id"])
    assert np.array_equal(codes[:-2], store.table.codes[rows[:-2]])
    if policy != "bucket":
        assert len(np.unique(np.concatenate([store.table.codes, codes[-2:]]), axis=0)) == len(store.table) + 2
    assert np.array_equal(codes[-1][:3], codes[0][:3]) or policy == "reassign"
    with pytest.raises(ConfigError, match="lack the attribute 'kind'"):
        store.tokenize(Catalogue.from_frame(frame.drop("kind")))


def test_a_reopened_run_computes_without_dropout(run):
    again = RunFolder.open(run.path, OPTIONS)
    for part in (again.tokenizer, again.recommender):
        assert not any(module.training for module in part.modules())
        assert not any(parameter.requires_grad for parameter in part.parameters())
    assert not any(module.training for module in STORE.of_run(run).recommender.modules())


def test_explain(store):
    told = store.explain("item-5")
    row = 5
    assert told.text == {"title": "green coats number 5", "kind": "green coats"}
    assert told.below[0] == 24
    assert told.below[-1] == len(told.same_codes) + 1
    codes = store.table.codes
    beside = (codes[:, :-1] == codes[row, :-1]).all(1) & (codes[:, -1] != codes[row, -1])
    assert [list(one) for one, _ in told.siblings] == np.unique(codes[beside], axis=0).tolist()
    assert any(store.explain(item).siblings for item in store.catalogue.ids)
    for one, titles in told.siblings:
        rows = np.flatnonzero((codes == one).all(1))
        assert list(titles) == [store.catalogue.titles[int(r)] for r in rows[:3]]
    distances = (store.table.codes != store.table.codes[row]).sum(1)
    assert [d for _, _, d in told.neighbours] == sorted(np.delete(distances, row))[:5]
    with pytest.raises(DataError, match="no item"):
        store.explain("item-99")


def test_a_moved_bundle_gives_the_same_answers(store, tmp_path):
    store.save(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "moved")
    loaded = STORE.load(tmp_path / "moved", options=OPTIONS)
    history = ["item-1", "item-4"]
    assert loaded.recommend(history, 12) == store.recommend(history, 12)
    assert loaded.tokenize(store.catalogue).equals(store.tokenize(store.catalogue))
    assert loaded.explain("item-7") == store.explain("item-7")
    assert {p.suffix for p in (tmp_path / "moved").iterdir()} == {".json", ".safetensors"}
    with pytest.raises(DataError, match="pass the split"):
        loaded.evaluate()


def test_items_as_one_token_with_rows_of_their_own_survive_a_bundle(tiny_backbone, tmp_path):
    catalogue, histories = worlds.data()
    extra = {"history": "items", "item_rows": True, "code_share": 0.5, "tuning": "full", "layers": 2}
    phase = {"epochs": 3, "learning_rate": 3e-3, "average": 0.9}
    config = worlds.config(tiny_backbone("llama"), **extra, joint=phase, alone=phase)
    store = STORE.fit(catalogue, histories, config, folder=tmp_path / "run", options=OPTIONS)
    assert float(store.recommender.items.inputs.abs().sum()) > 0
    check_system(store.system, histories.select(np.arange(6)), len(catalogue))
    store.save(tmp_path / "bundle")
    history = ["item-1", "item-4"]
    for again in (STORE.load(tmp_path / "bundle", options=OPTIONS), STORE.of_run(RunFolder.open(tmp_path / "run"))):
        assert again.recommend(history, 12) == store.recommend(history, 12)
        assert again.score(history, ["item-7", "item-2"]) == store.score(history, ["item-7", "item-2"])


def test_a_bundle_on_another_backbone_is_refused(store, tmp_path, tiny_backbone):
    store.save(tmp_path / "a")
    with pytest.raises(BundleError, match="not the model this bundle was trained on"):
        STORE.load(tmp_path / "a", backbone=str(tiny_backbone("qwen")), options=OPTIONS)


@pytest.mark.parametrize("part", ["model.layers.1.mlp.up_proj", "model.norm", "model.embed_tokens"])
def test_a_backbone_with_one_other_weight_is_refused(store, tiny_backbone, tmp_path, part):
    store.save(tmp_path / "a")
    shutil.copytree(tiny_backbone("llama"), tmp_path / "same")
    assert STORE.load(tmp_path / "a", backbone=str(tmp_path / "same"), options=OPTIONS)
    tensors = load_file(tmp_path / "same" / "model.safetensors")
    tensors[f"{part}.weight"] = tensors[f"{part}.weight"] * 1.01
    save_file(tensors, tmp_path / "same" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BundleError, match="not the model this bundle was trained on"):
        STORE.load(tmp_path / "a", backbone=str(tmp_path / "same"), options=OPTIONS)


def test_the_backbone_is_loaded_at_the_commit_it_was_trained_on():
    hub = BackboneConfig(name="me/mine", gguf_file="q8.gguf")
    assert backbone_place(hub, "abc", None) == hub.model_copy(update={"revision": "abc"})
    pinned = hub.model_copy(update={"revision": "v2"})
    assert backbone_place(pinned, "abc", None) == pinned
    assert backbone_place(pinned, "abc", "/here") == hub.model_copy(update={"name": "/here"})


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_a_damaged_bundle_names_the_file(store, tmp_path, damage):
    store.save(tmp_path / "a")
    file = tmp_path / "a" / "recommender.safetensors"
    raw = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(raw[:-7])
    else:
        raw[-1] ^= 1
        file.write_bytes(raw)
    with pytest.raises(BundleError, match=r"recommender\.safetensors"):
        STORE.load(tmp_path / "a", options=OPTIONS)


def test_evaluation_is_written_with_plots(run):
    result = evaluate_run(run)
    assert set(result.systems) == {"store", "popularity", "markov"}
    value = result.to_json()["systems"]["store"]["item"]["recall@10"]
    assert 0 <= value["low"] <= value["value"] <= value["high"] <= 1
    assert (run.path / "evaluation.json").stat().st_size > 500
    for plot in ("slices", "codes", "losses"):
        assert (run.path / "plots" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")


def test_evaluation_excludes_histories_as_the_configuration_says(run, tmp_path):
    settings = run.config.evaluation.model_copy(update={"exclude_history": True})
    other = RunFolder(tmp_path, run.config.model_copy(update={"evaluation": settings}), OPTIONS)
    for part in ("data", "stages"):
        shutil.copytree(run.path / part, tmp_path / part)
    assert evaluate_run(other, plots=False).exclude_history
    assert (tmp_path / "evaluation.json").exists()
    assert not evaluate_run(other, plots=False, exclude_history=False).exclude_history
    assert (tmp_path / "evaluation-test-all.json").exists()


def test_evaluation_tells_what_the_split_left_out_under_one_bar(run):
    short = Histories.from_arrays(["short"], np.array([0, 1]), np.array([3], dtype=np.int32))
    split = leave_one_out(join(run.histories, short))
    console = Console(file=io.StringIO(), width=400)
    config = run.config.evaluation.model_copy(update={"batch_size": 4})
    result = STORE.of_run(run).evaluate(split, config=config, progress=Progress(console=console))
    assert result.notes == split.notes != ()
    assert result.to_json()["notes"] == list(split.notes)
    assert split.notes[0] in caption(result)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 1, lines
    assert f"{len(split.test)}/{len(split.test)}" in lines[0]


def join(one, two):
    offsets = np.concatenate([one.offsets, one.offsets[-1] + two.offsets[1:]])
    return Histories.from_arrays([*one.user_ids, *two.user_ids], offsets, np.concatenate([one.items, two.items]))


def test_decoding_never_reads_the_target(run):
    """Swap the targets: lists stay equal."""
    system = StoreSystem(run.recommender, run.table, run.config.search, OPTIONS)
    from storerec.evaluation import evaluate

    cases = run.split.test
    swapped = type(cases)(cases.histories, cases.targets[::-1].copy())
    settings = {"table": run.table, "config": run.config.evaluation, "seed": 0}
    one = evaluate([system], cases, run.split.train, **settings)
    two = evaluate([system], swapped, run.split.train, **settings)
    assert one.systems["store"].coverage == two.systems["store"].coverage
    lists = system.recommend(cases.histories, 10, exclude=_none())
    again = system.recommend(swapped.histories, 10, exclude=_none())
    assert np.array_equal(lists.items, again.items)


def _none():
    from storerec.systems.base import Exclusions

    return Exclusions()


def test_stages_take_up_where_the_folder_stands(tiny_backbone, tmp_path):
    catalogue, histories = worlds.data()
    config = worlds.config(tiny_backbone("llama"))
    run = RunFolder.create(tmp_path / "r", catalogue, histories, config, OPTIONS)
    with pytest.raises(TrainingError, match="storerec tokenize"):
        cluster(run, QUIET)
    with pytest.raises(TrainingError, match="storerec cluster"):
        train(run, QUIET)
    for stage in (tokenize, cluster, train):
        stage(RunFolder.open(tmp_path / "r", OPTIONS), QUIET)  # each in a new process, as it were
    again = RunFolder.open(tmp_path / "r", OPTIONS)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "r").rglob("*.safetensors")}
    fit(again, QUIET)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "r").rglob("*.safetensors")} == stamps
    other = worlds.config(tiny_backbone("llama"), max_history=3)
    with pytest.raises(TrainingError, match="another config"):
        RunFolder.create(tmp_path / "r", catalogue, histories, other, OPTIONS)
    fewer = histories.select(np.arange(10))
    with pytest.raises(TrainingError, match="another data"):
        RunFolder.create(tmp_path / "r", catalogue, fewer, config, OPTIONS)
    assert not list((tmp_path / "r").rglob("checkpoint-*"))


def test_a_run_folder_killed_while_it_is_made_is_made_again(run, tmp_path):
    made = RunFolder.create(tmp_path / "r", run.catalogue, run.histories, run.config, OPTIONS)
    for path in ("data/items.parquet", "data/histories.parquet", "run.json"):
        folder = tmp_path / path.replace("/", "-")
        (folder / "data").mkdir(parents=True)
        for whole in ("data/items.parquet", "data/histories.parquet"):
            if whole != path:
                shutil.copy(made.path / whole, folder / whole)
        name = Path(path)
        rest = folder / name.parent / f".{name.name}.x1y2.tmp"
        rest.write_bytes(b"half")
        RunFolder.create(folder, run.catalogue, run.histories, run.config, OPTIONS)
        assert RunFolder.open(folder).config == run.config
        assert not rest.exists()
    mine = tmp_path / "mine" / "data" / "items.parquet"
    mine.parent.mkdir(parents=True)
    run.catalogue.frame.write_parquet(mine)
    before = mine.read_bytes()
    with pytest.raises(TrainingError, match="no run folder"):
        RunFolder.create(tmp_path / "mine", run.catalogue, run.histories, run.config, OPTIONS)
    assert mine.read_bytes() == before


def test_a_run_older_than_a_setting_goes_on_with_its_default(run, tmp_path):
    made = RunFolder.create(tmp_path / "r", run.catalogue, run.histories, run.config, OPTIONS)
    record = json.loads((made.path / "run.json").read_text())
    del record["config"]["recommender"]["tie_codes"], record["config"]["evaluation"]["mrr"]
    (made.path / "run.json").write_text(json.dumps(record))
    RunFolder.create(tmp_path / "r", run.catalogue, run.histories, run.config, OPTIONS)
    del record["config"]["clusterer"]["clusters"]  # here the default is another value
    (made.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(TrainingError, match="another config"):
        RunFolder.create(tmp_path / "r", run.catalogue, run.histories, run.config, OPTIONS)


def test_equal_seeds_give_equal_runs_and_stages_equal_fit(run, tmp_path):
    again = RunFolder.create(tmp_path / "r", run.catalogue, run.histories, run.config, OPTIONS)
    for stage in (tokenize, cluster, train):
        stage(again, QUIET)
    np.testing.assert_array_equal(run.dense.whole(), again.dense.whole())
    for name in ("tokenizer", "means", "table", "recommender"):
        ours, theirs = run.arrays(name), again.arrays(name)
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours), name


def test_fit_in_a_temporary_folder_learns_the_walk(tiny_backbone):
    """The next item is determined by the last: a trained STORE must find it, an untrained one cannot."""
    catalogue, histories = worlds.data(users=60)
    config = worlds.config(
        tiny_backbone("llama"),
        tuning="full",
        alignment=False,
        centre_codes=True,
        alone={"epochs": 25, "learning_rate": 3e-3},
    )
    config = config.model_copy(update={"clusterer": config.clusterer.model_copy(update={"clusters": 16})})
    with warnings.catch_warnings():
        warnings.simplefilter("error", StorerecWarning)
        store = STORE.fit(catalogue, histories, config, options=OPTIONS)
    result = store.evaluate()
    value = {name: system.item_level["recall@1"].value for name, system in result.systems.items()}
    assert value["store"] > 0.6
    assert value["store"] > 3 * value["popularity"]


def test_no_user_with_two_training_items_is_a_clear_error(tiny_backbone, tmp_path):
    catalogue, _ = worlds.data()
    histories = Histories.from_arrays(["a", "b"], np.array([0, 3, 6]), np.arange(6, dtype=np.int32))
    with pytest.raises(DataError, match="two or more items"):
        RunFolder.create(tmp_path / "r", catalogue, histories, worlds.config(tiny_backbone("llama")), OPTIONS)
    short = Histories.from_arrays(["a", "b"], np.array([0, 2, 4]), np.arange(4, dtype=np.int32))
    with pytest.raises(DataError, match="no user has 3 items"):
        RunFolder.create(tmp_path / "r", catalogue, short, worlds.config(tiny_backbone("llama")), OPTIONS)
    assert not (tmp_path / "r").exists(), "nothing is written before the histories are known to do"


@pytest.mark.parametrize(
    ("settings", "field"), [({"max_history": 170}, "max_history"), ({"alignment_tokens": 511}, "alignment_tokens")]
)
def test_sequences_longer_than_the_model_reads_are_told_before_any_training(tiny_backbone, tmp_path, settings, field):
    catalogue, histories = worlds.data()
    config = worlds.config(tiny_backbone("gpt2"), **settings)  # 512 positions, 3 codes an item
    run = RunFolder.create(tmp_path / "r", catalogue, histories, config, OPTIONS)
    with pytest.raises(ConfigError, match=rf"recommender\.{field}.* reads 512"):
        tokenize(run, QUIET)
    assert not (tmp_path / "r" / "work").exists()
