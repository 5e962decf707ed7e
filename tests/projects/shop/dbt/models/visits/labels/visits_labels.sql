select
    known_on - {{ var('horizon_days') | int }} as score_date,
    customer_id,
    known_on,
    spend as spend_tomorrow
from {{ source('visits', 'visits') }}
where {{ in_build_range('known_on') }}
order by all
