"""Every limit of the server, in one table.

Validation, `--help`, documentation and tests read this table; a limit that is not here does not
exist. Limits are inclusive: a value equal to the limit is accepted.
"""

from dataclasses import dataclass, field
from typing import Any

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def _limit(default: int | float, code: str, what: str) -> Any:
    """A row: its default, the error code when it is passed, and what it bounds."""
    return field(default=default, metadata={"code": code, "what": what})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Defaults as published. Sizes in bytes, times in seconds."""

    max_request_line_bytes: int = _limit(8 * KIB, "uri_too_long", "request line")
    max_headers: int = _limit(64, "headers_too_large", "number of headers")
    max_header_bytes: int = _limit(16 * KIB, "headers_too_large", "header block")
    header_timeout_s: float = _limit(10.0, "request_timeout", "time for the header block")
    keep_alive_timeout_s: float = _limit(75.0, "", "idle time after a good request")
    max_body_bytes: int = _limit(32 * MIB, "request_too_large", "body, counted while read")
    max_body_chunks: int = _limit(65_536, "request_too_large", "pieces of a chunked body")
    max_held_bytes: int = _limit(
        512 * MIB, "queue_full", "bodies and fetched images of all requests together"
    )
    body_timeout_s: float = _limit(30.0, "request_timeout", "body slower than 1 KiB/s")
    max_json_depth: int = _limit(64, "invalid_json", "nesting of the JSON body")
    max_json_values: int = _limit(262_144, "invalid_value", "values and lists in the JSON body")
    max_json_texts: int = _limit(
        65_536, "invalid_value", "names, texts, lists and objects in the JSON body"
    )
    max_messages: int = _limit(256, "invalid_value", "messages in a request")
    max_parts: int = _limit(256, "invalid_value", "parts in a message")
    max_prompts: int = _limit(64, "invalid_value", "prompts of a text completion")
    max_metadata_bytes: int = _limit(64 * KIB, "invalid_value", "`user`, `metadata` and similar")
    max_stop_strings: int = _limit(4, "invalid_value", "stop strings")
    max_stop_chars: int = _limit(256, "invalid_value", "characters of a stop string")
    max_choices: int = _limit(8, "invalid_value", "choices of a request (`n`)")
    max_top_logprobs: int = _limit(20, "invalid_value", "alternatives beside a token")
    max_logit_biases: int = _limit(300, "invalid_value", "entries of `logit_bias`")
    max_tools: int = _limit(128, "invalid_value", "tools of a request")
    max_schema_bytes: int = _limit(64 * KIB, "schema_too_complex", "a JSON schema")
    max_schema_depth: int = _limit(16, "schema_too_complex", "nesting of a JSON schema")
    max_schema_properties: int = _limit(1000, "schema_too_complex", "properties of a JSON schema")
    schema_timeout_s: float = _limit(2.0, "schema_too_complex", "time to compile a JSON schema")
    max_images: int = _limit(16, "too_many_images", "images in a request")
    max_image_bytes: int = _limit(20 * MIB, "image_file_too_large", "one encoded image")
    max_fetch_bytes: int = _limit(64 * MIB, "image_file_too_large", "fetched for one request")
    max_image_pixels: int = _limit(40_000_000, "image_too_large", "pixels of an image")
    max_image_side: int = _limit(16_384, "image_too_large", "longest side of an image")
    max_image_ratio: int = _limit(200, "image_too_large", "ratio of an image's sides")
    decode_timeout_s: float = _limit(5.0, "image_parse_error", "decoding one image")
    decode_workers: int = _limit(2, "", "decode worker processes")
    decode_rss_bytes: int = _limit(512 * MIB, "image_parse_error", "resident memory, per worker")
    decode_address_bytes: int = _limit(1024 * MIB, "image_parse_error", "address space, per worker")
    max_url_bytes: int = _limit(8 * KIB, "invalid_image_url", "an image URL")
    fetch_timeout_s: float = _limit(10.0, "failed_to_download_image", "all images of a request")
    max_redirects: int = _limit(3, "failed_to_download_image", "redirects of one image URL")
    max_fetches: int = _limit(64, "", "fetches at once, whole server")
    max_running: int = _limit(256, "", "running sequences")
    max_waiting: int = _limit(256, "queue_full", "waiting requests")
    max_waiting_windows: int = _limit(
        10, "queue_full", "prompt tokens that wait for a first token, in windows"
    )
    queue_timeout_s: float = _limit(120.0, "overloaded", "time in the queue")
    total_timeout_s: float = _limit(280.0, "generation_timeout", "total time, plain")
    stream_timeout_s: float = _limit(600.0, "generation_timeout", "total time, streaming")
    keep_alive_comment_s: float = _limit(15.0, "", "silence before a keep-alive comment")
    send_stall_s: float = _limit(30.0, "", "stream whose client does not read")
    drain_timeout_s: float = _limit(30.0, "draining", "drain after SIGTERM")
