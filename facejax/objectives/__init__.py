"""Objectives: a loss with all that a trainer must keep for it, as an init/apply pair.

    init(key, num_classes, dim) -> (params, state)
    apply(params, state, embeddings, labels, *, key, step, classes)
        -> (losses [B], state, metrics)

`params` is trained, `state` is carried. In both, every array with a rank has one row a class on its
first axis and may be split over devices there; scalars are shared. `metrics` are sums over the rows
given. `classes` is a `facejax.losses.Classes`, whose rules hold: with an `axis_name`, params are
this device's slice and the rows its part of the batch; `num_classes` leaves the slices' padding
rows out. The mean of the losses over the real rows is what is to be minimised.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from facejax import losses
from facejax.errors import UserError
from facejax.objectives.classification import center_loss, classification, deepid2
from facejax.objectives.common import Objective
from facejax.objectives.pairwise import facenet, pairs, proxies

__all__ = [
    "LOSSES",
    "Objective",
    "can_sample",
    "has_class_weights",
    "hyperparameters",
    "needs_pairs",
    "objective",
]

_COMPOSED: dict[str, Callable[..., Objective]] = {
    "deepid2": deepid2,
    "center_loss": center_loss,
    "facenet": facenet,
}
_PAIRS = ("circle_pairs", "multi_similarity", "supcon", "n_pairs", "lifted_structure")
_PROXIES = ("proxy_nca", "proxy_anchor")

# The survey's first, then its successors.
LOSSES: tuple[str, ...] = (
    "softmax", "deepid2", "facenet", "center_loss", "l_softmax", "sphereface", "normface",
    "cosface", "arcface", "combined_margin", "mv_softmax", "circle", "circle_pairs",
    "curricularface", "magface",
    "subcenter_arcface", "adaface", "elasticface", "sphereface2", "sphereface_r", "uniface",
    "adacos", "sface", "p2sgrad", "li_arcface",
    "multi_similarity", "supcon", "n_pairs", "lifted_structure", "proxy_nca", "proxy_anchor",
)  # fmt: skip

# What an objective takes besides its loss's own keywords. The annealing is SphereFace's, and that
# of L-Softmax's MNIST example.
_OWN: dict[str, dict[str, Any]] = {
    "deepid2": {"weight": 0.05, "margin": 1.0, "distance": "l2"},
    "facenet": {"margin": 0.2, "mining": "semihard"},
    "center_loss": {"weight": 0.003, "rate": 0.5},
    "l_softmax": {
        "anneal_base": 1000.0, "anneal_gamma": 2.5e-5, "anneal_power": 35.0, "anneal_minimum": 0.0,
    },
    "sphereface": {
        "anneal_base": 1000.0, "anneal_gamma": 0.12, "anneal_power": 1.0, "anneal_minimum": 5.0,
    },
    "normface": {"learn_scale": False},
    "subcenter_arcface": {"centers": 3},
    "elasticface": {"mean": 0.5, "sigma": 0.05},
    "n_pairs": {"regularizer": 0.002},
}  # fmt: skip
_STRUCTURE = ("bias", "classes", "blend")  # keywords of the losses that are no hyperparameters here


def has_class_weights(name: str) -> bool:
    """Whether a loss has a softmax (or binary terms) over class weights, which may be streamed."""
    return name not in (*_PAIRS, *_PROXIES, "facenet")


def can_sample(name: str) -> bool:
    """Whether a loss may see a sample of the classes: nothing else of it counts by class."""
    return has_class_weights(name) and name != "center_loss"


def needs_pairs(name: str) -> bool:
    """Whether a loss learns only from batches that hold several images of an identity."""
    return name in ("facenet", *_PAIRS)


def hyperparameters(name: str) -> dict[str, Any]:
    """The hyperparameters of an objective and their defaults: its loss's, and its own.

    A margin can rise from 0 over the first `margin_warmup` steps, a scale from 1 over
    `scale_warmup`.

    Raises:
      UserError: if there is no such loss.
    """
    if name not in LOSSES:
        raise UserError(f"there is no loss {name!r}; choose one of {', '.join(LOSSES)}")
    found: dict[str, Any] = {}
    if name not in _COMPOSED:
        parameters = inspect.signature(getattr(losses, name)).parameters.values()
        found = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        found = {part: value for part, value in found.items() if part not in _STRUCTURE}
    found |= _OWN.get(name, {})
    if not needs_pairs(name) and name not in _PROXIES:
        rising = [part for part in ("margin", "scale") if isinstance(found.get(part), float)]
        found |= {f"{part}_warmup": 0 for part in rising}
    return found


def objective(
    name: str, chosen: Mapping[str, Any] | None = None, *, dtype: Any = jnp.float32
) -> Objective:
    """The objective of a loss.

    Args:
      name: one of `LOSSES`.
      chosen: hyperparameters to be other than the defaults.
      dtype: the type of the products' inputs; similarities, margin and softmax are float32.

    Raises:
      UserError: on a loss, hyperparameter or choice that does not exist.
    """
    defaults = hyperparameters(name)
    for extra in sorted(set(chosen or {}) - set(defaults)):
        takes = ", ".join(defaults) or "none"
        raise UserError(f"the loss {name} has no {extra}: its hyperparameters are {takes}")
    values = {**defaults, **(chosen or {})}
    make = _COMPOSED.get(name) or functools.partial(
        pairs if name in _PAIRS else proxies if name in _PROXIES else classification, name
    )
    try:
        made = make(values, dtype=dtype)
        jax.eval_shape(functools.partial(_try, made), jax.random.key(0))  # a bad choice shows here
    except ValueError as error:
        raise UserError(f"the loss {name} is set up wrongly: {error}") from error
    return made


def _try(made: Objective, key: jax.Array) -> Any:
    params, state = made.init(key, 4, 2)
    rows = jnp.zeros((4, 2)), jnp.arange(4, dtype=jnp.int32)
    return made.apply(params, state, *rows, key=key, step=0, classes=losses.Classes())
