"""Which examples a run trains on, which it is measured on, and which it leaves alone, for every data set and size."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from anabook import training
from anabook.datasets import store
from anabook.experiments import make, parts
from anabook.experiments import run as runs
from anabook.experiments.tasks import SIZES, TASKS

N_TRAIN, N_VALIDATION, N_TEST, N_FOLDS = 240, 30, 50, 5
BASE = 200  # of the digits that a number is written in


def numbered(task, grouped):
    """A data set of the task's shape whose examples carry their numbers, those of the three parts mixed."""
    n, rng = N_TRAIN + N_VALIDATION + N_TEST, np.random.default_rng(1)
    digits = np.stack([np.arange(n) // BASE, np.arange(n) % BASE], 1).astype(np.uint8)
    inputs = rng.integers(0, 256, (n, *task.shape), np.uint8)
    if task.shape[0] > 1:  # in whole channels, which averages over blocks of pixels keep
        inputs[:, :2] = digits[:, :, np.newaxis, np.newaxis]
    else:
        inputs[:, 0, 0, :2] = digits
    split = rng.permutation(np.repeat([0, 1, 2], [N_TRAIN, N_VALIDATION, N_TEST])).astype(np.uint8)
    group = np.arange(n) // 6 if grouped else np.full(n, -1)
    labels = rng.permutation(np.arange(n) % task.classes)
    names = tuple(map(str, range(task.classes)))
    kind = "stand-in" if "stand-in" in task.name else "unverified"
    return store.Dataset(task.name, inputs, labels, split, group, names, store.Provenance(kind, "numbers", "-", "-"))


def numbers(inputs, task):
    x = np.asarray(inputs)
    first, second = (x[:, 0].mean((1, 2)), x[:, 1].mean((1, 2))) if task.shape[0] > 1 else x[:, 0, 0, :2].T
    return (np.rint(first) * BASE + np.rint(second)).astype(int)


def forget():
    parts._arrays.cache_clear()
    parts._unused.cache_clear()


@pytest.fixture(params=[(name, size, grouped) for name in TASKS for size in SIZES for grouped in (False, True)])
def prepared(request, tmp_path, monkeypatch):
    name, size, grouped = request.param
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path))
    dataset = numbered(TASKS[name], grouped)
    store.save(dataset)
    forget()
    caught = {}

    def fit(config, net, train, held_out, **how):
        caught.update(config=config, train=train, held_out=held_out)
        score = training.Score(0.0, 0.0)
        test = None if config.fold is None else score
        return [SimpleNamespace(train=score, test=test, noisy_test=None, seconds=0.0)] * config.epochs

    def evaluate(net, part):
        caught.setdefault("measured", []).append(part)
        return training.Score(0.0, 0.0)

    monkeypatch.setattr(runs, "build", lambda config: __import__("torch").nn.Identity())
    monkeypatch.setattr(runs, "_fit", fit)
    monkeypatch.setattr(runs.training, "evaluate", evaluate)
    n_train = 180 if size == "scaled" else 0

    def rows(fold, unused=0):
        """The numbers of the examples that a run trains on, of those that it is measured on, and of the unused ones."""
        config = make(name, "uniform-mode-static", fold, size=size, n_train=n_train, n_folds=N_FOLDS, unused=unused)
        caught.clear()
        record = runs.run(config)
        assert caught["config"] == config
        at_the_end = caught.get("measured", [])
        held_out = caught["held_out"] if fold is not None else at_the_end.pop(0)
        assert held_out is caught["held_out"]  # what curves are measured on and what the end is are one
        taken = [caught["train"], held_out, *at_the_end]
        assert list(record["examples"].values()) == [len(part.labels) for part in taken] and len(taken) <= 3
        assert ("unused" in record) == (len(taken) == 3)
        found = []
        for part in taken:
            found.append(numbers(part.inputs, TASKS[name]))
            assert np.array_equal(dataset.labels[found[-1]], part.labels)
        return found

    yield dataset, n_train, rows
    forget()


def test_a_run_takes_the_rows_that_its_config_says_and_no_others(prepared):
    dataset, n_train, rows = prepared
    training, test = np.flatnonzero(dataset.split == 0), np.flatnonzero(dataset.split == 2)
    trained, measured = rows(None)
    assert np.array_equal(measured, test) and len(trained) == (n_train or len(training))
    assert set(trained) <= set(training) and len(set(trained)) == len(trained)
    grouped = (dataset.group >= 0).all()
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(N_FOLDS, shuffle=True, random_state=0)
    labels, groups = dataset.labels[trained], dataset.group[trained] if grouped else None
    expected = list(splitter.split(np.zeros(len(trained)), labels, groups))
    seen = []
    for fold, (inside, outside) in enumerate(expected):
        trained_on, measured_on = rows(fold)
        assert np.array_equal(trained_on, trained[inside]) and np.array_equal(measured_on, trained[outside])
        assert not set(trained_on) & set(measured_on) and not set(test) & (set(trained_on) | set(measured_on))
        if grouped:
            assert not set(dataset.group[trained_on]) & set(dataset.group[measured_on])
        seen.extend(measured_on)
    assert sorted(seen) == sorted(trained)  # each is measured on once


def test_what_is_measured_besides_is_in_no_fold_and_the_same_for_all_of_them(prepared):
    dataset, n_train, rows = prepared
    in_folds, _ = rows(None)
    grouped = (dataset.group >= 0).all()
    left = np.setdiff1d(np.flatnonzero(dataset.split == 0), in_folds)
    if grouped:  # of nobody that a network may have been trained on
        left = left[~np.isin(dataset.group[left], dataset.group[in_folds])]
    for n in (1, 25, 10_000):
        unused = [rows(fold, n)[2:] for fold in (*range(N_FOLDS), None)]
        if not n_train or not len(left):
            assert unused == [[]] * len(unused)
            continue
        assert all(len(each) == 1 and np.array_equal(each[0], unused[0][0]) for each in unused)
        assert set(unused[0][0]) <= set(left) and len(set(unused[0][0])) == min(n, len(left))
    if n_train and not grouped:  # every class has its share
        few = np.bincount(dataset.labels[rows(0, 30)[2]], minlength=len(dataset.classes))
        assert few.max() - few.min() <= 2
