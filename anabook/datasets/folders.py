"""A folder of images by class, as a data set of one's own."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from anabook._validate import choice, flag, integer, real, reason
from anabook._validate import path as path_at
from anabook.datasets import sources
from anabook.datasets.dataset import SPLITS, Dataset, DatasetError, Provenance

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"})
"""The files that count as images, by the ends of their names in small letters."""

COLOURS = ("grey", "rgb")
"""What images can be made."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_PARTS = {"train": "train", "test": "test", "val": "validation", "valid": "validation", "validation": "validation"}
_SEVERAL = 5  # how many files a message names


class _Read(NamedTuple):
    """An image as it was found, before all are made alike."""

    place: str
    part: str
    label: str
    sides: tuple[int, int]
    grey: bool
    pixels: np.ndarray | None
    """(height, width) where it is grey, else (height, width, 3); None where it can only be counted."""


def check_name(name: str, taken: frozenset[str] | set[str] | dict[str, object]) -> str:
    """Refuse a name that a data set of one's own cannot have in the store.

    Args:
        name: letters, digits, dots, hyphens and underscores.
        taken: the names of the data sets that the package prepares itself.

    Example:
        >>> check_name("flowers", {"cifar10"})
        'flowers'
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DatasetError(f"a data set's name must be of letters, digits, '.', '-' and '_', not {name!r}.")
    if name in taken:
        raise DatasetError(f"a data set of your own cannot be named {name!r}: that name is taken.")
    if "stand-in" in name:
        raise DatasetError(f"a data set of your own cannot be named {name!r}: 'stand-in' marks made-up data.")
    return name


def from_folder(
    name: str,
    source: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    colour: str | None = None,
    test_fraction: float | None = None,
    validation_fraction: float | None = None,
    seed: int = 0,
    skip_broken: bool = False,
    note: str = "",
) -> Dataset:
    """A data set from images in a folder for each class, as torchvision's `ImageFolder` takes them.

    The folder holds `CLASS/….png`, and is split here, or `train/CLASS/….png` beside `test/CLASS/….png`, with or without
    `validation/` (or `val/`). Images lie anywhere within their class's folder; other files are passed over. They are turned as
    their cameras say, and what is transparent is shown on white. An image of another size than `size` is scaled until
    it covers that, and cut to it around its middle.

    Args:
        name: what the data set is to be called.
        source: the folder.
        size: the side of square images, or (height, width). Images that are of one size already need none.
        colour: "grey" or "rgb"; by default what the images are, if all are the same.
        test_fraction: of each class, to test on; 0.2 by default, and nothing where there is a folder `train`.
        validation_fraction: the same for a validation part; none by default. Experiments do without: they make
            folds of the training part.
        seed: of the split, which is the same on every machine.
        skip_broken: leave out images that cannot be read, and note how many.
        note: goes into the provenance.

    Returns:
        A `Dataset` with inputs of shape (n, 1, height, width) or (n, 3, height, width), uint8, of the kind "unverified". Its
        provenance has a hash of all files, the number of images of each class, and what was done to them.

    Raises:
        DatasetError: no folders of classes, a class without images or with too few to split, broken images, grey and
            coloured ones or several sizes without word of what to make of them.

    Example:
        >>> from PIL import Image
        >>> for label, shade in (("day", 200), ("night", 40)):
        ...     Path("sky", label).mkdir(parents=True)
        ...     for i in range(5):
        ...         Image.new("L", (4, 4), shade + i).save(Path("sky", label, f"{i}.png"))
        ...
        >>> from_folder("sky", "sky")
        Dataset('sky (local files, not verified)': 8 train, 2 test examples of shape 1×4×4, 2 classes)
    """
    source = path_at(source, "source")
    size, colour, skip_broken = _size(size), _colour(colour), flag(skip_broken, "skip_broken")
    seed = integer(seed, "seed", minimum=0)
    if not source.is_dir():
        what = "is a file, and should be a folder of images by class" if source.is_file() else "is no folder that there is"
        raise DatasetError(f"{str(source)!r} {what}: put the images of each class into a folder of its own.")
    divided, classes = _layout(source)
    read, broken, files, passed_over = _read_all(source, divided, size)
    if broken and not skip_broken:
        raise DatasetError(
            f"{len(broken)} of {len(broken) + len(read)} images cannot be read: {_listing(broken)}; mend them, or leave them "
            "out with --skip-broken."
        )
    _check_classes(source, classes, read, len(broken))
    images, sizes = _alike(read, size, colour)
    labels = np.array([classes.index(each.label) for each in read], np.int64)
    split = _split([each.part for each in read], labels, classes, divided, test_fraction, validation_fraction, seed)
    rows = np.argsort(split, kind="stable")
    counts = {part: np.bincount(labels[split == i], minlength=len(classes)) for i, part in enumerate(SPLITS)}
    provenance = Provenance(
        kind="unverified",
        source=f"the folder {source.resolve().name!r} with {len(read)} images of {len(classes)} classes",
        licence="not stated",
        citation="",
        checksums={"all images with their names": f"sha256:{files}"},
        parameters={
            "size": "×".join(map(str, images.shape[2:])),
            "colour": COLOURS[images.shape[1] == 3],
            "sizes found": ", ".join(f"{n} of {'×'.join(map(str, s))}" for s, n in sizes.most_common(_SEVERAL)),
            "split": "by the folders' names" if divided else f"at random within each class, seed {seed}",
            "images by class": {
                label: {part: int(n[i]) for part, n in counts.items() if n.sum()} for i, label in enumerate(classes)
            },
            **({"left out as broken": f"{len(broken)}: {_listing(broken)}"} if broken else {}),
            **({"other files passed over": passed_over} if passed_over else {}),
        },
        note=note,
    )
    group = np.full(len(rows), -1, np.int64)
    return Dataset(name, images[rows], labels[rows], split[rows], group, tuple(classes), provenance)


def holds_classes(source: Path) -> bool:
    """Whether a folder holds images in folders, as those of one's own do.

    Example:
        >>> Path("plain").mkdir()
        >>> holds_classes(Path("plain"))
        False
    """
    return source.is_dir() and any(_is_image(path.relative_to(source)) for path in source.glob("*/*"))


def _is_image(path: Path | PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES and not sources.is_litter(path)


def _folders(folder: Path) -> list[str]:
    try:
        found = [path.name for path in folder.iterdir() if path.is_dir()]
    except OSError as error:
        raise DatasetError(f"cannot read {folder}: {error.strerror or error}.") from error
    return sorted(name for name in found if not sources.is_litter(PurePosixPath(name)))


def _layout(source: Path) -> tuple[bool, list[str]]:
    """Whether the folder is divided into parts, and the names of the classes."""
    top = _folders(source)
    divided = "train" in top and all(name in _PARTS for name in top)
    classes = _folders(source / "train") if divided else top
    where = source / "train" if divided else source
    if not classes:
        loose = sum(1 for path in where.iterdir() if _is_image(PurePosixPath(path.name)))
        has = f"{loose} images, but no folder" if loose else "no folder"
        raise DatasetError(f"{str(where)!r} holds {has} of a class: put the images of each class into a folder of its own.")
    if len(classes) < 2:
        raise DatasetError(f"{str(where)!r} has one class only, {classes[0]!r}: at least two are needed to tell apart.")
    if divided:
        for part in top:
            for label in _folders(source / part):
                if label not in classes:
                    raise DatasetError(f"{part!r} has the class {label!r}, which 'train' has not: {', '.join(classes)}.")
    return divided, classes


def _read_all(source: Path, divided: bool, size: tuple[int, int] | None) -> tuple[list[_Read], dict[str, str], str, int]:
    """The images, those that are broken with the reason, a hash of all files with their names, and how many are no images."""
    read: list[_Read] = []
    broken: dict[str, str] = {}
    digest, deep, others = hashlib.sha256(), 3 if divided else 2, 0

    def wanted(path: PurePosixPath) -> bool:
        nonlocal others
        image = len(path.parts) >= deep and _is_image(path)
        others += not image
        return image

    for path, data in sources.files(source, wanted):
        digest.update(f"{path} {hashlib.sha256(data).hexdigest()}\n".encode())
        try:
            pixels = _pixels(data)
        except Exception as error:  # Pillow raises whatever broken bytes lead it into
            broken[str(path)] = re.sub(r" <_io\.\w+ object at \w+>", "", reason(error)).rstrip(".")
            continue
        part = _PARTS[path.parts[0]] if divided else "train"
        sides = pixels.shape[0], pixels.shape[1]
        # What cannot be put into one array is not kept: large images of many sizes would fill the memory.
        kept = _fitted(pixels, size) if size else pixels if not read or sides == read[0].sides else None
        read.append(_Read(str(path), part, path.parts[deep - 2], sides, pixels.ndim == 2, kept))
    return read, broken, digest.hexdigest(), others


def _pixels(data: bytes) -> np.ndarray:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # 16 bits
        return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.mode == "P" and "transparency" not in image.info:
        image = image.convert(image.palette.mode)
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA", "P"):
        shown = Image.new("RGBA", image.size, "white")
        shown.alpha_composite(image.convert("RGBA"))
        image = shown.convert("L" if image.mode in ("LA", "La") else "RGB")
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _check_classes(source: Path, classes: list[str], read: list[_Read], n_broken: int) -> None:
    found = Counter(each.label for each in read if each.part == "train")
    empty = [label for label in classes if not found[label]]
    if empty:
        but = " that can be read" if n_broken else ""
        raise DatasetError(
            f"the class {empty[0]!r} in {str(source)!r} has no image{but} ({', '.join(sorted(SUFFIXES))}): remove the folder, "
            "or put images into it."
        )


def _alike(read: list[_Read], size: tuple[int, int] | None, colour: str | None) -> tuple[np.ndarray, Counter]:
    """All images in one array, (n, channels, height, width), and how many were of which size."""
    grey = [each.place for each in read if each.grey]
    if colour is None and 0 < len(grey) < len(read):
        raise DatasetError(
            f"{len(grey)} images are grey, such as {grey[0]!r}, and {len(read) - len(grey)} have colours: say --colour grey or "
            "--colour rgb for what to make of all."
        )
    sizes = Counter(each.sides for each in read)
    if size is None and len(sizes) > 1:
        (common, n), *_ = sizes.most_common(1)
        raise DatasetError(
            f"the images have {len(sizes)} sizes, {n} of them {common[0]}×{common[1]}: say --size, as in --size 32, for what to "
            "make of all."
        )
    size = size or next(iter(sizes))
    rgb = len(grey) < len(read) if colour is None else colour == "rgb"
    images = np.empty((len(read), 3 if rgb else 1, *size), np.uint8)
    for row, each in zip(images, read):
        row[:] = _coloured(each.pixels, rgb)
    return images, sizes


def _fitted(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image scaled to cover this size, and cut to it around its middle."""
    from PIL import Image, ImageOps

    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (size[1], size[0]), Image.Resampling.BILINEAR))


def _coloured(pixels: np.ndarray, rgb: bool) -> np.ndarray:
    """An image with its channels first: three, or one of brightness."""
    from PIL import Image

    if rgb:
        return (pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)).transpose(2, 0, 1)
    return (pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L")))[None]


def _split(
    parts: list[str],
    labels: np.ndarray,
    classes: list[str],
    divided: bool,
    test_fraction: float | None,
    validation_fraction: float | None,
    seed: int,
) -> np.ndarray:
    split = np.array([SPLITS.index(part) for part in parts], np.uint8)
    fractions = {"test": test_fraction, "validation": validation_fraction}
    for part, fraction in fractions.items():
        if fraction is not None and divided and part in parts:
            raise DatasetError(f"the folder has a part {part!r} of its own: leave out --{part}-fraction.")
    default = {"test": 0.0 if divided else 0.2, "validation": 0.0}
    shares = {part: default[part] if f is None else _fraction(f, f"{part}_fraction") for part, f in fractions.items()}
    if sum(shares.values()) >= 1:
        raise DatasetError(
            f"the fractions for test and validation must leave images to train on, not sum to {sum(shares.values()):g}."
        )
    rng = np.random.default_rng(seed)
    for i, label in enumerate(classes):
        members = rng.permutation(np.flatnonzero((labels == i) & (split == 0)))
        wanted = {part: max(1, round(share * len(members))) for part, share in shares.items() if share}
        if sum(wanted.values()) >= len(members):
            needed = len(wanted) + 1
            raise DatasetError(
                f"the class {label!r} has {len(members)} image{'s' if len(members) > 1 else ''}, and at least {needed} are "
                f"needed to have one in each part ({', '.join(['train', *wanted])}): add some, or say "
                + " ".join(f"--{part}-fraction 0" for part in wanted)
                + "."
            )
        for part, n in wanted.items():
            split[members[:n]] = SPLITS.index(part)
            members = members[n:]
    return split


def _fraction(value: float, what: str) -> float:
    fraction = real(value, what, minimum=0.0)
    if fraction >= 1:
        raise DatasetError(f"{what} must be at least 0 and less than 1, not {fraction:g}.")
    return fraction


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2:
        raise DatasetError(f"size must be one number or a pair (height, width), not {size!r}.")
    height, width = (integer(side, "size", minimum=1, maximum=4096) for side in sides)
    return height, width


def _colour(colour: str | None) -> str | None:
    return None if colour is None else choice(colour, COLOURS, "colour")


def _listing(broken: dict[str, str]) -> str:
    names = [f"{name!r} ({why})" for name, why in list(broken.items())[:_SEVERAL]]
    more = f" and {len(broken) - _SEVERAL} more" if len(broken) > _SEVERAL else ""
    return ", ".join(names) + more
