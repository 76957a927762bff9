"""Engines elsewhere: `client.RemoteEngine` keeps the engine's contract over HTTP; `dispatch` and `front` share requests out to
replicas, `deployment` runs them on Ray Serve. Only `deployment` imports Ray."""
