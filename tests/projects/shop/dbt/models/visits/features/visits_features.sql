with visits as (

    select * from {{ source('visits', 'visits') }}

)

select
    tonight.known_on as score_date,
    tonight.customer_id,
    tonight.age,
    tonight.city,
    tonight.spend as spend_yesterday,
    count(past.customer_id) as visits_3d
from visits as tonight
left join visits as past
    on past.customer_id = tonight.customer_id
    and past.known_on between tonight.known_on - 2 and tonight.known_on
where {{ in_build_range('tonight.known_on') }}
group by all
order by all
