"""Every class-weight loss and its variants, and the batches they are tried on."""

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from facejax import losses
from tests import reference, reference_adaptive


class Case(NamedTuple):
    loss: str
    keywords: Mapping[str, Any] = types.MappingProxyType({})
    extra: Callable[[int], Any] | None = None  # rows -> what stands after the labels
    learned: tuple[str, ...] = ()  # keywords, or "extra", that have a gradient
    logit: float = 64.0  # the largest magnitude
    norm: tuple[float, float] = (0.5, 3.0)  # where gradients are compared
    subcenters: int = 0


def _scalar(value):
    return lambda rows: np.float64(value)


def _margins(mean, sigma):
    return lambda rows: np.random.default_rng(rows).normal(mean, sigma, rows)


def _statistics(mean, std):
    return lambda rows: losses.AdaFaceStatistics(np.float64(mean), np.float64(std))


RULES = ("plain", "linear", "easy", "saturate")
_RAW = 2e3  # raw embeddings: |x| |w|
CASES = {
    "softmax": Case("softmax", logit=_RAW),
    "softmax_bias": Case("softmax", {"bias": np.linspace(-1, 1, 9)}, learned=("bias",), logit=_RAW),
    "normface": Case("normface", {"scale": 30.0}, learned=("scale",)),
    "cosface": Case("cosface", learned=()),
    "amsoftmax": Case("cosface", {"scale": 30.0, "margin": 0.2}, learned=("scale", "margin")),
    **{f"arcface_{rule}": Case("arcface", {"beyond_pi": rule}) for rule in RULES},
    "arcface_wide": Case("arcface", {"scale": 256.0, "margin": 1.2}, logit=256.0),
    "arcface_learned": Case("arcface", {"scale": 32.0, "margin": 0.3}, learned=("scale", "margin")),
    **{f"combined_{rule}": Case("combined_margin", {"beyond_pi": rule}) for rule in RULES},
    **{
        f"combined_m1_{rule}": Case(
            "combined_margin",
            {"m1": 1.35, "m2": 0.4, "m3": 0.15, "beyond_pi": rule},
        )
        for rule in RULES
    },
    "combined_narrow": Case("combined_margin", {"m1": 0.9, "m2": 0.4, "m3": 0.15}),
    "li_arcface": Case("li_arcface", {"margin": 0.45}, learned=("margin",)),
    "subcenter": Case("subcenter_arcface", subcenters=3),
    "subcenter_plain": Case("subcenter_arcface", {"beyond_pi": "plain"}, subcenters=2),
    **{f"l_softmax_{m}": Case("l_softmax", {"margin": m}, logit=8 * _RAW) for m in (4, 1, 2, 3)},
    "l_softmax_blend": Case("l_softmax", {"blend": 3.0}, learned=("blend",), logit=8 * _RAW),
    **{f"sphereface_{m}": Case("sphereface", {"margin": m}, logit=_RAW) for m in (4, 1, 2, 3)},
    "sphereface_blend": Case("sphereface", {"blend": 0.5}, learned=("blend",), logit=_RAW),
    "sphereface_unblended": Case("sphereface", {"blend": 0.0}, logit=_RAW),
    **{f"sphereface_r_{m}": Case("sphereface_r", {"margin": m}) for m in (1.0, 1.4, 1.7, 3.6)},
    **{
        f"mv_{base}_{'adaptive' if adaptive else 'fixed'}": Case(
            "mv_softmax",
            {"base": base, "margin": margin, "adaptive": adaptive},
        )
        for base, margin in (("arc", 0.5), ("am", 0.35))
        for adaptive in (True, False)
    },
    **{f"mv_{rule}": Case("mv_softmax", {"beyond_pi": rule}) for rule in RULES[1:]},
    "circle": Case("circle", logit=1e3),
    "circle_wide": Case("circle", {"scale": 80.0, "margin": 0.4}, logit=400.0),
    "curricularface": Case("curricularface", extra=_scalar(0.3)),
    "curricularface_fast": Case("curricularface", {"rate": 0.5}, extra=_scalar(0.9)),
    "curricularface_fixed": Case("curricularface", {"update": False}, extra=_scalar(0.6)),
    **{
        f"magface_{rule}": Case("magface", {"beyond_pi": rule}, norm=(6.0, 150.0)) for rule in RULES
    },
    "adaface": Case("adaface", extra=_statistics(20.0, 100.0)),
    "adaface_close": Case("adaface", {"rate": 0.3}, extra=_statistics(1.5, 0.4), norm=(0.8, 3.0)),
    "adaface_fixed": Case("adaface", {"update": False}, extra=_statistics(1.5, 0.6)),
    **{
        f"elasticface_{base}{'_sorted' * sort}": Case(
            "elasticface",
            {"base": base, "sort": sort},
            extra=_margins(mean, 0.05),
            learned=("extra",),
        )
        for base, mean in (("arc", 0.5), ("cos", 0.35))
        for sort in (False, True)
    },
    "sphereface2": Case("sphereface2", extra=_scalar(-1.5), learned=("extra",)),
    "sphereface2_flat": Case(
        "sphereface2",
        {"scale": 30.0, "margin": 0.2, "balance": 0.5, "t": 1.0, "weight": 1.0},
        extra=_scalar(2.0),
        learned=("extra",),
    ),
    "uniface": Case("uniface", extra=_scalar(7.0), learned=("extra",)),
    "uniface_balance": Case(
        "uniface", {"balance": 0.3, "margin": 0.1}, extra=_scalar(1.0), learned=("extra",)
    ),
    "adacos": Case("adacos", extra=_scalar(9.0)),
    "adacos_fixed": Case("adacos", {"update": False}, extra=_scalar(9.0)),
    "sface": Case("sface"),
    "sface_soft": Case("sface", {"scale": 30.0, "slope": 5.0, "a": 0.9, "b": 1.1}),
    "p2sgrad": Case("p2sgrad"),
}
ONE_A_LOSS = {case.loss: name for name, case in reversed(CASES.items())}


def ours(name: str, **changed):
    """(e, w, y, *extra, **more) -> (losses, state) of facejax; a stateless loss has state ()."""
    case = CASES[name]
    keywords = {
        key: jnp.asarray(value) if isinstance(value, np.ndarray) else value
        for key, value in {**case.keywords, **changed}.items()
    }
    function = functools.partial(getattr(losses, case.loss), **keywords)

    def run(*arrays, **more):
        result = function(*arrays, **more)
        return result if isinstance(result, tuple) else (result, ())

    return run


def theirs(name: str, **changed):
    """The reference, called and answering as `ours`."""
    case = CASES[name]
    module = reference if hasattr(reference, case.loss) else reference_adaptive
    return functools.partial(getattr(module, case.loss), **{**case.keywords, **changed})


def losses_of(function, *after, **keywords):
    """The losses of a function that also returns a state, or takes more arrays."""

    def run(e, w, y):
        result = function(e, w, y, *after, **keywords)
        return result[0] if isinstance(result, tuple) else result

    return run


def values(result):
    """The losses of a reference's answer."""
    return result[0] if isinstance(result, tuple) else result


def batch(
    name,
    seed=0,
    rows=11,
    dim=5,
    classes=9,
    norm: tuple[float, float] = (0.01, 200.0),
    dtype=np.float32,
    pull=True,
):
    """(e, w, y, *extra): norms over decades, rows pushed to or from their class, one padding."""
    case = CASES[name]
    random = np.random.default_rng(seed)
    centers = (case.subcenters,) if case.subcenters else ()
    weights = random.normal(size=(classes, *centers, dim))
    labels = random.integers(0, classes, rows).astype(np.int32)
    embeddings = random.normal(size=(rows, dim))
    if pull:
        strength = np.array([0.0, 1.5, -1.5, 3.0, -3.0])[np.arange(rows) % 5]
        own = weights[labels] if not centers else weights[labels, -1]
        embeddings += strength[:, None] * own
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings *= np.geomspace(norm[0], norm[1], rows)[:, None]
    if rows > 2:
        labels[2] = -1
    return typed((embeddings, weights, labels, *extra(name, rows)), dtype)


def extra(name: str, rows: int) -> tuple:
    case = CASES[name]
    return (case.extra(rows),) if case.extra else ()


def typed(arrays, dtype):
    """Floating arrays in dtype."""

    def convert(a):
        a = np.asarray(a)
        return a.astype(dtype) if np.issubdtype(a.dtype, np.floating) else a

    return jax.tree.map(convert, arrays)


def on_device(arrays):
    return jax.tree.map(jnp.asarray, arrays)


def hostile(name, dtype=np.float32):
    """On the class weight, opposite it, at zero, with a zero class, at every length; padding."""
    case = CASES[name]
    weights = np.random.default_rng(3).normal(size=(9, 5))
    weights[7] = 0
    rows = [(weights[0], 0), (-weights[1], 1), (3 * weights[2], 2), (0 * weights[3], 3)]
    rows += [(weights[4], 7), (weights[5], -1), (weights[6], 0), (1e-2 * weights[8], 8)]
    rows += [(200 * weights[3], 3), (-200 * weights[3], 3), (1e-2 * weights[3], 4)]
    embeddings = np.stack([x for x, _ in rows])
    labels = np.array([label for _, label in rows], np.int32)
    if case.subcenters:
        weights = np.stack([weights] + [0.1 * weights[::-1]] * (case.subcenters - 1), axis=1)
    return typed((embeddings, weights, labels, *extra(name, len(rows))), dtype)
