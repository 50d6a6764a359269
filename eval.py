"""Verifies a trained network on pairs of faces.

    python eval.py                                       # the default run, unseen synthetic faces
    python eval.py --checkpoint=runs/mine --pairs=pairs.txt --images=FOLDER

Prints accuracy (threshold chosen on the other folds), ROC AUC, EER and TAR at the FARs asked for,
with 95 % intervals, and writes index.html, verification.json, roc.png and scores.png.
"""

import contextlib
import functools

import numpy as np
from absl import flags

from facejax import command, compilation, evaluation, files, recognition
from facejax.errors import UserError
from facejax.training import from_config
from facejax.training.config import from_dict

CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "runs/default", "A workdir of train.py, or its checkpoints folder."
)
STEP = flags.DEFINE_integer("step", None, "Which checkpoint; by default the newest.")
PAIRS = flags.DEFINE_string(
    "pairs",
    None,
    "A pair file (LFW's format, or lines of path,path,0|1); by default the run's.",
)
IMAGES = flags.DEFINE_string("images", None, "The folder that the pair file's names are in.")
FARS = flags.DEFINE_list("fars", ["1e-2", "1e-3", "1e-4"], "False accept rates to report TAR at.")
FLIP = flags.DEFINE_boolean("flip", True, "Add the mirrored image's embedding (flip test).")
OUTPUT = flags.DEFINE_string("output", None, "Where the report goes; by default in the workdir.")


def main(_: contextlib.ExitStack) -> None:
    """Restores, embeds, verifies and reports."""
    # --- The network ---------------------------------------------------------------------------
    fars = _rates(FARS.value)
    if (PAIRS.value is None) != (IMAGES.value is None):
        raise UserError("--pairs and --images go together: give both, or neither")
    run = files.expand(CHECKPOINT.value)
    recognizer = recognition.load(run, step=STEP.value, flip=FLIP.value)
    for note in recognizer.passed_over:
        print(f"note: {note}")
    config = from_dict(recognizer.facts["config"])
    with command.optional():  # it is that of the machine that trained
        compilation.enable_cache(config.compilation_cache)

    # --- The pairs -----------------------------------------------------------------------------
    if PAIRS.value and IMAGES.value:
        config.evaluation.pairs, config.evaluation.images = PAIRS.value, IMAGES.value
    if not config.evaluation.pairs:
        with command.optional():
            from_config.try_cache(config)
    protocol = from_config.protocol(config)
    if protocol is None:
        raise UserError("this run has no pairs of its own: give --pairs and --images")

    # --- The numbers ---------------------------------------------------------------------------
    result = evaluation.evaluate(
        functools.partial(recognizer.embed, batch_size=config.evaluation.batch_size),
        protocol,
        fars=fars,
    )
    name = f"step {recognizer.step}"
    print(
        f"{protocol.name}: {len(protocol.same)} pairs of {np.unique(protocol.indices).size} images"
    )
    print(evaluation.scores_table({name: evaluation.scores(result)}), flush=True)

    # --- The report ----------------------------------------------------------------------------
    output = files.expand(OUTPUT.value or recognizer.directory.parent / "evaluation")
    title = f"Verification: {protocol.name}"
    with files.refusing(output, "give another folder with --output"):
        written = evaluation.write_report(output, {name: result}, title=title)
    print(f"written: {', '.join(str(file) for file in written)}")


def _rates(given: list[str]) -> tuple[float, ...]:
    try:
        rates = tuple(float(rate) for rate in given)
    except ValueError:
        rates = ()
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise UserError(
            f"--fars={','.join(given)} must be numbers between 0 and 1, such as 1e-2,1e-3"
        )
    return rates


if __name__ == "__main__":
    command.run(main)
