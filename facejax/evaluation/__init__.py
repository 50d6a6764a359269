"""Evaluation: verification of pairs, baselines and reports."""

from facejax.evaluation import statistics
from facejax.evaluation.average_precision import (
    MeanAveragePrecision,
    average_precisions,
    mean_average_precision,
)
from facejax.evaluation.baselines import Pca, fit_pca, pca_features, pixel_features, truncate
from facejax.evaluation.benchmarks import Benchmark, measure, numbers, open_benchmark
from facejax.evaluation.bin_file import from_bin, read_bin, write_bin
from facejax.evaluation.bootstrap import Interval, Resampled, resample
from facejax.evaluation.comparison import Comparison, Difference, compare
from facejax.evaluation.fairness import Fairness, Group, Limit, Rate, fairness
from facejax.evaluation.identification import (
    Found,
    Identification,
    TpirAtFpir,
    cmc,
    distractor_ranks,
    find,
    identify,
    mated_pairs,
)
from facejax.evaluation.ijb import (
    TemplateProtocol,
    TemplateResults,
    evaluate_templates,
    from_ijb,
    identification_scores,
    template_scores,
)
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
from facejax.evaluation.results_page import write_page, write_report
from facejax.evaluation.results_sections import Shown
from facejax.evaluation.rfw import GroupedProtocol, from_groups
from facejax.evaluation.spread import Spread, spread
from facejax.evaluation.tables import ImageTable
from facejax.evaluation.templates import (
    PairScores,
    judge_pairs,
    pair_scores,
    pool,
    roc_corners,
)
from facejax.evaluation.thresholds import (
    Calibration,
    calibrate,
    calibrate_folder,
    calibrate_scores,
)
from facejax.evaluation.tinyface import (
    GalleryProtocol,
    evaluate_gallery,
    from_tinyface,
    gallery_scores,
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
    "Benchmark",
    "ByIdentity",
    "Calibration",
    "Comparison",
    "Difference",
    "EqualErrorRate",
    "Fairness",
    "Found",
    "GalleryProtocol",
    "Group",
    "GroupedProtocol",
    "Histograms",
    "Identification",
    "ImageFiles",
    "ImageTable",
    "InsightFaceVerification",
    "Interval",
    "KfoldAccuracy",
    "LabelPairs",
    "Limit",
    "MeanAveragePrecision",
    "PairScores",
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
    "TemplateProtocol",
    "TemplateResults",
    "TpirAtFpir",
    "Verification",
    "average_precisions",
    "by_identity",
    "calibrate",
    "calibrate_folder",
    "calibrate_scores",
    "cmc",
    "compare",
    "consecutive_folds",
    "cosines",
    "distractor_ranks",
    "draw_pairs",
    "equal_error_rate",
    "error_versus_reject",
    "evaluate",
    "evaluate_gallery",
    "evaluate_templates",
    "fairness",
    "find",
    "fit_pca",
    "format_far",
    "from_bin",
    "from_groups",
    "from_ijb",
    "from_pairs",
    "from_tinyface",
    "gallery_scores",
    "histograms",
    "identification_scores",
    "identify",
    "insightface_verification",
    "judge_pairs",
    "kfold_accuracy",
    "mated_pairs",
    "mean_average_precision",
    "measure",
    "norms",
    "numbers",
    "open_benchmark",
    "pair_folds",
    "pair_scores",
    "pca_features",
    "pixel_features",
    "pool",
    "read_bin",
    "read_pairs",
    "resample",
    "resolve_images",
    "roc",
    "roc_auc",
    "roc_corners",
    "score_labels",
    "scores",
    "scores_in_words",
    "scores_table",
    "spearman",
    "spread",
    "statistics",
    "synthetic",
    "tar_at_far",
    "template_scores",
    "to_json",
    "truncate",
    "verify",
    "wilson_interval",
    "write_bin",
    "write_page",
    "write_report",
]
