"""The loop on a model of one number, whose steps can be followed by hand."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from storerec.errors import TrainingError
from storerec.llm.batching import BucketSampler
from storerec.llm.progress import Progress
from storerec.llm.trainable import TrainableModule
from storerec.llm.training import TrainingConfig, train

CPU = torch.device("cpu")


class Number(TrainableModule):
    """Learns the mean of what it is shown; ``frozen`` stands for a backbone."""

    def __init__(self, name="number"):
        super().__init__()
        self.name, self.frozen = name, nn.Parameter(torch.ones(1000))
        setattr(self, name, nn.Parameter(torch.zeros(())))

    def trained(self):
        return {self.name: getattr(self, self.name)}

    def forward(self, shown):
        return {"loss": ((getattr(self, self.name) - shown) ** 2).mean()}


class Shown(torch.utils.data.Dataset):
    """Twelve numbers, others each epoch."""

    def __init__(self, scale=1.0):
        self.scale, self.epochs = scale, []
        self.set_epoch(0)
        self.epochs = []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)
        self.numbers = self.scale * np.random.default_rng(epoch).uniform(4, 6, 12)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.numbers[index]


def collate(chosen):
    return {"shown": torch.tensor(chosen, dtype=torch.float32)}


def run(folder, model, *, dataset=None, validate=None, **settings):
    config = TrainingConfig(**{"learning_rate": 0.05, "epochs": 4, "schedule": "constant", "warmup": 0} | settings)
    sampler = BucketSampler(np.ones(12), np.zeros(12, np.int64), [4], seed=0)  # 3 batches an epoch
    return train(
        model, dataset or Shown(), collate, sampler, config, folder, seed=0, label="number",
        progress=Progress(enabled=False), device=CPU, validate=validate, metric="good" if validate else None,
    )  # fmt: skip


class Validation:
    """Gives the values it is told, and notes the model's number each time."""

    def __init__(self, model, values):
        self.model, self.values, self.seen = model, iter(values), []

    def __call__(self):
        assert not self.model.training
        self.seen.append(float(self.model.number))
        return {"good": next(self.values)}


def test_it_learns_and_freezes_again(tmp_path):
    model, dataset = Number(), Shown()
    log = run(tmp_path, model, dataset=dataset, epochs=40, learning_rate=0.1)
    assert float(model.number) == pytest.approx(5, abs=0.3)
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0] / 10
    assert dataset.epochs == sorted(dataset.epochs), "never back"
    assert set(dataset.epochs) == set(range(40))
    assert json.loads((tmp_path / "log.json").read_text()) == log
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(model.frozen, torch.ones(1000))


def test_checkpoints_hold_what_is_trained_and_no_backbone(tmp_path):
    run(tmp_path, Number())
    from safetensors.torch import load_file

    assert set(load_file(tmp_path / "checkpoint-12" / "model.safetensors")) == {"number"}


@pytest.mark.parametrize(("settings", "steps"), [({"epochs": 1.5}, 5), ({"max_steps": 7}, 7), ({"epochs": 2}, 6)])
def test_the_last_step_is_validated_whatever_the_length(tmp_path, settings, steps):
    model = Number()
    validation = Validation(model, range(99))
    log = run(tmp_path, model, validate=validation, **settings)
    assert [entry["step"] for entry in log if "eval_good" in entry] == [*range(3, steps, 3), steps]
    assert float(model.number) == validation.seen[-1], "the last was the best"


def test_early_stopping_keeps_the_best(tmp_path):
    model = Number()
    validation = Validation(model, [0.5, 0.9, 0.8, 0.7, 0.6, 1.0])
    log = run(tmp_path, model, validate=validation, epochs=10, checkpoint_steps=2, patience=2)
    assert len(validation.seen) == 4, "two validations without improvement after the best"
    assert float(model.number) == validation.seen[1]
    assert len(set(validation.seen)) == 4
    assert max(entry["step"] for entry in log) == 8


def test_without_patience_all_steps_are_made_and_the_best_kept(tmp_path):
    model = Number()
    validation = Validation(model, [0.5, 0.9, 0.8, 0.7])
    run(tmp_path, model, validate=validation)
    assert len(validation.seen) == 4
    assert float(model.number) == validation.seen[1]


def test_a_budget_of_no_minutes_is_one_step_that_is_validated_and_saved(tmp_path):
    model = Number()
    validation = Validation(model, [0.4])
    run(tmp_path, model, validate=validation, max_minutes=0)
    assert validation.seen == [float(model.number)]
    assert float(model.number) != 0
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]


def test_a_loss_that_is_no_number_ends_training(tmp_path):
    with pytest.raises(TrainingError, match="number: the loss is inf at step 1; lower the learning rate"):
        run(tmp_path, Number(), dataset=Shown(1e30))


@pytest.mark.parametrize("values", [[0.5, 0.9, 0.8, 0.7], None])
@pytest.mark.parametrize("settings", [{}, {"max_steps": 10}, {"patience": 1, "epochs": 30}])
def test_a_training_that_was_over_takes_no_step_more(tmp_path, values, settings):
    """Its process was killed after the last checkpoint, before anyone noted the end."""
    model = Number()
    log = run(
        tmp_path,
        model,
        validate=Validation(model, values) if values else None,
        **settings | ({} if values else {"epochs": 4}),
    )
    (tmp_path / "log.json").unlink()
    again = Number()
    validation = Validation(again, [])
    assert run(
        tmp_path, again, validate=validation if values else None, **settings | ({} if values else {"epochs": 4})
    ) == [entry for entry in log if "train_runtime" not in entry]
    assert float(again.number) == float(model.number)
    assert (tmp_path / "log.json").exists()


def test_a_checkpoint_without_its_mark_is_not_trusted(tmp_path):
    whole, broken = Number(), Number()
    run(tmp_path / "whole", whole)
    run(tmp_path / "broken", broken)
    newest = tmp_path / "broken" / "checkpoint-12"
    (newest / "whole").unlink()
    (newest / "model.safetensors").write_bytes(b"half")
    again = Number()
    run(tmp_path / "broken", again)
    assert float(again.number) == float(whole.number)


def test_a_checkpoint_of_another_model_is_an_error(tmp_path):
    run(tmp_path, Number())
    for mark in tmp_path.glob("checkpoint-*/whole"):
        mark.write_text("")
    with pytest.raises(TrainingError, match="another configuration"):
        run(tmp_path, Number("other"), epochs=5)


def test_training_leaves_transformers_verbosity_alone(tmp_path):
    from transformers.utils import logging

    before = logging.get_verbosity()
    try:
        logging.set_verbosity_info()
        run(tmp_path, Number(), epochs=1)
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity(before)


class StoppedError(Exception):
    pass


def averages(tmp_path, decay, **settings):
    """A run that validates often: the model, and the number at each validation."""
    model = Number()
    validation = Validation(model, range(99))
    run(tmp_path, model, validate=validation, average=decay, checkpoint_steps=1, learning_rate=0.5, **settings)
    return model, validation.seen


def test_averages_are_what_is_validated_and_kept(tmp_path):
    raw = averages(tmp_path / "raw", None)[1]
    model, seen = averages(tmp_path / "averaged", 0.8)
    expected, average = [], 0.0
    for step, number in enumerate(raw, 1):  # the weights themselves move as without averaging
        decay = min(0.8, step / (step + 3))
        average = decay * average + (1 - decay) * number
        expected.append(average)
    assert seen == pytest.approx(expected, rel=1e-5)
    assert float(model.number) == pytest.approx(expected[-1], rel=1e-5)


def test_the_best_average_is_kept_and_not_the_last(tmp_path):
    model = Number()
    validation = Validation(model, [0.1, 0.9, 0.2, 0.3])
    run(tmp_path, model, validate=validation, average=0.8)
    assert float(model.number) == validation.seen[1]


def test_an_interrupted_average_goes_on_exactly(tmp_path):
    whole, seen = averages(tmp_path / "whole", 0.8)

    class Breaks(Validation):
        def __call__(self):
            if len(self.seen) == 7:
                raise StoppedError
            return super().__call__()

    broken = Number()
    with pytest.raises(StoppedError):
        run(tmp_path / "broken", broken, validate=Breaks(broken, range(99)), average=0.8, checkpoint_steps=1,
            learning_rate=0.5)  # fmt: skip
    again = Number()
    validation = Validation(again, range(7, 99))
    run(tmp_path / "broken", again, validate=validation, average=0.8, checkpoint_steps=1, learning_rate=0.5)
    assert validation.seen == seen[7:]
    assert float(again.number) == float(whole.number)
    ended = Number()
    run(tmp_path / "broken", ended, validate=validation, average=0.8, checkpoint_steps=1, learning_rate=0.5)
    assert float(ended.number) == float(whole.number), "read back from a training that was over"
