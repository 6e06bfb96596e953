"""Handlers that start by the clock.

times     cron, aliases and intervals: when it would be time
plan      which fires are due, given the last one and now: pure
service   the virtual object that keeps one schedule, and what starts its runs
"""
