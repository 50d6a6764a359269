"""Recognition: from an image of a face to its embedding."""

from facejax.recognition.embed import Embedder, embed, make_embedder

__all__ = ["Embedder", "embed", "make_embedder"]
