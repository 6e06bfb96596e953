"""`python -m nbdurable`: the command line, where its script is not on the path."""

from nbdurable.cli.main import main

if __name__ == "__main__":
    main(prog_name="nbdurable")
