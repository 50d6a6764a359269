"""`facejax pairs`: verification pairs of a folder of identities."""

import argparse

from facejax.commands import arguments, work
from facejax.commands.outcome import Outcome, of_batch

_PAIRS = 6000


def add(commands: arguments.Commands) -> None:
    """Describes the command.

    Args:
      commands: of the parser.
    """
    parser = commands.add_parser(
        "pairs",
        help="verification pairs of a folder of identities",
        description="Writes lines path,path,0|1,fold, which eval.py --pairs reads; no identity is "
        "in two folds.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="aligned crops, a sub-folder per person")
    parser.add_argument("--out", metavar="FILE", required=True, help="the pair file")
    parser.add_argument(
        "--kind",
        choices=("balanced", "all", "hard"),
        default="balanced",
        help="as many same as different pairs at random; all of each fold; or those that a "
        "recognizer finds hardest (default: %(default)s)",
    )
    parser.add_argument(
        "--pairs",
        type=arguments.whole_number,
        metavar="N",
        help=f"how many in all, but for --kind=all (default: {_PAIRS})",
    )
    parser.add_argument("--folds", type=arguments.whole_number, default=10, help="(default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    arguments.add_recognizer(parser)
    arguments.add_json(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> Outcome:
    from facejax import files
    from facejax.data import folder_source
    from facejax.errors import UserError

    if given.kind == "all" and given.pairs is not None:
        raise UserError("--kind=all takes every pair: leave out --pairs")
    if given.kind != "hard" and given.recognizer is not None:
        raise UserError(f"--kind={given.kind} asks no recognizer: leave out --recognizer")
    if given.seed < 0:
        raise UserError(f"--seed={given.seed} is negative: give 0 or more")
    source = folder_source(given.folder)
    out = files.expand(given.out)
    from facejax.evaluation import pair_making

    options = {"folds": given.folds, "seed": given.seed}
    wanted = given.pairs or _PAIRS
    if given.kind == "all":
        made = pair_making.all_pairs(source.labels, **options)
    elif given.kind == "balanced":
        made = pair_making.balanced_pairs(source.labels, pairs=wanted, **options)
    else:
        from facejax.evaluation.protocols import ImageFiles

        recognizer = work.open_recognizer(given.recognizer)
        size = recognizer.card.image_size
        if not isinstance(size, int):
            raise UserError(f"{recognizer.card.name} takes crops that are not square: give another")
        images = ImageFiles([source.path / name for name in source.ids], size)
        embeddings = recognizer.embed(images)
        made = pair_making.hard_pairs(source.labels, embeddings, pairs=wanted, **options)
    with files.refusing(out, "give another --out"):
        pair_making.write_pairs(out, source.ids, made)
    same = int(made.same.sum())
    counts = {"same": same, "different": len(made.same) - same, "folds": given.folds}
    return of_batch(
        {"file": str(out), **counts}, str(out), counts, [], done=True, as_json=given.json
    )
