"""Durable execution in notebooks: it survives the kernel, not just the tab."""
