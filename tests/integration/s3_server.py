"""An S3 server for tests of what speaks to one.

Added here: another of its settings that a test needs. Not here: tests.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer

from nightscore.lake.remotes import open_remote


@contextmanager
def s3_server(bucket: str) -> Iterator[dict[str, str]]:
    """A real S3 server of moto's with a bucket; this process has the variables that lead to it, as to any S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }  # fmt: skip
    try:
        with pytest.MonkeyPatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(name, value)
            open_remote(f"s3://{bucket}").filesystem.mkdir(bucket)
            yield variables
    finally:
        server.stop()
