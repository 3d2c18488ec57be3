"""Files that no program should trust, made by rule: a few bytes each, or packed."""

import gzip
import json
import pickle
import struct
from collections.abc import Iterator, Mapping
from typing import Any

Files = Iterator[tuple[str, bytes]]
DEEP = 100_000
"""Blocks within blocks: more than any parser has stack for."""
ODD: Mapping[str, Any] = {
    "null": None,
    "number": 7,
    "text": "x",
    "list": [1, None],
    "object": {"a": None},
    "deep": [[[[]]]],
    "true": True,
}
"""One value of each type of JSON."""


def pairs_files() -> Files:
    """Files of pairs and of texts that cannot be used."""
    good = '{"positive": "I am glad", "negative": "I am sad"}\n'
    yield "empty.jsonl", b""
    yield "blank.jsonl", b"\n \r\n"
    yield "utf16.jsonl", good.encode("utf-16")
    yield "latin1.jsonl", (good + good.replace("glad", "gl\xe4d")).encode("latin-1")
    yield "binary.jsonl", bytes(range(256))
    yield "cut.jsonl", (good + good[:20]).encode()
    yield "deep.jsonl", b"[" * DEEP
    yield "deep_object.jsonl", b'{"a":' * DEEP
    yield "deep.json", b"[" * DEEP
    yield "closed_deep.json", b"[" * DEEP + b"]" * DEEP
    yield "digits.jsonl", b'{"positive": ' + b"9" * 5000 + b"}"
    yield "digits.json", b"[[1, " + b"9" * 5000 + b"]]"
    yield "surrogate.jsonl", rb'{"positive": "a \ud83d b", "negative": "c"}'
    yield "surrogate.json", rb'[["a \udc00 b", "c"]]'
    yield "constant.jsonl", b'{"positive": NaN, "negative": "c"}'
    yield "cut.jsonl.gz", gzip.compress(good.encode() * 99, mtime=0)[:-12]
    yield "plain.jsonl.gz", good.encode()
    damaged = bytearray(gzip.compress(good.encode() * 99, mtime=0))
    damaged[15] ^= 0xFF
    yield "damaged.jsonl.gz", bytes(damaged)
    yield "pickle.json", pickle.dumps([["a", "b"]])
    yield "zip.json", b"PK\x03\x04" + bytes(40)
    yield "pair.xml", b"<pairs/>"
    yield "suffixless", good.encode()
    yield "quotes.csv", b'positive,negative\n"open,field\nagain,more\n'
    yield "commas.csv", b"positive,negative\na, b,c\n"
    yield "header.csv", b"good,bad\na,b\n"
    yield "short.csv", b"positive,negative\na\n"
    yield "nul.csv", b"positive,negative\n\0,b\n"
    yield "no_parquet.parquet", b"PAR1" + bytes(40) + b"PAR1"
    yield (
        "lfs.jsonl",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    )
    for name, value in ODD.items():
        raw = json.dumps(value)
        yield f"{name}.json", raw.encode()
        yield f"{name}.jsonl", raw.encode()
        yield f"field_{name}.jsonl", f'{{"positive": {raw}, "negative": "b"}}'.encode()
        yield (
            f"split_{name}.jsonl",
            (f'{{"positive": "a", "negative": "b", "split": {raw}}}'.encode()),
        )


def artefacts(good: Mapping[str, Any], tensors: bytes) -> Files:
    """Safetensors files of ours, each wrong in one place.

    Args:
        good: the header of a whole one, as `read_header` gives it.
        tensors: the bytes of a whole file.
    """
    length = struct.unpack("<Q", tensors[:8])[0]
    header, body = json.loads(tensors[8 : 8 + length]), tensors[8 + length :]

    def built(meta: Any, **changes: Any) -> bytes:
        whole = {**header, "__metadata__": {"contrans": json.dumps(meta)}, **changes}
        raw = json.dumps(whole).encode()
        return struct.pack("<Q", len(raw)) + raw + body

    yield "empty.safetensors", b""
    yield "text.safetensors", b"not safetensors"
    yield "cut.safetensors", tensors[:-3]
    yield "cut_header.safetensors", tensors[: 8 + length // 2]
    yield "long_header.safetensors", struct.pack("<Q", 1 << 60) + tensors[8:]
    yield "pickle.safetensors", pickle.dumps({"a": 1})
    yield "npy.safetensors", b"\x93NUMPY\x01\x00" + bytes(100)
    yield "lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\n"
    yield "no_meta.safetensors", built(good, __metadata__={})
    yield "no_json.safetensors", built(good, __metadata__={"contrans": "{"})
    yield "deep_meta.safetensors", built(good, __metadata__={"contrans": "[" * DEEP})
    for field in sorted(
        good.keys() - {"version"}
    ):  # of contrans: told, and not relied on
        yield (
            f"no_{field}.safetensors",
            built({key: value for key, value in good.items() if key != field}),
        )
        for name, value in ODD.items():
            fits = isinstance(value, type(good[field]))
            if not (fits and name in ("text", "object")):
                yield f"{field}_{name}.safetensors", built({**good, field: value})
    nan = struct.pack("<f", float("nan"))
    yield "nan.safetensors", tensors[: 8 + length] + nan * (len(body) // 4)


def yaml_files() -> Files:
    """Suites and plans that cannot be read."""
    laughs = "a0: &a0 [ha]\n" + "".join(
        f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9)
    )
    yield "laughs.yaml", laughs.encode()
    yield "itself.yaml", b"name: &a [*a]\n"
    yield "deep_flow.yaml", b"[" * DEEP
    yield "deep_block.yaml", b"".join(b" " * i + b"-\n" for i in range(2000))
    yield "many.yaml", b"- a\n" * 60_000
    yield "long.yaml", b"#" * 1_000_001
    yield "empty.yaml", b""
    yield "binary.yaml", bytes(range(256))
    yield "latin1.yaml", "name: \xe4".encode("latin-1")
    yield "date.yaml", b"name: 2024-13-45\n"
    yield "digits.yaml", b"name: " + b"9" * 5000
    yield "object.yaml", b"name: !!python/object/apply:os.system [id]\n"
    yield "tab.yaml", b"name:\n\t- a\n"
    yield "key.yaml", b"? [a, b]\n: c\n"
    suite = {
        "models": {"m": "zoo/small"},
        "vectors": {"v": {"model": "m", "refine": "anger"}},
        "tasks": {"t": {"concept": "anger"}},
        "checks": [{"vector": "v", "task": "t", "effect": {"min": 0.1}}],
    }
    for field in suite:
        for name, value in ODD.items():
            yield f"{field}_{name}.yaml", json.dumps({**suite, field: value}).encode()
    inner: list[tuple[str, Any]] = [
        ("vector_null", {"vectors": {"v": None}}),
        ("task_null", {"tasks": {"t": None}}),
        ("model_null", {"models": {"m": None}}),
        ("check_null", {"checks": [None]}),
        ("file_gone", {"vectors": {"v": {"model": "m", "file": "gone.safetensors"}}}),
        ("pairs_gone", {"tasks": {"t": {"concept": "gone.jsonl"}}}),
        ("seed_large", {"seed": 10**40}),
        (
            "strength_large",
            {"vectors": {"v": {**suite["vectors"]["v"], "strength": 10**400}}},
        ),
        ("draws", {"checks": [{**suite["checks"][0], "controls": {"draws": 10**8}}]}),
    ]
    for name, changes in inner:
        yield f"{name}.yaml", json.dumps({**suite, **changes}).encode()
