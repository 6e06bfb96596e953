"""The command line: words in, tables or JSON out. The only room with click and rich."""
