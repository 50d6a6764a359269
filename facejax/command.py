"""The frame of a command-line program: flags in, one sentence out on a user's mistake."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from facejax.errors import UserError

# What config_flags and the config files that it loads raise on a field that is not there.
_FIELD_ERRORS = (KeyError, AttributeError, TypeError, ValueError, IndexError, OSError)


def define_config(default: str) -> flags.FlagHolder:
    """The flag --config=FILE.py, whose `get_config()` gives the config; stops on a bad field."""
    try:
        return config_flags.DEFINE_config_file("config", default)
    except Exception as error:  # it loads the file and reads the command line right away
        _stop_on_field(error, sys.argv)


def config_value(holder: flags.FlagHolder) -> Any:
    """The config, as the file and the flags have it.

    A loss named by flag comes with its own defaults and what the flags set, not with the
    hyperparameters that the file chose for another one.

    Raises:
      UserError: if the file is not there or does not give one.
    """
    value = holder.value
    if type(value).__name__ == "_ErrorConfig":  # config_flags' way to put the failure off
        try:
            value.seed  # noqa: B018  # the first use raises what went wrong
        except Exception as error:
            raise UserError(f"--config can't be used: {_one_line(error)}") from error
    overridden = config_flags.get_override_values(flags.FLAGS[holder.name])
    if "loss.name" in overridden:
        kept = {name: v for name, v in vars(value.loss).items() if f"loss.{name}" in overridden}
        value.loss = type(value.loss)(**kept)
    return value


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


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Parses the flags and runs `main`; a user's mistake is one line on stderr and status 2.

    Ctrl-C is status 130.
    """

    def guarded(arguments: Sequence[str]) -> None:
        if len(arguments) > 1:
            _stop(f"{arguments[1]!r} is not a flag; fields are set as --config.seed=1")
        try:
            main(arguments)
        except UserError as error:
            _stop(str(error))
        except KeyboardInterrupt:
            _stop("interrupted; the same command goes on from the last checkpoint", status=130)

    logging.set_verbosity(logging.ERROR)  # libraries report every step of theirs at INFO
    app.run(guarded, flags_parser=_parse)


def _parse(arguments: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        _stop(f"{_one_line(error)}; --help lists the flags")
    except _FIELD_ERRORS as error:
        _stop_on_field(error, arguments)


def _stop_on_field(error: Exception, arguments: Sequence[str]) -> NoReturn:
    fields = [argument for argument in arguments if argument.startswith("--config.")]
    names = {argument: argument.partition("=")[0].rpartition(".")[2] for argument in fields}
    named = [argument for argument, name in names.items() if name in str(error)]
    _stop(
        f"{(named or fields or ['--config'])[0]}: {_one_line(error)}; "
        "facejax/training/config.py lists the fields"
    )


def _one_line(error: Exception) -> str:
    text = str(error.args[0]) if error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def _stop(sentence: str, *, status: int = 2) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(status)
