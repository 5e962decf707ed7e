with last_event as (
    select distinct on (pipeline, score_date) pipeline, score_date, status, reason, at, run_id
    from {{ source('catalog', 'night_event') }}
    order by pipeline, score_date, event_id desc
),

readable as (
    select
        publication.pipeline,
        publication.score_date,
        publication.publication_id,
        publication.revision,
        publication.model_version,
        publication.rows,
        publication.published_at
    from {{ source('catalog', 'publication_current') }} as pointer
    inner join {{ source('catalog', 'publication') }} as publication
        on publication.publication_id = pointer.publication_id
),

nights as (
    select
        coalesce(last_event.pipeline, readable.pipeline) as pipeline,
        coalesce(last_event.score_date, readable.score_date) as score_date,
        last_event.status as last_status,
        last_event.reason,
        last_event.at as status_since,
        last_event.run_id,
        readable.publication_id,
        readable.revision,
        readable.model_version,
        readable.rows,
        readable.published_at
    from last_event
    full outer join readable
        on readable.pipeline = last_event.pipeline
        and readable.score_date = last_event.score_date
),

-- a night is read again by the late_days nights after it, so its sources may be corrected until the last of them
correctable as (
    select
        readable.pipeline,
        max(readable.score_date) - max(fact.value::integer) as settled_until
    from readable
    inner join {{ source('catalog', 'deployment_fact') }} as fact
        on fact.name = 'late_days:' || readable.pipeline
    group by readable.pipeline
)

select
    nights.pipeline,
    nights.score_date,
    case
        when nights.last_status in ('gated', 'failed', 'prepared') then nights.last_status
        when nights.revision > 1 then 'restated'
        when nights.score_date > correctable.settled_until then 'provisional'
        else 'fresh'
    end as status,
    nights.reason,
    nights.status_since,
    nights.publication_id,
    nights.revision,
    nights.model_version,
    nights.rows,
    nights.published_at,
    case
        when nights.publication_id is not null then nights.score_date
        else (
            select max(readable.score_date)
            from readable
            where readable.pipeline = nights.pipeline
            and readable.score_date < nights.score_date
        )
    end as readers_see_date,
    nights.run_id
from nights
left join correctable
    on correctable.pipeline = nights.pipeline
