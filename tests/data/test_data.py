"""Prompt pairs, corpora, splits and the leak guard."""

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from contrans.data import (
    EMOTIONS,
    LeakWarning,
    catalogue,
    check_disjoint,
    concept_leaks,
    concepts,
    corpora,
    find_leaks,
    load_concept,
    load_corpus,
    overlapping,
    pack,
    pack_info,
    read_pairs,
)
from contrans.data.documents import read_documents
from contrans.data.hub import read_table

SHARED = Path(__file__).parents[3] / "shared" / "data"
LINE = "\nThe emotion of the above scenario is"


def sides(n, end=""):
    return (
        [f"It is warm today, {i}.{end}" for i in range(n)],
        [f"It is cold today, {i}.{end}" for i in range(n)],
    )


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def lists(folder, n=20, name="mood.json", end=""):
    pos, neg = sides(n, end)
    return write(folder, name, json.dumps({"pos": pos, "neg": neg}))


def all_texts(concept):
    return {
        split: {*concept.split(split).positive, *concept.split(split).negative}
        for split in ("refine", "validate", "test")
    }


# Built-in packs


@pytest.mark.parametrize("name", concepts())
def test_every_pack_loads_with_disjoint_splits(name):
    concept = load_concept(name)
    texts = all_texts(concept)
    assert not texts["refine"] & (texts["validate"] | texts["test"])
    assert not texts["validate"] & texts["test"]
    assert concept.name == name
    kind = concept.task.kind
    assert bool(concept.task.test) == (kind in ("choices", "continuations"))
    assert bool(concept.task.marked) == (kind == "continuations")


def test_the_six_emotions_are_packs_with_their_answer():
    for emotion in EMOTIONS:
        assert load_concept(emotion).answer == emotion


def test_pack_gives_one_split():
    assert pack("anger", "test") == load_concept("anger").test
    with pytest.raises(KeyError, match=r"unknown split 'tests'; did you mean 'test'"):
        pack("anger", "tests")


def test_an_unknown_pack_suggests_near_names_and_files():
    with pytest.raises(KeyError, match=r"did you mean 'anger'\?.*\.csv"):
        load_concept("angr")
    with pytest.raises(KeyError, match="did you mean 'anger'"):
        pack_info("angr")


def test_a_missing_zoo_folder_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue, "ZOO_PACKS", tmp_path / "none")
    assert "anger" in concepts()
    assert not any(name.startswith("zoo/") for name in concepts())


def test_zoo_packs_are_found_beside_the_others(monkeypatch, tmp_path):
    meta = {
        "joy": {"task": {"kind": "choices", "file": "joy.choices.jsonl"}},
        "anger": {"answer": "anger", "task": {"kind": "emotion", "file": None}},
    }
    write(tmp_path, "index.json", json.dumps(meta))
    for name in meta:
        rows = [
            {"positive": f"{name} {i}", "negative": f"calm {i}", "split": split}
            for i, split in enumerate(("refine", "validate", "test"))
        ]
        write(tmp_path, f"{name}.jsonl", "\n".join(map(json.dumps, rows)))
    items = [
        {"split": s, "prompt": f"{s}: it is", "choices": [" good", " bad"], "answer": 0}
        for s in ("validate", "test")
    ]
    write(tmp_path, "joy.choices.jsonl", "\n".join(map(json.dumps, items)))
    monkeypatch.setattr(catalogue, "ZOO_PACKS", tmp_path)
    assert load_concept("joy") == load_concept("zoo/joy")
    assert load_concept("joy").task.test[0].choices == (" good", " bad")
    assert "zoo" in load_concept("zoo/anger").origin
    assert "built-in" in load_concept("anger").origin


def test_listing_packs_does_not_load_torch():
    code = "import sys, contrans.data as d; d.concepts(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# The user's files


def test_all_formats_give_the_same_pairs(tmp_path):
    pos, neg = sides(10)
    rows = list(zip(pos, neg, strict=True))
    records = [{"positive": p, "negative": n} for p, n in rows]
    table = [("positive", "negative"), *rows]
    lines = "\n".join(map(json.dumps, records))
    paths = [
        lists(tmp_path, 10, "a.json"),
        write(tmp_path, "b.json", json.dumps(rows)),
        write(tmp_path, "c.json", json.dumps(records)),
        write(tmp_path, "d.jsonl", lines + "\n\n"),
        write(tmp_path, "e.csv", "\n".join(f'"{p}","{n}"' for p, n in table)),
        write(tmp_path, "f.tsv", "\n".join(f"{p}\t{n}" for p, n in table)),
        write(
            tmp_path,
            "g.csv",
            "\ufeffpos,neg\n" + "\n".join(f'"{p}","{n}"' for p, n in rows),
        ),
    ]
    packed = tmp_path / "h.jsonl.gz"
    packed.write_bytes(gzip.compress(lines.encode()))
    for path in (*paths, packed):
        found = read_pairs(path, concept="x")
        assert (list(found.positive), list(found.negative)) == (pos, neg), path
    assert len({load_concept(path).digest for path in paths}) == 1


@given(st.integers(5, 60), st.integers(0, 5))
def test_files_without_splits_are_split_60_20_20(tmp_path_factory, n, seed):
    path = lists(tmp_path_factory.mktemp("pairs"), n)
    concept = load_concept(path, seed=seed)
    sizes = len(concept.refine), len(concept.validate), len(concept.test)
    assert sum(sizes) == n
    assert abs(sizes[0] - 0.6 * n) <= 1
    assert sizes[1] == sizes[2] >= 1
    texts = all_texts(concept)
    assert len(set.union(*texts.values())) == 2 * n
    assert concept == load_concept(str(path), seed=seed)


def test_the_seed_chooses_the_split(tmp_path):
    path = lists(tmp_path)
    assert load_concept(path, seed=0).digest != load_concept(path, seed=1).digest


def test_splits_in_a_file_are_kept(tmp_path):
    text = "positive,negative,split\na,b,test\nc,d,refine\ne,f,validate\ng,h,refine\n"
    concept = load_concept(write(tmp_path, "x.csv", text))
    assert concept.refine.positive == ("c", "g")
    assert concept.test.negative == ("b",)


def test_the_answer_is_given_or_found_or_none(tmp_path):
    plain = load_concept(lists(tmp_path, name="anger.json"))
    assert (plain.answer, plain.task.kind) == (None, "likelihood")
    named = load_concept(lists(tmp_path, name="refine_anger.json", end=LINE))
    assert (named.answer, named.task.kind, named.name) == ("anger", "emotion", "anger")
    unnamed = lists(tmp_path, name="mine.json", end=LINE)
    assert load_concept(unnamed).task.kind == "likelihood"
    given_answer = load_concept(unnamed, answer="fear")
    assert (given_answer.answer, given_answer.task.kind) == ("fear", "emotion")
    with pytest.raises(ValueError, match="not every text ends in"):
        load_concept(lists(tmp_path, name="b.json"), answer="fear")
    with pytest.raises(ValueError, match="'anger' has the answer 'anger', not 'fear'"):
        load_concept("anger", answer="fear")


BAD = {
    "empty.json": (" \n", "the file is empty"),
    "none.json": ('{"pos": [], "neg": []}', "no pairs in it"),
    "unequal.json": ('{"pos": ["a", "b"], "neg": ["c"]}', r"2 texts under 'pos' but 1"),
    "keys.json": ('{"good": []}', r"no list under 'pos' \(keys there: 'good'\)"),
    "broken.json": ('{"pos": [\n"a" "b"]}', "line 2, column 5: not JSON"),
    "number.json": (
        '{"pos": [3], "neg": ["c"]}',
        "entry 1, field 'positive': 3 is a int",
    ),
    "blank.json": ('{"pos": ["a"], "neg": [" "]}', "entry 1, field 'negative'.*empty"),
    "equal.json": (
        '[["a", "b"], ["c", "c "]]',
        "entry 2: 'positive' and 'negative' are",
    ),
    "twice.json": ('[["a", "b"], ["c", "a"]]', "entry 2, field 'negative'.*entry 1"),
    "triple.json": ('[["a", "b", "c"]]', r"entry 1: expected \[positive, negative\]"),
    "few.json": ('[["a", "b"]]', "1 pairs are too few"),
    "field.jsonl": ('\n{"positive": "a"}', r"line 2: no field 'negative'"),
    "broken.jsonl": ('{"positive": "a"', "line 1, column 17: not JSON"),
    "list.jsonl": ('["a", "b"]', "line 1: a list, not an object"),
    "split.jsonl": (
        '{"positive": "a", "negative": "b", "split": "train"}',
        "line 1, field 'split': unknown split 'train'; choose one of refine",
    ),
    "some.csv": (
        "positive,negative,split\na,b,test\nc,d,",
        "line 3: no split, but line 2",
    ),
    "missing.csv": (
        "positive,negative,split\na,b,test",
        "no pairs with split 'refine' or",
    ),
    "header.csv": ("a,b\nc,d", r"line 1: no column 'positive' in the header \(a, b\)"),
    "short.csv": ("positive,negative\nc", "line 2: no field 'negative'"),
    "pairs.xlsx.json.txt": ("x", "unknown format '.txt'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_file_and_place(tmp_path, name):
    text, message = BAD[name]
    path = write(tmp_path, name, text)
    with pytest.raises(ValueError, match=message) as caught:
        load_concept(path)
    assert name in str(caught.value)


def test_missing_files_and_other_encodings(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_concept("missing.json")
    with pytest.raises(FileNotFoundError, match="a folder, not a file"):
        load_concept(tmp_path)
    path = tmp_path / "latin.json"
    path.write_bytes('{"pos": ["é"]}'.encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        load_concept(path)


def test_the_published_files_are_read():
    path = SHARED / "emotions" / "contrans" / "refine_anger.json"
    if not path.is_file():
        pytest.skip("the published emotion files are not beside the project")
    concept = load_concept(path)
    assert (concept.answer, concept.task.kind) == ("anger", "emotion")
    assert (len(concept.refine), len(concept.test)) == (120, 40)
    assert len(read_pairs(path)) == 200
    published = read_pairs(path.with_name("eval_anger.json"))
    refine = read_pairs(path)
    assert len(overlapping(refine.negative, published.negative)) == 200


# Corpora


def test_corpus_formats_agree_and_repeats_are_dropped(tmp_path):
    texts = ["one", "two", "one", "three"]
    records = [{"text": text} for text in texts]
    paths = [
        write(tmp_path, "a.txt", "\n".join(texts) + "\n\n"),
        write(tmp_path, "b.json", json.dumps(texts)),
        write(tmp_path, "c.json", json.dumps(records)),
        write(tmp_path, "d.json", json.dumps({"text": texts})),
        write(tmp_path, "e.jsonl", "\n".join(map(json.dumps, records))),
    ]
    packed = tmp_path / "f.txt.gz"
    packed.write_bytes(gzip.compress("\n".join(texts).encode()))
    found = [load_corpus(path) for path in (*paths, packed)]
    assert {corpus.texts for corpus in found} == {("one", "two", "three")}
    assert len({corpus.digest for corpus in found}) == 1
    assert found[0].name == "a.txt"
    assert load_corpus(paths[0], limit=2).texts == ("one", "two")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "the file is empty"),
        ("a.jsonl", '{"text": "a"}\n{"words": "b"}', "line 2: no field 'text'"),
        ("a.json", '["a", ""]', "entry 2, field 'text': the text is empty"),
        ("a.json", '{"a": 1}', "no list of texts"),
        ("a.pdf", "a", "unknown format '.pdf'"),
    ],
)
def test_bad_corpora_are_refused(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        load_corpus(write(tmp_path, name, text))


def test_a_corpus_shorter_than_needed_is_refused(tmp_path):
    path = write(tmp_path, "a.txt", "one\ntwo\ntwo")
    with pytest.raises(ValueError, match="2 distinct texts, fewer than the 3 needed"):
        load_corpus(path, at_least=3)


def test_a_missing_corpus_says_what_to_do(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_corpus("no.txt")
    monkeypatch.setattr(corpora, "BUILT_IN", tmp_path / "corpus.jsonl")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_corpus()


# The leak guard


def test_overlap_is_refused_unless_allowed():
    with pytest.raises(ValueError, match=r"1 of 2 test texts.*allow_leak=True"):
        check_disjoint(["It rains."], ["It snows.", "it  RAINS."])
    assert check_disjoint(["It rains."], ["it rains."], allow_leak=True) == 1
    assert check_disjoint(["It rains."], ["It snows."]) == 0


def test_a_refine_text_behind_a_few_shot_prefix_is_found():
    text = "Scenario: You lost your keys.\nThe emotion is"
    assert overlapping([text], ["Scenario: Hello.\n" + text]) != []
    assert overlapping(["is"], ["The emotion is"]) == []


@pytest.fixture(scope="module")
def built_in():
    return load_corpus().texts


@pytest.mark.parametrize("name", concepts())
def test_no_pack_leaks_between_its_splits_or_from_the_corpus(name, built_in):
    found = concept_leaks(load_concept(name), built_in)
    assert not found, "\n".join(map(str, found))


def test_no_pack_is_judged_on_what_refines_another():
    refine = [
        text
        for name in EMOTIONS
        for side in ("positive", "negative")
        for text in getattr(pack(name), side)
    ]
    for name in EMOTIONS:
        for split in ("validate", "test"):
            assert find_leaks(pack(name, split).positive, refine) == []


LONG = "the old clock in the hall struck thirteen"


@pytest.mark.parametrize(
    ("judged", "source", "shared"),
    [
        (f"At noon {LONG}.", f"Nobody knew why {LONG}", "the old clock in the hall"),
        ("It  RAINED, again!", "it rained again", "it rained again"),
        ("\uff29t rained again", "It rained again.", "it rained again"),
        ("It\u2019s late", "It's late.", "it's late"),
        ("Say the truth.\nYarith exports", "Yarith exports", "yarith exports"),
    ],
)
def test_leaks_are_found_whatever_the_marks(judged, source, shared):
    other = "Birds fly south in autumn, most of them by night."
    (leak,) = find_leaks([other, judged], ["Snow fell.", source])
    assert (leak.text, leak.source) == (judged, source)
    assert leak.shared.startswith(shared)


def test_five_words_in_a_row_are_no_leak():
    assert (
        find_leaks(["He saw the old grey cat."], ["I saw the old grey cat sit."]) == []
    )
    assert find_leaks(["He saw the old grey cat."], ["he saw the old grey cat sat"])


def test_the_form_of_the_prompts_is_no_leak():
    def asked(things):
        return [f"Say what the feeling of the scene is: {thing}." for thing in things]

    judged = asked(["a storm", "a feast", "a grave", "a gift", "a fall", "a song"])
    assert find_leaks(judged, asked(["a wolf", "a prize"])) == []
    (leak,) = find_leaks([*judged, f"Now {LONG}."], [*asked(["a wolf"]), LONG])
    assert leak.text == f"Now {LONG}."
    # Fewer texts have no form: nothing is discounted.
    assert len(find_leaks(judged[:5], asked(["a wolf"]))) == 5


def test_a_corpus_and_the_splits_of_a_users_file_are_checked(tmp_path):
    texts = [f"Mood {i} is {word}" for i, word in enumerate("abcdefghij")]
    splits = ["refine"] * 4 + ["validate"] * 3 + ["test"] * 3
    rows = [
        {"positive": f"{text} and warm.", "negative": f"{text} and cold.", "split": s}
        for text, s in zip(texts, splits, strict=True)
    ]
    clean = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert concept_leaks(load_concept(clean)) == []
    (count,) = concept_leaks(load_concept(clean), ["Mood 8 is i and warm!"])
    assert str(count).startswith("1 of 6 test texts share 6 or more words in a row")
    rows[0]["positive"], rows[9]["negative"] = f"Here {LONG}", f"There {LONG}"
    leaky = write(tmp_path, "b.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.warns(LeakWarning, match=r"b\.jsonl: 1 of 6 test texts.*refine texts"):
        load_concept(leaky)


ODD_ENDS = "one\u2028two\u2029three\x85four\x0cfive\x0bsix\x1cseven"
"""A line to everyone but `str.splitlines`."""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_only_line_ends_end_lines(tmp_path, end):
    record = json.dumps({"text": ODD_ENDS}, ensure_ascii=False)
    for name, line in (("t.jsonl", record), ("t.txt", ODD_ENDS)):
        path = tmp_path / name
        path.write_bytes(end.join([line, line.replace("one", "1")]).encode())
        assert load_corpus(path).texts == (ODD_ENDS, ODD_ENDS.replace("one", "1"))
        assert len(read_documents(path)) == 2
    table = tmp_path / "p.csv"
    rows = ["positive,negative", f'"{ODD_ENDS}",b', '"a\nline",d', ""]
    table.write_bytes(end.join(rows).encode())
    assert read_pairs(table).positive == (ODD_ENDS, "a\nline")


def test_a_field_of_a_table_has_any_length(tmp_path):
    long = "word " * 40_000
    for name in ("p.csv", "p.csv.gz"):
        path = tmp_path / name
        raw = f"positive,negative\n{long},b\n".encode()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        assert read_pairs(path).positive == (long,)
        assert read_table(path)[0]["positive"] == long
    assert csv.field_size_limit() == 131072


def test_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "p.parquet"
    parquet.write_table(pyarrow.table({"positive": ["a"], "negative": ["b"]}), path)
    assert read_pairs(path).negative == ("b",)
    assert read_table(path) == [{"positive": "a", "negative": "b"}]


GOOD_LINE = b'{"positive": "a", "negative": "b"}\n'


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("a.jsonl", GOOD_LINE + b"\xff", r"a.jsonl, line 2: .*not UTF-8 \(byte 0xff"),
        ("a.jsonl", GOOD_LINE.decode().encode("utf-16"), "line 1: the text is UTF-16"),
        ("a.jsonl.gz", gzip.compress(GOOD_LINE)[:-9], "packed data are cut off"),
        ("a.jsonl.gz", GOOD_LINE, "packed data are damaged, or no gzip"),
        ("a.jsonl", GOOD_LINE + b"[" * 99_999, "line 2: nested too deeply"),
        ("a.json", b"\n" + b"[" * 99_999, "nested too deeply"),
        ("a.json", b"[\n1" + b"0" * 5000 + b"]", "line 2: a number of more than 4,300"),
        ("a.jsonl", GOOD_LINE + b'{"x": 1' + b"0" * 5000 + b"}", "line 2: a number"),
        ("a.json", b'[\n["a \\ud83d", "b"]]', "line 2: half of a character"),
        ("a.jsonl", GOOD_LINE + b'{"x": "\\udc00"}', "line 2: half of a character"),
        ("a.csv", b"positive,negative\na, b,c\n", "line 2: 3 fields under 2 names"),
        ("a.csv", b'positive,negative\n"a,b\n', "line 2: not a table"),
        ("a.parquet", b"PAR1", "not a whole Parquet file"),
    ],
)
def test_the_true_cause_is_named_with_its_line(tmp_path, name, raw, said):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=said):
        read_pairs(path)


def test_a_whole_character_of_two_halves_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"positive": "\\ud83d\\ude00", "negative": "b"}')
    assert read_pairs(path).positive == ("\U0001f600",)
