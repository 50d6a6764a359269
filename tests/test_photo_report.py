"""The page with who is in which photograph; stand-ins for the networks, and a browser."""

import base64
import html.parser

import cv2
import numpy as np
import pytest

from facejax import page
from facejax.recognition import report_pictures
from facejax.recognition.photos import Photo
from facejax.recognition.report import SeenFace, arrange, contents
from facejax.recognition.thresholds import Threshold
from tests import stand_ins
from tests.browser import visit
from tests.commanding import ANN, BOB, CYD, DAN, answer, complaint, run, without_networks
from tests.pictures import encode, smooth
from tests.stand_ins import photo, save

EVE = 4
THRESHOLDS = (
    Threshold(far=1e-3, cosine=0.6, data="checks & squares"),
    Threshold(far=1e-4, cosine=0.7, data="checks & squares"),
)
HOSTILE = "Bob <b>&</b> Co"


@pytest.fixture(autouse=True)
def _networks(monkeypatch, tmp_path):
    without_networks(monkeypatch, tmp_path, thresholds=THRESHOLDS)


@pytest.fixture
def photos(tmp_path):
    """Of Ann and Bob, who are enrolled, of strangers, and of what is left out."""
    folder = tmp_path / "party"
    save(folder / "1.png", photo(BOB, DAN, ANN, number=1))
    save(folder / "2.png", photo(DAN, number=2))
    save(folder / "<i>3 &\n.png", photo(ANN, CYD, number=3))
    save(folder / "4.png", photo(DAN, ANN, number=4))
    save(folder / "small.png", photo(EVE, BOB, side=32))
    save(folder / "none.png", photo())
    (folder / "torn.png").write_bytes(encode(photo(ANN), ".png")[:300])
    return "party"


@pytest.fixture
def gallery(tmp_path, capsys):
    for person, name in ((ANN, "Ann"), (BOB, HOSTILE)):
        assert run("enroll", "known", name, save(tmp_path / f"{person}.png", photo(person))) == 0
    capsys.readouterr()
    return "known"


class Outline(html.parser.HTMLParser):
    """The items of a page: (section, group, lines of text, picture or None)."""

    def __init__(self, text: str):
        super().__init__()
        self.items: list[tuple[str, str, list[str], bytes | None]] = []
        self.targets: list[str] = []
        self.anchors: list[str] = []
        self.section = self.group = self.heading = ""
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.targets += [given["href"]] if "href" in given else []
        self.anchors += [given["id"]] if "id" in given else []
        if tag in ("h2", "h3"):
            self.heading = tag
        elif tag == "li":
            self.inside = True
            self.items.append((self.section, self.group, [], None))
        elif tag == "div" and self.inside:
            self.items[-1][2].append("")
        elif tag == "img":
            picture = base64.b64decode(given["src"].removeprefix("data:image/jpeg;base64,"))
            self.items[-1] = (*self.items[-1][:3], picture)

    def handle_endtag(self, tag):
        if tag == "li":
            self.inside = False
        elif tag in ("h2", "h3"):
            self.heading = ""

    def handle_data(self, data):
        if self.heading == "h2":
            self.section, self.group = data, ""
        elif self.heading == "h3":
            self.group = data
        elif self.inside and self.items[-1][2]:
            self.items[-1][2][-1] += data

    def of(self, section: str) -> list[tuple[str, list[str], bytes | None]]:
        """Without the lines that have no text."""
        return [
            (group, [line for line in lines if line], picture)
            for where, group, lines, picture in self.items
            if where == section
        ]


def pixels(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)


def test_every_face_and_every_photo_stands_in_its_place(photos, gallery, tmp_path, capsys):
    found = answer(capsys, "report", photos, "--gallery=known", "--out=page.html")
    outline = Outline((tmp_path / "page.html").read_text())
    odd = "<i>3 &\\n.png"  # as it is shown
    groups = [
        ("Ann: 3 faces", "1.png", ANN, 1),
        ("Ann: 3 faces", "4.png", ANN, 4),
        ("Ann: 3 faces", odd, ANN, 3),
        (f"{HOSTILE}: 2 faces", "1.png", BOB, 1),
        (f"{HOSTILE}: 2 faces", "small.png", BOB, 0),  # small, but known
        ("unknown 1: 3 faces", "1.png", DAN, 1),
        ("unknown 1: 3 faces", "2.png", DAN, 2),
        ("unknown 1: 3 faces", "4.png", DAN, 4),
        ("seen once: 1", odd, CYD, 3),
    ]
    shown = outline.of("People of the gallery") + outline.of("Unknown people")
    assert [(group, lines[0].strip()) for group, lines, _ in shown] == [one[:2] for one in groups]
    for (_, source, person, number), (_, _, picture) in zip(groups, shown, strict=True):
        middles = pixels(picture)[8::16, 8::16] - stand_ins.pattern(person, number)[8::16, 8::16]
        assert np.abs(middles).mean() < (20 if source == "small.png" else 6)  # a person is 60 off

    similarities = [face["similarity"] for one in found["people"] for face in one["faces"]]
    assert [float(lines[1]) for _, lines, _ in shown[:5]] == pytest.approx(similarities, abs=0.006)
    assert shown[-1][1][1] == "unknown 2"
    left_out = outline.of("Left out")
    (small, reason), none, torn = (lines for _, lines, _ in left_out)
    assert (small, reason[:21]) == ("small.png", "too small (11 pixels ")
    assert none == ["party/none.png", "there is no face in it"]
    assert len(torn) == 1
    assert torn[0].startswith("party/torn.png does not decode")

    in_photos = [lines for _, lines, _ in outline.of("Photographs")]
    assert [lines[0] for lines in in_photos] == [
        *("party/1.png", "party/2.png", "party/4.png", f"party/{odd}", "party/small.png")
    ]
    names = [[name.rsplit(" ", 1)[0] for name in lines[1].split(", ")] for lines in in_photos]
    assert names == [
        [HOSTILE, "unknown 1", "Ann"],
        ["unknown 1"],
        ["unknown 1", "Ann"],
        ["Ann", "unknown"],  # unknown 2, which has no similarity
        [HOSTILE, "1 left"],
    ]
    assert sorted(set(outline.targets)) == sorted(f"#{anchor}" for anchor in outline.anchors)


def test_machines_are_told_the_same(photos, gallery, capsys):
    found = answer(capsys, "report", photos, "--gallery=known")
    assert found["counts"] == (
        {"photos": 5, "faces": 10, "known": 2, "unknown": 2, "refused": 1, "skipped": 2}
    )
    assert (found["page"], found["thresholds"]) == ("party.html", {"group": 0.7, "name": 0.6})
    assert [one["source"] for one in found["skipped"]] == ["party/none.png", "party/torn.png"]
    ((refused),) = found["refused"]
    assert (refused["photo"], refused["number"]) == ("party/small.png", 0)
    by_photo = {
        (one["photo"], face["number"]): face["person"]
        for one in found["photos"]
        for face in one["faces"]
    }
    by_person = {
        (face["photo"], face["number"]): one["name"]
        for one in found["people"] + found["unknown"]
        for face in one["faces"]
    }
    assert by_photo == {**by_person, ("party/small.png", 0): None}
    named = answer(capsys, "identify", "known", photos)
    assert {
        (one["photo"], face["number"]): face["name"]
        for one in named["photos"]
        for face in one["faces"]
        if face["name"]
    } == {place: name for place, name in by_person.items() if not name.startswith("unknown")}

    assert run("report", photos, "--gallery=known") == 0  # over the page that is there
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        "party.html",
        "photos: 5, faces: 10, known: 2, unknown: 2, refused: 1, skipped: 2",
    ]
    assert said[2] == "  party/none.png: there is no face in it"


def test_without_a_gallery_all_are_put_together(photos, tmp_path, capsys):
    found = answer(capsys, "report", photos, "--unchecked")
    assert found["people"] == found["refused"] == []
    groups = answer(capsys, "cluster", photos)
    assert found["thresholds"] == {"group": groups["threshold"]}
    assert [
        [(face["photo"], face["number"]) for face in one["faces"]] for one in found["unknown"]
    ] == [[(face["photo"], face["number"]) for face in one["faces"]] for one in groups["people"]]
    assert [one["name"] for one in found["unknown"]] == [f"person {n}" for n in range(1, 6)]
    text = (tmp_path / "party.html").read_text()
    assert "from 0.70 on (false accept rate 0.0001, calibrated on checks &amp; squares)" in text
    assert answer(capsys, "report", photos, "--far=1e-3")["thresholds"] == {"group": 0.6}
    asked = answer(capsys, "report", photos, "--threshold=-1")
    assert (asked["counts"]["unknown"], asked["counts"]["faces"]) == (1, 10)
    assert "from -1.00 on, as was asked for" in (tmp_path / "party.html").read_text()


def test_what_is_not_shown_is_listed(photos, gallery, tmp_path, capsys):
    assert run("report", photos, "--gallery=known", "--pictures=1", "--margin=0.1") == 0
    outline = Outline((tmp_path / "party.html").read_text())
    listed = outline.of("Photographs")
    assert [(group, picture is not None) for group, _, picture in listed] == (
        [("", True)] + 4 * [("4 more, without their pictures", False)]
    )
    assert {f"#photo-{number}" for number in range(5)} <= set(outline.targets)
    assert set(outline.targets) <= {f"#{anchor}" for anchor in outline.anchors}
    assert "0.1 ahead of the second" in (tmp_path / "party.html").read_text()


def test_refusals(photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "party.html").write_text("<title>of somebody</title>")
    before = sorted(tmp_path.rglob("*"))
    assert complaint(capsys, "report", f"{tmp_path}/party/") == (
        "party.html is there already, and is no report: give --out=PAGE.html"
    )
    assert "empty has no photographs" in complaint(capsys, "report", "empty")
    assert "no face in it" in complaint(capsys, "report", "party/none.png", "--out=a.html")
    for out, why in {
        "party/1.png": "is no page: give a name that ends in .html",
        "folder.html": "is a folder: give the name of a file",
        "file/a.html": "give another --out",
    }.items():
        assert why in complaint(capsys, "report", photos, f"--out={out}")
    assert "there is no gallery" in complaint(capsys, "report", "party/1.png", "--gallery=gone")
    assert sorted(tmp_path.rglob("*")) == before
    found = answer(capsys, "report", "empty", status=2)
    assert (found["page"], found["counts"]["skipped"]) == (None, 1)


def test_strangers_are_likened_to_their_group():
    rows = np.random.default_rng(0).standard_normal((12, 8)) + 3 * np.repeat(
        np.eye(3, 8), 4, axis=0
    )
    rows = rows.astype(np.float32) * np.arange(1, 13, dtype=np.float32)[:, None]
    box = np.zeros(4, np.float32)
    seen = [SeenFace(photo=n // 2, number=n % 2, box=box) for n in range(12)]
    seen[5] = SeenFace(photo=2, number=1, box=box, name="Zoe", similarity=0.5, reasons=("blurred",))
    seen[6] = SeenFace(photo=3, number=0, box=box, reasons=("blurred",))
    report = arrange(list("abcdef"), seen, rows, threshold=0.4)
    assert sorted(place for one in report.people for place in one.faces) == [
        *range(6),
        *range(7, 12),
    ]
    assert report.refused == [6]
    assert report.whose[6] == -1
    assert [report.people[0].name, report.people[0].similarities] == ["Zoe", (0.5,)]
    assert max(len(person.faces) for person in report.people) >= 3
    for number, person in enumerate(report.people[1:], start=1):
        assert (person.name, person.known) == (f"unknown {number}", False)
        for place, similarity in zip(person.faces, person.similarities, strict=True):
            assert report.whose[place] == number
            others = [
                float(np.float64(rows[place]) @ np.float64(rows[other]))
                / float(np.linalg.norm(rows[place]) * np.linalg.norm(rows[other]))
                for other in person.faces
                if other != place
            ]
            assert similarity == (pytest.approx(np.mean(others), abs=1e-6) if others else None)


@pytest.mark.parametrize(("side", "shown"), [(2400, 800), (700, 700), (70, 640)])
def test_a_photo_is_made_to_be_looked_at(side, shown):
    original = smooth(side, side // 2)
    box = np.array([side / 4, side / 2, side / 8, side / 8], np.float32)
    report = arrange(["x"], [SeenFace(0, 0, box)], np.ones((1, 2), np.float32), threshold=0.5)
    picture = pixels(report_pictures.mark(original, report, 0))
    assert picture.shape == (shown, shown // 2, 3)
    plain = cv2.resize(original, (shown // 2, shown), interpolation=cv2.INTER_AREA).astype(int)
    change = np.abs(picture - plain).max(axis=2)
    assert np.median(change) < 4
    left, top, width, height = (round(float(value) * shown / side) for value in box)
    assert change[top + height // 2, left - 2 : left + 3].max() > 40  # the frame's left side
    assert change[top + height // 2, left + width // 2] < 12
    assert change[int(0.75 * shown) :].max() < 30


def test_pictures_are_made_when_it_is_their_turn(tmp_path):
    """So what is held does not grow with the number of photos."""
    count = 40
    seen = [SeenFace(n, 0, np.zeros(4, np.float32), name=f"{n:02}") for n in range(count)]
    report = arrange([str(n) for n in range(count)], seen, np.ones((count, 2)), threshold=0.5)
    jpeg = encode(smooth(8, 8), ".jpg")
    made: list[str] = []

    def pictures():
        for number in range(count):
            made.append(f"photo {number}")
            yield jpeg

    def thumbnail(place):
        made.append(f"face {place}")
        return jpeg

    options = {"explanation": [], "pictures": pictures(), "thumbnail": thumbnail}
    images = 0
    for piece in contents(report, **options, most_thumbnails=count // 2):
        images += piece.count("<img")
        assert len(made) == images
    assert made == [f"photo {n}" for n in range(count)] + [f"face {n}" for n in range(count // 2)]
    everywhere = [SeenFace(0, n, np.zeros(4, np.float32), name="Ann") for n in range(60)]
    report = arrange(["0"], everywhere, np.ones((60, 2)), threshold=0.5)
    options["pictures"] = iter([jpeg])
    items = Outline("".join(contents(report, **options, most_thumbnails=100))).of(
        "People of the gallery"
    )
    assert [picture is not None for *_, picture in items] == [True] * 48 + [False] * 12

    with (tmp_path / "waiting").open("w+b") as file:
        waiting = report_pictures.Waiting(file)
        for number in range(3):
            waiting.add(b"x" * number + b"y")
        assert [waiting[number] for number in (2, 0, 1)] == [b"xxy", b"y", b"xy"]


def test_a_photo_that_has_gone_since(tmp_path):
    save(tmp_path / "a.png", photo(ANN))
    seen = [SeenFace(n, 0, np.array([20, 20, 64, 64], np.float32)) for n in range(2)]
    report = arrange(["a", "b"], seen, np.ones((2, 2)), threshold=0.5)
    first, second = report_pictures.marked(
        report, [Photo("a", tmp_path / "a.png"), Photo("b", tmp_path / "b.png")]
    )
    assert isinstance(first, bytes)
    assert isinstance(second, str)
    assert second.startswith("b cannot be read (No such file or directory)")
    options = {"explanation": [], "thumbnail": lambda place: first, "most_thumbnails": 9}
    pieces = contents(report, pictures=iter([first, second]), **options)
    items = Outline(page.page("", *pieces)).of("Photographs")
    assert [(lines[:2], picture) for _, lines, picture in items] == [
        (["a", "unknown 1 1.00"], first),
        (["b", second], None),
    ]


def test_a_browser_shows_all_of_it_and_fetches_nothing(photos, gallery, tmp_path, capsys):
    assert run("report", photos, "--gallery=known", "--out=page.html") == 0
    seen = visit(tmp_path / "page.html", tmp_path / "profile", width=420)
    assert seen.requests == []
    outline = Outline((tmp_path / "page.html").read_text())
    pictures = [pixels(picture).shape[1::-1] for *_, picture in outline.items if picture]
    assert seen.pictures == pictures
    assert len(pictures) == 5 + 10  # photos and faces
    assert seen.title == "Faces in party"
    assert f"{HOSTILE}: 2 faces" in seen.text
    assert seen.overflow == 0
