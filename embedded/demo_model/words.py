"""Words of people against names of tables and columns: plurals, abbreviations, number words."""

import calendar
import re

IRREGULAR = {
    "people": "person",
    "children": "child",
    "men": "man",
    "women": "woman",
    "movies": "movie",
    "cookies": "cookie",
    "series": "series",
    "news": "news",
    "indices": "index",
}
SHORTHAND = {"qty": "quantity", "amt": "amount", "num": "number", "nr": "number", "pct": "percent"}
NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "dozen": 12, "fifteen": 15, "twenty": 20,
    "thirty": 30, "fifty": 50, "hundred": 100,
}  # fmt: skip
MONTHS = [name.lower() for name in calendar.month_name if name]

ABBREVIATION_MIN = 3  # "dep" for departure, "lat" for latitude
ABBREVIATION_GAP = 3  # "plan" is not short for "plane"
EXACT, ABBREVIATED = 1.0, 0.8


def singular(word: str) -> str:
    """Singular of an English noun, by rules that are wrong alike on both sides of a match."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 3 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "tuses", "ruses", "nuses")):
        return word[:-2]
    return word.removesuffix("s")


def words(text: str) -> list[str]:
    """Lower-case singular words of a phrase or of a name in snake_case or camelCase."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    found = re.findall(r"[^\W_]+", spaced.lower())
    return [SHORTHAND.get(word) or singular(word) for word in found]


def number(text: str) -> int | None:
    """Value of "12", "1,000" or "twelve"."""
    text = text.strip().lower()
    if re.fullmatch(r"\d{1,3}(,\d{3})+|\d+", text):
        return int(text.replace(",", ""))
    return NUMBERS.get(text)


def month(text: str) -> int | None:
    """1 to 12 for a month's name or its first three letters."""
    text = text.strip(" .").lower()
    for position, name in enumerate(MONTHS, start=1):
        if text in (name, name[:3]) or (text == "sept" and position == 9):
            return position
    return None


def _short_for(short: str, long: str) -> bool:
    return (
        len(short) >= ABBREVIATION_MIN
        and len(long) >= len(short) + ABBREVIATION_GAP
        and long.startswith(short)
    )


def _same(asked: str, named: str) -> float:
    if asked == named:
        return EXACT
    return ABBREVIATED if _short_for(named, asked) or _short_for(asked, named) else 0.0


def match(asked: str, name: str) -> float:
    """How well a phrase names a table or column: 0 is not at all, 1 is all of it, more is literal.

    Every word of the phrase has to be in the name. Words of the name may be left out ("delay"
    for ``dep_delay``), but not where others are abbreviated: "airline" is not ``air_time``.
    """
    if asked.strip().lower() == name.lower():
        return 1.5
    phrase, open_words = words(asked), words(name)
    if not phrase or not open_words:
        return 0.0
    whole, named = "".join(phrase), "".join(open_words)
    if whole == named:  # "e mail" for email
        return EXACT
    if len(open_words) == 1 and _same(whole, named) and len(named) > len("".join(phrase[:-1])):
        return ABBREVIATED  # "tail number" for tailnum, but not "flights delayed" for flights
    total, size = 0.0, len(open_words)
    for word in phrase:
        score, best = max((_same(word, other), other) for other in (*open_words, ""))
        if not score:
            return 0.0
        open_words.remove(best)
        total += score
    if open_words and total < len(phrase):
        return 0.0
    return total / size
