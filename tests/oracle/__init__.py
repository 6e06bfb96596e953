"""The official SDK as an oracle: the same program through both, the same journal."""
