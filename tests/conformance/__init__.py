"""Restate's conformance suite: its services on our public API, its scenarios on our engine."""
