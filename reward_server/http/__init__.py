"""What all share that ask a server over HTTP: a request with a time limit, what an error means, and tokens."""
