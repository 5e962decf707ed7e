with schedule as (

    select * from {{ ref('stg_flight_delay__schedule') }}

),

airports as (

    select * from {{ ref('stg_flight_delay__airports') }}

)

select
    schedule.score_date,
    schedule.carrier,
    schedule.flight,
    schedule.origin,
    schedule.dest,
    schedule.sched_hour,
    schedule.sched_dep_min,
    cast(
        (schedule.sched_arr_min - schedule.sched_dep_min
         - 60 * (destination.utc_offset_h - departure.utc_offset_h) + 2880) % 1440 as bigint
    ) as sched_elapsed_min,
    schedule.distance_miles,
    cast(isodow(schedule.score_date) as bigint) as day_of_week,
    cast(count(*) over origin_hour as bigint) as origin_departures_hour,
    cast(count(*) over origin_day as bigint) as origin_departures_day,
    cast(count(*) over origin_earlier as bigint) as origin_departures_earlier,
    cast(count(*) over carrier_day as bigint) as carrier_departures_day,
    destination.altitude_ft as dest_altitude_ft,
    destination.utc_offset_h as dest_utc_offset_h
from schedule
left join airports as departure
    on departure.faa = schedule.origin and departure.known_on = schedule.score_date
left join airports as destination
    on destination.faa = schedule.dest and destination.known_on = schedule.score_date
window
    origin_day as (partition by schedule.score_date, schedule.origin),
    origin_hour as (partition by schedule.score_date, schedule.origin, schedule.sched_hour),
    carrier_day as (partition by schedule.score_date, schedule.origin, schedule.carrier),
    origin_earlier as (
        partition by schedule.score_date, schedule.origin
        order by schedule.sched_dep_min range between unbounded preceding and 1 preceding
    )
