"""What a reward call can raise, in one tree, named by what the caller does next.

RewardError
|- BadOptions           mend the client's options: target, token, TLS files
|- BadInput             mend what is scored: lengths that differ, a value that cannot travel
|  `- MissingColumn     give the reward the column that it needs
|- RequestRefused       the server understood and said no: mend the request
|  |- UnknownReward     no reward of that name
|  |- NotServed         the reward cannot be served as configured, or not at the version expected
|  |- NotAllowed        the token is missing or wrong
|  `- TooLarge          over a limit of the server: send less at once
|- WrongServer          what answers there is no reward server, or only one end speaks TLS: mend address or TLS
|- ClientClosed         the client was closed, perhaps by another thread: make another
|- ForkedProcess        this process was forked after the first call: spawn it, or fork earlier
|- ServerUnreachable    nobody answers: start the server, or allow more time for it to come back
|- RewardUnavailable    the server lives, but what scores a reward is away (a judge's host): mend that, or allow more time
|- DeadlineExceeded     the server lives but is too slow: give it more time, or less work
|- ServerBroke          a bug of the server, or an answer against the contract: read the server's log
|- LocalServerFailed    the process of a `local:` target did not start, or ended: its last words are in the message
|- OtherRankStopped     a reward function raised one of these on another rank of the run: see that rank's output
`- RewardMissing        verdicts are missing, and `missing="raise"` or `stop_when_missing` asks for an error then
OtherRankFailed          a reward function broke on another rank (no RewardError): see that rank's output
"""

from __future__ import annotations


class RewardError(Exception):
    """Base of all errors of a reward call."""


class BadOptions(RewardError):
    """The client's options are wrong."""


class BadInput(RewardError):
    """What should be scored is wrong, or cannot travel."""


class MissingColumn(BadInput):
    """A reward needs a column that was not given."""


class RequestRefused(RewardError):
    """The server understood the request and refuses it."""


class UnknownReward(RequestRefused):
    """No reward of that name."""


class NotServed(RequestRefused):
    """The reward cannot be served now, or not at the version expected."""


class NotAllowed(RequestRefused):
    """The token is missing or wrong."""


class TooLarge(RequestRefused):
    """Over a limit of the server."""


class WrongServer(RewardError):
    """What answers there cannot be talked to: another service, or TLS at one end only."""


class ClientClosed(RewardError):
    """The client was closed before the call, or under it."""


class ForkedProcess(RewardError):
    """This process was forked from one that had used a client."""


class ServerUnreachable(RewardError):
    """Nobody answers at the address."""


class RewardUnavailable(RewardError):
    """The server answers, but cannot serve a reward: what would score it is away."""


class DeadlineExceeded(RewardError):
    """The server lives, but gave no answer in time."""


class ServerBroke(RewardError):
    """The server failed inside, or answered against the contract."""


class LocalServerFailed(RewardError):
    """The server process of a `local:` target did not start, or ended."""


class OtherRankStopped(RewardError):
    """The rewards stopped coming on another rank, so that all ranks stop."""


class OtherRankFailed(Exception):
    """A reward function broke on another rank, so that all ranks end."""


class RewardMissing(RewardError):
    """Verdicts are missing, which was asked to be an error."""
