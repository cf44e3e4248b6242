import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_resnet import CifarResNet
from keras_resnet.data import BadImageWarning, load_dataset
from keras_resnet.evaluation import (
    MultiScale,
    Progress,
    SingleCrop,
    TenCrop,
    any_size,
    evaluate,
    evaluator,
    open_model,
    with_logits,
)
from keras_resnet.export import export, export_hub
from keras_resnet.models import hub
from keras_resnet.preprocessing import Preprocessing
from tests.data.helpers import write_folder
from tests.helpers import refused

from .helpers import SHAPE, images_of, noise, small_net, softmax


@pytest.fixture(scope="module")
def dataset():
    return noise()


def best(scores, count=5):
    return np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :count]


def assert_predictions(evaluation, scores):
    """Compares the evaluation's ranking and best scores with those of `scores`."""
    scores = np.asarray(scores)
    np.testing.assert_array_equal(evaluation.ranking, best(scores))
    np.testing.assert_allclose(evaluation.scores, scores.max(axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 64])
def test_each_image_counts_once(dataset, batch_size):
    model = small_net()
    images, labels = images_of(dataset)
    evaluation = evaluate(model, dataset, batch_size=batch_size)
    assert evaluation.count == 23 and evaluation.left_out == 0
    np.testing.assert_array_equal(evaluation.indices, np.arange(23))
    np.testing.assert_array_equal(evaluation.labels, labels)
    assert_predictions(evaluation, model(images))


def test_one_scale_of_the_images_own_is_the_single_crop(dataset):
    model = small_net()
    for average in ("softmax", "logits"):
        plain = evaluate(model, dataset, average=average)
        scale = evaluate(model, dataset, MultiScale((8,)), average=average)
        np.testing.assert_array_equal(scale.ranking, plain.ranking)
        np.testing.assert_allclose(scale.scores, plain.scores, rtol=1e-5)


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_scales_are_averaged(dataset, average):
    model = small_net()
    scorer = any_size(model) if average == "softmax" else with_logits(any_size(model))
    scores = [
        scorer(np.stack([image for image, *_ in dataset.whole_images("test", side)]) * 1.0)
        for side in (8, 11, 16)
    ]
    # Budgets in pixels: at 16x24 a batch of 5 is one image.
    evaluation = evaluate(model, dataset, MultiScale((8, 11, 16)), average=average, batch_size=5)
    assert_predictions(evaluation, np.mean(scores, axis=0))


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_ten_crops_are_averaged(dataset, average):
    model = small_net()
    scorer = model if average == "softmax" else with_logits(model)
    scores = []
    for image, *_ in dataset.whole_images("test", 10):
        image = image.numpy().astype("float32")  # 10x15, room of 2x3
        crops = [image[t : t + 8, x : x + 12] for t in (0, 2) for x in (0, 3)]
        crops.append(image[1:9, 2:14])
        scores.append(np.mean(scorer(np.stack([*crops, *(c[:, ::-1] for c in crops)])), axis=0))
    assert_predictions(evaluate(model, dataset, TenCrop(10), average=average, batch_size=7), scores)


def test_ten_crops_of_constant_images_are_the_single_crop():
    dataset = noise()
    dataset._arrays["test"][0][:] = np.linspace(0, 255, 23)[:, None, None, None]
    model = small_net()
    single, ten = (evaluate(model, dataset, protocol(10)) for protocol in (SingleCrop, TenCrop))
    np.testing.assert_array_equal(ten.ranking, single.ranking)
    np.testing.assert_allclose(ten.scores, single.scores, rtol=1e-5)


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_an_ensemble_is_the_mean_of_its_models(dataset, average):
    models = [small_net(0), small_net(1, activation=None, stack_blocks=True)]
    images, _ = images_of(dataset)
    logits = [np.asarray(with_logits(model)(images)) for model in models]
    scores = logits if average == "logits" else [softmax(each) for each in logits]
    assert_predictions(evaluate(models, dataset, average=average), np.mean(scores, axis=0))
    for model, each in zip(models, scores, strict=True):
        assert_predictions(evaluate([model], dataset, average=average), each)


def test_an_ensemble_of_one_name_must_want_the_same_of_images(dataset):
    models = []
    for resize in (10, 12):
        prepared = dataclasses.replace(Preprocessing.unchanged(3), image_size=8, resize=resize)
        options = {"input_shape": SHAPE, "classes": 7, "include_preprocessing": prepared}
        models.append(CifarResNet(8, **options))
    assert models[0].name == models[1].name
    with refused("`models` of an ensemble"):
        evaluate(models, dataset)


def test_the_result_says_what_was_evaluated(dataset):
    seen = []
    evaluation = evaluate(
        [small_net(0), small_net(1)],
        dataset,
        TenCrop(10),
        split="train",
        names=["one", "two"],
        batch_size=30,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert evaluation.models == ("one", "two") and evaluation.dataset == "noise"
    assert evaluation.split == "train" and evaluation.protocol == TenCrop(10)
    assert evaluation.average == "softmax" and evaluation.count == 9
    assert seen == [(0, 9), (3, 9), (6, 9), (9, 9)]


@pytest.fixture
def photos(tmp_path):
    folder = write_folder(tmp_path / "photos", load_sample_images().images, train=1, val=4)
    # Other sides, so that crops have many sizes.
    for number, path in enumerate(sorted((folder / "val").glob("*/*.jpg"))):
        Image.open(path).resize((60 + 7 * number, 70)).save(path)
    return folder


def test_photographs_of_many_sizes_in_bounded_memory(photos, monkeypatch):
    dataset = load_dataset("folder", photos, image_size=16)
    model = small_net(shape=(16, 16, 3), classes=2)
    protocol = MultiScale((16, 24), flip=True)
    every = evaluate(model, dataset, protocol)
    # So few that the size with most pixels is computed before its batch is full.
    monkeypatch.setattr(evaluator, "_WAITING_BATCHES", 1)
    few = evaluate(model, dataset, protocol, batch_size=4)
    assert every.count == few.count == 8 and every.protocol.any_size
    np.testing.assert_array_equal(every.ranking, few.ranking)
    np.testing.assert_allclose(every.scores, few.scores, rtol=1e-5)


def test_bad_photographs_are_skipped(photos):
    (photos / "val" / "china" / "1.jpg").write_bytes(b"")
    dataset = load_dataset("folder", photos, image_size=16)
    model = small_net(shape=(16, 16, 3), classes=2)
    with pytest.warns(BadImageWarning, match="zero-byte"):
        crop = evaluate(model, dataset)
    # There is one warning.
    for evaluation in (crop, evaluate(model, dataset, MultiScale((16,)))):
        assert evaluation.count == 7 and evaluation.left_out == 1
        assert evaluation.indices.tolist() == [0, 2, 3, 4, 5, 6, 7]
        assert evaluation.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]


@pytest.mark.filterwarnings("ignore::keras_resnet.data.BadImageWarning")
def test_bad_data_end_in_one_line(photos):
    for path in (photos / "val").glob("*/*"):
        path.write_bytes(b"")
    model = small_net(shape=(16, 16, 3), classes=2)
    with refused("`split`", "split='validation' of 8"):
        evaluate(model, load_dataset("folder", photos, image_size=16))
    with refused("`max_bad_files`", "max_bad_files=3"):
        evaluate(model, load_dataset("folder", photos, image_size=16, max_bad_files=3))


def not_finite():
    model = small_net()
    model.get_layer("predictions").bias.assign([np.nan] * 7)
    return model


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (lambda: [], {}, ["`models`", "models=[]"]),
        (small_net, {"split": "validation"}, ["`split`", "split='validation'"]),
        (small_net, {"average": "votes"}, ["`average`", "average='votes'"]),
        (small_net, {"batch_size": 0}, ["`batch_size`", "batch_size=0"]),
        (lambda: small_net(classes=3), {"names": ["m"]}, ["`models`", " 7 ", ": m ", "(None, 3)"]),
        (lambda: small_net(shape=(8, 8, 3)), {}, ["`models`", "`image_size`", "(8, 8, 3)"]),
        (lambda: small_net(shape=(8, 12, 1)), {}, ["`models`", "(8, 12, 1)"]),
        (lambda: keras.layers.Dense(3), {"names": ["m"]}, ["`model`", "functional"]),
        (not_finite, {"names": ["m"]}, ["`models`", "finite", ": m,"]),
    ],
)
def test_wrong_arguments(dataset, model, options, words):
    with refused(*words):
        evaluate(model(), dataset, **options)


def test_open_models_take_the_size_of_the_data(dataset):
    model = small_net()
    opened = any_size(model)
    assert opened.input_shape != (None, *SHAPE)
    for protocol in (SingleCrop(), MultiScale((8, 12))):
        one, other = (evaluate(each, dataset, protocol) for each in (model, opened))
        np.testing.assert_array_equal(one.ranking, other.ranking)


def test_progress_prints_lines_where_there_is_no_terminal(capsys):
    with Progress(every=0) as progress:
        progress(0, 10)
        progress(5, 10)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "0/10 images"
    assert second.startswith("5/10 images  ") and second.endswith("0:00 left")


def test_progress_begins_anew_for_a_further_stage(capsys):
    with Progress(every=0) as progress:
        for call in ((9, 10), (10, 10), (0, 4), (4, 4)):
            progress(*call)
    lines = "".join(capsys.readouterr()).splitlines()
    assert [line.split()[0] for line in lines] == ["9/10", "10/10", "0/4", "4/4"]
    # Without what came before, no rate is known yet.
    assert lines[2] == "0/4 images"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Returns a small network, and files of it of every format."""
    folder, model = tmp_path_factory.mktemp("exported"), small_net()
    names = [f"class {i}" for i in range(7)]
    formats = {"model.tflite": "litert", "model.onnx": "onnx", "saved": "saved_model"}
    paths = [export(model, folder / name, of, labels=names).path for name, of in formats.items()]
    export_hub(model, folder / "hub", "classification", labels=names)
    model.save(folder / "model.keras")
    return model, [*paths, folder / "hub", folder / "model.keras"]


@pytest.mark.parametrize("protocol", [SingleCrop(), TenCrop(8)])
def test_every_format_is_evaluated(dataset, exported, protocol):
    model, paths = exported
    expected = evaluate(model, dataset, protocol, keep_outputs=True)
    for path in paths:
        found = evaluate(open_model(path), dataset, protocol, keep_outputs=True)
        # Runtimes differ by rounding; scores are near 1.
        np.testing.assert_allclose(found.outputs, expected.outputs, atol=2e-5, err_msg=str(path))
        np.testing.assert_array_equal(found.ranking[:, 0], expected.ranking[:, 0])
    by_logits = evaluate(model, dataset, protocol, average="logits")
    mixed = evaluate([model, *map(open_model, paths)], dataset, protocol, average="logits")
    np.testing.assert_array_equal(mixed.ranking[:, 0], by_logits.ranking[:, 0])


def test_files_of_one_size_are_refused_for_several(dataset, exported):
    _, (litert, *_) = exported
    with refused("models", "multi-scale"):
        evaluate(open_model(litert), dataset, MultiScale((8, 16)))


def test_published_weights_are_opened_by_name(monkeypatch):
    asked, net = [], small_net()
    monkeypatch.setattr(hub, "build", lambda *args, **options: asked.append((args, options)) or net)
    for name in ("ResNet50", "timm/resnet50.a1_in1k"):
        assert open_model(name) is net
    assert asked == [
        (("ResNet50",), {"weights": "imagenet", "include_preprocessing": True}),
        (
            ("resnet50_v1.5",),
            {"weights": "timm/resnet50.a1_in1k", "include_preprocessing": True},
        ),
    ]
    with refused("path", "ResNet51"):
        open_model("ResNet51")


def test_places_are_files(tmp_path):
    write_folder(tmp_path, load_sample_images().images, train=1, val=2)
    dataset = load_dataset("folder", tmp_path, image_size=16)
    found = evaluate(small_net(shape=(16, 16, 3), classes=2), dataset)
    places = [row["place"] for row in found.predictions()]
    files = [f"{name}/{i}.jpg" for name in ("china", "flower") for i in range(2)]
    assert places == [f"{tmp_path}/val/{file}" for file in files]
