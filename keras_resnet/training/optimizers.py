"""SGD with the paper's weight decay, and Keras's other optimizers by name.

Two decays have the same name. The paper adds `weight_decay * w` to the gradient, which is then
scaled by the learning rate and runs through the momentum; Keras subtracts
`learning_rate * weight_decay * w` from the weight, past the momentum ("decoupled", arXiv
1711.05101). `keras.regularizers.L2(l)` has the gradient `2 * l * w`, so the paper's 1e-4 is
`L2(5e-5)`; the optimizer here gives the same without a term in the loss.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet.training.choices import DECAYS
from keras_resnet.utils import checks, private


class _LayerRates:
    """Gives the learning rate of each layer a factor of its own, in front of a Keras optimizer."""

    def __init__(self, *args, rates: Mapping[str, float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.rates = dict(rates or {})

    def build(self, variables):
        super().build(variables)  # type: ignore[misc]
        # Here, since an update knows its variable by number only.
        self._factors = [self.rates.get(v.path.split("/")[0], 1.0) for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        factor = self._factors[private.variable_index(self, variable)]
        super().update_step(gradient, variable, learning_rate * factor)  # type: ignore[misc]

    def get_config(self) -> dict:
        return {**super().get_config(), "rates": self.rates}  # type: ignore[misc]


@keras.saving.register_keras_serializable("keras_resnet")
class SGD(_LayerRates, keras.optimizers.SGD):
    """Keras's SGD with an L2 term in the gradient, for any trainer and strategy.

    The term is added after clipping, except to variables of `exclude_from_weight_decay`.

    Args:
        learning_rate: Float or `LearningRateSchedule`.
        l2: Factor of the weight in its gradient; the paper uses 1e-4.
        rates: Factor of the learning rate by the name of a layer of the model, 1 for others; for
            discriminative learning rates (`keras_resnet.stage_rates`). Decoupled decay ignores it.
        **kwargs: As in `keras.optimizers.SGD`.
    """

    def __init__(
        self,
        learning_rate=0.1,
        *,
        l2: float = 0.0,
        rates: Mapping[str, float] | None = None,
        **kwargs,
    ):
        if l2 < 0.0:
            raise ValueError(f"`l2` must not be negative. Received: l2={l2}")
        super().__init__(learning_rate, rates=rates, **kwargs)
        self.l2 = float(l2)

    def update_step(self, gradient, variable, learning_rate):
        if self.l2 and private.has_weight_decay(self, variable):
            gradient = gradient + self.l2 * variable
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict:
        return {**super().get_config(), "l2": self.l2}


def _by_name() -> dict[str, type[keras.optimizers.Optimizer]]:
    """Returns Keras's optimizers by their names in small letters."""
    base = keras.optimizers.Optimizer
    # These hold others, which is the trainer's work or takes objects.
    others = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
    return {
        name.lower(): kind
        for name, kind in sorted(vars(keras.optimizers).items())
        if inspect.isclass(kind) and issubclass(kind, base) and name not in others
    }


OPTIMIZERS = _by_name()
# The same with `rates`; registered, so that they can be saved.
_WITH_RATES = {
    name: keras.saving.register_keras_serializable("keras_resnet")(
        type(f"{kind.__name__}WithRates", (_LayerRates, kind), {})
    )
    for name, kind in OPTIMIZERS.items()
}
# Options of Keras's optimizers that arguments here, or the trainer's, stand for.
_TAKEN = {
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "adam_weight_decay": "weight_decay",
    "global_clipnorm": "clip_norm",
    "use_ema": "ema",
    "ema_momentum": "ema",
    "ema_overwrite_frequency": "ema",
    "loss_scale_factor": "precision",
    "gradient_accumulation_steps": "micro_batches",
}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raises a ValueError for an unknown optimizer, or options that are not its own to take."""
    checks.one_of("optimizer", name, tuple(OPTIMIZERS))
    parameters = inspect.signature(OPTIMIZERS[name].__init__).parameters
    own = [option for option in parameters if option not in ("self", "name", "kwargs", *_TAKEN)]
    if name == "sgd":
        own.remove("momentum")
    for option, value in options.items():
        if option not in own:
            instead = {**_TAKEN, "momentum": "momentum"}.get(option)
            hint = f"; `{instead}` sets that" if instead and option in parameters else ""
            raise ValueError(
                f"`optimizer_options` of {name!r} must be of {', '.join(own)}{hint}. "
                f"Received: {option}={value!r}"
            )


def make_optimizer(
    name: str,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    options: Mapping[str, Any] | None = None,
    weight_decay: float = 0.0,
    decay_norm_and_bias: bool = True,
    clip_norm: float | None = None,
    ema: float | None = None,
    rates: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """Makes one of Keras's optimizers by name, with decoupled weight decay.

    For SGD with the paper's decay there is `sgd`. Keras's Muon orthogonalizes the updates of
    matrices only: convolutions are trained by its AdamW.

    Args:
        name: Name in `keras.optimizers` in small letters, such as `"adamw"`, `"lamb"`, `"lion"`.
        learning_rate: Float or schedule.
        options: Options of its own, such as `{"beta_2": 0.99}`.
        weight_decay: Factor of the decoupled decay.
        decay_norm_and_bias: As in `sgd`.
        clip_norm: As in `sgd`.
        ema: As in `sgd`.
        rates: Factors of the learning rate by layer, as in `SGD`; decoupled decay ignores them.

    Raises:
        ValueError: An unknown name, or an option that is not one of its own.
    """
    options = dict(options or {})
    check_options(name, options)
    if name == "muon":
        options["adam_weight_decay"] = weight_decay or None
    kind = OPTIMIZERS[name] if rates is None else _WITH_RATES[name]
    # The one whose decay cannot be left out.
    none = 0.0 if issubclass(kind, keras.optimizers.AdamW) else None
    optimizer = kind(
        learning_rate,
        weight_decay=weight_decay or none,
        global_clipnorm=clip_norm,
        use_ema=ema is not None,
        ema_momentum=0.99 if ema is None else ema,
        **options,
        **({} if rates is None else {"rates": rates}),
    )
    _decay_weights_only(optimizer, decay_norm_and_bias)
    return optimizer


def sgd(
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 1e-4,
    decay: str = "l2",
    decay_norm_and_bias: bool = True,
    clip_norm: float | None = None,
    ema: float | None = None,
    rates: Mapping[str, float] | None = None,
    **options: Any,
) -> SGD:
    """Makes SGD with the paper's settings by default.

    Args:
        learning_rate: Float or schedule.
        momentum: Momentum in [0, 1].
        nesterov: Nesterov's momentum instead of the classical one.
        weight_decay: Factor of the decay.
        decay: `"l2"`, the term in the gradient as in the paper, or `"decoupled"`.
        decay_norm_and_bias: Whether BN's gamma and beta and the biases decay too.
        clip_norm: Largest global norm of the gradient, under `Trainer` that of the whole batch.
        ema: Momentum of an exponential moving average of the weights, such as 0.9999, that replaces
            them after `fit`; `keras.callbacks.SwapEMAWeights` evaluates with it in between.
        rates: Factors of the learning rate by layer, as in `SGD`.
        **options: Further options of `keras.optimizers.SGD`.

    Raises:
        ValueError: An unknown `decay`.
    """
    checks.one_of("decay", decay, DECAYS)
    optimizer = SGD(
        learning_rate,
        momentum=momentum,
        nesterov=nesterov,
        l2=weight_decay if decay == "l2" else 0.0,
        weight_decay=weight_decay if decay == "decoupled" and weight_decay else None,
        global_clipnorm=clip_norm,
        use_ema=ema is not None,
        ema_momentum=0.99 if ema is None else ema,
        rates=rates,
        **options,
    )
    _decay_weights_only(optimizer, decay_norm_and_bias)
    return optimizer


def _decay_weights_only(optimizer: keras.optimizers.Optimizer, decay_norm_and_bias: bool) -> None:
    if not decay_norm_and_bias:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])


def check_optimizer(optimizer: keras.optimizers.Optimizer, replicas: int = 1) -> None:
    """Raises a ValueError for options that are the trainer's, or that Keras cannot do."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "`optimizer` must not scale the loss, the trainer does. "
            "Received: a LossScaleOptimizer; give its inner_optimizer"
        )
    trainers = {"gradient_accumulation_steps": "micro_batches", "loss_scale_factor": "loss_scale"}
    for option, instead in trainers.items():
        if (value := getattr(optimizer, option)) is not None:
            raise ValueError(
                f"`optimizer` must leave {option} to the trainer's `{instead}`. "
                f"Received: {option}={value}"
            )
    if optimizer.use_ema and optimizer.ema_overwrite_frequency and replicas > 1:
        raise ValueError(
            "`optimizer` must have ema_overwrite_frequency=None on several replicas: the average "
            "becomes the weights at the end. "
            f"Received: ema_overwrite_frequency={optimizer.ema_overwrite_frequency}"
        )


def last_learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the last update; the optimizer itself has that of the next."""
    rate = private.schedule_of(optimizer)
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(max(int(optimizer.iterations.numpy()) - 1, 0))
    return float(keras.ops.convert_to_numpy(rate))
