"""Google Speech Commands v0.02: twelve classes as MFCC features, from the test archive or the full one."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import warnings
import wave
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from anabook._validate import integer, reason
from anabook._validate import path as path_at
from anabook.datasets import sources
from anabook.datasets.dataset import Dataset, DatasetError, Provenance

if TYPE_CHECKING:
    from tqdm import tqdm

_Key = TypeVar("_Key", bound=Hashable)

RATE = 16_000
"""Samples a second, and a clip."""

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLASSES = ("_silence_", "_unknown_", *WORDS)
"""The twelve classes, in the order of their labels."""

_BACKGROUND = "_background_noise_"
_URL = "http://download.tensorflow.org/data/"


@dataclass(frozen=True)
class _Archive:
    name: str
    sha256: str


TEST_ARCHIVE = _Archive(
    "speech_commands_test_set_v0.02.tar.gz", "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df"
)
FULL_ARCHIVE = _Archive("speech_commands_v0.02.tar.gz", "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58")

_LICENCE = "CC BY 4.0"
_CITATION = "P. Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, arXiv:1804.03209, 2018"


def features(clips: np.ndarray, progress: bool = False) -> np.ndarray:
    """The network's input: 49 × 10 mel-frequency cepstral coefficients, shifted and clipped to whole bytes.

    As the code of the paper's authors (the reference code) computes them with torchaudio, here with librosa, which is kept
    well and does not have to match a build of torch: power spectrum of 1024 points under a centred Hann window of 640
    samples, every 320 samples; 40 triangular mel filters (HTK scale, peak 1) from 20 to 4000 Hz; ln(· + 1e-6);
    orthonormal DCT-II; the first ten coefficients of the first 49 frames; plus 128, clipped to [0, 255] and rounded down.

    Args:
        clips: shape (n, 16000), amplitudes in [−1, 1].
        progress: draw a progress bar on a terminal.

    Returns:
        uint8 of shape (n, 1, 49, 10).

    Example:
        >>> features(np.zeros((2, RATE))).shape
        (2, 1, 49, 10)
    """
    found = _featured(enumerate(clips), progress)
    return np.stack([found[i] for i in range(len(found))]) if len(clips) else np.empty((0, 1, 49, 10), np.uint8)


def _featured(clips: Iterable[tuple[_Key, np.ndarray]], progress: bool) -> dict[_Key, np.ndarray]:
    """The features of named clips, block by block on all cores; never more than a few blocks of sound in memory."""
    found: dict[_Key, np.ndarray] = {}
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool, _bar(progress) as bar:
        waiting: deque[tuple[list[_Key], Future]] = deque()

        def collect() -> None:
            keys, future = waiting.popleft()
            found.update(zip(keys, future.result()))
            bar.update(len(keys))

        for block in _blocks(clips):
            keys, sounds = zip(*block)
            waiting.append((list(keys), pool.submit(_features, np.stack(sounds))))
            if len(waiting) > 2 * cores:
                collect()
        while waiting:
            collect()
    return found


def _blocks(items: Iterable, size: int = 128) -> Iterator[list]:
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block


def log_mel(clips: np.ndarray) -> np.ndarray:
    """The logarithm of the energy in 40 mel bands, the last step before the cosine transform.

    Args:
        clips: shape (n, 16000).

    Returns:
        float64 of shape (n, 40, 51): bands, frames.

    Example:
        >>> log_mel(np.zeros((1, RATE))).shape
        (1, 40, 51)
    """
    with warnings.catch_warnings():  # of a progress bar that librosa never draws here
        warnings.filterwarnings("ignore", message="IProgress not found")
        from librosa.feature import melspectrogram

    power = melspectrogram(
        y=clips.astype(np.float64),
        sr=RATE,
        n_fft=1024,
        win_length=640,
        hop_length=320,
        window="hann",
        center=True,
        pad_mode="reflect",
        power=2.0,
        n_mels=40,
        fmin=20.0,
        fmax=4000.0,
        htk=True,
        norm=None,
        dtype=np.float64,
    )
    return np.log(power + 1e-6)


def _features(clips: np.ndarray) -> np.ndarray:
    energies = log_mel(clips)
    from librosa.feature import mfcc

    cepstrum = mfcc(S=energies, n_mfcc=10, dct_type=2, norm="ortho")[..., :49]
    return np.floor(np.clip(cepstrum + 128, 0, 255)).astype(np.uint8).swapaxes(-1, -2)[:, np.newaxis]


def augment(
    clips: np.ndarray,
    noises: Iterable[np.ndarray],
    rng: np.random.Generator,
    max_shift: float = 0.1,
    noise_probability: float = 0.8,
    max_volume: float = 0.2,
) -> np.ndarray:
    """Shift clips in time and add background noise: what the reference code meant to do and, by a slip, never does.

    (It compares the name of the partition with the number of its enumeration, which never agree.)

    Args:
        clips: shape (n, 16000).
        noises: background recordings of at least 16000 samples each; none adds no noise.
        rng: the source of chance.
        max_shift: seconds to shift by at most, either way; what is shifted in is silent. (The reference code has 0.2.)
        noise_probability: share of clips that get noise.
        max_volume: the noise's largest factor; drawn uniformly from [0, max_volume].

    Returns:
        New clips of the same shape, clipped to [−1, 1].

    Example:
        >>> clips = np.ones((2, RATE))
        >>> augment(clips, noises=[], rng=np.random.default_rng(0)).shape
        (2, 16000)
    """
    noises = list(noises)
    reach = round(max_shift * RATE)
    out = np.zeros_like(clips)
    for row, clip in zip(out, clips):
        shift = int(rng.integers(-reach, reach + 1))
        row[max(shift, 0) : RATE + min(shift, 0)] = clip[max(-shift, 0) : RATE + min(-shift, 0)]
        if noises and rng.random() < noise_probability:
            noise = noises[rng.integers(len(noises))]
            start = int(rng.integers(len(noise) - RATE + 1))
            row += rng.uniform(0, max_volume) * noise[start : start + RATE]
    return np.clip(out, -1, 1)


def gsc12(source: str | Path | None = None, note: str = "", progress: bool = False) -> Dataset:
    """The scaled task: the 4,890 clips of the official twelve-class test archive, to be cross-validated by speaker.

    All clips are in the training part; `folds` keeps each speaker's together. Clips of silence have no speaker: each
    is a group of its own, although they are cut from a few recordings of background noise.

    Args:
        source: the archive `speech_commands_test_set_v0.02.tar.gz` or its folder; None downloads it.
        note: goes into the provenance.
        progress: draw a progress bar on a terminal.

    Raises:
        DatasetError: the download failed, a word's folder is missing, a clip cannot be read.

    Example:
        >>> from anabook.datasets import DatasetError
        >>> try:
        ...     gsc12("nowhere.tar.gz")
        ... except DatasetError as error:
        ...     print(error)
        ...
        there is no file or folder 'nowhere.tar.gz'.
    """
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            return gsc12(_download(TEST_ARCHIVE, Path(folder), "gsc12"), note, progress)
    source = path_at(source, "source")
    in_class = lambda path: path.suffix == ".wav" and path.parent.name in CLASSES  # noqa: E731
    found = _featured(
        ((_tail(path), read_clip(data, str(path))) for path, data in sources.files(source, in_class)), progress
    )
    paths = sorted(found)
    _require(CLASSES, {path.parent.name for path in paths}, source)
    inputs = np.stack([found[path] for path in paths])
    labels = np.array([CLASSES.index(path.parent.name) for path in paths])
    speakers = [_group(str(path)) for path in paths]
    split = np.zeros(len(labels), np.uint8)
    kind, checksums = _checked(source, TEST_ARCHIVE)
    provenance = Provenance(
        kind,
        "twelve-class test archive of Google Speech Commands v0.02, cross-validated by speaker",
        _LICENCE,
        _CITATION,
        checksums,
        _parameters(),
        note,
    )
    return Dataset("gsc12", inputs, labels, split, _numbers(speakers), CLASSES, provenance)


def gsc(source: str | Path | None = None, note: str = "", progress: bool = False, augmented: int = 0) -> Dataset:
    """The full task: Google Speech Commands v0.02 with the official split by a hash of the speaker.

    Silence and unknown words each make up as many clips as a tenth of the ten words' clips in the part, rounded up.
    Unknown words are those first in the order of a hash of their path, so that no file system's order matters.
    Clips of silence are cut from the background recordings at places and volumes drawn with a fixed seed.

    Args:
        source: the archive `speech_commands_v0.02.tar.gz` or its folder; None downloads it (2.4 GB).
        note: goes into the provenance.
        progress: draw a progress bar on a terminal.
        augmented: extra copies of each training clip, shifted and with background noise (see `augment`).

    Raises:
        DatasetError: the download failed, a word's folder is missing, a clip cannot be read.

    Example:
        >>> from anabook.datasets import DatasetError
        >>> try:
        ...     gsc("nowhere.tar.gz")
        ... except DatasetError as error:
        ...     print(error)
        ...
        there is no file or folder 'nowhere.tar.gz'.
    """
    augmented = integer(augmented, "augmented", minimum=0)
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            return gsc(_download(FULL_ARCHIVE, Path(folder), "gsc"), note, progress, augmented)
    source = path_at(source, "source")
    chosen, noises = _choose(source)
    silences = {PurePosixPath("_silence_", f"{part} {i}"): part for part, n in enumerate(_tenths(chosen)) for i in range(n)}

    def clips() -> Iterable[tuple[tuple[str, int], np.ndarray]]:
        for path, data in sources.files(source, lambda path: _tail(path) in chosen):
            yield from copies(_tail(path), read_clip(data, str(path)), chosen[_tail(path)])
        for path, part in silences.items():
            yield from copies(path, _cut(noises, _rng(path, 0)), part)

    def copies(path: PurePosixPath, clip: np.ndarray, part: int) -> Iterable[tuple[tuple[str, int], np.ndarray]]:
        yield (str(path), 0), clip
        for copy in range(1, 1 + augmented * (part == 0)):
            yield (str(path), copy), augment(clip[np.newaxis], noises, _rng(path, copy))[0]

    found = _featured(clips(), progress)
    parts = {str(path): part for path, part in (chosen | silences).items()}
    rows = sorted(found, key=lambda row: (parts[row[0]], row))
    words = [PurePosixPath(path).parent.name for path, _ in rows]
    kind, checksums = _checked(source, FULL_ARCHIVE)
    provenance = Provenance(
        kind,
        "Google Speech Commands v0.02, ten words, silence and unknown, split by the hash of the speaker",
        _LICENCE,
        _CITATION,
        checksums,
        _parameters() | {"augmented copies": augmented},
        note,
    )
    return Dataset(
        "gsc",
        np.stack([found[row] for row in rows]),
        np.array([CLASSES.index(word) if word in CLASSES else 1 for word in words]),
        np.array([parts[path] for path, _ in rows], np.uint8),
        _numbers([_group(path) for path, _ in rows]),
        CLASSES,
        provenance,
    )


def _choose(source: Path) -> tuple[dict[PurePosixPath, int], list[np.ndarray]]:
    """Which clips of the full archive make up the task, each with its part, and the background recordings."""
    known: dict[PurePosixPath, int] = {}
    unknown: dict[PurePosixPath, int] = {}

    def note_name(path: PurePosixPath) -> bool:
        if path.suffix == ".wav" and speaker_of(path.name):
            (known if path.parent.name in WORDS else unknown)[_tail(path)] = which_part(path.name)
        return path.suffix == ".wav" and path.parent.name == _BACKGROUND

    recordings = {path.name: _read_wav(data, str(path)) for path, data in sources.files(source, note_name)}
    noises = [recordings[name] for name in sorted(recordings) if len(recordings[name]) >= RATE]
    _require((*WORDS, _BACKGROUND), {path.parent.name for path in known} | ({_BACKGROUND} if noises else set()), source)
    order = sorted(unknown, key=lambda path: hashlib.sha256(str(path).encode()).hexdigest())
    for part, n in enumerate(_tenths(known)):
        known |= dict.fromkeys([path for path in order if unknown[path] == part][:n], part)
    return known, noises


def _tenths(chosen: dict[PurePosixPath, int]) -> list[int]:
    """A tenth, rounded up, of the ten words' clips in each part."""
    return [
        -(-sum(p == part and path.parent.name in WORDS for path, p in chosen.items()) // len(WORDS)) for part in range(3)
    ]


def _tail(path: PurePosixPath) -> PurePosixPath:
    """Folder and file name: what identifies a clip wherever the archive was unpacked."""
    return PurePosixPath(*path.parts[-2:])


def _rng(path: PurePosixPath, copy: int) -> np.random.Generator:
    """Chance that depends on the clip alone, not on the order in which files are found."""
    return np.random.default_rng([copy, *hashlib.sha256(str(path).encode()).digest()])


def _group(path: str) -> str:
    return speaker_of(path.rsplit("/", 1)[-1]) or path


def which_part(name: str) -> int:
    """The official split: 0 train, 1 validation, 2 test, by the SHA-1 hash of the file name up to "_nohash_".

    The rule of Warden (2018), section 7: ten per cent of speakers to validation, ten to test.

    Example:
        >>> which_part("0a2b400e_nohash_0.wav")
        0
    """
    number = int(hashlib.sha1(re.sub(r"_nohash_.*$", "", name).encode(), usedforsecurity=False).hexdigest(), 16)
    largest = 2**27 - 1
    percentage = (number % (largest + 1)) * 100 / largest
    return 1 if percentage < 10 else 2 if percentage < 20 else 0


def speaker_of(name: str) -> str | None:
    """The eight hexadecimal digits that stand for the speaker in a file name, if it has them.

    Example:
        >>> speaker_of("0a2b400e_nohash_0.wav")
        '0a2b400e'
    """
    match = re.search(r"(?:^|_)([0-9a-f]{8})_nohash_\d+\.wav$", name)
    return match.group(1) if match else None


def read_clip(data: bytes, name: str) -> np.ndarray:
    """One second of sound from the bytes of a wav file: cut or padded with silence to 16000 samples in [−1, 1).

    Example:
        >>> import io, wave
        >>> file = io.BytesIO()
        >>> with wave.open(file, "wb") as clip:
        ...     clip.setparams((1, 2, RATE, 0, "NONE", ""))
        ...     clip.writeframes(bytes(1000))
        ...
        >>> read_clip(file.getvalue(), "silence.wav").shape
        (16000,)
    """
    samples = _read_wav(data, name)[:RATE]
    return np.pad(samples, (0, RATE - len(samples)))


def _read_wav(data: bytes, name: str) -> np.ndarray:
    try:
        with wave.open(io.BytesIO(data)) as f:
            form = (f.getnchannels(), f.getsampwidth(), f.getframerate())
            frames, promised = f.readframes(f.getnframes()), f.getnframes()
    except (wave.Error, EOFError, ValueError, RuntimeError) as error:
        why = "it ends too early" if isinstance(error, EOFError) else reason(error)
        raise DatasetError(f"{name} is no wav file that can be read ({why if data else 'it is empty'}).") from error
    if form != (1, 2, RATE):
        raise DatasetError(
            f"{name} should be mono, 16 bits, 16000 samples a second, not {form[0]} channel(s), {8 * form[1]} bits, "
            f"{form[2]}."
        )
    if not frames or len(frames) != 2 * promised:
        raise DatasetError(f"{name} is truncated: {len(frames) // 2} of {promised} samples.")
    return np.frombuffer(frames, "<i2").astype(np.float32) / 2**15


def _cut(noises: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A second of background noise, from a random place and at a random volume."""
    noise = noises[rng.integers(len(noises))]
    start = int(rng.integers(len(noise) - RATE + 1))
    return (noise[start : start + RATE] * rng.uniform()).astype(np.float32)


def _numbers(speakers: Iterable[str]) -> np.ndarray:
    return np.unique(np.array(list(speakers)), return_inverse=True)[1].astype(np.int64)


def _require(wanted: Iterable[str], found: set[str], source: Path) -> None:
    missing = [word for word in wanted if word not in found]
    if missing:
        raise DatasetError(f"{str(source)!r} has no wav files in a folder {', '.join(missing)}.")


def _parameters() -> dict[str, object]:
    return {"features": "MFCC, 49 frames × 10 coefficients, +128, clipped to [0, 255], rounded down"}


def _checked(source: Path, archive: _Archive) -> tuple[str, dict[str, str]]:
    if not source.is_file():
        return "unverified", {}
    with open(source, "rb") as f:
        found = hashlib.file_digest(f, "sha256").hexdigest()
    return ("official" if found == archive.sha256 else "differs"), {source.name: f"sha256:{found}"}


def _download(archive: _Archive, folder: Path, name: str) -> Path:
    from torch.hub import download_url_to_file

    path = folder / archive.name
    with sources.explain_failed_download(name):
        download_url_to_file(_URL + archive.name, str(path), hash_prefix=archive.sha256)
    return path


def _bar(wanted: bool) -> tqdm:
    from tqdm import tqdm  # of the extra "training": the list of data sets must be there without it

    return tqdm(desc="features", unit=" clips", disable=None if wanted else True)
