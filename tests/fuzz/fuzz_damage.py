"""Damage to files: cut, flipped bits, other content, and JSON that parses but says something else."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

_PICKLED = pickle.dumps({"state": os.getcwd}, protocol=2)  # a class is looked up to read it
_CONTENTS = {
    "nothing": b"",
    "a newline": b"\n",
    "zeros": bytes(4096),
    "a pickle": _PICKLED,
    "a pickle in text": pickle.dumps({"state": os.getcwd}, protocol=0),
    "invalid UTF-8": b'{"command": "\xff\xfe"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"command": "downstream"}'.encode("utf-16"),
    "deep JSON": b"[" * 100_000,
    "deep objects": b'{"config":' * 20_000,
    "a huge integer": b'{"command": ' + b"9" * 10_000 + b"}",
    "NaN": b"NaN",
    "null": b"null",
    "a list": b"[1, 2]",
    "text": b'"downstream"',
    "an empty object": b"{}",
    "half a surrogate": b'{"command": "\\ud800"}',
    "YAML": b"generations: !!python/object/apply:os.getcwd []\n",
    "an array of objects": None,
}


def _object_array() -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([os.getcwd], dtype=object), allow_pickle=True)
    return buffer.getvalue()


_CONTENTS["an array of objects"] = _object_array()

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
    hows = ["cut", "flip", "flips", "overwrite", "content", "insert", "bytes"]
    if name.endswith((".json", ".jsonl")) or content[:1] == b"{":
        hows += ["json"] * 6
    if name.endswith(".jsonl"):
        hows += ["lines"] * 3
    if name.endswith(".safetensors"):
        hows += ["header"] * 6
    how = draw(st.sampled_from([*hows, "gone"]))
    size = len(content)
    near = draw(st.booleans())  # half of the damage where the headers are

    def place() -> int:
        return draw(st.integers(0, max(min(size - 1, 256) if near else size - 1, 0)))

    if how == "gone":
        return how, None
    if how == "content":
        what = draw(st.sampled_from(sorted(_CONTENTS)))
        return what, _CONTENTS[what]
    if how == "bytes":
        return how, draw(st.binary(max_size=64))
    if how == "json":
        try:
            if name.endswith(".jsonl"):
                lines = content.splitlines()
                i = draw(st.integers(0, len(lines) - 1))
                lines[i] = _dumps(draw(changed_json(json.loads(lines[i]))))
                return f"JSON of line {i + 1}", b"\n".join(lines) + b"\n"
            return how, _dumps(draw(changed_json(json.loads(content))))
        except (ValueError, IndexError, TypeError):
            return "bytes", b"{"
    if how == "lines":
        lines = content.splitlines(keepends=True)
        order = draw(st.lists(st.integers(0, max(len(lines) - 1, 0)), max_size=len(lines) + 2))
        return f"lines {order}", b"".join(lines[i] for i in order if lines)
    if how == "header" and size > 8:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        if draw(st.booleans()) and "__metadata__" in header:
            inner = json.loads(header["__metadata__"]["loss"])
            header["__metadata__"]["loss"] = _dumps(draw(changed_json(inner))).decode("utf-8", "replace")
        else:
            header = draw(changed_json(header))
        encoded = _dumps(header)
        return "header", len(encoded).to_bytes(8, "little") + encoded + content[8 + length :]
    if not size:
        return "bytes", draw(st.binary(min_size=1, max_size=64))
    at = place()
    if how == "cut":
        return f"cut at {at}", content[:at]
    changed = bytearray(content)
    if how == "flip":
        bit = draw(st.integers(0, 7))
        changed[at] ^= 1 << bit
        return f"bit {bit} of byte {at}", bytes(changed)
    if how == "flips":
        for _ in range(draw(st.integers(2, 20))):
            changed[place()] ^= 1 << draw(st.integers(0, 7))
        return how, bytes(changed)
    new = draw(st.binary(min_size=1, max_size=16))
    if how == "insert":
        changed[at:at] = new
        return f"insert {new!r} at {at}", bytes(changed)
    changed[at : at + len(new)] = new
    return f"overwrite {new!r} at {at}", bytes(changed)


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


def remove(path: Path) -> None:
    """Remove whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
