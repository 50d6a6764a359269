"""Evaluation: verification of pairs, baselines and reports."""

from facejax.evaluation import statistics
from facejax.evaluation.baselines import Pca, fit_pca, pca_features, pixel_features, truncate
from facejax.evaluation.bootstrap import Interval, Resampled, resample
from facejax.evaluation.comparison import Comparison, Difference, compare
from facejax.evaluation.fairness import Fairness, Group, Limit, Rate, fairness
from facejax.evaluation.insightface_compat import (
    InsightFaceVerification,
    insightface_verification,
)
from facejax.evaluation.pair_images import resolve_images
from facejax.evaluation.pairs import (
    LabelPairs,
    Pairs,
    consecutive_folds,
    draw_pairs,
    pair_folds,
    read_pairs,
)
from facejax.evaluation.protocols import ImageFiles, Protocol, evaluate, from_pairs, synthetic
from facejax.evaluation.quality import (
    ByIdentity,
    Histograms,
    RejectCurve,
    by_identity,
    error_versus_reject,
    histograms,
    norms,
    spearman,
)
from facejax.evaluation.report import (
    score_labels,
    scores,
    scores_in_words,
    scores_table,
    to_json,
)
from facejax.evaluation.results_page import Shown, write_page, write_report
from facejax.evaluation.rfw import GroupedProtocol, from_groups
from facejax.evaluation.spread import Spread, spread
from facejax.evaluation.tables import ImageTable
from facejax.evaluation.thresholds import (
    Calibration,
    calibrate,
    calibrate_folder,
    calibrate_scores,
)
from facejax.evaluation.verification import (
    EqualErrorRate,
    KfoldAccuracy,
    Roc,
    TarAtFar,
    Verification,
    cosines,
    equal_error_rate,
    format_far,
    kfold_accuracy,
    roc,
    roc_auc,
    tar_at_far,
    verify,
    wilson_interval,
)

__all__ = [
    "ByIdentity",
    "Calibration",
    "Comparison",
    "Difference",
    "EqualErrorRate",
    "Fairness",
    "Group",
    "GroupedProtocol",
    "Histograms",
    "ImageFiles",
    "ImageTable",
    "InsightFaceVerification",
    "Interval",
    "KfoldAccuracy",
    "LabelPairs",
    "Limit",
    "Pairs",
    "Pca",
    "Protocol",
    "Rate",
    "RejectCurve",
    "Resampled",
    "Roc",
    "Shown",
    "Spread",
    "TarAtFar",
    "Verification",
    "by_identity",
    "calibrate",
    "calibrate_folder",
    "calibrate_scores",
    "compare",
    "consecutive_folds",
    "cosines",
    "draw_pairs",
    "equal_error_rate",
    "error_versus_reject",
    "evaluate",
    "fairness",
    "fit_pca",
    "format_far",
    "from_groups",
    "from_pairs",
    "histograms",
    "insightface_verification",
    "kfold_accuracy",
    "norms",
    "pair_folds",
    "pca_features",
    "pixel_features",
    "read_pairs",
    "resample",
    "resolve_images",
    "roc",
    "roc_auc",
    "score_labels",
    "scores",
    "scores_in_words",
    "scores_table",
    "spearman",
    "spread",
    "statistics",
    "synthetic",
    "tar_at_far",
    "to_json",
    "truncate",
    "verify",
    "wilson_interval",
    "write_page",
    "write_report",
]
