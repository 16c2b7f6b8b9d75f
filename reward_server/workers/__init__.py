"""Killable worker processes, in which people's own functions run.

    server process                       fork server                worker processes
    pool, processes, messages   <--->    forkserver        --->     child, loading, calling

The right half is plain standard library: it imports neither grpc nor anything else of the server, so that a worker is
forked within milliseconds and a person's function finds an ordinary Python process.
"""
