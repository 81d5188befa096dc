"""Whether what a hub does not give is for the user to mend, or a network or a hub that may be back in a moment.

Called by whoever downloads: models, rows, encoders. Downloads nothing itself.
"""

from collections.abc import Iterator

from unisd.failures import StageError

_LATER = frozenset({408, 429})
"""Statuses by which a hub asks to come again, besides its own errors."""


def may_be_back(error: BaseException) -> bool:
    """Whether an error of a download says nothing of what was asked for, so that the next attempt may get it."""
    from httpx2 import TransportError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    chain = list(_chain(error))
    if any(isinstance(one, OfflineModeIsEnabled) for one in chain):
        return False
    answers = [one.response.status_code for one in chain if isinstance(one, HfHubHTTPError)]
    if answers:
        return all(status >= 500 or status in _LATER for status in answers)
    return any(isinstance(one, TransportError | ConnectionError | TimeoutError) for one in chain)


def not_to_be_had(said: str, error: BaseException) -> Exception:
    """What to raise in place of a download's error: NonZeroExit for what may be back, else bad input."""
    return StageError("NonZeroExit", said) if may_be_back(error) else ValueError(said)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from: libraries wrap those of the libraries below them."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
