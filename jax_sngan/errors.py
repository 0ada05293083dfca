"""The one exception for a user's mistake: scripts print its line and exit with code 2."""


class UserError(ValueError):
    """A wrong option, value, path or file; its text is one line: what, the value, what is allowed."""

    def __init__(self, text: str):
        super().__init__(" ".join(text.split()))  # a path may hold a newline
