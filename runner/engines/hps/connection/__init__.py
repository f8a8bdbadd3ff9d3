"""The connection to HPS: server address, sign-in, session, errors of the client."""
