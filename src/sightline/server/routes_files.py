"""`/v1/files/{id}`: no files are kept, and that is said in the words that clients know."""

from starlette.requests import Request
from starlette.responses import Response

from sightline.core.errors import RequestError, shorten
from sightline.server.router import Router


def files_router() -> Router:
    router = Router()

    @router.route("/v1/files/{name:path}", "GET", "HEAD", "DELETE")
    @router.route("/files/{name:path}", "GET", "HEAD", "DELETE")
    @router.get("/v1/files/{name}/content")
    @router.get("/files/{name}/content")
    async def find_file(request: Request) -> Response:
        name = shorten(request.path_params["name"])
        raise RequestError(f"No such file: '{name}'.", code="file_not_found")

    return router
