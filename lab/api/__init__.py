"""The Docker Engine API over the engine: requests of docker's clients in, calls of the engine, docker's answers out."""
