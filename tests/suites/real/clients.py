"""Real clients against the gateway at the address given: all of them must get what the application sends."""
import asyncio
import io
import sys

import aiohttp
import httpx

base = f"http://{sys.argv[1]}"

for options in ({}, {"http2": True, "http1": False}):
    with httpx.Client(base_url=base, **options) as client:
        assert client.get("/hello/ada").json() == {"hello": "ada", "address": "127.0.0.1"}
        assert client.post("/sum", json={"numbers": list(range(100))}).json() == {"sum": 4950}
        assert client.post("/upload", files={"file": io.BytesIO(b"x" * 300_000)}).json() == {"size": 300_000}
        with client.stream("GET", "/stream") as response:
            assert sum(1 for _ in response.iter_lines()) == 1000
        cookies = client.get("/cookies").headers.get_list("set-cookie")
        assert len(cookies) == 2, cookies
        assert client.head("/hello/ada").status_code == 200
        assert client.get("/nowhere").status_code == 404


async def many():
    async with aiohttp.ClientSession(base) as session:
        async def one(number):
            async with session.get(f"/hello/{number}") as response:
                assert (await response.json())["hello"] == str(number)

        await asyncio.gather(*(one(number) for number in range(200)))


asyncio.run(many())
print("all clients agree")
