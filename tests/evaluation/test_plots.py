import numpy as np
import pytest
from matplotlib.image import imread

from storerec.codes import CodeTable
from storerec.errors import DataError
from storerec.evaluation import (
    Evaluation,
    Interval,
    SliceResult,
    SystemResult,
    plot_code_utilisation,
    plot_losses,
    plot_slices,
)


def evaluation():
    def result(x):
        metric = {"recall@10": Interval(value=x, low=x - 0.02, high=x + 0.03)}
        slices = {"never": SliceResult(n=0), "1-5": SliceResult(n=9, item=metric)}
        return SystemResult(item_level=metric, slices=slices, coverage={"coverage@10": x}, seconds=1.0)

    return Evaluation(
        systems={"store": result(0.4), "markov": result(0.2)},
        reference="store",
        differences={},
        users=9,
        n_items=30,
        ks=(10,),
        seed=0,
        protocol=None,
        exclude_history=False,
        targets_in_history=0,
        confidence=0.95,
        bootstrap_samples=100,
    )


def check_png(path):
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    image = imread(path)
    assert min(image.shape[:2]) > 200
    ink = (image[..., :3].min(axis=-1) < 0.9).mean()
    assert 0.01 < ink < 0.9
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file is left


def test_plots_are_images_with_ink(tmp_path):
    table = CodeTable.build(np.random.default_rng(0).integers(0, 16, (200, 3)), (16, 16, 16))
    phases = {
        "tokenizer": [{"step": s, "loss": 5 / (s + 1)} for s in range(60)],
        "recommender": [{"epoch": e, "loss": 4 - e, "validation_loss": 5 - e, "note": "x"} for e in range(3)],
    }
    draws = {
        "slices": lambda p: plot_slices(evaluation(), p),
        "table": lambda p: plot_code_utilisation(table, p),
        "report": lambda p: plot_code_utilisation(table.report(), str(p)),
        "losses": lambda p: plot_losses(phases, p),
    }
    for name, draw in draws.items():
        folder = tmp_path / name
        draw(folder / "plot.png")
        check_png(folder / "plot.png")


def test_nothing_to_plot_is_a_data_error_and_leaves_no_file(tmp_path):
    with pytest.raises(DataError, match="recall@7"):
        plot_slices(evaluation(), tmp_path / "a.png", "recall@7")
    with pytest.raises(DataError, match="no training phase"):
        plot_losses({}, tmp_path / "a.png")
    with pytest.raises(DataError, match="'x' has no loss"):
        plot_losses({"x": [{"step": 1}]}, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
