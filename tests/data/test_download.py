"""Downloads: a server on this machine, a dead one, a silent one, a wrong one; and files given by hand."""

import functools
import hashlib
import http.server
import socket
import threading
import time

import pytest

from edl_jax.core.errors import UserError
from edl_jax.data import download

CONTENT = bytes(range(256)) * 8192  # two blocks


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A directory and the address under which it is served."""
    monkeypatch.setenv("NO_PROXY", "*")
    directory = tmp_path / "served"
    directory.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield directory, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def source(address, content=CONTENT, filename="file.gz"):
    return download.Source(
        url=f"{address}/{filename}",
        filename=filename,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def test_file_is_downloaded_once(served, tmp_path):
    directory, address = served
    (directory / "file.gz").write_bytes(CONTENT)
    wanted = source(address)
    files = download.fetch([wanted], tmp_path / "downloads")
    assert files == {wanted.url: tmp_path / "downloads" / "file.gz"}
    assert files[wanted.url].read_bytes() == CONTENT
    (directory / "file.gz").unlink()
    assert download.fetch([wanted], tmp_path / "downloads") == files


def test_damaged_download_is_fetched_again(served, tmp_path):
    directory, address = served
    (directory / "file.gz").write_bytes(CONTENT)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "file.gz").write_bytes(CONTENT[:-1])
    files = download.fetch([source(address)], tmp_path / "downloads")
    assert [path.read_bytes() for path in files.values()] == [CONTENT]


def test_wrong_content_is_refused_and_nothing_is_kept(served, tmp_path):
    directory, address = served
    (directory / "file.gz").write_bytes(b"an error page")
    with pytest.raises(UserError) as error:
        download.fetch([source(address)], tmp_path / "downloads")
    for part in (address, source(address).sha256, hashlib.sha256(b"an error page").hexdigest(), "13 bytes"):
        assert part in str(error.value)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_missing_page_is_reported_with_its_status(served, tmp_path):
    _, address = served
    with pytest.raises(UserError, match=rf"cannot download {address}/file.gz \(HTTP status 404\).*--archive"):
        download.fetch([source(address)], tmp_path / "downloads")


def test_no_server_is_one_line_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"no connection.*--archive") as error:
        download.fetch([source(f"http://127.0.0.1:{port}")], tmp_path / "downloads")
    assert time.perf_counter() - start < 5
    assert "\n" not in str(error.value)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_silent_server_and_stuck_name_lookup_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.3)
    release = threading.Event()

    def stuck(*_, **__):
        release.wait(30)
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    start = time.perf_counter()
    with pytest.raises(UserError, match="no answer within"):
        download.fetch([source("http://example.invalid")], tmp_path / "downloads")
    assert time.perf_counter() - start < 5
    release.set()


def test_connection_that_breaks_off_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhalf" % len(CONTENT))

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UserError, match=r"127\.0\.0\.1"):
            download.fetch([source(f"http://127.0.0.1:{server.getsockname()[1]}")], tmp_path / "downloads")
        thread.join()
    assert list((tmp_path / "downloads").iterdir()) == []


def test_files_given_by_hand_are_found_by_name_in_directories_and_lists(tmp_path):
    wanted = [source("http://x", b"a", "a.gz"), source("http://x", b"b", "b.gz")]
    for one in wanted:
        (tmp_path / one.filename).write_bytes(one.filename[:1].encode())
    expected = {one.url: tmp_path / one.filename for one in wanted}
    assert download.local(wanted, tmp_path) == expected
    assert download.local(wanted, [tmp_path / "b.gz", str(tmp_path / "a.gz")]) == expected
    (tmp_path / "renamed").write_bytes(b"a")
    assert download.local(wanted[:1], tmp_path / "renamed") == {"http://x/a.gz": tmp_path / "renamed"}


def test_missing_files_are_named(tmp_path):
    wanted = [source("http://x", b"a", "a.gz"), source("http://x", b"b", "b.gz")]
    (tmp_path / "a.gz").write_bytes(b"a")
    with pytest.raises(UserError, match=r"lacks b\.gz"):
        download.local(wanted, tmp_path)
    with pytest.raises(UserError, match=r"does not exist: expected a\.gz, b\.gz"):
        download.local(wanted, tmp_path / "nowhere")
