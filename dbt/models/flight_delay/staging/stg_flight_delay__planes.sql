with planes as (

    select * from {{ source('flight_delay', 'planes') }}

)

select
    known_on,
    tailnum,
    cast(year as bigint) as built_year,
    cast(seats as bigint) as seats
from planes
where {{ in_build_range('known_on') }}
