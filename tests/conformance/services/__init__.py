"""The contracts of Restate's end-to-end suite, as plain handlers.

Names, kinds and payloads are the suite's, so that a scenario reads here as it does there.

Source: restate-semantics.md, section 6, "Contracts".
"""
