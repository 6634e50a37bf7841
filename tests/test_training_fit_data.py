"""Data that users bring: batches of one example, loaders without a length, tokens, labels that do not fit."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from training_helpers import TERNARY, blob_network, blobs, same

from anabook import Schedule, training
from anabook.datasets.batches import Batches

SCHEDULE = Schedule(n_layers=1, start=0, end=3, std0=12**-0.5)


def fit(data, net=None, **options):
    net = net or blob_network()
    return net, training.fit(net, data, options.pop("schedule", SCHEDULE), **{"epochs": 2, "batch_size": 16, **options})


def loader(x, y, cls=DataLoader, **options):
    return cls(TensorDataset(torch.as_tensor(x), torch.as_tensor(y)), batch_size=16, **options)


# One example in a batch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, batch_size, advice",
    [
        (blobs(33), 16, "choose another batch_size than 16 for 33 examples, or pass drop_last=True"),
        (blobs(1), 16, r"train on two examples at least\.$"),
        (blobs(33), 1, r"choose another batch_size than 1 for 33 examples\.$"),
        (loader(*blobs(33)), 16, r"let the data leave out such a batch \(drop_last=True\), or choose another batch size"),
        (Batches(*blobs(33), batch_size=16), 16, "let the data leave out such a batch"),
        ([blobs(16), blobs(1)], 16, "let the data leave out such a batch"),
    ],
)
def test_a_batch_of_one_example_is_refused_where_batch_normalisation_cannot_take_a_variance(data, batch_size, advice):
    net = blob_network()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    with pytest.raises(ValueError, match=rf"^a batch has one example only, and the batch normalisation '1' .*: {advice}"):
        fit(data, net, batch_size=batch_size, initialise="near_thresholds" if isinstance(data, tuple) else None)
    if not isinstance(data, list):  # seen before training: nothing was changed
        assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_one_example_is_enough_for_images_for_frozen_statistics_and_without_normalisation():
    x, y = blobs(33)
    images = x.reshape(-1, 2, 1, 1).repeat(2, 2).repeat(2, 3)
    fit((images, y), nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)), schedule=None)
    net = blob_network()
    net[1].eval()
    fit((x, y), net)
    fit((x, y), nn.Sequential(nn.Linear(2, 3)), schedule=None)


def test_drop_last_leaves_out_the_smaller_batch():
    x, y = blobs(33)
    seen = []
    net = blob_network()
    net.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])) if module.training else None)
    fit((x, y), net, drop_last=True)
    assert seen == [16, 16] * 2
    a, b = (fit(blobs(32), drop_last=drop)[0] for drop in (True, False))
    assert same(a, b)
    with pytest.raises(ValueError, match="drop_last=True leaves nothing of 33 examples with batch_size=64"):
        fit((x, y), drop_last=True, batch_size=64)
    with pytest.raises(ValueError, match="drop_last=True is for data given as arrays: let the DataLoader itself"):
        fit(loader(x, y), drop_last=True)


def test_recalibration_joins_a_last_example_to_the_batch_before_it():
    net, (x, _) = blob_network(), blobs(33)
    training.recalibrate(net, x, batch_size=16)
    sums = net.eval()[0](torch.as_tensor(x)).detach()
    torch.testing.assert_close(net[1].running_mean, (sums[:16].mean(0) + sums[16:].mean(0)) / 2)
    with pytest.raises(ValueError, match="^inputs must hold two examples at least, as the batch normalisation '1'"):
        training.recalibrate(net, x[:1])


# Loaders without a length -------------------------------------------------------------------------------------------


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(*(torch.as_tensor(t) for t in blobs(32)))


def test_a_stream_without_a_length_trains_and_goes_on_from_a_checkpoint(tmp_path):
    stream = DataLoader(Stream(), batch_size=8)
    fit(stream, checkpoint=tmp_path / "run.pt", test=stream)
    net, history = fit(stream, checkpoint=tmp_path / "run.pt", test=stream)
    whole, expected = fit(stream, test=stream)
    assert same(net, whole) and history == expected


def test_noise_per_step_of_a_stream_without_a_length_is_refused_in_one_sentence():
    with pytest.raises(
        TypeError, match=r"^noise_every='iteration' needs data with a length, and this DataLoader has none\.$"
    ):
        fit(DataLoader(Stream(), batch_size=8), noise_every="iteration")


# Whole numbers ------------------------------------------------------------------------------------------------------


class Tokens(nn.Module):
    """Looks its inputs up in a table, as they are or after a sum."""

    def __init__(self, shift=0, words=11):
        super().__init__()
        self.table, self.norm, self.first, self.act, self.last = (
            nn.Embedding(words, 8),
            nn.LayerNorm(8),
            nn.Linear(8, 8),
            nn.ReLU(),
            nn.Linear(8, 3),
        )
        self.shift = shift

    def forward(self, x):
        return self.last(self.act(self.first(self.norm(self.table(x + self.shift if self.shift else x).mean(1)))))


class Patches(nn.Module):
    """An image network with a table of positions, which does not read its inputs."""

    def __init__(self):
        super().__init__()
        self.positions, self.first, self.act, self.last = nn.Embedding(4, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.act(self.first(x + self.positions(torch.arange(4, device=x.device))[0])))


def sentences(n=48, dtype=np.int64):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    return (rng.integers(0, 3, (n, 5)) * 3 + y[:, None]).astype(dtype), y


@pytest.mark.parametrize(
    "make",
    [
        Tokens,
        lambda: nn.Sequential(nn.Embedding(11, 8), nn.Flatten(), nn.Linear(40, 8), nn.ReLU(), nn.Linear(8, 3)),
        lambda: nn.Sequential(nn.EmbeddingBag(11, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)),
    ],
)
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_a_network_that_begins_with_an_embedding_trains_on_token_ids(make, dtype):
    torch.manual_seed(0)
    net = training.quantise(make(), TERNARY, TERNARY)
    data = sentences(dtype=dtype)
    _, history = fit(data, net, epochs=15, lr=0.03, initialise="near_thresholds", test=data)
    assert history[-1].train.loss < history[0].train.loss
    assert training.evaluate(net, data) == history[-1].test
    batches = [(data[0][i : i + 16], data[1][i : i + 16]) for i in range(0, 48, 16)]
    assert training.evaluate(net, batches) == history[-1].test


def test_token_ids_that_are_changed_before_the_table_stay_whole():
    net = training.quantise(Tokens(shift=2), TERNARY, TERNARY)
    fit(sentences(), net)


def test_pictures_of_bytes_are_cast_as_ever_whatever_tables_there_are():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (30, 4)), np.arange(30) % 3
    nets = []
    for inputs in (x, x.astype(np.uint8), x.astype(np.float32)):
        torch.manual_seed(0)
        nets.append(fit((inputs, y), training.quantise(Patches(), TERNARY, TERNARY))[0])
    assert same(nets[0], nets[1]) and same(nets[0], nets[2])


def test_recalibration_takes_token_ids():
    net = nn.Sequential(nn.Embedding(11, 8), nn.Flatten(), nn.Linear(40, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    training.recalibrate(net, sentences()[0])
    torch.testing.assert_close(net[3].running_mean, net[:3](torch.as_tensor(sentences()[0])).mean(0).detach())


@pytest.mark.parametrize("wrong", [11, -1])
def test_a_token_that_the_table_does_not_have_is_refused_in_one_sentence(wrong):
    x, y = sentences()
    x[7, 2] = wrong
    message = rf"must be from 0 to 10, as they are read by Embedding\(11, 8\), not {wrong}\.$"
    for data in ((x, y), [(x, y)]):
        with pytest.raises(ValueError, match=message):
            fit(data, training.quantise(Tokens(), TERNARY, TERNARY))
    with pytest.raises(ValueError, match=message):
        training.evaluate(Tokens(), (x, y))


@pytest.mark.parametrize("make", [Tokens, lambda: Tokens(shift=2)])
def test_fractions_for_a_table_are_refused_in_one_sentence(make):
    x, y = sentences()
    message = r"must be whole numbers, as they are read by Embedding\(11, 8\), not torch\.float(32|64): hand them over as"
    for data in ((x.astype(float), y), [(x.astype(np.float32), y)]):
        with pytest.raises(TypeError, match=message):
            fit(data, training.quantise(make(), TERNARY, TERNARY))
        with pytest.raises(TypeError, match=message):
            training.evaluate(make(), data)
    with pytest.raises(TypeError, match="^the inputs of each batch of data must be whole numbers"):
        fit([(x, y), (x.astype(float), y)], training.quantise(Tokens(), TERNARY, TERNARY))


# Labels -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [3, -1, 10**6])
def test_labels_without_an_output_are_refused_in_one_sentence_before_a_step(wrong):
    x, y = blobs(32)
    y = y.copy()
    y[30] = wrong
    message = rf"^labels must be from 0 to 2, as the network has 3 outputs \(or -100, which is left out\), not {wrong}\.$"
    net = blob_network()
    before = {name: t.clone() for name, t in net.named_parameters()}
    for loss in (None, nn.CrossEntropyLoss(), functools.partial(nn.functional.cross_entropy, label_smoothing=0.1)):
        with pytest.raises(ValueError, match=message):
            fit((x, y), net, loss=loss)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    for data in ((x, y), loader(x, y)):
        with pytest.raises(ValueError, match=message):
            training.evaluate(blob_network(), data)
    with pytest.raises(ValueError, match=message):
        fit(loader(x, y))
    with pytest.raises(ValueError, match=message):
        fit(blobs(32), test=(x, y))


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss()])
def test_labels_that_the_loss_leaves_out_are_left_out_of_every_score(loss):
    x, y = blobs(40)
    left = y.copy()
    left[::3] = -100
    net = nn.Sequential(nn.Linear(2, 3))
    kept = (x[left >= 0], y[left >= 0])
    a, b = training.evaluate(net, (x, left), loss=loss), training.evaluate(net, kept)
    assert a.accuracy == b.accuracy and a.loss == pytest.approx(b.loss, rel=1e-5)
    assert training.evaluate(net, (x, left), batch_size=7, loss=loss).loss == pytest.approx(b.loss, rel=1e-5)
    (epoch,) = training.fit(net, (x, left), None, epochs=1, batch_size=7, lr=0.0, loss=loss)
    assert epoch.train.accuracy == b.accuracy and epoch.train.loss == pytest.approx(b.loss, rel=1e-5)


def test_a_batch_in_which_no_label_counts_changes_nothing_and_is_no_failure():
    x, y = blobs(32)
    none = np.full(16, -100)
    data = [(x[:16], y[:16]), (x[16:], none)]
    net, history = fit(data, nn.Sequential(nn.Linear(2, 3)), schedule=None, optimiser=torch.optim.SGD)
    assert np.isfinite(history[-1].train.loss) and all(p.isfinite().all() for p in net.parameters())
    assert np.isnan(training.evaluate(net, (x[16:], none)).accuracy)


# Arguments ----------------------------------------------------------------------------------------------------------


def examples():
    return TensorDataset(*(torch.as_tensor(t) for t in blobs(8)))


class Cut(lr_scheduler.OneCycleLR):
    """Ends before the run, and says so by an error of torch's own; its length is not known before."""

    def __init__(self, optimiser):
        super().__init__(optimiser, 0.1, total_steps=1000)
        self.end = 1

    def step(self, *args):
        if getattr(self, "end", None) == self.last_epoch:
            raise ValueError("Tried to step 2 times.")
        super().step(*args)


def test_a_scheduler_that_ends_within_the_run_is_named():
    with pytest.raises(
        ValueError, match=r"^the Cut cannot take another step \(Tried to step 2 times\): let it have as many as"
    ):
        fit(blobs(32), epochs=3, scheduler=Cut)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: fit(blobs(32), optimizer=torch.optim.SGD),
            TypeError,
            r"^fit has no argument 'optimizer'\. Did you mean 'optimiser'\?$",
        ),
        (lambda: fit(blobs(32), learning_rate=0.1), TypeError, r"Did you mean 'lr'\?$"),
        (lambda: fit(blobs(32), initialize="shift"), TypeError, r"Did you mean 'initialise'\?$"),
        (lambda: fit(blobs(32), schedular=3), TypeError, r"Did you mean 'scheduler'\?$"),
        (lambda: fit(blobs(32), criterion=3), TypeError, r"Did you mean 'loss'\?$"),
        (lambda: fit(blobs(32), zzz=3), TypeError, r"^fit has no argument 'zzz'\. There are net, data, schedule"),
        (
            lambda: training.evaluate(blob_network(), blobs(32), batchsize=3),
            TypeError,
            r"^evaluate has no argument 'batchsize'\. Did you mean 'batch_size'\?$",
        ),
        (lambda: training.recalibrate(blob_network(), data=3), TypeError, "^recalibrate has no argument 'data'"),
        (
            lambda: fit(blobs(32), optimiser=torch.optim.SGD(blob_network().parameters())),
            TypeError,
            r"^optimiser must be a class or a function .*, not a SGD that is made already\.$",
        ),
        (lambda: fit(blobs(32), optimiser="adam"), TypeError, "^optimiser must be a class or a function .*, not 'adam'"),
        (
            lambda: fit(blobs(32), optimiser=lambda ps, lr: None),
            TypeError,
            "^optimiser must give one of torch's optimisers, not None",
        ),
        (
            lambda: fit(blobs(32), optimiser=torch.optim.LBFGS),
            ValueError,
            "^LBFGS computes the loss several times in a step",
        ),
        (
            lambda: fit(blobs(32), optimiser=lambda ps: torch.optim.SGD(ps)),
            TypeError,
            r"^optimiser is called with the parameters and lr=…, which this lambda does not take: .* lambda parameters, lr: ",
        ),
        (
            lambda: fit(blobs(32), scheduler=lr_scheduler.StepLR),
            TypeError,
            r"^scheduler is called with the optimiser alone, .*: give lambda optimiser: StepLR\(optimiser, step_size=…\)\.$",
        ),
        (
            lambda: fit(blobs(32), scheduler=functools.partial(lr_scheduler.StepLR, gamma=0.5)),
            TypeError,
            r"give lambda optimiser: StepLR\(optimiser, step_size=…, gamma=0\.5\)\.$",
        ),
        (
            lambda: fit(blobs(32), scheduler=lambda: 3),
            TypeError,
            r"this lambda does not allow: give lambda optimiser: .*StepLR\(optimiser, step_size=…\)",
        ),
        (
            lambda: fit(
                blobs(32),
                scheduler=functools.partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=3),
                scheduler_every="iteration",
            ),
            ValueError,
            r"^the OneCycleLR ends after 3 steps, and this run has 4: give it total_steps=4",
        ),
        (
            lambda: fit(blobs(32), scheduler="cosine"),
            TypeError,
            "^scheduler must be a function of the optimiser, .*, not 'cosine'",
        ),
        (lambda: fit(blobs(32), scheduler=lambda step: None), TypeError, "^scheduler must give one of torch's .*, not None"),
        (
            lambda: fit(
                blobs(32), scheduler=torch.optim.lr_scheduler.StepLR(torch.optim.SGD(blob_network().parameters()), 1)
            ),
            TypeError,
            "^scheduler must be a function .*, not a StepLR that is made already",
        ),
        (
            lambda: training.fit(blob_network(), *(torch.as_tensor(t) for t in blobs(3000)), epochs=1),
            TypeError,
            r"^schedule must be .*, not a Tensor of shape \(3000,\); inputs and labels go together, as a pair: fit\(net, \(inputs, labels\), schedule, …\)\.$",
        ),
        (lambda: fit(blobs(32), schedule=list(range(10**4))), TypeError, "not a list"),
        (
            lambda: fit((np.array(["a", "b"]), [0, 1])),
            TypeError,
            "^the inputs of data must be numbers in an array or a tensor",
        ),
        (lambda: fit({"x": 1, "y": 2}), TypeError, r"^data must be a pair \(inputs, labels\)"),
        (
            lambda: fit([{"x": blobs(8)[0], "y": blobs(8)[1]}]),
            TypeError,
            r"^each batch of data must be a pair \(inputs, labels\) .*, not dict; several inputs, or inputs by name, are not supported",
        ),
        (
            lambda: fit(DataLoader([{"x": x, "y": y} for x, y in zip(*blobs(8))])),
            TypeError,
            "^each batch of data .* not dict; several",
        ),
        (
            lambda: fit((*blobs(8), blobs(8)[1])),
            TypeError,
            "^data must be a pair .*, not tuple; several inputs, or inputs by name, are",
        ),
        (
            lambda: fit(((blobs(8)[0], blobs(8)[0]), blobs(8)[1])),
            TypeError,
            "in one array or tensor, not in a tuple of 2 arrays; several",
        ),
        (
            lambda: fit([({"x": blobs(8)[0]}, blobs(8)[1])]),
            TypeError,
            "^each batch .* in one array or tensor, not in a dict of 1 arrays;",
        ),
        (
            lambda: fit(examples()),
            TypeError,
            "and this TensorDataset gives single examples: torch.utils.data.DataLoader.* makes batches",
        ),
        (lambda: fit(blobs(8), test=examples()), TypeError, "^test must be .* and this TensorDataset gives single examples"),
        (lambda: fit(Subset(examples(), range(4))), TypeError, "and this Subset gives single examples: "),
        (lambda: fit(DataLoader(examples(), batch_size=None)), TypeError, "and this DataLoader gives single examples: "),
        (
            lambda: fit(blobs(32), nn.Sequential(nn.Linear(2, 3)).requires_grad_(False), schedule=None),
            ValueError,
            "nothing to train",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_one_short_sentence(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
