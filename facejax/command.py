"""The frame of a command-line program: flags in, one sentence out on a user's mistake."""

import contextlib
import os
import signal
import sys
import textwrap
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from facejax.errors import UserError
from facejax.training.config import Config, describe


def define_config(default: str) -> flags.FlagHolder:
    """The flag --config=FILE.py, whose `get_config()` gives the config; stops on a bad field."""
    try:
        return config_flags.DEFINE_config_file("config", default, "FILE.py with the recipe.")
    except Exception as error:  # it loads the file and reads the command line right away
        _stop_on_field(error, sys.argv)


def config_value(holder: flags.FlagHolder) -> tuple[Config, tuple[str, ...]]:
    """The config, as the file and the flags have it, and the fields that the flags set.

    A loss named by flag comes with its own defaults and what the flags set, not with the
    hyperparameters that the file chose for another one.

    Raises:
      UserError: if the file is not there or does not give one.
    """
    value: Any = flags.FLAGS[holder.name].value
    if type(value).__name__ == "_ErrorConfig":  # config_flags' way to put the failure off
        try:
            value.seed  # noqa: B018  # the first use raises what went wrong
        except Exception as error:
            raise UserError(f"--config can't be used: {_one_line(error)}") from error
    if not isinstance(value, Config):
        file = config_flags.get_config_filename(flags.FLAGS[holder.name])
        raise UserError(
            f"--config={file}: get_config() returns a {type(value).__name__}; return a "
            "facejax.training.config.Config"
        )
    given = tuple(config_flags.get_override_values(flags.FLAGS[holder.name]))
    if "loss.name" in given:
        kept = [name for name in type(value.loss).__slots__ if f"loss.{name}" in given]
        value.loss = type(value.loss)(**{name: getattr(value.loss, name) for name in kept})
    return value, given


@contextlib.contextmanager
def remedy(words: str) -> Iterator[None]:
    """Adds what to do to a user's mistake: the library names arguments, a program has flags.

    Args:
      words: the end of the sentence, such as "or give another --workdir".
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}; {words}") from error


@contextlib.contextmanager
def optional() -> Iterator[None]:
    """Around what a run can do without: a user's mistake there is a warning on stderr."""
    try:
        yield
    except UserError as error:
        print(f"warning: {error}; going on without it", file=sys.stderr)


def run(main: Callable[[contextlib.ExitStack], None]) -> None:
    """Parses the flags and runs `main`; a user's mistake is one line on stderr and status 2.

    What `main` puts on the stack that it is given is closed, however it ends.

    Ctrl-C is one line too, what the `KeyboardInterrupt` says if it says anything, and status 130.
    """

    def guarded(arguments: Sequence[str]) -> None:
        if len(arguments) > 1:
            fields = "; fields are set as --config.seed=1" if "config" in flags.FLAGS else ""
            _stop(f"{arguments[1]!r} is not a flag{fields}; --help lists the flags")
        try:
            with contextlib.ExitStack() as opened:
                main(opened)
        except UserError as error:
            _stop(str(error))
        except KeyboardInterrupt as stopped:
            print(f"error: {str(stopped) or 'interrupted'}", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            # At once: threads that are still compiling would crash while Python is taken down.
            os._exit(130)

    if any(argument in ("--help", "-help", "-h") for argument in sys.argv[1:]):
        print(_help())
        sys.exit()
    # Libraries report every step of theirs at INFO, and log with a traceback what they raise too.
    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = _without_echoes
    warnings.filterwarnings("ignore", ".*was never awaited", RuntimeWarning)
    app.run(guarded, flags_parser=_parse)


def _without_echoes(unraisable: Any) -> None:
    """As Python does it, but for an interrupt, and what TensorStore's threads meet after a failure.

    A Ctrl-C that comes while Python frees something would be lost: it comes again. That a write
    failed is told in one sentence; each of the writes beside it finds the loop closed.
    """
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        main = threading.main_thread().ident
        # Not at once: here it would be lost again.
        threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
        return
    if not isinstance(unraisable.exc_value, RuntimeError) or (
        str(unraisable.exc_value) != "Event loop is closed"
    ):
        sys.__unraisablehook__(unraisable)


def _help() -> str:
    """What a program does, its flags, and the fields where it has a config."""
    parts = [(sys.modules["__main__"].__doc__ or "").strip(), "", "Flags:"]
    shown = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
    if "config" in flags.FLAGS:
        shown = {"config": flags.FLAGS["config"], **shown}
    for flag in shown.values():
        default = "" if flag.default is None else f" (default: {flag.default_as_str})"
        text = f"--{'[no]' if flag.boolean else ''}{flag.name}: {flag.help}{default}"
        parts.append(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="      "))
    if "config" in flags.FLAGS:
        parts += ["", "Fields of the config, set as --config.optimizer.learning_rate=0.1:"]
        parts += [f"  --config.{line}" for line in describe()]
    return "\n".join(parts)


def _parse(arguments: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except Exception as error:  # a recipe may raise anything
        if isinstance(error, flags.Error) and not _place_in_recipe(error, arguments):
            _stop(f"{_one_line(error)}; --help lists the flags")
        _stop_on_field(error, arguments)


def _stop_on_field(error: Exception, arguments: Sequence[str]) -> NoReturn:
    recipe = _place_in_recipe(error, arguments)
    if recipe:
        _stop(f"--config={recipe}; --help lists the fields of the config")
    fields = [argument for argument in arguments if argument.startswith("--config.")]
    names = {argument: argument.partition("=")[0].rpartition(".")[2] for argument in fields}
    named = [argument for argument, name in names.items() if name in str(error)]
    _stop(
        f"{(named or fields or ['--config'])[0]}: {_one_line(error)}; "
        "facejax/training/config.py lists the fields"
    )


def _place_in_recipe(error: BaseException, arguments: Sequence[str]) -> str | None:
    """Where in the recipe an error was raised, and what it says; None if it was not there."""
    given = [argument for argument in arguments if argument.startswith("--config=")]
    file = given[-1].removeprefix("--config=").partition(":")[0] if given else ""
    # config_flags wraps some in others, whose text is then a whole traceback.
    while isinstance(error.__context__, Exception):
        error = error.__context__
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    if file and "no attribute 'get_config'" in str(error):
        return f"{file}: it has no get_config()"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == file:
            return f"{file}, line {frame.lineno}: {_one_line(error)}"
    return None


def _one_line(error: BaseException) -> str:
    text = str(error.args[0]) if error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def _stop(sentence: str, *, status: int = 2) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(status)
