"""One file a kind of asset, each a factory from a spec. Bodies resolve, call the engine, and attach metadata."""
