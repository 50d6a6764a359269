"""Draws docs/figures/target_logits.png and docs/figures/decision_boundaries.png.

    python docs/figures/margins.py [--output FOLDER]

Both are drawn from the margins themselves, `facejax.losses.margins`: what the loss computes, not a
formula written a second time. About 10 seconds.
"""

import argparse
import math
import pathlib

import jax.numpy as jnp
import numpy as np
from figures import HERE, save
from matplotlib.figure import Figure

from facejax.losses import margins
from facejax.losses.engine import Context, Margin

DEGREES = np.linspace(0, 180, 721)
GRID = 401  # points along a side of the (s_n, s_p) plane
LEVELS = np.linspace(-1, 1, 11)


def arcface(**options) -> Margin:
    """ArcFace with its own margin."""
    return margins.arcface(**{"scale": 64.0, "margin": 0.5} | options)


def magface() -> Margin:
    """MagFace with its own constants."""
    return margins.magface(
        scale=64.0, l_a=10.0, u_a=110.0, l_m=0.45, u_m=0.8, lambda_g=35.0, beyond_pi="linear"
    )


def mv_softmax(base: str, margin: float, adaptive: bool = True) -> Margin:
    """MV-Softmax on one of its bases."""
    return margins.mv_softmax(
        scale=32.0, margin=margin, base=base, hardness=0.2, adaptive=adaptive, beyond_pi="plain"
    )


def curricularface() -> Margin:
    """CurricularFace; its t is given as the context."""
    return margins.curricularface(scale=64.0, margin=0.5, rate=0.01, update=False)


def target_curve(margin: Margin, scale: float, *, norm: float = 1.0, extra=None) -> np.ndarray:
    """The target's logit (or term) over scale, at every angle of DEGREES."""
    cosine = jnp.asarray(np.cos(np.radians(DEGREES)), jnp.float32)
    ones = jnp.ones_like(cosine)
    extra = None if extra is None else extra * ones
    context = Context(cosine, norm * ones, extra, ones)
    return np.asarray(margin.target(cosine, context)) / scale


def negative_curve(margin: Margin, scale: float, *, target: float = 0.5, extra=None) -> np.ndarray:
    """The same of a negative, while the target's cosine stays at `target`."""
    cosine = jnp.asarray(np.cos(np.radians(DEGREES)), jnp.float32)
    ones = jnp.ones(1, jnp.float32)
    context = Context(target * ones, ones, extra, ones)
    return np.asarray(margin.negative(cosine[None, :], context))[0] / scale


def draw_target_logits(path: pathlib.Path) -> None:
    """One panel per family of losses."""
    figure = Figure(figsize=(11, 16), layout="constrained")
    axes = figure.subplots(4, 2)
    (fixed, rules), (multiplied, quality), (drawn, hard), (raised, binary) = axes
    plain = target_curve(margins.normface(scale=1.0), 1)
    for axis in axes.flat[:7]:
        axis.plot(DEGREES, plain, color="0.6", lw=1.2, label="normface: cos θ")
        axis.set_ylabel("target logit / scale")
    for axis in axes.flat:
        axis.set_xlabel("θ, angle between embedding and class weight (degrees)")
        axis.set_xticks(range(0, 181, 30))
        axis.set_xlim(0, 180)
        axis.grid(alpha=0.3)

    def add(axis, label: str, margin: Margin, scale: float, style: str = "-", **given) -> None:
        axis.plot(DEGREES, target_curve(margin, scale, **given), style, label=label)

    fixed.set_title("Additive margins")
    add(fixed, "cosface, m 0.35", margins.cosface(scale=64.0, margin=0.35), 64)
    add(fixed, "arcface, m 0.5 (linear)", arcface(), 64)
    combined = margins.combined_margin(scale=64.0, m1=1.0, m2=0.3, m3=0.2, beyond_pi="plain")
    add(fixed, "combined_margin, 1 / 0.3 / 0.2", combined, 64)
    add(fixed, "li_arcface, m 0.45", margins.li_arcface(scale=64.0, margin=0.45), 64)

    rules.set_title("ArcFace's rules where θ + m > π, m 0.5")
    for rule, style in zip(
        ("plain", "linear", "easy", "saturate"), ("-", "--", "-.", ":"), strict=True
    ):
        add(rules, rule, arcface(beyond_pi=rule), 64, style)
    rules.axvline(math.degrees(math.pi - 0.5), color="k", lw=0.6)
    rules.annotate("θ = π - m", (math.degrees(math.pi - 0.5), 0.9), (-5, 0), ha="right",
                   textcoords="offset points")  # fmt: skip

    multiplied.set_title("Multiplicative margins, at unit norms")
    for m in (2, 3, 4):
        add(multiplied, f"l_softmax, m {m}", margins.l_softmax(margin=m, blend=0.0), 1)
    for blend, style in ((0.0, "k:"), (5.0, "-")):
        label = f"sphereface, m 4, blend {blend:g}"
        add(multiplied, label, margins.sphereface(margin=4, blend=blend), 1, style)
    add(multiplied, "sphereface_r, m 1.7", margins.sphereface_r(scale=30.0, margin=1.7), 30)

    quality.set_title("Margins that follow the norm")
    for norm in (10.0, 60.0, 110.0):
        add(quality, f"magface, norm {norm:g}", magface(), 64, norm=norm)
    adaface = margins.adaface(scale=64.0, margin=0.4, h=0.333, rate=0.01, update=False)
    for value, style in ((-1.0, ":"), (0.0, "--"), (1.0, "-.")):
        add(quality, f"adaface, quality {value:+g}", adaface, 64, style, extra=value)

    drawn.set_title("Margins that are drawn: the mean, ± two deviations")
    for base, mean, color in (("arc", 0.5, "C0"), ("cos", 0.35, "C1")):
        elastic = margins.elasticface(scale=64.0, base=base, sort=False)
        low, middle, high = (
            target_curve(elastic, 64, extra=mean + deviations * 0.05) for deviations in (-2, 0, 2)
        )
        drawn.fill_between(DEGREES, low, high, color=color, alpha=0.25, lw=0)
        drawn.plot(DEGREES, middle, color=color, label=f"elasticface {base}, {mean} ± 0.05")

    hard.set_title("Losses that weigh hard negatives: the target")
    add(hard, "mv_softmax arc, m 0.5 (plain)", mv_softmax("arc", 0.5), 32)
    add(hard, "mv_softmax am, m 0.35", mv_softmax("am", 0.35), 32)
    add(hard, "curricularface, m 0.5", curricularface(), 64, "--")
    add(hard, "circle, m 0.25", margins.circle(scale=256.0, margin=0.25), 256)

    raised.set_title("The same: a negative's logit, the target standing at 60°")
    raised.set_ylabel("negative logit / scale")
    for label, margin, scale, extra in (
        ("mv_softmax arc, fixed, 0.2", mv_softmax("arc", 0.5, adaptive=False), 32, None),
        ("mv_softmax arc, adaptive, 0.2", mv_softmax("arc", 0.5), 32, None),
        ("curricularface, t = 0", curricularface(), 64, 0.0),
        ("curricularface, t = 0.5", curricularface(), 64, 0.5),
        ("circle, m 0.25", margins.circle(scale=256.0, margin=0.25), 256, None),
    ):
        raised.plot(DEGREES, negative_curve(margin, scale, extra=extra), label=label)

    binary.set_title("Sums over classes: the target's term; dashed, a negative's")
    binary.set_ylabel("term of the loss / scale (weight, in sphereface2)")
    bent = margins.sphereface2(scale=40.0, margin=0.4, balance=0.7, t=3.0, weight=50.0)
    for label, margin, scale, extra in (
        ("sphereface2, bias 0", bent, 50, 0.0),
        ("uniface, bias 0", margins.uniface(scale=64.0, margin=0.4, balance=1.0), 64, 0.0),
        ("sface", margins.sface(scale=64.0, slope=80.0, a=0.8, b=1.23), 64, None),
        ("p2sgrad", margins.p2sgrad(), 1, None),
    ):
        (line,) = binary.plot(DEGREES, target_curve(margin, scale, extra=extra), label=label)
        negative = negative_curve(margin, scale, extra=extra)
        binary.plot(DEGREES, negative, "--", color=line.get_color())

    for axis in axes.flat:
        axis.legend(fontsize=8.5)
    save(figure, path)


def draw_decision_boundaries(path: pathlib.Path) -> None:
    """Two classes: the target's logit minus the negative's, and the line where they are equal."""
    side = jnp.linspace(-1, 1, GRID)
    s_p, s_n = (part.ravel() for part in jnp.meshgrid(side, side, indexing="ij"))
    ones = jnp.ones_like(s_p)
    combined = margins.combined_margin(scale=64.0, m1=1.0, m2=0.3, m3=0.2, beyond_pi="plain")
    figure = Figure(figsize=(11, 11.9), layout="constrained")
    axes = figure.subplots(3, 3, sharex=True, sharey=True)
    for axis, (title, margin, scale, extra) in zip(
        axes.flat,
        (
            ("softmax, normface", margins.normface(scale=30.0), 30, None),
            ("cosface, m 0.35", margins.cosface(scale=64.0, margin=0.35), 64, None),
            ("arcface, m 0.5 (linear)", arcface(), 64, None),
            ("sphereface, m 4, blend 0", margins.sphereface(margin=4, blend=0.0), 1, None),
            ("combined_margin, 1 / 0.3 / 0.2", combined, 64, None),
            ("mv_softmax arc, m 0.5, hardness 0.2", mv_softmax("arc", 0.5), 32, None),
            ("curricularface, m 0.5, t = 0", curricularface(), 64, 0.0),
            ("curricularface, m 0.5, t = 0.5", curricularface(), 64, 0.5),
            ("circle, m 0.25", margins.circle(scale=256.0, margin=0.25), 256, None),
        ),
        strict=True,
    ):
        context = Context(s_p, ones, extra, ones)
        ahead = margin.target(s_p, context) - margin.negative(s_n[:, None], context)[:, 0]
        lead = np.asarray(ahead).reshape(GRID, GRID) / scale
        filled = axis.contourf(side, side, lead, LEVELS, cmap="RdBu", extend="both")
        axis.plot([-1, 1], [-1, 1], color="0.35", lw=0.8, ls=":")
        axis.contour(side, side, lead, [0.0], colors="k", linewidths=1.6)
        axis.set_title(title, fontsize=10.5)
        axis.set(aspect="equal", xticks=(-0.5, 0, 0.5), yticks=(-0.5, 0, 0.5))
    around = np.linspace(0, 2 * math.pi, 200)
    radius = math.sqrt(2) * 0.25
    axes[2, 2].plot(radius * np.cos(around), 1 + radius * np.sin(around), "--", color="gold",
                    label="s_n² + (1 - s_p)² = 2 m²")  # fmt: skip
    axes[2, 2].legend(fontsize=8.5, loc="lower right")
    axes[2, 2].set(xlim=(-1, 1), ylim=(-1, 1))
    for axis in axes[2]:
        axis.set_xlabel("s_n, cosine with the other class")
    for axis in axes[:, 0]:
        axis.set_ylabel("s_p, cosine with the own class")
    figure.colorbar(filled, ax=axes, location="bottom", shrink=0.5, pad=0.02,
                    label="(target logit - negative logit) / scale; black: equal; "
                    "dotted: s_p = s_n")  # fmt: skip
    save(figure, path)


def main() -> None:
    """Draws both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=HERE)
    output = parser.parse_args().output
    draw_target_logits(output / "target_logits.png")
    draw_decision_boundaries(output / "decision_boundaries.png")


if __name__ == "__main__":
    main()
