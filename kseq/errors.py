"""The one error that a user of the programs sees, and what ends a process that was asked to end."""


class UserError(ValueError):
    """Something that the user can mend. The message is all that is shown: what, where, and what to do."""


class MissingPackage(UserError):
    """An optional package is not installed. No example is at fault, so that none is left out because of it."""


class UnreadableFile(UserError):
    """A file or a folder with data cannot be read."""


class LostWorker(UserError):
    """Another worker of a training has ended. The exit code is that of `Terminated`: start all workers again."""


class Terminated(SystemExit):
    """SIGTERM has asked the process to end, as schedulers do before they take its machine away.

    Its exit code is 75, `EX_TEMPFAIL` of <sysexits.h>: nothing is wrong, and the same command can be started again.
    """

    CODE = 75

    def __init__(self):
        super().__init__(self.CODE)
