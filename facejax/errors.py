"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """A mistake in what the user gave: one sentence that names the thing and the remedy.

    The programs print it without a traceback and exit with status 2. To those who call the library
    it is the `ValueError` that they would expect.
    """
