"""The notebook: magics, handles and widgets, over the client and nothing below it.

extension, session            `%load_ext nbdurable`; the engine of this kernel
magics, verbs                 `%%durable_*` and `%durable`
parse, cells, bound           a cell becomes a definition, and a name to call it by
handle, tracebacks            a run: to wait for, to look at; what its failure looks like
widgets                       what is drawn: live, static, as text
"""
