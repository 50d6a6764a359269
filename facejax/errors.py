"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake in what the user gave: one sentence that names the thing and the remedy.

    `train.py` and `eval.py` print it without a traceback and exit with status 2.
    """
