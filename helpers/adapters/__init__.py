"""One technology a file: each implements a port with the one client library it needs."""
