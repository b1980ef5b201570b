"""The addresses of the review page and their JSON; whoever asks has passed the :class:`Gate`."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from ddmseg import __version__
from ddmseg.errors import DdmsegError, OutputError, ScanError, UsageError, printable, reason_code
from ddmseg.outputs.report.png import HUES, colour_scale
from ddmseg.quality.reasons import subject_of
from ddmseg.review.correction import shown_edit, upload_limit
from ddmseg.review.results import CORRECTED, MAPS
from ddmseg.review.security import Gate
from ddmseg.review.session import MAX_NOTE, Review, Row, SupersededError

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
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
LARGEST_DRAWN_ID = 255
"""NiiVue draws in one byte a voxel."""
FADE_IN = {"ember": (0.12, 0.42), "glacier": (0.25, 0.5)}
"""Shares of each map's scale from which it begins to show, and from which it is opaque.

The discrepancy is opaque where a label is more probably wrong than right, and clear up to half of
that: a quarter would lay a veil over most of a brain (0.71 of the labelled voxels of the demo).
"""
MOST_OPAQUE = 235
_DECISION_FIELDS = ("entry", "time", "action", "reviewer", "note", "edit")
_STATES = {"accept": "accepted", "reject": "rejected", "correct": "corrected"}


class AsciiJson(JSONResponse):
    """JSON in ASCII: what a file name or a damaged file holds that is no text becomes an escape."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Decision(BaseModel, extra="forbid"):
    """What the page sends when a scan is accepted or rejected."""

    action: Literal["accept", "reject"]
    seen: _Digest
    note: Annotated[str, Field(max_length=MAX_NOTE)] = ""


def create_app(review: Review, *, port: int, token: str) -> Gate:
    """Return the application behind its gate, for the port of the server and the link's token."""
    app = FastAPI(
        title="ddmseg review", version=__version__, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_exception_handler(DdmsegError, _error_answer)

    @app.api_route("/", methods=["GET", "HEAD"])
    def page() -> Response:
        return _static("index.html")

    @app.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    def static(name: str) -> Response:
        return _static(name)

    _add_table(app, review)
    _add_pictures(app, review)
    _add_decisions(app, review)
    return Gate(app, port=port, token=token)


def _error_answer(request: Request, error: Exception) -> Response:
    statuses = {SupersededError: 409, UsageError: 404, ScanError: 422, OutputError: 507}
    status = next((code for kind, code in statuses.items() if isinstance(error, kind)), 500)
    return AsciiJson(problem_payload(error), status_code=status)


@functools.cache
def _static_files() -> dict[str, bytes]:
    """Everything the page needs, by its path: a name that is not listed leads nowhere."""
    found: dict[str, bytes] = {}
    entries = [("", resources.files("ddmseg.review") / "static")]
    for place, entry in entries:
        if entry.is_dir():
            entries += [(f"{place}/{inner.name}".lstrip("/"), inner) for inner in entry.iterdir()]
        elif PurePosixPath(place).suffix in _TYPES:
            found[place] = entry.read_bytes()
    return found


def _static(name: str) -> Response:
    files = _static_files()
    if name not in files:
        raise HTTPException(404)
    return Response(files[name], media_type=_TYPES[PurePosixPath(name).suffix])


def _add_table(app: FastAPI, review: Review) -> None:
    @app.get("/api/session")
    def session() -> Response:
        return AsciiJson(session_payload(review))

    @app.get("/api/scans")
    def scans() -> Response:
        rows, problems = review.rows(), review.problems
        codes = [reason_code(problem) for problem in problems]
        shown = [row_payload(row) for row in rows]
        return AsciiJson({"scans": shown, "problems": problems, "problem_codes": codes})

    @app.get("/api/scans/{identifier}")
    def scan(identifier: str) -> Response:
        return AsciiJson(detail_payload(review, identifier))

    @app.get("/api/scans/{identifier}/places/{kind}")
    def places(identifier: str, kind: str) -> Response:
        return AsciiJson([one.as_dict() for one in review.doubtful_regions(identifier, kind)])


def _add_pictures(app: FastAPI, review: Review) -> None:
    @app.get("/api/scans/{identifier}/thumbnail.png")
    def thumbnail(identifier: str) -> Response:
        return Response(review.thumbnail(identifier), media_type="image/png")

    @app.get("/api/scans/{identifier}/{kind}.nii")
    def volume(identifier: str, kind: str) -> Response:
        # FastAPI would call a sync function in a thread as well, but these come from a table
        give: dict[str, Callable[[], bytes]] = {
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
        return AsciiJson(entry)

    @app.post("/api/scans/{identifier}/correction")
    async def correct(identifier: str, request: Request, seen: _Digest) -> Response:
        labels = await run_in_threadpool(review.labels, identifier)
        _check_upload(request, NIFTI, upload_limit(labels.shape))
        upload = await _body(request)
        return AsciiJson(await run_in_threadpool(review.correct, identifier, upload, seen=seen))


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


def session_payload(review: Review) -> dict[str, Any]:
    """Return what holds for the whole page: version, reviewer, colour scales of the maps."""
    return {
        "version": __version__,
        "reviewer": review.reviewer,
        "max_note": MAX_NOTE,
        "scales": {name: _scale(name) for name in HUES},
    }


def _scale(name: str) -> dict[str, list[int]]:
    """A colour scale as NiiVue wants it: a list for each channel."""
    # low values say nothing, and a veil of them over the air hides the scan
    begins, opaque = FADE_IN[name]
    opacity = np.clip((np.linspace(0.0, 1.0, 256) - begins) / (opaque - begins), 0.0, 1.0)
    alpha = np.rint(MOST_OPAQUE * opacity).astype(int).tolist()
    colours = dict(zip("RGB", colour_scale(name).T.tolist(), strict=True))
    return {**colours, "A": alpha, "I": list(range(256))}


def problem_payload(error: Exception) -> dict[str, Any]:
    """Return what went wrong as a sentence, and as a code with values where it has one."""
    return {"error": str(error), "code": reason_code(error.args[0] if error.args else "")}


def row_payload(row: Row) -> dict[str, Any]:
    """Return one row of the table."""
    summary, newest = row.summary, row.decisions[-1] if row.decisions else {}
    decision = {**{name: newest.get(name) for name in _DECISION_FIELDS}, "edit": shown_edit(newest)}
    return {
        "id": row.result.identifier,
        "name": printable(row.result.name),
        "verdict": summary.verdict,
        "expected_dice": summary.expected_dice,
        "reasons": summary.reasons,
        "reason_codes": summary.reason_codes,
        "reason_subjects": [subject_of(told) for told in summary.reason_codes],
        "steps": summary.steps,
        "samples": summary.samples,
        "volumes": [asdict(volume) for volume in summary.volumes],
        # what was decided on other labels is not decided on these
        "state": "open" if row.changed else _STATES.get(str(newest.get("action")), "open"),
        "decision": decision if row.decisions else None,
    }


def detail_payload(review: Review, identifier: str) -> dict[str, Any]:
    """Return everything about one scan that is no picture."""
    row = review.row(identifier)
    labels, grid = row.summary.labels, review.labels(identifier)
    edits = [shown_edit(entry) for entry in row.decisions if entry.get("action") == "correct"]
    return {
        **row_payload(row),
        "labels": [asdict(label) for label in labels],
        "has_scan": review.source_scan(identifier) is not None,
        "has_correction": row.result.has(CORRECTED),
        "maps": [kind for kind, suffix in MAPS.items() if row.result.has(suffix)],
        "frames": review.frame_counts(identifier),
        "seen": review.seen(identifier),
        "drawable": all(label.index <= LARGEST_DRAWN_ID for label in labels),
        "voxel_ml": grid.voxel_ml,
        "shape": grid.shape,
        "spacing_mm": [round(s, 3) for s in grid.spacing_mm],
        "last_edit": edits[-1] if edits else None,
    }
