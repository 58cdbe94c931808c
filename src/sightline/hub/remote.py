"""The two hubs, through their own client libraries: what a repository holds, and its files.

Libraries are imported when they are needed: they are heavy, and listing models needs neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from sightline.core.errors import StartupError, shorten

T = TypeVar("T")
HubName = Literal["huggingface", "modelscope"]
LIST_TIMEOUT_S = 15.0


class HubFailed(StartupError):
    """A hub could not be reached, does not have the repository, or wants a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """`sha256` is lower-case hex where the hub tells it."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files at the top of a repository, at one revision."""

    hub: HubName
    repository: str
    revision: str
    files: tuple[RemoteFile, ...]


class Hub(Protocol):
    """`fetch` resumes what an earlier call left in `folder` and puts the file there, whole."""

    name: HubName

    def list(self, repository: str) -> Listing: ...

    def fetch(self, listing: Listing, file: RemoteFile, folder: Path) -> None: ...


class HuggingFace:
    """huggingface.co, or a mirror; HF_TOKEN is its key."""

    name: HubName = "huggingface"

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def list(self, repository: str) -> Listing:
        from huggingface_hub import HfApi

        def read() -> Listing:
            api = HfApi(endpoint=self._endpoint)
            info = api.model_info(repository, files_metadata=True, timeout=LIST_TIMEOUT_S)
            return Listing(
                hub=self.name,
                repository=repository,
                revision=str(info.sha or "main"),
                files=tuple(
                    RemoteFile(
                        name=file.rfilename,
                        size=int(file.size or 0),
                        sha256=file.lfs.sha256 if file.lfs else None,
                    )
                    for file in info.siblings or ()
                    if "/" not in file.rfilename
                ),
            )

        return _asking(self.name, repository, read)

    def fetch(self, listing: Listing, file: RemoteFile, folder: Path) -> None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()  # one bar for everything is drawn by who asked
        _asking(
            self.name,
            listing.repository,
            lambda: hf_hub_download(
                listing.repository,
                file.name,
                revision=listing.revision,
                local_dir=folder,
                endpoint=self._endpoint,
            ),
        )


class ModelScope:
    """modelscope.cn, or a mirror; MODELSCOPE_API_TOKEN is its key."""

    name: HubName = "modelscope"
    revision = "master"

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def list(self, repository: str) -> Listing:
        def read() -> Listing:
            rows = self._api().list_repo_files(repository, "model", revision=self.revision)
            return Listing(
                hub=self.name,
                repository=repository,
                revision=self.revision,
                files=tuple(
                    RemoteFile(
                        name=row.path, size=int(row.size), sha256=(row.sha256 or "").lower() or None
                    )
                    for row in rows
                    if row.type == "blob" and "/" not in row.path
                ),
            )

        return _asking(self.name, repository, read)

    def fetch(self, listing: Listing, file: RemoteFile, folder: Path) -> None:
        _asking(
            self.name,
            listing.repository,
            lambda: self._api().download_file(
                listing.repository,
                "model",
                file.name,
                revision=listing.revision,
                local_dir=folder,
                expected_sha256=file.sha256,
                file_size=file.size,
            ),
        )

    def _api(self) -> Any:
        from modelscope_hub import HubApi

        return HubApi(endpoint=self._endpoint)


HUBS: dict[HubName, Callable[[str | None], Hub]] = {
    "huggingface": HuggingFace,
    "modelscope": ModelScope,
}


def _asking(hub: HubName, repository: str, work: Callable[[], T]) -> T:
    """Do `work`; whatever a client library raises becomes one line that names the hub."""
    try:
        return work()
    except (StartupError, KeyboardInterrupt):
        raise
    except OSError as error:
        if error.errno is not None:
            raise StartupError(f"Writing failed: {error.strerror}.", code="pull_disk") from None
        raise _failed(hub, repository, error) from None
    except Exception as error:
        raise _failed(hub, repository, error) from None


def _failed(hub: HubName, repository: str, error: Exception) -> HubFailed:
    lines: Sequence[str] = str(error).strip().splitlines() or [type(error).__name__]
    return HubFailed(f"{hub}: {shorten(repository)}: {shorten(lines[0], 160)}", code="hub_failed")
