"""A scale that speaks lines of text, behind what carries a serial line over TCP: python text_scale.py ADDRESS PORT.

"W?" is answered by "W KILOGRAMS", "TARE GRAMS" by "OK"; "ALARM N" comes by itself, once a second. Says "ready", and "asked LINE" for each.
"""

import asyncio
import sys


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def alarms() -> None:
        number = 0
        while True:
            await asyncio.sleep(1)
            number += 1
            writer.write(b"ALARM %d\r\n" % number)

    task = asyncio.create_task(alarms())
    tare = 0
    try:
        while line := (await reader.readline()).strip().decode("ascii", "replace"):
            print("asked", line, flush=True)
            if line == "W?":
                writer.write(f"W {12.5 - tare / 1000:.3f}\r\n".encode())
            elif line.startswith("TARE "):
                tare = int(line[5:])
                writer.write(b"OK\r\n")
    finally:
        task.cancel()
        writer.close()


async def main(address: str, port: str) -> None:
    server = await asyncio.start_server(serve, address, int(port))
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
