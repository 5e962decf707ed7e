{#- A table, since five models read it: the lake is read once. -#}
{{ config(materialized='table') }}

with flights as (

    select * from {{ source('flight_delay', 'flights') }}

)

select
    event_date,
    known_on,
    carrier,
    flight,
    origin,
    dest,
    cast(hour as bigint) as sched_hour,
    tailnum,
    cast(1 as bigint) as scheduled,
    cast(dep_time is null as bigint) as cancelled,
    cast(dep_delay is not null as bigint) as departed,
    cast(dep_delay as bigint) as dep_delay_min,
    cast(arr_delay is not null as bigint) as arrived,
    cast(coalesce(arr_delay >= 15, false) as bigint) as late
from flights
