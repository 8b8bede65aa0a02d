"""The one error that a user of the programs sees."""


class UserError(ValueError):
    """Something that the user can mend. The message is all that is shown: what, where, and what to do."""
