select
    pipeline,
    incident_id,
    level,
    status,
    cause,
    (
        select string_agg(name, ', ' order by position)
        from jsonb_array_elements_text(columns) with ordinality as named (name, position)
    ) as affected_columns,
    (
        select string_agg(message, '; ' order by position)
        from jsonb_array_elements_text(messages) with ordinality as said (message, position)
    ) as messages,
    opened,
    last_seen,
    closed,
    nights,
    false_alarm,
    actor,
    reason,
    at as changed_at
from {{ source('catalog', 'incident') }}
