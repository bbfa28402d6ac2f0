"""The exceptions that are the user's to mend: shown as a single line, without a traceback."""


class UserError(ValueError):
    """Bad input. The message is one line that names the thing and the fix, whatever the input holds."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))


class Unreadable(UserError):
    """Records that do not read: of several processes those alone may know that hold them, while the others wait."""


class Mistake(UserError):
    """A setting that is right nowhere, as a misspelt one: never what is merely missing here and can be left out."""


class NoSplit(UserError):
    """A split that its dataset, which is there, does not have."""


class Missing(UserError):
    """What would first have to be made: it is there neither whole nor in part."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, at most 300 characters; its kind where there is none.

    Where it ends in a colon, as TFDS's of an example, the last line goes with it: what is between is the example.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = f"{lines[0]} {lines[-1].strip()}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return text[:300]
