"""Two replicas with synchronized normalization against one with the whole batch.

Only one strategy can live in a process, so this is a script of its own. It also looks at what an
unsynchronized layer does there, as Keras's own does: each replica normalizes by its own half and
keeps the moving statistics of that half in its own copy.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_resnet.layers import BatchNormalization

REPLICAS = 2
SHAPE = (8, 4, 4, 3)  # of the whole batch
# Both compute in float32 and sum in another order.
TOLERANCE = 1e-5

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * REPLICAS
)


def layer_with_weights(**config):
    layer = BatchNormalization(momentum=0.9, epsilon=1e-5, **config)
    layer.build((None, *SHAPE[1:]))
    rng = np.random.default_rng(0)
    for variable in layer.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return layer


def step(layer, x, cotangent, training):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        loss = tf.reduce_sum(y * cotangent)
    return y, tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])


def statistics(layer):
    return [layer.moving_mean.numpy(), layer.moving_variance.numpy()]


def assert_close(value, expected, what):
    np.testing.assert_allclose(value, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=what)


rng = np.random.default_rng(1)
# The halves have different means, so that an unsynchronized layer gives other numbers.
x = (rng.normal(size=SHAPE) + np.repeat([0.0, 3.0], SHAPE[0] // 2)[:, None, None, None]).astype("f")
cotangent = rng.normal(size=SHAPE).astype("f")
halves, cotangents = (np.split(value, REPLICAS) for value in (x, cotangent))

strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(REPLICAS)])
assert strategy.num_replicas_in_sync == REPLICAS


def run(layer, training):
    """Returns outputs and gradients of the input joined, those of the parameters summed."""

    def of_replica():
        i = tf.distribute.get_replica_context().replica_id_in_sync_group
        inputs = [tf.gather(tf.constant(np.stack(v)), i) for v in (halves, cotangents)]
        return step(layer, *inputs, training)

    y, (dx, dgamma, dbeta) = tf.function(lambda: strategy.run(of_replica))()
    join, add = (lambda v: np.concatenate(v.values)), (lambda v: sum(np.asarray(v.values)))
    return join(y), [join(dx), add(dgamma), add(dbeta)]


for training in (True, False):
    one = layer_with_weights()
    expected_y, expected_gradients = step(one, tf.constant(x), cotangent, training)
    with strategy.scope():
        synchronized = layer_with_weights(synchronized=True)
    y, gradients = run(synchronized, training)
    assert_close(y, expected_y, f"outputs, training={training}")
    for name, value, expected in zip(
        ["x", "gamma", "beta"], gradients, expected_gradients, strict=True
    ):
        assert_close(value, expected, f"gradient of {name}, training={training}")
    for value, expected in zip(statistics(synchronized), statistics(one), strict=True):
        assert_close(value, expected, f"moving statistics, training={training}")

with strategy.scope():
    apart = layer_with_weights()
y, _ = run(apart, training=True)
for i, (half, half_y) in enumerate(zip(halves, np.split(y, REPLICAS), strict=True)):
    alone = layer_with_weights()
    assert_close(half_y, alone(half, training=True), "outputs of one half")
    moving = (apart.moving_mean, apart.moving_variance)
    for variable, expected in zip(moving, statistics(alone), strict=True):
        copies = strategy.experimental_local_results(variable.value)
        assert_close(copies[i], expected, "moving statistics of one half")

print("two replicas equal one")
