"""Google Speech Commands from miniature archives, and the features against an independent computation."""

import hashlib
import io
import tarfile
import wave

import numpy as np
import pytest
from scipy import fft, signal

from anabook import cli
from anabook.datasets import prepare, speech, store

RATE = speech.RATE


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "store"))


def sound(seed, seconds=1.0):
    """A glide with overtones and noise: energy at all of the filters."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = 100 + 80 * rng.random() + 60 * t
    voice = sum(rng.random() / k * np.sin(2 * np.pi * k * np.cumsum(pitch) / RATE) for k in range(1, 30))
    return 0.2 * voice * np.exp(-8 * (t - 0.4) ** 2) + 0.02 * rng.standard_normal(len(t))


def wav(samples, rate=RATE, width=2, channels=1):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as f:
        f.setnchannels(channels)
        f.setsampwidth(width)
        f.setframerate(rate)
        f.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def independent_features(clip):
    """The same features by scipy alone, written out from their definition."""
    frames = np.pad(clip.astype(float), 512, mode="reflect")
    window = np.zeros(1024)
    window[192:832] = signal.get_window("hann", 640)
    power = np.array([np.abs(fft.rfft(window * frames[320 * i : 320 * i + 1024])) ** 2 for i in range(49)])
    mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    corners = 700 * (10 ** (np.linspace(mel(20), mel(4000), 42) / 2595) - 1)
    f = np.arange(513) * RATE / 1024
    rising = (f - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - f) / np.diff(corners)[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    cepstrum = fft.dct(np.log(power @ filters.T + 1e-6), type=2, norm="ortho", axis=1)[:, :10]
    return np.floor(np.clip(cepstrum + 128, 0, 255))


def test_features_agree_with_an_independent_computation():
    clips = np.stack([sound(seed) for seed in range(5)] + [np.zeros(RATE)]).astype(np.float32)
    found = speech.features(clips)
    assert found.shape == (6, 1, 49, 10) and found.dtype == np.uint8
    expected = np.stack([independent_features(clip) for clip in clips])
    # Rounding down may fall on either side of a whole number: never more than one apart, and hardly ever.
    difference = np.abs(found[:, 0].astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    assert len(np.unique(found[:5])) > 15


def test_features_do_not_depend_on_the_company():
    clips = np.stack([sound(seed) for seed in range(200)]).astype(np.float32)
    together = speech.features(clips)
    assert np.array_equal(together[130:131], speech.features(clips[130:131]))
    assert speech.features(clips[:0]).shape == (0, 1, 49, 10)


def test_short_clips_are_padded_to_one_second_and_long_ones_cut():
    short = speech.read_clip(wav(sound(0, 0.5)), "short.wav")
    assert short.shape == (RATE,) and not short[RATE // 2 :].any() and short[: RATE // 2].any()
    long = speech.read_clip(wav(sound(0, 1.5)), "long.wav")
    assert np.array_equal(long, speech.read_clip(wav(sound(0, 1.5)[:RATE]), "cut.wav"))


def test_the_split_is_the_official_one():
    # Counted by the rule as Warden (2018) prints it, on names whose hash is known.
    for name in ("0132a06d_nohash_2.wav", "bfd26d6b_nohash_0.wav", "00000000_nohash_9.wav"):
        number = int(hashlib.sha1(name.split("_nohash_")[0].encode()).hexdigest(), 16)
        percentage = (number % 2**27) * (100.0 / (2**27 - 1))
        expected = 1 if percentage < 10 else 2 if percentage < 20 else 0
        assert speech.which_part(name) == expected
    parts = np.bincount([speech.which_part(f"{i:08x}_nohash_0.wav") for i in range(5000)], minlength=3) / 5000
    assert np.abs(parts - [0.8, 0.1, 0.1]).max() < 0.02
    assert len({speech.which_part(f"0a7c2a8d_nohash_{i}.wav") for i in range(9)}) == 1


def test_speakers_are_read_from_file_names():
    assert speech.speaker_of("022cd682_nohash_0.wav") == "022cd682"
    assert speech.speaker_of("backward_0c540988_nohash_0.wav") == "0c540988"
    assert speech.speaker_of("1024.wav") is None


def write_test_archive(folder):
    for c, word in enumerate(speech.CLASSES):
        (folder / word).mkdir(parents=True)
        for i in range(3):
            name = {"_silence_": f"{i}.wav", "_unknown_": f"bed_0000000{i}_nohash_0.wav"}.get(
                word, f"0000000{i}_nohash_{c}.wav"
            )
            (folder / word / name).write_bytes(wav(sound(10 * c + i)))
    return folder


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_the_scaled_task_holds_every_clip_with_its_speaker(tmp_path, form):
    source = folder = write_test_archive(tmp_path / "set")
    if form == "archive":
        source = tmp_path / "set.tar.gz"
        with tarfile.open(source, "w:gz") as archive:
            for word in sorted(folder.iterdir(), reverse=True):  # the order in the archive must not matter
                archive.add(word, arcname=f"./{word.name}")
    data = speech.gsc12(source)
    assert data.inputs.shape == (36, 1, 49, 10) and data.counts() == dict.fromkeys(speech.CLASSES, 3)
    assert data.provenance.kind == {"folder": "unverified", "archive": "differs"}[form]
    assert len(np.unique(data.group)) == 3 + 3  # three speakers, three clips of silence
    row = data.inputs[(data.labels == speech.CLASSES.index("yes"))]
    c = speech.CLASSES.index("yes")
    expected = speech.features(np.stack([speech.read_clip(wav(sound(10 * c + i)), "") for i in range(3)]))
    assert np.array_equal(row, expected)


def write_full_archive(folder):
    n = 0
    for word in (*speech.WORDS, "bed", "cat"):
        (folder / word).mkdir(parents=True)
        for speaker in range(12):
            n += 1
            (folder / word / f"{speaker * 7:08x}_nohash_0.wav").write_bytes(wav(sound(n, 0.9)))
    (folder / "_background_noise_").mkdir()
    for i in range(2):
        (folder / "_background_noise_" / f"hum{i}.wav").write_bytes(wav(0.1 * sound(900 + i, 3.0)))
    return folder


def test_the_full_task_is_drawn_the_same_from_any_order_of_files(tmp_path):
    folder = write_full_archive(tmp_path / "full")
    one = speech.gsc(folder)
    with tarfile.open(tmp_path / "full.tar", "w") as archive:
        for path in sorted(folder.rglob("*.wav"), key=lambda path: hashlib.md5(str(path).encode()).hexdigest()):
            archive.add(path, arcname=f"./{path.parent.name}/{path.name}")
    two = speech.gsc(tmp_path / "full.tar")
    for what in ("inputs", "labels", "split", "group"):
        assert np.array_equal(getattr(one, what), getattr(two, what)), what


def test_the_full_task_has_a_tenth_of_silence_and_unknown_words_in_each_part(tmp_path):
    data = speech.gsc(write_full_archive(tmp_path / "full"))
    for part in ("train", "validation", "test"):
        counts = list(data.counts(part).values())
        assert counts[0] == counts[1] == -(-sum(counts[2:]) // 10)
    assert sum(data.counts().values()) == len(data.labels) and data.counts()["yes"] == 12
    speakers = [set(data.group[(data.split == part) & (data.labels > 0)]) for part in range(3)]
    assert not speakers[0] & speakers[1] and not speakers[0] & speakers[2] and not speakers[1] & speakers[2]


def test_augmented_copies_join_the_training_part_only(tmp_path):
    folder = write_full_archive(tmp_path / "full")
    plain, more = speech.gsc(folder), speech.gsc(folder, augmented=2)
    assert (more.split == 0).sum() == 3 * (plain.split == 0).sum()
    assert (more.split != 0).sum() == (plain.split != 0).sum()
    assert more.provenance.parameters["augmented copies"] == 2


def test_augmentation_shifts_by_at_most_the_stated_time_and_adds_noise():
    clip = np.zeros((300, RATE), np.float32)
    clip[:, 8000] = 1
    shifted = speech.augment(clip, [], np.random.default_rng(0))
    places = shifted.argmax(axis=1)
    assert (shifted.sum(axis=1) == 1).all() and places.min() >= 6400 and places.max() <= 9600 and np.ptp(places) > 2500
    noisy = speech.augment(np.zeros_like(clip), [np.full(20000, 0.5)], np.random.default_rng(0))
    volumes = noisy[:, 0] / 0.5
    assert 0.7 < (volumes > 0).mean() < 0.9 and volumes.max() <= 0.2
    again = speech.augment(np.zeros_like(clip), [np.full(20000, 0.5)], np.random.default_rng(0))
    assert np.array_equal(noisy, again)


def test_a_missing_word_is_named(tmp_path):
    folder = write_test_archive(tmp_path / "set")
    for path in (folder / "left").iterdir():
        path.unlink()
    with pytest.raises(store.DatasetError, match="has no wav files in a folder left"):
        speech.gsc12(folder)
    with pytest.raises(store.DatasetError, match="has no wav files in a folder left, _background_noise_"):
        speech.gsc(folder)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no wav file that can be read"),
        (b"RIFF", "is no wav file that can be read"),
        (wav(sound(0))[:2000], "is truncated: 978 of 16000 samples"),
        (wav(sound(0))[:30], "is no wav file that can be read"),
        (wav(sound(0), rate=8000), "not 1 channel(s), 16 bits, 8000"),
        (wav(sound(0), channels=2), "not 2 channel(s), 16 bits, 16000"),
        (wav(sound(0)[:0]), "is truncated: 0 of 0 samples"),
    ],
)
def test_a_corrupt_clip_is_named(tmp_path, data, says):
    folder = write_test_archive(tmp_path / "set")
    (folder / "yes" / "00000001_nohash_7.wav").write_bytes(data)
    with pytest.raises(store.DatasetError) as caught:
        speech.gsc12(folder)
    assert says in str(caught.value) and "yes/00000001_nohash_7.wav" in str(caught.value)


def test_without_a_network_the_way_out_is_named(monkeypatch):
    import urllib.request

    def away(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr("torch.hub.urlopen", away)
    monkeypatch.setattr(urllib.request, "urlopen", away)
    with pytest.raises(store.DatasetError, match="gsc12 could not be downloaded .* run `anabook data gsc12 --from PATH`"):
        prepare.prepare("gsc12")


def test_the_command_prepares_speech(tmp_path, capsys):
    assert cli.main(["data", "gsc12", "--from", str(write_test_archive(tmp_path / "set"))]) == 0
    assert "36 train examples of shape 1×49×10, 12 classes" in capsys.readouterr().out
    assert store.load("gsc12", mmap=True).title == "gsc12 (local files, not verified)"
