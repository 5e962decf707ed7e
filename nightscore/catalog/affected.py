"""From inputs to outputs: which published nights were made of partitions that have another content by now.

Added here: a question about what a change of inputs reaches. Not here: what is done about it (`publishing`).
"""

from collections.abc import Mapping
from datetime import date

import sqlalchemy as sa

Replaced = Mapping[int, int]
"""Version of a partition that a publication was made of → version that is current; their contents differ."""

_REPLACED = """
select seen.score_date, used.version_id as replaced, standing.version_id as current
from nightscore.publication_current seen
join nightscore.publication p on p.publication_id = seen.publication_id
join nightscore.receipt r on r.receipt_id = p.receipt_id
cross join lateral jsonb_array_elements_text(r.body -> 'features_inputs') as named (id)
join nightscore.partition_version used on used.version_id = named.id::bigint
join nightscore.partition_current c on c.dataset = used.dataset and c.score_date = used.score_date
join nightscore.partition_version standing on standing.version_id = c.version_id
where seen.pipeline = :pipeline and standing.md5 <> used.md5
order by seen.score_date, used.version_id
"""


def replaced_inputs(connection: sa.Connection, pipeline: str) -> dict[date, Replaced]:
    """The nights whose readers see what was made of replaced inputs, each with those; a content that came back is none.

    Receipts name every clean partition that a night's features could read, its lookback included.
    """
    found: dict[date, dict[int, int]] = {}
    for row in connection.execute(sa.text(_REPLACED), {"pipeline": pipeline}):
        found.setdefault(row.score_date, {})[row.replaced] = row.current
    return dict(found)
