"""Attribution in the metadata of MCP's requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import outlay
from outlay.integrations import mcp
from outlay.testing import recording

try:
    from mcp import Client as connect  # noqa: N813 - as the first version has it
    from mcp.server.mcpserver import Context, MCPServer
except ImportError:  # version 1 of the package
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer
    from mcp.shared.memory import create_connected_server_and_client_session as connect

if TYPE_CHECKING:
    from outlay.testing import Costs

server = MCPServer("documents")


@server.tool()
async def ocr(page: int, trusted: bool, context: Context) -> str:  # type: ignore[type-arg]  # noqa: FBT001 - a tool's argument
    """Read a page, for the customer that a client names, if it is trusted."""
    if trusted:
        with mcp.extract(context):
            await asyncio.sleep(0)
            outlay.track_cost("cost.ocr", "0.01", operation_id=page)
    else:
        outlay.track_cost("cost.ocr", "0.01", operation_id=page)
    return "text"


def _subjects(costs: Costs) -> dict[str, str]:
    return {str(each.data["operationId"]): each.subject for each in costs.events}


def test_a_tool_belongs_to_the_customer_of_its_client() -> None:
    """Several at the same time, over one session; and unattributed without metadata."""

    async def call() -> None:
        async with connect(server) as session:

            async def ask(number: int) -> None:
                with outlay.attribute(customer_id=f"cus_{number}"):
                    await session.call_tool(
                        "ocr", {"page": number, "trusted": True}, meta=mcp.meta()
                    )

            await asyncio.gather(*map(ask, range(4)))
            await session.call_tool("ocr", {"page": 4, "trusted": True})

    with recording() as costs:
        asyncio.run(call())

    expected = {f"{number}": f"cus_{number}" for number in range(4)}
    assert _subjects(costs) == {**expected, "4": "unattributed"}


def test_a_server_that_does_not_extract_trusts_nobody() -> None:
    """Anyone could name any customer."""

    async def call() -> None:
        async with connect(server) as session:
            with outlay.attribute(customer_id="cus_victim"):
                meta = mcp.meta()
            await session.call_tool("ocr", {"page": 1, "trusted": False}, meta=meta)

    with recording() as costs:
        asyncio.run(call())

    assert _subjects(costs) == {"1": "unattributed"}
