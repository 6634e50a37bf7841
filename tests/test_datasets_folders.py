"""Images of one's own: a folder for each class, made a data set with its provenance."""

import tarfile

import numpy as np
import pytest
from PIL import Image

from anabook import cli
from anabook.datasets import DatasetError, folders, prepare, store
from anabook.datasets.dataset import SPLITS


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "store"))


def picture(path, shade, mode="L", size=(4, 6)):
    """A picture of one shade, (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade).save(path)
    return path


@pytest.fixture
def sky(tmp_path):
    """Two classes, of six and of four pictures; each shade is there once."""
    for label, shade, n in (("day", 200, 6), ("night", 40, 4)):
        for i in range(n):
            picture(tmp_path / "sky" / label / f"{i}.png", shade + i)
    return tmp_path / "sky"


def shades(dataset, part):
    return sorted(dataset.part(part)[0].reshape(len(dataset.part(part)[0]), -1)[:, 0].tolist())


def test_a_folder_of_classes_becomes_a_data_set_with_its_provenance(sky):
    found = folders.from_folder("sky", sky, test_fraction=0.25, validation_fraction=0.25, seed=1, note="from my window")
    assert found.inputs.shape == (10, 1, 6, 4) and found.inputs.dtype == np.uint8 and found.classes == ("day", "night")
    assert found.counts() == {"day": 6, "night": 4} and found.counts("test") == {"day": 2, "night": 1}
    assert found.counts("validation") == {"day": 2, "night": 1} and found.split.tolist() == sorted(found.split.tolist())
    assert sorted(sum((shades(found, part) for part in SPLITS), [])) == [*range(40, 44), *range(200, 206)]
    assert all((x[0, 0, 0] >= 200) == (y == 0) for x, y in zip(found.inputs, found.labels))
    provenance = found.provenance
    assert provenance.kind == "unverified" and "'sky' with 10 images of 2 classes" in provenance.source
    assert provenance.parameters["images by class"]["day"] == {"train": 2, "validation": 2, "test": 2}
    assert provenance.parameters["split"] == "at random within each class, seed 1" and provenance.note == "from my window"
    assert found.title == "sky (local files, not verified)" and str(sky.parent) not in str(provenance)


def test_the_split_follows_the_seed_and_the_hash_follows_names_and_bytes(sky):
    first, again, other = (folders.from_folder("sky", sky, seed=seed) for seed in (0, 0, 3))
    assert np.array_equal(first.inputs, again.inputs) and first.provenance == again.provenance
    assert shades(first, "test") != shades(other, "test") and first.provenance.checksums == other.provenance.checksums
    (sky / "day" / "0.png").rename(sky / "day" / "renamed.png")
    renamed = folders.from_folder("sky", sky).provenance.checksums
    picture(sky / "day" / "renamed.png", 199)
    assert (
        len(
            {
                str(each)
                for each in (first.provenance.checksums, renamed, folders.from_folder("sky", sky).provenance.checksums)
            }
        )
        == 3
    )


def test_folders_of_parts_are_taken_as_they_are(tmp_path):
    for part, shade in (("train", 10), ("val", 20), ("test", 30)):
        for i, label in enumerate(("a", "b")):
            picture(tmp_path / "set" / part / label / "deeper" / "1.png", shade + i)
    found = folders.from_folder("set", tmp_path / "set")
    assert [shades(found, part) for part in SPLITS] == [[10, 11], [20, 21], [30, 31]]
    assert found.provenance.parameters["split"] == "by the folders' names"
    with pytest.raises(DatasetError, match="has a part 'test' of its own: leave out --test-fraction"):
        folders.from_folder("set", tmp_path / "set", test_fraction=0.5)
    picture(tmp_path / "set" / "test" / "c" / "1.png", 0)
    with pytest.raises(DatasetError, match="'test' has the class 'c', which 'train' has not: a, b"):
        folders.from_folder("set", tmp_path / "set")


def test_training_images_alone_can_be_split_and_are_not_unless_asked(tmp_path):
    for i in range(5):
        for label in "ab":
            picture(tmp_path / "set" / "train" / label / f"{i}.png", i)
    assert (folders.from_folder("set", tmp_path / "set").split == 0).all()
    assert folders.from_folder("set", tmp_path / "set", test_fraction=0.4).counts("test") == {"a": 2, "b": 2}


def test_images_are_scaled_to_cover_the_size_and_cut_around_the_middle(tmp_path):
    for label in "ab":
        image = Image.new("RGB", (8, 4), "black")
        image.paste((255, 0, 0), (2, 0, 6, 4))  # the middle
        (tmp_path / "set" / label).mkdir(parents=True)
        image.save(tmp_path / "set" / label / "wide.png")
        picture(tmp_path / "set" / label / "square.png", (0, 0, 255), "RGB", (2, 2))
    found = folders.from_folder("set", tmp_path / "set", size=4, test_fraction=0)
    assert found.inputs.shape == (4, 3, 4, 4)
    wide = found.inputs[[x[0].max() == 255 for x in found.inputs]]
    assert (wide[:, 0] == 255).all() and (wide[:, 1:] == 0).all()
    assert folders.from_folder("set", tmp_path / "set", size=(3, 5), test_fraction=0).inputs.shape == (4, 3, 3, 5)
    assert found.provenance.parameters["sizes found"] in ("2 of 4×8, 2 of 2×2", "2 of 2×2, 2 of 4×8")


def test_grey_coloured_transparent_and_deep_images_mean_what_they_show(tmp_path):
    place = tmp_path / "set" / "a"
    place.mkdir(parents=True)
    Image.fromarray(np.full((2, 2), 256 * 77 + 3, np.uint16)).save(place / "16 bits.png")
    Image.new("LA", (2, 2), (0, 0)).save(place / "clear.png")  # transparent, so white
    Image.new("1", (2, 2), 1).save(place / "one bit.png")
    picture(tmp_path / "set" / "b" / "grey.jpg", 50, size=(2, 2))
    grey = folders.from_folder("set", tmp_path / "set", test_fraction=0)
    assert grey.inputs.shape[1] == 1 and grey.inputs[:, 0, 0, 0].tolist() == [77, 255, 255, 50]
    assert grey.provenance.parameters["colour"] == "grey"
    Image.new("RGBA", (2, 2), (255, 0, 0, 255)).save(tmp_path / "set" / "b" / "red.png")
    with pytest.raises(
        DatasetError, match=r"4 images are grey, such as 'a/16 bits.png', and 1 have colours: say --colour grey or"
    ):
        folders.from_folder("set", tmp_path / "set")
    rgb = folders.from_folder("set", tmp_path / "set", colour="rgb", test_fraction=0)
    assert rgb.inputs[-1, :, 0, 0].tolist() == [255, 0, 0] and rgb.inputs[0, :, 0, 0].tolist() == [77] * 3
    assert folders.from_folder("set", tmp_path / "set", colour="grey", test_fraction=0).inputs[-1, 0, 0, 0] == 76


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    for label in "ab":
        image, exif = Image.new("L", (4, 2), 9), Image.Exif()
        exif[0x0112] = 6  # a quarter turn
        (tmp_path / label).mkdir()
        image.save(tmp_path / label / "turned.jpg", exif=exif)
    assert folders.from_folder("set", tmp_path, test_fraction=0).inputs.shape == (2, 1, 4, 2)


def test_broken_images_are_named_and_counted_and_left_out_by_choice(sky):
    (sky / "day" / "broken.png").write_bytes(b"no image")
    whole = (sky / "night" / "0.png").read_bytes()
    (sky / "night" / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError) as refused:
        folders.from_folder("sky", sky)
    said = str(refused.value)
    assert said.startswith("2 of 12 images cannot be read: 'day/broken.png' (cannot identify image file), 'night/cut.png' (")
    assert said.endswith("or leave them out with --skip-broken.") and "\n" not in said and "0x" not in said
    found = folders.from_folder("sky", sky, skip_broken=True)
    assert len(found.labels) == 10 and found.provenance.parameters["left out as broken"].startswith("2: 'day/broken.png' (")


def test_what_systems_leave_and_other_files_are_passed_over(sky):
    (sky / ".DS_Store").write_bytes(b"x")
    (sky / "__MACOSX" / "day").mkdir(parents=True)
    (sky / "__MACOSX" / "day" / "._0.png").write_bytes(b"x")
    (sky / "README.txt").write_text("pictures")
    found = folders.from_folder("sky", sky)
    assert len(found.labels) == 10 and found.provenance.parameters["other files passed over"] == 1


def nothing(sky):
    return sky / "nowhere"


def archive(sky):
    with tarfile.open(sky.parent / "sky.tar", "w") as tar:
        tar.add(sky, arcname="sky")
    return sky.parent / "sky.tar"


def loose(sky):
    picture(sky.parent / "loose" / "a.png", 1)
    return sky.parent / "loose"


def one_class(sky):
    picture(sky.parent / "one" / "cats" / "a.png", 1)
    return sky.parent / "one"


def empty_class(sky):
    (sky / "dusk").mkdir()
    return sky


def class_of_one(sky):
    picture(sky / "dusk" / "a.png", 1)
    return sky


def sizes(sky):
    picture(sky / "day" / "big.png", 1, size=(9, 9))
    return sky


@pytest.mark.parametrize(
    "make, options, message",
    [
        (nothing, {}, "nowhere' is no folder that there is"),
        (archive, {}, r"sky.tar' is a file, and should be a folder of images by class"),
        (loose, {}, "holds 1 images, but no folder of a class: put the images of each class into a folder of its own"),
        (one_class, {}, "has one class only, 'cats': at least two"),
        (empty_class, {}, r"the class 'dusk' in .* has no image \(.bmp, .jpeg, .*remove the folder"),
        (
            class_of_one,
            {},
            r"the class 'dusk' has 1 image, and at least 2 are needed .*\(train, test\).*--test-fraction 0\.$",
        ),
        (
            class_of_one,
            {"validation_fraction": 0.2, "test_fraction": 0.2},
            r"at least 3 are needed .*\(train, test, validation\)",
        ),
        (sizes, {}, "the images have 2 sizes, 10 of them 6×4: say --size, as in --size 32"),
        (lambda sky: sky, {"test_fraction": 1.0}, "test_fraction must be at least 0 and less than 1, not 1"),
        (lambda sky: sky, {"test_fraction": -0.1}, "test_fraction must be finite and at least 0"),
        (lambda sky: sky, {"test_fraction": 0.5, "validation_fraction": 0.5}, "leave images to train on, not sum to 1"),
        (lambda sky: sky, {"size": 0}, "size must be an integer from 1 to 4096, not 0"),
        (lambda sky: sky, {"size": (1, 2, 3)}, r"size must be one number or a pair \(height, width\)"),
        (lambda sky: sky, {"colour": "gray"}, "colour must be one of 'grey', 'rgb', not 'gray'. Did you mean 'grey'"),
    ],
)
def test_folders_and_options_that_make_no_data_set_are_refused_with_one_sentence(sky, make, options, message):
    with pytest.raises(ValueError, match=message):
        folders.from_folder("mine", make(sky), **options)
    assert not (sky.parent / "store").exists()


def test_all_of_a_class_may_be_trained_on_where_nothing_is_held_out(sky):
    assert folders.from_folder("sky", class_of_one(sky), test_fraction=0).counts("train") == {
        "day": 6,
        "dusk": 1,
        "night": 4,
    }


@pytest.mark.parametrize(
    "name, message",
    [
        ("digits", "cannot be named 'digits': that name is taken"),
        ("my-stand-in", "'stand-in' marks made-up data"),
        ("../sky", r"must be of letters, digits, '\.', '-' and '_', not '\.\./sky'"),
        ("", "must be of letters"),
    ],
)
def test_names_that_mean_something_else_are_refused(sky, name, message):
    with pytest.raises(DatasetError, match=message):
        prepare.prepare(name, sky)


def test_the_books_data_sets_keep_their_names(sky):
    with pytest.raises(DatasetError, match=r"is not CIFAR-10: it has no .* For images of your own .* choose another name"):
        prepare.prepare("cifar10", sky)
    with pytest.raises(DatasetError, match="--size is for images of your own, and 'cifar10' is a data set of the book"):
        prepare.prepare("cifar10", sky, size=32)
    with pytest.raises(
        DatasetError, match=r"no folder of images by class, and there is no data set 'cifr10' \(did you mean 'cifar10'"
    ):
        prepare.prepare("cifr10", sky / "day" / "0.png")
    with pytest.raises(
        ValueError, match="the data set must be one of 'cifar10'.*For images of your own, .*add --from FOLDER"
    ):
        prepare.prepare("sky")


def test_the_command_line_prepares_lists_and_verifies_a_folder(sky, capsys):
    picture(sky / "day" / "big.png", 210, size=(9, 9))
    assert cli.main(["data", "sky", "--from", str(sky)]) == 2
    assert "say --size" in capsys.readouterr().err
    words = ["data", "sky", "--from", str(sky), "--size", "8x6", "--colour", "rgb", "--test-fraction", "0.5", "--seed", "4"]
    assert cli.main([*words, "--note", "mine"]) == 0
    assert "5 train, 6 test examples of shape 3×8×6, 2 classes" in capsys.readouterr().out
    assert store.load("sky").inputs.shape == (11, 3, 8, 6) and store.describe("sky")["provenance"]["note"] == "mine"
    assert cli.main(["data"]) == 0 and "unverified" in capsys.readouterr().out
    assert cli.main(["data", "sky", "--verify"]) == 0
    (sky / "day" / "bad.png").write_bytes(b"x")
    assert cli.main(["data", "sky", "--from", str(sky), "--size", "8"]) == 2
    assert "--skip-broken" in capsys.readouterr().err
    assert cli.main(["data", "sky", "--from", str(sky), "--size", "8", "--skip-broken"]) == 0
    assert cli.main(["data", "sky", "--size", "8"]) == 2
    assert "--size is for images of your own: add NAME and --from FOLDER" in capsys.readouterr().err
