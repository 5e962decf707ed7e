"""An S3 server for tests of what speaks to one.

Added here: another of its settings that a test needs. Not here: tests.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """A real S3 server of moto's; the variables that lead to it, as to any S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }  # fmt: skip
    finally:
        # fsspec keeps a file system by its arguments, and so would lead the next server's clients to this one.
        S3FileSystem.clear_instance_cache()
        server.stop()
