select distinct on (pipeline, score_date, scope, metric)
    pipeline,
    score_date,
    scope,
    metric,
    value,
    low,
    high,
    rows,
    maturity,
    maturity = 'provisional' as is_provisional,
    known_on,
    model_version
from {{ source('catalog', 'metric_value') }}
order by pipeline, score_date, scope, metric, known_on desc, value_id desc
