"""The emotion data: templates, the grammar that fills them, and the packs built from them."""

import json
import random
import re
from collections import Counter
from statistics import mean

import pytest
from hypothesis import given, settings, strategies as st

from contrans.data import build_packs
from contrans.data.grammar import (
    EMOTIONS,
    PRONOUNS,
    SECOND_PERSON,
    SPLITS,
    fill,
    load_scenarios,
    scenario,
    templates,
)

ALL = [
    (emotion, split, template)
    for emotion in EMOTIONS
    for split in SPLITS
    for template in templates(emotion, split)
]
PEOPLE = [(None, None), ("Mira", "female"), ("Omar", "male"), ("Sam", "neutral")]
NAMED_EMOTION = re.compile(
    r"\b(happ(y|i)|joy|sad(ly|ness)?\b|ang(er|ry)|fear|afraid|scared|disgust|surpris)",
    re.IGNORECASE,
)
DOUBLED = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)
WRONG_ARTICLE = re.compile(r"\b(a [aeiou]|an (?!hour)[^aeiou])", re.IGNORECASE)
SLOT = re.compile(r"\{([A-Z_]+)\}")


def words_of(template: str) -> set[str]:
    plain = SLOT.sub(
        lambda found: "" if found[1] not in SECOND_PERSON else "you", template
    )
    return set(re.findall(r"[a-z]+", plain.lower())) - {"you", "a", "the", "and", "of"}


def check_sentence(text: str) -> None:
    assert not set("{}~") & set(text), text
    assert re.fullmatch(r"[A-Z].*\.", text), text
    assert not re.search(r"  | [,.]", text), text
    assert not WRONG_ARTICLE.search(text), text
    doubled = {found[1].lower() for found in DOUBLED.finditer(text)} - {"had", "her"}
    assert not doubled, text


def scenario_of(text: str) -> str:
    return text.removeprefix("Scenario: ").split("\n")[0]


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_there_are_enough_templates(emotion):
    counts = [len(templates(emotion, split)) for split in SPLITS]
    assert counts[0] >= 44
    assert min(counts[1:]) >= 14
    assert sum(counts) >= 72


def test_every_template_is_its_own():
    assert len({template.lower() for _, _, template in ALL}) == len(ALL)


def test_no_template_is_a_near_copy_of_one_in_another_split():
    near = []
    for i, (_, split, one) in enumerate(ALL):
        for _, other_split, two in ALL[:i]:
            if split == other_split:
                continue
            a, b = words_of(one), words_of(two)
            if min(len(a), len(b)) >= 3 and len(a & b) / len(a | b) > 0.6:
                near.append((one, two))
    assert not near


def test_every_slot_exists_and_is_used():
    slots = load_scenarios().slots
    used = {slot for *_, template in ALL for slot in SLOT.findall(template)}
    assert used - set(SECOND_PERSON) == set(slots)
    inside = {
        s
        for split in SPLITS
        for words in load_scenarios().fillers(split).values()
        for w in words
        for s in SLOT.findall(w)
    }
    assert inside <= set(SECOND_PERSON)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("slot", sorted(load_scenarios().slots))
def test_fillers_are_many_and_distinct(slot, split):
    fillers = load_scenarios().fillers(split)[slot]
    assert len(set(fillers)) == len(fillers) >= 12


def test_held_out_fillers_are_of_known_slots_and_in_no_other_split():
    known = load_scenarios()
    assert set(known.held_out) == {"validate", "test"}
    for slot in known.held_out["test"] | known.held_out["validate"]:
        homes = [set(known.fillers(split)[slot]) for split in SPLITS]
        assert len(set.union(*homes)) == sum(map(len, homes)), slot
    assert known.refine_only <= {f for fillers in known.slots.values() for f in fillers}


def test_held_out_templates_use_the_words_of_refine_templates():
    def slots(emotion, split):
        return {s for t in templates(emotion, split) for s in SLOT.findall(t)}

    shared = Counter(slot for emotion in EMOTIONS for slot in slots(emotion, "refine"))
    for emotion in EMOTIONS:
        own = {slot for slot in slots(emotion, "refine") if shared[slot] == 1}
        for split in ("validate", "test"):
            held_out = slots(emotion, split) - set(SECOND_PERSON)
            assert held_out <= set(shared)
            assert len(own & held_out) >= 2


def test_a_template_has_at_most_three_slots_and_mentions_the_person():
    for _, split, template in ALL:
        fillers = load_scenarios().fillers(split)
        slots = [s for s in SLOT.findall(template) if s not in SECOND_PERSON]
        assert len(set(slots)) == len(slots) <= 3, template
        told_by = [s for s in slots if all("{YOU" in word for word in fillers[s])]
        assert "{YOU" in template or told_by, template


def test_every_filler_gives_a_clean_sentence():
    class Pick(random.Random):
        """Picks the same place in every slot."""

        place = 0

        def choice(self, seq):
            return seq[self.place % len(seq)]

    pick = Pick()
    for _, split, template in ALL:
        slots = load_scenarios().fillers(split)
        used = [s for s in SLOT.findall(template) if s in slots]
        for pick.place in range(max((len(slots[s]) for s in used), default=1)):
            for name, gender in PEOPLE:
                text = fill(template, pick, split=split, name=name, gender=gender)
                check_sentence(text)
                assert 4 <= len(text.split()) <= 27, text
                if name is not None:
                    assert name in text
                    assert not re.search(r"\byou(r|rself)?\b", text), text


def test_no_scenario_names_an_emotion():
    fillers = [
        w
        for split in SPLITS
        for words in load_scenarios().fillers(split).values()
        for w in words
    ]
    for text in [template for *_, template in ALL] + fillers:
        assert not NAMED_EMOTION.search(text), text


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    emotion=st.sampled_from(EMOTIONS),
    split=st.sampled_from(SPLITS),
    person=st.sampled_from(PEOPLE),
)
def test_filling_is_clean_and_deterministic(seed, emotion, split, person):
    name, gender = person
    texts = [
        scenario(emotion, split, random.Random(seed), name=name, gender=gender)
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    check_sentence(texts[0])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), place=st.integers(0, len(ALL) - 1))
def test_all_persons_tell_the_same_story(seed, place):
    template = ALL[place][2]
    second = fill(template, random.Random(seed))
    first = fill(template, random.Random(seed), first_person=True)
    forms = [SECOND_PERSON.values(), ("I", "me", "my", "myself", "was")]
    stems = [
        [
            w
            for w in re.findall(r"\w+", text.lower())
            if w not in {v.lower() for v in set_}
        ]
        for text, set_ in zip((second, first), forms, strict=True)
    ]
    shared = [[w for w in stem if w not in ("was", "were")] for stem in stems]
    assert shared[0] == shared[1]


@pytest.mark.parametrize(
    ("gender", "told"),
    [
        (
            "female",
            "Before Alex could blink, she was lost, and a man gave her her hat.",
        ),
        ("male", "Before Alex could blink, he was lost, and a man gave him his hat."),
        (
            "neutral",
            "Before Alex could blink, they were lost, and a man gave them their hat.",
        ),
    ],
)
def test_the_first_mention_is_the_name(gender, told):
    template = (
        "before {YOU} could blink, {YOU} {WERE} lost, "
        "and a man gave {YOU_OBJ} {YOUR} hat."
    )
    rng = random.Random(0)
    assert fill(template, rng, name="Alex", gender=gender) == told
    assert (
        fill("{YOU} {WERE} lost.", rng, name="Alex", gender=gender) == "Alex was lost."
    )
    assert fill("{YOUR} hat.", rng, name="Alex", gender=gender) == "Alex's hat."


def test_mistakes_are_explained():
    rng = random.Random(0)
    with pytest.raises(ValueError, match="do not go together"):
        fill("{YOU} ran.", rng, name="Mira")
    with pytest.raises(ValueError, match=r"unknown slot .NOWHERE"):
        fill("{YOU} ran to {NOWHERE}.", rng)
    with pytest.raises(ValueError, match="exclude each other"):
        fill("{YOU} ran.", rng, name="Mira", gender="female", first_person=True)
    with pytest.raises(ValueError, match="unknown emotion 'joy'"):
        templates("joy", "refine")
    with pytest.raises(ValueError, match="unknown split 'train'"):
        templates("anger", "train")
    assert set(PRONOUNS) == {"female", "male", "neutral"}


@pytest.fixture(scope="module")
def packs():
    return {emotion: build_packs.build(emotion) for emotion in EMOTIONS}


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_the_pack_on_disk_is_what_the_script_builds(emotion):
    path = build_packs.PACKS_PATH / f"{emotion}.jsonl"
    assert path.read_text(encoding="utf-8") == build_packs.lines(emotion)


def test_the_index_holds_the_six_packs():
    index = json.loads((build_packs.PACKS_PATH / "index.json").read_text("utf-8"))
    for emotion in EMOTIONS:
        assert index[emotion] == build_packs.entry(emotion)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_pairs_are_many_distinct_and_balanced(packs, emotion):
    pairs = packs[emotion]
    texts = [pair[side] for pair in pairs for side in ("positive", "negative")]
    assert len(set(texts)) == len(texts)
    assert len({p["id"] for p in pairs}) == len(pairs)
    for split, least in (("refine", 200), ("validate", 60), ("test", 60)):
        topics = Counter(p["topic"] for p in pairs if p["split"] == split)
        assert len(topics) == 5
        assert len(set(topics.values())) == 1
        assert sum(topics.values()) >= least


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_length_does_not_tell_the_sides_apart(packs, emotion):
    for split in SPLITS:
        pairs = [p for p in packs[emotion] if p["split"] == split]
        positive = mean(len(p["positive"]) for p in pairs)
        negative = mean(len(p["negative"]) for p in pairs)
        assert abs(positive - negative) < 0.02 * positive, (split, positive, negative)


def test_no_scenario_is_in_two_splits_of_any_pack(packs):
    homes: dict[str, set[str]] = {}
    for pairs in packs.values():
        for pair in pairs:
            for side in ("positive", "negative"):
                homes.setdefault(scenario_of(pair[side]), set()).add(pair["split"])
    assert not [text for text, splits in homes.items() if len(splits) > 1]


def test_demonstrations_are_in_the_published_form_and_in_no_pack(packs):
    path = build_packs.PACKS_PATH.with_name("fewshot.json")
    shots = json.loads(path.read_text(encoding="utf-8"))
    names = ", ".join(f'"{emotion}"' for emotion in EMOTIONS)
    assert shots["prefix"] == "".join(
        f"Scenario: {shot['scenario']}\n"
        f"The emotion ({names}) of the above scenario is {shot['label']}.\n"
        for shot in shots["demonstrations"]
    )
    assert {shot["label"] for shot in shots["demonstrations"]} == set(EMOTIONS)
    seen = {scenario_of(p[side]) for pairs in packs.values() for p in pairs
            for side in ("positive", "negative")}  # fmt: skip
    assert not seen & {shot["scenario"] for shot in shots["demonstrations"]}
