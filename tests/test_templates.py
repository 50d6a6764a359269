"""Templates against plain float64 loops, and IJB's protocol from files with a known answer."""

import itertools
import math

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.evaluation import ijb, report, templates, verification
from tests.pictures import encode, smooth

FARS = (1.0, 0.5, 0.29, 0.1, 0.02, 1e-4)


def entries(seed, count=200, images=120, most=9):
    """Images that may be in several templates; template 3 is one image, media repeat."""
    rng = np.random.default_rng(seed)
    members = {(image, int(rng.integers(0, most))) for image in rng.integers(0, images, count)}
    members |= {(image, int(rng.integers(0, most))) for image in range(images)}
    members = [(i, t) for i, t in sorted(members) if t != 3] + [(5, 3)]
    rng.shuffle(members)
    image, template = np.array(members).T
    return image, template, rng.integers(100, 104, len(image))


def pooled(embeddings, images, template, media, weights, *, norm_weighting):
    """By its definition, a template and a medium at a time."""
    rows = []
    for number in range(template.max() + 1):
        total = np.zeros(embeddings.shape[1])
        for medium in set(media[template == number].tolist()):
            chosen = [images[i] for i in range(len(images))
                      if template[i] == number and media[i] == medium]  # fmt: skip
            parts = []
            for image in chosen:
                vector = embeddings[image].astype(np.float64)
                if not norm_weighting:
                    vector = vector / max(np.linalg.norm(vector), 1e-300)
                parts.append(vector * weights[image])
            total += sum(parts) / len(parts)
        rows.append(total / np.linalg.norm(total) if total.any() else total)
    return np.array(rows)


@pytest.mark.parametrize("norm_weighting", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_pooling_is_media_then_template(norm_weighting, weighted):
    rng = np.random.default_rng(0)
    images, template, media = entries(1)
    embeddings = (rng.normal(size=(120, 16)) * rng.uniform(0.1, 9, (120, 1))).astype(np.float32)
    embeddings[7] = 0
    weights = rng.uniform(0.1, 1, 120).astype(np.float32)
    got = templates.pool(
        embeddings, images, template, media,
        image_weights=weights if weighted else None, norm_weighting=norm_weighting,
    )  # fmt: skip
    kept = weights.astype(np.float64) if weighted else np.ones(120)
    wanted = pooled(embeddings, images, template, media, kept, norm_weighting=norm_weighting)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    blocks = iter(np.split(embeddings.astype(np.float64), [1, 30, 30, 77]))
    again = templates.pool(
        blocks, images, template, media,
        image_weights=weights if weighted else None, norm_weighting=norm_weighting,
    )  # fmt: skip
    np.testing.assert_allclose(again, got, atol=1e-6)


def test_media_matter_and_the_scale_does_not():
    """A video of nine frames counts as much as a photo, also where squares would overflow."""
    frames = np.eye(2, dtype=np.float32)[[0] * 9 + [1]]
    for scale in (1, 1e-30, 1e30):
        got = templates.pool(frames * np.float32(scale), np.arange(10), np.zeros(10, int),
                             np.array([4] * 9 + [5]))  # fmt: skip
        np.testing.assert_allclose(got, [[0.5**0.5, 0.5**0.5]], atol=1e-6)
    flat = templates.pool(frames, np.arange(10), np.zeros(10, int), np.arange(10))
    np.testing.assert_allclose(flat, [[9 / 82**0.5, 1 / 82**0.5]], atol=1e-6)


def test_wrong_embeddings_are_refused():
    arrays = [np.arange(4), np.array([0, 0, 1, 1]), np.zeros(4, int)]
    embeddings = np.ones((4, 3), np.float32)
    with pytest.raises(UserError, match="there are 3 embeddings for the 4 images"):
        templates.pool(embeddings[:3], *arrays)
    with pytest.raises(UserError, match="more embeddings than the 4 images"):
        templates.pool(np.ones((5, 3)), *arrays)
    with pytest.raises(UserError, match="there are 0 embeddings"):
        templates.pool(iter([]), *arrays)
    embeddings[1] = np.nan
    with pytest.raises(UserError, match="1 of 4 embeddings are not finite"):
        templates.pool(embeddings, *arrays)
    with pytest.raises(ValueError, match=r"a block of them is \(3, 2\)"):
        templates.pool(iter([np.ones((1, 3)), np.ones((3, 2))]), *arrays)
    with pytest.raises(ValueError, match="images must be in"):
        templates.pool(embeddings, *arrays, image_weights=np.ones(3))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("in_order", [True, False])
def test_scores_of_pairs(dense, in_order, monkeypatch):
    monkeypatch.setattr(templates, "_WORTH", 10**9 if dense else 0)
    monkeypatch.setattr(templates, "_PRODUCTS", 7 * 60)
    monkeypatch.setattr(templates, "_PAIRS", 64)
    rng = np.random.default_rng(0)
    rows = templates.unit(rng.normal(size=(60, 12)))
    pairs = rng.integers(0, 60, (500, 2)).astype(np.int32)
    pairs[pairs == 11] = 12
    if in_order:
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    got = templates.pair_scores(rows, pairs)
    wanted = [np.dot(rows[a].astype(float), rows[b].astype(float)) for a, b in pairs]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def random_scores(seed, count=400, levels=None, dtype=np.float64):
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.3
    scores = rng.normal(size=count) + same
    return (scores if levels is None else np.round(scores * levels) / levels).astype(dtype), same


CASES = [random_scores(0), random_scores(1, levels=2), random_scores(2, 50, 1, np.float32)]
CASES += [(np.zeros(40), np.arange(40) < 10)]


def best_tar(scores, same, far):
    """The largest TAR of a threshold whose FAR is at most this, by trying each."""
    rates = [(0.0, 0.0)]
    for threshold in set(scores.tolist()):
        accepted = [score >= threshold for score in scores.tolist()]
        false = sum(a and not y for a, y in zip(accepted, same, strict=True)) / (~same).sum()
        true = sum(a and y for a, y in zip(accepted, same, strict=True)) / same.sum()
        rates.append((true, false))
    return max((true, false) for true, false in rates if false <= far + 1e-12)[0]


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_rates_are_those_of_plain_loops(scores, same):
    judged = templates.judge_pairs(scores, same, fars=FARS)
    pairs = itertools.product(scores[same].tolist(), scores[~same].tolist())
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs]
    assert judged.auc == pytest.approx(math.fsum(wins) / len(wins), abs=1e-12)
    assert (judged.same, judged.different) == (same.sum(), (~same).sum())
    for far, tar in zip(FARS, judged.tars, strict=True):
        if far * (~same).sum() < 1:
            assert tar.tar is None
            assert tar.note.startswith(f"too few negatives for FAR {verification.format_far(far)}")
            continue
        assert tar.tar == pytest.approx(best_tar(scores, same, far), abs=1e-12)
        assert tar.tar == pytest.approx((scores[same] >= tar.threshold).mean(), abs=1e-12)
        assert tar.achieved_far == pytest.approx((scores[~same] >= tar.threshold).mean(), abs=1e-12)
        assert tar.achieved_far <= far
        # What a list of pairs says of itself is what many pairs say.
        alone = verification.tar_at_far(scores, same, far=far, bootstrap=2)
        assert (tar.tar, tar.achieved_far) == (alone.tar, alone.achieved_far)
        accepts = round(tar.achieved_far * (~same).sum())
        assert ("rests on" in tar.note) == (accepts < 100)
        assert tar.false_accepts == accepts


def test_a_rate_is_not_lost_to_rounding():
    """0.29 * 100 is 28.999999999999996."""
    assert templates.first_refused(np.arange(100.0), 0.29) == (29, 70.0)
    assert templates.first_refused(np.arange(100.0), 0.289) == (28, 71.0)
    assert templates.first_refused(np.arange(100.0), 1.0) == (100, None)


@pytest.mark.parametrize(("scores", "same"), CASES)
def test_corners_are_of_the_exact_roc(scores, same):
    far, tar, thresholds = templates.roc_corners(scores, same)
    assert sorted(set(scores[same].tolist()), reverse=True) == thresholds.tolist()
    wanted = [[(scores[kind] >= t).mean() for t in thresholds] for kind in (~same, same)]
    np.testing.assert_allclose([far, tar], wanted, atol=1e-12)


def test_scores_that_say_nothing_are_refused():
    same = np.arange(4) < 2
    with pytest.raises(ValueError, match="not finite"):
        templates.judge_pairs(np.array([0, 1, np.nan, 0]), same)
    with pytest.raises(ValueError, match="one same and one different"):
        templates.judge_pairs(np.zeros(4), np.ones(4, bool))
    with pytest.raises(ValueError, match="must be in"):
        templates.judge_pairs(np.zeros(4), same, fars=(0.0,))


# A set of the official layout: 12 people, three templates each (one in a gallery, two probes).
PEOPLE, DIM = 12, 16


def embeddings_of(subjects, seed=0):
    """Images of a person lie about the person's axis."""
    noise = np.random.default_rng(seed).normal(size=(len(subjects), DIM))
    return np.eye(DIM)[subjects] + 0.05 * noise


@pytest.fixture
def official(tmp_path):
    """Template 100 + 3 p of person p is the gallery's; 101 + 3 p and 102 + 3 p are probes.

    The images of template 102 + 3 p of the last two people show the other of the two.
    """
    root = tmp_path / "IJBX"
    (root / "meta").mkdir(parents=True)
    (root / "loose_crop").mkdir()
    images, members, subjects, rows = [], [], [], {"1": [], "2": [], "probe": []}
    for person in range(PEOPLE):
        for kind in range(3):
            template = 100 + 3 * person + kind
            for image in range(4):
                name = f"{len(images)}.png"
                images.append(f"{name} 20 24 44 24 32 36 22 46 42 46 0.{9 - image}")
                members.append(f"{name} {template} {7 * template + image // 2}")
                shown = person
                if kind == 2 and person >= PEOPLE - 2:
                    shown = 2 * PEOPLE - 3 - person
                subjects.append(shown)
                where = "probe" if kind else "12"[person % 2]
                rows[where].append(f"{template},{900 + person},img/{name},1,2,3,4")
    pairs = []
    for one, other in itertools.product(range(PEOPLE), range(PEOPLE)):
        for kind in (1, 2):
            pairs.append(f"{100 + 3 * one} {100 + 3 * other + kind} {int(one == other)}")
    meta = root / "meta"
    (meta / "ijbx_name_5pts_score.txt").write_text("\n".join(images) + "\n")
    (meta / "ijbx_face_tid_mid.txt").write_text("\n".join(members) + "\n")
    (meta / "ijbx_template_pair_label.txt").write_text("\n".join(pairs) + "\n")
    header = "TEMPLATE_ID,SUBJECT_ID,FILENAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT\n"
    names = {"1": "gallery_G1", "2": "gallery_G2", "probe": "probe_mixed"}
    for key, lines in rows.items():
        (meta / f"ijbx_1N_{names[key]}.csv").write_text(header + "\n".join(lines) + "\n")
    return root, np.array(subjects)


def test_a_set_of_the_official_layout_has_its_known_answer(official):
    root, subjects = official
    protocol = ijb.from_ijb(root, image_size=112)
    assert protocol.name == "IJBX"
    assert len(protocol.images) == 3 * 4 * PEOPLE
    embeddings = embeddings_of(subjects)
    results = ijb.evaluate_templates(embeddings, protocol, bootstrap=20)
    # 24 same pairs; the two swapped templates miss, and are the two best different pairs of 264.
    one, two = (next(t for t in results.pairs.tars if t.far == far) for far in (1e-1, 1e-2))
    assert results.pairs.same == 24
    assert results.pairs.different == 264
    assert two.tar == pytest.approx(22 / 24)
    assert two.achieved_far == pytest.approx(2 / 264)
    assert "rests on 2 false accepts" in two.note
    assert (two.false_accepts, two.basis) == (2, "identities")
    assert one.tar is not None
    assert one.low <= one.tar <= one.high
    # Persons 10 and 11 are in different galleries: each swapped probe misses its mate, and in the
    # other gallery it is the one probe without a mate that somebody there resembles.
    assert [(g.mated, g.non_mated) for g in results.galleries] == [(12, 12), (12, 12)]
    for gallery in (*results.galleries, results.identification):
        assert gallery.cmc[0] == pytest.approx(11 / 12)
        assert gallery.tpirs[0].tpir == pytest.approx(11 / 12)
        assert gallery.tpirs[0].achieved_fpir == pytest.approx(1 / 12)
        assert gallery.tpirs[1].tpir is None
        assert gallery.cmc_low[0] <= gallery.cmc[0] <= gallery.cmc_high[0]
    assert results.identification.mated == 24

    record = ijb.template_scores(results)
    assert record["tar_at_far_1e-2"] == pytest.approx(22 / 24)
    assert record["tar_at_far_1e-6"] is None
    assert record["rank_1"] == pytest.approx(11 / 12)
    assert record["gallery_2"]["tpir_at_fpir_1e-1"] == pytest.approx(11 / 12)
    assert record["tpir_note_at_fpir_1e-2"].startswith("too few negatives for FPIR 1e-2")
    assert report.score_labels(record)["tar_at_far_1e-2"] == "TAR at FAR 1e-2"


def test_weights_reach_the_templates(official):
    root, subjects = official
    protocol = ijb.from_ijb(root, image_size=112)
    assert protocol.detection_scores[:4].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    embeddings = embeddings_of(subjects)
    embeddings *= np.random.default_rng(1).uniform(0.5, 2, (len(embeddings), 1))
    members = protocol.members
    for detection, norm in itertools.product([True, False], [True, False]):
        results = ijb.evaluate_templates(
            embeddings, protocol, detection_weighting=detection, norm_weighting=norm, bootstrap=0
        )
        weights = protocol.detection_scores if detection else np.ones(len(embeddings))
        rows = pooled(embeddings, members.images, members.templates, members.media, weights,
                      norm_weighting=norm)  # fmt: skip
        wanted = [rows[a] @ rows[b] for a, b in protocol.pairs]
        np.testing.assert_allclose(results.scores, wanted, atol=1e-6)
        assert results.pairs.tars[0].low is None


def test_pairs_alone_will_do_and_half_a_protocol_won_t(official):
    root, subjects = official
    for path in (root / "meta").glob("*.csv"):
        path.unlink()
    results = ijb.evaluate_templates(
        embeddings_of(subjects), ijb.from_ijb(root, image_size=112), bootstrap=10
    )
    assert results.identification is None
    assert results.pairs.tars[0].low is None  # nobody says whose the templates are
    assert "rank_1" not in ijb.template_scores(results)
    (root / "meta" / "ijbx_1N_gallery_S1.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n100,1\n")
    with pytest.raises(UserError, match=r"has 0 files \*_1N_gallery_\[GS\]2.csv and must have one"):
        ijb.from_ijb(root, image_size=112)
    (root / "meta" / "ijby_face_tid_mid.txt").write_text("")
    with pytest.raises(UserError, match="has 2 files"):
        ijb.from_ijb(root, image_size=112)


def test_loose_crops_are_aligned_by_their_landmarks(official):
    root, _ = official
    image = smooth(60, 64)
    (root / "loose_crop" / "0.png").write_bytes(encode(image, ".png"))
    wanted = np.array([[20, 24], [44, 24], [32, 36], [22, 46], [42, 46]], np.float32)
    protocol = ijb.from_ijb(root, image_size=64, template=wanted)  # where they are: nothing moves
    crops = iter(protocol.images)
    np.testing.assert_array_equal(next(crops)[0, :60], image)
    with pytest.raises(UserError, match=r"loose_crop/1.png cannot be read"):
        next(crops)
