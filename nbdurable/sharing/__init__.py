"""One engine for all processes of a project: whoever comes first owns it, the others join it.

engine      `open()`: this process's engine, its own or the owner's
listening   the owner's: how the others find it
joined      the others': joined over a link, and owner themselves once that one is gone
"""
