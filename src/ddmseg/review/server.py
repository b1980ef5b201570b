"""The addresses of the review page; whoever asks has passed the :class:`Gate`."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from importlib import resources
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from ddmseg import __version__
from ddmseg.errors import DdmsegError, OutputError, ScanError, UsageError
from ddmseg.quality.reasons import reason_code
from ddmseg.review.correction import upload_limit
from ddmseg.review.payload import (
    detail_payload,
    problem_payload,
    row_payload,
    session_payload,
)
from ddmseg.review.security import Gate
from ddmseg.review.session import MAX_NOTE, Review, SupersededError, place_as_dict

NIFTI = "application/octet-stream"
DECISION_BYTES = 4 * MAX_NOTE + 4096
BODY_SECONDS = 120.0
"""How long what the page sends may take; it comes from this machine."""
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_DIGEST = Field(pattern=r"^[0-9a-f]{64}$")
# FastAPI would call a sync function in a thread as well, but these come from a table
Give = Callable[[], bytes]


class Told(JSONResponse):
    """JSON in ASCII: what a file name or a damaged file holds that is no text becomes an escape."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Decision(BaseModel, extra="forbid"):
    """What the page sends when a scan is accepted or rejected."""

    action: Literal["accept", "reject"]
    seen: Annotated[str, _DIGEST]
    note: Annotated[str, Field(max_length=MAX_NOTE)] = ""


def create_app(review: Review, *, port: int, token: str) -> Gate:
    """Return the application behind its gate.

    Args:
        review: what is shown.
        port: that the server listens on.
        token: that the launch link carries.
    """
    app = FastAPI(
        title="ddmseg review", version=__version__, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_exception_handler(DdmsegError, _tell)
    _add_page(app)
    _add_table(app, review)
    _add_pictures(app, review)
    _add_decisions(app, review)
    return Gate(app, port=port, token=token)


def _tell(request: Request, error: Exception) -> Response:
    """One line for the page; the status says whose fault it is."""
    statuses = {SupersededError: 409, UsageError: 404, ScanError: 422, OutputError: 507}
    status = next((code for kind, code in statuses.items() if isinstance(error, kind)), 500)
    return Told(problem_payload(error), status_code=status)


def _add_page(app: FastAPI) -> None:
    files = _static_files()

    @app.api_route("/", methods=["GET", "HEAD"])
    def page() -> Response:
        return _static(files, "index.html")

    @app.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    def static(name: str) -> Response:
        return _static(files, name)


@functools.cache
def _static_files() -> dict[str, bytes]:
    """Everything the page needs, by its path: a name that is not listed leads nowhere."""
    root = resources.files("ddmseg.review") / "static"
    found: dict[str, bytes] = {}
    folders = [("", root)]
    while folders:
        place, folder = folders.pop()
        for entry in folder.iterdir():
            name = f"{place}{entry.name}"
            if entry.is_dir():
                folders.append((f"{name}/", entry))
            elif PurePosixPath(name).suffix in _TYPES:
                found[name] = entry.read_bytes()
    return found


def _static(files: dict[str, bytes], name: str) -> Response:
    if name not in files:
        raise HTTPException(404)
    return Response(files[name], media_type=_TYPES[PurePosixPath(name).suffix])


def _add_table(app: FastAPI, review: Review) -> None:
    @app.get("/api/session")
    def session() -> Response:
        return Told(session_payload(review))

    @app.get("/api/scans")
    def scans() -> Response:
        rows, problems = review.rows(), review.problems
        told = {
            "scans": [row_payload(row, review) for row in rows],
            "problems": problems,
            "problem_codes": [reason_code(problem) for problem in problems],
        }
        return Told(told)

    @app.get("/api/scans/{identifier}")
    def scan(identifier: str) -> Response:
        return Told(detail_payload(review, identifier))

    @app.get("/api/scans/{identifier}/places/{kind}")
    def places(identifier: str, kind: str) -> Response:
        return Told([place_as_dict(place) for place in review.places(identifier, kind)])


def _add_pictures(app: FastAPI, review: Review) -> None:
    @app.get("/api/scans/{identifier}/thumbnail.png")
    def thumbnail(identifier: str) -> Response:
        return Response(review.thumbnail(identifier), media_type="image/png")

    @app.get("/api/scans/{identifier}/{kind}.nii")
    def volume(identifier: str, kind: str) -> Response:
        give: dict[str, Give] = {
            "scan": lambda: review.scan_bytes(identifier),
            "labels": lambda: review.label_bytes(identifier),
            "corrected": lambda: review.label_bytes(identifier, corrected=True),
        }
        found = give.get(kind, lambda: review.map_bytes(identifier, kind))
        return Response(found(), media_type=NIFTI)

    @app.get("/api/scans/{identifier}/{kind}/{place}.nii")
    def frame(identifier: str, kind: str, place: int) -> Response:
        return Response(review.frame_bytes(identifier, kind, place), media_type=NIFTI)


def _add_decisions(app: FastAPI, review: Review) -> None:
    @app.post("/api/scans/{identifier}/decision")
    async def decide(identifier: str, request: Request) -> Response:
        _check_upload(request, "application/json", DECISION_BYTES)
        try:
            wanted = Decision.model_validate_json(await _body(request))
        except ValueError as error:
            raise HTTPException(400, "not a decision") from error
        entry = await run_in_threadpool(
            review.decide, identifier, wanted.action, note=wanted.note, seen=wanted.seen
        )
        return Told(entry)

    @app.post("/api/scans/{identifier}/correction")
    async def correct(identifier: str, request: Request, seen: Annotated[str, _DIGEST]) -> Response:
        labels = await run_in_threadpool(review.labels, identifier)
        _check_upload(request, NIFTI, upload_limit(labels.shape))
        upload = await _body(request)
        return Told(await run_in_threadpool(review.correct, identifier, upload, seen=seen))


async def _body(request: Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.body()
    except TimeoutError as error:
        raise HTTPException(408, "what was sent came too slowly") from error


def _check_upload(request: Request, kind: str, most: int) -> None:
    """Refuse by the headers alone; the gate has seen to it that there is a length."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != kind:
        raise HTTPException(415, f"send {kind}")
    if int(request.headers["content-length"]) > most:
        raise HTTPException(413, f"at most {most} bytes are taken")
