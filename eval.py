"""Measures recognizers on the field's benchmarks, or a run on the pairs of faces it came with.

    python eval.py                                       # the default run, unseen synthetic faces
    python eval.py --checkpoint=runs/mine --pairs=pairs.txt --images=FOLDER
    python eval.py --recognizer=sface --recognizer=dlib --benchmark=lfw=lfw.bin --benchmark=IJBC

Of pairs it prints accuracy (threshold chosen on the other folds), ROC AUC, EER and TAR at the FARs
asked for, of templates and galleries ranks, TAR and TPIR, all with 95 % intervals; and writes
evaluation.json and index.html.
"""

import contextlib
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from facejax import command, compilation, evaluation, files, recognition
from facejax.errors import UserError
from facejax.evaluation import (
    benchmarks,
    crops,
    embedding,
    embeddings_file,
    measured,
    printed_tables,
    scores_file,
    target_far,
)
from facejax.evaluation.benchmarks import Benchmark
from facejax.evaluation.embedding import Embedded
from facejax.evaluation.measured import Findings
from facejax.recognition import Recognizer
from facejax.recognition.stored_thresholds import write_thresholds
from facejax.training import from_config
from facejax.training.config import from_dict

CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "runs/default", "A workdir of train.py, or its checkpoints folder."
)
STEP = flags.DEFINE_integer("step", None, "Which checkpoint; by default the newest.")
RECOGNIZERS = flags.DEFINE_multi_string(
    "recognizer",
    [],
    "sface, dlib, a run or FILE.onnx, in place of --checkpoint; several stand side by side.",
)
EMBEDDINGS = flags.DEFINE_multi_string(
    "embeddings",
    [],
    "A model by its embeddings: FILE.npz or FILE.safetensors, or a folder with BENCHMARK.npz.",
)
BENCHMARKS = flags.DEFINE_multi_string(
    "benchmark",
    [],
    "NAME=PATH: a .bin file, a pair file or CSV (PAIRS@FOLDER), a folder of people, of groups (as "
    "RFW's), or IJB-B's, IJB-C's or TinyFace's; several make one table.",
)
PAIRS = flags.DEFINE_string(
    "pairs",
    None,
    "A pair file (LFW's format, or lines of path,path,0|1); by default the run's.",
)
IMAGES = flags.DEFINE_string("images", None, "The folder that the pair files' names are in.")
FARS = flags.DEFINE_list("fars", ["1e-2", "1e-3", "1e-4"], "False accept rates to report TAR at.")
FLIP = flags.DEFINE_boolean(
    "flip", None, "--flip_mode=sum or off; by default as the recognizer's card says (a run's: sum)."
)
FLIP_MODE = flags.DEFINE_enum(
    "flip_mode",
    None,
    embedding.FLIPS,
    "What becomes of the mirrored image's embedding: added, put behind the image's, or not made.",
)
COMPAT = flags.DEFINE_enum(
    "compat", None, ["insightface"], "The numbers that InsightFace would print of pairs, too."
)
TARGET_FARS = flags.DEFINE_list(
    "target_far", [], "FARs to calibrate thresholds for, which the recognizer then uses."
)
QUALITY = flags.DEFINE_string(
    "quality", None, "FILE.csv with path,quality; by default the norm of the embedding."
)
GROUPS = flags.DEFINE_string("groups", None, "FILE.csv with path,attribute,...: errors by group.")
SCORES = flags.DEFINE_string("scores", None, "FILE.csv or FILE.parquet for every pair's score.")
SAVE = flags.DEFINE_string(
    "save_embeddings", None, "A folder for MODEL/BENCHMARK.npz, or FILE.npz, FILE.safetensors."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "Where the report goes; by default `evaluation` in the workdir, or here."
)


class Model(NamedTuple):
    """What is measured: a recognizer, or embeddings in a file or folder."""

    name: str
    recognizer: Recognizer | None = None
    embeddings: str = ""
    batch_size: int = 32
    home: pathlib.Path | None = None  # the workdir of a run


def main(_: contextlib.ExitStack) -> None:
    """Opens models and benchmarks, refuses what can't end well, embeds, measures, reports."""
    # --- What is asked for ---------------------------------------------------------------------
    fars = _rates("fars", FARS.value)
    targets = _rates("target_far", TARGET_FARS.value) if TARGET_FARS.value else ()
    lonely = IMAGES.value is None if PAIRS.value else IMAGES.value and not BENCHMARKS.value
    if lonely:
        raise UserError("--pairs and --images go together: give both, or neither")
    if FLIP.value is not None and FLIP_MODE.value not in (None, "sum" if FLIP.value else "off"):
        raise UserError(f"--flip_mode={FLIP_MODE.value} contradicts --flip: give one of the two")
    if SCORES.value is not None:
        scores_file.refuse_scores_file(SCORES.value)

    # --- The models and the benchmarks ---------------------------------------------------------
    models = _models()
    asked = _benchmarks(models)
    for each in asked:
        if isinstance(each.protocol, evaluation.Protocol):
            pairs, images = len(each.protocol.same), np.unique(each.protocol.indices).size
            print(f"{each.name}: {pairs} pairs of {images} images", flush=True)

    # --- What is known to fail is refused before the work --------------------------------------
    stored = {
        (model.name, each.name): embedding.of_file(model.embeddings, each)
        for model in models
        for each in (asked if model.embeddings else ())
    }
    quality = evaluation.ImageTable(QUALITY.value) if QUALITY.value else None
    attributes = evaluation.ImageTable(GROUPS.value) if GROUPS.value else None
    qualities = {each.name: measured.qualities_of(each, quality) for each in asked}
    groups = {each.name: measured.groups_of(each, attributes) for each in asked}
    for each in asked:
        measured.refuse(each, fars, insightface=bool(COMPAT.value), grouped=attributes is not None)
    _refuse(models, asked, targets)
    home = next((model.home for model in models if model.home is not None), pathlib.Path())
    output = files.expand(OUTPUT.value or home / "evaluation")
    _try_places(output)

    # --- The numbers ---------------------------------------------------------------------------
    found: dict[str, dict[str, Findings]] = {each.name: {} for each in asked}
    for each in asked:
        for model in models:
            embedded = stored.pop((model.name, each.name), None) or _embed(model, each)
            if SAVE.value:
                embeddings_file.write_embeddings(
                    embeddings_file.place(SAVE.value, model.name, each.name),
                    embedded.embeddings,
                    names=each.names,
                    quality=embedded.quality,
                    sums=embedded.sums,
                )
            found[each.name][model.name] = measured.find(
                embedded,
                each,
                fars=fars,
                quality=qualities[each.name],
                groups=groups[each.name],
                insightface=COMPAT.value is not None,
                target_fars=targets,
            )
    shown = [measured.side_by_side(each, found[each.name], fars=fars) for each in asked]

    # --- The tables ----------------------------------------------------------------------------
    for table in printed_tables.tables(shown):
        print(table, end="\n\n", flush=True)
    if targets:
        _keep_thresholds(models, asked[0].name, found[asked[0].name])

    # --- The files -----------------------------------------------------------------------------
    if SCORES.value:
        blocks = (
            block
            for each in asked
            for name, one in found[each.name].items()
            for block in scores_file.pair_blocks(each, name, one.result)
        )
        print(f"{scores_file.write_scores(SCORES.value, blocks)} scores: {SCORES.value}")
    with files.refusing(output, "give another folder with --output"):
        written = _write_report(output, shown)
    print(f"written: {', '.join(str(file) for file in written)}")


def _write_report(output: pathlib.Path, shown: Sequence[evaluation.Shown]) -> list[pathlib.Path]:
    """The page of all benchmarks, or the short one of a run's own pairs or a pair file's."""
    if BENCHMARKS.value:
        title = f"Evaluation: {', '.join(one.name for one in shown)}"
        return evaluation.write_page(output, shown, title=title)
    (own,) = shown
    pairs = {
        name: one for name, one in own.results.items() if isinstance(one, evaluation.Verification)
    }
    return evaluation.write_report(output, pairs, title=f"Verification: {own.name}")


def _rates(flag: str, given: list[str]) -> tuple[float, ...]:
    try:
        rates = tuple(float(rate) for rate in given)
    except ValueError:
        rates = ()
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise UserError(
            f"--{flag}={','.join(given)} must be numbers between 0 and 1, such as 1e-2,1e-3"
        )
    return rates


def _models() -> list[Model]:
    """Those that are given, under names of their own; else the run of --checkpoint."""
    opened: list[Model] = []
    given = RECOGNIZERS.value or EMBEDDINGS.value
    if not given or flags.FLAGS["checkpoint"].present:
        recognizer = recognition.load(files.expand(CHECKPOINT.value), step=STEP.value)
        opened.append(_of_recognizer(recognizer))
    elif STEP.value is not None:
        raise UserError("--step goes with --checkpoint: give the run there, or leave --step out")
    opened += [_of_recognizer(recognition.open(name)) for name in RECOGNIZERS.value]
    opened += [Model(pathlib.Path(path).stem, None, path) for path in EMBEDDINGS.value]
    if len(opened) == 1 and opened[0].recognizer and opened[0].recognizer.facts:
        opened[0] = opened[0]._replace(name=f"step {opened[0].recognizer.step}")
    names: list[str] = []
    for model in opened:
        others = sum(each.name == model.name for each in opened[: len(names)])
        names.append(f"{model.name} ({others + 1})" if others else model.name)
    return [model._replace(name=name) for model, name in zip(opened, names, strict=True)]


def _of_recognizer(recognizer: Recognizer) -> Model:
    for note in recognizer.passed_over:
        print(f"note: {note}")
    if not recognizer.facts:
        with command.optional():
            compilation.enable_cache(files.home() / "xla")
        return Model(recognizer.card.name, recognizer)
    config = from_dict(recognizer.facts["config"])
    with command.optional():  # it is that of the machine that trained
        compilation.enable_cache(config.compilation_cache)
    return Model(
        f"{recognizer.card.name}, step {recognizer.step}",
        recognizer,
        batch_size=config.evaluation.batch_size,
        home=recognizer.directory.parent,
    )


def _benchmarks(models: Sequence[Model]) -> list[Benchmark]:
    """Those that are given; else the pairs of the first run."""
    opened = []
    if PAIRS.value and IMAGES.value:
        name = pathlib.Path(PAIRS.value).name
        opened.append(
            benchmarks.pair_benchmark(
                PAIRS.value, IMAGES.value, name=name, image_size=crops.SIDE
            )._replace(kind="")
        )
    for given in BENCHMARKS.value:
        name, path = benchmarks.split_name(given)
        if name in {each.name for each in opened}:
            raise UserError(f"two benchmarks are called {name}: give another NAME=PATH")
        opened.append(
            benchmarks.open_benchmark(path, name=name, image_size=crops.SIDE, images=IMAGES.value)
        )
    return opened or [_own_pairs(models)]


def _own_pairs(models: Sequence[Model]) -> Benchmark:
    runs = [model.recognizer for model in models if model.recognizer and model.recognizer.facts]
    if not runs:
        raise UserError("only a run has pairs of its own: give --benchmark=NAME=PATH, or --pairs")
    config = from_dict(runs[0].facts["config"])
    if not config.evaluation.pairs:
        with command.optional():
            from_config.try_cache(config)
    protocol = from_config.protocol(config)
    if protocol is None:
        raise UserError("this run has no pairs of its own: give --pairs and --images")
    return Benchmark(protocol.name, protocol, names=benchmarks.image_names(protocol.images))


def _refuse(models: Sequence[Model], asked: Sequence[Benchmark], targets: Sequence[float]) -> None:
    """What can't be done with so many models and benchmarks, or these."""
    if targets:
        if len(asked) != 1:
            raise UserError("--target_far takes one benchmark, whose people nobody is tested on")
        target_far.refuse_too_few(asked[0], targets)
        for model in models:
            own = model.recognizer and ("sum" if model.recognizer.flip else "off")
            if model.recognizer and _flip(model.recognizer) != own:
                raise UserError(
                    f"thresholds of another flip test than {model.name}'s own are never read: "
                    "leave out --flip and --flip_mode with --target_far"
                )
    if SAVE.value and embeddings_file.is_file_name(SAVE.value) and len(models) * len(asked) > 1:
        raise UserError(
            f"--save_embeddings={SAVE.value} is one file, and there are {len(models)} models and "
            f"{len(asked)} benchmarks: give a folder"
        )


def _try_places(output: pathlib.Path) -> None:
    """Refuses folders that can't be written into, where the work is long."""
    places = {"output": output} if BENCHMARKS.value else {}
    if SCORES.value:
        places["scores"] = files.expand(SCORES.value).parent
    if SAVE.value:
        places["save_embeddings"] = files.expand(SAVE.value).parent
    for flag, folder in places.items():
        with files.refusing(folder, f"give another place with --{flag}"):
            files.try_folder(folder)


def _flip(recognizer: Recognizer) -> embedding.Flip:
    flip = recognizer.flip if FLIP.value is None else FLIP.value
    return FLIP_MODE.value or ("sum" if flip else "off")  # type: ignore[return-value]


def _embed(model: Model, benchmark: Benchmark) -> Embedded:
    assert model.recognizer is not None  # else its embeddings are stored
    own = not benchmark.kind and bool(model.recognizer.facts)
    return embedding.embed_images(
        model.recognizer,
        crops.fitted(benchmark.protocol.images, model.recognizer.card, as_they_are=own),
        count=len(benchmark.names),
        flip=_flip(model.recognizer),
        sums=COMPAT.value is not None and isinstance(benchmark.protocol, evaluation.Protocol),
        batch_size=model.batch_size,
        label=f"{benchmark.name}, {model.name}",
        progress=sys.stderr.isatty(),
    )


def _keep_thresholds(models: Sequence[Model], name: str, found: Mapping[str, Findings]) -> None:
    """Prints them, and writes them where the recognizers look for their own."""
    print(printed_tables.thresholds_table({each: one.thresholds for each, one in found.items()}))
    print(
        f"They were chosen on {name}: how often they are wrong is to be measured on other people, "
        "not taken from the rates above."
    )
    for model in models:
        if model.recognizer is None:
            print(f"{model.name} are embeddings alone: there is nowhere to write their thresholds")
            continue
        path = model.recognizer.thresholds_path
        write_thresholds(path, found[model.name].thresholds, card=model.recognizer.card)
        print(f"thresholds of {model.name}: {path}", flush=True)


if __name__ == "__main__":
    command.run(main)
