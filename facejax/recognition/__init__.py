"""Recognition: from an image of a face to its embedding, and to a name.

A gallery takes SQLAlchemy with it, and is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from facejax.recognition.embed import Embedder, embed, make_embedder
from facejax.recognition.recognizer import Recognizer, load

if TYPE_CHECKING:
    from facejax.recognition.clusters import cluster
    from facejax.recognition.gallery import Gallery
    from facejax.recognition.search import top_k
    from facejax.recognition.thresholds import Threshold

__all__ = [
    "Embedder",
    "Gallery",
    "Recognizer",
    "Threshold",
    "cluster",
    "embed",
    "load",
    "make_embedder",
    "top_k",
]

_FILES = {
    "Gallery": "gallery",
    "Threshold": "thresholds",
    "cluster": "clusters",
    "top_k": "search",
}


def __getattr__(name: str) -> Any:
    if name in _FILES:
        return getattr(importlib.import_module(f"facejax.recognition.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
