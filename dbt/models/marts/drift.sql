select
    pipeline,
    score_date,
    level,
    cause,
    column_name,
    value,
    threshold,
    ratio,
    fires,
    message,
    reference
from {{ source('catalog', 'watch_signal') }}
