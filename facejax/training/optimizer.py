"""The update rule and its learning-rate schedule, from optax.

Clipping is not here: the class weights are split over devices, so the gradient's norm takes a
collective, which is the step's business.
"""

from typing import Any

import jax
import optax

from facejax.errors import UserError


def learning_rate(
    *, peak: float, steps: int, warmup: float, schedule: str, power: float = 2.0
) -> optax.Schedule:
    """A linear rise from 0 over the first `warmup` share of `steps`, then the schedule to 0.

    Args:
      peak: the highest rate.
      steps: of the whole run.
      warmup: in [0, 1].
      schedule: `polynomial` ((1 - t)^power), `cosine` or `constant`.
      power: of the polynomial.

    Raises:
      UserError: on another schedule.
    """
    rise = round(warmup * steps)
    rest = max(steps - rise, 1)
    if schedule == "polynomial":
        after = optax.polynomial_schedule(peak, 0.0, power, rest)
    elif schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest)
    elif schedule == "constant":
        after = optax.constant_schedule(peak)
    else:
        raise UserError(
            f"there is no learning-rate schedule {schedule!r}; "
            "choose polynomial, cosine or constant"
        )
    if not rise:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, rise), after], [rise])


def decayed(params: Any) -> Any:
    """True for kernels and class weights; BatchNorm, PReLU and biases (rank 0 and 1) are left."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def optimizer(
    name: str, rate: optax.Schedule, *, momentum: float = 0.9, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """SGD with momentum and decay in the gradient (as PyTorch's), or AdamW.

    Raises:
      UserError: on another name.
    """
    if name == "sgd":
        return optax.chain(
            optax.add_decayed_weights(weight_decay, decayed), optax.sgd(rate, momentum)
        )
    if name == "adamw":
        return optax.adamw(rate, weight_decay=weight_decay, mask=decayed)
    raise UserError(f"there is no optimizer {name!r}; choose sgd or adamw")
