"""A notebook run as a workflow: a cell is a step, a checkpoint its variables."""
