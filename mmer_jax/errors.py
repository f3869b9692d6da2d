"""The errors that are shown to the user as one message, without a traceback."""


class UserError(Exception):
    """A mistake or a missing thing that the user can mend.

    The message says what was found, what was expected and what to do. Command lines print it and
    exit with 1; in a notebook it is an ordinary exception.
    """


class NotWritten(UserError):
    """Results that were computed and can't be written.

    Attributes:
      table: what they are, for who reads the command's output.
    """

    def __init__(self, message: str, table: str):
        super().__init__(message)
        self.table = table
