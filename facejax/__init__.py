"""facejax: face-recognition losses and a face-recognition trainer for JAX."""
