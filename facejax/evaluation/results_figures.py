"""Pictures of results, each with all models in it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special

from facejax.evaluation import figures
from facejax.evaluation.bands import Band
from facejax.evaluation.identification import Identification
from facejax.evaluation.ijb import TemplateResults
from facejax.evaluation.quality import RejectCurve, histograms
from facejax.evaluation.templates import roc_corners
from facejax.evaluation.verification import TarAtFar, Verification, roc

_WIDTH = 5.2  # inches; on a phone's 420 pixels letters can be read still
_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)


class Curve(NamedTuple):
    """The ROC of a model, as it is drawn."""

    false_accept_rates: np.ndarray  # [P], rising from one false accept
    true_accept_rates: np.ndarray  # [P], rising; held until the next false accept
    label: str
    tars: Sequence[TarAtFar]
    band: Band | None = None


def curve_of(result: Verification, name: str, *, band: Band | None = None) -> Curve:
    """The whole ROC of a list of pairs.

    Args:
      result: of `verify`.
      name: of the model.
      band: of `tar_band`.
    """
    exact = roc(result.scores, result.same)
    # The staircase holds its TAR until the next false accept, so start it at one accept.
    far = np.maximum(exact.false_accept_rates, 1 / int((~result.same).sum()))
    label = f"{name}: AUC {result.auc:.3f}, EER {result.equal_error_rate.rate:.3f}"
    return Curve(far, exact.true_accept_rates, label, result.tars, band)


def curve_of_many(
    scores: np.ndarray, same: np.ndarray, label: str, tars: Sequence[TarAtFar]
) -> Curve:
    """The ROC of very many pairs: only where its TAR rises.

    Args:
      scores: [N] finite floats.
      same: [N] bool, with both kinds among them.
      label: the name of the model, and what is to be said.
      tars: that are marked.
    """
    far, tar, _ = roc_corners(scores, same)
    far = np.append(np.maximum(far, 1 / int((~same).sum())), 1.0)
    return Curve(far, np.append(tar, 1.0), label, tars)


def roc_figure(curves: Sequence[Curve]) -> Figure:
    """TAR over log FAR, from one false accept up; bars are the TARs' 95 % intervals.

    What rests on fewer than 100 false accepts is dotted, and bands are not filled there.

    Args:
      curves: one or more.
    """
    figure, axes = _axes(len(curves) + 1)
    fewest = min(float(curve.false_accept_rates[0]) for curve in curves)
    for number, curve in enumerate(curves):
        color, dashes = figures.line(number)
        _draw_band(axes, curve.band, lambda far, tar: (far, tar), color)
        axes.plot(
            curve.false_accept_rates,
            curve.true_accept_rates,
            color=color,
            linestyle=dashes,
            drawstyle="steps-post",
            label=curve.label,
        )
        for tar in curve.tars:
            if tar.tar is None:
                continue
            if tar.low is not None and tar.high is not None:
                axes.vlines(
                    tar.far,
                    tar.low,
                    tar.high,
                    color=color,
                    linewidth=4,
                    alpha=0.35,
                    linestyles="dotted" if tar.note and not tar.sound else "solid",
                )
            axes.plot(tar.far, tar.tar, color=color, marker="o", markersize=4)
    far = np.geomspace(fewest, 1, 200)
    axes.plot(far, far, color="#999999", linewidth=0.8, linestyle=":", label="chance")
    axes.set(xscale="log", xlim=(fewest, 1), ylim=(0, 1.02))
    axes.set(xlabel="false accept rate", ylabel="true accept rate")
    _legend(figure)
    return figure


def det_figure(curves: Sequence[Curve]) -> Figure:
    """The share of same pairs refused over that of different pairs accepted, as normal deviates.

    Scores of two normal distributions of one spread would give a straight line. A rate of 0 has no
    place: curves begin at one false accept and end at the last refused pair.

    Args:
      curves: one or more.
    """
    figure, axes = _axes(len(curves))
    points = []
    for number, curve in enumerate(curves):
        color, dashes = figures.line(number)
        _draw_band(axes, curve.band, lambda far, tar: special.ndtri(_inside(far, 1 - tar)), color)
        far, missed = _deviates(curve.false_accept_rates, curve.true_accept_rates)
        axes.plot(
            far, missed, color=color, linestyle=dashes, drawstyle="steps-post", label=curve.label
        )
        points.append(np.stack([far, missed]))
    x, y = np.concatenate(points, axis=1)
    equal = special.ndtri(np.geomspace(1e-7, 0.5, 200))
    axes.plot(equal, equal, color="#999999", linewidth=0.8, linestyle=":")
    for axis, values in ((axes.xaxis, x), (axes.yaxis, y)):
        known = values[np.isfinite(values)]
        lowest = float(known.min(initial=special.ndtri(0.01)))
        axis.set_view_interval(lowest, special.ndtri(0.6), ignore=True)
        ticks = [tick for tick in _TICKS if lowest <= special.ndtri(tick) <= special.ndtri(0.6)]
        axis.set_ticks(special.ndtri(ticks), [f"{100 * tick:g} %" for tick in ticks])
    axes.set(xlabel="false accept rate", ylabel="false non-match rate")
    _legend(figure)
    return figure


def score_figure(results: Mapping[str, Verification | TemplateResults]) -> Figure:
    """Histograms of the cosines of same and different pairs, one panel per result.

    Args:
      results: Verification or TemplateResults by the name that is shown, one or more.
    """
    figure, panels = _panels(len(results))
    for number, (axes, (name, result)) in enumerate(zip(panels, results.items(), strict=True)):
        scores, same = result.scores, result.same
        low, high = float(scores.min()), float(scores.max())
        edges = np.linspace(low, max(high, low + 1e-6), 51)
        for kind, chosen, color in (
            ("different", ~same, figures.DIFFERENT),
            ("same", same, figures.SAME),
        ):
            counts = np.histogram(scores[chosen], edges)[0]
            shares = 100 * counts / max(int(counts.sum()), 1)
            axes.stairs(shares, edges, fill=True, color=color, alpha=0.6, label=kind)
        title = figures.name(name, number)
        if isinstance(result, Verification):
            threshold = float(np.median(result.accuracy.thresholds))
            axes.axvline(threshold, color="#333", linewidth=1, label=f"threshold {threshold:.3f}")
            title += f": accuracy {result.accuracy.accuracy:.3f}"
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylabel("% of pairs of the kind")
        axes.legend(frameon=False, fontsize=9)
    panels[-1].set_xlabel("cosine similarity")
    return figure


def fold_figure(results: Mapping[str, Verification], folds: np.ndarray) -> Figure:
    """The ROC of each fold by itself, one panel per result; the line of all is thick.

    Args:
      results: by the name that is shown, one or more.
      folds: [N] int of the pairs.
    """
    figure, panels = _panels(len(results))
    for number, (axes, (name, result)) in enumerate(zip(panels, results.items(), strict=True)):
        color, _ = figures.line(number)
        everything = np.ones(len(folds), bool)
        fewest = 1.0
        for inside, width in [
            *((folds == fold, 0.7) for fold in np.unique(folds)),
            (everything, 2.0),
        ]:
            same = result.same[inside]
            if same.all() or not same.any():  # of one kind, as in a list that is sorted by it
                continue
            exact = roc(result.scores[inside], same)
            one = 1 / int((~same).sum())
            fewest = min(fewest, one)
            first = int((exact.false_accept_rates <= one).sum()) - 1  # the most at one accept
            axes.plot(
                np.maximum(exact.false_accept_rates[first:], one),
                exact.true_accept_rates[first:],
                color=color,
                linewidth=width,
                alpha=1.0 if width > 1 else 0.6,
                drawstyle="steps-post",
            )
        axes.set_title(figures.name(name, number), loc="left", fontsize=10)
        axes.set(xscale="log", xlim=(fewest, 1), ylabel="true accept rate")
    panels[-1].set_xlabel("false accept rate")
    return figure


def cmc_figure(results: Mapping[str, Identification]) -> Figure:
    """The share of mated probes that are found up to each rank, with its 95 % band.

    Args:
      results: by the name that is shown, one or more.
    """
    figure, axes = _axes(len(results))
    for number, (name, result) in enumerate(results.items()):
        color, dashes = figures.line(number)
        ranks = np.arange(1, len(result.cmc) + 1)
        label = f"{figures.name(name, number)}: rank 1 {result.cmc[0]:.3f}"
        axes.fill_between(
            ranks, result.cmc_low, result.cmc_high, color=color, alpha=0.2, linewidth=0
        )
        axes.plot(
            ranks, result.cmc, color=color, linestyle=dashes, marker="o", markersize=3, label=label
        )
    deepest = max(len(result.cmc) for result in results.values())
    ticks = [rank for rank in (1, 2, 5, 10, 20, 50, 100) if rank <= deepest]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="rank", ylabel="share of mated probes found")
    _legend(figure)
    return figure


def reject_figure(curves: Mapping[str, RejectCurve]) -> Figure:
    """FNMR over the share that is rejected by quality, with its 95 % band.

    Args:
      curves: by the name that is shown, one or more.
    """
    figure, axes = _axes(len(curves))
    for number, (name, curve) in enumerate(curves.items()):
        color, dashes = figures.line(number)
        share = np.append(curve.rejected, 1.0)  # the last point holds on

        def held(values: np.ndarray) -> np.ndarray:
            return np.append(values, values[-1])

        if curve.low is not None and curve.high is not None:
            axes.fill_between(
                share, held(curve.low), held(curve.high), step="post", color=color, alpha=0.15,
                linewidth=0,
            )  # fmt: skip
        axes.plot(
            share,
            held(curve.false_non_match_rates),
            color=color,
            linestyle=dashes,
            drawstyle="steps-post",
            label=f"{figures.name(name, number)}: area to 20 % {curve.area(upto=0.2):.4f}",
        )
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.set(xlabel="share rejected", ylabel="false non-match rate of what is left")
    _legend(figure)
    return figure


def quality_figure(values: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Histograms of qualities, one panel per model, whose scales are their own.

    Args:
      values: by the name of the model, arrays [M] by what the images are.
    """
    figure, panels = _panels(len(values))
    for number, (axes, (name, sets)) in enumerate(zip(panels, values.items(), strict=True)):
        labels = np.repeat(np.arange(len(sets)), [len(each) for each in sets.values()])
        found = histograms(np.concatenate([*sets.values()]), labels)
        for place, (kind, each) in enumerate(sets.items()):
            color, dashes = figures.line(place)
            shares = 100 * found.counts[str(place)] / len(each)
            label = figures.name(kind, place)
            axes.stairs(shares, found.edges, color=color, linestyle=dashes, label=label)
        axes.set_title(figures.name(name, number), loc="left", fontsize=10)
        axes.set_ylabel("% of images")
        axes.legend(frameon=False, fontsize=9)
    panels[-1].set_xlabel("quality")
    return figure


def _axes(labels: int) -> tuple[Figure, Axes]:
    """One panel, and room for so many lines below it."""
    figure = Figure(figsize=(_WIDTH, 3.6 + 0.2 * labels), layout="constrained")
    axes = figure.add_subplot()
    figures.bare(axes)
    return figure, axes


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(_WIDTH, 0.6 + 2.2 * count), layout="constrained")
    panels = list(figure.subplots(count, 1, squeeze=False)[:, 0])
    for axes in panels:
        figures.bare(axes)
    return figure, panels


def _legend(figure: Figure) -> None:
    figure.legend(frameon=False, fontsize=9, loc="outside lower left")


def _draw_band(
    axes: Axes,
    band: Band | None,
    placed: Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray] | np.ndarray],
    color: str,
) -> None:
    """Filled from 100 false accepts up, between dotted lines below; `placed` gives x and y."""
    if band is None:
        return
    far, low = placed(band.false_accept_rates, band.low)
    _, high = placed(band.false_accept_rates, band.high)
    axes.fill_between(far, low, high, where=band.sound, color=color, alpha=0.2, linewidth=0)
    below = slice(int((~band.sound).sum()) + 1)
    for edge in (low, high):
        axes.plot(far[below], edge[below], color=color, linewidth=0.8, linestyle=":")


def _deviates(far: np.ndarray, tar: np.ndarray) -> np.ndarray:
    """FAR and FNMR as normal deviates [2, P], NaN where there is none."""
    rates = np.stack([far, 1 - tar])
    return np.where((rates > 0) & (rates < 1), special.ndtri(_inside(far, 1 - tar)), np.nan)


def _inside(*rates: np.ndarray) -> np.ndarray:
    """Rates with those of 0 and 1 moved to where they are beyond any picture's edge."""
    return np.clip(np.stack(rates), 1e-12, 1 - 1e-12)
