"""Recognition: from an image of a face to its embedding."""

from facejax.recognition.embed import Embedder, embed, make_embedder
from facejax.recognition.recognizer import Recognizer, load

__all__ = ["Embedder", "Recognizer", "embed", "load", "make_embedder"]
