"""Face-recognition losses and a face-recognition trainer for JAX.

`facejax.losses` comes with `import facejax`; the other packages are imported by name, as in
`from facejax import data, models`.
"""

from facejax import losses

__all__ = ["losses"]
__version__ = "0.2.0"
