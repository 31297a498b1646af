"""What other programs can use: a table of codes, and a model that plain transformers generates with."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from storerec.config import RunOptions
from storerec.errors import BundleError, ConfigError
from storerec.llm.progress import Progress
from storerec.pipeline import STORE, RunFolder, fit
from storerec.pipeline.export import export_codes, export_model, items_of, load_processor
from tests import worlds

OPTIONS = RunOptions(device="cpu", dtype="float32", progress=False)


def fitted(tiny_backbone, folder, family, **changes):
    catalogue, histories = worlds.data()
    config = worlds.config(tiny_backbone(family), **changes)
    run = RunFolder.create(folder / family, catalogue, histories, config, OPTIONS)
    return fit(run, Progress(enabled=False))


CASES = [
    ("llama", {"normaliser": "vocabulary"}),
    ("llama", {"normaliser": "children", "item_rows": True, "history": "items"}),
    ("gpt2", {"normaliser": "position", "layers": 1}),
    ("opt", {"normaliser": "children", "tuning": "full"}),
    ("qwen", {"normaliser": "position", "history": "items"}),
]


@pytest.mark.parametrize(("family", "changes"), CASES)
def test_transformers_generates_what_the_search_finds(tiny_backbone, tmp_path, family, changes):
    store = fitted(tiny_backbone, tmp_path, family, **changes)
    if store.recommender.settings.item_rows:  # scores of whole items are no part of what a language model writes
        store.config = store.config.model_copy(
            update={"search": store.config.search.model_copy(update={"item_weight": 0.0})}
        )
        store = STORE(
            store.catalogue, store.config, store.tokenizer, store.clusterer, store.table, store.recommender, OPTIONS
        )
    export_model(store, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    record = json.loads((tmp_path / "model" / "storerec.json").read_text())
    history = ["item-0", "item-3", "item-5"]
    rows = store.catalogue.rows(history)
    if record["history"] == "items":
        words = [f"<item {item}>" for item in history]
    else:
        words = [f"<code {p + 1}: {code}>" for row in rows for p, code in enumerate(store.table.codes[row])]
    begin = store.recommender.backbone.encode([record["instruction"]], max_tokens=999, begin=True).flat.tolist()
    prompt = torch.tensor([begin + tokenizer.convert_tokens_to_ids(words)])
    plain = tokenizer(record["instruction"] + "".join(words), add_special_tokens=False)["input_ids"]
    assert plain[-len(words) :] == prompt[0, -len(words) :].tolist()  # words are found in a text too
    processor = load_processor(tmp_path / "model", prompt.shape[1])
    beam = 6
    out = model.generate(prompt, logits_processor=[processor], **processor.generation(beam), pad_token_id=0,
                         return_dict_in_generate=True, output_scores=True)  # fmt: skip
    found = items_of(tmp_path / "model", out.sequences[:, prompt.shape[1] :].numpy())
    store.system._search.config = store.config.search.model_copy(update={"beam": beam})
    ours = store.recommend(history, beam)
    # ours lists items, theirs tuples: items of one tuple stand together, and their scores lack the share
    shares = {item: float(store.table.shares[row]) for row, item in enumerate(store.catalogue.ids)}
    theirs: dict[str, float] = {}
    for items, score in zip(found, out.sequences_scores.tolist(), strict=True):
        theirs |= {item: max(score, theirs.get(item, -np.inf)) for item in items}
    assert len(ours) == beam
    for one in ours:
        assert one.score == pytest.approx(theirs[one.item_id] + shares[one.item_id], abs=2e-4)


def test_a_table_of_codes_is_parquet(tiny_backbone, tmp_path):
    store = fitted(tiny_backbone, tmp_path, "llama")
    export_codes(store.catalogue.ids, store.table.codes, tmp_path / "codes.parquet")
    frame = pl.read_parquet(tmp_path / "codes.parquet")
    assert frame.schema == {"item_id": pl.String, "codes": pl.List(pl.Int32)}
    assert frame["item_id"].equals(store.catalogue.ids)
    assert np.array_equal(np.array(frame["codes"].to_list()), store.table.codes)


def test_what_no_word_stands_for_and_places_that_are_taken_are_refused(tiny_backbone, tmp_path):
    store = fitted(tiny_backbone, tmp_path, "llama", item_rows=True, history="codes")
    with pytest.raises(ConfigError, match="rows of their own"):
        export_model(store, tmp_path / "model")
    (tmp_path / "there").mkdir()
    other = fitted(tiny_backbone, tmp_path / "other", "llama")
    with pytest.raises(BundleError, match="exists already"):
        export_model(other, tmp_path / "there")
    with pytest.raises(BundleError, match=r"storerec\.json"):
        load_processor(tmp_path / "there", 3)
    other.save(tmp_path / "bundle")
    with pytest.raises(ConfigError, match="inference only"):
        export_model(STORE.load(tmp_path / "bundle", options=OPTIONS), tmp_path / "model")
    export_model(STORE.load(tmp_path / "bundle", options=OPTIONS, for_inference=False), tmp_path / "model")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".model")]
