"""Damage to files: cut, flipped bits, other content, and JSON that parses but says something else."""

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st


def _object_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([os.getcwd], dtype=object), allow_pickle=True)
    return buffer.getvalue()


DEEP = "[" * 100_000
_CONTENTS = {
    "nothing": b"",
    "a newline": b"\n",
    "zeros": bytes(4096),
    "a pickle": pickle.dumps({"state": os.getcwd}, protocol=2),  # a class is looked up to read it
    "a pickle in text": pickle.dumps({"state": os.getcwd}, protocol=0),
    "an array of objects": _object_array(),
    "invalid UTF-8": b'{"command": "\xff\xfe"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"command": "downstream"}'.encode("utf-16"),
    "half a surrogate": b'{"command": "\\ud800"}',
    "deep JSON": DEEP.encode(),
    "deep objects": b'{"config":' * 20_000,
    "a huge integer": b'{"command": ' + b"9" * 10_000 + b"}",
    "NaN": b"NaN",
    "null": b"null",
    "a list": b"[1, 2]",
    "text": b'"downstream"',
    "an empty object": b"{}",
    "YAML": b"generations: !!python/object/apply:os.getcwd []\n",
}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "downstream", "pretrain", "cross_entropy", "edl", "../x", "\x00", "\n", "\u202e", "\ud800"])
    | st.text(max_size=8)
    | st.sampled_from([10**400, -1, 0, 1, 2, 1e308, -1e-320]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def changed_json(draw: Callable, value: Any) -> Any:
    """A JSON value with one node replaced, removed, renamed or doubled."""
    nodes: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, (dict, list)):
            for key, child in list(node.items() if isinstance(node, dict) else enumerate(node)):
                nodes.append((node, key))
                walk(child)

    value = json.loads(json.dumps(value))
    walk(value)
    if not nodes:
        return draw(json_values)
    # Near the root first: there the meaning is.
    parent, key = nodes[draw(st.integers(0, len(nodes) - 1))]
    how = draw(st.sampled_from(["replace", "remove", "rename", "double", "number"]))
    if how == "remove":
        del parent[key]
    elif how == "rename" and isinstance(parent, dict):
        parent[draw(st.text(max_size=8))] = parent.pop(key)
    elif how == "double" and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif how == "number" and isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
        parent[key] = draw(st.sampled_from([0, -1, 1, 2, 10**6, 2**31, 2**63, 0.5, -0.0, 1e308, float("nan"), 10**400]))
    else:
        parent[key] = draw(json_values)
    return value


def _dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: Callable, content: bytes, name: str) -> tuple[str, bytes | None]:
    """(what was done, content) of a file of that content; None for no file."""
    hows = ["bytes"] * 6 + ["other", "short", "gone"]
    if name.endswith((".json", ".jsonl")) or content[:1] == b"{":
        hows += ["json"] * 6
    if name.endswith(".jsonl"):
        hows += ["lines"] * 3
    if name.endswith(".safetensors"):
        hows += ["header"] * 6
    how = draw(st.sampled_from(hows))
    if how == "gone":
        return how, None
    if how == "other":
        what = draw(st.sampled_from(sorted(_CONTENTS)))
        return what, _CONTENTS[what]
    if how == "short" or not content:
        return "a few bytes", draw(st.binary(max_size=64))
    if how == "json":
        return draw(_other_json(content, lines=name.endswith(".jsonl")))
    if how == "lines":
        lines = content.splitlines(keepends=True)
        order = draw(st.lists(st.integers(0, len(lines) - 1), max_size=len(lines) + 2))
        return f"lines {order}", b"".join(lines[i] for i in order)
    return draw(_other_header(content) if how == "header" else _other_bytes(content))


@st.composite
def _other_json(draw: Callable, content: bytes, lines: bool) -> tuple[str, bytes]:
    """JSON, or a line of it, that says something else."""
    parts = content.splitlines() if lines else [content]
    i = draw(st.integers(0, len(parts) - 1))
    parts[i] = _dumps(draw(changed_json(json.loads(parts[i]))))
    return f"JSON of line {i + 1}" if lines else "JSON", b"\n".join(parts) + b"\n"


@st.composite
def _other_header(draw: Callable, content: bytes) -> tuple[str, bytes]:
    """A safetensors file whose header, or the JSON in its metadata, says something else."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header.get("__metadata__")
    if metadata and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(metadata)))
        changed = DEEP if draw(st.integers(0, 9)) == 9 else ""
        if not changed and metadata[key][:1] == "{":
            changed = _dumps(draw(changed_json(json.loads(metadata[key])))).decode("utf-8", "replace")
        metadata[key] = changed
    else:
        header = draw(changed_json(header))
    encoded = _dumps(header)
    return "header", len(encoded).to_bytes(8, "little") + encoded + content[8 + length :]


@st.composite
def _other_bytes(draw: Callable, content: bytes) -> tuple[str, bytes]:
    """Content that is cut, or of which some bits or bytes are others; half of them where headers are."""
    end = len(content) - 1 if draw(st.booleans()) else min(len(content) - 1, 256)
    places = st.integers(0, end)
    how, at = draw(st.sampled_from(["cut", "flip", "flips", "insert", "overwrite"])), draw(places)
    changed = bytearray(content)
    if how == "cut":
        del changed[at:]
    elif how in ("flip", "flips"):
        for place in [at] if how == "flip" else draw(st.lists(places, min_size=2, max_size=20)):
            changed[place] ^= 1 << draw(st.integers(0, 7))
    else:
        new = draw(st.binary(min_size=1, max_size=16))
        changed[at : at if how == "insert" else at + len(new)] = new
    return f"{how} at {at}", bytes(changed)


def apply(path: Path, content: bytes | None, kind: str) -> None:
    """Write damaged content, or what stands in place of a file: a folder, a link to nothing, a link to itself."""
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif content is not None:
        path.write_bytes(content)
