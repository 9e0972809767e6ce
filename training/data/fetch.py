"""Photos fetched by the URL and SHA-256 in each row of a labeled CSV, so that anybody can repeat a run."""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import httpx
from tqdm import tqdm

from training.data.files import write_atomically
from training.data.photos import CSV_COLUMNS, read_table
from training.errors import DataError

MAX_BYTES: Final = 5_000_000
_TIMEOUT_S: Final = 30.0
_NUM_CONNECTIONS: Final = 8


def fetch_photos(table: Path, folder: Path) -> dict[str, str]:
    """Fills `folder` with the table's photos, and writes the table beside it, as `prepare` takes both.

    Photos that are there already are kept, so a second call fetches the rest.

    Returns:
        The reason for each photo that could not be had, by its name.

    Raises:
        DataError: the table lacks columns, or names a file outside of the folder.
    """
    rows = list(read_table(table, (*CSV_COLUMNS, "url", "sha256")))
    for row in rows:
        if Path(row["file"]).name != row["file"]:
            raise DataError(f"{table} names {row['file']!r}, expected a file name without a folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder.with_suffix(".csv"), table.read_text(encoding="utf-8"))
    client = httpx.Client(
        timeout=_TIMEOUT_S, limits=httpx.Limits(max_connections=_NUM_CONNECTIONS), follow_redirects=True
    )
    with client, ThreadPoolExecutor(_NUM_CONNECTIONS) as pool:
        reasons = pool.map(partial(_fetch, client, folder), rows)
        shown: Iterable[str | None] = tqdm(reasons, desc="fetch", total=len(rows), unit="photo")
        return {row["file"]: reason for row, reason in zip(rows, shown, strict=True) if reason is not None}


def _fetch(client: httpx.Client, folder: Path, row: Mapping[str, str]) -> str | None:
    """Fetches one photo; returns why it could not be had."""
    path = folder / row["file"]
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]:
        return None
    photo = bytearray()
    try:
        with client.stream("GET", row["url"]) as response:
            response.raise_for_status()
            for part in response.iter_bytes():
                photo += part
                if len(photo) > MAX_BYTES:
                    return f"longer than {MAX_BYTES} bytes"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__
    if hashlib.sha256(photo).hexdigest() != row["sha256"]:
        return "other bytes than the table's SHA-256 says"
    write_atomically(path, lambda file: file.write(photo))
    return None
