"""Recognition: from a photograph to the faces in it, their embeddings, and to a name.

What takes OpenCV, Orbax or SQLAlchemy with it is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from facejax.recognition.card import Card, card_path, read_card
from facejax.recognition.embed import Embedder, embed, make_embedder
from facejax.recognition.open import open
from facejax.recognition.recognizer import Recognizer

if TYPE_CHECKING:
    from facejax.recognition.align import crop_faces, similarity, warp
    from facejax.recognition.clusters import cluster
    from facejax.recognition.detection import Detection, Detector, YuNet, detect
    from facejax.recognition.draw import draw_faces
    from facejax.recognition.faces import Face, Faces, PhotoFaces, find_faces, iter_faces
    from facejax.recognition.gallery import Gallery
    from facejax.recognition.photos import read_photo
    from facejax.recognition.quality import Quality, reasons
    from facejax.recognition.run import load
    from facejax.recognition.search import top_k
    from facejax.recognition.thresholds import Threshold

__all__ = [
    "Card",
    "Detection",
    "Detector",
    "Embedder",
    "Face",
    "Faces",
    "Gallery",
    "PhotoFaces",
    "Quality",
    "Recognizer",
    "Threshold",
    "YuNet",
    "card_path",
    "cluster",
    "crop_faces",
    "detect",
    "draw_faces",
    "embed",
    "find_faces",
    "iter_faces",
    "load",
    "make_embedder",
    "open",
    "read_card",
    "read_photo",
    "reasons",
    "similarity",
    "top_k",
    "warp",
]

# None has the name of a file: an imported file would stand in its function's place.
_FILES = {
    "align": ("crop_faces", "similarity", "warp"),
    "clusters": ("cluster",),
    "detection": ("Detection", "Detector", "YuNet", "detect"),
    "draw": ("draw_faces",),
    "faces": ("Face", "Faces", "PhotoFaces", "find_faces", "iter_faces"),
    "gallery": ("Gallery",),
    "photos": ("read_photo",),
    "quality": ("Quality", "reasons"),
    "run": ("load",),
    "search": ("top_k",),
    "thresholds": ("Threshold",),
}


def __getattr__(name: str) -> Any:
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f"facejax.recognition.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
