"""SGD with the paper's weight decay.

Two decays have the same name. The paper adds `weight_decay * w` to the gradient, which is then
scaled by the learning rate and runs through the momentum; Keras subtracts
`learning_rate * weight_decay * w` from the weight, past the momentum ("decoupled", arXiv
1711.05101). `keras.regularizers.L2(l)` has the gradient `2 * l * w`, so the paper's 1e-4 is
`L2(5e-5)`; the optimizer here gives the same without a term in the loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras

from keras_resnet.utils import checks, private

DECAYS = ("l2", "decoupled")


@keras.saving.register_keras_serializable("keras_resnet")
class SGD(keras.optimizers.SGD):
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
        super().__init__(learning_rate, **kwargs)
        self.l2 = float(l2)
        self.rates = dict(rates or {})

    def build(self, variables):
        super().build(variables)
        # Here, since an update knows its variable by number only.
        self._factors = [self.rates.get(v.path.split("/")[0], 1.0) for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        if self.l2 and private.has_weight_decay(self, variable):
            gradient = gradient + self.l2 * variable
        factor = self._factors[private.variable_index(self, variable)]
        super().update_step(gradient, variable, learning_rate * factor)

    def get_config(self) -> dict:
        return {**super().get_config(), "l2": self.l2, "rates": self.rates}


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
    )
    if not decay_norm_and_bias:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


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
