"""The compile options reach every kind of program, and the cache is kept where it is told."""

import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import command, compilation
from facejax.errors import UserError


def test_options_are_for_the_cpu_only(monkeypatch):
    assert set(compilation.compiler_options()) <= {"xla_cpu_experimental_ynn_fusion_type"}
    compilation._accepted_options.cache_clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compilation.compiler_options() == {}
    assert not compilation.tuned_gradients()
    compilation._accepted_options.cache_clear()


def test_an_option_that_jaxlib_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compilation, "_CPU_OPTIONS", {"xla_no_such_option": "1"})
    compilation._accepted_options.cache_clear()
    assert compilation.compiler_options() == {}
    compilation._accepted_options.cache_clear()


def mapped(devices):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("d",))
    spec = jax.sharding.PartitionSpec("d")
    return jax.jit(jax.shard_map(step, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))


def step(x):
    return jax.lax.conv(x, jnp.ones((2, x.shape[1], 3, 3)), (1, 1), "SAME")


@pytest.mark.parametrize("kind", ["plain", "jit", "pmap", "shard_map"])
def test_programs_get_the_options(monkeypatch, kind):
    """An option that nobody knows is refused by the compiler, so it has been handed on."""
    x = jnp.ones((4, 3, 8, 8))
    function, x = {
        "plain": (step, x),
        "jit": (jax.jit(step), x),
        "pmap": (jax.pmap(step, "d", devices=jax.devices()[:4]), x[:, None]),
        "shard_map": (mapped(4), x),
    }[kind]
    expected = step(x.reshape(4, 3, 8, 8)).reshape(*x.shape[:-3], 2, 8, 8)
    np.testing.assert_allclose(compilation.compile_for(function, x)(x), expected, rtol=1e-6)
    monkeypatch.setattr(compilation, "compiler_options", lambda: {"xla_no_such_option": "1"})
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        compilation.compile_for(function, x)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        compilation.jit(step)(x.reshape(4, 3, 8, 8))


def test_the_cache_is_written_and_read(tmp_path):
    """Even where something was compiled before; a second process adds nothing to it."""
    program = (
        "import sys, jax, jax.numpy as jnp; from facejax import compilation;"
        "jax.jit(lambda x: x + 1)(jnp.ones(3)); compilation.enable_cache(sys.argv[1]);"
        "compilation.jit(lambda x: x * 2)(jnp.ones(3))"
    )
    found = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "cache")], check=True)
        found.append({path.name for path in (tmp_path / "cache").glob("*-cache")})
    assert found[0]
    assert found[0] == found[1]


def test_a_cache_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't make the compilation cache"):
        compilation.enable_cache(tmp_path / "file")


def test_a_cache_without_a_home_is_refused(monkeypatch, capsys):
    """As a user's mistake, without which a program goes on."""

    def none(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "expanduser", none)
    with command.optional():
        compilation.enable_cache("~/xla")
    said = capsys.readouterr().err
    assert said.startswith("warning: ~/xla is in a home folder that is not known")
    assert said.endswith("; going on without it\n")
    assert said.count("\n") == 1
