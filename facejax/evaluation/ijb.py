"""IJB-B and IJB-C: templates compared with each other (1:1) and searched in two galleries (1:N)."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facejax import files
from facejax.data.images import decode, read_file
from facejax.errors import UserError
from facejax.evaluation import identification, report
from facejax.evaluation.identification import FPIRS, Identification
from facejax.evaluation.many_pairs import resample_tars
from facejax.evaluation.template_files import (
    ListedTemplates,
    Members,
    read_images,
    read_members,
    read_template_list,
    read_template_pairs,
)
from facejax.evaluation.templates import (
    IJB_FARS,
    Embeddings,
    PairScores,
    judge_pairs,
    pair_scores,
    pool,
)
from facejax.evaluation.verification import format_far
from facejax.recognition.align import crop_faces
from facejax.recognition.templates import Size, arcface, height_width

RANKS = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class LooseCrops:
    """Loose crops, aligned by their landmarks as uint8 [1, H, W, 3] RGB each, anew at each pass.

    Attributes:
      folder: of the images.
      names: [M] in it.
      landmarks: float32 [M, 5, 2].
      template: float32 [5, 2], where landmarks shall lie.
      image_size: side in pixels, or (height, width).
    """

    folder: Path
    names: Sequence[str] = dataclasses.field(repr=False)
    landmarks: np.ndarray = dataclasses.field(repr=False)
    template: np.ndarray = dataclasses.field(repr=False)
    image_size: Size

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[np.ndarray]:
        for name, landmarks in zip(self.names, self.landmarks, strict=True):
            image = decode(read_file(self.folder / name), None, str(self.folder / name))
            try:
                yield crop_faces(image, landmarks[None], self.template, self.image_size)
            except UserError as error:
                raise UserError(f"{self.folder / name} can't be aligned: {error}") from None


class TemplateProtocol(NamedTuple):
    """Templates, and what is asked of them. It holds no image and no embedding.

    Attributes:
      name: for people.
      images: the M images, aligned, in the order in which embeddings are wanted.
      detection_scores: float32 [M].
      members: which images a template is made of.
      pairs: int32 [N, 2], the two templates of each pair.
      same: bool [N].
      galleries: templates with their subjects; none where only pairs are asked for.
      probes: likewise, those that are searched in each gallery.
    """

    name: str
    images: LooseCrops
    detection_scores: np.ndarray
    members: Members
    pairs: np.ndarray
    same: np.ndarray
    galleries: tuple[ListedTemplates, ...]
    probes: ListedTemplates | None


class TemplateResults(NamedTuple):
    """All that is said about templates."""

    scores: np.ndarray  # [N] float32 cosines of the pairs
    same: np.ndarray  # [N] bool
    pairs: PairScores
    galleries: tuple[Identification, ...]  # of each gallery
    identification: Identification | None  # their mean; None without galleries


def from_ijb(
    directory: str | Path, *, image_size: Size, template: np.ndarray | None = None
) -> TemplateProtocol:
    """Reads the protocol of a folder that is laid out as InsightFace's IJBB or IJBC.

    The lists lie in its folder `meta` (see `facejax.evaluation.template_files`), the images in
    `loose_crop`. The galleries (`G1` and `G2`, in IJB-B `S1` and `S2`) and `probe_mixed` may be
    missing all together: then only pairs are asked for.

    Args:
      directory: the folder; `~` is the home.
      image_size: of the aligned crops: the side, or (height, width).
      template: float [5, 2], where a crop's landmarks shall lie; None is ArcFace's for the size.

    Raises:
      UserError: a list is missing, is there twice, or is wrong: see the functions that read it.
    """
    directory = files.expand(directory)
    folder = directory / "meta" if (directory / "meta").is_dir() else directory
    listed = read_images(_the_file(folder, "*_name_5pts_score.txt"))
    members = read_members(_the_file(folder, "*_face_tid_mid.txt"), listed.names)
    ids = members.template_ids
    pairs, same = read_template_pairs(_the_file(folder, "*_template_pair_label.txt"), ids)
    lists = {
        name: sorted(folder.glob(f"*_1N_{name}.csv"))
        for name in ("gallery_[GS]1", "gallery_[GS]2", "probe_mixed")
    }
    galleries: tuple[ListedTemplates, ...] = ()
    probes = None
    if any(lists.values()):
        first, second, probe = (_the_file(folder, f"*_1N_{name}.csv") for name in lists)
        galleries = (read_template_list(first, ids), read_template_list(second, ids))
        probes = read_template_list(probe, ids)
    crops = LooseCrops(
        directory / "loose_crop",
        listed.names,
        listed.landmarks,
        arcface(height_width(image_size)) if template is None else np.asarray(template),
        image_size,
    )
    return TemplateProtocol(
        directory.name, crops, listed.detection_scores, members, pairs, same, galleries, probes
    )


def evaluate_templates(
    embeddings: Embeddings,
    protocol: TemplateProtocol,
    *,
    detection_weighting: bool = True,
    norm_weighting: bool = True,
    fars: Sequence[float] = IJB_FARS,
    fpirs: Sequence[float] = FPIRS,
    bootstrap: int = 400,
) -> TemplateResults:
    """Pools embeddings into templates, compares the pairs and searches the galleries.

    Held at a time are the templates, float32 [T, D], and 4 bytes for the score of each pair (and as
    many again while they are sorted, and 8 where the pairs' first templates are not in order).
    The defaults are InsightFace's (its N1D1).

    Args:
      embeddings: floats [M, D] of the protocol's images, or an iterable of blocks of them in order;
        with the flip test those of both images together already.
      protocol: of `from_ijb`.
      detection_weighting: whether an image counts by its detection score.
      norm_weighting: whether an image counts by the norm of its embedding, which must not have been
        made a unit vector then (`Recognizer.embed(..., unit=False)`).
      fars: the false accept rates at which TAR is wanted.
      fpirs: the false positive identification rates at which TPIR is wanted.
      bootstrap: resamples of the subjects for the intervals; 0 for none. Pairs have intervals where
        the lists of the 1:N protocol say whose templates they are.

    Raises:
      UserError: see `pool`.
    """
    members = protocol.members
    templates = pool(
        embeddings,
        members.images,
        members.templates,
        members.media,
        image_weights=protocol.detection_scores if detection_weighting else None,
        norm_weighting=norm_weighting,
    )
    scores = pair_scores(templates, protocol.pairs)
    judged = judge_pairs(scores, protocol.same, fars=fars)
    if bootstrap:
        judged = with_intervals(judged, scores, protocol, bootstrap=bootstrap)
    if protocol.probes is None:
        return TemplateResults(scores, protocol.same, judged, (), None)
    probes, subjects = templates[protocol.probes.templates], protocol.probes.subjects
    searches = [
        identification.find(probes, subjects, templates[gallery.templates], gallery.subjects)
        for gallery in protocol.galleries
    ]
    each, mean = identification.identify(searches, subjects, fpirs=fpirs, bootstrap=bootstrap)
    return TemplateResults(scores, protocol.same, judged, each, mean)


def with_intervals(
    judged: PairScores,
    scores: np.ndarray,
    protocol: TemplateProtocol,
    *,
    bootstrap: int = 400,
    seed: int = 0,
) -> PairScores:
    """Gives TARs their 95 % intervals, by bootstrap over subjects, the threshold chosen anew.

    Args:
      judged: of `judge_pairs`.
      scores: [N] of the protocol's pairs.
      protocol: the pairs, and in its lists their subjects.
      bootstrap: the number of resamples.
      seed: of the resampling.

    Returns:
      The same with intervals; without, where the subject of a template is not known.
    """
    lists = [*protocol.galleries, *([] if protocol.probes is None else [protocol.probes])]
    people = np.full(len(protocol.members.template_ids), -1, np.int32)
    if lists:
        _, numbers = np.unique(np.concatenate([one.subjects for one in lists]), return_inverse=True)
        people[np.concatenate([one.templates for one in lists])] = numbers
    if not np.all(people[protocol.pairs] >= 0):
        return judged
    known = [number for number, tar in enumerate(judged.tars) if tar.tar is not None]
    if not known:
        return judged
    paired = np.zeros(len(people), bool)
    paired[protocol.pairs] = True
    people[paired] = np.unique(people[paired], return_inverse=True)[1]
    tars = list(judged.tars)
    resampled = resample_tars(
        scores,
        protocol.same,
        people[protocol.pairs],
        np.array([tars[number].tar for number in known]),
        fars=[tars[number].far for number in known],
        resamples=bootstrap,
        seed=seed,
    )
    for place, number in enumerate(known):
        ends = resampled.interval(place)._asdict()
        tars[number] = tars[number]._replace(**ends, basis="identities")
    return judged._replace(tars=tuple(tars))


def template_scores(results: TemplateResults) -> dict[str, Any]:
    """The numbers of templates as a flat record of what JSON has.

    Args:
      results: of `evaluate_templates`.

    Returns:
      "pairs", "same_pairs", "auc" and the TARs as `report.scores` names them; with galleries what
      `identification_scores` gives of their mean, and "gallery_1" and "gallery_2" with its records.
    """
    pairs = results.pairs
    record: dict[str, Any] = {
        "pairs": pairs.same + pairs.different,
        "same_pairs": pairs.same,
        "auc": pairs.auc,
        **report.tar_fields(pairs.tars),
    }
    if results.identification is not None:
        record |= identification_scores(results.identification)
        for number, gallery in enumerate(results.galleries, 1):
            record[f"gallery_{number}"] = identification_scores(gallery)
    return record


def identification_scores(
    result: Identification, *, ranks: Sequence[int] = RANKS
) -> dict[str, Any]:
    """The numbers of a search as a flat record of what JSON has.

    Args:
      result: of `facejax.evaluation.identification.identify`.
      ranks: which of the CMC, none deeper than it.

    Returns:
      "mated_probes", "other_probes", for each rank "rank_1" with "rank_interval_1" [low, high], and
      for each FPIR "tpir_at_fpir_1e-2" with "tpir_interval_at_fpir_1e-2", "tpir_threshold_at_
      fpir_1e-2" and what is to be said as "tpir_note_at_fpir_1e-2"; where it is known,
      "mean_average_precision" with "mean_average_precision_interval".
    """
    record: dict[str, Any] = {"mated_probes": result.mated, "other_probes": result.non_mated}
    for rank in ranks:
        record[f"rank_{rank}"] = result.cmc[rank - 1]
        if not np.isnan(result.cmc_low[rank - 1]):
            bounds = [result.cmc_low[rank - 1], result.cmc_high[rank - 1]]
            record[f"rank_interval_{rank}"] = bounds
    if result.average_precision is not None:
        mean, low, high = result.average_precision
        record["mean_average_precision"] = mean
        if low is not None:
            record["mean_average_precision_interval"] = [low, high]
    for tpir in result.tpirs:
        at = f"at_fpir_{format_far(tpir.fpir)}"
        record[f"tpir_{at}"] = tpir.tpir
        if tpir.low is not None:
            record[f"tpir_interval_{at}"] = [tpir.low, tpir.high]
        if tpir.threshold is not None:
            record[f"tpir_threshold_{at}"] = tpir.threshold
        if tpir.note:
            record[f"tpir_note_{at}"] = tpir.note
    return report.to_json(record)


def _the_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise UserError(
            f"{folder} has {len(found)} files {pattern} and must have one: give the folder of one "
            "protocol, as InsightFace lays out IJBB and IJBC"
        )
    return found[0]
