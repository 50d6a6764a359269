"""What the trainer knows of each loss: one row per loss, and the objective made from it."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from facejax import losses
from facejax.errors import UserError
from facejax.losses import margins
from facejax.objectives.classification import center_loss, classification, deepid2
from facejax.objectives.common import Inputs, Loss, Objective
from facejax.objectives.pairwise import facenet, n_pairs, pairs, proxies

# What rows of the table keep: `Loss` says when each of these is called, and with what.


def _sphereface2_bias(num_classes: int, chosen: Mapping[str, Any]) -> dict[str, jax.Array]:
    shared = {part: chosen[part] for part in ("scale", "margin", "balance", "t")}
    return {"bias": jnp.float32(losses.sphereface2_initial_bias(num_classes, **shared))}


def _uniface_bias(num_classes: int, chosen: Mapping[str, Any]) -> dict[str, jax.Array]:
    del chosen
    return {"bias": jnp.float32(losses.uniface_initial_bias(num_classes))}


def _scale_to_learn(num_classes: int, chosen: Mapping[str, Any]) -> dict[str, jax.Array]:
    del num_classes
    return {"scale": jnp.float32(chosen["scale"])} if chosen["learn_scale"] else {}


def _first_t(num_classes: int) -> dict[str, Any]:
    del num_classes
    return {"t": jnp.float32(0)}


def _first_statistics(num_classes: int) -> dict[str, Any]:
    del num_classes
    return {"statistics": jax.tree.map(jnp.float32, losses.AdaFaceStatistics())}


def _first_scale(num_classes: int) -> dict[str, Any]:
    return {"scale": jnp.float32(losses.adacos_initial_scale(num_classes))}


def _memory(inputs: Inputs) -> Any:
    (memory,) = inputs.state.values()
    return memory


def _bias(inputs: Inputs) -> jax.Array:
    return inputs.params["bias"]


def _drawn_margins(inputs: Inputs) -> jax.Array:
    if inputs.keys is None:
        raise ValueError("elastic margins are drawn: give keys, one per row")
    draw = functools.partial(
        losses.elastic_margins, mean=inputs.chosen["mean"], sigma=inputs.chosen["sigma"]
    )
    return jax.vmap(lambda key: draw(key, 1)[0])(inputs.keys)


def _learned_scale(inputs: Inputs) -> dict[str, Any]:
    return (
        {"scale": jnp.maximum(inputs.params["scale"], 0.01)} if inputs.chosen["learn_scale"] else {}
    )


_ANNEALED = ("base", "gamma", "power", "minimum")


def _annealing(*defaults: float) -> dict[str, float]:
    return {f"anneal_{part}": value for part, value in zip(_ANNEALED, defaults, strict=True)}


def _blend(inputs: Inputs) -> dict[str, Any]:
    course = {part: inputs.chosen[f"anneal_{part}"] for part in _ANNEALED}
    return {
        "blend": losses.annealed_blend(jnp.asarray(inputs.step) + 1, **course)
    }  # counted from 1


_margin = functools.partial(Loss, classification)
_SOFTMAX = _margin(losses.softmax, margins.softmax, bias=True)

# The survey's first, then its successors. The annealing is SphereFace's, and that of L-Softmax's
# MNIST example.
TABLE: dict[str, Loss] = {
    "softmax": _SOFTMAX,
    "deepid2": _SOFTMAX._replace(make=deepid2, function=losses.contrastive, own={"weight": 0.05}),
    "facenet": Loss(facenet, losses.batch_triplet, needs_pairs=True),
    "center_loss": _SOFTMAX._replace(
        make=center_loss, function=losses.update_centers, own={"weight": 0.003}, can_sample=False
    ),
    "l_softmax": _margin(
        losses.l_softmax, margins.l_softmax, own=_annealing(1000.0, 2.5e-5, 35.0, 0.0),
        moving=_blend,
    ),
    "sphereface": _margin(
        losses.sphereface, margins.sphereface, own=_annealing(1000.0, 0.12, 1.0, 5.0),
        moving=_blend,
    ),
    "normface": _margin(
        losses.normface, margins.normface, own={"learn_scale": False},
        params=_scale_to_learn, moving=_learned_scale,
    ),
    "cosface": _margin(losses.cosface, margins.cosface),
    "arcface": _margin(losses.arcface, margins.arcface),
    "combined_margin": _margin(losses.combined_margin, margins.combined_margin),
    "mv_softmax": _margin(losses.mv_softmax, margins.mv_softmax),
    "circle": _margin(losses.circle, margins.circle),
    "circle_pairs": Loss(pairs, losses.circle_pairs, needs_pairs=True),
    "curricularface": _margin(
        losses.curricularface, margins.curricularface, state=_first_t, context=_memory
    ),
    "magface": _margin(losses.magface, margins.magface),
    "subcenter_arcface": _margin(losses.subcenter_arcface, margins.arcface, own={"centers": 3}),
    "adaface": _margin(losses.adaface, margins.adaface, state=_first_statistics, context=_memory),
    "elasticface": _margin(
        losses.elasticface, margins.elasticface, own={"mean": 0.5, "sigma": 0.05},
        context=_drawn_margins,
    ),
    "sphereface2": _margin(
        losses.sphereface2, margins.sphereface2, params=_sphereface2_bias, context=_bias
    ),
    "sphereface_r": _margin(losses.sphereface_r, margins.sphereface_r, neutral_margin=1.0),
    "uniface": _margin(losses.uniface, margins.uniface, params=_uniface_bias, context=_bias),
    "adacos": _margin(losses.adacos, margins.adacos, state=_first_scale, context=_memory),
    "sface": _margin(losses.sface, margins.sface),
    "p2sgrad": _margin(losses.p2sgrad, margins.p2sgrad),
    "li_arcface": _margin(losses.li_arcface, margins.li_arcface),
    "multi_similarity": Loss(pairs, losses.multi_similarity, needs_pairs=True),
    "supcon": Loss(pairs, losses.supcon, needs_pairs=True),
    "n_pairs": Loss(n_pairs, losses.n_pairs, own={"regularizer": 0.002}, needs_pairs=True),
    "lifted_structure": Loss(pairs, losses.lifted_structure, needs_pairs=True),
    "proxy_nca": Loss(proxies, losses.proxy_nca),
    "proxy_anchor": Loss(proxies, losses.proxy_anchor),
}  # fmt: skip

LOSSES: tuple[str, ...] = tuple(TABLE)

# Keywords of the losses that are no hyperparameters here.
_STRUCTURE = ("bias", "classes", "blend", *losses.Remedies._fields)


def has_class_weights(name: str) -> bool:
    """Whether a loss has a softmax (or binary terms) over class weights, which may be streamed."""
    return TABLE[name].rule is not None


def can_sample(name: str) -> bool:
    """Whether a loss may see a sample of the classes: nothing else of it counts by class."""
    return has_class_weights(name) and TABLE[name].can_sample


def needs_pairs(name: str) -> bool:
    """Whether a loss learns only from batches that hold several images of an identity."""
    return TABLE[name].needs_pairs


def neutral_margin(name: str) -> float:
    """The margin that is none: 0, or 1 where it is a factor."""
    return TABLE[name].neutral_margin


def remedies_taken(name: str) -> tuple[str, ...]:
    """Which fields of `facejax.losses.Remedies` a loss takes."""
    loss = TABLE[name]
    if loss.make is not classification:
        return ()
    keywords = inspect.signature(loss.function).parameters
    return tuple(part for part in losses.Remedies._fields if part in keywords)


def _given(remedies: losses.Remedies) -> tuple[str, ...]:
    """Which fields do something."""
    given = remedies._asdict() | {"smoothing": remedies.smoothing if remedies.smooths else None}
    return tuple(part for part, value in given.items() if value is not None)


def hyperparameters(name: str) -> dict[str, Any]:
    """The hyperparameters of an objective and their defaults: its loss's, and its own.

    Where there are class weights, a margin can rise from 0 over the first `margin_warmup` steps, a
    scale from 1 over `scale_warmup`.

    Raises:
      UserError: if there is no such loss.
    """
    if name not in TABLE:
        raise UserError(f"there is no loss {name!r}; choose one of {', '.join(TABLE)}")
    loss = TABLE[name]
    parameters = inspect.signature(loss.function).parameters.values()
    found = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    found = {part: value for part, value in found.items() if part not in _STRUCTURE}
    found |= loss.own
    if has_class_weights(name):
        rising = [part for part in ("margin", "scale") if isinstance(found.get(part), float)]
        found |= {f"{part}_warmup": 0 for part in rising}
    return found


def objective(
    name: str,
    chosen: Mapping[str, Any] | None = None,
    *,
    remedies: losses.Remedies | None = None,
    dtype: Any = jnp.float32,
) -> Objective:
    """The objective of a loss.

    Args:
      name: one of `LOSSES`.
      chosen: hyperparameters to be other than the defaults.
      remedies: against wrong labels and unequal classes. What is by class, [C] of all classes, is
        carried in the state.
      dtype: the type of the products' inputs; similarities, margin and softmax are float32.

    Raises:
      UserError: on a loss, hyperparameter or choice that does not exist, or a remedy that the loss
        does not take.
    """
    defaults = hyperparameters(name)
    for extra in sorted(set(chosen or {}) - set(defaults)):
        takes = ", ".join(defaults) or "none"
        raise UserError(f"the loss {name} has no {extra}: its hyperparameters are {takes}")
    values = {**defaults, **(chosen or {})}
    loss = TABLE[name]
    remedies = remedies or losses.Remedies()
    given = _given(remedies)
    for part in given:
        if part not in remedies_taken(name):
            raise UserError(
                f"the loss {name} does not take {part}; it takes "
                f"{', '.join(remedies_taken(name)) or 'none of its kind'}"
            )
    more = {"remedies": remedies} if given else {}
    by_class = [one for one in remedies[:2] if one is not None]
    count = len(by_class[0]) if by_class else 4
    try:
        made = loss.make(loss, values, dtype=dtype, **more)
        attempt = functools.partial(_try, made, count)
        jax.eval_shape(attempt, jax.random.key(0))  # a bad choice shows here
    except ValueError as error:
        raise UserError(f"the loss {name}: {error}") from error
    return made


def _try(made: Objective, num_classes: int, key: jax.Array) -> Any:
    params, state = made.init(key, num_classes, 2)
    rows = jnp.zeros((4, 2)), jnp.arange(4, dtype=jnp.int32)
    return made.apply(
        params, state, *rows, keys=jax.random.split(key, 4), step=0, classes=losses.Classes()
    )
