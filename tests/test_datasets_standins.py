"""Stand-ins: the same bytes everywhere, the right shapes, and never passed off as the real thing."""

import hashlib

import numpy as np
import pytest

from anabook.datasets import prepare, speech, standins, store


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("make", "expected"),
    [(standins.objects, "f332585ba90aa16c"), (standins.house_numbers, "a37a8a1141af9809")],
    ids=["objects", "numbers"],
)
def test_pictures_are_the_same_bytes_on_every_machine(make, expected):
    data = make(300, 100)
    assert data.inputs.shape == (400, 3, 32, 32) and data.inputs.dtype == np.uint8
    assert digest(data.inputs) == expected
    assert digest(make(300, 100, seed=1).inputs) != expected


def test_clips_are_the_same_bytes_on_every_machine():
    clips = np.stack([standins.word(label, 3, 7) for label in range(12)])
    assert clips.shape == (12, speech.RATE) and np.abs(clips).max() <= 1
    assert np.array_equal(clips * 2**15, np.round(clips * 2**15))
    assert digest((clips * 2**15).astype("<i2")) == "4ad9ead3d5e1bb8d"


@pytest.mark.parametrize("make", [standins.objects, standins.house_numbers])
def test_picture_classes_are_equally_frequent_and_visible(make):
    data = make(1000, 200)
    counts = list(data.counts().values())
    assert max(counts) - min(counts) == 0 and len(counts) == 10
    assert len(data.train[0]) == 1000 and len(data.test[0]) == 200
    # An average picture of a class differs from another's: there is something to learn.
    means = np.stack(
        [np.abs(data.inputs[data.labels == c].astype(float) - data.inputs.mean()).mean((0, 1)) for c in range(10)]
    )
    assert all(np.abs(means[i] - means[j]).max() > 3 for i in range(10) for j in range(i))


def test_speech_has_its_speakers_as_groups_and_all_classes_alike():
    data = standins.spoken_words(n_speakers=5)
    assert data.inputs.shape == (300, 1, 49, 10)
    assert set(data.counts().values()) == {25} and np.bincount(data.group).tolist() == [60] * 5
    for train, validate in store.folds(data):
        assert not set(data.group[train]) & set(data.group[validate])


def test_silence_is_quieter_than_words():
    quiet = np.mean([np.square(standins.word(0, s, 0)).mean() for s in range(30)])
    loud = np.mean([np.square(standins.word(2 + s % 10, s, 0)).mean() for s in range(30)])
    assert loud > 2 * quiet


@pytest.mark.parametrize("name", [name for name in prepare.RECIPES if "stand-in" in name])
def test_stand_ins_say_so_in_name_provenance_and_title(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path))
    for what in ("objects", "house_numbers"):
        full = getattr(standins, what)
        monkeypatch.setattr(standins, what, lambda full=full: full(40, 20))
    words = standins.spoken_words
    monkeypatch.setattr(standins, "spoken_words", lambda progress: words(n_speakers=5))
    data = prepare.prepare(name)
    assert data.name == name and data.provenance.kind == "stand-in" and "stand-in" in data.title
    assert "say nothing about" in store.load(name).provenance.note


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: standins.objects(0), "n_train must be an integer at least 1, not 0"),
        (lambda: standins.house_numbers(10, 10, -1), "seed must be an integer at least 0, not -1"),
        (lambda: standins.spoken_words(3), "n_speakers must be an integer at least 5, not 3"),
    ],
)
def test_bad_input_gets_one_sentence(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_recorded_float_networks_find_the_stand_ins_neither_trivial_nor_hopeless():
    import json
    from pathlib import Path

    lines = (Path(__file__).resolve().parents[1] / "data" / "results" / "standins.jsonl").read_text().splitlines()
    accuracy = {run["data"]: run["accuracy"] for run in map(json.loads, lines)}
    assert set(accuracy) == {name for name in prepare.RECIPES if "stand-in" in name}
    assert all(0.70 <= value <= 0.95 for value in accuracy.values())
    assert all(run["provenance"] == "stand-in" for run in map(json.loads, lines))


def test_the_inks_of_house_numbers_differ_in_the_sign_of_their_contrast_only():
    sets = {inks: standins.house_numbers(600, 10, inks=inks) for inks in standins.INKS}
    first = sets["mixed"]
    assert all((each.labels == first.labels).all() and (each.split == first.split).all() for each in sets.values())
    assert all(("always lighter" in each.provenance.source) == (inks == "one") for inks, each in sets.items())
    # A nought has no ink in its middle and some to the left of it.
    signs, grey = {}, {}
    for inks, numbers in sets.items():
        noughts = numbers.inputs[numbers.labels == 0].astype(float)
        contrast = noughts[:, :, 14:18, 9:13].mean((2, 3)) - noughts[:, :, 14:18, 14:18].mean((2, 3))
        grey[inks], signs[inks] = contrast.mean(), np.corrcoef(contrast.T)[np.triu_indices(3, 1)].mean()
    assert grey["one"] > 5 and max(abs(grey["two"]), abs(grey["mixed"])) < grey["one"] / 3
    assert signs["two"] > 0.3 > abs(signs["mixed"])
    with pytest.raises(ValueError, match="inks must be one of"):
        standins.house_numbers(10, 10, inks="three")
