with weather as (

    select * from {{ source('flight_delay', 'weather') }}

)

select
    event_date,
    known_on,
    origin,
    cast(hour as bigint) as hour,
    {{ exact('temp') }} as temp_f,
    {{ exact('dewp') }} as dewpoint_f,
    {{ exact('humid') }} as humidity_pct,
    {{ exact('wind_speed') }} as wind_mph,
    {{ exact('wind_gust') }} as gust_mph,
    {{ exact('precip') }} as precip_in,
    {{ exact('pressure') }} as pressure_mb,
    {{ exact('visib') }} as visibility_miles
from weather
