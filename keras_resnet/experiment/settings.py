"""The settings of an experiment: plain values, checked, as they stand in config.json."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import keras

from keras_resnet.architectures import (
    VERSIONS,
    Architecture,
    DenseArchitecture,
    cifar_architecture,
    find_architecture,
)
from keras_resnet.data import ImageDataset, load_dataset
from keras_resnet.training import (
    CrossEntropy,
    ErrorWarmup,
    Mixing,
    make_schedule,
    scaled_learning_rate,
    sgd,
)
from keras_resnet.training.optimizers import DECAYS
from keras_resnet.training.precision import PRECISIONS
from keras_resnet.utils import checks

WARMUPS = ("none", "linear", "error", "auto")
SCHEDULES = ("steps", "cosine", "polynomial", "constant", "plateau")

# What says where and how fast a run computes, but not what: a run may go on with others.
_NOT_OF_THE_RESULT = (
    *("workdir", "data_dir", "log_every", "checkpoint_every", "resume"),
    *("strategy", "gpus", "virtual_devices", "tpu", "steps_per_call", "jit_compile"),
)

# What is built into a network, and cannot be asked of a finished one.
OF_THE_NETWORK = (
    *("dropout", "stochastic_depth", "zero_init_residual"),
    *("synchronized_bn", "recompute"),
)
_OF_RESIDUAL_NETWORKS = (
    *("shortcut", "version", "squeeze_excitation"),
    *("stochastic_depth", "zero_init_residual"),
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Settings of one experiment.

    A run is a function of these, its data and the versions used; on a GPU also of `jit_compile` in
    metrics.json, where that is left open here.

    Attributes:
        model: Named network of the table.
        depth: Layers of a CIFAR network that replaces `model`, 6n+2, or 9n+2 with bottlenecks; None
            for `model`.
        block: "basic" or "bottleneck" blocks for the network of `depth`; None for basic ones.
        widening: Factor of the widths of the network of `depth`; None for 1.
        shortcut: "A", "B", "C", "none" for the plain net, or None for the network's own.
        version: "v1", "v1.5" or "v2", or None for the network's own.
        squeeze_excitation: Reduction of channel gates in the blocks; 0 for none, or None for the
            network's own.
        init: Finished network to train on from, with a new classifier: a .keras file or a Hub
            module (a folder or an https address), which bring their own network in place of
            that of `model` to `squeeze_excitation`; or weights for that of `model` (a name such as
            "imagenet", or a file). None for random values.
        head_epochs: Epochs in which only the new classifier of `init` trains, before the rest does.
        freeze_bn: Whether the normalisations of `init` keep their statistics and scales.
        rate_decay: Factor of the learning rate from one stage of `init` to the one in front of it,
            in (0, 1]; the classifier has the full rate.
        dataset: Name of the data set.
        data_dir: Where its files lie, or None.
        data_options: Further options of its loader, such as {"crop": "inception"}.
        workdir: Folder that everything is written to.
        strategy: "auto", "one", "mirrored", "multi_worker" or "tpu", as in `make_strategy`.
        gpus: GPUs of this machine to train on, or None.
        virtual_devices: Logical CPU devices to train on, or None.
        tpu: Name of a TPU, or None.
        precision: "float32", "mixed_bfloat16" or "mixed_float16".
        jit_compile: Whether XLA compiles the step; None for what suits the devices, on GPUs by a
            trial that a run of a thousand steps or more begins with.
        batch_size: Images per step over all devices.
        micro_batches: Parts that a device's batch is cut into, to save memory.
        steps_per_call: Steps per call of the compiled function.
        epochs: Passes over the training images.
        steps: Steps, in place of epochs.
        learning_rate: Highest rate, for a batch of `base_batch` where that is given.
        base_batch: Batch that `learning_rate` is meant for; the rate grows in proportion to the
            batch. None for a rate that does not depend on the batch.
        schedule: "steps" (divided by 10 at `drops`), "cosine", "polynomial", "constant", or
            "plateau" (divided by 10 when the validation accuracy has not risen for 5 epochs).
        drops: For "steps": shares of all steps after which the rate is divided by 10.
        warmup: "none"; "linear" over `warmup_share` of all steps; "error": `learning_rate` / 10
            until the training error falls below 80 % (section 4.2 of the paper); "auto": "error"
            for CIFAR nets of 110 and more layers, else "none".
        warmup_share: For "linear", in [0, 1).
        momentum: Of SGD.
        weight_decay: Factor of the weight in its gradient.
        decay: "l2" as in the paper, or "decoupled".
        decay_norm_and_bias: Whether scales, offsets and biases decay too.
        clip_norm: Largest norm of the gradient, or None.
        ema: Momentum of an average of the weights that replaces them in the end, or None.
        label_smoothing: Share of a label that goes to all classes alike, in [0, 1).
        mixup: Alpha of mixup; 0 for none.
        cutmix: Alpha of CutMix; 0 for none.
        rand_augment: Strength of RandAugment, in [0, 1]; 0 for none.
        dropout: Rate of dropout in the branches, in [0, 1).
        stochastic_depth: Rate of stochastic depth of the last block, in [0, 1).
        zero_init_residual: Whether branches start at zero.
        synchronized_bn: Whether batch statistics are taken over all devices.
        recompute: Whether activations are computed again for the gradient, to save memory.
        recompute_bn: Whether the statistics of batch normalisation are averaged over the training
            images after training, as the authors of the paper did.
        validation_split: Split to evaluate after each epoch: "validation", or "test" to watch how
            the test error falls (of schedules, "plateau" must not see it).
        export: Whether the finished model is exported as Hub modules, too.
        fine_tune_epochs: Epochs of a trial that fine-tunes the exported module; 0 for none.
        log_every: Steps from one line of metrics to the next.
        checkpoint_every: Steps from one checkpoint to the next; None for one an epoch.
        resume: Whether an unfinished run in `workdir` goes on.
        seed: Of initial values, order and augmentation.
        deterministic: Whether operations may only be those that repeat bit for bit.
    """

    model: str = "ResNet20"
    depth: int | None = None
    block: str | None = None
    widening: float | None = None
    shortcut: str | None = None
    version: str | None = None
    squeeze_excitation: int | None = None
    init: str | None = None
    head_epochs: int = 0
    freeze_bn: bool = False
    rate_decay: float = 1.0
    dataset: str = "digits"
    data_dir: str | None = None
    data_options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    workdir: str = "runs/digits"
    strategy: str = "auto"
    gpus: int | None = None
    virtual_devices: int | None = None
    tpu: str | None = None
    precision: str = "float32"
    jit_compile: bool | None = None
    batch_size: int = 128
    micro_batches: int = 1
    steps_per_call: int = 1
    epochs: int = 60
    steps: int | None = None
    learning_rate: float = 0.1
    base_batch: int | None = None
    schedule: str = "steps"
    # The paper's 32k and 48k of 64k iterations.
    drops: tuple[float, ...] = (0.5, 0.75)
    warmup: str = "auto"
    warmup_share: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay: str = "l2"
    decay_norm_and_bias: bool = True
    clip_norm: float | None = None
    ema: float | None = None
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    rand_augment: float = 0.0
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    zero_init_residual: bool = False
    synchronized_bn: bool = False
    recompute: bool = False
    recompute_bn: bool = False
    validation_split: str = "validation"
    export: bool = True
    fine_tune_epochs: int = 0
    log_every: int = 100
    checkpoint_every: int | None = None
    resume: bool = True
    seed: int = 0
    deterministic: bool = False

    def __post_init__(self):
        for name in ("batch_size", "micro_batches", "steps_per_call", "epochs", "log_every"):
            checks.integer(name, getattr(self, name))
        for name in ("steps", "base_batch", "checkpoint_every", "gpus", "virtual_devices"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name))
        for name in ("seed", "fine_tune_epochs", "head_epochs"):
            checks.integer(name, getattr(self, name), minimum=0)
        if self.seed >= 2**32:
            raise ValueError(f"`seed` must be below 2**32. Received: seed={self.seed}")
        for name in ("learning_rate", *(n for n in ("clip_norm",) if self.clip_norm is not None)):
            checks.positive(name, getattr(self, name))
        for name in (
            *("warmup_share", "momentum", "weight_decay", "label_smoothing"),
            *("dropout", "stochastic_depth"),
        ):
            checks.fraction(name, getattr(self, name))
        if self.ema is not None:
            checks.fraction("ema", self.ema)
        for drop in self.drops:
            checks.fraction("drops", drop)
        if checks.positive("rate_decay", self.rate_decay) > 1.0:
            raise ValueError(
                f"`rate_decay` must be in (0, 1]. Received: rate_decay={self.rate_decay}"
            )
        checks.one_of("schedule", self.schedule, SCHEDULES)
        checks.one_of("warmup", self.warmup, WARMUPS)
        checks.one_of("decay", self.decay, DECAYS)
        checks.one_of("precision", self.precision, PRECISIONS)
        checks.one_of("validation_split", self.validation_split, ("validation", "test"))
        if self.schedule == "plateau" and self.validation_split == "test":
            raise ValueError(
                "`validation_split` must be 'validation' with schedule='plateau', which would "
                "choose the learning rate by the test images. Received: validation_split='test'"
            )
        self._check_warmup(self.warmup)
        self._check_init()
        if self.fine_tune_epochs and not self.export:
            raise ValueError(
                "`fine_tune_epochs` fine-tunes the exported module; leave `export` on. "
                f"Received: fine_tune_epochs={self.fine_tune_epochs} with export=False"
            )

    def _check_warmup(self, warmup):
        """Raises a ValueError where the schedule knows no such warm-up, asked for or automatic."""
        if self.schedule == "plateau" and warmup in ("linear", "error"):
            raise ValueError(
                "`warmup` must be 'none' with schedule='plateau', which sets the rate itself. "
                f"Received: warmup={self.warmup!r}"
            )

    def _check_init(self):
        """Raises a ValueError where a setting makes no sense with `init`, or without it."""
        if self.init is None:
            self._expect_default(
                ("head_epochs", "freeze_bn", "rate_decay"),
                "goes with `init`, a finished network to train on from",
            )
        if self.freeze_bn and self.recompute_bn:
            raise ValueError(
                "`recompute_bn` must be False with freeze_bn=True, which keeps the statistics. "
                "Received: recompute_bn=True"
            )
        if self.init_is_model:
            self._expect_default(
                OF_THE_NETWORK,
                f"must be left out with init={self.init!r}, which brings its own network",
            )

    def _expect_default(self, names, why):
        """Raises a ValueError if one of these settings was made, which cannot be here."""
        for name in names:
            value = getattr(self, name)
            if value != _DEFAULTS[name]:
                raise ValueError(f"`{name}` {why}. Received: {name}={value!r}")

    @property
    def init_is_model(self) -> bool:
        """Whether `init` is a whole model, not weights for `model`."""
        return self.init is not None and (
            self.init.endswith(".keras")
            or "://" in self.init
            or (os.path.isdir(self.init) and self.init != "imagenet")
        )

    def of_the_result(self) -> dict[str, object]:
        """Returns the settings that a result depends on."""
        settings = dataclasses.asdict(self)
        return {key: settings[key] for key in settings if key not in _NOT_OF_THE_RESULT}

    @property
    def architecture(self) -> Architecture | DenseArchitecture:
        """The network's line of the table, with those options replaced that were asked for.

        Raises:
            ValueError: If there is no such network.
        """
        own = {"block": self.block, "widening": self.widening}
        own = {name: value for name, value in own.items() if value is not None}
        if self.depth is not None:
            architecture = cifar_architecture(self.depth, **own)
        elif own:
            name, value = next(iter(own.items()))
            raise ValueError(
                f"`{name}` goes with `depth`; a named network has its own. "
                f"Received: {name}={value!r} with depth=None"
            )
        else:
            architecture = find_architecture(self.model)
        if isinstance(architecture, DenseArchitecture):
            self._expect_default(
                _OF_RESIDUAL_NETWORKS,
                f"must be left out for {architecture.name}, which has no residual blocks",
            )
            return architecture
        shortcut, version = architecture.shortcut, architecture.version
        gates = architecture.squeeze_excitation
        if self.shortcut is not None:
            checks.one_of("shortcut", self.shortcut, ("A", "B", "C", "none"))
            shortcut = None if self.shortcut == "none" else self.shortcut
        if self.version is not None:
            version = checks.one_of("version", self.version, VERSIONS)
        if self.squeeze_excitation is not None:
            reduction = checks.integer("squeeze_excitation", self.squeeze_excitation, minimum=0)
            gates = reduction or None
        return architecture.variant(shortcut, version, squeeze_excitation=gates)

    def total_steps(self, dataset: ImageDataset) -> int:
        """Returns the steps of the whole run on `dataset`."""
        per_epoch = dataset.steps_per_epoch(self.batch_size)
        if self.steps is not None:
            return self.steps
        return self.epochs * per_epoch

    def load_data(self) -> ImageDataset:
        """Returns the data set.

        Raises:
            ValueError: If there is none of that name, or its files or options are wrong.
        """
        return load_dataset(self.dataset, self.data_dir, **self.data_options)

    def peak_rate(self) -> float:
        """Returns the highest learning rate for this batch."""
        if self.base_batch is None:
            return self.learning_rate
        return scaled_learning_rate(self.learning_rate, self.batch_size, self.base_batch)

    def optimizer(
        self, steps: int, rates: Mapping[str, float] | None = None
    ) -> keras.optimizers.Optimizer:
        """Returns SGD with schedule, warm-up and decay for a run of `steps` steps.

        Args:
            steps: Steps of the run.
            rates: Factors of the learning rate by layer, as in `training.SGD`.
        """
        return sgd(
            self._rate(steps),
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            decay=self.decay,
            decay_norm_and_bias=self.decay_norm_and_bias,
            clip_norm=self.clip_norm,
            ema=self.ema,
            rates=rates,
        )

    def _rate(self, steps):
        warmup = self.warmup
        if warmup == "auto" and self.init is not None:
            warmup = "none"
        if warmup == "auto":
            deep = self.architecture.family == "cifar" and self.architecture.depth >= 110
            warmup = "error" if deep else "none"
        self._check_warmup(warmup)
        if self.schedule == "plateau":
            return self.peak_rate()
        schedule = make_schedule(
            self.schedule,
            self.peak_rate(),
            total_steps=steps,
            boundaries=sorted({max(1, round(drop * steps)) for drop in self.drops}),
            warmup_steps=round(self.warmup_share * steps) if warmup == "linear" else 0,
        )
        return ErrorWarmup(schedule, rate=self.peak_rate() / 10) if warmup == "error" else schedule

    def callbacks(self, dataset: ImageDataset) -> list[keras.callbacks.Callback]:
        """Returns the Keras callbacks that belong to the settings."""
        if self.schedule != "plateau":
            return []
        monitor = "val_accuracy" if "validation" in dataset.splits else "accuracy"
        return [keras.callbacks.ReduceLROnPlateau(monitor, 0.1, patience=5, mode="max", verbose=1)]

    def loss(self) -> keras.losses.Loss:
        """Returns cross-entropy on the model's probabilities, smoothed as set."""
        return CrossEntropy(label_smoothing=self.label_smoothing)

    def mixing(self, classes: int) -> Mixing | None:
        """Returns what changes whole batches on the device, or None."""
        if not (self.mixup or self.cutmix or self.rand_augment):
            return None
        return Mixing(
            classes,
            mixup=self.mixup,
            cutmix=self.cutmix,
            rand_augment=self.rand_augment,
            seed=self.seed,
        )


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Experiment)}
