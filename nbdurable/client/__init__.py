"""The seam under every surface: a client, and the read models it answers with."""
