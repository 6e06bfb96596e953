"""The pure machines and the values they speak in: no IO, no clock, no randomness, no asyncio."""
