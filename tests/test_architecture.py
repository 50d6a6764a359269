"""Imports run downward only, without a circle, whichever file they stand in."""

import ast
import graphlib
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
# Each line may import those above it, and nothing of its own line but of the same folder.
LEVELS = [
    {"errors"},
    {"files"},
    {"page", "table", "compilation"},
    {"losses"},
    {"objectives", "models", "data", "synthetic"},
    {"checkpoints"},
    {"recognition"},
    {"evaluation"},
    {"training"},
    {"command", "commands"},
    {"__main__"},
    {"train", "eval"},
]
LEVEL = {part: number for number, parts in enumerate(LEVELS) for part in parts}
FILES = [*sorted((ROOT / "facejax").rglob("*.py")), ROOT / "train.py", ROOT / "eval.py"]


def name_of(path):
    """facejax/losses/engine.py -> facejax.losses.engine; a package's __init__ -> the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(path):
    """The modules of facejax that a file names in an import."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES and not node.level:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in inner if name in MODULES)
            if any(name not in MODULES for name in inner):
                yield node.module


def part_of(module):
    head, _, rest = module.partition(".")
    return rest.partition(".")[0] if head == "facejax" else head


GRAPH = {name: set(imports(path)) - {name} for name, path in MODULES.items()}


def test_imports_run_downward():
    wrong = [
        f"{module} imports {target}"
        for module, targets in GRAPH.items()
        for target in targets - {"facejax"}
        if module != "facejax"  # which offers the losses
        and part_of(module) != part_of(target)
        and LEVEL[part_of(module)] <= LEVEL[part_of(target)]
    ]
    assert wrong == []


def test_there_is_no_circle():
    inside = {name: targets - {"facejax"} for name, targets in GRAPH.items() if name != "facejax"}
    assert len(list(graphlib.TopologicalSorter(inside).static_order())) > 60


def test_losses_stand_alone_and_linen_stays_in_models():
    for path in FILES:
        module = name_of(path)
        text = path.read_text()
        if part_of(module) == "losses":
            assert all(part_of(target) == "losses" for target in GRAPH[module]), module
        if part_of(module) != "models":
            assert "flax.linen" not in text, module
        if part_of(module) == "checkpoints":
            assert "TrainState(" not in text, module


def test_the_rule_can_fail():
    tree = ROOT / "facejax" / "training" / "state.py"
    assert "facejax.models" in set(imports(tree))
    assert LEVEL["losses"] < LEVEL["training"]
