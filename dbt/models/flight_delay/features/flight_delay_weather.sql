with score_keys as (

    select distinct score_date, origin from {{ ref('stg_flight_delay__schedule') }}

),

weather as (

    select * from {{ ref('stg_flight_delay__weather') }}

)

select
    score_keys.score_date,
    score_keys.origin,
    {{ exact_mean('temp_f') }} as temp_mean_1d,
    {{ exact_mean('dewpoint_f') }} as dewpoint_mean_1d,
    {{ exact_mean('humidity_pct') }} as humidity_mean_1d,
    {{ exact_mean('pressure_mb') }} as pressure_mean_1d,
    {{ exact_mean('wind_mph') }} as wind_mean_1d,
    cast(max(wind_mph) as double) as wind_max_1d,
    cast(max(gust_mph) as double) as gust_max_1d,
    cast(sum(precip_in) as double) as precip_total_1d,
    cast(min(visibility_miles) as double) as visibility_min_1d,
    {{ exact_mean('wind_mph', where='hour >= 18') }} as wind_evening_1d,
    {{ exact_mean('pressure_mb', where='hour >= 18') }} as pressure_evening_1d,
    {{ exact_mean('humidity_pct', where='hour >= 18') }} as humidity_evening_1d,
    cast(sum(precip_in) filter (where hour >= 18) as double) as precip_evening_1d,
    {{ exact_mean('visibility_miles', where='hour >= 18') }} as visibility_evening_1d
from score_keys
left join weather
    on weather.origin = score_keys.origin
    and {{ in_history('weather', 'score_keys.score_date', 1) }}
group by all
