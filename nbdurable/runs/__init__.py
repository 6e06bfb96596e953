"""Notebook runs that somebody has sent, and the processes that they have.

request    what a run is asked for: a notebook, its parameters, where the output goes
turns      which of those that wait may begin: pure
lock       one process at a time is at a run
process    the process of one run: `nbdurable run`
starter    who starts them: whoever owns the journal
"""
