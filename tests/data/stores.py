"""A real S3 server on this machine, for the tests that need an object store."""

import os
from contextlib import contextmanager
from urllib.parse import quote

import pytest

pytest.importorskip("moto.server")

import boto3
from moto.server import ThreadedMotoServer

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Store:
    """One bucket, ``shop``."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.client = boto3.client("s3", endpoint_url=endpoint)
        self.client.create_bucket(Bucket="shop")

    def url(self, key, bucket="shop"):
        return f"s3://{bucket}/{key}?endpoint_override={quote(self.endpoint, safe='')}&scheme=http"

    def upload(self, folder, key):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.client.upload_file(str(path), "shop", f"{key}/{path.relative_to(folder).as_posix()}")
        return self.url(key)


@contextmanager
def s3_store():
    """Start the server, with credentials in the environment, which processes started meanwhile inherit."""
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield Store(f"http://{host}:{port}")
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
