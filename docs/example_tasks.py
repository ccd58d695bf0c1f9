"""Three tasks of a small shop, as docs/tasks.md explains them. Run them with FLEET_Q_HANDLERS=docs.example_tasks."""

from __future__ import annotations

import asyncio
import csv
import json
import os
from pathlib import Path
from typing import Any

import httpx

from fleetq_core import Step, TerminalError, task


@task("shop.total", timeout_s=60)
def total(step: Step) -> dict[str, Any]:
    """Add up the `amount` column of the CSV `file`."""
    path = Path(str(step.payload.get("file", "")))
    if not path.is_file():
        # The disk may be mounted by the next attempt: an ordinary error, which is retried.
        raise FileNotFoundError(f"payload.file is {str(path)!r}; there is no such file")
    with path.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        if "amount" not in (rows.fieldnames or []):
            # No retry gives the file another column: a dead letter at once.
            raise TerminalError(f"{path} has the columns {rows.fieldnames}; `amount` is missing")
        amounts = [float(row["amount"]) for row in rows]
    return {"orders": len(amounts), "total": round(sum(amounts), 2)}


@task("shop.check_links", timeout_s=30)
async def check_links(step: Step) -> dict[str, int | str]:
    """Ask for every URL of the list `urls`, all at once; returns the status of each."""
    urls = step.payload.get("urls")
    if not isinstance(urls, list) or not urls:
        raise TerminalError("payload.urls must be a list with at least one URL")

    async def status(url: str) -> int | str:
        try:
            return (await client.head(url, follow_redirects=True)).status_code
        except httpx.HTTPError as exc:
            return type(exc).__name__

    async with httpx.AsyncClient(timeout=10) as client:
        found = await asyncio.gather(*(status(url) for url in urls))
    return dict(zip(urls, found, strict=True))


@task("shop.invoice")
def invoice(step: Step) -> dict[str, Any]:
    """Write the invoice of an `order` to `folder`: once, however often this runs."""
    order, folder = step.payload.get("order"), Path(str(step.payload.get("folder", "invoices")))
    if not isinstance(order, dict) or "customer" not in order:
        raise TerminalError("payload.order must be an object with a customer")
    folder.mkdir(parents=True, exist_ok=True)
    # The step_id is the same in every attempt, and no other step has it: the idempotency key.
    path = folder / f"{step.step_id}.json"
    if path.exists():
        return {"invoice": str(path), "written": False}
    # Whole or not at all: a pod that dies here leaves nothing that looks like an invoice.
    draft = path.with_suffix(f".{step.claim_token}")
    draft.write_text(json.dumps({"invoice_id": step.step_id, **order}), encoding="utf-8")
    os.replace(draft, path)
    return {"invoice": str(path), "written": True}
