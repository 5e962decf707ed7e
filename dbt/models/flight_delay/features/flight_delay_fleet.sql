{#- The aircraft that the carrier has flown on the route, never the one that will fly: the tail number of a flight
    is filled in on the day, and stays empty for many that are cancelled. -#}
with score_keys as (

    select distinct score_date, carrier, origin, dest from {{ ref('stg_flight_delay__schedule') }}

),

flights as (

    select * from {{ ref('stg_flight_delay__flights') }} where departed = 1

),

planes as (

    select * from {{ ref('stg_flight_delay__planes') }}

)

select
    score_keys.score_date,
    score_keys.carrier,
    score_keys.origin,
    score_keys.dest,
    {{ exact_mean('year(score_keys.score_date) - planes.built_year') }} as fleet_age_years_28d,
    {{ exact_mean('planes.seats') }} as fleet_seats_28d,
    cast(count(distinct flights.tailnum) as bigint) as fleet_aircraft_28d
from score_keys
left join flights
    on flights.carrier = score_keys.carrier and flights.origin = score_keys.origin and flights.dest = score_keys.dest
    and {{ in_history('flights', 'score_keys.score_date', 28) }}
left join planes
    on planes.tailnum = flights.tailnum and planes.known_on = score_keys.score_date
group by all
