"""The page of `GET /` in headless Chromium: ticks, lines, a closed connection, two faces."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browsing, in_a_browser
from line_site import LineSite
from support import Site

pytestmark = in_a_browser
STATE = "document.getElementById('state').textContent"
TAIL = "document.getElementById('tail').textContent"
NUMBER = "Number(document.getElementById('{}').textContent.replaceAll(',', ''))"
SYMBOLS = ["BTC", "ETH", "SOL", "DOGE", "XRP"]
# Whether the line of each symbol has been drawn: some pixel of it is not transparent.
DRAWN = """[...document.querySelectorAll("canvas")].every(canvas => canvas.width &&
    new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
        .data.buffer).some(Boolean))"""


async def rows(page: Page) -> Any:
    return await page.value(
        "[...document.querySelectorAll('tbody tr')].map(row => [...row.cells].slice(0, 2)"
        ".map(cell => cell.textContent))"
    )


def url_of(site: Site) -> str:
    return f"http://127.0.0.1:{site.port}/"


@pytest.mark.parametrize("format", ["json", "binary"])
def test_the_ticks_have_a_price_and_a_line_for_each_symbol(tmp_path: Path, format: str) -> None:
    async def story() -> None:
        async with Site(rate=2000, format=format) as site, browsing(url_of(site), tmp_path) as page:
            await page.until(f"document.querySelectorAll('tbody tr').length === 5 && {DRAWN}")
            assert await page.value(STATE) == "open"
            found = await rows(page)
            assert [symbol for symbol, _ in found] == SYMBOLS
            prices = {symbol: float(price.replace(",", "")) for symbol, price in found}
            assert 25_000 < prices["BTC"] < 100_000
            assert 0.05 < prices["DOGE"] < 0.2
            assert await page.until(NUMBER.format("rate")) > 500
            assert await page.value("document.getElementById('lines').hidden")
            assert await page.value("!document.getElementById('config').hidden")
            assert page.complaints == []

    asyncio.run(story())


def test_it_keeps_up_with_many_ticks(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            Site(rate=100_000, max_lag=0.5) as site,
            browsing(url_of(site), tmp_path) as page,
        ):
            # As many messages as come in a second or so, and the page still draws.
            await page.until(f"{NUMBER.format('total')} > 100000 && {DRAWN}")
            before = await page.value(NUMBER.format("total"))
            await page.until(f"{NUMBER.format('total')} > {before + 50_000}")
            assert page.complaints == []

    asyncio.run(story())


def test_the_lines_can_be_filtered_paused_and_cleared(tmp_path: Path) -> None:
    async def story() -> None:
        async with LineSite(tmp_path, topic="<log>") as site:
            await site.write(b"before\n")
            async with browsing(url_of(site), tmp_path / "profile") as page:
                await page.until(f"{TAIL} === 'before'")
                assert await page.value("document.title") == "fastws: <log>"
                await site.write("ok <b>\n\x1b[31mERROR größe\x1b[0m\nok 2\n".encode())
                await page.until(f"{TAIL} === 'before\\nok <b>\\nERROR größe\\nok 2'")
                await page.value(
                    "{ const box = document.getElementById('filter'); box.value = 'error';"
                    " box.dispatchEvent(new Event('input')) }"
                )
                await page.until(f"{TAIL} === 'ERROR größe'")
                await page.value("document.getElementById('pause').click()")
                await site.write(b"error 2\nno\n")
                await page.until(f"{NUMBER.format('total')} === 6")
                assert await page.value(TAIL) == "ERROR größe"
                await page.value("document.getElementById('pause').click()")
                await page.until(f"{TAIL} === 'ERROR größe\\nerror 2'")
                await page.value("document.getElementById('clear').click()")
                await page.until(f"{TAIL} === ''")
                assert page.complaints == []

    asyncio.run(story())


def test_of_many_lines_the_newest_are_shown(tmp_path: Path) -> None:
    async def story() -> None:
        async with LineSite(tmp_path) as site, browsing(url_of(site), tmp_path / "profile") as page:
            await page.until(f"{STATE} === 'open'")
            await site.write(b"".join(b"line %d\n" % i for i in range(200_000)))
            await page.until(f"{TAIL}.endsWith('line 199999')")
            shown = (await page.value(TAIL)).split("\n")
            numbers = [int(line.removeprefix("line ")) for line in shown]
            assert len(numbers) == 200
            assert numbers == sorted(set(numbers))  # in order, though it may have missed some
            # The newest line is in sight.
            await page.until(
                "{ const tail = document.getElementById('tail'); "
                "tail.scrollHeight - tail.scrollTop - tail.clientHeight < 40 }"
            )

    asyncio.run(story())


def test_it_connects_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with LineSite(tmp_path) as site, browsing(url_of(site), tmp_path / "profile") as page:
            await page.until(f"{STATE} === 'open'")
            for connection in site.feed.server.connections:
                connection.close(1001)
            await page.until(f"{STATE} === 'closed'")
            await page.until(f"{STATE} === 'open'")

    asyncio.run(story())


def test_it_has_a_light_and_a_dark_face(tmp_path: Path) -> None:
    async def story() -> None:
        async with Site() as site, browsing(url_of(site), tmp_path) as page:
            await page.until(f"{STATE} === 'open'")
            backs = []
            for scheme in ("light", "dark"):
                feature = {"name": "prefers-color-scheme", "value": scheme}
                await page.call("Emulation.setEmulatedMedia", features=[feature])
                backs.append(await page.value("getComputedStyle(document.body).backgroundColor"))
            assert backs == ["rgb(251, 251, 250)", "rgb(21, 23, 26)"]

    asyncio.run(story())
