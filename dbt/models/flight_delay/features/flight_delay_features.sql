with schedule as (

    select * from {{ ref('flight_delay_schedule') }}

),

route as (

    select * from {{ ref('flight_delay_history_route') }}

),

carrier as (

    select * from {{ ref('flight_delay_history_carrier') }}

),

scheduled_hour as (

    select * from {{ ref('flight_delay_history_hour') }}

),

flight as (

    select * from {{ ref('flight_delay_history_flight') }}

),

airport as (

    select * from {{ ref('flight_delay_history_origin') }}

),

fleet as (

    select * from {{ ref('flight_delay_fleet') }}

),

weather as (

    select * from {{ ref('flight_delay_weather') }}

)

select *
from schedule
left join route using (score_date, origin, dest)
left join carrier using (score_date, carrier, origin)
left join scheduled_hour using (score_date, origin, sched_hour)
left join flight using (score_date, carrier, flight, origin)
left join airport using (score_date, origin)
left join fleet using (score_date, carrier, origin, dest)
left join weather using (score_date, origin)
order by score_date, carrier, flight, origin
