"""What a person sees of work that goes on."""

from contrans.cli.console import Bars


def test_without_a_terminal_the_time_left_is_told_every_half_minute(capsys):
    now = 0.0
    with Bars(clock=lambda: now) as bars:
        for done in range(101):
            bars("search", done, 100)
            now += 2.0
        bars("search", 100, 100)
        bars("test", 3, 3)
    assert capsys.readouterr().err.splitlines() == [
        "search: 15 of 100, about 2:50 left",
        "search: 30 of 100, about 2:20 left",
        "search: 45 of 100, about 1:50 left",
        "search: 60 of 100, about 1:20 left",
        "search: 75 of 100, about 0:50 left",
        "search: 90 of 100, about 0:20 left",
        "search: 100 done",
        "test: 3 done",
    ]
