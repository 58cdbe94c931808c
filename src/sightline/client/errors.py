"""What can go wrong between a client and a server, as messages a person can act on."""


class ClientError(Exception):
    """The server refused or failed. `str(error)` is one readable line.

    `status` is the HTTP status, None inside a stream; `code` and `param` are the API's.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class ServerUnreachable(ClientError):
    """Nothing answered at the address, or the connection broke."""
