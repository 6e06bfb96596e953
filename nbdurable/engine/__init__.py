"""The shell around the core: it drains proposals, commits facts, and only then acts."""
