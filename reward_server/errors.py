"""What can go wrong in the server, in one tree. `reward_server.refusals` says how it reaches a caller.

RewardServerError
|- ConfigError            mend the configuration: file, key or line, what is wrong, what would be right
|  `- MissingLibrary      or install what a kind needs
|- RequestError           the caller mends the request
|  |- MalformedRequest    lengths that don't match, undecodable bytes
|  |- MissingColumn       a reward needs a column that was not sent
|  |- UnknownReward       no reward of that name
|  |- VersionMismatch     the version asked for is not the one served
|  |- NotServable         a reward cannot be served on this machine as configured: mend that first
|  |- TooLarge            over a limit
|  |- Busy                too many calls at a time: later
|  `- Unauthenticated     token missing or wrong
|- WorkerError            a person's code did not return, seen from the pool
|  |- WorkRaised          it raised; the message is its own
|  |- WorkTimedOut        it ran past its limit and was killed
|  |- WorkOutOfMemory     it took more memory than it may
|  |- WorkerDied          its process ended under it (crash, out of memory, exit)
|  |- WorkNotPrepared     the worker could not get ready for it (load the code): no sample is to blame
|  `- PoolClosed          the server is shutting down
|- SandboxUnavailable     untrusted code cannot be run here: the isolation does not hold; the message has the remedy
|- NotComparable          a method that compares has nothing to compare this completion with
`- EngineError            a judge's model gave no usable answer
   |- HostUnreachable     no connection, or it broke: another host or a later try may do
   |- HostBusy            the host said so: later
   |- HostFailed          it broke while answering, perhaps over this very question: again, but not often
   |- ModelMissing        the host has no such model: pull it
   |- ModelChanged        another model answers to its name now: no verdict of the old one is to be trusted
   |- PromptTooLong       the prompt does not fit the context: nothing to retry
   |- AnswerTimedOut      no answer in the time given
   |- BadAnswer           an answer that is none: incomplete, not the agreed shape: a new seed may do
   `- HostRefused         the host rejects the request itself: a bug or a wrong option
"""

from __future__ import annotations


class RewardServerError(Exception):
    """Base of all errors that the server raises on purpose."""


class ConfigError(RewardServerError):
    """The configuration is wrong. `problems` holds one line per mistake, each naming file, line and key."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class MissingLibrary(ConfigError):
    """A kind needs a library that is not installed; the message has the remedy."""


def without_library(error: Exception, *, own: str, extra: str = "server") -> str:
    """Returns which library is not installed, and what installs it; empty for any other error.

    Args:
        error: what an import has raised.
        own: the package whose own modules are no libraries.
        extra: the extra of this distribution that brings the library.
    """
    library = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not library or library == own:
        return ""
    return f"needs the library {library!r}: pip install 'grpo-reward-service[{extra}]'"


class RequestError(RewardServerError):
    """The caller's request cannot be served as it is."""


class MalformedRequest(RequestError):
    """The request contradicts itself."""


class MissingColumn(RequestError):
    """A reward needs a column that was not sent."""


class UnknownReward(RequestError):
    """No reward of that name."""


class VersionMismatch(RequestError):
    """The version asked for is not the one served."""


class NotServable(RequestError):
    """A reward cannot be served on this machine as configured; waiting does not help."""


class TooLarge(RequestError):
    """Over a limit of the server."""


class Busy(RequestError):
    """The server has as many calls as it takes at a time."""


class Unauthenticated(RequestError):
    """The token is missing or wrong."""


class WorkerError(RewardServerError):
    """Work in the pool did not return a result."""


class WorkRaised(WorkerError):
    """The code raised; the message says what."""


class WorkTimedOut(WorkerError):
    """The code ran past its limit; its process was killed.

    `own_time` says that it was the code's own time that was over, however busy the machine was. Otherwise the deadline
    came first, or the system does not tell what the code had of the time: then nobody is to blame.
    """

    def __init__(self, message: str, *, own_time: bool = False) -> None:
        super().__init__(message)
        self.own_time = own_time


class WorkOutOfMemory(WorkerError):
    """The code asked for more memory than it may have, or took it and was killed."""


class WorkerDied(WorkerError):
    """The process ended under the code.

    `from_outside` says that something else ended it, as far as one can tell: the kernel out of memory, an operator, the
    end of the process that all workers are forked from.
    """

    def __init__(self, message: str, *, from_outside: bool = False) -> None:
        super().__init__(message)
        self.from_outside = from_outside


class WorkNotPrepared(WorkerError):
    """The worker could not get ready for the code: it could not be loaded."""


class PoolClosed(WorkerError):
    """The pool takes no more work."""


class SandboxUnavailable(RewardServerError):
    """Untrusted code cannot be run here, or no more: the isolation cannot be had. The message says why and the remedy."""


class NotComparable(RewardServerError):
    """A method that compares completions has nothing to compare this one with, or too much to ask at once."""


class EngineError(RewardServerError):
    """A judge's model gave no usable answer.

    `attempts` says, once an engine has given up, how many answers it had that were no use.
    """

    attempts: int = 0


class HostUnreachable(EngineError):
    """No connection to the host, or it broke."""


class HostBusy(EngineError):
    """The host has too much to do."""


class HostFailed(EngineError):
    """The host, or the model's process on it, broke while answering: perhaps by chance, perhaps over this question."""


class ModelMissing(EngineError):
    """The host does not have the model."""


class ModelChanged(EngineError):
    """The model behind the name is another one than before."""


class PromptTooLong(EngineError):
    """The prompt does not fit the context. Both counts are None where the host did not tell them."""

    def __init__(self, message: str, prompt_token_count: int | None = None, context_tokens: int | None = None) -> None:
        super().__init__(message)
        self.prompt_token_count = prompt_token_count
        self.context_tokens = context_tokens


class AnswerTimedOut(EngineError):
    """No answer in the time given."""


class BadAnswer(EngineError):
    """An answer that is none.

    `nearly` says that it was short of one by little: a weak model's chance, of which nobody is suspected.
    """

    nearly: bool = False


class HostRefused(EngineError):
    """The host rejects the request itself."""
