"""Data sets that a CSV file lists."""

import numpy as np
import pytest

from keras_resnet.data import load_dataset
from keras_resnet.data.files import split_by_hash
from tests.helpers import refused

from .helpers import encode


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Returns a folder with images/0.png to 29.png, whose pixels are 8 times their number."""
    root = tmp_path_factory.mktemp("table")
    (root / "images").mkdir()
    for number in range(30):
        image = np.full((8, 8, 3), 8 * number, np.uint8)
        (root / "images" / f"{number}.png").write_bytes(encode(image, "PNG"))
    return root


def load(root, lines, **options):
    (root / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_dataset("csv", root / "list.csv", image_size=8, **options)


def content(dataset, split):
    """Returns number -> label of the images."""
    elements = [(int(x[0, 0, 0]) // 8, y.numpy()) for x, y, _ in dataset.whole_images(split)]
    return {number: label.tolist() for number, label in elements}


def test_a_label_each_and_a_split(images):
    splits = ["train", "VAL", "test"]
    lines = ["Path,note,label,split"]
    for n in range(30):
        path = f"images/{n}.png" if n % 2 else f"{images}/images/{n}.png"
        lines.append(f'{path},"a, b",{"wolf" if n < 20 else "Löwe"},{splits[n % 3]}')
    dataset = load(images, [*lines, ""])
    assert dataset.name == "list" and dataset.class_names == ("Löwe", "wolf")
    assert not dataset.multi_label
    for start, split in enumerate(dataset.splits):
        assert content(dataset, split) == {n: int(n < 20) for n in range(start, 30, 3)}
    # A folder with a single such file is the same; Excel begins a file with a mark.
    (images / "list.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    assert load_dataset("csv", images, image_size=8).identity() == dataset.identity()
    changed = [lines[0], lines[1].replace("wolf", "Löwe"), *lines[2:]]
    assert load(images, changed).identity() != dataset.identity()


def test_several_labels(images):
    names = {0: "a|b", 1: "b", 2: "", 3: " c | a |c", 4: "c"}
    dataset = load(images, ["label,path", *(f"{v},images/{k}.png" for k, v in names.items())])
    assert dataset.multi_label and dataset.class_names == ("a", "b", "c")
    expected = {0: [1, 1, 0], 1: [0, 1, 0], 2: [0, 0, 0], 3: [1, 0, 1], 4: [0, 0, 1]}
    found = {}
    for split in dataset.splits:
        part = content(dataset, split)
        assert dataset.labels(split).tolist() == list(part.values())
        found |= part
    assert found == expected and set(dataset.splits) == {"train", "validation", "test"}
    batch, labels = next(iter(dataset.train_batches(2)))
    assert batch.shape == (2, 8, 8, 3) and labels.dtype == "float32" and labels.shape == (2, 3)


def test_without_a_split_it_is_by_the_hash_of_the_path_in_each_class(images):
    names = [f"images/{n}.png" for n in range(30)]
    classes = np.array([n % 2 for n in range(30)])
    dataset = load(
        images, ["path,label", *(f"{n},{c}" for n, c in zip(names, classes, strict=True))]
    )
    rows = split_by_hash(names, classes, {"validation": 0.1, "test": 0.1})
    for split in ("train", "validation", "test"):
        assert content(dataset, split) == {n: n % 2 for n in rows[split].tolist()}
    more = load(images, ["path,label", *(f"{n},0" for n in names)], val_split=0.5, test_split=0.0)
    assert more.splits == ("train", "validation") and sum(more.sizes.values()) == 30


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("path, label",)),
        ("file,label\n", ("path, label", "'file'")),
        ("path,label,label\na.png,b,c\n", ("path, label",)),
        ("path,label\n", ("training images", "no rows")),
        ("path,label\n\na.txt,b\n", ("`path`", "row 3 of list.csv", "path='a.txt'")),
        ("path,label\na.png\n", ("1 cells for 2 columns", "row 2 of list.csv")),
        ("path,label,split\na.png,b\n", ("2 cells for 3 columns", "row 2 of list.csv")),
        ("path,label\na.png,b\nb.png,c, d\n", ("3 cells for 2 columns", "row 3 of list.csv")),
        ("path,label\na.png,b\nb.png,\n", ("`label`", "row 3", "label=''")),
        ("path,label\na.png,b||c\n", ("`label`", "row 2", "label='b||c'")),
        ("path,label\na.png,b\na.png,c\n", ("`path`", "row 3", "in row 2", "path='a.png'")),
        ("path,label,split\na.png,b,dev\n", ("`split`", "row 2", "train, val or test", "'dev'")),
        ("path,label,split\na.png,b,val\n", ("training images", "validation")),
        ('path,label\na.png,"b\n', ("UTF-8",)),
        (b"path,label\na.png,\xff\n", ("UTF-8",)),
    ],
)
def test_what_is_wrong_is_named_with_row_and_column(tmp_path, text, words):
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with refused("data_dir", *words):
        load_dataset("csv", path)


def test_the_file_must_be_there(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with refused("data_dir", str(path)):
            load_dataset("csv", path)
    with refused("data_dir", "None"):
        load_dataset("csv")
