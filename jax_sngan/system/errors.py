"""The one exception for a user's mistake: scripts print its line and exit with code 2."""

from jax_sngan.system.terminal import shown


class UserError(ValueError):
    """A wrong option, value, path or file; its text is one line: what, the value, what is allowed."""

    def __init__(self, text: str):
        super().__init__(shown(" ".join(text.split())))  # it may quote a path or a file
