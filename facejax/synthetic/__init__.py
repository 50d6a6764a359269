"""Synthetic faces, the embedded data source: a person, the head, its paint, the picture."""

from facejax.synthetic.person import Identity, Nuisance, draw_identity, draw_nuisance
from facejax.synthetic.render import SyntheticFaces, render

__all__ = [
    "Identity",
    "Nuisance",
    "SyntheticFaces",
    "draw_identity",
    "draw_nuisance",
    "render",
]
