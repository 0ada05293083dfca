"""Adam in its two forms, learning-rate schedules, and the moving average of the generator."""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jax_sngan.config.schema import OptimizerConfig


def adam_direction(config: OptimizerConfig) -> optax.GradientTransformation:
    """Adam's step for a learning rate of -1 (Kingma & Ba 2015, Algorithm 1); its state is optax.ScaleByAdamState.

    With m and v the moments and c1, c2 = 1 - beta^t:
      standard      (m / c1) / (sqrt(v / c2) + eps)          as torch and optax
      epsilon_hat   sqrt(c2) / c1 * m / (sqrt(v) + eps)      as Chainer; the paper, end of section 2
    Unlike optax.scale_by_adam, c1 and c2 keep all digits in float32: 1 - 0.999 there is off by 1e-5 (torch's is exact).
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=zeros, nu=jax.tree.map(jnp.zeros_like, params))

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: config.beta1 * m + (1 - config.beta1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: config.beta2 * v + (1 - config.beta2) * (g * g), state.nu, grads)

        def step(m: Array, v: Array) -> Array:
            c1, c2 = (_bias_correction(beta, count, m.dtype) for beta in (config.beta1, config.beta2))
            if config.eps_form == "standard":
                return (m / c1) / (jnp.sqrt(v) / jnp.sqrt(c2) + config.eps)
            return (jnp.sqrt(c2) / c1) * m / (jnp.sqrt(v) + config.eps)

        return jax.tree.map(step, mu, nu), optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)


class NumberByNumber(optax.GradientTransformationExtraArgs):
    """An optimiser that looks at one number of a parameter at a time: devices may each update their part of an array.

    One that clips by a norm, or keeps a mean of rows, may not be made one of these.
    """

    rate: Callable[[Array], Array] | None = None  # of a training step, where it is known: for the log


@lru_cache(maxsize=64)  # the same values are the same optimiser: a compiled step is found again
def adam(config: OptimizerConfig, steps: int | None = None) -> NumberByNumber:
    """adam_direction along the config's learning rate.

    Its update is also told the training step (`step=`, as descend does), so that all D updates of a step share a rate;
    optax's own schedules count updates.

    Args:
      steps: of the run, at whose end a linear or cosine rate is 0; not read where the rate is constant.
    """
    along = adam_direction(config)

    def update(grads: Any, state: Any, params: Any = None, *, step: Any, **_: Any) -> tuple[Any, Any]:
        direction, state = along.update(grads, state, params)
        rate = learning_rate(config, step, steps or 0)
        return jax.tree.map(lambda d: -rate.astype(d.dtype) * d, direction), state

    made = NumberByNumber(along.init, update)
    made.rate = partial(learning_rate, config, steps=steps or 0)
    return made


def _bias_correction(beta: float, count: Array, dtype: Any) -> Array:
    """1 - beta^count; beta^count as exp(count log beta) leaves nothing to cancel."""
    if beta == 0.0:
        return jnp.ones((), dtype)
    return -jnp.expm1(count.astype(dtype) * math.log(beta))


def learning_rate(config: OptimizerConfig, step: Array, steps: int) -> Array:
    """[] the rate of training step `step` (from 0) in a run of `steps`; all n_dis D updates of a step share it.

    linear: constant up to decay_start, then in equal parts to 0 at `steps`, the value after the last step
    (chainer.training.extensions.LinearShift, as the authors and torch-mimicry use it).
    cosine: the same ends, along half a cosine (Loshchilov & Hutter 2017, eq. 5, without restarts).
    """
    rate, span = config.learning_rate, max(steps - config.decay_start, 1)
    # A float: of an integer optax computes in float32, also where there is float64.
    at = jnp.asarray(step).astype(jnp.result_type(float))
    if config.schedule == "constant":
        return jnp.asarray(rate, at.dtype)
    if config.schedule == "linear":
        return jnp.asarray(optax.linear_schedule(rate, 0.0, span, config.decay_start)(at))
    falling = optax.cosine_decay_schedule(rate, span)
    return jnp.asarray(optax.join_schedules([optax.constant_schedule(rate), falling], [config.decay_start])(at))


def descend(
    optimizer: optax.GradientTransformation, gradients: Any, state: Any, params: Any, step: Array
) -> tuple[Any, Any]:
    """One optimiser step: (params, the optimiser's state); step: [] the training step, for a schedule that takes it."""
    changes, state = optax.with_extra_args_support(optimizer).update(gradients, state, params, step=step)
    return optax.apply_updates(params, changes), state


def clip(params: Any, bound: float) -> Any:
    """Every number of params brought into [-bound, bound] (Arjovsky et al. 2017, Algorithm 1)."""
    return jax.tree.map(lambda p: jnp.clip(p, -bound, bound), params)


def average_decay(decay: float, warmup: bool, step: Array) -> float | Array:
    """The decay of the average at training step `step` (from 0); warmup: min(decay, (1 + step) / (10 + step)).

    tf.train.ExponentialMovingAverage's num_updates.
    """
    if not warmup:
        return decay
    done = step.astype(jnp.result_type(float))
    return jnp.minimum(decay, (1 + done) / (10 + done))


def moving_average(average: Any, params: Any, decay: float | Array) -> Any:
    """decay * average + (1 - decay) * params, leaf by leaf; of parameters alone.

    Not optax.incremental_update, whose 1 - (1 - decay) is not the decay to the last digit.
    u and v must never be averaged: two unit vectors' mean is shorter, sigma shrinks, and evaluation explodes.
    """

    def mean(a: Array, p: Array) -> Array:
        d = decay if isinstance(decay, float) else decay.astype(p.dtype)
        return d * a + (1 - d) * p

    return jax.tree.map(mean, average, params)
