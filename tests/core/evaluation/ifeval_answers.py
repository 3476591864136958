"""Answers that follow IFEval's instructions, built by hand-written rules and without its checkers.

Every instruction adds its own piece to one text: a sentence that is repeated, words in front of its
full stop, lines behind it. Instructions that contradict each other are not solved.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

LANGUAGES = {
    "ar": "الماء في البحيرة هادئ جدا هذا الصباح والناس يمشون على الشاطئ.",
    "bg": "Водата в езерото е много спокойна тази сутрин и хората се разхождат край брега.",
    "bn": "আজ সকালে হ্রদের জল খুব শান্ত এবং মানুষ তীরে হাঁটছে।",
    "de": "Das Wasser im See ist heute Morgen sehr ruhig und die Leute gehen am Ufer spazieren.",
    "fa": "امروز صبح آب دریاچه بسیار آرام است و مردم در کنار ساحل قدم می‌زنند.",
    "fi": "Järven vesi on tänä aamuna hyvin tyyni ja ihmiset kävelevät rannalla.",
    "gu": "આજે સવારે તળાવનું પાણી ખૂબ શાંત છે અને લોકો કિનારે ચાલી રહ્યા છે.",
    "hi": "आज सुबह झील का पानी बहुत शांत है और लोग किनारे पर टहल रहे हैं।",
    "it": "Questa mattina l'acqua del lago è molto calma e la gente passeggia sulla riva.",
    "kn": "ಇಂದು ಬೆಳಿಗ್ಗೆ ಸರೋವರದ ನೀರು ತುಂಬಾ ಶಾಂತವಾಗಿದೆ ಮತ್ತು ಜನರು ದಡದಲ್ಲಿ ನಡೆಯುತ್ತಿದ್ದಾರೆ.",
    "ko": "오늘 아침 호수의 물은 매우 잔잔하고 사람들은 물가를 걷고 있습니다.",
    "mr": "आज सकाळी तलावाचे पाणी खूप शांत आहे आणि लोक किनाऱ्यावर फिरत आहेत.",
    "ne": "आज बिहान तालको पानी धेरै शान्त छ र मानिसहरू किनारमा हिँडिरहेका छन्।",
    "pa": "ਅੱਜ ਸਵੇਰੇ ਝੀਲ ਦਾ ਪਾਣੀ ਬਹੁਤ ਸ਼ਾਂਤ ਹੈ ਅਤੇ ਲੋਕ ਕੰਢੇ ਉੱਤੇ ਸੈਰ ਕਰ ਰਹੇ ਹਨ।",
    "pt": "Esta manhã a água do lago está muito calma e as pessoas caminham pela margem.",
    "ru": "Сегодня утром вода в озере очень спокойная и люди гуляют по берегу.",
    "sw": "Asubuhi hii maji ya ziwa ni tulivu sana na watu wanatembea kando ya ufuo.",
    "ta": "இன்று காலை ஏரியின் நீர் மிகவும் அமைதியாக உள்ளது மற்றும் மக்கள் கரையில் நடக்கிறார்கள்.",
    "te": "ఈ ఉదయం సరస్సు నీరు చాలా ప్రశాంతంగా ఉంది మరియు ప్రజలు ఒడ్డున నడుస్తున్నారు.",
    "th": "เช้านี้น้ำในทะเลสาบสงบมากและผู้คนกำลังเดินเล่นริมฝั่ง.",
    "ur": "آج صبح جھیل کا پانی بہت پرسکون ہے اور لوگ کنارے پر چل رہے ہیں۔",
    "vi": "Sáng nay nước hồ rất êm và mọi người đang đi dạo bên bờ.",
}
SENTENCES = (
    "This calm water shines where small birds wander south.",
    "Small birds wander south.",
    "Big old birds.",
    "Mud dry.",
    "Fish swim.",
)


def answer(row: Mapping[str, Any]) -> str:
    """A text for all instructions of a row."""
    given = _gather(row)
    body = _body(given, _sentence(given))
    if "combination:two_responses" in given:
        body = f"{body}\n******\nAgain: {body}"
    for arguments in given.get("combination:repeat_prompt", ()):
        body = f"{arguments['prompt_to_repeat']}\n{body}"
    for arguments in given.get("startend:end_checker", ()):
        body = f"{body} {arguments['end_phrase']}"
    if "change_case:english_lowercase" in given:
        body = body.lower()
    if "change_case:english_capital" in given:
        body = body.upper()
    if "detectable_format:json_format" in given:
        return json.dumps(body, ensure_ascii=False)
    return f'"{body}"' if "startend:quotation" in given else body


def _gather(row: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    given: dict[str, list[Mapping[str, Any]]] = {}
    for name, arguments in zip(row["instruction_id_list"], row["kwargs"], strict=True):
        given.setdefault(name, []).append(arguments)
    return given


def _sentence(given: Mapping[str, list[Mapping[str, Any]]]) -> str:
    """A sentence of the wanted language, without the letters and words that must be rare."""
    for arguments in given.get("language:response_language", ()):
        return LANGUAGES[arguments["language"]]
    unwanted = [
        *(item["letter"] for item in _less(given, "keywords:letter_frequency", "let_relation")),
        *(item["keyword"] for item in _less(given, "keywords:frequency", "relation")),
    ]
    for sentence in SENTENCES:
        if not any(part.lower() in sentence.lower() for part in unwanted):
            return sentence
    return SENTENCES[-1]


def _body(given: Mapping[str, list[Mapping[str, Any]]], sentence: str) -> str:
    words = _words(given)
    count = max(
        [
            *(
                item["num_sentences"]
                for item in _more(given, "length_constraints:number_sentences")
            ),
            *(
                math.ceil(item["num_words"] / len(sentence.split()))
                for item in _more(given, "length_constraints:number_words")
            ),
            1,
        ]
    )
    last = " ".join([sentence[:-1], *words]) + sentence[-1]
    text = " ".join([sentence] * (count - 1) + [last])
    for arguments in given.get("length_constraints:nth_paragraph_first_word", ()):
        parts = ["Calm birds."] * arguments["num_paragraphs"]
        parts[arguments["nth_paragraph"] - 1] = f"{arguments['first_word']} birds."
        parts[-1] = f"{parts[-1]} {text}"
        text = "\n\n".join(parts)
    for arguments in given.get("length_constraints:number_paragraphs", ()):
        text += f"\n***\n{sentence}" * (arguments["num_paragraphs"] - 1)
    for arguments in given.get("detectable_format:multiple_sections", ()):
        name = arguments["section_spliter"]
        heads = [f"{name} {number}" for number in range(1, arguments["num_sections"] + 1)]
        text = f"\n{text}\n".join(heads) + f"\n{text}"
    for arguments in given.get("detectable_format:number_bullet_lists", ()):
        text += "\n* birds" * arguments["num_bullets"]
    for arguments in given.get("detectable_content:postscript", ()):
        text += f"\n{arguments['postscript_marker']} birds"
    return text


def _words(given: Mapping[str, list[Mapping[str, Any]]]) -> list[str]:
    """Words to put in front of a full stop, where they begin no sentence and no line."""
    words = [word for item in given.get("keywords:existence", ()) for word in item["keywords"]]
    for item in _more(given, "keywords:frequency"):
        words += [item["keyword"]] * item["frequency"]
    for item in _more(given, "keywords:letter_frequency", "let_relation"):
        words.append(item["letter"] * item["let_frequency"])
    for item in _more(given, "change_case:capital_word_frequency", "capital_relation"):
        words += ["NASA"] * item["capital_frequency"]
    for item in given.get("detectable_content:number_placeholders", ()):
        words += ["[name]"] * item["num_placeholders"]
    for item in given.get("detectable_format:number_highlighted_sections", ()):
        words += ["*birds*"] * item["num_highlights"]
    if "detectable_format:title" in given:
        words.append("<<birds>>")
    if "detectable_format:constrained_response" in given:
        words.append("My answer is maybe.")
    return words


def _more(
    given: Mapping[str, list[Mapping[str, Any]]], name: str, relation: str = "relation"
) -> list[Mapping[str, Any]]:
    return [item for item in given.get(name, ()) if item[relation] == "at least"]


def _less(
    given: Mapping[str, list[Mapping[str, Any]]], name: str, relation: str
) -> list[Mapping[str, Any]]:
    return [item for item in given.get(name, ()) if item[relation] == "less than"]
