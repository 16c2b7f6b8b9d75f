"""Killable worker processes, in which rules and people's own functions run.

    server process                                             fork server         worker processes
    items, running, pool, supply, staff, worker, processes <-> forkserver   --->   child, loading, calling

Chunks of items go to a worker over a socket, and their results come back (`frames`, `messages`); which item runs, and
since when, stands in memory that both share (`board`), so that a killed worker leaves no doubt about which it was.

The right half is plain standard library: it imports neither grpc nor anything else of the server, so that a worker is
forked within milliseconds and a person's function finds an ordinary Python process.
"""
