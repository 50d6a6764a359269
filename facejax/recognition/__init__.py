"""Recognition: from an image of a face to its embedding.

What reads a run's checkpoints takes Orbax with it, and is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from facejax.recognition.card import Card, card_path, read_card
from facejax.recognition.embed import Embedder, embed, make_embedder
from facejax.recognition.open import open
from facejax.recognition.recognizer import Recognizer

if TYPE_CHECKING:
    from facejax.recognition.run import load

__all__ = [
    "Card",
    "Embedder",
    "Recognizer",
    "card_path",
    "embed",
    "load",
    "make_embedder",
    "open",
    "read_card",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("facejax.recognition.run").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
