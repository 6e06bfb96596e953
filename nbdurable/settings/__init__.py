"""What the environment and the project say where a call and the command line say nothing.

The order is: what a call or the command line says, `NBDURABLE_*`, `[tool.nbdurable]` of the nearest
`pyproject.toml`, the defaults. Most projects say nothing, and do not pay for reading it: `said`
looks whether there is anything, and only then `model` is imported, with pydantic.
"""
