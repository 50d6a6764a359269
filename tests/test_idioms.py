"""The sources hold to what jax 0.10 and 0.12 share.

Python 3.11 resolves to jax 0.10, later ones to 0.12; what either of them lacks, or does otherwise,
would break half of the users without a test here noticing. Names that are gone are banned by ruff
(tests/test_banned_names.py); what a name does not show is read from the syntax trees here.
"""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("facejax", "configs", "benchmarks", "docs", "tests")
SOURCES = [
    *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")),
    ROOT / "train.py",
    ROOT / "eval.py",
]

# Where ruff can't follow them: in a string, or as an attribute of what only a run knows.
GONE = ("device_put_replicated", "device_put_sharded", "pvary", "jax_pmap_shmap_merge")


def of_call(node: ast.Call) -> str | None:
    """What is wrong with a call, or None."""
    name = ast.unparse(node.func).rpartition(".")[2]
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if name == "make_mesh":
        if keywords.keys() & {"axis_shapes", "axis_sizes"}:
            return "make_mesh takes its sizes by position: the keyword's name changed"
        if "axis_types" not in keywords:
            return "make_mesh without axis_types is Explicit: shard_map refuses plain inputs"
    if name in ("checkpoint", "remat") and "concrete" in keywords:
        return "checkpoint(concrete=) is gone"
    if name == "shard_map":
        check = keywords.get("check_vma")
        if not (isinstance(check, ast.Constant) and check.value is False):
            return "shard_map without check_vma=False sums gradients a second time"
    if name == "ppermute" and any(isinstance(a, ast.Tuple) for a in node.args[1:2]):
        return "ppermute over several axes raises in another order than the mesh's"
    return None


def of_node(node: ast.AST) -> str | None:
    """What is wrong with one node of a syntax tree, or None."""
    if isinstance(node, ast.Call):
        return of_call(node)
    if isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            entered = item.context_expr
            made = isinstance(entered, ast.Call)
            name = ast.unparse(entered.func if made else entered)
            if name.endswith(("Mesh", "_mesh")) if made else name.lower().endswith("mesh"):
                return "`with mesh:` is deprecated: give the sharding its mesh"
    if isinstance(node, ast.Attribute) and node.attr in GONE:
        return f"{node.attr} is gone"
    if isinstance(node, ast.Constant) and node.value in GONE:
        return f"{node.value} is gone"
    if isinstance(node, ast.Constant) and node.value == "replica_groups":
        return "replica groups are printed differently: don't look for them"
    return None


def complaints(source: str) -> list[str]:
    found = ((node, of_node(node)) for node in ast.walk(ast.parse(source)))
    return [f"line {getattr(node, 'lineno', 0)}: {what}" for node, what in found if what]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_source_runs_on_both(path):
    if path in (pathlib.Path(__file__), ROOT / "tests" / "test_meshes.py"):
        return  # the one has the words it forbids, the other tries what users may do
    assert complaints(path.read_text()) == []


@pytest.mark.parametrize(
    "planted",
    [
        'jax.make_mesh(axis_shapes=(8,), axis_names=("d",), axis_types=types)',
        'jax.make_mesh(axis_sizes=(8,), axis_names=("d",), axis_types=types)',
        'mesh = make_mesh((8,), ("d",))',
        "jax.checkpoint(f, concrete=True)",
        "jax.remat(f, concrete=False)",
        "jax.shard_map(f, mesh=mesh, in_specs=s, out_specs=s)",
        "jax.shard_map(f, mesh=mesh, in_specs=s, out_specs=s, check_vma=True)",
        "shard_map(f, mesh, s, s, check_rep=False)",
        "lax.ppermute(x, ('b', 'a'), pairs)",
        "with mesh:\n    f(x)",
        "with state.device_mesh, other:\n    f(x)",
        "with jax.sharding.Mesh(devices, ('d',)) as mesh:\n    f(x)",
        "jax.config.update('jax_pmap_shmap_merge', True)",
        "jax.config.jax_pmap_shmap_merge",
        "getattr(jax, 'device_put_replicated')",
        "module.device_put_sharded(x, devices)",
        "assert 'replica_groups' in text",
    ],
)
def test_a_planted_idiom_is_found(planted):
    assert complaints(f"def test():\n    pass\n\n{planted}\n")


@pytest.mark.parametrize(
    "allowed",
    [
        'jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))',
        "jax.checkpoint(f, policy=p)",
        "jax.shard_map(f, mesh=mesh, in_specs=s, out_specs=s, check_vma=False)",
        "with jax.enable_x64(True), open(path) as mesh_file:\n    f(x)",
        "lax.ppermute(x, 'a', pairs)",
        "checkpoint(step)",
        "'with mesh: in a text is no code'",
    ],
)
def test_what_both_have_is_left_alone(allowed):
    assert complaints(allowed) == []


def test_the_sources_are_read():
    names = {str(path.relative_to(ROOT)) for path in SOURCES}
    assert {"train.py", "eval.py", "facejax/losses/engine.py", "configs/default.py"} <= names
    assert len(names) > 60
