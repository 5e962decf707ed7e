"""One file a kind of job, each a factory from a spec, with its schedule where it has one."""
