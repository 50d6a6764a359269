"""Networks from an image to an embedding, as a pair of functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from facejax.errors import UserError
from facejax.models.dlib_resnet import DlibResNet, dlib_variables
from facejax.models.iresnet import STAGES, IResNet
from facejax.models.mobilefacenet import MobileFaceNet
from facejax.models.sface import SFace, sface_variables

__all__ = [
    "NETWORKS",
    "DlibResNet",
    "Network",
    "SFace",
    "dlib_variables",
    "from_module",
    "network",
    "sface_variables",
]

NETWORKS: tuple[str, ...] = (*STAGES, "mobilefacenet")


class Network(NamedTuple):
    """A network's two functions.

    Attributes:
      init: (key, images float [B, H, W, 3]) -> variables in float32: `params`, and `batch_stats`
        where the network keeps running statistics.
      apply: (variables, images float32 [B, H, W, 3] in [-1, 1], *, train, keys=None) ->
        (embeddings float32 [B, embedding_size], batch_stats). `keys` [B], one PRNG key per row,
        feed dropout in training; batch_stats are unchanged unless `train`, and {} where the
        network keeps none.
    """

    init: Callable[[jax.Array, jax.Array], Any]
    apply: Callable[..., tuple[jax.Array, Any]]


def network(
    name: str,
    *,
    embedding_size: int = 512,
    width: float = 1.0,
    dropout: float = 0.0,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
) -> Network:
    """A network by name, for square images whose side is a multiple of 16.

    Args:
      name: one of `NETWORKS`.
      embedding_size: length of an embedding.
      width: multiplies the channels.
      dropout: probability before the last dense layer, in [0, 1).
      dtype: of the computation; parameters and embeddings are float32.
      axis_name: the device axis over which BatchNorm is synchronised in training.

    Raises:
      UserError: if there is no such network, or on another dropout.
    """
    if not 0.0 <= dropout < 1.0:
        raise UserError(f"dropout is {dropout}: choose a probability of at least 0 and below 1")
    shared = {
        "width": width,
        "embedding_size": embedding_size,
        "dropout": dropout,
        "dtype": jnp.dtype(dtype),
        "axis_name": axis_name,
    }
    module: Any
    if name == "iresnet10":  # not InsightFace's, so not its wide initialisation
        module = IResNet(STAGES[name], kernel_init=nn.initializers.he_normal(), **shared)
    elif name in STAGES:
        module = IResNet(STAGES[name], **shared)
    elif name == "mobilefacenet":
        module = MobileFaceNet(**shared)
    else:
        raise UserError(f"there is no network {name!r}; choose one of {', '.join(NETWORKS)}")

    return from_module(module)


def from_module(module: nn.Module) -> Network:
    """The two functions of a Linen module.

    Args:
      module: its `__call__` takes (images, train, keys=None) and returns the embeddings; running
        statistics, where it keeps any, are its collection `batch_stats`.
    """

    def init(key: jax.Array, images: jax.Array) -> Any:
        return module.init(key, images, train=False)

    def apply(
        variables: Any, images: jax.Array, *, train: bool, keys: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        if not train:
            embeddings: Any = module.apply(variables, images, train=False)
            return embeddings, variables.get("batch_stats", {})
        embeddings, updates = module.apply(
            variables, images, train=True, keys=keys, mutable=["batch_stats"]
        )
        return embeddings, updates.get("batch_stats", {})

    return Network(init, apply)
