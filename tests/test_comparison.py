"""The comparison of estimators: what each computes, that all are treated alike, how rates are chosen, and what is recorded."""

from __future__ import annotations

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, hardtanh

from anabook import models, plots, training
from anabook.datasets import standins, store
from anabook.experiments import estimators
from anabook.variants import VARIANTS
from studies import comparison, costs, loop, methods
from studies.methods import LEVELS, METHODS

BOTH = pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
X = torch.linspace(-3.1, 3.3, 1283)


def gradient_of(function, x=X):
    """Values, and the derivative of each in its own input."""
    x = x.clone().requires_grad_()
    y = function(x)
    y.sum().backward()
    return y.detach(), x.grad


def networks(levels, quantum=0.4, net=None):
    """A small network, its quanta, and what every method makes of it."""
    torch.manual_seed(0)
    net = models.mlp(5, hidden=(6, 4), n_classes=3) if net is None else net
    quanta = {name: quantum for name, module in net.named_children() if isinstance(module, (nn.Linear, nn.Conv2d, nn.ReLU))}
    quanta.pop("last", None)
    return net, quanta, {name: method.make(net, levels, quanta) for name, method in METHODS.items()}


# --- what each method computes ------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("what", ["weights", "features"])
def test_the_plain_identity_gives_the_stair_and_passes_every_gradient(levels, what):
    quantiser = getattr(levels, what)
    x = 2 * X
    y, slope = gradient_of(methods.Identity(quantiser, 0.4), x)
    torch.testing.assert_close(y, 0.4 * quantiser(x / 0.4))
    assert slope.eq(1).all() and len(y.unique()) == quantiser.n_levels


def test_dorefas_weights_are_those_worked_out_by_hand():
    w = torch.tensor([-2.0, -0.4, 0.1, 0.3, 1.0], dtype=torch.float64)
    t = np.tanh(w.numpy()) / np.tanh(2)  # in units of the largest
    y, slope = gradient_of(methods.DoReFaWeights(15), w)
    # 15·(t/2 + 1/2) = 0, 4.544, 8.275, 9.766, 13.425, so 0, 5, 8, 10, 13 of 15
    np.testing.assert_allclose(y, [-1, -5 / 15, 1 / 15, 5 / 15, 11 / 15], rtol=1e-14)
    np.testing.assert_allclose(t, [-1, -0.394127, 0.103387, 0.302183, 0.790013], atol=5e-7)
    # d(Σ t)/dw: (1 − tanh²w)/tanh 2 for all but the largest, whose own quotient is −1 always and which divides the others
    expected = (1 - np.tanh(w.numpy()) ** 2) / np.tanh(2)
    expected[0] *= t[1:].sum()
    np.testing.assert_allclose(slope, expected, rtol=1e-12)
    three, _ = gradient_of(methods.DoReFaWeights(2), w)
    assert three.tolist() == [-1, 0, 0, 0, 1]


def test_dorefas_features_are_those_worked_out_by_hand():
    x = torch.tensor([-0.5, 0.03, 0.04, 0.5, 0.97, 1.5])
    y, slope = gradient_of(methods.DoReFaFeatures(15), x)
    np.testing.assert_allclose(y, np.array([0, 0, 1, 8, 15, 15]) / 15, rtol=1e-6)
    assert slope.tolist() == [0, 1, 1, 1, 1, 0]
    assert gradient_of(methods.DoReFaFeatures(2), x)[0].tolist() == [0, 0, 0, 0.5, 1, 1]


@BOTH
def test_pact_clips_at_an_end_that_learns_from_what_is_beyond_it(levels):
    net, _, made = networks(levels)
    act, n = made["pact"].fc1_act, levels.features.n_levels - 1
    end = n * 0.4
    x = torch.linspace(-1, 1.6 * end, 401)
    y, slope = gradient_of(act, x)
    torch.testing.assert_close(y, 0.4 * levels.features(x / 0.4))
    assert torch.equal(slope, ((x >= 0) & (x <= end)).float())
    # the end is n quanta: ∂y/∂end is 1 beyond it and 0 before, n of them for the quantum
    assert act.scale.grad.item() == pytest.approx(n * int((x >= end).sum()), rel=1e-6)
    assert isinstance(made["pact"].fc1.parametrizations.weight[0], methods.DoReFaWeights)


@BOTH
def test_the_clipped_identity_the_hard_tanh_and_lsq_are_what_static_uniform_noise_does(levels):
    net, quanta, made = networks(levels)
    for what, of in (("weights", lambda net: net.fc1.parametrizations.weight[0]), ("features", lambda net: net.fc1_act)):
        quantiser = getattr(levels, what)
        low, high = (0.4 * float(end) for end in (quantiser.levels[0], quantiser.levels[-1]))
        x = X if levels.bits == 2 else 2 * X
        y, slope = gradient_of(of(made["static"]), x)
        torch.testing.assert_close(y, 0.4 * quantiser(x / 0.4))
        inner = ((x - low).abs() > 1e-5) & ((x - high).abs() > 1e-5)  # at the ends themselves conventions differ
        assert torch.equal(slope[inner], ((x > low) & (x < high)).float()[inner]) and 0 < slope.mean() < 1
        for other in (
            of(made["lsq"]),
            lambda x, low=low, high=high: hardtanh((x - (high + low) / 2) * 2 / (high - low)) * (high - low) / 2,
        ):
            _, its = gradient_of(other, x)
            torch.testing.assert_close(its[inner], slope[inner], atol=2e-6, rtol=0)
    # on ternary weights the hard tanh is not even moved
    assert LEVELS["ternary"].weights.levels.tolist() == [-1, 0, 1]


@BOTH
def test_brevitas_has_the_same_numbers_of_levels_and_quanta_of_its_own(levels):
    pytest.importorskip("brevitas")
    _, _, made = networks(levels)
    net, top = made["brevitas"], {2: 1, 4: 7}[levels.bits]
    weight = net.fc1.weight.detach()
    quantum = weight.abs().max() / top
    torch.testing.assert_close(net.fc1.quant_weight().value, torch.round(weight / quantum).clamp(-top, top) * quantum)
    y = net.fc1_act(torch.linspace(-1, 4, 2000)).detach()
    assert len(y.unique()) == levels.features.n_levels and y.min() == 0
    assert type(net.last) is nn.Linear


def test_surrogates_have_their_published_shapes_around_every_threshold():
    for name, slope in (
        ("fast-sigmoid", lambda d: 1 / (1 + 25 * abs(d)) ** 2),
        ("arctangent", lambda d: 1 / (1 + (np.pi * d) ** 2)),
    ):
        net, quanta, made = networks(LEVELS["ternary"])
        _, its = gradient_of(made[name].fc1_act)
        x = X.numpy() / 0.4
        np.testing.assert_allclose(its, slope(x - 0.5) + slope(x - 1.5), rtol=2e-4, atol=1e-6)


# --- that all are treated alike -----------------------------------------------------------------------------------------


@BOTH
def test_every_method_starts_from_the_float_weights_and_quantises_the_same_layers(levels):
    for net in (None, models.vgg(1 / 32, size=16), models.dscnn(channels=4)):
        net, _, made = networks(levels, net=net)
        before = comparison.digest(net)
        for name, each in made.items():
            found = dict(each.named_parameters())
            for own, weight in net.named_parameters():
                module, _, attribute = own.rpartition(".")
                latent = found.get(own, found.get(f"{module}.parametrizations.{attribute}.original"))
                assert latent is not weight and torch.equal(latent, weight), (name, own)
            assert comparison.digest(net) == before
            kept = [child for child, module in each.named_children() if isinstance(module, nn.ReLU)]
            assert kept == (
                [] if name != "float" else [child for child, m in net.named_children() if isinstance(m, nn.ReLU)]
            )
            plain = [
                child
                for child, module in each.named_children()
                if type(module) in (nn.Conv2d, nn.Linear) and not nn.utils.parametrize.is_parametrized(module)
            ]
            assert name == "float" or plain == ["last"], name


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A case on made-up pictures, in a store of its own."""
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path))
    store.save(standins.objects(n_train=150, n_test=20))
    yield TINY
    comparison._trained.cache_clear()
    comparison._quanta.cache_clear()


TINY = {
    **comparison.case("cifar10", "ternary", "scratch", "static", 0.003, 0),
    "task": "cifar10-stand-in",
    "n_train": 100,
    "unused": 30,
    "width": 1 / 32,
    "batch_size": 40,
    "epochs": 10,
    "drop": 8,
    "period": 1,
}


def test_all_methods_of_a_fold_have_the_same_start_the_same_examples_in_order_and_the_same_number_of_steps(small):
    pytest.importorskip("brevitas")
    records = {name: comparison.measure({**small, "method": name}) for name in METHODS}
    assert_alike(records.values())
    assert {record["steps"] for record in records.values()} == {10 * 2}
    assert len({record["loss"] for record in records.values()}) == len(METHODS)  # and they differ in what they are
    other = comparison.measure({**small, "fold": 1})
    for what in ("initial_sha256", "seen_sha256"):
        with pytest.raises(AssertionError, match=what):
            assert_alike([records["static"], {**records["static"], what: other[what]}])
    assert other["initial_sha256"] != records["static"]["initial_sha256"]
    assert other["seen_sha256"] != records["static"]["seen_sha256"]


def assert_alike(records):
    for what in ("initial_sha256", "seen_sha256", "steps", "examples"):
        assert len({str(record[what]) for record in records if what in record}) == 1, what


def test_a_method_that_looks_at_examples_out_of_turn_or_moves_the_start_is_noticed(small, monkeypatch):
    plain = comparison.measure(small)
    drawn = comparison._train

    def peeking(config, net, batches):
        next(iter(batches))
        return drawn(config, net, batches)

    monkeypatch.setattr(comparison, "_train", peeking)
    seen = comparison.measure(small)
    assert seen["seen_sha256"] != plain["seen_sha256"] and seen["steps"] == plain["steps"] + 1
    monkeypatch.setattr(comparison, "_train", drawn)

    def moved(config):
        net = models.vgg(config["width"], size=16)
        with torch.no_grad():
            next(net.parameters())[0] += 1e-6
        return net

    monkeypatch.setattr(comparison, "untrained", moved)
    assert comparison.measure(small)["initial_sha256"] != plain["initial_sha256"]


def test_a_checkpoint_is_the_float_run_of_its_fold_and_quanta_are_calibrated_to_it(small):
    fine = {**small, "start": "float", "checkpoint_lr": 0.003, "checkpoint_epochs": 10, "period": 1}
    of_float = comparison.checkpoint_of(fine)
    assert of_float == {**small, "levels": "float", "method": "float"}
    trained = comparison.measure(of_float)
    tuned = comparison.measure(fine)
    assert tuned["initial_sha256"] == trained["final_sha256"] != trained["initial_sha256"]
    assert tuned["seen_sha256"] != trained["seen_sha256"]  # another order than before the checkpoint
    scratch = comparison.measure(small)
    weight = comparison.untrained(small).conv1.weight
    assert scratch["quanta"]["conv1"] == pytest.approx(weight.abs().max().item(), abs=1e-6)
    assert set(scratch["quanta"]) == set(tuned["quanta"]) and scratch["quanta"] != tuned["quanta"]
    assert len(scratch["quanta"]) == 14


def test_a_run_that_breaks_down_is_recorded_as_that(small, monkeypatch):
    def broken(config, net, batches):
        raise FloatingPointError("the loss stopped being finite.")

    monkeypatch.setattr(comparison, "_train", broken)
    record = comparison.measure(small)
    assert record["diverged"] == "the loss stopped being finite." and "accuracy" not in record
    assert "diverged" in comparison.told({"config": small, "wall_seconds": 1.0, **record}, {})
    assert estimators.rank(record) < estimators.rank({"accuracy": 0.0, "loss": 9.0})


def test_half_a_run_is_not_recorded(small, monkeypatch):
    real = training.fit
    monkeypatch.setattr(training, "fit", lambda *arguments, **how: real(*arguments, **how)[:-1])
    with pytest.raises(KeyboardInterrupt):
        comparison.measure(small)


def test_learned_quanta_have_a_rate_relative_to_what_they_begin_with():
    net, _, made = networks(LEVELS["ternary"])
    for name, n in (("lsq", 4), ("pact", 2), ("static", 0)):
        each = made[name]
        groups = methods.adam(each)(list(each.parameters()), lr=0.01).param_groups
        assert [group["lr"] for group in groups] == pytest.approx([0.01] + n * [0.004])
        assert sum(len(group["params"]) for group in groups) == len(list(each.parameters()))
    net = made["lsq"]
    before = {name: quantum.item() for name, quantum in training.learned_quanta(net).items()}
    optimiser = methods.adam(net)(list(net.parameters()), lr=0.01)
    cross_entropy(net(torch.randn(9, 5)), torch.arange(9) % 3).backward()
    optimiser.step()
    for name, quantum in training.learned_quanta(net).items():
        assert abs(quantum.item() / before[name] - 1) == pytest.approx(0.01, rel=1e-3)


# --- how rates are chosen -----------------------------------------------------------------------------------------------


def recorded(accuracies, **of):
    """Records on fold 0 by key: rate ↦ accuracy, or None for a run that broke down."""
    found = {}
    for lr, accuracy in accuracies.items():
        config = comparison.case("cifar10", "ternary", "scratch", "static", lr, 0, **of)
        result = {"diverged": "so"} if accuracy is None else {"accuracy": accuracy, "loss": 1.0}
        found[loop.key_of(config)] = {"config": config, **result}
    return found


@pytest.mark.parametrize(
    "accuracies, tried, best",
    [
        ({}, [0.001, 0.003, 0.01], None),
        ({0.001: 0.3, 0.003: 0.4}, [0.001, 0.003, 0.01], None),
        ({0.001: 0.3, 0.003: 0.4, 0.01: 0.2}, [0.001, 0.003, 0.01], 0.003),
        ({0.001: 0.5, 0.003: 0.4, 0.01: 0.2}, [0.001, 0.003, 0.01, 0.0003], None),
        ({0.001: 0.5, 0.003: 0.4, 0.01: 0.2, 0.0003: 0.1}, [0.001, 0.003, 0.01, 0.0003], 0.001),
        ({0.001: 0.5, 0.003: 0.4, 0.01: 0.2, 0.0003: 0.6}, [0.001, 0.003, 0.01, 0.0003], 0.0003),
        ({0.001: 0.1, 0.003: 0.2, 0.01: 0.3, 0.03: None}, [0.001, 0.003, 0.01, 0.03], 0.01),
        ({0.001: None, 0.003: 0.1, 0.01: None}, [0.001, 0.003, 0.01], 0.003),
    ],
)
def test_the_best_rate_on_fold_0_is_taken_and_the_grid_grows_by_one_at_its_ends(accuracies, tried, best):
    found = recorded(accuracies)
    cases, rate = comparison.tuning(found, lambda lr: comparison.case("cifar10", "ternary", "scratch", "static", lr, 0))
    assert [case["lr"] for case in cases] == tried and rate == best
    asked = dict(tasks=("cifar10",), levels=("ternary",), starts=("scratch",), methods=("static",), found=found)
    folds = [case["fold"] for case in comparison.cases(**asked) if case["lr"] == best]
    assert folds == ([0, 0, 1, 2, 3, 4] if best else [])


def test_equal_accuracies_are_told_apart_by_the_loss():
    found = recorded({0.001: 0.4, 0.003: 0.4, 0.01: 0.2})
    for record in found.values():
        record["loss"] = 1.0 if record["config"]["lr"] == 0.003 else 1.1
    _, rate = comparison.tuning(found, lambda lr: comparison.case("cifar10", "ternary", "scratch", "static", lr, 0))
    assert rate == 0.003


def test_fine_tuning_waits_for_the_float_networks_rate():
    asked = dict(tasks=("cifar10",), levels=("ternary",), starts=("float",), methods=("static",))
    first = comparison.cases(**asked, found={})
    assert {(case["method"], case["start"]) for case in first} == {("float", "scratch")}
    found = {}
    for lr in estimators.RATES:
        config = comparison.case("cifar10", "ternary", "scratch", "float", lr, 0)
        found[loop.key_of(config)] = {"config": config, "accuracy": 0.5 - abs(lr - 0.003), "loss": 1.0}
    later = [case for case in comparison.cases(**asked, found=found) if case["start"] == "float"]
    assert {case["checkpoint_lr"] for case in later} == {0.003} and [c["lr"] for c in later] == [0.001, 0.003, 0.01]
    for case, fold in itertools.product(later, range(5)):
        assert comparison.checkpoint_of({**case, "fold": fold}) == comparison.case(
            "cifar10", "ternary", "scratch", "float", 0.003, fold
        )


def test_a_study_that_grows_is_planned_anew_after_each_measurement(tmp_path, monkeypatch, capsys):
    from studies import __main__ as command

    def cases(found=None):
        best = max((record["square"] for record in found.values()), default=0)
        return [{"n": n, "seed": 0} for n in (1, 2)] + ([{"n": 9, "seed": 0}] if best == 4 else [])

    study = loop.Study("squares", cases, lambda config: {"square": config["n"] ** 2}, grows=True)
    monkeypatch.setitem(command.STUDIES, "squares", "for this test")
    monkeypatch.setattr(command.importlib, "import_module", lambda name: type("M", (), {"STUDY": study, "__doc__": ""}))
    monkeypatch.setitem(command.sys.modules, "studies.squares", type("M", (), {"__doc__": ""}))
    path = tmp_path / "squares.jsonl"
    assert command.main(["squares", "--output", str(path)]) == 0
    assert [record["config"]["n"] for record in loop.read(study, path).records.values()] == [1, 2, 9]
    assert "squares: 2 of 2 cases to measure" in capsys.readouterr().out


# --- what is recorded ---------------------------------------------------------------------------------------------------


def test_recorded_runs_of_a_fold_are_alike_and_checkpoints_are_the_float_networks():
    records = loop.read(comparison.STUDY, comparison.STUDY.output).records
    of = {}
    for record in records.values():
        config = record["config"]
        of.setdefault((config["task"], config["start"], config["fold"], config.get("checkpoint_lr")), []).append(record)
        assert not record["revision"].endswith("+")
        assert "diverged" in record or len(record["train_loss"]) == config["epochs"]
        assert "diverged" in record or record["steps"] == config["epochs"] * -(-record["examples"]["training"] // 256)
    assert of
    for runs in of.values():
        assert_alike(runs)
        assert len({run["provenance"]["sha256"] for run in runs}) == 1
    finals = {loop.key_of(r["config"]): r["final_sha256"] for r in records.values() if "final_sha256" in r}
    for (_, start, _, _), runs in of.items():
        if start == "float":
            assert runs[0]["initial_sha256"] == finals[loop.key_of(comparison.checkpoint_of(runs[0]["config"]))]


def test_networks_are_left_as_they_were_by_being_measured():
    net, _, _ = networks(LEVELS["ternary"])
    again = copy.deepcopy(net)
    METHODS["dorefa"].make(net, LEVELS["ternary"], {})
    assert comparison.digest(net) == comparison.digest(again)


# --- what is made of it -------------------------------------------------------------------------------------------------


def line(method, lr, fold, accuracy, unused=None, levels="ternary"):
    config = comparison.case("cifar10", levels, "scratch", method, lr, fold)
    more = {} if unused is None else {"unused": {"accuracy": unused, "loss": 1.0}}
    return {"config": config, "accuracy": accuracy, "loss": 1.0, **more}


def lines_of(method, lr=0.003, unused=(0.40, 0.42, 0.41, 0.43, 0.39), **how):
    """Three rates on fold 0, the given one the best, and all folds."""
    others = [line(method, other, 0, 0.1, 0.99, **how) for other in (0.001, 0.003, 0.01) if other != lr]
    return others + [line(method, lr, fold, 0.5, accuracy, **how) for fold, accuracy in enumerate(unused)]


def of(records):
    return {entry.method: entry for entry in estimators.entries(records, "cifar10", "ternary", "scratch")}


def test_every_estimator_and_every_table_of_the_study_has_words():
    assert set(estimators.LABELS) == set(METHODS) and list(estimators.TABLES) == [
        (task, levels, start) for start in comparison.STARTS for task in comparison.TASKS for levels in LEVELS
    ]


def test_an_entry_is_the_folds_at_the_rate_that_was_best_on_fold_0_measured_on_the_unused_images():
    entry = of(lines_of("static"))["static"]
    assert entry.lr == 0.003 and list(entry.folds.values()) == [0.40, 0.42, 0.41, 0.43, 0.39]
    assert entry.rates == {0.001: 0.1, 0.003: 0.5, 0.01: 0.1}
    # t with 4 degrees of freedom: 2.776·0.015811/√5
    assert (entry.estimate.mean, entry.estimate.high) == (pytest.approx(0.41), pytest.approx(0.41 + 0.019632, abs=1e-6))
    fold_only = [{key: value for key, value in each.items() if key != "unused"} for each in lines_of("static")]
    assert set(of(fold_only)["static"].folds.values()) == {0.5}


@pytest.mark.parametrize(
    "tried, lr",
    [
        ({0.001: 0.3, 0.003: 0.4}, None),
        ({0.001: 0.5, 0.003: 0.4, 0.01: 0.3}, None),
        ({0.001: 0.5, 0.003: 0.4, 0.01: 0.3, 0.0003: 0.6}, 0.0003),
        ({0.001: 0.3, 0.003: 0.4, 0.01: 0.3}, 0.003),
    ],
)
def test_a_rate_is_chosen_as_the_study_chooses_it(tried, lr):
    records = [line("static", rate, 0, accuracy) for rate, accuracy in tried.items()]
    entry = of(records)["static"]
    found = {loop.key_of(record["config"]): record for record in records}
    assert entry.lr == lr == comparison.tuning(found, lambda rate: line("static", rate, 0, 0)["config"])[1]
    assert entry.folds == ({0: tried[lr]} if lr else {})


def test_rates_of_the_recorded_lines_are_those_that_the_study_chose():
    records = estimators.lines()
    found = {loop.key_of(record["config"]): record for record in records}
    for key in estimators.TABLES:
        for entry in estimators.entries(records, *key):
            if key[2] == "scratch":
                cases, best = comparison.tuning(found, lambda lr: comparison.case(*key, entry.method, lr, 0))
                assert entry.lr == best and set(entry.rates) <= {case["lr"] for case in cases}


def test_of_a_method_that_was_changed_only_the_newest_edition_counts():
    old = lines_of("static", unused=(0.9,) * 5)
    new = [{**each, "config": {**each["config"], "edition": 2}} for each in lines_of("static", lr=0.003)]
    for records in (old + new, new + old):
        entry = of(records)["static"]
        assert entry.lr == 0.003 and list(entry.folds.values()) == [0.40, 0.42, 0.41, 0.43, 0.39]
        assert entry.rates == {0.001: 0.1, 0.003: 0.5, 0.01: 0.1}
    begun = of(old + new[:1])["static"]  # made again, and not all there yet
    assert begun.lr is None and begun.folds == {}


def test_from_a_float_checkpoint_only_runs_from_the_one_at_the_chosen_rate_count():
    def tuned(checkpoint_lr, accuracy):
        config = comparison.case("cifar10", "ternary", "float", "static", 0.003, 0, checkpoint_lr)
        rates = [{"config": {**config, "lr": lr}, "accuracy": accuracy / 2, "loss": 1.0} for lr in (0.001, 0.01)]
        folds = [{"config": {**config, "fold": fold}, "accuracy": accuracy, "loss": 1.0} for fold in range(5)]
        return rates + folds

    def found(records):
        return {entry.method: entry for entry in estimators.entries(records, "cifar10", "ternary", "float")}

    floats, both = lines_of("float", lr=0.003), tuned(0.01, 0.9) + tuned(0.003, 0.6) + tuned(0.001, 0.8)
    assert found(floats + both)["static"].folds == dict.fromkeys(range(5), 0.6)
    assert found(both + floats)["static"].rates == {0.001: 0.3, 0.003: 0.6, 0.01: 0.3}
    assert found(both) == found(floats + tuned(0.01, 0.9)) == {}  # no rate chosen, or none from it


def test_of_estimators_that_are_not_told_apart_the_simplest_is_recommended():
    alike = lines_of("static") + lines_of("lsq", unused=(0.41, 0.42, 0.42, 0.42, 0.40))
    ahead = lines_of("pact", unused=(0.60, 0.62, 0.61, 0.64, 0.59))
    few = lines_of("dorefa", unused=(0.8, 0.8))
    unquantised = lines_of("float", unused=(0.9,) * 5)
    found = list(of(alike + few + unquantised).values())
    assert estimators.best(found).method == "lsq" and estimators.recommended(found).method == "static"
    assert [entry.method for entry in estimators.level_with(found)] == ["static", "lsq"]
    found = list(of(alike + ahead).values())
    assert estimators.recommended(found).method == "pact" and len(estimators.level_with(found)) == 1
    effect = of(alike + ahead)["pact"].ahead_of(of(alike)["static"])
    assert (effect.mean, effect.n) == (pytest.approx(0.202), 5)
    with pytest.raises(ValueError, match="no estimator has two folds"):
        estimators.best(list(of(lines_of("static", unused=(0.4,))).values()))
    with pytest.raises(ValueError, match="no fold in common"):
        of(alike)["static"].ahead_of(estimators.Entry("lsq", 0.01, {}, {7: 0.1}))


def test_many_comparisons_ask_for_more_than_one():
    a, b = (0.40, 0.42, 0.41, 0.43, 0.39), (0.412, 0.424, 0.419, 0.433, 0.397)
    two = list(of(lines_of("static", unused=a) + lines_of("lsq", unused=b)).values())
    assert two[1].ahead_of(two[0]).low > 0 and estimators.recommended(two).method == "lsq"
    crowd = [name for name in METHODS if name not in ("float", "static", "lsq")]
    low = [record for name in crowd for record in lines_of(name, unused=(0.1, 0.11, 0.1, 0.11, 0.1))]
    many = list(of(lines_of("static", unused=a) + lines_of("lsq", unused=b) + low).values())
    assert estimators.recommended(many).method == "static"


def test_the_table_has_means_differences_rates_folds_and_the_cost_of_a_step():
    records = lines_of("float", unused=(0.57,) * 5) + lines_of("static")
    records += lines_of("lsq", lr=0.01, unused=(0.42, 0.44, 0.43, 0.45, 0.41))[:-3] + [line("pact", 0.001, 0, 0.2)]
    cost = {("cifar10", "ternary"): {"float": 1.0, "static": 2.04, "pact": 3.0}}
    table = estimators.table(records + [line("lsq", 0.03, 0, 0.2, 0.5)], "cifar10", "ternary", "scratch", cost)
    assert table.caption == ("VGG on CIFAR-10, ternary, from scratch: on 10,000 unused images, means with 95 % intervals")
    assert table.rows == (
        ("float", "57.0 [57.0, 57.0]", "+16.0 [+14.0, +18.0]", "0.003", "5", "1.0"),
        ("clipped identity (static noise, mode)", "41.0 [39.0, 43.0]", "–", "0.003", "5", "2.0"),
        ("LSQ", "43.0 [30.3, 55.7]", "+2.0 [+2.0, +2.0]", "0.01", "2", "–"),
        ("PACT", "–", "–", "1 tried", "–", "–"),
    )
    fewer = [{**record, "config": {**record["config"], "unused": 1500}} for record in records]
    assert "on 1,500 unused images" in estimators.table(fewer, "cifar10", "ternary", "scratch", cost).caption
    none = [{**record, "config": {**record["config"], "unused": 0}} for record in records]
    assert "on the held-out fold" in estimators.table(none, "cifar10", "ternary", "scratch", cost).caption
    with pytest.raises(ValueError, match="levels must be one of 'ternary', '4 bits'"):
        estimators.table(records, "cifar10", "ternry", "scratch")


def test_the_picture_has_a_row_for_each_estimator_and_a_panel_for_each_table():
    records = lines_of("static") + lines_of("float", unused=(0.57,) * 5) + lines_of("lsq", levels="4 bits")
    figure = plots.estimator_accuracies(records)
    titles = [ax.get_title() for ax in figure.axes if ax.get_visible()]
    assert titles == ["VGG on CIFAR-10, ternary, from scratch", "VGG on CIFAR-10, 4 bits, from scratch"]
    rows = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert rows == list(estimators.LABELS.values())
    points = {line.get_ydata()[0]: line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() in "oD"}
    assert points == {0: pytest.approx(57), 1: pytest.approx(41)}
    with pytest.raises(ValueError, match="no table to show"):
        plots.estimator_accuracies([])


def test_the_decisions_are_read_off_the_tables_and_say_what_is_not_measured():
    assert set(estimators.ADVICE) == set(METHODS) - {"float"}
    rows = {row[0]: row for row in estimators.decisions([]).rows}
    evidence = [row[-1] for row in rows.values()]
    assert evidence[:4] == 4 * ["by argument; not measured on two folds yet"]
    assert len(evidence) == 7 and all(each.startswith("not measured: ") for each in evidence[4:])
    records = lines_of("static", lr=0.003) + lines_of("lsq", unused=(0.60, 0.62, 0.61, 0.64, 0.59))
    row = {row[0]: row for row in estimators.decisions(records).rows}["ternary, from scratch"]
    assert row[1] == "LSQ" and row[4] == "learned" and row[5] == "0.003 (VGG)"
    assert row[-1] == "VGG: 1 of 2 not told apart, 5 folds"
    speech = [
        {**r, "config": {**r["config"], "task": "gsc12"}} for r in lines_of("static") + lines_of("dorefa", unused=(0.1,) * 5)
    ]
    two = [row for row in estimators.decisions(records + speech).rows if row[0] == "ternary, from scratch"]
    assert [(row[1], row[5]) for row in two] == [
        ("LSQ", "0.003 (VGG)"),
        ("clipped identity (static noise, mode)", "0.003 (DSCNN)"),
    ]


@pytest.mark.parametrize(("name", "variant"), [("fast-sigmoid", "fast_sigmoid"), ("arctangent", "atan")])
def test_the_slopes_that_are_advised_are_those_of_the_zoo(name, variant):
    printed, _, unit = estimators.ADVICE[name][0].partition(", ")
    assert unit == "d quanta from a threshold"
    formula = printed.replace("|d|", "*np.abs(d)").replace("πd", "np.pi*d").replace("²", "**2")
    d = np.linspace(-4, 4, 801)
    np.testing.assert_allclose(eval(formula, {"np": np, "d": d}), VARIANTS[variant].gradient(d), rtol=1e-12)
    # the width: where as much as the 1 has come to it in the denominator
    width = {"a 25th of a quantum": 1 / 25, "a third of a quantum": 1 / np.pi}[estimators.ADVICE[name][1]]
    assert VARIANTS[variant].gradient(width) == pytest.approx({"fast_sigmoid": 1 / 4, "atan": 1 / 2}[variant])


def test_costs_are_ratios_within_a_round(tmp_path):
    path = tmp_path / "costs.jsonl"
    took = {"float": [10, 20, 10], "static": [15, 30, 40], "lsq": [20, 30, 20]}
    path.write_text(json.dumps({"config": {"task": "gsc12", "levels": "4 bits"}, "milliseconds": took}) + "\n")
    assert estimators.costs(path) == {("gsc12", "4 bits"): {"float": 1.0, "static": 1.5, "lsq": 2.0}}
    even = {"config": {"task": "gsc12", "levels": "4 bits"}, "milliseconds": {"float": [10, 10], "static": [15, 30]}}
    assert estimators.ratios(even)["static"] == 2.25
    assert costs.told(even, {}) == "gsc12, 4 bits: float 1.0, static 2.2"


def test_what_chapter_16_says_of_the_recorded_costs():
    costs = estimators.costs()
    assert set(costs) == {(task, levels) for task in comparison.TASKS for levels in LEVELS}
    for ratios in costs.values():
        assert set(ratios) == set(METHODS)
        assert max(ratios, key=ratios.get) == "brevitas" and sorted(ratios, key=ratios.get)[-2] == "dorefa"
        assert all(ratio < 1.8 for name, ratio in ratios.items() if name not in ("brevitas", "dorefa"))
