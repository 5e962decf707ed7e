"""What is cut from messages, and what must stay readable."""

import pytest

from nightscore.monitoring.redaction import hide, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:pa55@host/db is down", "postgresql://… is down"),
        ("see https://hooks.slack.com/services/T0/B0/x?token=1", "see https://…"),
        ("s3://bucket/key, MAILTO://a:b@c", "s3://…, MAILTO://…"),
        ("host=x password='a b' user=y", "host=x password=… user=y"),
        ("AWS_SECRET_ACCESS_KEY=abc/def", "AWS_SECRET_ACCESS_KEY=…"),
        ('{"api_key": "abc", "rows": 3}', '{"api_key": …, "rows": 3}'),
        ("aws_secret_access_key: abc", "aws_secret_access_key: …"),
        ("Authorization: Basic YWJj more\nnext line", "Authorization: …\nnext line"),
        ("Bearer eyJhbGciOi.J9", "Bearer …"),
        ("Key (email)=(ann.lee+x@mail.example.org) exists", "Key (email)=(…) exists"),
    ],
)
def test_secrets_and_mail_addresses_are_cut(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "visits@1 2024-03-10: PSI of carrier 0.31 ≥ 0.25",
        "token_count: null rate 0.4 of 12,000 rows; 3 tokens; a secret column",
        "distance × 1.609: q99 is 2,475 m/s, limits [0.1, 0.4]",
        'nightscore models rollback visits --reason "…"',
    ],
)
def test_names_of_columns_versions_and_figures_stay(text: str) -> None:
    assert redact(text) == text


def test_a_secret_that_holds_another_leaves_nothing_behind() -> None:
    assert hide("said abcdefgh", ["abcd", "abcdefgh"]) == "said …"
