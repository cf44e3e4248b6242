"""The settings of an experiment: plain values in five groups, checked when they are made.

On a command line and in config.json they stand side by side, under the same names.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from keras_resnet import training
from keras_resnet.architectures import BLOCKS, VERSIONS
from keras_resnet.data.names import DATASETS
from keras_resnet.training.choices import (
    AUGMENTS,
    BALANCED,
    DECAYS,
    LOSSES,
    OPTIMIZERS,
    PRECISIONS,
    SAMPLINGS,
    TRACKERS,
    check_class_weights,
    check_mixing,
    scaled_learning_rate,
)
from keras_resnet.utils import checks
from keras_resnet.utils.checks import checked_size
from keras_resnet.utils.remote import is_remote

# Settings that say where and how fast a run computes, but not what: it may resume with others.
_NOT_OF_THE_RESULT = (
    *(
        "workdir",
        "data_dir",
        "cache_dir",
        "log_every",
        "checkpoint_every",
        "keep_checkpoints",
        "resume",
    ),
    *("trackers", "report"),
    *("strategy", "gpus", "virtual_devices", "tpu", "steps_per_call", "jit_compile"),
)

# Augmentations by name that are options of the crops of image files.
CROPS_BY_NAME: dict[str, dict[str, object]] = {
    "paper": {"crop": "scale", "lighting": 0.1},
    "inception": {"crop": "inception", "lighting": 0.0},
}

# Metrics that there are, by labels and number of classes: those of `targets.make_metrics`.
_METRICS = ("loss", "accuracy", "top5_accuracy", "subset_accuracy", "macro_f1")

# Settings by name, and the values that each can have beside None.
CHOICES: dict[str, tuple[str, ...]] = {
    "augment": (*CROPS_BY_NAME, *AUGMENTS),
    "block": tuple(BLOCKS),
    "crop": ("scale", "inception", "pad"),
    "dataset": DATASETS,
    "decay": DECAYS,
    "final_weights": ("last", "best"),
    "interpolation": ("bilinear", "bicubic"),
    "loss": LOSSES,
    "monitor": tuple(f"{split}{name}" for split in ("val_", "ema_val_", "") for name in _METRICS),
    "optimizer": OPTIMIZERS,
    "precision": PRECISIONS,
    "sampling": SAMPLINGS,
    "schedule": ("steps", "cosine", "polynomial", "constant", "plateau"),
    "shortcut": ("A", "B", "C", "none"),
    "strategy": ("auto", "one", "mirrored", "multi_worker", "tpu"),
    "trackers": TRACKERS,
    "validation_split": ("validation", "test"),
    "version": VERSIONS,
    "warmup": ("none", "linear", "error", "auto"),
}

# Options that a network is built with, and that a trained one cannot take.
OF_THE_NETWORK = (
    *("dropout", "stochastic_depth", "zero_init_residual"),
    *("synchronized_bn", "recompute"),
)
# What a run of `quantize` has in its config.json beside its settings, and one of `train` has not.
QUANTIZED = {"quantize": "int8"}
_GOES_WITH_INIT = "requires `init`, the trained network to start from"


def _class_weights(value: Any) -> tuple[str, ...] | tuple[float, ...]:
    """Returns class weights as a tuple: ("balanced",), a number for each class, or nothing."""
    value = (value,) if isinstance(value, str) else tuple(value)
    if value in ((), (BALANCED,)):
        return value
    try:
        value = tuple(map(float, value))
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`class_weights` must be 'balanced', or a number for each class. "
            f"Received: class_weights={value!r}"
        ) from error
    return check_class_weights(value)


def _is_remote_weights(init: str) -> bool:
    return is_remote(init) and init.endswith((".h5", ".safetensors", ".pth", ".pt", ".th"))


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by name, of which config.json once had those of `DataOptions` in a mapping.

    Its name there was "data_options".
    """
    options = settings.get("data_options", {})
    if not isinstance(options, Mapping):
        return dict(settings)
    return {**options, **{k: value for k, value in settings.items() if k != "data_options"}}


def expect_defaults(group: object, names: tuple[str, ...], why: str) -> None:
    """Raises a ValueError that says why one of these settings cannot be made here."""
    for name in names:
        value = getattr(group, name)
        if value != getattr(type(group), name):
            raise ValueError(f"`{name}` {why}. Received: {name}={value!r}")


class _Checks(checks.Problems):
    """Checks the settings of a group, and names all that are wrong."""

    def __init__(self, group: object):
        super().__init__()
        self._group = group

    def choices(self, *names: str) -> None:
        """Checks that settings have values of `CHOICES`; None passes where it is the default."""
        for name in names:
            self.each(checks.one_of, name, allowed=CHOICES[name])

    def each(self, check: Callable, *names: str, **options: object) -> None:
        """Checks settings by name; None passes where it is the default."""
        for name in names:
            value = getattr(self._group, name)
            if value is not None or getattr(type(self._group), name) is not None:
                self.note(check, name, value, **options)


@dataclasses.dataclass(frozen=True)
class Network:
    """The network, and what it begins from.

    Attributes:
        model: Name of a network; `keras-resnet models` lists them.
        depth: Layers of a CIFAR network that replaces `model`, 6n+2, or 9n+2 with bottlenecks; None
            for `model`.
        block: "basic" or "bottleneck" blocks for the network of `depth`; None for basic ones.
        widening: Factor of the widths of the network of `depth`; None for 1.
        shortcut: "A", "B", "C", "none" for the plain net, or None for the network's own.
        version: "v1", "v1.5" or "v2", or None for the network's own.
        squeeze_excitation: Reduction of the squeeze-and-excitation in the blocks; 0 for none, or
            None for the network's own.
        init: Trained network to start from, with a new classifier: a .keras file or a Hub
            module (a folder or an https address), which bring their own network in place of
            that of `model` to `squeeze_excitation`; or weights for that of `model` (a name such as
            "imagenet", or a file). Files and folders may be at an address such as gs://bucket/init.
            None for random values.
        freeze_bn: Whether batch normalizations of `init` keep their statistics, scales and offsets.
        dropout: Rate of dropout in the branches, in [0, 1).
        stochastic_depth: Drop rate of stochastic depth of the last block, in [0, 1).
        zero_init_residual: Whether the last scale of every residual branch starts at zero.
        synchronized_bn: Whether batch normalization uses the statistics of all devices.
        recompute: Whether activations are computed again for the gradient, to save memory.
    """

    model: str = "ResNet20"
    depth: int | None = None
    block: str | None = None
    widening: float | None = None
    shortcut: str | None = None
    version: str | None = None
    squeeze_excitation: int | None = None
    init: str | None = None
    freeze_bn: bool = False
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    zero_init_residual: bool = False
    synchronized_bn: bool = False
    recompute: bool = False

    def __post_init__(self):
        found = _Checks(self)
        found.choices("shortcut", "version")
        found.each(checks.integer, "squeeze_excitation", minimum=0)
        found.each(checks.fraction, "dropout", "stochastic_depth")
        if self.init is None:
            found.note(expect_defaults, self, ("freeze_bn",), _GOES_WITH_INIT)
        if self.init_is_model:
            why = f"must be left out with init={self.init!r}, which brings its own network"
            found.note(expect_defaults, self, OF_THE_NETWORK, why)
        found.expect_none()

    @property
    def init_is_model(self) -> bool:
        """True if `init` is a whole model, not weights for `model`."""
        return self.init is not None and (
            self.init.endswith(".keras")
            or ("://" in self.init and not _is_remote_weights(self.init))
            or (os.path.isdir(self.init) and self.init != "imagenet")
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of the data sets, each for those that take it; None for the data set's own default.

    Attributes:
        image_size: Side of the training and test images in pixels, or HEIGHTxWIDTH.
        channels: 3 for RGB, 1 for grayscale, 4 for RGBA; any other number for .npy files of arrays
            of so many channels.
        crop: Random crop of training images: scale (the paper's), inception, or pad for small
            images.
        resize_range: For crop="scale": smallest and largest shorter side, in pixels.
        eval_resize: Shorter side, in pixels, that an image is resized to before its center is
            cropped for evaluation.
        flip: Whether half of the training images are flipped left to right.
        lighting: Strength of the PCA lighting of RGB training images, 0 for none.
        interpolation: "bilinear" or "bicubic", for evaluation images.
        bits: Bits of each channel of image files that are kept, 8 or 16; by default 16 of folders
            and CSV files where most are PNGs of 16 bits.
        max_bad_files: Largest number of unreadable images, which are skipped with a warning each.
        cache_dir: Folder that keeps the list of the files for later runs.
        val_split: Share of the training images that becomes the validation split of data without
            one; by default 0.1 of data that are not split at all.
        test_split: Share of the training images that becomes the test split, likewise.
        classes: Numbers of the classes to take.
        per_class: Training images of each class to take.
    """

    image_size: str | int | None = None
    channels: int | None = None
    crop: str | None = None
    resize_range: tuple[int, ...] | None = None
    eval_resize: int | None = None
    flip: bool | None = None
    lighting: float | None = None
    interpolation: str | None = None
    bits: int | None = None
    max_bad_files: int | None = None
    cache_dir: str | None = None
    val_split: float | None = None
    test_split: float | None = None
    classes: tuple[int, ...] | None = None
    per_class: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Those that are given, by name."""
        named = {field.name: getattr(self, field.name) for field in dataclasses.fields(DataOptions)}
        return {name: value for name, value in named.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Data(DataOptions):
    """The images, and what is done to them in training; None for the data set's own default.

    Attributes:
        dataset: Name of the data set.
        data_dir: Folder of its files, or the CSV file; `~` is the user's home. Those of
            "folder", "csv" and "idx" may be at an address such as gs://bucket/photos: what is new
            or changed there is copied to Keras's cache first.
        validation_split: Split to evaluate after each epoch: "validation", or "test" to watch how
            the test error falls (of schedules, "plateau" must not see it).
        mixup: Alpha of mixup; 0 for none.
        cutmix: Alpha of CutMix; 0 for none.
        rand_augment: Strength of RandAugment, in [0, 1]; 0 for none.
        augment: Augmentation by name. Of whole batches: "trivial" (TrivialAugment), "rand"
            (RandAugment at strength 0.5), "augmix" (AugMix), "erasing" (random erasing), "jitter"
            (of colors); of the crops of image files: "paper" (crop="scale" with lighting) or
            "inception" (crop="inception" without). None for the data set's own.
    """

    dataset: str = "digits"
    data_dir: str | None = None
    validation_split: str = "validation"
    mixup: float = 0.0
    cutmix: float = 0.0
    rand_augment: float = 0.0
    augment: str | None = None

    def __post_init__(self):
        for name in ("data_dir", "cache_dir"):
            if (path := getattr(self, name)) is not None:
                # As a shell does, but not in --data-dir=~/pictures.
                object.__setattr__(self, name, os.path.expanduser(path))
        for name in ("resize_range", "classes"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(value))  # JSON and command lines have lists
        found = _Checks(self)
        if self.image_size is not None:
            size = found.note(checked_size, "image_size", self.image_size)
            if size is not None:
                # As text where it is no square, which is one word on a command line.
                plain = size if isinstance(size, int) else "x".join(map(str, size))
                object.__setattr__(self, "image_size", plain)
        found.refuse(
            self.resize_range is not None and len(self.resize_range) != 2,
            "`resize_range` must be the smallest and the largest side. "
            f"Received: resize_range={self.resize_range!r}",
        )
        found.choices("validation_split", "augment", "interpolation")
        found.note(check_mixing, self.mixup, self.cutmix, self.rand_augment)
        found.expect_none()


@dataclasses.dataclass(frozen=True)
class Optimization:
    """The length of training, the learning rate and the optimizer.

    Attributes:
        batch_size: Images per step over all devices.
        epochs: Passes over the training images.
        steps: Number of steps, in place of `epochs`; None for the epochs.
        head_epochs: Epochs in which only the new classifier of `init` trains, before the rest does.
        learning_rate: Highest learning rate, for a batch of `base_batch` where that is given.
        base_batch: Batch that `learning_rate` is meant for; the learning rate grows in
            proportion to the batch. None where it does not depend on the batch.
        rate_decay: Factor of the learning rate from one stage of `init` to the one in front of it,
            in (0, 1]; the classifier has the full learning rate.
        schedule: "steps" (divided by 10 at `drops`), "cosine", "polynomial", "constant", or
            "plateau" (divided by 10 when the validation accuracy has not risen for 5 epochs).
        drops: For "steps": shares of all steps after which the learning rate is
            divided by 10.
        warmup: "none"; "linear" over `warmup_share` of all steps; "error": `learning_rate` / 10
            until the training error falls below 80 % (section 4.2 of the paper); "auto": "error"
            for CIFAR nets of 110 and more layers, else "none".
        warmup_share: For "linear", in [0, 1).
        optimizer: "sgd", or another one of Keras by its name in small letters, such as "adamw",
            "lamb", "lion" or "muon".
        optimizer_options: Options of the optimizer's own as KEY=VALUE, such as nesterov=true or
            beta_2=0.99.
        monitor: Metric that the best epochs are chosen by, such as "val_loss"; None for
            "val_accuracy", or with `ema` "ema_val_accuracy".
        patience: Epochs without a gain of `monitor` after which training ends; None for no end
            before the last epoch.
        final_weights: "last", or "best" for those of the best epoch by `monitor`; the others are
            saved beside them.
        momentum: Momentum of SGD.
        weight_decay: Factor of the weight that is added to its gradient.
        decay: "l2" as in the paper, or "decoupled"; None for "l2" with SGD, "decoupled" with other
            optimizers.
        decay_norm_and_bias: Whether scales, offsets and biases decay too.
        clip_norm: Largest norm of the gradient, or None.
        ema: Momentum of an average of the weights that replaces them in the end, or None.
        label_smoothing: Share of a label that is spread evenly over all classes, in [0, 1).
        recompute_bn: Whether the statistics of batch normalization are averaged over the training
            images after training, as the authors of the paper did.
        seed: Seed of initial values, order and augmentation.
        loss: "cross_entropy", or "bce": binary cross entropy of every class against the rest, with
            a classifier that ends in sigmoid. Images with several labels have the latter always.
        binary_head: Whether two classes get one output, the probability of the second, in place of
            two; with loss="bce".
        class_weights: "balanced", or a number for each class in their order, for classes of unequal
            size; none by default. Of images with several labels it weights those that have one.
        sampling: "balanced" or "sqrt": classes come equally often, or by the square root of their
            size; None for every training image once an epoch.
        teacher: Trained network whose outputs are learned too (distillation): a .keras file, or the
            name of a network with published weights; None for none.
        distillation_temperature: Temperature of the outputs of the teacher.
        distillation_alpha: Share of the teacher in the loss, in [0, 1].
    """

    batch_size: int = 128
    epochs: int = 60
    steps: int | None = None
    head_epochs: int = 0
    learning_rate: float = 0.1
    base_batch: int | None = None
    rate_decay: float = 1.0
    schedule: str = "steps"
    # The paper's 32k and 48k of 64k iterations.
    drops: tuple[float, ...] = (0.5, 0.75)
    warmup: str = "auto"
    warmup_share: float = 0.05
    optimizer: str = "sgd"
    optimizer_options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    monitor: str | None = None
    patience: int | None = None
    final_weights: str = "last"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay: str | None = None
    decay_norm_and_bias: bool = True
    clip_norm: float | None = None
    ema: float | None = None
    label_smoothing: float = 0.0
    recompute_bn: bool = False
    seed: int = 0
    loss: str = "cross_entropy"
    binary_head: bool = False
    class_weights: tuple[str, ...] = ()
    sampling: str | None = None
    teacher: str | None = None
    distillation_temperature: float = 4.0
    distillation_alpha: float = 0.9

    def __post_init__(self):
        # JSON and command lines have lists.
        object.__setattr__(self, "drops", tuple(self.drops))
        found = _Checks(self)
        self._check_targets(found)
        if isinstance(self.optimizer_options, Mapping):
            found.choices("optimizer")
            if self.optimizer_options and self.optimizer in OPTIMIZERS:
                options = dict(self.optimizer_options)
                found.note(training.optimizers.check_options, self.optimizer, options)
        else:
            found.refuse(
                True,
                "`optimizer_options` must be values by name. "
                f"Received: optimizer_options={self.optimizer_options!r}",
            )
        if self.optimizer != "sgd":
            why = f"is of SGD; `optimizer_options` has those of {self.optimizer!r}"
            found.note(expect_defaults, self, ("momentum",), why)
            found.refuse(
                self.decay == "l2",
                f"`decay` must be 'decoupled' or left out with optimizer={self.optimizer!r}. "
                "Received: decay='l2'",
            )
        found.choices("monitor", "final_weights")
        found.each(checks.integer, "batch_size", "epochs", "steps", "base_batch", "patience")
        found.each(checks.integer, "seed", "head_epochs", minimum=0)
        found.refuse(
            checks.is_whole(self.seed) and self.seed >= 2**32,
            f"`seed` must be below 2**32. Received: seed={self.seed}",
        )
        found.each(checks.positive, "learning_rate", "clip_norm")
        fractions = ("warmup_share", "momentum", "weight_decay", "ema", "label_smoothing")
        found.each(checks.fraction, *fractions)
        for drop in self.drops:
            found.note(checks.fraction, "drops", drop)
        found.refuse(
            not 0.0 < self.rate_decay <= 1.0,
            f"`rate_decay` must be in (0, 1]. Received: rate_decay={self.rate_decay}",
        )
        found.choices("schedule", "warmup", "decay")
        found.refuse(
            self.schedule == "plateau" and self.warmup in ("linear", "error"),
            "`warmup` must be 'none' with schedule='plateau', which sets the learning rate. "
            f"Received: warmup={self.warmup!r}",
        )
        found.expect_none()

    def _check_targets(self, found: _Checks) -> None:
        weights = found.note(_class_weights, self.class_weights)
        object.__setattr__(self, "class_weights", weights or ())
        found.choices("loss", "sampling")
        found.each(checks.positive, "distillation_temperature")
        found.each(checks.fraction, "distillation_alpha", one_allowed=True)
        found.refuse(
            self.binary_head and self.loss != "bce",
            f"`binary_head` goes with loss='bce'. Received: loss={self.loss!r}",
        )
        if self.teacher is None:
            names = ("distillation_temperature", "distillation_alpha")
            found.note(expect_defaults, self, names, "requires `teacher`")

    @property
    def kind_of_decay(self) -> str:
        """The decay that was asked for or goes with the optimizer, "l2" or "decoupled"."""
        return self.decay or ("l2" if self.optimizer == "sgd" else "decoupled")

    @property
    def peak_rate(self) -> float:
        """The highest learning rate for this batch."""
        if self.base_batch is None:
            return self.learning_rate
        return scaled_learning_rate(self.learning_rate, self.batch_size, self.base_batch)


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices that a step is computed on, and how.

    Attributes:
        strategy: "auto", "one", "mirrored", "multi_worker" or "tpu", as in `make_strategy`.
        gpus: GPUs of this machine to train on, or None.
        virtual_devices: Logical CPU devices to train on, or None.
        tpu: Name of a TPU, or None.
        precision: "float32", "mixed_bfloat16" or "mixed_float16".
        micro_batches: Parts that a device's batch is cut into, to save memory. Gradients are
            those of the whole batch, but batch normalization sees the parts.
        auto_micro_batches: Whether `micro_batches` doubles until the first step fits in memory.
        steps_per_call: Steps per call of the compiled function.
        jit_compile: Whether XLA compiles the step; None for yes on TPUs and no elsewhere.
        deterministic: Whether operations may only be those that repeat bit for bit, on one thread
            each, so that results do not depend on the number of cores or of runs at a time.
    """

    # The others are checked by `make_strategy` and `layout`.
    strategy: str = "auto"
    gpus: int | None = None
    virtual_devices: int | None = None
    tpu: str | None = None
    precision: str = "float32"
    micro_batches: int = 1
    auto_micro_batches: bool = False
    steps_per_call: int = 1
    jit_compile: bool | None = None
    deterministic: bool = False

    def __post_init__(self):
        found = _Checks(self)
        found.each(checks.integer, "steps_per_call", "micro_batches")
        found.choices("precision")
        found.expect_none()


@dataclasses.dataclass(frozen=True)
class Output:
    """Files that a run writes, and where.

    Attributes:
        workdir: Folder that everything is written to; `~` is the user's home. An address such as
            gs://bucket/run or s3://bucket/run will do for a single run: after every checkpoint and
            epoch what is new is uploaded, and the same command resumes on any machine.
        log_every: Steps from one row of metrics to the next.
        checkpoint_every: Steps from one checkpoint to the next; None for one an epoch.
        keep_checkpoints: Number of newest checkpoints to keep.
        keep_best: Number of best epochs whose weights are also saved as models; 0 for none.
        smoke: Whether everything is only tried: two steps of training, two batches of every
            evaluation, and all that the run would save, in a folder smoke in `workdir`.
        resume: Whether an unfinished run in `workdir` resumes.
        export: Whether the trained model is exported as Hub modules, too.
        fine_tune_epochs: Epochs of a trial that fine-tunes the exported module; 0 for none.
        trackers: Trackers that record the run: "wandb", "mlflow" or "trackio", configured by their
            own settings and environment variables; "tensorboard" records it wherever it is
            installed.
        report: Whether every image is evaluated in the end, for report.html.
    """

    workdir: str = "runs/digits"
    log_every: int = 100
    checkpoint_every: int | None = None
    keep_checkpoints: int = 2
    keep_best: int = 1
    smoke: bool = False
    resume: bool = True
    export: bool = True
    fine_tune_epochs: int = 0
    trackers: tuple[str, ...] = ()
    report: bool = True

    def __post_init__(self):
        object.__setattr__(self, "workdir", os.path.expanduser(self.workdir))
        object.__setattr__(self, "trackers", tuple(self.trackers))
        found = _Checks(self)
        for tracker in self.trackers:
            found.note(checks.one_of, "trackers", tracker, CHOICES["trackers"])
        # A name that is empty would be that of the current folder.
        found.refuse(
            not self.workdir.strip() or "\0" in self.workdir or self.workdir == os.path.sep,
            f"`workdir` must be the name of a folder. Received: workdir={self.workdir!r}",
        )
        found.each(checks.integer, "log_every", "checkpoint_every", "keep_checkpoints")
        found.each(checks.integer, "fine_tune_epochs", "keep_best", minimum=0)
        found.refuse(
            self.fine_tune_epochs and not self.export,
            "`fine_tune_epochs` fine-tunes the exported module; leave `export` on. "
            f"Received: fine_tune_epochs={self.fine_tune_epochs} with export=False",
        )
        found.expect_none()


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment. A run is a function of these settings, its data and the versions used.

    Its attributes are the five groups.

    Raises:
        ValueError: If settings are out of their range, or contradict others; a line for each.
    """

    network: Network = Network()
    data: Data = Data()
    optimization: Optimization = Optimization()
    devices: Devices = Devices()
    output: Output = Output()

    def __post_init__(self):
        found = _Checks(self)
        if self.network.init is None:
            names = ("head_epochs", "rate_decay")
            found.note(expect_defaults, self.optimization, names, _GOES_WITH_INIT)
        found.refuse(
            self.network.freeze_bn and self.optimization.recompute_bn,
            "`recompute_bn` must be False with freeze_bn=True, which keeps the statistics. "
            "Received: recompute_bn=True",
        )
        found.refuse(
            self.optimization.schedule == "plateau" and self.data.validation_split == "test",
            "`validation_split` must be 'validation' with schedule='plateau', which would "
            "choose the learning rate by the test images. Received: validation_split='test'",
        )
        chosen = {"patience": None, "final_weights": "last", "monitor": None}
        for name, default in chosen.items():
            value = getattr(self.optimization, name)
            found.refuse(
                value != default and self.data.validation_split == "test",
                f"`validation_split` must be 'validation' with {name}={value!r}, which would choose"
                " by the test images. Received: validation_split='test'",
            )
        found.refuse(
            self.optimization.final_weights == "best" and not self.output.keep_best,
            "`keep_best` must be at least 1 with final_weights='best'. Received: keep_best=0",
        )
        found.expect_none()

    @classmethod
    def from_flat(cls, **settings: object) -> Experiment:
        """Returns the experiment of settings by name, as in config.json; others have defaults."""
        return cls().replace(**settings)

    def flat(self) -> dict[str, object]:
        """Returns the settings of all groups by name."""
        return {name: value for group in vars(self).values() for name, value in vars(group).items()}

    def recorded(self) -> dict[str, object]:
        """Returns them as in config.json, where the kind of decay has its name."""
        return {**self.flat(), "decay": self.optimization.kind_of_decay}

    def replace(self, **settings: object) -> Experiment:
        """Returns the experiment with other values of some settings, by name.

        `flat_settings` says what else is taken.

        Raises:
            ValueError: If there is no such setting, or a value is wrong.
        """
        settings = flat_settings(settings)
        found = _Checks(self)
        groups: dict[str, Any] = {}
        for title, group in vars(self).items():
            own = {name: settings.pop(name) for name in vars(group) if name in settings}
            groups[title] = found.note(dataclasses.replace, group, **own)
        for name, value in settings.items():
            found.refuse(True, f"`{name}` is no setting. Received: {name}={value!r}")
        found.expect_none()
        return Experiment(**groups)

    def of_the_result(self) -> dict[str, object]:
        """Returns the settings that a result depends on, by name."""
        return {k: value for k, value in self.recorded().items() if k not in _NOT_OF_THE_RESULT}
