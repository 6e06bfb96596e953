"""Restate's HTTP, ingress and admin, on an engine of this process."""
