with airports as (

    select * from {{ source('flight_delay', 'airports') }}

)

select
    known_on,
    faa,
    cast(alt as bigint) as altitude_ft,
    cast(tz as bigint) as utc_offset_h
from airports
where {{ in_build_range('known_on') }}
