{#- No flight of the timetable is lost on the way to the features, and none is added. -#}
with scheduled as (

    select score_date, carrier, flight, origin from {{ ref('stg_flight_delay__schedule') }}

),

featured as (

    select score_date, carrier, flight, origin from {{ ref('flight_delay_features') }}

)

(select 'lost' as problem, * from scheduled except all select 'lost', * from featured)
union all
(select 'added', * from featured except all select 'added', * from scheduled)
