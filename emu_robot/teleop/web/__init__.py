"""Pages for operators: a small web server with a websocket. Loopback only, unless a token is given."""
