with schedule as (

    select * from {{ source('flight_delay', 'schedule') }}

)

select
    score_date,
    carrier,
    flight,
    origin,
    dest,
    cast(hour as bigint) as sched_hour,
    cast(sched_dep_time // 100 * 60 + sched_dep_time % 100 as bigint) as sched_dep_min,
    cast(sched_arr_time // 100 * 60 + sched_arr_time % 100 as bigint) as sched_arr_min,
    cast(distance as bigint) as distance_miles
from schedule
where known_on <= score_date and {{ in_build_range('score_date') }}
