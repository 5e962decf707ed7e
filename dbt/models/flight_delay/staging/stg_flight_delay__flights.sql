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
    cast(hour as integer) as sched_hour,
    tailnum,
    1 as scheduled,
    cast(dep_time is null as integer) as cancelled,
    cast(dep_delay is not null as integer) as departed,
    cast(dep_delay as integer) as dep_delay_min,
    cast(arr_delay is not null as integer) as arrived,
    cast(coalesce(arr_delay >= 15, false) as integer) as late
from flights
