with flights as (

    select * from {{ ref('stg_flight_delay__flights') }}

)

select
    event_date as score_date,
    carrier,
    flight,
    origin,
    known_on,
    late as label
from flights
where
    arrived = 1
    and event_date = known_on - {{ var('horizon_days') | int }}
    and {{ in_build_range('known_on') }}
order by score_date, carrier, flight, origin
