"""How programs are compiled on this platform: the one place that chooses by platform."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from facejax import files
from facejax.errors import UserError

# XLA:CPU hands convolutions to a library that runs them on one thread; without them in this list
# they go to Eigen's threads, two to four times faster.
_CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_DOT"
}


def tuned_gradients() -> bool:
    """Whether layers use their closed-form gradients: on the CPU, where XLA's are slow."""
    return jax.default_backend() == "cpu"


@functools.cache
def _accepted_options() -> tuple[tuple[str, str], ...]:
    if jax.default_backend() != "cpu":
        return ()
    try:
        jax.jit(lambda x: x + 1, compiler_options=_CPU_OPTIONS).lower(jnp.zeros(1)).compile()
    except jax.errors.JaxRuntimeError:  # this jaxlib has no such option
        return ()
    return tuple(_CPU_OPTIONS.items())


def compiler_options() -> dict[str, str]:
    """The platform's compile options; empty where there are none or this jaxlib refuses them."""
    return dict(_accepted_options())


def jit(function: Callable[..., Any], *, out_shardings: Any = None) -> Callable[..., Any]:
    """`jax.jit` with the platform's compile options.

    Args:
      function: to be compiled.
      out_shardings: a tree of shardings like the result, or one for all of it; None leaves it to
        the compiler.
    """
    return jax.jit(function, out_shardings=out_shardings, compiler_options=compiler_options())


def compile_for(function: Callable[..., Any], *examples: Any) -> jax.stages.Compiled:
    """Compiles ahead of time, with the platform's options; what comes out never retraces.

    Args:
      function: plain, or made by `jax.jit` or `jax.pmap`.
      *examples: arguments, or `jax.ShapeDtypeStruct`s of them.
    """
    traceable: Any = function if hasattr(function, "lower") else jax.jit(function)
    return traceable.lower(*examples).compile(compiler_options=compiler_options())


def enable_cache(directory: str | pathlib.Path) -> None:
    """Keeps every compiled program on disk, and takes it from there at the next start.

    Args:
      directory: made where it is missing, `~` and `$FACEJAX_HOME` put in; empty leaves the cache
        as it is.

    Raises:
      UserError: if it can't be made or written; programs are then compiled anew.
    """
    if not str(directory):
        return
    path = files.expand(directory)
    try:
        files.try_folder(path)
    except OSError as error:
        raise UserError(
            f"can't make the compilation cache {path} ({error.strerror}): give another folder, or "
            "an empty name for none"
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
