"""Numbers that the paper itself states (arXiv 2405.13578v2), in percent, and no others.

A column is one target; a row is called as in our tables. A toxic share comes with the
perplexity that was printed in brackets beside it.
"""

Columns = dict[str, dict[str, float | str]]


def _columns(
    names: tuple[str, ...], rows: dict[str, tuple[float | str | None, ...]]
) -> Columns:
    return {
        name: {
            row: value
            for row, values in rows.items()
            if (value := values[i]) is not None
        }
        for i, name in enumerate(names)
    }


TARGETS = ("L2-13B", "CL-13B", "L1-13B", "L2-70B", "CL-70B", "L1-65B")
TABLE1 = _columns(
    TARGETS,
    {
        "no edit": (17.9, 17.3, 19.0, 22.1, 19.6, 17.4),
        "Align-Training": (36.8, 32.9, 36.7, 30.2, 23.7, None),
        "Self-Align": (35.9, 33.2, 23.3, 28.0, 26.2, None),
        "Inst-Align": (15.9, 18.5, 17.3, 19.0, 17.6, 17.7),
        "EFT / proxy-tuning": (30.6, 26.1, 30.6, 31.8, 25.7, 30.5),
        "ConTrans": (36.5, 32.9, 30.8, 33.9, 33.4, 31.8),
    },
)
TABLE2 = _columns(
    TARGETS,
    {
        "no edit": (
            *("91.8 (13.58)", "79.2 (22.06)", "88.7 (13.47)"),
            *("90.6 (11.85)", "88.8 (17.47)", "89.1 (11.83)"),
        ),
        "Align-Training": (
            *("0.10 (19.50)", "0.46 (19.58)", "72.9 (19.59)"),
            *("0.00 (17.59)", "93.3 (17.46)", None),
        ),
        "Self-Align": (
            *("22.5 (14.46)", "25.2 (22.26)", "15.5 (15.05)"),
            *("33.3 (12.13)", "91.3 (17.49)", None),
        ),
        "EFT / proxy-tuning": (33.0, 31.1, 39.0, 52.1, 57.7, 52.0),
        "ConTrans": (
            *("34.1 (14.68)", "45.2 (22.87)", "44.9 (13.48)"),
            *("39.9 (11.85)", "52.0 (17.46)", "54.2 (11.83)"),
        ),
    },
)
TABLE3: Columns = {
    "L1-7B": {
        "no edit": 17.6,
        "from LLaMA 2-7B chat": 25.1,
        "from Tulu-2-7B dpo": 30.2,
        "from Vicuna-v1.5-7B": 25.1,
        "from Mistral-7B instruct": 21.4,
        "from Gemma-7B it": 23.4,
    }
}
TABLE4 = _columns(
    TARGETS[:3],
    {
        "no edit": (17.9, 17.3, 19.0),
        "from the base source": (25.1, 27.2, 25.2),
        "from the aligned source": (36.5, 32.9, 30.8),
    },
)
TABLE6: Columns = {
    "L2-7B-chat": {"no edit": 31.2},
    "L2-13B": {"no edit": 36.8},
    "CL-13B": {"no edit": 32.9},
    "L1-13B": {"no edit": 36.7},
    "L2-70B": {"no edit": 30.2},
    "CL-70B": {"no edit": 23.7},
}
TABLE7_HONESTY: Columns = {
    "L2-13B": {"no edit": 17.9, "honesty alone": 36.5, "both": 36.0},
    "L2-70B": {"no edit": 22.1, "honesty alone": 33.9, "both": 32.5},
}
TABLE7_FAIRNESS: Columns = {
    "L2-13B": {
        "no edit": "91.8 (13.58)",
        "fairness alone": "34.1 (14.68)",
        "both": "37 (15.1)",
    },
    "L2-70B": {
        "no edit": "90.6 (11.85)",
        "fairness alone": "39.9 (11.85)",
        "both": "42.3 (12.3)",
    },
}
TABLE10: Columns = {
    "L2-13B": {"no edit": 17.9, "other domain, aligned source": 21.8},
    "L2-70B": {"no edit": 22.1, "other domain, aligned source": 25.1},
    "L2-13B, aligned": {"no edit": 36.8, "other domain, aligned source": 40.6},
}
