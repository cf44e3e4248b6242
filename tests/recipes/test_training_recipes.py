"""The training recipes end to end on small data, killed and started again."""

import json
import shutil
import signal
import time

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_resnet.data import load_dataset
from keras_resnet.data.encoded import BadImageWarning
from keras_resnet.experiment import Experiment
from tests.distributed.train_processes import cluster
from tests.recipes.running import finish_recipe, refused, run_here, run_recipe, start_recipe


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Crops of scikit-learn's two photographs as class folders: 32 to train, 11 to validate on."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.RandomState(0)
    for split, counts in (("train", (16, 16)), ("val", (6, 5))):
        for name, picture, count in zip(
            ("china", "flower"), load_sample_images().images, counts, strict=True
        ):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                height, width = random.randint(60, 120, 2)
                top = random.randint(0, picture.shape[0] - height)
                left = random.randint(0, picture.shape[1] - width)
                crop = picture[top : top + height, left : left + width]
                Image.fromarray(crop).save(folder / f"{i}.jpg", quality=90)
    return root


COMMON = (
    *("--virtual-devices", 2, "--precision", "mixed_bfloat16", "--deterministic"),
    *("--checkpoint-every", 1, "--log-every", 1),
)


def imagenet(photographs, workdir):
    return (
        *("--dataset", "folder", "--data-dir", photographs, "--workdir", workdir),
        *("--model", "ResNet18", "--image-size", 32, "--batch-size", 8, "--epochs", 3),
        *COMMON,
    )


def cifar10(photographs, workdir):
    return (
        *("--dataset", "digits", "--depth", 8, "--workdir", workdir),
        *("--batch-size", 256, "--epochs", 3, *COMMON),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "images"), [(imagenet, 11), (cifar10, 360)])
def test_killed_and_started_again_it_ends_as_if_never_interrupted(
    photographs, tmp_path, recipe, images
):
    name = recipe.__name__
    whole = run_recipe(name, *recipe(photographs, tmp_path / "whole"), "--no-export")
    assert whole.returncode == 0, whole.stderr

    process = start_recipe(name, *recipe(photographs, tmp_path / "killed"))
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 300
    # In the middle of the second epoch of four steps.
    while not (checkpoints / "step-000000006.npz").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    again = run_recipe(name, *recipe(photographs, tmp_path / "killed"))
    assert again.returncode == 0, again.stderr

    first, second = (
        keras.models.load_model(tmp_path / run / "model.keras") for run in ("whole", "killed")
    )
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    metrics = json.loads((tmp_path / "killed" / "metrics.json").read_text())
    split = metrics["split"]
    assert metrics[f"{split}_images"] == images
    # Each image counted once: the accuracy is a whole number of them.
    right = metrics[f"{split}_accuracy"] * images
    assert right == pytest.approx(round(right), abs=1e-3)
    assert (tmp_path / "killed" / "saved_model" / "saved_model.pb").exists()


@pytest.mark.slow
def test_two_workers_finish_one_run(tmp_path):
    """Each machine runs the same command; the first writes, and the model is a plain one."""
    flags = ("--dataset", "digits", "--depth", 8, "--batch-size", 256, "--steps", 6)
    processes = [
        start_recipe("cifar10", *flags, "--workdir", tmp_path / "run", env={"TF_CONFIG": config})
        for config in cluster(2)
    ]
    first, second = (finish_recipe(process) for process in processes)
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert "2 replica(s) on 2 worker(s), global batch 256, 128 per replica" in first.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["steps"] == 6 and metrics["test_images"] == 360
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    images, labels, _ = next(iter(load_dataset("digits").eval_batches("test", 360)))
    right = np.argmax(model(np.asarray(images, "float32")), -1) == labels
    assert metrics["test_accuracy"] == pytest.approx(np.mean(right), abs=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit on the size of files here")
def test_a_disk_that_takes_no_checkpoint_stops_the_run(tmp_path):
    """The limit on the size of a file stands for a full disk: half is written, then comes an error.

    A checkpoint of this net takes 0.6 MB; everything else that the run writes is smaller.
    """
    flags = ("--dataset", "digits", "--depth", 8, "--batch-size", 256, "--checkpoint-every", 2)
    flags = (*flags, "--workdir", tmp_path / "run", "--log-every", 1)
    good = run_recipe("cifar10", *flags, "--steps", 4)
    assert good.returncode == 0, good.stderr
    # As if killed before its last steps: the checkpoint is there, the trained model is not.
    checkpoints = tmp_path / "run" / "checkpoints"
    (tmp_path / "run" / "metrics.json").unlink()
    (checkpoints / "step-000000004.npz").unlink()

    def limit():
        import resource  # not everywhere

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    stopped = run_recipe("cifar10", *flags, "--steps", 4, preexec_fn=limit)
    assert stopped.returncode == 1
    (line,) = (line for line in stopped.stderr.splitlines() if line.startswith("error: "))
    assert "step 4" in line and "File too large" in line and "step-000000002.npz" in line
    assert [path.name for path in checkpoints.iterdir()] == ["step-000000002.npz"]
    again = run_recipe("cifar10", *flags, "--steps", 4)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_imagenet_recipe_on_the_digits(tmp_path):
    """The preset's options for photographs are not the digits'."""
    workdir = tmp_path / "run"
    flags = ("--dataset", "digits", "--image-size", 32, "--model", "ResNet18", "--workdir", workdir)
    result = run_recipe("imagenet", *flags, "--batch-size", 32, "--steps", 1, "--no-recompute-bn")
    assert result.returncode == 0, result.stderr
    assert json.loads((workdir / "metrics.json").read_text())["test_images"] == 360


def test_bad_images_end_the_run_in_one_line_or_are_counted(photographs, tmp_path):
    folder = shutil.copytree(photographs, tmp_path / "bad")
    for name in ("train/china/0.jpg", "val/flower/0.jpg"):
        (folder / name).write_bytes(b"")
    flags = (
        *("--dataset", "folder", "--data-dir", folder, "--workdir", tmp_path / "run"),
        *("--depth", 8, "--image-size", 32, "--batch-size", 8, "--epochs", 1, "--no-export"),
    )
    refused("`max_bad_files`", "imagenet.py", *flags, "--max-bad-files", 0)
    with pytest.warns(BadImageWarning, match="Bad image 1 of at most 100"):
        run_here("imagenet.py", *flags)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["validation_images"] == 10


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--batch-size", "many"), "--batch-size"),
        (("--nonsense", 3), "--nonsense"),
        (("--preset", "none"), "preset='none'"),
        (("--micro-batches", 3), "micro_batches=3"),
        (("--image-size", 31), "`image_size`"),
    ],
)
def test_refused_in_one_line(tmp_path, flags, named):
    common = ("--dataset", "digits", "--image-size", 32, "--model", "ResNet18", "--batch-size", 32)
    refused(named, "imagenet.py", *common, "--workdir", tmp_path / "run", *flags)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
@pytest.mark.parametrize("text", ["[1, 2", "[]", "[" * 100_000], ids=["cut", "list", "nested"])
def test_a_damaged_file_of_the_run_is_named(tmp_path, name, text):
    settings = Experiment.from_flat(workdir=str(tmp_path)).recorded()
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / name).write_text(text)
    flags = ("--fine-tune-epochs", 0, "--warmup", "auto", "--workdir", tmp_path)
    refused(name, "digits.py", *flags)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (("--gpus", 9), "gpus=9"),
        (("--data-dir", "nowhere"), "nowhere"),
        (("--crop", "round"), "crop='round'"),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(photographs, tmp_path, wrong, named):
    # The last of two equal flags counts.
    given = on_one_device(imagenet(photographs, tmp_path / "run"))
    refused(named, "imagenet.py", *given, *wrong)
    assert list(tmp_path.iterdir()) == []


def test_empty_class_folder_is_refused(photographs, tmp_path):
    (photographs / "train" / "empty").mkdir()
    given = on_one_device(imagenet(photographs, tmp_path / "run"))
    try:
        refused("empty", "imagenet.py", *given)
    finally:
        (photographs / "train" / "empty").rmdir()
    assert list(tmp_path.iterdir()) == []


def on_one_device(flags):
    """Returns flags for a recipe in this process, where TensorFlow has begun."""
    leave_out = ("--virtual-devices", 2, "--deterministic")
    return [flag for flag in flags if flag not in leave_out]
