"""The frame of a command-line program: flags in, one sentence out on a user's mistake."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from facejax.errors import UserError


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Parses the flags and runs `main`; a user's mistake is one line on stderr and status 2."""

    def guarded(arguments: Sequence[str]) -> None:
        if len(arguments) > 1:
            _stop(f"{arguments[1]!r} is not a flag; fields are set as --config.seed=1")
        try:
            main(arguments)
        except UserError as error:
            _stop(str(error))
        except KeyboardInterrupt:
            _stop("interrupted; run the same command again to go on from the last checkpoint")

    logging.set_verbosity(logging.ERROR)  # libraries report every step of theirs at INFO
    app.run(guarded, flags_parser=_parse)


def config_value(holder: flags.FlagHolder, flag: str = "config") -> Any:
    """The value of a `config_flags` file flag.

    Raises:
      UserError: if the file is not there or does not give a config.
    """
    value = holder.value
    if type(value).__name__ == "_ErrorConfig":  # config_flags' way to put the failure off
        try:
            value.seed  # noqa: B018  # the first use raises what went wrong
        except Exception as error:
            raise UserError(f"--{flag} can't be used: {_first_line(error)}") from error
    return value


def _parse(arguments: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        _stop(f"{_first_line(error)}; --help lists the flags")
    except (KeyError, AttributeError, TypeError, ValueError, IndexError) as error:
        given = next((a for a in arguments if a.startswith("--config.")), "--config")
        for argument in arguments:
            name = argument.partition("=")[0].rpartition(".")[2]
            if argument.startswith("--config.") and repr(name)[1:-1] in str(error):
                given = argument
        _stop(f"{given}: {_first_line(error)}; the fields are listed in facejax/training/config.py")


def _first_line(error: Exception) -> str:
    text = str(error.args[0]) if error.args else str(error)
    return text.strip().split("\n")[0] or type(error).__name__


def _stop(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)
