"""Pictures of a verification, and what all pictures have in common."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from facejax import files
from facejax.evaluation.verification import Verification, roc

SAME, DIFFERENT, GRID = "#1f6f8b", "#d1603d", "#dddddd"
LINES = ("#1f6f8b", "#d1603d", "#6b8e23", "#7b5ea7", "#8c6d46", "#555555")


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure as a PNG, whole or not at all.

    Args:
      figure: made without pyplot, so that nothing is left open.
      path: of the PNG; its folder is made where it is missing.
    """
    FigureCanvasAgg(figure)
    with files.replacing(path) as partial:
        figure.savefig(partial, dpi=120)


def bare(axes: Axes) -> None:
    """Leaves out the frame's upper and right sides, and lays a faint grid under the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def roc_figure(results: Mapping[str, Verification]) -> Figure:
    """TAR over log FAR, from one false accept up; bars are the TARs' 95 % intervals.

    Those that rest on fewer than 100 false accepts are dotted.

    Args:
      results: by the name that is shown, one or more, on the same pairs.
    """
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    fewest = 1.0
    for i, (name, result) in enumerate(results.items()):
        color = LINES[i % len(LINES)]
        curve = roc(result.scores, result.same)
        smallest = 1 / int((~result.same).sum())
        fewest = min(fewest, smallest)
        # The staircase holds its TAR until the next false accept, so start it at one accept.
        far = np.maximum(curve.false_accept_rates, smallest)
        label = f"{name}: AUC {result.auc:.3f}, EER {result.equal_error_rate.rate:.3f}"
        axes.plot(far, curve.true_accept_rates, color=color, drawstyle="steps-post", label=label)
        for tar in result.tars:
            if tar.tar is None or tar.low is None or tar.high is None:
                continue
            axes.vlines(
                tar.far,
                tar.low,
                tar.high,
                color=color,
                linewidth=4,
                alpha=0.35,
                linestyles="solid" if tar.sound else "dotted",
            )
            axes.plot(tar.far, tar.tar, color=color, marker="o", markersize=4)
    far = np.geomspace(fewest, 1, 200)
    axes.plot(far, far, color="#999999", linewidth=0.8, linestyle=":", label="chance")
    axes.set(xscale="log", xlim=(fewest, 1), ylim=(0, 1.02))
    axes.set(xlabel="false accept rate", ylabel="true accept rate")
    bare(axes)
    axes.legend(frameon=False, fontsize=9, loc="best")
    return figure


def score_figure(results: Mapping[str, Verification]) -> Figure:
    """Histograms of the cosines of same and different pairs, one panel per result.

    Args:
      results: by the name that is shown, one or more.
    """
    figure = Figure(figsize=(6.4, 0.6 + 2.6 * len(results)), layout="constrained")
    panels = figure.subplots(len(results), 1, squeeze=False)[:, 0]
    for axes, (name, result) in zip(panels, results.items(), strict=True):
        scores, same = result.scores, result.same
        bins = np.linspace(scores.min(), max(scores.max(), scores.min() + 1e-6), 51)
        for kind, chosen, color in (("different", ~same, DIFFERENT), ("same", same, SAME)):
            weights = np.full(int(chosen.sum()), 100 / chosen.sum())
            axes.hist(scores[chosen], bins, weights=weights, color=color, alpha=0.6, label=kind)
        threshold = float(np.median(result.accuracy.thresholds))
        axes.axvline(threshold, color="#333333", linewidth=1, label=f"threshold {threshold:.3f}")
        axes.set_title(f"{name}: accuracy {result.accuracy.accuracy:.3f}", loc="left", fontsize=10)
        axes.set_ylabel("% of pairs of the kind")
        bare(axes)
        axes.legend(frameon=False, fontsize=9)
    panels[-1].set_xlabel("cosine similarity")
    return figure
